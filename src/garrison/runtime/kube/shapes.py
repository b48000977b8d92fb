"""Where the pods are in a Kubernetes object, and reading what came from outside without trusting its shape."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from garrison.core.finding import Finding, Severity

# Kind -> the way to its pod specification. The API versions are those that clusters serve today.
POD_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "PodTemplate": ("template",),
}
GROUPS: Mapping[str, frozenset[str]] = {
    "Pod": frozenset({"v1"}),
    "Deployment": frozenset({"apps/v1"}),
    "StatefulSet": frozenset({"apps/v1"}),
    "DaemonSet": frozenset({"apps/v1"}),
    "ReplicaSet": frozenset({"apps/v1"}),
    "ReplicationController": frozenset({"v1"}),
    "Job": frozenset({"batch/v1"}),
    "CronJob": frozenset({"batch/v1"}),
    "PodTemplate": frozenset({"v1"}),
    "InferenceService": frozenset({"serving.kserve.io/v1beta1"}),
}
CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")
MAX_CONTAINERS = 64  # of one pod; a model server has two

_DIGEST = re.compile(r"[^@\s]{1,512}@(sha256:[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class PodShape:
    """One pod of an object: its metadata, its specification and the way to it."""

    metadata: Mapping[str, Any]
    spec: Mapping[str, Any]
    way: tuple[str, ...]

    @property
    def where(self) -> str:
        return ".".join(self.way)


def pods(document: Mapping[str, Any]) -> Iterator[PodShape]:
    """Every pod that an object would start. An object of another kind has none; a missing one is empty."""
    kind = str(document.get("kind", ""))
    if kind == "InferenceService":
        parts = mapping(document.get("spec"))
        for part in parts:  # a part that this release does not know is judged like the others
            inside = mapping(parts[part])
            yield PodShape(mapping(document.get("metadata")), inside, ("spec", str(part)))
            workers = mapping(inside.get("workerSpec"))
            if workers:
                yield PodShape(mapping(document.get("metadata")), workers, ("spec", str(part), "workerSpec"))
        return
    if kind not in POD_TEMPLATES:
        return
    way = POD_TEMPLATES[kind]
    found = document
    for step in way:
        found = mapping(found.get(step))
    yield PodShape(mapping(found.get("metadata")), mapping(found.get("spec")), (*way, "spec"))


def containers(pod: PodShape) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """(list it stands in, container, path) of every container, of whichever kind."""
    for name in CONTAINER_LISTS:
        for index, container in enumerate(sequence(pod.spec.get(name))[:MAX_CONTAINERS]):
            yield name, mapping(container), f"{pod.where}.{name}[{index}]"


def misshapen(pod: PodShape) -> Iterator[Finding]:
    """What cannot be read as the API defines it, and would otherwise be passed over."""
    for name in CONTAINER_LISTS:
        value = pod.spec.get(name)
        if value is None:
            continue
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            yield shape(f"{pod.where}.{name}", "is not a list of objects")
        elif len(value) > MAX_CONTAINERS:
            yield shape(f"{pod.where}.{name}", f"has {len(value)} entries; {MAX_CONTAINERS} are read")
    if not sequence(pod.spec.get("containers")):
        yield shape(f"{pod.where}.containers", "names no container")
    for name in ("securityContext", "volumes", "hostAliases", "tolerations"):
        value = pod.spec.get(name)
        wanted = dict if name == "securityContext" else list
        if value is not None and not isinstance(value, wanted):
            yield shape(f"{pod.where}.{name}", f"is not {'an object' if wanted is dict else 'a list'}")


def shape(where: str, what: str) -> Finding:
    return Finding(
        "k8s.shape", Severity.HIGH, f"{where} {what}", where, "write it as the Kubernetes API defines it"
    )


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def digest_of(image: Any) -> str:
    """The digest in an image's address; empty when it names none, or anything that two readers read as two."""
    found = _DIGEST.fullmatch(text(image))
    return "" if found is None else found[1]
