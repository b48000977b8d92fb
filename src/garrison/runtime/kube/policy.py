"""What a cluster is given to ask us, and to fall back on: webhook configurations, and policies in CEL.

The webhook asks the registry. The ValidatingAdmissionPolicy is evaluated inside the API server, so it holds
when the webhook is down or was removed; it knows no approvals, only what any pod here has to look like.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from garrison.core.decision import Tier
from garrison.runtime.kube.admission import SYSTEM
from garrison.runtime.kube.base import Object, managed
from garrison.runtime.kube.hardening import SANDBOXES
from garrison.runtime.kube.words import (
    DIGEST,
    FETCH,
    MODEL,
    RUN,
    SYSTEM_NAMESPACE,
    namespace_of,
)

SERVICE = "garrison-admission"
TIMEOUT_SECONDS = 5  # of the API server; a ruling takes a hundredth of one
_NAME = "garrison-models"
_WORKLOADS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("", "v1", ("pods", "pods/ephemeralcontainers", "pods/resize", "podtemplates", "replicationcontrollers")),
    ("apps", "v1", ("deployments", "statefulsets", "daemonsets", "replicasets")),
    ("batch", "v1", ("jobs", "cronjobs")),
    ("serving.kserve.io", "v1beta1", ("inferenceservices",)),
)
_CONNECTED = ("pods/exec", "pods/attach", "pods/portforward", "pods/proxy")


def webhooks(authority: bytes, digests: Sequence[str], exempt: Iterable[str] = SYSTEM) -> Iterator[Object]:
    """Everything that a cluster needs to ask; `digests` are those of the pinned launcher."""
    selector = _protected(exempt)
    yield _configuration("ValidatingWebhookConfiguration", "/validate", authority, selector)
    yield _configuration("MutatingWebhookConfiguration", "/mutate", authority, selector)
    yield from policies(digests, selector)


def policies(digests: Sequence[str], selector: dict[str, Any]) -> Iterator[Object]:
    yield _policy(
        _NAME,
        [_rule("", "v1", ("pods", "pods/ephemeralcontainers"), ("CREATE", "UPDATE"))],
        [{"name": name, "expression": text} for name, text in VARIABLES],
        [{"expression": text, "message": f"{name}: {why}"} for name, text, why in pod_rules(digests)],
        selector,
    )
    yield _policy(
        f"{_NAME}-namespaces",
        [_rule("", "v1", ("namespaces",), ("CREATE", "UPDATE"))],
        [],
        [{"expression": text, "message": f"{name}: {why}"} for name, text, why in NAMESPACE_RULES],
        {},
    )
    for name, chosen in ((_NAME, selector), (f"{_NAME}-namespaces", {})):
        yield {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name, "labels": managed()},
            "spec": {
                "policyName": name,
                "validationActions": ["Deny", "Audit"],
                **({"matchResources": {"namespaceSelector": chosen}} if chosen else {}),
            },
        }


# CEL: each is true of a pod that may exist. The variables come first; `has` before every optional field.
VARIABLES: tuple[tuple[str, str], ...] = (
    (
        "all",
        "object.spec.containers + (has(object.spec.initContainers) ? object.spec.initContainers : [])",
    ),
    ("notes", "has(object.metadata.annotations) ? object.metadata.annotations : {}"),
)


def pod_rules(digests: Sequence[str]) -> tuple[tuple[str, str, str], ...]:
    """(name, expression, what to do). JSON's texts and lists are CEL's."""
    image = "variables.all.all(c, c.image.matches('^[^@ ]+@sha256:[0-9a-f]{64}$'))"
    launcher = f"{_literal([f'@{digest}' for digest in digests])}.exists(d, c.image.endsWith(d))"
    return (
        ("image-digest", image, "name every image by @sha256:"),
        (
            "launcher",
            f"object.spec.containers.exists(c, {launcher} && has(c.command) && c.command == {_literal(RUN)})",
            "one container runs the pinned launcher: garrison k8s render NAME@VERSION",
        ),
        (
            "launcher-command",
            f"variables.all.all(c, !({launcher}) || (has(c.command) && "
            f"(c.command == {_literal(RUN)} || c.command == {_literal(FETCH)})))",
            "the launcher runs as rendered",
        ),
        (
            "launcher-environment",
            f"variables.all.all(c, !({launcher}) || (!has(c.env) && !has(c.envFrom) && !has(c.workingDir)))",
            "the launcher has no environment of the pod's",
        ),
        (
            "ephemeral-containers",
            "!has(object.spec.ephemeralContainers) || object.spec.ephemeralContainers.size() == 0",
            "no container is put into a running model's pod",
        ),
        (
            "model",
            f"{_literal(MODEL)} in variables.notes && {_literal(DIGEST)} in variables.notes && "
            f"variables.notes[{_literal(DIGEST)}].matches('^sha256:[0-9a-f]{{64}}$')",
            "say which model it serves: garrison k8s render NAME@VERSION",
        ),
        (
            "runtime-class",
            f"has(object.spec.runtimeClassName) && object.spec.runtimeClassName in {_literal(sorted(SANDBOXES))}",
            "set runtimeClassName: gvisor, or kata",
        ),
        (
            "account-token",
            "has(object.spec.automountServiceAccountToken) && object.spec.automountServiceAccountToken == false",
            "set automountServiceAccountToken: false",
        ),
        (
            "service-links",
            "has(object.spec.enableServiceLinks) && object.spec.enableServiceLinks == false",
            "set enableServiceLinks: false",
        ),
        (
            "host-namespaces",
            "!(has(object.spec.hostNetwork) && object.spec.hostNetwork) && "
            "!(has(object.spec.hostPID) && object.spec.hostPID) && "
            "!(has(object.spec.hostIPC) && object.spec.hostIPC) && "
            "!(has(object.spec.shareProcessNamespace) && object.spec.shareProcessNamespace)",
            "share nothing with the node",
        ),
        (
            "volumes",
            "!has(object.spec.volumes) || object.spec.volumes.all(v, !has(v.hostPath))",
            "mount nothing of the node",
        ),
        (
            "security-context",
            "variables.all.all(c, has(c.securityContext) && "
            "has(c.securityContext.allowPrivilegeEscalation) && "
            "c.securityContext.allowPrivilegeEscalation == false && "
            "has(c.securityContext.readOnlyRootFilesystem) && c.securityContext.readOnlyRootFilesystem == true && "
            "!(has(c.securityContext.privileged) && c.securityContext.privileged) && "
            "has(c.securityContext.capabilities) && has(c.securityContext.capabilities.drop) && "
            "'ALL' in c.securityContext.capabilities.drop && !has(c.securityContext.capabilities.add))",
            "no rights of root, a root file system that is read only",
        ),
        (
            "hooks",
            "variables.all.all(c, !has(c.lifecycle) && "
            "!(has(c.livenessProbe) && has(c.livenessProbe.exec)) && "
            "!(has(c.readinessProbe) && has(c.readinessProbe.exec)) && "
            "!(has(c.startupProbe) && has(c.startupProbe.exec)))",
            "no other program is started beside the container's own",
        ),
    )


NAMESPACE_RULES: tuple[tuple[str, str, str], ...] = (
    (
        "pod-security",
        f"!(object.metadata.name in {json.dumps([namespace_of(tier) for tier in Tier])}) || "
        "(has(object.metadata.labels) && "
        "'pod-security.kubernetes.io/enforce' in object.metadata.labels && "
        "object.metadata.labels['pod-security.kubernetes.io/enforce'] == 'restricted')",
        "namespaces of models enforce the restricted Pod Security Standard",
    ),
)


def _literal(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _protected(exempt: Iterable[str]) -> dict[str, Any]:
    """Every namespace but those that Garrison's own settings exempt: by name, which no label can forge."""
    name = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": sorted(exempt)}
    return {"matchExpressions": [name]}


