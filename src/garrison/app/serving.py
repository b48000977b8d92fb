"""What serves: load a version in a sandbox, switch the gateway over to it, then end the one before.

The new server answers before the old one is taken off, so a switch (or a rollback) fails no request. What
is loaded is verified from the copied bytes at every start; what serves already is verified where it lies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from garrison.app.house import House
from garrison.artifacts import approval, at_rest, layout
from garrison.artifacts.registry import get
from garrison.core.actions import Action
from garrison.core.decision import Endpoint, Subject
from garrison.core.digest import Manifest, Ref
from garrison.core.errors import GarrisonError, Refused
from garrison.core.event import Event, Outcome
from garrison.evidence import store as events
from garrison.evidence.told import told_last
from garrison.runtime import declared, store
from garrison.runtime.sandboxes.ladder import sandbox_for
from garrison.runtime.supervisor import ServerState, ServeSpec
from garrison.trust import approved
from garrison.trust.approved import ApprovedEntry
from garrison.trust.verify import Verified, verify_release

DRAIN_SECONDS = 30.0  # the version that was replaced finishes its answers before it ends
RETRY_SECONDS = 0.2

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Order:
    """One deployment: which version, by whom, how isolated, and whether it is a named rollback.

    `accepts_ended` lets a rollback go to a version whose approval ended or was under another policy.
    """

    ref: Ref
    subject: Subject
    isolation: str
    action: Action
    accepts_ended: bool = False

    @property
    def is_rollback(self) -> bool:
        return self.action is Action.DEPLOY_ROLLBACK


def deploy(house: House, order: Order, progress: Progress) -> dict[str, Any]:
    """Make a version serve its name. Raises what verification, approval, sandbox and server refuse.

    Nothing changes unless the new server answers: what served before goes on serving.
    """
    with house.deploying:
        entry = _admitted(house, order)
        progress(f"verifying {order.ref}")
        verified = at_rest.verify(house.registry, order.ref)
        at_rest.record_verified(house.registry, order.subject, verified, "deploy")
        progress(f"starting {order.ref} in {order.isolation}")
        endpoint = _endpoint(house, order)
        try:
            audit_id = _switch(house, order, entry, endpoint)
        except BaseException:
            house.run(_end_unless_routed(house, order.ref))
            raise
    state = _state_of(house, order.ref)
    return {
        "name": order.ref.name,
        "version": order.ref.version,
        "digest": endpoint.digest,
        "key_id": verified.key_id,
        "isolation": state.isolation if state else order.isolation,
        "memory": state.held if state else "",
        "tasks": sorted(endpoint.tasks),
        "url": f"https://{house.settings.listen}/v1",
        "audit_id": audit_id,
    }


def stop(house: House, name: str, subject: Subject) -> str:
    """Take a name out of service; returns the audit id."""
    with house.deploying:
        current = house.serving(name)
        with house.ledger.transaction() as transaction:
            store.stop_deployment(transaction.connection, name)
            audit_id = transaction.append(_event(house, Action.DEPLOY_STOP, subject, name, ""))
        house.routed.pop(name, None)
        try:
            house.publish_snapshot()
        finally:
            if current is not None:
                house.run(_end_unless_routed(house, current.ref))
    return audit_id


def restore(house: House) -> list[str]:
    """At start: bring back what was serving, verified anew. What fails stays down and is told."""
    with house.database.read() as connection:
        wanted = [item for item in store.deployments(connection) if item.state == "serving"]
    lines = []
    for deployment in wanted:
        order = Order(deployment.ref, _system(), deployment.isolation, Action.DEPLOY_ROLLBACK)
        try:
            _check_told(house, deployment)
            endpoint = _endpoint(house, order)
            house.routed[deployment.ref.name] = _route(endpoint)
            lines.append(f"{deployment.ref} serving again, verified")
        except GarrisonError as error:
            lines.append(f"{deployment.ref} NOT serving: {error.code} {error.what}")
    if wanted:
        house.publish_snapshot()
    return lines


def states(house: House) -> list[dict[str, Any]]:
    """Every deployment with what its server is doing now."""
    with house.database.read() as connection:
        known = store.deployments(connection)
    rows = []
    for deployment in known:
        state = _state_of(house, deployment.ref)
        facts = deployment.as_json()
        facts["restarts"] = state.restarts if state else 0
        facts["reason"] = state.reason if state else ""
        if deployment.state == "serving":
            facts["state"] = state.state if state else "failed"
        if not _is_told(house, deployment):
            facts["state"], facts["reason"] = "edited", "DEP-UNTOLD"
        facts["approval"] = _standing(house, deployment)
        rows.append(facts)
    return rows


def _admitted(house: House, order: Order) -> ApprovedEntry:
    """The entry of the approved list that lets this version become the serving one now."""
    release = get(house.registry, order.ref)
    entry = approval.approved_entry(house.registry, release)
    serving = house.serving(order.ref.name)
    if serving is not None and serving.ref == order.ref:
        return entry
    house.registry.approved.current().check_fresh(house.now())
    if order.is_rollback:
        if not order.accepts_ended:
            approved.check_current(entry, house.policy.version, house.now())
        return entry
    floor = floor_of(house, order.ref.name)
    if entry.counter < floor:
        raise Refused(
            "ART-ROLLBACK",
            f"{order.ref} is number {entry.counter} on the approved list and number {floor} was deployed already",
            evidence={"digest": release.digest, "counter": entry.counter, "floor": floor},
            fix=f"if going back is meant: garrison deploy rollback {order.ref.name} --to {order.ref.version}",
        )
    approved.check_current(entry, house.policy.version, house.now())
    return entry


def _endpoint(house: House, order: Order) -> Endpoint:
    """A server that answers for the version: the one that runs already, or a new one."""
    running = house.endpoints.get(order.ref)
    state = _state_of(house, order.ref)
    if (
        running is not None
        and state is not None
        and state.state == "ready"
        and state.isolation == order.isolation
    ):
        return running
    sandbox_for(order.isolation)  # refused here, what serves now is not stopped for it
    if state is not None and state.state not in ("failed", "stopped"):
        house.run(house.supervisor.stop(order.ref))
    settings = house.settings
    release = get(house.registry, order.ref)
    spec = ServeSpec(
        ref=order.ref,
        tier=release.tier,
        directory=layout.files_of(house.registry, release),
        verify=_verifier(house, order),
        run_directory=settings.run / "models",
        isolation=order.isolation,
        threads=settings.model_threads,
        memory_share=settings.memory_share,
        scratch=None if house.registry.objects.is_sealed else settings.run,  # nothing plain on a disk
        declared=declared.find(settings.data / declared.FILE, order.ref.name),
    )
    endpoint = house.run(house.supervisor.start(spec))
    house.endpoints[order.ref] = endpoint
    return endpoint


def _verifier(house: House, order: Order) -> Callable[[Manifest], Verified]:
    """Judges the copied bytes by what is recorded at that moment: signatures, approval, place in the list."""

    def verify(found: Manifest) -> Verified:
        release = get(house.registry, order.ref)
        verified = verify_release(
            manifest=layout.with_modes_of(found, release.manifest),
            bundle=release.bundle,
            statement=release.statement,
            keys=house.registry.keys,
            expect=order.ref,
            approved=approval.approved_entry(house.registry, release),
            floor=floor_of(house, order.ref.name),
            rollback_to=order.ref if order.is_rollback else None,
        )
        at_rest.record_verified(house.registry, order.subject, verified, "load")
        return verified

    return verify


def _switch(house: House, order: Order, entry: ApprovedEntry, endpoint: Endpoint) -> str:
    """Record, point the gateway at the new server, let the old one finish."""
    before = house.serving(order.ref.name)
    event = _event(
        house,
        order.action,
        order.subject,
        str(order.ref),
        endpoint.digest,
        isolation=order.isolation,
        place=entry.counter,
        **({"accepted": "an approval that ended"} if order.accepts_ended else {}),
    )
    with house.ledger.transaction() as transaction:
        store.save_deployment(
            transaction.connection,
            order.ref,
            digest=endpoint.digest,
            floor=entry.counter,
            isolation=order.isolation,
            by=order.subject.actor,
            now=house.now(),
        )
        audit_id = transaction.append(event)
    house.routed[order.ref.name] = _route(endpoint)
    try:
        house.publish_snapshot()
    finally:
        if before is not None and before.ref != order.ref:
            asyncio.run_coroutine_threadsafe(_end_later(house, before.ref), house.loop)
    return audit_id


async def _end_later(house: House, ref: Ref) -> None:
    """End a replaced server after its drain, and not while a deployment may be about to use it again."""
    await asyncio.sleep(DRAIN_SECONDS)
    while not house.deploying.acquire(blocking=False):  # the loop may not wait for a thread
        await asyncio.sleep(RETRY_SECONDS)
    try:
        await _end_unless_routed(house, ref)
    finally:
        house.deploying.release()


async def _end_unless_routed(house: House, ref: Ref) -> None:
    if house.routed.get(ref.name, {}).get("version") != ref.version:
        house.endpoints.pop(ref, None)
        await house.supervisor.stop(ref)


def floor_of(house: House, name: str) -> int:
    """The place in the approved list, as signed, of the version that was deployed last; 0 before any was.

    Which one that was the ledger says: a row in the database could be set back.
    """
    last = _last(house, name, Action.DEPLOY_APPLY, Action.DEPLOY_ROLLBACK)
    if last is None:
        return 0
    if (place := last.data.get("place")) is not None:
        return int(place)
    try:  # an event from before the place was told: the version may be off the list meanwhile
        return approval.approved_entry(house.registry, get(house.registry, Ref.parse(last.resource))).counter
    except Refused:  # off the list, retired or revoked since: it holds up nothing that is approved
        return 0


def _check_told(house: House, deployment: store.Deployment) -> None:
    """Whether the ledger says too that this version is to serve. Raises `Refused` DEP-UNTOLD."""
    last = _last(house, deployment.ref.name, Action.DEPLOY_APPLY, Action.DEPLOY_ROLLBACK, Action.DEPLOY_STOP)
    row = (str(deployment.ref), deployment.digest, deployment.isolation)
    if last is None or (last.resource, last.digest, last.data.get("isolation")) != row:
        raise Refused(
            "DEP-UNTOLD",
            f"the database says that {deployment.ref} serves in {deployment.isolation}, and the ledger does not",
            evidence={"ledger": "" if last is None else f"{last.action.value} {last.resource}"},
            fix=f"deploy the version that is meant: garrison serve {deployment.ref.name}@VERSION",
        )


def _is_told(house: House, deployment: store.Deployment) -> bool:
    if deployment.state != "stopped":
        try:
            _check_told(house, deployment)
        except Refused:
            return False
        return True
    name = deployment.ref.name
    last = _last(house, name, Action.DEPLOY_APPLY, Action.DEPLOY_ROLLBACK, Action.DEPLOY_STOP)
    return last is not None and last.action is Action.DEPLOY_STOP


def _standing(house: House, deployment: store.Deployment) -> str:
    """What the approved list says of the version now; a code when that cannot be told."""
    try:
        return approval.standing(house.registry, get(house.registry, deployment.ref))
    except GarrisonError as error:
        return error.code


def _last(house: House, name: str, *actions: Action) -> Event | None:
    """The newest of these that was done to a name, as the ledger has it."""
    with house.ledger.read() as connection:
        found = [
            record
            for action in actions
            for record in told_last(
                connection,
                events.Filter(action=action.value, model=name, outcome=Outcome.ALLOWED.value, limit=1),
            )
        ]
    return max(found, key=lambda record: record.seq).event if found else None


def _state_of(house: House, ref: Ref) -> ServerState | None:
    return next((state for state in house.supervisor.states() if state.ref == ref), None)


def _route(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "name": endpoint.name,
        "version": endpoint.version,
        "digest": endpoint.digest,
        "tier": endpoint.tier.value,
        "address": endpoint.address,
        "tasks": sorted(endpoint.tasks),
    }


def _system() -> Subject:
    return Subject("service", "garrison", frozenset({"service"}), via="server")


def _event(
    house: House, action: Action, subject: Subject, resource: str, digest: str, **facts: str | int
) -> Event:
    return Event(
        time=house.now(),
        action=action,
        actor=subject.actor,
        resource=resource,
        outcome=Outcome.ALLOWED,
        digest=digest,
        data={"via": subject.via, **facts},
    )
