"""The one loop for periodic work: which jobs there are, when each is due, and the event that each run leaves.

When a job ran last is read from the ledger, so a restart neither forgets nor repeats one, and a clock that
was set back makes jobs due, not silent. Jobs run one at a time, in a thread of lowest priority.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from garrison.app.house import SYSTEM, House
from garrison.app.people import compare
from garrison.app.settings import Settings
from garrison.artifacts import at_rest, store
from garrison.artifacts.registry import event_of
from garrison.core.actions import Action
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.core.event import Event, Outcome, format_time
from garrison.evidence import store as events

FIRST_SECONDS = 300.0  # after a start: first the models that were serving come back
TICK_SECONDS = 20.0  # between looks at what is due
STEP_SECONDS = 0.02  # of rest after each version that was hashed
LOWEST = 19  # nice(2)
JITTER = 0.05  # of a job's interval: servers started together do not work together
MAX_NAMED = 50  # problems named in one event; each has an event of its own too


@dataclass(frozen=True, slots=True)
class Job:
    """`work` does it and returns facts for the event; it raises what it found."""

    name: str
    what: str
    every: Callable[[Settings], timedelta]
    work: Callable[[House], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class State:
    """What the ledger tells of a job, and when it is due."""

    job: Job
    every: timedelta
    last: Event | None
    due: datetime

    def as_json(self) -> dict[str, Any]:
        return {
            "job": self.job.name,
            "what": self.job.what,
            "every_seconds": int(self.every.total_seconds()),
            "last": format_time(self.last.time) if self.last else None,
            "next": format_time(self.due),
            "result": self.last.outcome.value if self.last else "never ran",
            "code": self.last.code if self.last else "",
            "facts": {key: value for key, value in self.last.data.items() if key != "via"}
            if self.last
            else {},
        }


def verify_at_rest(house: House) -> dict[str, Any]:
    """Every version that is not retired, hashed where it lies and held against its signatures; then the rows.

    Each leaves its event. Raises `Refused` ART-REST when one is not what was signed, DB-EDITED.
    """
    with house.database.read() as connection:
        wanted = store.refs(connection)
    problems = []
    for ref in wanted:
        house.go_on()
        try:
            verified = at_rest.verify(house.registry, ref, again=True)
            at_rest.record_verified(house.registry, SYSTEM, verified, "at rest")
        except GarrisonError as error:
            problems.append(f"{ref} {error.code}")
            failed = event_of(
                house.registry,
                SYSTEM,
                Action.ARTIFACT_VERIFY,
                ref,
                str(error.evidence.get("digest", "")),
                {"stage": "at rest", "reason": error.what[:500]},
            )
            house.record(_refused(failed, error))
        house.stopping.wait(STEP_SECONDS)
    if problems:
        raise Refused(
            "ART-REST",
            f"{len(problems)} of {len(wanted)} stored versions are not what was signed: {problems[0]}",
            evidence={"versions": problems[:MAX_NAMED]},
            fix="garrison audit list --kind artifact.verify --outcome denied names each and its files",
        )
    return {"versions": len(wanted)}


def check_rows(house: House) -> dict[str, Any]:
    """Every row about people, owners, revocations and routes against the ledger. Raises `Refused` DB-EDITED."""
    people = house.people()
    with house.database.read() as connection:
        found = compare(connection, people)
    if found:
        what, said = next(iter(found.items()))
        raise Refused(
            "DB-EDITED",
            f"{len(found)} rows were changed behind Garrison's back; {what}: {said}",
            evidence={"rows": list(found)[:MAX_NAMED]},
            fix="find out who can write to the database; the next start puts the rows back",
        )
    return {"people": len(people.persons), "owners": len(people.owners), "routes": len(people.routes)}


JOBS: tuple[Job, ...] = (
    Job(
        "verify-at-rest",
        "hash every stored version and check its signatures",
        lambda settings: timedelta(hours=settings.verify_hours),
        verify_at_rest,
    ),
    Job(
        "check-rows",
        "hold people, owners, revocations and routes against the ledger",
        lambda _settings: timedelta(hours=1),
        check_rows,
    ),
)


def find(name: str) -> Job:
    """Raises `Usage` ARG-MISSING."""
    for job in JOBS:
        if job.name == name:
            return job
    raise Usage(
        "ARG-MISSING",
        f"there is no job {name!r}",
        fix=f"the jobs are {', '.join(job.name for job in JOBS)}",
    )


def states(house: House) -> list[State]:
    return [_state(house, job) for job in JOBS]


def run(house: House, job: Job, by: str = SYSTEM.actor) -> dict[str, Any]:
    """Do a job now and leave its event. Raises what it found, and `Undecided` SCHED-BUSY."""
    if not house.scheduling.acquire(blocking=False):
        raise Undecided(
            "SCHED-BUSY",
            "another periodic job is running",
            fix="try again when it ended: garrison schedule list",
        )
    try:
        facts = job.work(house)
    except GarrisonError as error:
        error.audit_id = house.record(_refused(_event(house, job, by, {"reason": error.what[:500]}), error))
        raise
    except Exception as error:  # a job's boundary: a defect is an event, and the loop goes on
        defect = GarrisonError("INTERNAL", type(error).__name__, fix="report it with the server's log")
        defect.audit_id = house.record(_refused(_event(house, job, by, {}), defect))
        raise defect from error
    finally:
        house.scheduling.release()
    audit_id = house.record(_event(house, job, by, facts))
    return {"job": job.name, "facts": facts, "audit_id": audit_id}


async def loop(house: House, stop: asyncio.Event) -> None:
    """Run what is due until the server stops. A job that fails is told by its event and tried again when due."""
    loop, pause = asyncio.get_running_loop(), FIRST_SECONDS
    with ThreadPoolExecutor(1, "schedule", initializer=_yield_to_others) as thread:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)
            pause = TICK_SECONDS
            if not stop.is_set():
                await loop.run_in_executor(thread, _run_due, house)


def _run_due(house: House) -> None:
    for job in JOBS:
        with contextlib.suppress(GarrisonError, OSError):  # told by its event, or by the ledger that is away
            if not house.stopping.is_set() and _state(house, job).due <= house.now():
                run(house, job)


def _state(house: House, job: Job) -> State:
    every, now = job.every(house.settings), house.now()
    wanted = events.Filter(action=Action.SCHEDULE_RUN.value, model=job.name, limit=1)
    with house.ledger.read() as connection:
        found = events.latest(connection, wanted)
    if not found:
        return State(job, every, None, now)
    last = found[-1].event
    if last.time > now:  # the clock was set back: what it said then tells nothing about how long ago
        return State(job, every, last, now)
    return State(job, every, last, last.time + every * (1 - _jitter(house, job)))


def _jitter(house: House, job: Job) -> float:
    """The same for a job on one server, another on the next: no randomness to keep."""
    seed = hashlib.sha256(f"{house.settings.data} {job.name}".encode()).digest()[0]
    return JITTER * seed / 255


def _event(house: House, job: Job, by: str, facts: dict[str, Any]) -> Event:
    return Event(
        time=house.now(),
        action=Action.SCHEDULE_RUN,
        actor=by,
        resource=job.name,
        outcome=Outcome.ALLOWED,
        data=facts,
    )


def _refused(event: Event, error: GarrisonError) -> Event:
    kinds: dict[type, Outcome] = {Refused: Outcome.DENIED, Undecided: Outcome.UNKNOWN}
    return Event(
        time=event.time,
        action=event.action,
        actor=event.actor,
        resource=event.resource,
        outcome=kinds.get(type(error), Outcome.ERROR),
        code=error.code,
        digest=event.digest,
        data=event.data,
    )


def _yield_to_others() -> None:
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)
