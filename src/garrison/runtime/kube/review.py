"""An AdmissionReview as it comes and as it is answered: bounded, read in one way, or refused.

Source: the Kubernetes API, admission.k8s.io/v1. Nothing here decides what may run.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from garrison.core.errors import Refused
from garrison.runtime.kube.shapes import GROUPS, mapping, text
from garrison.trust import strict_json

MAX_REVIEW_BYTES = 896 * 1024  # a pod has 5 kB, its annotations at most 256 kB; the control API takes 1 MiB
MAX_UID = 128
MAX_NAME = 253  # RFC 1123 subdomain
MAX_MESSAGE = 3_000  # characters; kubectl prints all of them
MAX_REASONS = 12
API_VERSION = "admission.k8s.io/v1"
OPERATIONS = frozenset({"CREATE", "UPDATE", "DELETE", "CONNECT"})


@dataclass(frozen=True, slots=True)
class Review:
    """One question of an API server. `old` is empty unless something is changed."""

    uid: str
    operation: str
    kind: str
    api_version: str
    subresource: str
    namespace: str
    name: str
    user: str
    is_dry_run: bool
    document: Mapping[str, Any]
    old: Mapping[str, Any]

    @property
    def title(self) -> str:
        part = f"/{self.subresource}" if self.subresource else ""
        return f"{self.kind}{part} {self.namespace or '-'}/{self.name or '?'}"


@dataclass(frozen=True, slots=True)
class Denial:
    """One reason, with what to do."""

    code: str
    what: str
    where: str
    fix: str

    def as_json(self) -> dict[str, str]:
        return {"code": self.code, "message": self.what, "where": self.where, "fix": self.fix}


@dataclass(frozen=True, slots=True)
class Ruling:
    """What was decided. Without denials a yes; `why` says by what. `models` are (name@version, digest, key, place)."""

    denials: tuple[Denial, ...] = ()
    why: str = ""
    models: tuple[tuple[str, str, str, int], ...] = ()
    patch: tuple[Mapping[str, Any], ...] = ()

    @property
    def allowed(self) -> bool:
        return not self.denials


def read(data: bytes) -> Review:
    """The question in the bytes; a bare object is asked about as if it were created. Raises `Refused` ADM-REVIEW."""
    return parse(document_of(data))


def document_of(data: bytes) -> Any:
    """What `read` accepted, as plain values. Raises as `read`."""
    try:
        return strict_json.loads(data, MAX_REVIEW_BYTES)
    except ValueError as error:
        raise unreadable(str(error)) from None


def parse(value: Any) -> Review:
    """As `read`, of what was parsed already. Raises `Refused` ADM-REVIEW."""
    document = mapping(value)
    if text(document.get("kind")) != "AdmissionReview":
        if not text(document.get("kind")) or not text(document.get("apiVersion")):
            raise unreadable("it is neither an AdmissionReview nor an object of Kubernetes")
        return _bare(document)
    if document.get("apiVersion") != API_VERSION:
        raise unreadable(f"its apiVersion is not {API_VERSION}")
    request = document.get("request")
    if not isinstance(request, dict):
        raise unreadable("it has no request")
    return _parsed(request)


def uid_of(data: bytes) -> str:
    """The uid of a review that was refused, to be echoed; empty when none can be told."""
    try:
        uid = mapping(mapping(json.loads(data[:MAX_REVIEW_BYTES])).get("request")).get("uid")
    except (ValueError, RecursionError):
        return ""
    return uid if isinstance(uid, str) and len(uid) <= MAX_UID else ""


def answer(uid: str, ruling: Ruling) -> dict[str, Any]:
    """The AdmissionReview that goes back."""
    response: dict[str, Any] = {"uid": uid, "allowed": ruling.allowed}
    if ruling.denials:
        response["status"] = {"code": 403, "reason": "Forbidden", "message": message(ruling.denials)}
    elif ruling.patch:
        patch = json.dumps(list(ruling.patch), separators=(",", ":")).encode()
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch).decode()}
    annotations = {"decision": "allowed" if ruling.allowed else ruling.denials[0].code}
    if ruling.models:
        annotations["digest"] = ruling.models[0][1]
    response["auditAnnotations"] = annotations
    return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}


def message(denials: Sequence[Denial]) -> str:
    """What whoever ran `kubectl apply` reads."""
    lines = [f"{one.code} {one.where}: {one.what}. Next: {one.fix}" for one in denials[:MAX_REASONS]]
    if len(denials) > MAX_REASONS:
        lines.append(f"and {len(denials) - MAX_REASONS} more reasons")
    shown = "; ".join(lines)
    return "".join(one if one.isprintable() else "?" for one in shown)[:MAX_MESSAGE]


def unreadable(why: str) -> Refused:
    return Refused(
        "ADM-REVIEW",
        f"the admission review cannot be read in one way: {why}",
        fix="send what the API server sends: an AdmissionReview of admission.k8s.io/v1, or one object as JSON",
    )


def _bare(document: Mapping[str, Any]) -> Review:
    metadata = mapping(document.get("metadata"))
    return Review(
        uid="",
        operation="CREATE",
        kind=text(document.get("kind")),
        api_version=text(document.get("apiVersion")),
        subresource="",
        namespace=text(metadata.get("namespace")) or "default",
        name=text(metadata.get("name")),
        user="",
        is_dry_run=True,
        document=document,
        old={},
    )


def _parsed(request: Mapping[str, Any]) -> Review:
    kind = mapping(request.get("kind"))
    group, version = text(kind.get("group")), text(kind.get("version"))
    uid, operation = request.get("uid"), text(request.get("operation"))
    if not isinstance(uid, str) or not 0 < len(uid) <= MAX_UID:
        raise unreadable("its request has no uid")
    if operation not in OPERATIONS:
        raise unreadable(f"its operation is none of {', '.join(sorted(OPERATIONS))}")
    for field in ("namespace", "name", "subResource"):
        value = request.get(field)
        if value is not None and (not isinstance(value, str) or len(value) > MAX_NAME):
            raise unreadable(f"its {field} is not a name")
    if request.get("dryRun") not in (None, True, False):
        raise unreadable("its dryRun is neither true nor false")
    review = Review(
        uid=uid,
        operation=operation,
        kind=text(kind.get("kind")),
        api_version=f"{group}/{version}" if group else version,
        subresource=text(request.get("subResource")),
        namespace=text(request.get("namespace")),
        name=text(request.get("name")),
        user=text(mapping(request.get("userInfo")).get("username"))[:MAX_NAME],
        is_dry_run=request.get("dryRun") is True,
        document=mapping(request.get("object")),
        old=mapping(request.get("oldObject")),
    )
    _check_agreement(review)
    return review


def _check_agreement(review: Review) -> None:
    """What the request says of its object has to be what the object says of itself."""
    if review.operation in ("CREATE", "UPDATE"):
        found = (text(review.document.get("kind")), text(review.document.get("apiVersion")))
        if found != (review.kind, review.api_version):
            raise unreadable(
                f"the request is about a {review.kind[:40]!a} and the object is a {found[0][:40]!a}"
            )
        if review.operation == "UPDATE" and not review.old:
            raise unreadable("it changes an object and does not say which")
        home = text(mapping(review.document.get("metadata")).get("namespace"))
        if review.kind in GROUPS and home not in ("", review.namespace):
            raise unreadable("the request and the object name different namespaces")
