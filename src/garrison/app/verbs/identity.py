"""Verbs about who may do what: users, tokens."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from garrison.app.house import House
from garrison.app.people import compare_users
from garrison.app.verbs.base import Call, Verb, authorise, event_of, identity_name
from garrison.app.verbs.owner import escalations
from garrison.core.actions import Action
from garrison.core.digest import check_name
from garrison.core.errors import Refused, Usage
from garrison.core.event import Outcome, format_time
from garrison.trust import store
from garrison.trust.identity import is_name, mint
from garrison.trust.issuers import SEPARATOR
from garrison.trust.mtls import read_shown
from garrison.trust.people import People, facts_of_user
from garrison.trust.roles import ROLES, kind_of

MAX_CERTIFICATE = 16 * 1024  # bytes of PEM
MAX_EMAIL = 254  # RFC 5321 section 4.5.3.1.3


def user_add(house: House, call: Call) -> dict[str, Any]:
    name = identity_name(call.text("name"))
    roles = _roles(call.texts("roles"))
    authorise(house, call.subject, Action.USER_WRITE, name)
    email = call.optional("email") or ""
    if len(email) > MAX_EMAIL or any(ord(character) < 33 for character in email):
        raise Usage(
            "ID-SYNTAX", "that is not an e-mail address", fix="give an address such as dana@example.com"
        )
    models = [check_name(model) for model in call.texts("models")]
    people = house.people()
    if name in people.groups:
        raise Refused("ID-TAKEN", f"{name} is a group", fix="give the person or service another name")
    if kind_of(roles) == "service" and not models:
        raise Usage(
            "ARG-MISSING",
            f"{name} would be a service account without a model",
            fix=f"garrison user add {name} --role {sorted(roles)[0]} --model MODEL",
        )
    user = store.User(name, email, frozenset(roles))
    with house.ledger.transaction() as transaction:
        if "admin" not in roles:
            _refuse_for_last_admin(people, name)
        store.save_user(transaction.connection, user, by=call.subject.actor, now=house.now())
        facts = facts_of_user(user, models)
        audit_id = transaction.append(event_of(house, call, Action.USER_WRITE, name, **facts))
    house.publish_snapshot()
    return {**user.as_json(), "models": sorted(models), "audit_id": audit_id}


def user_disable(house: House, call: Call) -> dict[str, Any]:
    name = _known_name(call.text("name"))
    authorise(house, call.subject, Action.USER_WRITE, name)
    people, known = house.people(), house.user(name)
    if known is None and SEPARATOR in name:
        known = store.User(name)  # of another issuer: it has no row before it is disabled
    with house.ledger.transaction() as transaction:
        if known is None:
            raise _unknown(name)
        _refuse_for_last_admin(people, name)
        user = store.User(known.name, known.email, known.roles, disabled=True)
        store.save_user(transaction.connection, user, by=call.subject.actor, now=house.now())
        audit_id = transaction.append(event_of(house, call, Action.USER_WRITE, name, disabled=True))
    house.publish_snapshot()
    return {**user.as_json(), "without_owner": _escalated(house, name), "audit_id": audit_id}


def user_enable(house: House, call: Call) -> dict[str, Any]:
    """A disabled identity may do again what its roles say; of another issuer, what its tokens say."""
    name = _known_name(call.text("name"))
    authorise(house, call.subject, Action.USER_WRITE, name)
    people, known = house.people(), house.user(name)
    if known is None or not known.disabled:
        raise _unknown(f"{name} that is disabled")
    user = store.User(known.name, known.email, known.roles)
    facts = facts_of_user(user, people.persons[name].models)
    with house.ledger.transaction() as transaction:
        store.save_user(transaction.connection, user, by=call.subject.actor, now=house.now())
        audit_id = transaction.append(event_of(house, call, Action.USER_WRITE, name, **facts))
    house.publish_snapshot()
    return {**user.as_json(), "audit_id": audit_id}


def _known_name(name: str) -> str:
    """A name of ours, or `ISSUER|SUBJECT`, where the subject is whatever that issuer calls it."""
    if SEPARATOR in name and is_name(name) and " " not in name:
        return name
    return identity_name(name)


def _unknown(name: str) -> Usage:
    return Usage("ID-UNKNOWN", f"there is no user {name}", fix="garrison user list shows who there is")


def _escalated(house: House, name: str) -> list[dict[str, Any]]:
    """What is left without somebody who answers, each with its event for those who have to name another."""
    rows = escalations(house, name)
    for row in rows:
        house.record(
            house.event(
                Action.OWNER_ESCALATE,
                row["model"],
                outcome=Outcome.DENIED,
                code="GOV-OWNER",
                left=name,
                escalate_to=row["escalate_to"],
            )
        )
    return rows


def user_list(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.POSTURE_READ, "users")
    people = house.people()
    with house.database.read() as connection:
        rows = store.users(connection)
    edited = compare_users(people, rows)
    users = [
        {
            **user.as_json(),
            "models": sorted(people.persons[user.name].models if user.name in people.persons else ()),
            "kind": kind_of(user.roles),
            "problem": edited.get(user.name, ""),
        }
        for user in rows
    ]
    groups = [{"name": name, "members": sorted(members)} for name, members in sorted(people.groups.items())]
    return {"users": users, "groups": groups}


def token_issue(house: House, call: Call) -> dict[str, Any]:
    """A signed, short-lived access token. The answer holds it; the ledger holds only its id."""
    subject = identity_name(call.text("subject"))
    roles = _roles(call.texts("roles"))
    models = [check_name(model) for model in call.texts("models")]
    seconds = call.body.get("ttl", house.settings.token_ttl)
    if type(seconds) is not int:  # True is an int to isinstance
        raise Usage("ARG-MISSING", "ttl is not a whole number of seconds", fix="give a lifetime such as 10m")
    authorise(house, call.subject, Action.TOKEN_ISSUE, subject)
    now = house.now()
    claims: dict[str, Any] = {
        "sub": subject,
        "roles": sorted(roles),
        "models": sorted(models),
        "jti": secrets.token_hex(16),
    }
    if tenant := call.optional("tenant"):
        claims["tenant"] = identity_name(tenant)
    if bound := call.optional("certificate"):
        claims["cnf"] = {"x5t#S256": _thumbprint(bound)}
    token = mint(claims, house.token_signer, now, ttl=seconds)
    expires = now + timedelta(seconds=seconds)
    with house.ledger.transaction() as transaction:
        audit_id = transaction.append(
            event_of(
                house,
                call,
                Action.TOKEN_ISSUE,
                subject,
                token_id=claims["jti"],
                roles=claims["roles"],
                models=claims["models"],
                seconds=seconds,
            )
        )
    return {"token": token, "token_id": claims["jti"], "expires": format_time(expires), "audit_id": audit_id}


def _thumbprint(pem: str) -> str:
    """Of the certificate that a token is bound to. Raises `Usage` TOK-CLAIMS."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode()[:MAX_CERTIFICATE])
    except ValueError as error:
        raise Usage(
            "TOK-CLAIMS", "that is not a certificate in PEM", fix="give the client's certificate"
        ) from error
    return read_shown(certificate.public_bytes(Encoding.DER)).thumbprint


