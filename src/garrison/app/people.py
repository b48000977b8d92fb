"""Identities, owners, groups, revocations and routes as the ledger tells them, and the tables held against it.

The fold is what decides. A row that says something else was not written by Garrison: it is refused where
it would decide (DB-EDITED), named by `garrison audit verify`, and put back at the next start.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from garrison.core.actions import Action
from garrison.core.decision import Tier
from garrison.core.errors import Refused
from garrison.core.event import Event, Outcome
from garrison.evidence import store as events
from garrison.evidence import told as proved
from garrison.evidence.ledger import Ledger, Transaction
from garrison.evidence.record import Record
from garrison.runtime import store as serving
from garrison.storage.database import open_kept
from garrison.trust import people as folding
from garrison.trust import store
from garrison.trust.people import People
from garrison.trust.store import User

SYSTEM = "service:garrison"


class PeopleView:
    """The fold, kept going: a look costs a few indexed queries for what is new since the last one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._people = People()
        self._seen = 0

    def current(self, ledger: Ledger) -> People:
        """What the committed ledger tells now. Raises `Refused` AUD-EDITED for a record that is not in its tree."""
        with self._lock:
            with ledger.read() as connection:
                size = min(ledger.state().size, _size(connection))
                if size > self._seen:
                    people = self._people.copy()
                    for record in told(connection, after=self._seen, size=size):
                        folding.fold(people, record.seq, record.event)
                    self._people, self._seen = people, size
            return self._people


def told(connection: sa.Connection, *, after: int = 0, size: int) -> Iterable[Record]:
    """The records that tell of people, oldest first, each proved to be in the tree. Raises `Refused` AUD-EDITED."""
    found = [
        record
        for action in folding.TELLING
        for record in proved.told(connection, events.Filter(action=action.value, after=after))
        if record.seq <= size
    ]
    yield from sorted(found, key=lambda record: record.seq)


def check_row(people: People, row: User | None, name: str) -> User | None:
    """The row, when it says what the ledger tells. Raises `Refused` DB-EDITED."""
    person = people.persons.get(name)
    if row is None and person is None:
        return None
    if said := folding.difference(person, row):
        raise edited(f"user {name}", said)
    return row


def edited(what: str, said: str) -> Refused:
    return Refused(
        "DB-EDITED",
        f"{what} was changed in the database behind Garrison's back: {said}",
        fix="find out who can write to the database; the next start of garrison up puts the row back "
        "as the ledger tells it",
        evidence={"row": what},
    )


def compare(connection: sa.Connection, people: People) -> dict[str, str]:
    """Every row of people, owners, revocations and routes that the ledger does not tell of."""
    return folding.differences(
        people,
        store.users(connection),
        store.owners(connection),
        store.all_revoked(connection),
        {route.name: row_of(route) for route in serving.routes(connection)},
    )


def compare_users(people: People, rows: Iterable[User]) -> dict[str, str]:
    """Name -> how the row of that identity differs from what the ledger tells."""
    found = {row.name: folding.difference(people.persons.get(row.name), row) for row in rows}
    return {name: said for name, said in found.items() if said}


def row_of(route: serving.Route) -> str:
    """A route as the fold keeps it."""
    told = f"{route.upstream} {route.tier.value} {','.join(sorted(route.tasks))}"
    return f"{told} {route.options}" if route.options else told


def read_people(connection: sa.Connection) -> People:
    """The fold of a database whose server may not run. Raises as `told`."""
    people = People()
    for record in told(connection, size=_size(connection)):
        folding.fold(people, record.seq, record.event)
    people.owners.update(_first_owners(connection, people))
    return people


def offline(data: Path) -> dict[str, str]:
    """Rows that the ledger does not tell of, below a data directory. Raises as `told`, and DB-UNAVAILABLE."""
    with (
        closing(open_kept(data)) as database,
        database.read() as connection,
    ):
        if not sa.inspect(connection).has_table(store.USERS.name):
            return {}
        return compare(connection, read_people(connection))


def settle(ledger: Ledger, people: Callable[[], People], now: Callable[[], datetime]) -> list[str]:
    """At start: owners that only a first publication tells of get their event, edited rows are put back."""
    done = _enter_first_owners(ledger, people(), now)
    current = people()
    with ledger.read() as connection:
        found = compare(connection, current)
    if not found:
        return done
    with ledger.transaction() as transaction:
        for what, said in found.items():
            _put_back(transaction.connection, current, what, now())
            transaction.append(_event(now(), what, said))
            done.append(f"DB-EDITED {what}: {said}; it is again as the ledger tells it")
    return done


def _put_back(connection: sa.Connection, people: People, what: str, now: datetime) -> None:
    kind, _, key = what.rpartition(" ")
    if kind == "user":
        _put_user_back(connection, people, key, now)
    elif kind == "owner of":
        store.remove_owner(connection, key)
        if owner := people.owners.get(key):
            store.set_owner(connection, key, owner, by=SYSTEM, now=now)
    elif kind == "revocation":
        store.forget_revocation(connection, key)
        if until := people.revoked.get(key):
            store.revoke_token(connection, key, "", until)
    elif kind == "route":
        serving.remove_route(connection, key)
        if route := people.routes.get(key):
            upstream, tier, tasks = route.split(" ")
            row = serving.Route(key, upstream, Tier(tier), frozenset(tasks.split(",")))
            serving.save_route(connection, row, by=SYSTEM, now=now)


def _put_user_back(connection: sa.Connection, people: People, name: str, now: datetime) -> None:
    person, row = people.persons.get(name), store.find_user(connection, name)
    if person is None:
        store.remove_user(connection, name)
        return
    email = row.email if row is not None else ""
    if person.human is not None and User(name, email).human != person.human:
        email = person.human if person.human != name else ""
    user = User(name, email, person.roles, person.disabled)
    store.save_user(connection, user, by=SYSTEM, now=now)


def _enter_first_owners(ledger: Ledger, people: People, now: Callable[[], datetime]) -> list[str]:
    """Directories of an earlier release name a model's first owner by its first publication alone."""
    with ledger.read() as connection:
        found = _first_owners(connection, people)
    if found:
        with ledger.transaction() as transaction:
            for model, owner in found.items():
                remember_owner(
                    transaction, Event(now(), Action.OWNER_WRITE, SYSTEM, model, Outcome.ALLOWED), owner
                )
    return []


def remember_owner(transaction: Transaction, event: Event, owner: str) -> str:
    """Set the owner row and append its event, which says so; returns the audit id."""
    event.data["owner"] = owner
    store.set_owner(transaction.connection, event.resource, owner, by=event.actor, now=event.time)
    return transaction.append(event)


def _first_owners(connection: sa.Connection, people: People) -> dict[str, str]:
    found = {}
    for model in sorted(set(store.owners(connection)) - set(people.owners)):
        wanted = events.Filter(
            action=Action.ARTIFACT_PUBLISH.value, model=model, outcome=Outcome.ALLOWED.value, limit=1
        )
        for record in proved.told(connection, wanted):
            if isinstance(owner := record.event.data.get("owner"), str):
                found[model] = owner
    return found


def _size(connection: sa.Connection) -> int:
    try:
        head = events.read_head(connection)
    except (ValueError, TypeError):
        return 0
    return 0 if head is None else head.size


def _event(now: datetime, what: str, said: str) -> Event:
    return Event(
        now,
        Action.SYSTEM_REPAIR,
        SYSTEM,
        what,
        Outcome.DENIED,
        "DB-EDITED",
        data={"reason": said},
    )
