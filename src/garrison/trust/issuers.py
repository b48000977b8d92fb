"""Another issuer of tokens, as an administrator entered it: whom it speaks for, and what its word is worth here.

A value and its reading; nothing is fetched. What is not granted here is not had: a role of the issuer counts
only where a grant translates it, and a subject is always named `NAME|SUBJECT`, so that it can never be taken for a
local identity.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from garrison.core.errors import Usage
from garrison.trust.roles import ROLES

MAX_URL = 512  # characters
MAX_AUDIENCE = 256
MAX_PAIRS = 64  # grants, conditions: a page of text
MAX_WORD = 256  # characters of a claim's name or of a value that is compared with one
MAX_CA = 16 * 1024  # bytes of PEM
MAX_ISSUERS = 64
LONGEST = 24 * 60 * 60  # seconds; the same bound as for tokens of our own
DEFAULT_LONGEST = 60 * 60  # providers issue for an hour
SEPARATOR = "|"
ALGORITHMS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
)
MAPPED = ("sub", "roles", "models", "tenant")  # what a claim of theirs can be read as
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,31}")
_HOST = re.compile(r"[a-z0-9.-]{1,253}")

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Issuer:
    """One issuer. `url` is compared with `iss` byte for byte. `claims` says which claim is read as what.

    `grants` translate a value of their roles claim into a role of ours; `roles` are given to every token;
    `models` limit every token; each claim named in `conditions` has to have one of the values given for it.
    """

    url: str
    audience: str
    name: str
    claims: Pairs = ()
    grants: Pairs = ()
    roles: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    conditions: Pairs = ()
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA", "Ed25519")
    longest: int = DEFAULT_LONGEST
    needs_nbf: bool = True
    keys_host: str = ""  # where the key set may lie when not at the issuer's own host
    loopback: bool = False  # plain HTTP, and only on this machine
    ca: str = ""  # PEM of the authority that its HTTPS certificate has to come from; empty: the system's

    def claim(self, meaning: str) -> str:
        """The claim that is read as `sub`, `roles`, `models` or `tenant`; empty when none is."""
        return dict(self.claims).get(meaning, "sub" if meaning == "sub" else "")

    def as_json(self) -> dict[str, Any]:
        return {key: _plain(value) for key, value in asdict(self).items()}


def parse_issuer(facts: Mapping[str, Any]) -> Issuer:
    """The issuer that `as_json` wrote, or a person asked for. Raises `Usage` ISS-INVALID."""
    known = {field.name for field in fields(Issuer)}
    if unknown := sorted(set(facts) - known):
        raise invalid(f"{unknown[0]!r} says nothing about an issuer")
    try:
        issuer = Issuer(**{key: _typed(value) for key, value in facts.items()})
    except TypeError as error:
        raise invalid("url, audience and name have to be given") from error
    _check_types(issuer)
    _check_url(issuer)
    _check_words(issuer)
    _check_rights(issuer)
    return issuer


def invalid(what: str) -> Usage:
    return Usage(
        "ISS-INVALID",
        f"that is not an issuer that can be trusted: {what}",
        fix="garrison issuer add --help shows a whole example",
    )


def _check_types(issuer: Issuer) -> None:
    texts = (issuer.url, issuer.audience, issuer.name, issuer.keys_host, issuer.ca)
    lists = (issuer.roles, issuer.models, issuer.algorithms)
    pairs = (issuer.claims, issuer.grants, issuer.conditions)
    if (
        any(type(text) is not str for text in texts)
        or not all(_are_texts(part) for part in lists)
        or not all(_are_pairs(part) for part in pairs)
        or any(type(flag) is not bool for flag in (issuer.needs_nbf, issuer.loopback))
    ):
        raise invalid("a part of it has another type")


def _are_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(type(word) is str for word in value)


def _are_pairs(value: object) -> bool:
    return isinstance(value, tuple) and all(_are_texts(pair) and len(pair) == 2 for pair in value)


def _check_url(issuer: Issuer) -> None:
    url = urlsplit(issuer.url)
    try:
        port = url.port
    except ValueError:
        port = 0
    plain = url.scheme == "http" and issuer.loopback and _is_loopback(url.hostname or "")
    if url.scheme != "https" and not plain:
        raise invalid("its address is not https:// (plain http:// only on loopback, with --loopback)")
    if (
        len(issuer.url) > MAX_URL
        or not issuer.url.isprintable()
        or not issuer.url.isascii()
        or not _HOST.fullmatch((url.hostname or "").lower().replace(":", "."))
        or port == 0
        or {"@", "?", "#", "\\", " "} & set(issuer.url)
        or ".." in url.path
    ):
        raise invalid("its address carries a password, a query, a fragment or no host")
    if issuer.keys_host and not _HOST.fullmatch(issuer.keys_host):
        raise invalid("the host of its keys is not a host name")
    if not _NAME.fullmatch(issuer.name):
        raise invalid("its short name is not up to 32 of a-z, 0-9, dot and dash")


def _check_words(issuer: Issuer) -> None:
    if not 0 < len(issuer.audience) <= MAX_AUDIENCE or not issuer.audience.isprintable():
        raise invalid("it has no audience: tokens that were meant for others would be taken")
    for pairs in (issuer.claims, issuer.grants, issuer.conditions):
        if len(pairs) > MAX_PAIRS or any(
            not 0 < len(word) <= MAX_WORD or not word.isprintable() for pair in pairs for word in pair
        ):
            raise invalid("a name or a value of a claim is empty, too long or not printable")
    if {meaning for meaning, _ in issuer.claims} - set(MAPPED):
        raise invalid(f"a claim can be read as {', '.join(MAPPED)}, and nothing else")
    if not issuer.algorithms or set(issuer.algorithms) - set(ALGORITHMS):
        raise invalid(f"the algorithms are {', '.join(ALGORITHMS)}")
    if type(issuer.longest) is not int or not 60 <= issuer.longest <= LONGEST:
        raise invalid("its tokens may live from 60 seconds to 24 hours")
    if len(issuer.ca) > MAX_CA or (issuer.ca and "PRIVATE KEY" in issuer.ca):
        raise invalid("that is not the certificate of an authority")


def _check_rights(issuer: Issuer) -> None:
    granted = {role for _, role in issuer.grants} | set(issuer.roles)
    if unknown := sorted(granted - set(ROLES)):
        raise invalid(f"{unknown[0]!r} is not a role here")
    if not granted:
        raise invalid("nobody would have a role: give --role, or --grant VALUE=ROLE with a roles claim")
    if issuer.grants and not issuer.claim("roles"):
        raise invalid("grants translate a claim, and no claim is read as roles")
    if issuer.roles and "admin" in issuer.roles and not issuer.conditions:
        raise invalid("every token of this issuer would administer; a condition or a grant has to tell who")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _typed(value: Any) -> Any:
    """Lists as tuples all the way down; JSON has no others."""
    return tuple(_typed(item) for item in value) if isinstance(value, list | tuple) else value
