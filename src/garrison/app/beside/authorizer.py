"""A Lambda authorizer for Amazon API Gateway that checks Garrison's access tokens offline. Standard library only.

Put this file and `jwks.json` (garrison gateway jwks > jwks.json) into one function, handler `authorizer.handler`.
It checks what a token says of itself: signature (ES256), issuer, audience, times, length of life, a bound certificate.
It knows of no revocation, limit, policy or prompt: the gateway behind it checks everything again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ISSUER, AUDIENCE = "garrison", "garrison"
MAX_TOKEN, MAX_LIFETIME, LEEWAY = 8 * 1024, 24 * 60 * 60, 5
_TOKEN = re.compile(r"[Bb]earer ([A-Za-z0-9_-]{1,1024}\.[A-Za-z0-9_-]{1,8192}\.[A-Za-z0-9_-]{86})\Z")
_ARN = re.compile(r"(arn:aws[a-z-]*:execute-api:[a-z0-9-]+:[0-9]*:[a-zA-Z0-9]+/[^/]+)/")

# P-256 (FIPS 186-5, SP 800-186). Only public values are worked on, so the time it takes says nothing.
_P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
_Point = tuple[int, int]
_Jacobian = tuple[int, int, int]  # z is 0 for the point at infinity
_NOWHERE: _Jacobian = (1, 1, 0)


class Denied(Exception):
    """The token is not good; which of its checks failed is for the log, not for the caller."""


def handler(event: Mapping[str, Any], _context: object = None) -> dict[str, Any]:
    """What API Gateway calls: REST APIs (TOKEN and REQUEST) get a policy, HTTP APIs (2.0) a plain answer."""
    plain = event.get("version") == "2.0"
    try:
        claims = check(_given(event), known_keys(), time.time(), _shown(event))
    except Denied as denied:
        print(json.dumps({"denied": str(denied)}))
        return {"isAuthorized": False} if plain else _policy("Deny", "nobody", event, {})
    told = {"subject": claims["sub"], "token_id": claims["jti"], "expires": str(claims["exp"])}
    return {"isAuthorized": True, "context": told} if plain else _policy("Allow", claims["sub"], event, told)


def check(given: str, keys: Mapping[str, _Point], now: float, certificate: str = "") -> dict[str, Any]:
    """The claims of a good token. `certificate` is the SHA-256 of what the client showed, as RFC 8705 writes it."""
    found = _TOKEN.match(given) if len(given) <= MAX_TOKEN else None
    if found is None:
        raise Denied("shape")
    head, body, signature = found.group(1).split(".")
    header, claims = _object(head), _object(body)
    if set(header) != {"alg", "typ", "kid"} or header["alg"] != "ES256" or header["typ"] != "at+jwt":
        raise Denied("header")
    key = keys.get(header["kid"]) if isinstance(header["kid"], str) else None
    if key is None:
        raise Denied("key")
    if not is_signed(f"{head}.{body}".encode(), _bytes(signature), key):
        raise Denied("signature")
    _check_claims(claims, now)
    bound = claims.get("cnf")
    if bound is not None and (not certificate or bound != {"x5t#S256": certificate}):
        raise Denied("certificate")
    return claims


def _check_claims(claims: Mapping[str, Any], now: float) -> None:
    times = [claims.get(name) for name in ("iat", "nbf", "exp")]
    if claims.get("iss") != ISSUER or claims.get("aud") != AUDIENCE:
        raise Denied("audience")
    if not all(type(moment) is int for moment in times):
        raise Denied("claims")
    issued, begins, ends = times
    assert isinstance(issued, int)
    assert isinstance(begins, int)
    assert isinstance(ends, int)
    if not issued <= begins < ends or ends - issued > MAX_LIFETIME:
        raise Denied("claims")
    if not all(isinstance(claims.get(name), str) and claims[name] for name in ("sub", "jti")):
        raise Denied("claims")
    if ends <= now or max(issued, begins) > now + LEEWAY:
        raise Denied("time")


def known_keys() -> dict[str, _Point]:
    """The keys of `jwks.json` beside this file, by id; nothing but P-256 signing keys counts."""
    place = os.environ.get("GARRISON_JWKS") or str(Path(__file__).with_name("jwks.json"))
    try:
        listed = json.loads(Path(place).read_text())["keys"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Denied("no keys") from error
    found = {}
    for one in listed if isinstance(listed, list) else []:
        if not isinstance(one, dict) or one.get("kty") != "EC" or one.get("crv") != "P-256":
            continue
        if one.get("use", "sig") != "sig" or one.get("alg", "ES256") != "ES256":
            continue
        x, y = (int.from_bytes(_bytes(str(one.get(name, ""))), "big") for name in ("x", "y"))
        if x < _P and y < _P and (y * y - (x * x * x - 3 * x + _B)) % _P == 0:
            found[str(one.get("kid"))] = (x, y)
    return found


def is_signed(data: bytes, signature: bytes, key: _Point) -> bool:
    """ECDSA with SHA-256 over P-256 (FIPS 186-5 section 6.4.2), the signature as r and s (RFC 7518 section 3.4)."""
    if len(signature) != 64:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if not (0 < r < _N and 0 < s < _N):
        return False
    inverse = pow(s, -1, _N)
    first = int.from_bytes(hashlib.sha256(data).digest(), "big") * inverse % _N
    x, _, z = _combined(first, _G, r * inverse % _N, key)
    if z == 0:
        return False
    return x * pow(z, -2, _P) % _P % _N == r


def _combined(first: int, one: _Point, second: int, other: _Point) -> _Jacobian:
    """`first * one + second * other`, bit by bit for both at once."""
    points = {1: (*one, 1), 2: (*other, 1), 3: _added((*one, 1), (*other, 1))}
    total = _NOWHERE
    for bit in range(255, -1, -1):
        total = _doubled(total)
        index = (first >> bit & 1) | (second >> bit & 1) << 1
        if index:
            total = _added(total, points[index])
    return total


def _doubled(point: _Jacobian) -> _Jacobian:
    x, y, z = point
    if z == 0 or y == 0:
        return _NOWHERE
    square = y * y % _P
    slope = 3 * (x - z * z) * (x + z * z) % _P
    between = 4 * x * square % _P
    across = (slope * slope - 2 * between) % _P
    return across, (slope * (between - across) - 8 * square * square) % _P, 2 * y * z % _P


def _added(one: _Jacobian, other: _Jacobian) -> _Jacobian:
    (x1, y1, z1), (x2, y2, z2) = one, other
    if z1 == 0 or z2 == 0:
        return other if z1 == 0 else one
    u1, u2 = x1 * z2 * z2 % _P, x2 * z1 * z1 % _P
    s1, s2 = y1 * z2 * z2 * z2 % _P, y2 * z1 * z1 * z1 % _P
    wide, high = (u2 - u1) % _P, (s2 - s1) % _P
    if wide == 0:
        return _doubled(one) if high == 0 else _NOWHERE
    square = wide * wide % _P
    cube, base = square * wide % _P, u1 * square % _P
    across = (high * high - cube - 2 * base) % _P
    return across, (high * (base - across) - s1 * cube) % _P, wide * z1 * z2 % _P


def _given(event: Mapping[str, Any]) -> str:
    """What stands in the authorization header, of each of the three forms of an event."""
    token = event.get("authorizationToken")
    if token is None:
        headers = event.get("headers")
        values = [
            value
            for name, value in (headers.items() if isinstance(headers, Mapping) else ())
            if str(name).lower() == "authorization"
        ]
        token = values[0] if len(values) == 1 else None
    if not isinstance(token, str) or not token:
        raise Denied("missing")
    return token


def _shown(event: Mapping[str, Any]) -> str:
    """The thumbprint of the client certificate that API Gateway accepted (mutual TLS), if there was one."""
    context = event.get("requestContext")
    context = context if isinstance(context, Mapping) else {}
    identity = context.get("identity") or context.get("authentication") or {}
    shown = identity.get("clientCert") if isinstance(identity, Mapping) else None
    pem = str(shown.get("clientCertPem", "")) if isinstance(shown, Mapping) else ""
    lines = [line for line in pem.split("\n") if line and not line.startswith("-----")]
    try:
        der = base64.b64decode("".join(lines), validate=True)
    except (ValueError, binascii.Error):
        return ""
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode() if der else ""


def _policy(effect: str, who: str, event: Mapping[str, Any], told: dict[str, str]) -> dict[str, Any]:
    """An IAM policy for the whole stage: API Gateway remembers it for a token, whatever its next path is."""
    arn = str(event.get("methodArn") or event.get("routeArn") or "")
    stage = _ARN.match(arn)
    resource = f"{stage.group(1)}/*" if stage else arn or "*"
    if not stage:
        effect = "Deny"
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": resource}
    answer: dict[str, Any] = {
        "principalId": who,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
    }
    return {**answer, "context": told} if told else answer


def _object(part: str) -> dict[str, Any]:
    try:
        value = json.loads(_bytes(part), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Denied("shape") from error
    if not isinstance(value, dict):
        raise Denied("shape")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A name that stands there twice is read differently by different programs."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name stands there twice")
    return value


def _bytes(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise Denied("shape") from error