def _rule(group: str, version: str, resources: Sequence[str], operations: Sequence[str]) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": [version],
        "resources": list(resources),
        "operations": list(operations),
        "scope": "*",
    }


def _policy(
    name: str,
    rules: Sequence[dict[str, Any]],
    variables: Sequence[dict[str, str]],
    validations: Sequence[dict[str, str]],
    selector: dict[str, Any],
) -> Object:
    matching: dict[str, Any] = {"matchPolicy": "Equivalent", "resourceRules": list(rules)}
    if selector:
        matching["namespaceSelector"] = selector
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name, "labels": managed()},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": matching,
            **({"variables": list(variables)} if variables else {}),
            "validations": list(validations),
        },
    }


def _configuration(kind: str, path: str, authority: bytes, selector: dict[str, Any]) -> Object:
    client = {
        "service": {"name": SERVICE, "namespace": SYSTEM_NAMESPACE, "path": path, "port": 443},
        "caBundle": base64.b64encode(authority).decode(),
    }
    common = {
        "admissionReviewVersions": ["v1"],
        "clientConfig": client,
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "sideEffects": "NoneOnDryRun",
        "timeoutSeconds": TIMEOUT_SECONDS,
    }
    is_mutating = kind.startswith("Mutating")
    operations = ("CREATE",) if is_mutating else ("CREATE", "UPDATE")
    rules = [_rule(group, version, names, operations) for group, version, names in _WORKLOADS]
    if not is_mutating:
        rules.append(_rule("", "v1", _CONNECTED, ("CONNECT",)))
    hooks: list[dict[str, Any]] = [
        {
            "name": "models.garrison.dev",
            **common,
            "namespaceSelector": selector,
            "rules": rules,
            **({"reinvocationPolicy": "IfNeeded"} if is_mutating else {}),
        }
    ]
    if not is_mutating:
        # No selector: a namespace's own labels would take it out of the question that guards them.
        rule = _rule("", "v1", ("namespaces",), ("CREATE", "UPDATE"))
        hooks.append({"name": "namespaces.garrison.dev", **common, "rules": [rule]})
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": "garrison", "labels": managed()},
        "webhooks": hooks,
    }
