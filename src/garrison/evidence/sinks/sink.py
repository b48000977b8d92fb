"""A sink: where events go, in which form, and by which credential files. Parsed at the door, trusted after.

Files are named, never their contents: a token or a key stays in a file that only the server's user reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from garrison.core.errors import Usage

KINDS = ("syslog", "hec", "otlp", "http", "file")
FORMS = ("ocsf", "cef", "json")
SIGNALS = ("logs", "traces", "metrics")
MAX_SINKS = 16  # each has a thread and a connection
MAX_URL = 512
MAX_CA = 64 * 1024  # bytes; a few authorities in PEM
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_SCHEMES = {"syslog": ("tls", "tcp"), "file": ("file",)}
_PORTS = {"tls": 6514, "tcp": 514, "https": 443, "http": 80}
_LARGEST = {"syslog": 8_192}  # bytes of one event: what RFC 5425 section 4.3.1 says receivers should take


@dataclass(frozen=True, slots=True)
class Sink:
    """`token_file` holds a token, `client_file` a PEM chain with its key; `ca` is PEM text, empty for the system's."""

    name: str
    kind: str
    url: str
    form: str = "ocsf"
    signals: tuple[str, ...] = ()
    token_file: str = ""
    client_file: str = ""
    ca: str = ""
    largest: int = 0

    @property
    def takes_events(self) -> bool:
        return not self.signals or bool({"logs", "traces"} & set(self.signals))

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "signals": list(self.signals)}


class Place(NamedTuple):
    """Where a sink's address leads."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_secure(self) -> bool:
        return self.scheme in ("tls", "https")


def parse_sink(facts: Mapping[str, Any]) -> Sink:
    """The sink that these facts describe. Raises `Usage` SINK-SYNTAX, SINK-PLAIN."""
    known = {field.name for field in fields(Sink)}
    if unknown := set(facts) - known:
        raise _syntax(f"{sorted(unknown)[0][:40]!r} is nothing that a sink has")
    given = {key: value for key, value in facts.items() if value not in (None, "", [], ())}
    signals, largest = given.pop("signals", ()), given.pop("largest", 0)
    if not all(isinstance(value, str) and value.isprintable() for key, value in given.items() if key != "ca"):
        raise _syntax("every field is text")
    if not _NAME.fullmatch(given.get("name", "")):
        raise _syntax("its name is a-z, 0-9 and dash, at most 32 characters")
    if given.get("kind") not in KINDS:
        raise _syntax(f"its kind is one of {', '.join(KINDS)}")
    kind = given["kind"]
    if given.get("form", "ocsf") not in FORMS or (
        kind in ("hec", "otlp") and given.get("form", "ocsf") == "cef"
    ):
        raise _syntax(f"its form is one of {', '.join(FORMS)}, and never cef for hec or otlp")
    if type(largest) is not int or not 0 <= largest <= 1 << 20 or 0 < largest < 2_048:
        raise _syntax("the largest event is from 2048 to 1048576 bytes")
    if len(given.get("ca", "")) > MAX_CA:
        raise _syntax(f"its authority is larger than {MAX_CA} bytes")
    sink = Sink(**given, signals=_signals(kind, signals), largest=largest or _LARGEST.get(kind, 0))
    _check_place(sink)
    return sink


def _signals(kind: str, signals: Any) -> tuple[str, ...]:
    if kind != "otlp":
        if signals:
            raise _syntax("only a sink of kind otlp has signals")
        return ()
    if not isinstance(signals, list | tuple) or not set(signals) <= set(SIGNALS):
        raise _syntax(f"its signals are some of {', '.join(SIGNALS)}")
    return tuple(one for one in SIGNALS if one in signals) or SIGNALS


def place_of(url: str) -> Place:
    """Raises `Usage` SINK-SYNTAX."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        raise _syntax("its address cannot be read") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise _syntax("its address has no credentials, query or fragment: a token is in --token-file")
    return Place(parts.scheme, parts.hostname or "", port, parts.path)


def _check_place(sink: Sink) -> None:
    place = place_of(sink.url)
    schemes = _SCHEMES.get(sink.kind, ("https", "http"))
    if len(sink.url) > MAX_URL or place.scheme not in schemes:
        raise _syntax(f"the address of a sink of kind {sink.kind} begins with {schemes[0]}://")
    if sink.kind == "file":
        if not place.path.startswith("/") or place.host or ".." in place.path.split("/"):
            raise _syntax("a file is named by its whole path: file:/var/log/garrison/events.json")
        return
    if not place.host:
        raise _syntax("its address names no host")
    if not place.is_secure and place.host not in LOOPBACK:
        raise Usage(
            "SINK-PLAIN",
            f"{place.host} is another machine, and {place.scheme}:// would show it every event unprotected",
            fix=f"use {schemes[0]}:// and, for an authority of your own, --ca FILE",
        )


def _syntax(what: str) -> Usage:
    return Usage(
        "SINK-SYNTAX", f"that is not a sink: {what}", fix="garrison sink add --help shows whole examples"
    )
