"""Judge a file of manifests, whoever wrote it: every pod in it, and what has to stand around the pods.

Three answers: clean, refused with findings, and incomplete for objects that this release does not know. A
file is judged by itself: what a namespace needs has to be in it, for nobody here can ask the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from garrison.core.finding import Finding, Severity, Verdict
from garrison.runtime.kube.hardening import judge_pod
from garrison.runtime.kube.shapes import GROUPS, mapping, pods, sequence, text

MAX_OBJECTS = 2_000  # of one file; a model is ten
SECURITY = "pod-security.kubernetes.io/"
STANDING = frozenset({"Deployment", "StatefulSet", "InferenceService", "ReplicaSet"})
# Objects that start nothing by themselves and that the rules below either read or need not.
KNOWN = frozenset(
    {
        "Certificate",
        "ClusterIssuer",
        "ConfigMap",
        "CustomResourceDefinition",
        "HorizontalPodAutoscaler",
        "Issuer",
        "LimitRange",
        "PersistentVolumeClaim",
        "PriorityClass",
        "Secret",
        "ServiceMonitor",
    }
)
_ROLES = frozenset({"Role", "ClusterRole"})
_BINDINGS = frozenset({"RoleBinding", "ClusterRoleBinding"})
_WEBHOOKS = frozenset({"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"})
_POLICIES = frozenset({"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"})
_REACHABLE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of one file."""

    objects: int
    findings: tuple[Finding, ...]
    unknown: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        if self.findings:
            return Verdict.REFUSED
        return Verdict.INCOMPLETE if self.unknown or not self.objects else Verdict.CLEAN

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": "garrison.k8s.check/1",
            "verdict": self.verdict.value,
            "objects": self.objects,
            "findings": [finding.as_json() for finding in self.findings],
            "unknown": list(self.unknown),
        }


def check(documents: Sequence[Any]) -> Judged:
    """Never raises: what cannot be read is a finding."""
    objects = list(_flat(documents))
    findings: list[Finding] = []
    unknown: list[str] = []
    if len(objects) > MAX_OBJECTS:
        findings.append(_of("k8s.shape", "", f"more than {MAX_OBJECTS} objects", "judge them in parts"))
    for one in objects[:MAX_OBJECTS]:
        title = _title(one)
        findings += [_placed(finding, title) for finding in _judge(one)]
        if not _is_known(one):
            unknown.append(title)
    findings += _around(objects[:MAX_OBJECTS])
    return Judged(len(objects), tuple(findings), tuple(unknown))


