"""The one loop for periodic work: when each job is due, and the event that each run leaves.

When a job ran last is read from the ledger, so a restart neither forgets nor repeats one, and a clock that
was set back makes jobs due, not silent. Long jobs run one at a time, in a thread of lowest priority; quick
ones have a thread of their own, so that none of them waits for hours.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from garrison.app.house import SYSTEM, House
from garrison.app.jobs import JOBS, Job, refused
from garrison.core.actions import Action
from garrison.core.errors import GarrisonError, Undecided
from garrison.core.event import Event, Outcome, format_time
from garrison.evidence import store as events

QUICK_SECONDS = (
    5.0  # between looks at what is due of the quick jobs; the first one comes that long after a start
)
FIRST_SECONDS = 300.0  # after a start: first the models that were serving come back
TICK_SECONDS = 20.0  # between looks at what is due of the long jobs
RETRY = timedelta(minutes=2)  # after which a quick job that failed is tried again
LOWEST = 19  # nice(2)
JITTER = 0.05  # of a job's interval: servers started together do not work together


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
            "facts": {key: value for key, value in self.last.data.items() if key not in _HIDDEN}
            if self.last
            else {},
        }


_HIDDEN = frozenset({"via", "every_seconds"})


def states(house: House) -> list[State]:
    return [_state(house, job) for job in JOBS]


def run(house: House, job: Job, by: str = SYSTEM.actor) -> dict[str, Any]:
    """Do a job now and leave its event. Raises what it found, and `Undecided` SCHED-BUSY."""
    with _turn(house, job):
        try:
            facts = job.work(house)
        except GarrisonError as error:
            facts = {"reason": error.what[:500], "next": error.fix[:300]}
            error.audit_id = house.record(refused(_event(house, job, by, facts), error))
            raise
        except Exception as error:  # a job's boundary: a defect is an event, and the loop goes on
            defect = GarrisonError("INTERNAL", type(error).__name__, fix="report it with the server's log")
            facts = {"reason": f"a defect in Garrison: {type(error).__name__}"}
            defect.audit_id = house.record(refused(_event(house, job, by, facts), defect))
            raise defect from error
    audit_id = house.record(_event(house, job, by, facts))
    return {"job": job.name, "facts": facts, "audit_id": audit_id}


@contextmanager
def _turn(house: House, job: Job) -> Iterator[None]:
    """Long jobs one at a time. Raises `Undecided` SCHED-BUSY."""
    if job.is_quick:
        yield
        return
    if not house.scheduling.acquire(blocking=False):
        raise Undecided(
            "SCHED-BUSY",
            "another periodic job is running",
            fix="try again when it ended: garrison schedule list",
        )
    try:
        yield
    finally:
        house.scheduling.release()


async def loop(house: House, stop: asyncio.Event) -> None:
    """Run what is due until the server stops. A job that fails is told by its event and tried again when due."""
    await asyncio.gather(
        _each(house, stop, [job for job in JOBS if job.is_quick], QUICK_SECONDS, QUICK_SECONDS),
        _each(house, stop, [job for job in JOBS if not job.is_quick], FIRST_SECONDS, TICK_SECONDS),
    )


async def _each(house: House, stop: asyncio.Event, jobs: list[Job], first: float, tick: float) -> None:
    running, pause = asyncio.get_running_loop(), first
    with ThreadPoolExecutor(1, "schedule", initializer=_yield_to_others) as thread:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)
            pause = tick
            if not stop.is_set():
                await running.run_in_executor(thread, run_due, house, jobs)


def run_due(house: House, jobs: list[Job]) -> None:
    """What is due now, each told by its event; what the ledger itself refuses is tried again at the next look."""
    for job in jobs:
        with contextlib.suppress(GarrisonError, OSError):
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
    if job.is_quick and last.outcome is not Outcome.ALLOWED:
        return State(job, every, last, last.time + RETRY)
    return State(job, every, last, last.time + every * (1 - _jitter(house, job)))


def _jitter(house: House, job: Job) -> float:
    """The same for a job on one server, another on the next: no randomness to keep."""
    seed = hashlib.sha256(f"{house.settings.data} {job.name}".encode()).digest()[0]
    return JITTER * seed / 255


def _event(house: House, job: Job, by: str, facts: dict[str, Any]) -> Event:
    every = int(job.every(house.settings).total_seconds())
    return Event(
        time=house.now(),
        action=Action.SCHEDULE_RUN,
        actor=by,
        resource=job.name,
        outcome=Outcome.ALLOWED,
        data={**facts, "every_seconds": every},
    )


def _yield_to_others() -> None:
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)
