"""Verbs about the approved list: approve, take off, list, begin anew; and the environments that have one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from garrison.app import serving
from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise, event_of
from garrison.artifacts import approval, store
from garrison.artifacts.approval import Assent
from garrison.artifacts.registry import get
from garrison.core.actions import Action
from garrison.core.digest import Ref, check_name
from garrison.core.errors import Usage
from garrison.core.event import format_time
from garrison.trust.store import User
from garrison.trust.tuf import entries

MAX_REASON = 1_000  # characters: a sentence or two


def approve(house: House, call: Call) -> dict[str, Any]:
    ref = Ref.parse(call.text("ref"))
    with house.database.read() as connection:
        row = store.find(connection, ref)
    # Whoever may not approve learns nothing about what there is.
    facts = {"publisher": "unknown" if row is None else row.publisher, "approver": call.subject.name}
    authorise(house, call.subject, Action.ARTIFACT_APPROVE, ref.name, **facts)
    release = get(house.registry, ref)
    facts = {"publisher": release.publisher, "approver": call.subject.name}
    authorise(house, call.subject, Action.ARTIFACT_APPROVE, ref.name, **facts)
    user = house.user(call.subject.name)
    persons = house.people().persons
    person = persons.get(call.subject.name)
    fresh = person.fresh_role(("approver", "admin"), house.now()) if person else None
    flag = f"{fresh[0]} since {format_time(fresh[1])}, given by {fresh[2]}" if fresh else ""
    assent = Assent(
        user=user or User(call.subject.name),
        human_of=lambda name: human_of(house, name),
        is_disabled=lambda name: name in persons and persons[name].disabled,
        policy_version=house.policy.version,
        lifetime=timedelta(days=house.settings.approval_days),
        via=call.subject.via,
        environment=call.optional("environment") or "",
        fresh_role=flag,
    )
    return {**approval.approve(house.registry, ref, assent), "fresh_role": flag}


def human_of(house: House, name: str) -> str:
    """What tells the person behind an account from others. Raises `Refused` DB-EDITED."""
    return (house.user(name) or User(name)).human


def unapprove(house: House, call: Call) -> dict[str, Any]:
    """Take a version off the list; what serves of it is stopped, unless keeping it is asked for and recorded."""
    ref = Ref.parse(call.text("ref"))
    reason = _reason(call)
    authorise(house, call.subject, Action.ARTIFACT_UNAPPROVE, ref.name)
    keeps = call.flag("keep_serving")
    with house.deploying:  # a deployment that was admitted before is finished, one after it is refused
        told = f"{reason} (it goes on serving)" if keeps else reason
        result = approval.unapprove(
            house.registry, ref, call.subject, told, call.optional("environment") or ""
        )
    current = house.serving(ref.name)
    is_serving = current is not None and current.ref == ref
    is_here = house.registry.approved.environment in result["environments"]
    if is_serving and is_here and not keeps:
        serving.stop(house, ref.name, call.subject)
    result["stopped"] = is_serving and is_here and not keeps
    result["kept_serving"] = is_serving and is_here and keeps
    return result


def approvals(house: House, call: Call) -> dict[str, Any]:
    name = call.optional("name")
    authorise(house, call.subject, Action.ARTIFACT_READ, name or "registry")
    known = house.registry.approved.current()
    rows = approval.overview(house.registry, check_name(name) if name else None)
    now = house.now()
    for row in rows:
        is_current = row["policy_version"] == house.policy.version and format_time(now) < row["expires"]
        row["deployable"] = is_current
    return {
        "approvals": rows,
        "list": {
            "version": known.pins.timestamp,
            "fresh_until": format_time(known.fresh_until),
            "metadata": str(house.registry.approved.directory / "metadata"),
            "approver_keys": {key.label: key.key_id for key in entries.approver_keys(known)},
        },
    }


def reset(house: House, call: Call) -> dict[str, Any]:
    """Begin the list anew with nothing on it: the way out when the newest files are lost for good."""
    reason = _reason(call)
    authorise(house, call.subject, Action.APPROVALS_RESET, "approvals")
    approved = house.registry.approved
    with approved.changing() as change, house.ledger.transaction() as transaction:
        event = event_of(house, call, Action.APPROVALS_RESET, "approvals", reason=reason)
        audit_id = transaction.append(event)
        approved.reset(transaction, change, f"{audit_id}: begun anew")
    return {"version": approved.current().pins.timestamp, "audit_id": audit_id}


def environment_add(house: House, call: Call) -> dict[str, Any]:
    name = call.text("name")
    authorise(house, call.subject, Action.ENVIRONMENT_ADD, name)
    approved = house.registry.approved
    with approved.changing() as change, house.ledger.transaction() as transaction:
        draft = entries.with_environment(approved.current(), name)
        audit_id = transaction.append(event_of(house, call, Action.ENVIRONMENT_ADD, name))
        change.write(transaction, draft, f"{audit_id}: environment {name}")
    return {"name": name, "audit_id": audit_id}


def environment_list(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.ARTIFACT_READ, "registry")
    known = house.registry.approved.current()
    found = list(entries.listed(known))
    return {
        "environments": [
            {
                "name": name,
                "approved": sum(one.environment == name for one in found),
                "deploys_here": name == house.registry.approved.environment,
            }
            for name in known.environments
        ]
    }


def _reason(call: Call) -> str:
    reason = " ".join(call.text("reason").split())
    if not reason or len(reason) > MAX_REASON:
        raise Usage(
            "ARG-MISSING", f"a reason has 1 to {MAX_REASON} characters", fix="say in a sentence what happened"
        )
    return reason


APPROVAL_VERBS = (
    Verb("model.approve", Action.ARTIFACT_APPROVE, approve),
    Verb("model.unapprove", Action.ARTIFACT_UNAPPROVE, unapprove),
    Verb("approvals.list", Action.ARTIFACT_READ, approvals),
    Verb("approvals.reset", Action.APPROVALS_RESET, reset),
    Verb("environment.add", Action.ENVIRONMENT_ADD, environment_add),
    Verb("environment.list", Action.ARTIFACT_READ, environment_list),
)
