"""What a cluster has before any model: runtime classes, and one closed namespace for each tier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from garrison.core.decision import Tier
from garrison.runtime.kube.words import TIER, namespace_of

Object = dict[str, Any]
HANDLERS = {"gvisor": "runsc", "kata": "kata"}
# What a sandbox itself takes beside the pod: kubelet counts it, the scheduler too.
OVERHEAD = {
    "gvisor": {"cpu": "100m", "memory": "64Mi"},
    "kata": {"cpu": "250m", "memory": "160Mi"},
}
_SECURITY = "pod-security.kubernetes.io"


def managed(**more: str) -> dict[str, str]:
    return {"app.kubernetes.io/managed-by": "garrison", **more}


def runtime_class(isolation: str) -> Object:
    return {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": isolation, "labels": managed()},
        "handler": HANDLERS[isolation],
        "overhead": {"podFixed": OVERHEAD[isolation]},
    }


def base(tiers: Iterable[Tier], isolation: str) -> Iterator[Object]:
    yield runtime_class(isolation)
    for tier in tiers:
        yield from tier_objects(tier)


def tier_objects(tier: Tier) -> Iterator[Object]:
    """A namespace that lets nothing in and nothing out, and in which no model takes everything."""
    name = namespace_of(tier)
    metadata = {"namespace": name, "labels": managed(**{TIER: tier.value})}
    levels = {
        f"{_SECURITY}/{mode}{end}": value
        for mode in ("enforce", "audit", "warn")
        for end, value in (("", "restricted"), ("-version", "latest"))
    }
    yield {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": managed(**{TIER: tier.value}) | levels},
    }
    yield {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "default-deny", **metadata},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }
    yield {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "models", **metadata},
        "spec": {
            "hard": {
                "pods": "40",
                "requests.cpu": "40",
                "requests.memory": "160Gi",
                "limits.cpu": "80",
                "limits.memory": "320Gi",
                "requests.ephemeral-storage": "400Gi",
                "services.loadbalancers": "0",
                "services.nodeports": "0",
            }
        },
    }
    yield {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "models", **metadata},
        "spec": {
            "limits": [
                {
                    "type": "Container",
                    "default": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"},
                    "defaultRequest": {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "128Mi"},
                    "max": {"cpu": "32", "memory": "256Gi", "ephemeral-storage": "256Gi"},
                }
            ]
        },
    }
