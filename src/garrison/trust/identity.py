"""Access tokens: minted short, checked strictly, remembered briefly.

JSON Web Tokens (RFC 7519, profile RFC 9068) signed with ES256 by the key `token` in the PKCS#11 token. A
verifier is built for one set of keys and revocations and never changes; new facts make a new verifier, so
a cached answer can't outlive them. Refusals say which of five things is wrong and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, GuestProtocol

from garrison.core.decision import Subject
from garrison.core.digest import canonical_json
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.trust.api_keys import ApiKey, is_api_key, key_hash
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import PublicKey
from garrison.trust.roles import kind_of

ISSUER = "garrison"
AUDIENCE = "garrison"
ALGORITHM = "ES256"
TYPE = "at+jwt"  # RFC 9068 section 2.1

DEFAULT_LIFETIME = 15 * 60  # seconds
MAX_LIFETIME = 24 * 60 * 60  # seconds; a longer one would be an API key by another name
LEEWAY = 5  # seconds that clocks may differ for nbf and iat; exp gets none

MAX_TOKEN = 8 * 1024  # characters; fits the request head that the gateway accepts
MAX_NAME = 128  # characters of sub and jti
MAX_ROLES = 32
THUMBPRINT = 43  # characters of base64url of a SHA-256 (RFC 8705 section 3.1)
MAX_MODELS = 64  # more do not fit into MAX_TOKEN with names of full length

CACHE_SECONDS = 60.0  # a verified token is looked at again after this long at most
CACHE_SIZE = 10_000  # verified tokens remembered, about 5 MB
REFUSED_SECONDS = 10.0  # a refused token is refused from memory this long
REFUSED_SIZE = 1_000

_CLAIMS = frozenset({"iss", "aud", "sub", "roles", "models", "iat", "nbf", "exp", "jti"})
_OPTIONAL = frozenset({"tenant", "cnf", "act"})
_ACTOR = frozenset({"sub", "roles", "models", "from"})
_HEADER = {"alg", "typ", "kid"}

_REFUSALS = {
    "TOK-MISSING": "no access token was given",
    "TOK-INVALID": "the access token is not valid here",
    "TOK-EXPIRED": "the access token has expired",
    "TOK-REVOKED": "the access token was revoked",
    "TOK-BOUND": "the access token is bound to a client certificate that was not shown",
    "TOK-PROXY": "the request says who calls in a way that is not accepted from here",
}


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified token: whose it is, until when (seconds since 1970) and its id.

    `certificate` is the SHA-256 thumbprint of the client certificate that has to be shown with it (RFC 8705);
    `agent` acts for the subject (RFC 8693) and has to be allowed too; `parents` are the tokens it came from.
    """

    subject: Subject
    expires: float
    token_id: str
    tenant: str = ""
    certificate: str = ""
    agent: Subject | None = None
    parents: tuple[str, ...] = ()

    def is_withdrawn(self, tokens: frozenset[str], subjects: frozenset[str]) -> bool:
        """Whether the token, what it came from, its subject or its agent was revoked or disabled."""
        return (
            self.subject.name in subjects
            or self.token_id in tokens
            or (self.agent is not None and self.agent.name in subjects)
            or any(parent in tokens for parent in self.parents)
        )


@dataclass(frozen=True, slots=True)
class Denied:
    """Why a token is not good. `why` is one word for operators, never told to the caller; `name` is whose it
    is, and only there when its signature was good."""

    code: str
    why: str
    name: str = ""


class Others(Protocol):
    """Tokens that are not ours: `trust.foreign.ForeignTokens`."""

    def check(self, token: str, now: float) -> Principal | Denied:
        """The principal, or why not. Never raises."""


def mint(claims: Mapping[str, Any], signer: Signer, now: datetime, *, ttl: int = DEFAULT_LIFETIME) -> str:
    """Sign a token for `claims`: `sub`, `roles`, `models`, optionally `jti`, `tenant`, `cnf` and `act`; the
    rest is filled in.

    `ttl` is the lifetime in seconds. Raises `Refused` TOK-TTL for one above `MAX_LIFETIME` or below 1,
    `Usage` TOK-CLAIMS for claims that no verifier would accept.
    """
    if not 1 <= ttl <= MAX_LIFETIME:
        raise Refused(
            "TOK-TTL",
            f"a lifetime of {ttl} s is not between 1 s and {MAX_LIFETIME} s",
            fix=f"ask for at most 24 h, or leave it out for {DEFAULT_LIFETIME // 60} min",
            evidence={"asked": ttl, "limit": MAX_LIFETIME},
        )
    issued = int(now.timestamp())
    body = {
        "jti": secrets.token_hex(16),
        **claims,
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": issued,
        "nbf": issued,
        "exp": issued + ttl,
    }
    header = {"alg": ALGORITHM, "typ": TYPE, "kid": signer.key_id}
    signed = _encode(canonical_json(header)) + b"." + _encode(canonical_json(body))
    r, s = decode_dss_signature(signer.sign(signed))
    token = (signed + b"." + _encode(r.to_bytes(32, "big") + s.to_bytes(32, "big"))).decode()
    if _parse(body, ISSUER, AUDIENCE) is None or len(token) > MAX_TOKEN:
        raise Usage(
            "TOK-CLAIMS",
            "these claims do not make a token that would be accepted",
            fix=f"name one subject, 1 to {MAX_ROLES} roles and at most {MAX_MODELS} models",
        )
    return token


