"""One approved version as Kubernetes objects: fetched by digest, verified twice, loaded, and able to reach nothing.

Values in, plain objects out; nothing here reads a registry or a cluster. What is rendered passes
`kube/check.py` and is what `kube/admission.py` admits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from garrison.core.decision import Tier
from garrison.core.digest import Ref
from garrison.core.errors import Usage
from garrison.runtime.kube.base import Object, managed, runtime_class, tier_objects
from garrison.runtime.kube.words import (
    DIGEST,
    FETCH,
    GATEWAY,
    HEALTH_PORT,
    MODEL,
    MOUNTS,
    PORT,
    RUN,
    SYSTEM_NAMESPACE,
    TIER,
    namespace_of,
    object_name,
)

MIB = 1 << 20
USER = 10_001  # of the launcher's image; above 10,000, so that it is nobody's on the node
HEADROOM = 1_536 * MIB  # beside the weights: the interpreter, libraries, threads
MAX_TRUST = 900_000  # bytes; a ConfigMap may have 1 MiB
NOWHERE = "registry.invalid"  # RFC 2606: what nobody has pushed or pinned is at no address


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be rendered. `image` and `source` are addresses by digest."""

    ref: Ref
    digest: str
    tier: Tier
    owner: str
    size: int
    image: str
    source: str
    trust: Mapping[str, str]
    isolation: str = "gvisor"
    replicas: int = 2
    identity: str = "cert-manager"
    issuer: str = "garrison"
    trust_domain: str = "garrison"
    registry_cidr: str = ""
    registry_secret: str = ""
    kserve: bool = False


def render(plan: Plan) -> Iterator[Object]:
    """The base of its tier, then the model. Raises `Usage` K8S-SIZE when its list does not fit a ConfigMap."""
    if sum(map(len, plan.trust.values())) > MAX_TRUST:
        raise Usage(
            "K8S-SIZE",
            f"keys and approved list take more than the {MAX_TRUST:,} bytes that a ConfigMap holds",
            fix="take old versions off the list: garrison unapprove NAME@VERSION --reason TEXT",
        )
    yield runtime_class(plan.isolation)
    yield from tier_objects(plan.tier)
    name = object_name(plan.ref)
    yield _object("v1", "ServiceAccount", plan, name, automountServiceAccountToken=False)
    yield _object("v1", "ConfigMap", plan, f"{name}-trust", data=dict(plan.trust), immutable=True)
    yield from _networks(plan, name)
    if plan.identity == "cert-manager":
        yield _certificate(plan, name)
    budget = {"minAvailable": 1, "selector": {"matchLabels": _selector(plan)}}
    yield _object("policy/v1", "PodDisruptionBudget", plan, name, spec=budget)
    if plan.kserve:
        yield _inference_service(plan, name)
        return
    yield _deployment(plan, name)
    service = {
        "type": "ClusterIP",
        "selector": _selector(plan),
        "ports": [{"name": "https", "port": PORT, "targetPort": "https", "protocol": "TCP"}],
    }
    yield _object("v1", "Service", plan, name, spec=service)


def client_id(plan: Plan) -> str:
    """The SPIFFE id of the only client that the model answers."""
    return f"spiffe://{plan.trust_domain}/ns/{SYSTEM_NAMESPACE}/sa/garrison"


