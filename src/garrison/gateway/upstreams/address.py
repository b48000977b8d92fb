"""Where an endpoint answers, parsed once: `unix:/path/to.sock` or `http://host:port`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from garrison.core.errors import Undecided


@dataclass(frozen=True, slots=True)
class Address:
    """`path` for a Unix socket, else `host` and `port`; `authority` is the Host header of a request there."""

    authority: str
    path: str = ""
    host: str = ""
    port: int = 0


def parse_address(text: str) -> Address:
    """Raises `Undecided` GW-UPSTREAM for any other form; addresses only ever come from a signed snapshot."""
    if text.startswith("unix:/"):
        return Address("localhost", path=text.removeprefix("unix:"))
    try:
        url = urlsplit(text)
        port = url.port or 80
    except ValueError:
        raise _unusable() from None
    if url.scheme != "http" or not url.hostname or url.path.strip("/") or url.query or url.username:
        raise _unusable()
    return Address(url.netloc, host=url.hostname, port=port)


def _unusable() -> Undecided:
    return Undecided(
        "GW-UPSTREAM",
        "the route's address is not unix:/path or http://host:port",
        fix="ask an operator to add the route again with garrison route add",
    )