class TokenVerifier:
    """Checks tokens against fixed keys and revocations. Safe to share within one thread."""

    def __init__(
        self,
        keys: Sequence[PublicKey],
        audience: str = AUDIENCE,
        issuer: str = ISSUER,
        *,
        revoked_tokens: frozenset[str] = frozenset(),
        revoked_subjects: frozenset[str] = frozenset(),
        max_lifetime: int = MAX_LIFETIME,
        others: Others | None = None,
        api_keys: Mapping[str, ApiKey] | None = None,
    ) -> None:
        # One algorithm a key (RFC 8725 section 3.1): every key here is P-256, so ES256 and nothing else.
        self._keys = {key.key_id: ECKey.import_key(key.pem) for key in keys}
        self._audience = audience
        self._issuer = issuer
        self._revoked_tokens = revoked_tokens
        self._revoked_subjects = revoked_subjects
        self._max_lifetime = min(max_lifetime, MAX_LIFETIME)
        self._others = others
        self._api_keys = api_keys or {}
        self._verified: dict[bytes, tuple[float, Principal]] = {}
        self._refused: dict[bytes, tuple[float, Denied]] = {}

    def verify(self, token: str, now: float) -> Principal:
        """The principal of a good token at `now` (seconds since 1970). The caller compares `certificate`.

        Raises `Refused` (HTTP 401) TOK-MISSING, TOK-INVALID, TOK-EXPIRED or TOK-REVOKED, and `Undecided`
        TOK-ISSUER when the keys of its issuer are too old.
        """
        return self.remembered(token, now) or self._first_look(token, now)

    def remembered(self, token: str, now: float) -> Principal | None:
        """What is known of a token without any cryptography but a digest; None when nothing is.

        Raises as `verify` for one that was refused a moment ago.
        """
        if not token:
            raise refusal("TOK-MISSING", "missing")
        if len(token) > MAX_TOKEN or not token.isascii():
            raise refusal("TOK-INVALID", "shape")
        digest = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is not None and now < known[0]:
            return known[1]
        refused = self._refused.get(digest)
        if refused is not None and now < refused[0]:
            raise refusal(refused[1].code, refused[1].why, refused[1].name)
        return None

    def _first_look(self, token: str, now: float) -> Principal:
        digest = hashlib.sha256(token.encode()).digest()
        checked = self._check(token, now)
        if isinstance(checked, Denied):
            _remember(self._refused, digest, (now + REFUSED_SECONDS, checked), REFUSED_SIZE)
            raise refusal(checked.code, checked.why, checked.name)
        until = min(checked.expires, now + CACHE_SECONDS)
        _remember(self._verified, digest, (until, checked), CACHE_SIZE)
        return checked

    def _check(self, token: str, now: float) -> Principal | Denied:
        """The principal, or why not."""
        if is_api_key(token):
            found = self._by_api_key(token, now)
        else:
            found = self._ours(token, now)
            if isinstance(found, Denied) and found.why == "key" and self._others is not None:
                found = self._others.check(token, now)
        if isinstance(found, Principal) and found.is_withdrawn(self._revoked_tokens, self._revoked_subjects):
            return Denied("TOK-REVOKED", "revoked", found.subject.name)
        return found

    def _by_api_key(self, token: str, now: float) -> Principal | Denied:
        known = self._api_keys.get(key_hash(token))
        if known is None:
            return Denied("TOK-INVALID", "key")
        if known.expires <= now:
            return Denied("TOK-EXPIRED", "expired", known.subject.name)
        return Principal(known.subject, known.expires, known.key_id)

    def _ours(self, token: str, now: float) -> Principal | Denied:
        try:
            claims = jwt.decode(token, self._key_for, algorithms=[ALGORITHM]).claims
        except LookupError:
            return Denied("TOK-INVALID", "key")
        except (JoseError, ValueError, TypeError, RecursionError):  # whatever a forged header can cause
            return Denied("TOK-INVALID", "signature" if self._names_our_key(token) else "key")
        parsed = _parse(claims, self._issuer, self._audience)
        if parsed is None or claims["exp"] - claims["iat"] > self._max_lifetime:
            return Denied("TOK-INVALID", "claims")
        if parsed.expires <= now:
            return Denied("TOK-EXPIRED", "expired", parsed.subject.name)
        if max(claims["nbf"], claims["iat"]) > now + LEEWAY:
            return Denied("TOK-INVALID", "early", parsed.subject.name)
        return parsed

    def _names_our_key(self, token: str) -> bool:
        """A header with the id of a key of ours is never looked at as somebody else's."""
        try:
            padded = token.partition(".")[0]
            header = json.loads(base64.urlsafe_b64decode(padded + "=" * (-len(padded) % 4)))
            return header["kid"] in self._keys
        except (ValueError, TypeError, KeyError, RecursionError):
            return False

    def _key_for(self, guest: GuestProtocol) -> ECKey:
        """The key that the header names by id; never one that it brings or points to."""
        header = guest.headers()
        if set(header) != _HEADER or header["typ"] != TYPE or header["alg"] != ALGORITHM:
            raise ValueError("another header")
        return self._keys[header["kid"]]


