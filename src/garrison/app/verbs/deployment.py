"""Verbs about what serves: apply, roll back, stop, status."""

from __future__ import annotations

from typing import Any

from garrison.app import serving
from garrison.app.house import House
from garrison.app.serving import Order
from garrison.app.verbs.base import Call, Verb, authorise
from garrison.app.verbs.routes import shown
from garrison.artifacts.ownership import check_owner
from garrison.artifacts.registry import get
from garrison.core.actions import Action
from garrison.core.digest import Ref, check_name
from garrison.core.errors import Refused, Usage
from garrison.runtime import store
from garrison.trust.tuf import entries


def apply(house: House, call: Call) -> dict[str, Any]:
    ref = Ref.parse(call.text("ref"))
    owner = house.people().owners.get(ref.name, "")
    authorise(house, call.subject, Action.DEPLOY_APPLY, ref.name, owner=owner or "nobody")
    owner = owner or get(house.registry, ref).owner
    check_owner(house.people(), ref.name, owner)
    isolation = call.optional("isolation") or house.settings.isolation
    return serving.deploy(house, Order(ref, call.subject, isolation, Action.DEPLOY_APPLY), call.progress)


def rollback(house: House, call: Call) -> dict[str, Any]:
    """Back to a named earlier version, or to the newest approved one before the one that serves.

    Approval and its end are asked as for any deployment. A version whose approval ended is taken only
    with `accept_expired`, from somebody who could approve it.
    """
    name = check_name(call.text("name"))
    wanted = call.body.get("to")
    if wanted is not None and type(wanted) is not int:
        raise Usage("ARG-MISSING", "to is not a version's number", fix="give a number such as --to 2")
    authorise(house, call.subject, Action.DEPLOY_ROLLBACK, name)
    with house.database.read() as connection:
        current = store.find_deployment(connection, name)
    if current is None:
        raise Refused("DEP-NONE", f"{name} was never deployed", fix=f"garrison serve {name}@VERSION")
    target = _earlier(house, name, wanted, current.ref)
    accepts = call.flag("accept_expired")
    if accepts:
        publisher = get(house.registry, target).publisher
        facts = {"publisher": publisher, "approver": call.subject.name}
        authorise(house, call.subject, Action.ARTIFACT_APPROVE, name, **facts)
    order = Order(target, call.subject, current.isolation, Action.DEPLOY_ROLLBACK, accepts_ended=accepts)
    return serving.deploy(house, order, call.progress)


def _earlier(house: House, name: str, wanted: int | None, current: Ref) -> Ref:
    """The newest version below the place that serves, as the approved list has them; a current one first."""
    floor = serving.floor_of(house, name)
    known = house.registry.approved
    found = [
        one.entry
        for one in entries.listed(known.current(), name)
        if one.environment == known.environment
        and one.entry.counter < floor
        and one.entry.ref != current
        and wanted in (None, one.entry.ref.version)
    ]
    if not found:
        raise Refused(
            "DEP-NO-EARLIER",
            f"there is no approved version of {name} before {current}"
            + (f" numbered {wanted}" if wanted else ""),
            evidence={"serving": str(current)},
            fix=f"garrison approvals list {name} shows what is approved",
        )
    now, policy = house.now(), house.policy.version
    return max(found, key=lambda entry: (entry.is_current(policy, now), entry.counter)).ref


def stop(house: House, call: Call) -> dict[str, Any]:
    name = check_name(call.text("name"))
    authorise(house, call.subject, Action.DEPLOY_STOP, name)
    if house.serving(name) is None:
        raise Refused("DEP-NONE", f"{name} is not serving", fix="garrison deploy status shows what is")
    return {"name": name, "audit_id": serving.stop(house, name, call.subject)}


def status(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.POSTURE_READ, "deployments")
    return {"deployments": serving.states(house), "routes": shown(house)}


DEPLOYMENT_VERBS = (
    Verb("deploy.apply", Action.DEPLOY_APPLY, apply),
    Verb("deploy.rollback", Action.DEPLOY_ROLLBACK, rollback),
    Verb("deploy.stop", Action.DEPLOY_STOP, stop),
    Verb("deploy.status", Action.POSTURE_READ, status),
)
