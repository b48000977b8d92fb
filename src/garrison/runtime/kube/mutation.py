"""Fill in what a pod left out, never change what it says; the result is judged like anything else.

Only safe defaults: whatever a pod states stays as it is and is refused if it is wrong. The API server asks
for the validation after every mutation, also after those of others.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from garrison.runtime.kube.admission import Known, judge
from garrison.runtime.kube.review import Review, Ruling
from garrison.runtime.kube.shapes import containers, mapping, pods

_POD: Mapping[str, Any] = {"automountServiceAccountToken": False, "enableServiceLinks": False}
_CONTAINER: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def completed(review: Review, known: Known) -> Ruling:
    """The ruling over the object as it would be after the patch, with that patch."""
    if review.operation != "CREATE" or review.subresource or review.namespace in known.exempt:
        return judge(review, known)
    document, patch = complete(review.document)
    ruling = judge(replace(review, document=document), known)
    return replace(ruling, patch=tuple(patch)) if ruling.allowed else ruling


def complete(document: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """The object with its defaults, and the JSON Patch (RFC 6902) that makes it so."""
    made = copy.deepcopy(dict(document))
    patch: list[dict[str, Any]] = []
    for pod in pods(made):
        _fill(pod.spec, _POD, _pointer(pod.where), patch)
        for _, container, where in containers(pod):
            place = _pointer(where)
            if "image" in container:
                _fill(container, {"imagePullPolicy": "Always"}, place, patch)
            if container.get("securityContext") is None:
                _fill(container, {"securityContext": copy.deepcopy(dict(_CONTAINER))}, place, patch)
            else:
                _fill(mapping(container["securityContext"]), _CONTAINER, f"{place}/securityContext", patch)
    return made, patch


def _fill(
    target: Mapping[str, Any], wanted: Mapping[str, Any], place: str, patch: list[dict[str, Any]]
) -> None:
    if not isinstance(target, dict):
        return
    for name, value in wanted.items():
        if target.get(name) is None:
            target[name] = copy.deepcopy(value)
            patch.append({"op": "add", "path": f"{place}/{name}", "value": value})


def _pointer(where: str) -> str:
    """`spec.containers[0]` as a JSON pointer (RFC 6901); the names in it have no slash and no tilde."""
    return "/" + where.replace("[", "/").replace("]", "").replace(".", "/")
