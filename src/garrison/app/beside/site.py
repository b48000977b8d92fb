"""Where things are in one installation: addresses and files that rendered configuration names, checked by form.

Whatever goes into a configuration of another program has to be one of these forms: a quote, a brace or a line end in
a name would be configuration.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

from garrison.core.errors import Usage

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9a-fA-F:.]{2,45}\])"
_ADDRESS = re.compile(rf"({_HOST}):([1-9][0-9]{{0,4}})\Z")
_FORMS = {
    "address": _ADDRESS,
    "host": re.compile(rf"{_HOST}\Z"),
    "path": re.compile(r"/[A-Za-z0-9._/-]{1,254}\Z"),
    "url": re.compile(r"https://[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]{0,512})?\Z"),
    "word": re.compile(r"[A-Za-z0-9._:/@-]{0,256}\Z"),
}
_MEANS = {
    "address": "HOST:PORT",
    "host": "a host name or an address",
    "path": "a whole path of letters, digits, dot, dash and underscore",
    "url": "an https:// address",
    "word": "one plain word",
}


@dataclass(frozen=True, slots=True)
class Site:
    """One installation. `ask` lets the proxy ask Garrison and pass requests on itself, to `upstream`."""

    listen: str = "0.0.0.0:443"
    gateway: str = "127.0.0.1:8443"
    name: str = "localhost"
    ca: str = "/etc/garrison/ca.pem"
    cert: str = "/etc/proxy/tls.pem"
    key: str = "/etc/proxy/tls.key"
    client_cert: str = "/etc/proxy/garrison.pem"
    client_key: str = "/etc/proxy/garrison.key"
    place: str = "/etc/proxy"
    upstream: str = "127.0.0.1:8000"
    issuer: str = "https://login.example.com"
    audience: str = "garrison"
    ask: bool = False
    http3: bool = False

    def __post_init__(self) -> None:
        for name, form in FORMS.items():
            check(name, getattr(self, name), form)
        for name in ("listen", "gateway", "upstream"):
            if split(getattr(self, name))[1] > 65_535:
                raise _wrong(name, "address")


FORMS = {
    "listen": "address",
    "gateway": "address",
    "name": "host",
    "ca": "path",
    "cert": "path",
    "key": "path",
    "client_cert": "path",
    "client_key": "path",
    "place": "path",
    "upstream": "address",
    "issuer": "url",
    "audience": "word",
}


def site_of(given: dict[str, Any]) -> Site:
    """A site with what was given, and the defaults for the rest. Raises `Usage` RENDER-VALUE."""
    known = {one.name for one in fields(Site)}
    return Site(**{name: value for name, value in given.items() if name in known and value is not None})


def split(address: str) -> tuple[str, int]:
    """`HOST:PORT`; brackets around an IPv6 address are taken off."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def check(name: str, value: object, form: str) -> str:
    """The value. Raises `Usage` RENDER-VALUE."""
    if not isinstance(value, str) or not _FORMS[form].match(value) or ".." in value:
        raise _wrong(name, form)
    return value


def _wrong(name: str, form: str) -> Usage:
    return Usage(
        "RENDER-VALUE",
        f"--{name.replace('_', '-')} is not {_MEANS[form]}",
        fix="garrison gateway render --help shows whole examples",
        evidence={"option": name},
    )
