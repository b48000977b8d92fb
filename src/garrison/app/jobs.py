"""What the server does again and again: each job, how often, and what it raises when something is not as it was.

When they run, and the event that each run leaves, is in `schedule.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from garrison.app import stores
from garrison.app.house import SYSTEM, House
from garrison.app.people import compare
from garrison.app.settings import Settings
from garrison.app.watching import save_state
from garrison.artifacts import at_rest, drift, store
from garrison.artifacts.registry import event_of
from garrison.core.actions import Action
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.core.event import Event, Outcome, format_time
from garrison.evidence.verify import BROKEN, INTACT, verify_ledger
from garrison.evidence.witness import FileWitness
from garrison.trust.stray_keys import scan_directory

STEP_SECONDS = 0.02  # of rest after each version that was hashed
MAX_NAMED = 50  # problems named in one event; each has an event of its own too


@dataclass(frozen=True, slots=True)
class Job:
    """`work` does it and returns facts for the event; it raises what it found.

    A quick one does not wait for the long ones, runs as soon as the server is up, and soon again when it failed.
    """

    name: str
    what: str
    every: Callable[[Settings], timedelta]
    work: Callable[[House], dict[str, Any]]
    is_quick: bool = False


def refresh_approved_list(house: House) -> dict[str, Any]:
    """Sign the list's age anew when a quarter of it is used up.

    Raises `Refused` TUF-* for a list that is not ours or stays stale, `Undecided` when the token is away.
    """
    approved = house.registry.approved
    if approved.is_new():
        return {"list": "none yet"}
    was_refreshed = approved.refresh()
    known = approved.current()
    known.check_fresh(house.now())
    return {"refreshed": was_refreshed, "fresh_until": format_time(known.fresh_until)}


def verify_at_rest(house: House) -> dict[str, Any]:
    """Every version that is not retired, hashed where it lies and held against its signatures.

    Each leaves its event. Raises `Refused` ART-REST when one is not what was signed, and `Undecided` with the
    first reason when one could not be read.
    """
    with house.database.read() as connection:
        wanted = store.refs(connection)
    changed: list[str] = []
    unread: list[GarrisonError] = []
    for ref in wanted:
        house.go_on()
        try:
            verified = at_rest.verify(house.registry, ref, again=True)
            at_rest.record_verified(house.registry, SYSTEM, verified, "at rest")
        except GarrisonError as error:
            if isinstance(error, Refused):
                changed.append(f"{ref} {error.code}")
            else:
                unread.append(error)
            digest = str(error.evidence.get("digest", ""))
            facts = {"stage": "at rest", "reason": error.what[:500]}
            event = event_of(house.registry, SYSTEM, Action.ARTIFACT_VERIFY, ref, digest, facts)
            house.record(refused(event, error))
        house.stopping.wait(STEP_SECONDS)
    if changed:
        raise Refused(
            "ART-REST",
            f"{len(changed)} of {len(wanted)} stored versions are not what was signed: {changed[0]}",
            evidence={"versions": changed[:MAX_NAMED]},
            fix="garrison audit list --kind artifact.verify --outcome denied names each and its files",
        )
    if unread:
        first = unread[0]
        what = f"{len(unread)} of {len(wanted)} stored versions could not be read: {first.what}"
        raise Undecided(first.code, what, fix=first.fix)
    return {"versions": len(wanted)}


def check_drift(house: House) -> dict[str, Any]:
    """Every imported version against its source; nothing is asked when nothing was imported.

    Raises `Refused` with the first DRIFT-* that was found, `Undecided` when a source could not be asked.
    """
    checked = drift.check_all(
        house.registry, house.settings.data, SYSTEM, progress=lambda _text: house.go_on()
    )
    drifted = [item for item in checked if item.verdict == "drifted"]
    unknown = [item for item in checked if item.verdict == "unknown"]
    fix = "garrison drift says which; garrison audit list --kind artifact.drift has the history"
    if drifted:
        first = drifted[0]
        raise Refused(
            first.findings[0].rule_id,
            f"{len(drifted)} of {len(checked)} imports drifted; {first.entry.ref}: {first.findings[0].message}",
            evidence={"versions": [str(item.entry.ref) for item in drifted[:MAX_NAMED]]},
            fix=fix,
        )
    if unknown:
        first = unknown[0]
        raise Undecided(
            first.code,
            f"{len(unknown)} of {len(checked)} imports could not be compared; {first.entry.ref}: {first.why}",
            evidence={"versions": [str(item.entry.ref) for item in unknown[:MAX_NAMED]]},
            fix=fix,
        )
    return {"versions": len(checked)}


def check_store(house: House) -> dict[str, Any]:
    """Is the store of model files closed to others? Raises STO-*."""
    report = stores.inspect(house.settings)
    error = report.error()
    if error is not None:
        raise error
    return {"store": report.url, "passed": list(report.passed)}


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


def check_keys(house: House) -> dict[str, Any]:
    """Does a private key lie in a file below the data directory? Raises `Refused` KEY-ENV, and `Undecided`
    with the same code when there were too many files to look at all of them."""
    found = scan_directory(house.settings.data)
    names = [finding.where for finding in found if finding.rule_id == "key.stray.file"]
    if not found:
        return {"found": 0}
    raise (Refused if names else Undecided)(
        "KEY-ENV",
        found[0].message,
        evidence={"files": names[:MAX_NAMED]},
        fix=found[0].fix,
    )


def verify_records(house: House) -> dict[str, Any]:
    """Every record of the ledger, its columns too: an event that was hidden from the questions is found here.

    Raises `Refused` AUD-* with the first that is not as it was written, `Undecided` when that cannot be told.
    """
    keys = [key for key in house.public_keys if key.label == "ledger"]
    report = verify_ledger(house.database, keys, FileWitness(house.settings.data / "witness" / "checkpoint"))
    if report.verdict == INTACT:
        return {"records": report.size, "signed": report.signed}
    kind = Refused if report.verdict == BROKEN else Undecided
    what = (
        report.problems[0].what if report.problems else "nothing outside the database vouches for the ledger"
    )
    raise kind(
        report.code or "AUD-WITNESS",
        f"the ledger is {report.verdict}: {what}",
        evidence={"problems": [problem.as_json() for problem in report.problems[:MAX_NAMED]]},
        fix="garrison audit verify names every record; put the newest backup back",
    )


def _daily(_settings: Settings) -> timedelta:
    return timedelta(days=1)


def _hourly(_settings: Settings) -> timedelta:
    return timedelta(hours=1)


JOBS: tuple[Job, ...] = (
    Job(
        "refresh-approved",
        "sign the age of the approved list anew before it is stale",
        _hourly,
        refresh_approved_list,
        is_quick=True,
    ),
    Job(
        "watch-use",
        "keep what the detectors of unusual use know; are they up to date?",
        _hourly,
        save_state,
        is_quick=True,
    ),
    Job("check-rows", "hold people, owners, revocations and routes against the ledger", _hourly, check_rows),
    Job("check-keys", "no private key lies in a file of the data directory", _daily, check_keys),
    Job(
        "verify-ledger",
        "hash every record of the ledger, and compare with its witness",
        _daily,
        verify_records,
    ),
    Job(
        "check-store",
        "is the store of model files closed to others?",
        lambda settings: timedelta(hours=settings.store_check_hours),
        check_store,
    ),
    Job(
        "check-drift",
        "compare every imported version with its source",
        lambda settings: timedelta(hours=settings.drift_hours),
        check_drift,
    ),
    Job(
        "verify-at-rest",
        "hash every stored version and check its signatures",
        lambda settings: timedelta(hours=settings.verify_hours),
        verify_at_rest,
    ),
)


def find(name: str) -> Job:
    """Raises `Usage` ARG-MISSING."""
    for job in JOBS:
        if job.name == name:
            return job
    raise Usage(
        "ARG-MISSING",
        f"there is no job {name[:40]!r}",
        fix=f"the jobs are {', '.join(job.name for job in JOBS)}",
    )


def refused(event: Event, error: GarrisonError) -> Event:
    """The same event, of what failed."""
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
