"""Verbs about who answers for a model: owners, groups, and the table of who is accountable."""

from __future__ import annotations

from typing import Any

from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise, event_of, identity_name
from garrison.artifacts import store as registry
from garrison.artifacts.ownership import Answering, answering, check_owner
from garrison.core.actions import Action
from garrison.core.digest import check_name
from garrison.core.errors import GarrisonError, Refused, Usage
from garrison.trust import store
from garrison.trust.people import RACI, People

MAX_PEOPLE = 64  # in one group or one cell of the table: more are a mailing list


def owner_set(house: House, call: Call) -> dict[str, Any]:
    """Name who is accountable, and those in the other columns that were given."""
    model = check_name(call.text("model"))
    owner = call.optional("accountable") or call.optional("owner") or ""
    table = {role: _names(call, role) for role in RACI if call.body.get(role) is not None}
    authorise(house, call.subject, Action.OWNER_WRITE, model)
    people = house.people()
    if not owner and not table:
        raise Usage("ARG-MISSING", "nobody was named", fix=f"garrison owner set {model} PERSON")
    if owner:
        _check_known(people, identity_name(owner))
        check_owner(people, model, owner)
    for name in (name for names in table.values() for name in names):
        _check_known(people, name)
    data: dict[str, Any] = {**({"owner": owner} if owner else {}), **table}
    with house.ledger.transaction() as transaction:
        if owner:
            store.set_owner(transaction.connection, model, owner, by=call.subject.actor, now=house.now())
        audit_id = transaction.append(event_of(house, call, Action.OWNER_WRITE, model, **data))
    return {**_row(house, model).as_json(), "audit_id": audit_id}


def owner_list(house: House, call: Call) -> dict[str, Any]:
    """Every model of the registry with who answers for it."""
    authorise(house, call.subject, Action.POSTURE_READ, "owners")
    with house.database.read() as connection:
        models = registry.owners_by_release(connection)
    people = house.people()
    rows = [answering(people, model, owner) for model, owner in sorted(models.items())]
    return {"schema": "garrison.raci/1", "models": [row.as_json() for row in rows]}


def owner_raci(house: House, call: Call) -> dict[str, Any]:
    model = check_name(call.text("model"))
    authorise(house, call.subject, Action.POSTURE_READ, model)
    return {"schema": "garrison.raci/1", "models": [_row(house, model).as_json()]}


def owner_group(house: House, call: Call) -> dict[str, Any]:
    """Make a group that can own models, or replace its members."""
    name = identity_name(call.text("name"))
    members = _names(call, "members")
    authorise(house, call.subject, Action.USER_WRITE, name)
    people = house.people()
    if name in people.persons:
        raise Refused(
            "ID-TAKEN", f"{name} is a person", fix="give the group a name that no person or service has"
        )
    for member in members:
        if member not in people.persons:
            raise _unknown(member)
    audit_id = house.record(event_of(house, call, Action.USER_WRITE, name, members=members))
    return {"group": name, "members": members, "audit_id": audit_id}


def check_or_claim(house: House, call: Call, model: str, owner: str) -> None:
    """Before a publication: somebody answers for the model, or the publisher begins to.

    The first version of a model may name a group that nobody made yet, when whoever publishes it may name
    owners: the group is made, with the publisher in it. Raises `Refused` GOV-OWNER.
    """
    people = house.people()
    if people.knows(owner) or model in people.owners:
        check_owner(people, model, owner)
        return
    publisher = people.persons.get(call.subject.name)
    try:
        authorise(house, call.subject, Action.OWNER_WRITE, model)
    except GarrisonError:
        check_owner(people, model, owner)
        return
    if publisher is None or publisher.disabled:
        check_owner(people, model, owner)
    members, reason = [call.subject.name], f"owns {model}"
    house.record(event_of(house, call, Action.USER_WRITE, owner, members=members, reason=reason))


def escalations(house: House, name: str) -> list[dict[str, Any]]:
    """The models for which nobody answers any more once a person left, and who has to name somebody."""
    people = house.people()
    rows = [answering(people, model) for model in people.owned_by(name)]
    return [
        {"model": row.model, "escalate_to": list(row.escalate_to), "next": row.next}
        for row in rows
        if not row.is_live
    ]


def _row(house: House, model: str) -> Answering:
    with house.database.read() as connection:
        models = registry.owners_by_release(connection, model)
    people = house.people()
    if model not in models and model not in people.owners:
        raise Refused(
            "ART-UNKNOWN",
            f"there is no {model} in the registry",
            fix="garrison model list shows what there is",
        )
    return answering(people, model, models.get(model, ""))


def _names(call: Call, key: str) -> list[str]:
    names = [identity_name(name) for name in call.texts(key)]
    if len(names) > MAX_PEOPLE:
        raise Usage("ARG-MISSING", f"{key} names {len(names)}", fix=f"name at most {MAX_PEOPLE}")
    return sorted(set(names))


def _check_known(people: People, name: str) -> None:
    if not people.knows(name):
        raise _unknown(name)


def _unknown(name: str) -> Refused:
    return Refused(
        "GOV-OWNER",
        f"there is no person or group {name}",
        fix=f"garrison user add {name} --role ROLE, or garrison owner group {name} --member PERSON",
    )


OWNER_VERBS = (
    Verb("owner.set", Action.OWNER_WRITE, owner_set),
    Verb("owner.list", Action.POSTURE_READ, owner_list),
    Verb("owner.raci", Action.POSTURE_READ, owner_raci),
    Verb("owner.group", Action.USER_WRITE, owner_group),
)