def _flat(documents: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    for document in documents:
        if isinstance(document, dict) and text(document.get("kind")).endswith("List") and "items" in document:
            yield from (mapping(item) for item in sequence(document["items"]))
        elif document is not None:
            yield mapping(document)


def _is_known(one: Mapping[str, Any]) -> bool:
    kind = text(one.get("kind"))
    if kind in GROUPS:
        return text(one.get("apiVersion")) in GROUPS[kind]
    return kind in {*KNOWN, *_ROLES, *_BINDINGS, *_WEBHOOKS, *_POLICIES, *_JUDGES}


def _judge(one: Mapping[str, Any]) -> Iterator[Finding]:
    kind = text(one.get("kind"))
    if not kind or not text(one.get("apiVersion")):
        yield _of("k8s.shape", "kind", "it is no object of Kubernetes", "give apiVersion and kind")
        return
    if kind in GROUPS and text(one.get("apiVersion")) not in GROUPS[kind]:
        yield _of(
            "k8s.api-version",
            "apiVersion",
            f"{kind} is not served as {text(one.get('apiVersion'))[:60]!a}",
            f"use {', '.join(sorted(GROUPS[kind]))}",
        )
    for pod in pods(one):
        yield from judge_pod(pod)
    if kind in _JUDGES:
        yield from _JUDGES[kind](one)
    if kind in _ROLES:
        yield from _role(one)
    if kind in _BINDINGS and text(mapping(one.get("roleRef")).get("name")) in (
        "cluster-admin",
        "admin",
        "edit",
    ):
        yield _of("k8s.rbac", "roleRef.name", "it hands over the cluster", "bind a role of its own")
    if kind in _WEBHOOKS:
        yield from _webhooks(one)
    if kind == "Secret" and (one.get("data") or one.get("stringData")):
        yield _of(
            "k8s.secret-inline",
            "data",
            "a secret stands in the file and in whoever's history keeps it",
            "let cert-manager or an external store write it",
        )


def _namespace(one: Mapping[str, Any]) -> Iterator[Finding]:
    labels = mapping(mapping(one.get("metadata")).get("labels"))
    if text(labels.get(f"{SECURITY}enforce")) != "restricted":
        yield _of(
            "k8s.pod-security",
            "metadata.labels",
            "the restricted Pod Security Standard is not enforced",
            f"add the label {SECURITY}enforce: restricted",
        )


def _network(one: Mapping[str, Any]) -> Iterator[Finding]:
    spec = mapping(one.get("spec"))
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for index, given in enumerate(sequence(spec.get(direction))):
            rule, where = mapping(given), f"spec.{direction}[{index}]"
            if not rule.get(peers):
                yield _of("k8s.network-open", where, "everybody is let through", f"name who, under {peers}")
            if not rule.get("ports"):
                yield _of("k8s.network-open", where, "every port is let through", "name the ports")
            for peer in sequence(rule.get(peers)):
                block = text(mapping(mapping(peer).get("ipBlock")).get("cidr"))
                if block in _REACHABLE or mapping(peer) == {} or mapping(peer).get("namespaceSelector") == {}:
                    yield _of("k8s.network-open", where, "the peer is everybody", "name the peer")


def _service(one: Mapping[str, Any]) -> Iterator[Finding]:
    spec = mapping(one.get("spec"))
    kind = text(spec.get("type")) or "ClusterIP"
    if kind != "ClusterIP" or spec.get("externalIPs"):
        yield _of(
            "k8s.service-exposed",
            "spec.type",
            f"a {kind[:40]} service is a way round the gateway",
            "set type: ClusterIP and no externalIPs",
        )


def _account(one: Mapping[str, Any]) -> Iterator[Finding]:
    if one.get("automountServiceAccountToken") is not False:
        yield _of(
            "k8s.account-token",
            "automountServiceAccountToken",
            "every pod of the account gets its token",
            "set automountServiceAccountToken: false",
        )


def _nothing(_one: Mapping[str, Any]) -> Iterator[Finding]:
    return iter(())


_JUDGES = {
    "Namespace": _namespace,
    "NetworkPolicy": _network,
    "Service": _service,
    "ServiceAccount": _account,
    "PodDisruptionBudget": _nothing,
    "ResourceQuota": _nothing,
    "RuntimeClass": _nothing,
}


def _role(one: Mapping[str, Any]) -> Iterator[Finding]:
    for index, given in enumerate(sequence(one.get("rules"))):
        rule = mapping(given)
        for field in ("verbs", "resources", "apiGroups"):
            if "*" in sequence(rule.get(field)):
                yield _of(
                    "k8s.rbac", f"rules[{index}].{field}", "everything is permitted", "name what is needed"
                )


def _webhooks(one: Mapping[str, Any]) -> Iterator[Finding]:
    for index, given in enumerate(sequence(one.get("webhooks"))):
        if text(mapping(given).get("failurePolicy")) != "Fail":
            yield _of(
                "k8s.webhook-open",
                f"webhooks[{index}].failurePolicy",
                "what cannot be judged is let through",
                "set failurePolicy: Fail",
            )


def _around(objects: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """What each namespace with pods needs beside them, and each standing workload."""
    known = {kind: [one for one in objects if one.get("kind") == kind] for kind in (*_JUDGES, "LimitRange")}
    homes = sorted({_home(one) for one in objects if any(True for _ in pods(one))})
    for home in homes:
        beside = {kind: [one for one in found if _home(one) == home] for kind, found in known.items()}
        for rule, kind, present in (
            ("k8s.network-default-deny", "NetworkPolicy", any(map(_denies_all, beside["NetworkPolicy"]))),
            ("k8s.quota", "ResourceQuota", bool(beside["ResourceQuota"])),
            ("k8s.limit-range", "LimitRange", bool(beside["LimitRange"])),
        ):
            if not present:
                what = "a default-deny NetworkPolicy" if kind == "NetworkPolicy" else f"a {kind}"
                yield Finding(
                    rule,
                    Severity.HIGH,
                    f"pods run in the namespace {home[:63]!a} without {what} in this file",
                    f"Namespace {home}",
                    "garrison k8s render --tier TIER writes one",
                )
    for one in objects:
        if text(one.get("kind")) in STANDING and not any(
            _home(budget) == _home(one) and _selects(budget, one) for budget in known["PodDisruptionBudget"]
        ):
            yield Finding(
                "k8s.disruption-budget",
                Severity.MEDIUM,
                "a drained node may take every copy at once",
                _title(one),
                "add a PodDisruptionBudget that selects its pods",
            )


def _denies_all(one: Mapping[str, Any]) -> bool:
    spec = mapping(one.get("spec"))
    return (
        spec.get("podSelector") == {}
        and {"Ingress", "Egress"} <= set(map(str, sequence(spec.get("policyTypes"))))
        and not spec.get("ingress")
        and not spec.get("egress")
    )


def _selects(budget: Mapping[str, Any], one: Mapping[str, Any]) -> bool:
    wanted = mapping(mapping(mapping(budget.get("spec")).get("selector")).get("matchLabels"))
    labels = [mapping(pod.metadata.get("labels")) for pod in pods(one)]
    return bool(wanted) and any(wanted.items() <= found.items() for found in labels)


def _home(one: Mapping[str, Any]) -> str:
    return text(mapping(one.get("metadata")).get("namespace")) or "default"


def _title(one: Mapping[str, Any]) -> str:
    name = text(mapping(one.get("metadata")).get("name"))
    place = text(mapping(one.get("metadata")).get("namespace"))
    return f"{text(one.get('kind')) or 'object'} {f'{place}/' if place else ''}{name or '?'}"[:200]


def _placed(finding: Finding, title: str) -> Finding:
    where = f"{title} {finding.where}".strip()
    return Finding(finding.rule_id, finding.severity, finding.message, where, finding.fix)


def _of(rule: str, where: str, what: str, fix: str) -> Finding:
    return Finding(rule, Severity.HIGH, what, where, fix)
