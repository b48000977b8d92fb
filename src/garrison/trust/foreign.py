"""Tokens of other issuers: verified against keys that were fetched before, never while a request waits.

The header chooses among the keys of the issuer that the claims name, and says nothing else: no key that it brings
or points to (`jwk`, `jku`, `x5c`, `x5u`), no extension (`crit`), nothing encrypted or nested. A key verifies one
algorithm. `iss`, `aud`, `exp`, `nbf` and `iat` have to be there.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from garrison.core.decision import Subject
from garrison.trust import strict_json
from garrison.trust.identity import LEEWAY, MAX_MODELS, MAX_ROLES, Denied, Principal, is_name
from garrison.trust.issuers import SEPARATOR, Issuer
from garrison.trust.jwks import KeySet, VerifyKey
from garrison.trust.roles import kind_of

MAX_HEADER = 2_048  # characters of base64url; theirs have up to 300
MAX_GROUPS = 1_000  # values of a roles claim: more are not one person's
_HEADER = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})  # the last two only name a certificate
# An ID token of OpenID Connect or an access token (RFC 9068); never a logout token, a DPoP proof or the like.
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class IssuerKeys:
    """An issuer with the keys that were fetched from it, good until `until` (seconds since 1970)."""

    issuer: Issuer
    keys: KeySet
    until: float


@dataclass(slots=True)
class ForeignTokens:
    """Checks tokens of all known issuers. `unknown` collects issuers whose token named a key we lack."""

    known: Mapping[str, IssuerKeys]
    unknown: set[str] = field(default_factory=set)

    @staticmethod
    def of(known: Sequence[IssuerKeys]) -> ForeignTokens:
        return ForeignTokens({one.issuer.url: one for one in known})

    def check(self, token: str, now: float) -> Principal | Denied:
        """The principal, or why not. Never raises."""
        parts = token.split(".")
        if len(parts) != 3 or len(parts[0]) > MAX_HEADER:
            return Denied("TOK-INVALID", "shape")  # five parts would be encrypted
        try:
            header, claims = _object(parts[0]), _object(parts[1])
        except (ValueError, binascii.Error):
            return Denied("TOK-INVALID", "shape")
        source = self.known.get(claims["iss"]) if isinstance(claims.get("iss"), str) else None
        if source is None:
            return Denied("TOK-INVALID", "issuer")
        if not set(header) <= _HEADER or str(header.get("typ", "JWT")).lower() not in _TYPES:
            return Denied("TOK-INVALID", "header")
        if now >= source.until:
            return Denied("TOK-ISSUER", "keys")
        key = self._key(source, header)
        if key is None:
            return Denied("TOK-INVALID", "key")
        if header["alg"] not in key.algorithms or header["alg"] not in source.issuer.algorithms:
            return Denied("TOK-INVALID", "algorithm")
        if not _is_signed(token, key, header["alg"]):
            return Denied("TOK-INVALID", "signature")
        return _principal(claims, source.issuer, now)

    def _key(self, source: IssuerKeys, header: Mapping[str, Any]) -> VerifyKey | None:
        kid = header.get("kid", "")
        if not isinstance(kid, str) or not isinstance(header.get("alg"), str):
            return None
        key = source.keys.keys.get(kid)
        if key is None and not kid and len(source.keys.keys) == 1:  # RFC 7515 section 4.1.4: it is optional
            return next(iter(source.keys.keys.values()))
        if key is None:
            self.unknown.add(source.issuer.url)
        return key


def _object(part: str) -> dict[str, Any]:
    if not _BASE64URL.fullmatch(part):
        raise ValueError("base64url")
    value = strict_json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), 64 * 1024)
    if not isinstance(value, dict):
        raise ValueError("object")
    return value


def _is_signed(token: str, key: VerifyKey, algorithm: str) -> bool:
    try:
        if isinstance(key.key, OKPKey):  # joserfc warns of the older of the two names that Ed25519 has
            signed, _, signature = token.rpartition(".")
            return _is_ed25519(key.key, signed.encode(), base64.urlsafe_b64decode(signature + "=="))
        jws.deserialize_compact(token.encode(), key.key, algorithms=[algorithm])
    except (JoseError, ValueError, TypeError, KeyError):
        return False
    return True


def _is_ed25519(key: OKPKey, signed: bytes, signature: bytes) -> bool:
    public = key.public_key
    try:
        if isinstance(public, Ed25519PublicKey):
            public.verify(signature, signed)
            return True
    except InvalidSignature:
        return False
    return False


def _principal(claims: Mapping[str, Any], issuer: Issuer, now: float) -> Principal | Denied:
    """What the claims of a well-signed token are worth here."""
    name = _subject(claims, issuer)
    denied = _times(claims, issuer, now)
    if denied is not None or not name:
        why = denied or Denied("TOK-INVALID", "subject")
        return Denied(why.code, why.why, name)
    audience = claims.get("aud")
    if issuer.audience not in (audience if isinstance(audience, list) else [audience]):
        return Denied("TOK-INVALID", "audience", name)
    wanted: dict[str, set[str]] = {}
    for claim, value in issuer.conditions:
        wanted.setdefault(claim, set()).add(value)
    if any(_text(_found(claims, claim)) not in values for claim, values in wanted.items()):
        return Denied("TOK-INVALID", "condition", name)
    roles = _roles(claims, issuer)
    models = _models(claims, issuer)
    tenant = _found(claims, issuer.claim("tenant")) if issuer.claim("tenant") else ""
    bound = _bound(claims)
    if (
        not roles
        or len(roles) > MAX_ROLES
        or models is None
        or (tenant and not is_name(tenant))
        or bound is None
    ):
        return Denied("TOK-INVALID", "rights", name)
    subject = Subject(kind_of(roles), name, roles, models, via=f"oidc {issuer.name}")
    token_id = claims.get("jti")
    return Principal(
        subject,
        float(claims["exp"]),
        token_id if isinstance(token_id, str) and is_name(token_id) else "",
        tenant=f"{issuer.name}{SEPARATOR}{tenant}" if tenant else "",
        certificate=bound,
    )


def _subject(claims: Mapping[str, Any], issuer: Issuer) -> str:
    found = _found(claims, issuer.claim("sub"))
    name = f"{issuer.name}{SEPARATOR}{found}" if isinstance(found, str) and found else ""
    return name if is_name(name) and " " not in name else ""


def _times(claims: Mapping[str, Any], issuer: Issuer, now: float) -> Denied | None:
    begins: Any = claims.get("nbf", None if issuer.needs_nbf else claims.get("iat"))
    issued: Any = claims.get("iat")
    ends: Any = claims.get("exp")
    if not all(type(moment) in (int, float) and 0 <= moment < 1 << 40 for moment in (begins, issued, ends)):
        return Denied("TOK-INVALID", "times")
    if ends - min(begins, issued) > issuer.longest or ends <= begins:
        return Denied("TOK-INVALID", "lifetime")
    if ends <= now:
        return Denied("TOK-EXPIRED", "expired")
    return Denied("TOK-INVALID", "early") if max(begins, issued) > now + LEEWAY else None


def _roles(claims: Mapping[str, Any], issuer: Issuer) -> frozenset[str]:
    """Roles of ours. A value without a grant is nothing, whatever it is called."""
    found = _found(claims, issuer.claim("roles")) if issuer.grants else None
    values = found if isinstance(found, list) else [found]
    theirs = {value for value in values[:MAX_GROUPS] if isinstance(value, str)}
    return frozenset(issuer.roles) | {role for value, role in issuer.grants if value in theirs}


def _models(claims: Mapping[str, Any], issuer: Issuer) -> frozenset[str] | None:
    """The models of the token, None when it has none: no models may never be read as all of them."""
    limit = frozenset(issuer.models)
    claim = issuer.claim("models")
    if not claim:
        return limit
    found = _found(claims, claim)
    values = found if isinstance(found, list) else [found]
    if not values or len(values) > MAX_MODELS or not all(is_name(value) for value in values):
        return None
    asked = frozenset(values)
    return (asked & limit if limit else asked) or None


def _bound(claims: Mapping[str, Any]) -> str | None:
    """The certificate that the token is bound to (RFC 8705); None when it is bound to something else."""
    confirmation = claims.get("cnf")
    if confirmation is None:
        return ""
    if not isinstance(confirmation, dict) or set(confirmation) != {"x5t#S256"}:
        return None
    thumbprint = confirmation["x5t#S256"]
    return thumbprint if isinstance(thumbprint, str) and len(thumbprint) == 43 else None


def _found(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name, or by a path with dots where there is none of that name."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _text(value: Any) -> str:
    """A claim as it is compared with a condition: only texts and true/false can be equal to one."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else ""