def refusal(code: str, why: str = "", name: str = "") -> GarrisonError:
    """The refusal for a code of this module, answered with 401 over HTTP (TOK-ISSUER with 503).

    `why` and `name` travel as notes of the exception: operators see them, the answer never holds them.
    """
    error: GarrisonError
    if code == "TOK-ISSUER":
        error = Undecided(
            code,
            "the keys of the token's issuer could not be fetched for too long, so nobody can tell whether it is good",
            fix="try again; an operator sees with garrison issuer list since when the issuer is away",
            retry_after=30,
        )
    else:
        error = Refused(
            code,
            _REFUSALS[code],
            fix="get a new one: garrison token issue --subject NAME --role user, and send it as a bearer token",
        )
        error.http_status = 401  # type: ignore[misc]  # the class says 403; who did not sign in yet gets 401 (RFC 9110)
    if why:
        error.add_note(why)
        error.add_note(name)
    return error


def _parse(claims: Mapping[str, Any], issuer: str, audience: str) -> Principal | None:
    """Every claim there, of its exact type and within bounds; otherwise None."""
    if set(claims) - _OPTIONAL != _CLAIMS or claims["iss"] != issuer or claims["aud"] != audience:
        return None
    times = (claims["iat"], claims["nbf"], claims["exp"])
    if not all(type(moment) is int and 0 <= moment < 1 << 40 for moment in times):
        return None
    if not claims["iat"] <= claims["nbf"] < claims["exp"]:
        return None
    if not is_name(claims["sub"]) or not is_name(claims["jti"]):
        return None
    subject = _party(claims, "token")
    tenant, bound = claims.get("tenant", ""), claims.get("cnf", {"x5t#S256": ""})
    if subject is None or (tenant and not is_name(tenant)) or not isinstance(tenant, str):
        return None
    if not isinstance(bound, dict) or set(bound) != {"x5t#S256"} or not isinstance(bound["x5t#S256"], str):
        return None
    if "cnf" in claims and len(bound["x5t#S256"]) != THUMBPRINT:
        return None
    agent, parents = None, ()
    if "act" in claims:
        acting = claims["act"]
        if not isinstance(acting, dict) or set(acting) != _ACTOR or not _is_names(acting["from"], 4):
            return None
        agent, parents = _party(acting, "token"), tuple(acting["from"])
        if agent is None:
            return None
    return Principal(subject, float(claims["exp"]), claims["jti"], tenant, bound["x5t#S256"], agent, parents)


def _party(claims: Mapping[str, Any], via: str) -> Subject | None:
    """Who a set of claims names, with roles and models; None when that is not whole."""
    roles, models = claims["roles"], claims["models"]
    if not is_name(claims["sub"]) or not roles:
        return None
    if not _is_names(roles, MAX_ROLES) or not _is_names(models, MAX_MODELS):
        return None
    return Subject(kind_of(roles), claims["sub"], frozenset(roles), frozenset(models), via=via)


def is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


def _is_names(value: Any, limit: int) -> bool:
    return isinstance(value, list) and len(value) <= limit and all(is_name(item) for item in value)


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _remember(cache: dict[bytes, Any], key: bytes, value: Any, size: int) -> None:
    """Keep the newest `size` entries: what was written first goes first."""
    cache.pop(key, None)
    if len(cache) >= size:
        del cache[next(iter(cache))]
    cache[key] = value
