"""The names that what is rendered and what is admitted agree on: labels, paths, commands, namespaces."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from garrison.core.decision import Tier
from garrison.core.digest import Ref

DOMAIN = "garrison.dev"
MODEL = f"{DOMAIN}/model"  # annotation: NAME@VERSION
DIGEST = f"{DOMAIN}/digest"  # annotation: the version's manifest digest
TIER = f"{DOMAIN}/tier"  # label of a namespace
SYSTEM_NAMESPACE = "garrison-system"
GATEWAY = {"app.kubernetes.io/name": "garrison"}
LAUNCHER = "garrison-launcher"  # the pinned name of the image that verifies and loads
NAMESPACE_PREFIX = "models-"

FETCH = ("garrison", "k8s", "fetch")
RUN = ("garrison", "k8s", "run")
# Where a launcher may have volumes, and nowhere else: a mount over its own programs would be other programs.
MOUNTS: Mapping[str, str] = {
    "model": "/model",
    "trust": "/trust",
    "tls": "/tls",
    "tmp": "/tmp",  # noqa: S108 - of the container
    "run": "/run/garrison",
    "auth": "/auth",
}
FETCH_OPTIONS = frozenset({"--as", "--digest", "--from", "--to", "--trust", "--auth", "--ca"})
RUN_OPTIONS = frozenset(
    {
        "--as",
        "--digest",
        "--model",
        "--trust",
        "--tls",
        "--listen",
        "--health",
        "--allow",
        "--isolation",
        "--threads",
    }
)
PORT, HEALTH_PORT = 8443, 8081
_NOT_LABEL = re.compile(r"[^a-z0-9-]")
MAX_LABEL = 63  # RFC 1123


def namespace_of(tier: Tier) -> str:
    return f"{NAMESPACE_PREFIX}{tier.value}"


def object_name(ref: Ref) -> str:
    """A DNS label that no other version has: where a model's name is none, its digest makes the difference."""
    plain = _NOT_LABEL.sub("-", ref.name).strip("-") or "model"
    suffix = f"-v{ref.version}"
    is_same = plain == ref.name and plain[0].isalpha() and len(plain) + len(suffix) <= MAX_LABEL
    if not is_same:
        mark = hashlib.sha256(ref.name.encode()).hexdigest()[:8]
        plain = f"m-{plain}"[: MAX_LABEL - len(suffix) - len(mark) - 1].rstrip("-") + f"-{mark}"
    return plain + suffix