def token_revoke(house: House, call: Call) -> dict[str, Any]:
    token_id = call.text("token_id")
    # Before it is quoted anywhere: people paste the token itself.
    if len(token_id) != 32 or not set(token_id) <= set("0123456789abcdef"):
        raise Usage(
            "ID-SYNTAX", "that is not a token id", fix="garrison audit list --kind token.issue shows the ids"
        )
    authorise(house, call.subject, Action.TOKEN_REVOKE, token_id)
    until = house.now() + timedelta(days=1)
    with house.ledger.transaction() as transaction:
        store.revoke_token(transaction.connection, token_id, "", until)
        audit_id = transaction.append(event_of(house, call, Action.TOKEN_REVOKE, token_id))
    house.publish_snapshot()
    return {"token_id": token_id, "audit_id": audit_id}


def _refuse_for_last_admin(people: People, name: str) -> None:
    """There is always somebody who can add others. Raises `Refused` ID-LAST-ADMIN."""
    admins = [one.name for one in people.persons.values() if "admin" in one.roles and not one.disabled]
    if admins == [name]:
        raise Refused(
            "ID-LAST-ADMIN",
            f"{name} is the last administrator",
            fix="make another one first: garrison user add NAME --role admin",
        )


def _roles(names: list[str]) -> list[str]:
    unknown = sorted(set(names) - set(ROLES))
    if unknown or not names:
        raise Usage(
            "ROLE-UNKNOWN",
            f"{unknown[0]!r} is not a role" if unknown else "no role was given",
            fix=f"the roles are {', '.join(sorted(ROLES))}",
        )
    return names


IDENTITY_VERBS = (
    Verb("user.add", Action.USER_WRITE, user_add),
    Verb("user.disable", Action.USER_WRITE, user_disable),
    Verb("user.enable", Action.USER_WRITE, user_enable),
    Verb("user.list", Action.POSTURE_READ, user_list),
    Verb("token.issue", Action.TOKEN_ISSUE, token_issue),
    Verb("token.revoke", Action.TOKEN_REVOKE, token_revoke),
)
