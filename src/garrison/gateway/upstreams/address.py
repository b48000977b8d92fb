"""Where an endpoint answers, parsed once: `unix:/path/to.sock`, `http://host:port` or `https://host/base`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from garrison.core.errors import Undecided

_BASE = re.compile(r"(/[A-Za-z0-9._~-]+)*\Z")


@dataclass(frozen=True, slots=True)
class Address:
    """`path` for a Unix socket, else `host` and `port`; `authority` is the Host header of a request there.

    `base` goes before the path of every request. With `tls` the server's certificate has to be valid for `host`.
    """

    authority: str
    path: str = ""
    host: str = ""
    port: int = 0
    tls: bool = False
    base: str = ""


@lru_cache(maxsize=4_096)
def parse_address(text: str) -> Address:
    """Raises `Undecided` GW-UPSTREAM for any other form; addresses only ever come from a signed snapshot."""
    if text.startswith("unix:/"):
        return Address("localhost", path=text.removeprefix("unix:"))
    try:
        url = urlsplit(text)
        tls = url.scheme == "https"
        port = url.port or (443 if tls else 80)
    except ValueError:
        raise _unusable() from None
    base = url.path.rstrip("/")
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment or url.username:
        raise _unusable()
    if not _BASE.match(base) or "/.." in base or "/." in base:
        raise _unusable()
    return Address(url.netloc, host=url.hostname, port=port, tls=tls, base=base)


def _unusable() -> Undecided:
    return Undecided(
        "GW-UPSTREAM",
        "the route's address is not unix:/path, http://host:port or https://host",
        fix="ask an operator to add the route again with garrison route add",
    )
