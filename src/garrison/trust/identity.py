"""Access tokens: minted short, checked strictly, remembered briefly.

JSON Web Tokens (RFC 7519, profile RFC 9068) signed with ES256 by the key `token` in the PKCS#11 token. A
verifier is built for one set of keys and revocations and never changes; new facts make a new verifier, so
a cached answer can't outlive them. Refusals say which of five things is wrong and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, GuestProtocol

from garrison.core.decision import Subject
from garrison.core.digest import canonical_json
from garrison.core.errors import Refused, Usage
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
MAX_MODELS = 64  # more do not fit into MAX_TOKEN with names of full length

CACHE_SECONDS = 60.0  # a verified token is looked at again after this long at most
CACHE_SIZE = 10_000  # verified tokens remembered, about 5 MB
REFUSED_SECONDS = 10.0  # a refused token is refused from memory this long
REFUSED_SIZE = 1_000

_CLAIMS = frozenset({"iss", "aud", "sub", "roles", "models", "iat", "nbf", "exp", "jti"})
_HEADER = {"alg", "typ", "kid"}

_REFUSALS = {
    "TOK-MISSING": "no access token was given",
    "TOK-INVALID": "the access token is not valid here",
    "TOK-EXPIRED": "the access token has expired",
    "TOK-REVOKED": "the access token was revoked",
}


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified token: whose it is, until when (seconds since 1970) and its id."""

    subject: Subject
    expires: float
    token_id: str


def mint(claims: Mapping[str, Any], signer: Signer, now: datetime, *, ttl: int = DEFAULT_LIFETIME) -> str:
    """Sign a token for `claims`: `sub`, `roles`, `models` and optionally `jti`; the rest is filled in.

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
    ) -> None:
        # One algorithm a key (RFC 8725 section 3.1): every key here is P-256, so ES256 and nothing else.
        self._keys = {key.key_id: ECKey.import_key(key.pem) for key in keys}
        self._audience = audience
        self._issuer = issuer
        self._revoked_tokens = revoked_tokens
        self._revoked_subjects = revoked_subjects
        self._max_lifetime = min(max_lifetime, MAX_LIFETIME)
        self._verified: dict[bytes, tuple[float, Principal]] = {}
        self._refused: dict[bytes, tuple[float, str]] = {}

    def verify(self, token: str, now: float) -> Principal:
        """The principal of a good token at `now` (seconds since 1970).

        Raises `Refused` (HTTP 401) TOK-MISSING, TOK-INVALID, TOK-EXPIRED or TOK-REVOKED.
        """
        if not token:
            raise refusal("TOK-MISSING")
        if len(token) > MAX_TOKEN or not token.isascii():
            raise refusal("TOK-INVALID")
        digest = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is not None and now < known[0]:
            return known[1]
        refused = self._refused.get(digest)
        if refused is not None and now < refused[0]:
            raise refusal(refused[1])
        checked = self._check(token, now)
        if isinstance(checked, str):
            _remember(self._refused, digest, (now + REFUSED_SECONDS, checked), REFUSED_SIZE)
            raise refusal(checked)
        until = min(checked.expires, now + CACHE_SECONDS)
        _remember(self._verified, digest, (until, checked), CACHE_SIZE)
        return checked

    def _check(self, token: str, now: float) -> Principal | str:
        """The principal, or the code of the refusal."""
        try:
            claims = jwt.decode(token, self._key_for, algorithms=[ALGORITHM]).claims
        except (
            JoseError,
            ValueError,
            TypeError,
            KeyError,
            RecursionError,
        ):  # whatever a forged header can cause
            return "TOK-INVALID"
        parsed = _parse(claims, self._issuer, self._audience)
        if parsed is None or claims["exp"] - claims["iat"] > self._max_lifetime:
            return "TOK-INVALID"
        if parsed.expires <= now:
            return "TOK-EXPIRED"
        if max(claims["nbf"], claims["iat"]) > now + LEEWAY:
            return "TOK-INVALID"
        if parsed.token_id in self._revoked_tokens or parsed.subject.name in self._revoked_subjects:
            return "TOK-REVOKED"
        return parsed

    def _key_for(self, guest: GuestProtocol) -> ECKey:
        """The key that the header names by id; never one that it brings or points to."""
        header = guest.headers()
        if set(header) != _HEADER or header["typ"] != TYPE or header["alg"] != ALGORITHM:
            raise ValueError("another header")
        return self._keys[header["kid"]]


def refusal(code: str) -> Refused:
    """The constant refusal for a code of this module, answered with 401 over HTTP."""
    error = Refused(
        code,
        _REFUSALS[code],
        fix="get a new one: garrison token issue --subject NAME --role user, and send it as a bearer token",
    )
    error.http_status = 401  # type: ignore[misc]  # the class says 403; who did not sign in yet gets 401 (RFC 9110)
    return error


def _parse(claims: Mapping[str, Any], issuer: str, audience: str) -> Principal | None:
    """Every claim there, of its exact type and within bounds; otherwise None."""
    if set(claims) != _CLAIMS or claims["iss"] != issuer or claims["aud"] != audience:
        return None
    times = (claims["iat"], claims["nbf"], claims["exp"])
    if not all(type(moment) is int and 0 <= moment < 1 << 40 for moment in times):
        return None
    if not claims["iat"] <= claims["nbf"] < claims["exp"]:
        return None
    if not _is_name(claims["sub"]) or not _is_name(claims["jti"]):
        return None
    roles, models = claims["roles"], claims["models"]
    if not _is_names(roles, MAX_ROLES) or not _is_names(models, MAX_MODELS) or not roles:
        return None
    subject = Subject(kind_of(roles), claims["sub"], frozenset(roles), frozenset(models), via="token")
    return Principal(subject, float(claims["exp"]), claims["jti"])


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


def _is_names(value: Any, limit: int) -> bool:
    return isinstance(value, list) and len(value) <= limit and all(_is_name(item) for item in value)


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _remember(cache: dict[bytes, Any], key: bytes, value: Any, size: int) -> None:
    """Keep the newest `size` entries: what was written first goes first."""
    cache.pop(key, None)
    if len(cache) >= size:
        del cache[next(iter(cache))]
    cache[key] = value
