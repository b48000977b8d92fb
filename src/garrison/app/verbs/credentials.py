"""Verbs that hand out something to sign in with: delegated tokens, API keys, client certificates. All end soon."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise, event_of, identity_name
from garrison.core.actions import Action
from garrison.core.digest import check_name
from garrison.core.errors import Refused, Usage
from garrison.core.event import format_time
from garrison.trust.api_keys import MAX_API_KEYS, ApiKey, key_hash, new_api_key, parse_api_key
from garrison.trust.ca import ensure_ca
from garrison.trust.identity import MAX_LIFETIME, MAX_TOKEN, Principal, mint
from garrison.trust.mtls import CLIENT_LIFETIME, PREFIX, issue_client, read_shown

EXCHANGED_SECONDS = 5 * 60  # a delegated token is for one piece of work


def token_exchange(house: House, call: Call) -> dict[str, Any]:
    """A token by which an agent acts for somebody (RFC 8693). Possession of both tokens is the authority.

    It ends with the first of the two, is withdrawn with either of them, and is worth what both are worth.
    """
    user = _party(house, call, "subject_token")
    agent = _party(house, call, "actor_token")
    for model in sorted(agent.subject.models) or ["*"]:
        authorise(house, agent.subject, Action.TOKEN_EXCHANGE, model)
    if agent.subject.name == user.subject.name:
        raise Refused(
            "TOK-EXCHANGE",
            "nobody acts for themselves",
            fix="give the agent an identity and a token of its own",
        )
    now = house.now()
    left = min(user.expires, agent.expires) - now.timestamp()
    seconds = min(EXCHANGED_SECONDS, int(left))
    claims = {
        **_claims(user),
        "jti": secrets.token_hex(16),
        "act": {**_claims(agent), "from": [one for one in (user.token_id, agent.token_id) if one]},
        **({"tenant": user.tenant} if user.tenant else {}),
    }
    token = mint(claims, house.token_signer, now, ttl=seconds)
    with house.ledger.transaction() as transaction:
        facts = {"agent": agent.subject.name, "token_id": claims["jti"], "seconds": seconds}
        audit_id = transaction.append(
            event_of(
                house, call, Action.TOKEN_EXCHANGE, user.subject.name, **facts, parents=claims["act"]["from"]
            )
        )
    expires = format_time(now + timedelta(seconds=seconds))
    # The members that RFC 8693 section 2.2.1 asks for, and ours.
    return {
        "access_token": token,
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": seconds,
        "token_id": claims["jti"],
        "expires": expires,
        "audit_id": audit_id,
    }


def api_key_issue(house: House, call: Call) -> dict[str, Any]:
    """A key for a client that cannot fetch tokens: shown once, kept as a hash, limited to models, gone in a day."""
    subject = identity_name(call.text("subject"))
    models = [check_name(model) for model in call.texts("models")]
    seconds = call.body.get("ttl", house.settings.token_ttl)
    if type(seconds) is not int or not 1 <= seconds <= MAX_LIFETIME:
        raise Refused(
            "TOK-TTL",
            "an API key lives from 1 second to 24 hours",
            fix="ask for at most 24h, or leave it out",
            evidence={"limit": MAX_LIFETIME},
        )
    if not models:
        raise Usage(
            "ARG-MISSING", "an API key names its models", fix="--model MODEL, more than once for several"
        )
    authorise(house, call.subject, Action.APIKEY_ISSUE, subject)
    now, key = house.now(), new_api_key()
    known = [one for one in house.people().access.api_keys.values() if one.expires > now.timestamp()]
    if len(known) >= MAX_API_KEYS:
        raise Refused("TOK-TTL", f"there are {MAX_API_KEYS} API keys", fix="wait until some have ended")
    facts = {
        "key_id": secrets.token_hex(16),
        "hash": key_hash(key),
        "sub": subject,
        "roles": ["user"],
        "models": sorted(models),
        "expires": int(now.timestamp()) + seconds,
    }
    made: ApiKey = parse_api_key(facts)
    with house.ledger.transaction() as transaction:
        event = event_of(
            house, call, Action.APIKEY_ISSUE, subject, issued_key=facts, seconds=seconds, token_id=made.key_id
        )
        audit_id = transaction.append(event)
    house.publish_snapshot()
    expires = format_time(now + timedelta(seconds=seconds))
    return {"token": key, "token_id": made.key_id, "expires": expires, "audit_id": audit_id}


def certificate_issue(house: House, call: Call) -> dict[str, Any]:
    """A client certificate with the SPIFFE name of a workload, for the key in its signing request."""
    name = identity_name(call.text("name"))
    authorise(house, call.subject, Action.CERT_ISSUE, name)
    person = house.people().persons.get(name)
    if person is None or person.disabled:
        raise Usage(
            "ID-UNKNOWN",
            f"there is no service account {name}",
            fix=f"garrison user add {name} --role service --model MODEL",
        )
    seconds = call.body.get("ttl", int(CLIENT_LIFETIME.total_seconds()))
    if type(seconds) is not int:
        raise Usage("ARG-MISSING", "ttl is not a whole number of seconds", fix="give a lifetime such as 24h")
    signer, now = house.token.signer("ca"), house.now()
    authority = ensure_ca(house.settings.data / "ca.pem", signer, now)
    leaf = issue_client(
        authority, signer, call.text("request").encode(), name, now, timedelta(seconds=seconds)
    )
    shown = read_shown(leaf.public_bytes(Encoding.DER))
    with house.ledger.transaction() as transaction:
        facts: dict[str, Any] = {
            "token_id": shown.cert_id,
            "thumbprint": shown.thumbprint,
            "seconds": seconds,
        }
        audit_id = transaction.append(event_of(house, call, Action.CERT_ISSUE, name, **facts))
    house.publish_snapshot()
    return {
        "certificate": leaf.public_bytes(Encoding.PEM).decode()
        + authority.public_bytes(Encoding.PEM).decode(),
        "spiffe": PREFIX + name,
        "thumbprint": shown.thumbprint,
        "token_id": shown.cert_id,
        "expires": format_time(leaf.not_valid_after_utc),
        "audit_id": audit_id,
    }


def _party(house: House, call: Call, field: str) -> Principal:
    """Whose token that is. Raises as tokens are refused, and TOK-EXCHANGE for one that is delegated or bound."""
    token = call.text(field)
    if len(token) > MAX_TOKEN:
        raise Usage("TOK-EXCHANGE", f"{field} is too long for a token", fix="give the token itself")
    principal = house.principal(token)
    if principal.agent is not None or principal.certificate:
        raise Refused(
            "TOK-EXCHANGE",
            "a token that is delegated already, or bound to a certificate, is not passed on",
            fix="use the user's own token and the agent's own token",
        )
    return principal


def _claims(principal: Principal) -> dict[str, Any]:
    subject = principal.subject
    return {"sub": subject.name, "roles": sorted(subject.roles), "models": sorted(subject.models)}


CREDENTIAL_VERBS = (
    Verb("token.exchange", Action.TOKEN_EXCHANGE, token_exchange),
    Verb("token.api-key", Action.APIKEY_ISSUE, api_key_issue),
    Verb("user.certificate", Action.CERT_ISSUE, certificate_issue),
)
