"""Addresses in answers: with a list of hosts, whatever points elsewhere is taken out, and what it carries with it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from garrison.core.errors import Usage
from garrison.detect.base import Direction, Effect
from garrison.detect.rulepack import Rule

RULE = "dlp.exfil.host"
MAX_HOSTS = 1_024
HOST = re.compile(r"(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_HOST_OF = re.compile(
    r"(?:[a-z][a-z0-9+.-]{1,10}:)?[\\/]{2}(?:[^/?#\\]*@)?(\[[^\]]*\]|[^/?#:\\]*)", re.IGNORECASE
)
_TRIGGER = r"""(?:https?|ftps?|wss?):[\\/]{2}[^\s]|[(<"'=][\\/]{2}[A-Za-z0-9\[]"""
_PATTERN = (
    r"""(?:https?|ftps?|wss?):[\\/]{2}[^\s<>"'`)\]]{1,4000}"""
    r"""|(?<=[(<"'=])[\\/]{2}[A-Za-z0-9\[][^\s<>"'`)]{1,4000}"""
)


def parse_host(text: str) -> str:
    """A name, or `*.` and a name. Raises `Usage` DLP-HOST."""
    host = text.strip().lower().rstrip(".")
    if not HOST.fullmatch(host) or len(host) > 253:
        raise Usage(
            "DLP-HOST", "that is not the name of a host", fix="garrison dlp host add docs.example.com"
        )
    return host


def host_rule(hosts: Iterable[str]) -> Rule:
    """Finds an address of any host that is not on the list. A host that cannot be read is on no list."""
    known = [parse_host(host) for host in hosts]
    exact = frozenset(host for host in known if not host.startswith("*."))
    below = tuple(host[1:] for host in known if host.startswith("*."))

    def is_elsewhere(value: str) -> bool:
        found = _HOST_OF.match(value)
        host = found.group(1).lower().rstrip(".") if found else ""
        return host not in exact and not (below and host.endswith(below))

    return Rule(
        id=RULE, kind="exfiltration", effect=Effect.REDACT, score=0.9, directions=frozenset({Direction.OUTPUT}),
        trigger=_TRIGGER, pattern=re.compile(_PATTERN, re.IGNORECASE), context=None, validator=is_elsewhere,
        boundary="token", reach=12, ahead=4096, priority=80, caseless=True, hit=(), miss=(), severity="high",
        owasp=("LLM02", "LLM10"), atlas=("AML.T0077",),
    )  # fmt: skip