def _object(version: str, kind: str, plan: Plan, name: str, **fields: Any) -> Object:
    metadata = {"name": name, "namespace": namespace_of(plan.tier), "labels": _labels(plan)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


def _selector(plan: Plan) -> dict[str, str]:
    return {"app.kubernetes.io/name": plan.ref.name, "app.kubernetes.io/version": str(plan.ref.version)}


def _labels(plan: Plan) -> dict[str, str]:
    return managed(**_selector(plan), **{TIER: plan.tier.value})


def _annotations(plan: Plan) -> dict[str, str]:
    return {MODEL: str(plan.ref), DIGEST: plan.digest, "garrison.dev/owner": plan.owner}


def _networks(plan: Plan, name: str) -> Iterator[Object]:
    """In from the gateway alone. Out to the registry alone, and only if its network was named."""
    gateway = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": SYSTEM_NAMESPACE}},
        "podSelector": {"matchLabels": GATEWAY},
    }
    spec: dict[str, Any] = {
        "podSelector": {"matchLabels": _selector(plan)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [gateway], "ports": [{"protocol": "TCP", "port": PORT}]}],
    }
    if plan.registry_cidr:
        registry = {"ipBlock": {"cidr": plan.registry_cidr}}
        names = {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
        spec["egress"] = [
            {"to": [registry], "ports": [{"protocol": "TCP", "port": 443}]},
            {"to": [names], "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
        ]
    yield _object("networking.k8s.io/v1", "NetworkPolicy", plan, name, spec=spec)


def _certificate(plan: Plan, name: str) -> Object:
    home = namespace_of(plan.tier)
    spec = {
        "secretName": f"{name}-tls",
        "duration": "24h",
        "renewBefore": "8h",
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
        "usages": ["server auth", "client auth", "digital signature"],
        "dnsNames": [f"{name}.{home}.svc", f"{name}.{home}.svc.cluster.local"],
        "uris": [f"spiffe://{plan.trust_domain}/ns/{home}/sa/{name}"],
        "issuerRef": {"name": plan.issuer, "kind": "ClusterIssuer", "group": "cert-manager.io"},
    }
    return _object("cert-manager.io/v1", "Certificate", plan, name, spec=spec)


def _deployment(plan: Plan, name: str) -> Object:
    spec = {
        "replicas": plan.replicas,
        "revisionHistoryLimit": 2,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "selector": {"matchLabels": _selector(plan)},
        "template": {
            "metadata": {"labels": _labels(plan), "annotations": _annotations(plan)},
            "spec": _pod(plan, name, "server"),
        },
    }
    return _object("apps/v1", "Deployment", plan, name, spec=spec)


def _inference_service(plan: Plan, name: str) -> Object:
    """KServe without Knative: plain Deployments, so that nothing but the pod below is added to the way."""
    made = _object("serving.kserve.io/v1beta1", "InferenceService", plan, name)
    made["metadata"]["annotations"] = {
        "serving.kserve.io/deploymentMode": "Standard",
        "serving.kserve.io/autoscalerClass": "none",
        **_annotations(plan),
    }
    predictor = {"minReplicas": plan.replicas, "maxReplicas": plan.replicas}
    made["spec"] = {"predictor": predictor | _pod(plan, name, "kserve-container")}
    return made


def _pod(plan: Plan, name: str, main: str) -> Object:
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": _selector(plan)},
    }
    return {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "runtimeClassName": plan.isolation,
        "terminationGracePeriodSeconds": 60,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [spread],
        "initContainers": [_fetch(plan)],
        "containers": [_server(plan, main)],
        "volumes": _volumes(plan, name),
    }


def _container(plan: Plan, name: str, command: tuple[str, ...], args: list[str], memory: int) -> Object:
    claims = {
        "cpu": "500m",
        "memory": f"{memory // MIB}Mi",
        "ephemeral-storage": f"{_on_disk(plan) // MIB}Mi",
    }
    return {
        "name": name,
        "image": plan.image,
        "imagePullPolicy": "Always",
        "command": list(command),
        "args": ["--as", str(plan.ref), "--digest", plan.digest, "--trust", MOUNTS["trust"], *args],
        "resources": {"requests": claims, "limits": {**claims, "cpu": "2"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": USER,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def _fetch(plan: Plan) -> Object:
    args = ["--from", plan.source, "--to", MOUNTS["model"]]
    mounts = [_mount("model"), _mount("trust", read_only=True), _mount("tmp")]
    if plan.registry_secret:
        args += ["--auth", f"{MOUNTS['auth']}/config.json"]
        mounts.append(_mount("auth", read_only=True))
    return {**_container(plan, "fetch", FETCH, args, 512 * MIB), "volumeMounts": mounts}


def _server(plan: Plan, name: str) -> Object:
    args = [
        *("--model", MOUNTS["model"], "--tls", MOUNTS["tls"], "--allow", client_id(plan)),
        *("--listen", f"0.0.0.0:{PORT}", "--health", f"0.0.0.0:{HEALTH_PORT}", "--isolation", "pod"),
    ]
    # The verified bytes are held once in sealed memory; the server's own share comes beside them.
    made = _container(plan, name, RUN, args, 2 * plan.size + HEADROOM)
    probe = {"periodSeconds": 5, "timeoutSeconds": 2, "failureThreshold": 6}
    return {
        **made,
        "ports": [
            {"name": "https", "containerPort": PORT, "protocol": "TCP"},
            {"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"},
        ],
        "startupProbe": {
            "httpGet": {"path": "/readyz", "port": "health"},
            "periodSeconds": 5,
            "failureThreshold": 120,
        },
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "health"}, **probe},
        "livenessProbe": {"httpGet": {"path": "/livez", "port": "health"}, **probe},
        "volumeMounts": [
            _mount("model", read_only=True),
            _mount("trust", read_only=True),
            _mount("tls", read_only=True),
            _mount("tmp"),
            _mount("run"),
        ],
    }


def _mount(name: str, *, read_only: bool = False) -> Object:
    return {"name": name, "mountPath": MOUNTS[name], **({"readOnly": True} if read_only else {})}


def _volumes(plan: Plan, name: str) -> list[Object]:
    memory = {"medium": "Memory", "sizeLimit": "64Mi"}
    tls: Object = {"secret": {"secretName": f"{name}-tls", "defaultMode": 0o440}}
    if plan.identity == "spiffe":
        tls = {"csi": {"driver": "spiffe.csi.cert-manager.io", "readOnly": True}}
    found: list[Object] = [
        {"name": "model", "emptyDir": {"sizeLimit": f"{_on_disk(plan) // MIB}Mi"}},
        {"name": "trust", "configMap": {"name": f"{name}-trust", "defaultMode": 0o444}},
        {"name": "tls", **tls},
        {"name": "tmp", "emptyDir": memory},
        {"name": "run", "emptyDir": memory},
    ]
    if plan.registry_secret:
        auth = {"secretName": plan.registry_secret, "defaultMode": 0o400}
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        found.append({"name": "auth", "secret": {**auth, "items": items}})
    return found


def _on_disk(plan: Plan) -> int:
    return plan.size * 5 // 4 + 64 * MIB
