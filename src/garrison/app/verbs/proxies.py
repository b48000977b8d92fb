"""Verbs about proxies in front of the gateway: which ones may say who calls, and by which keys they check tokens."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise, event_of
from garrison.core.actions import Action
from garrison.core.digest import check_name
from garrison.core.errors import Refused, Usage
from garrison.gateway.proxies import MAX_PROXIES, Proxy, parse_proxy
from garrison.trust.identity import ALGORITHM
from garrison.trust.keys.public import PublicKey, parse_public


def proxy_trust(house: House, call: Call) -> dict[str, Any]:
    """List a proxy, or change the entry of that name."""
    proxy = _parsed(call.facts("proxy"))
    authorise(house, call.subject, Action.PROXY_WRITE, proxy.name)
    for model in proxy.models:
        check_name(model)
    access = house.people().access
    if any(issuer.name == proxy.name for issuer in access.issuers.values()):
        raise Refused(
            "PROXY-SYNTAX",
            f"an issuer is called {proxy.name}, and its subjects would be taken for callers of this proxy",
            fix="give the proxy another name",
        )
    if len(access.proxies) >= MAX_PROXIES and proxy.name not in access.proxies:
        raise Refused(
            "PROXY-SYNTAX", f"there are {MAX_PROXIES} proxies", fix="garrison gateway distrust NAME"
        )
    with house.ledger.transaction() as transaction:
        event = event_of(house, call, Action.PROXY_WRITE, proxy.name, proxy=proxy.as_json())
        audit_id = transaction.append(event)
    house.publish_snapshot()
    return {**proxy.as_json(), "audit_id": audit_id}


def proxy_distrust(house: House, call: Call) -> dict[str, Any]:
    name = call.text("name")
    authorise(house, call.subject, Action.PROXY_WRITE, name[:64])
    known = house.people().access.proxies.get(name)
    if known is None:
        raise Usage(
            "PROXY-SYNTAX", "there is no such proxy", fix="garrison gateway proxies shows those there are"
        )
    with house.ledger.transaction() as transaction:
        event = event_of(house, call, Action.PROXY_WRITE, name, proxy=dict(known), removed=True)
        audit_id = transaction.append(event)
    house.publish_snapshot()
    return {"name": name, "audit_id": audit_id}


def proxy_list(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.POSTURE_READ, "proxies")
    proxies = house.people().access.proxies
    return {"proxies": [dict(proxies[name]) for name in sorted(proxies)]}


def _parsed(facts: dict[str, Any]) -> Proxy:
    try:
        return parse_proxy(facts)
    except (ValueError, TypeError) as error:
        raise Usage(
            "PROXY-SYNTAX",
            f"that is no proxy: {error}",
            fix="garrison gateway trust --help shows whole examples",
        ) from error


def jwks(house: House, call: Call) -> dict[str, Any]:
    """The public keys of our access tokens as a key set (RFC 7517), for somebody who checks tokens offline."""
    authorise(house, call.subject, Action.KEY_READ, "token")
    return {"keys": [_as_jwk(key) for key in house.public_keys if key.label == "token"]}


def _as_jwk(key: PublicKey) -> dict[str, str]:
    public = parse_public(key.pem)
    if not isinstance(public, EllipticCurvePublicKey):
        raise TypeError("tokens are signed with ECDSA")
    point = public.public_numbers()
    return {
        "kty": "EC",
        "crv": "P-256",
        "use": "sig",
        "alg": ALGORITHM,
        "kid": key.key_id,
        "x": _coordinate(point.x),
        "y": _coordinate(point.y),
    }


def _coordinate(number: int) -> str:
    return urlsafe_b64encode(number.to_bytes(32, "big")).rstrip(b"=").decode()


PROXY_VERBS = (
    Verb("gateway.jwks", Action.KEY_READ, jwks),
    Verb("gateway.trust", Action.PROXY_WRITE, proxy_trust),
    Verb("gateway.distrust", Action.PROXY_WRITE, proxy_distrust),
    Verb("gateway.proxies", Action.POSTURE_READ, proxy_list),
)
