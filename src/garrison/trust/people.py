"""Who there is and who answers for what, folded from the ledger's events: the tables are only a copy of this.

Pure: events in, values out. An identity, a group, an owner or a revocation that no event tells of does
not exist, whatever a row in the database says (`differences` names such rows).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from garrison.core.actions import Action
from garrison.core.event import Event, Outcome
from garrison.trust import access
from garrison.trust.store import User

TELLING = (
    Action.USER_WRITE,
    Action.OWNER_WRITE,
    Action.TOKEN_REVOKE,
    Action.ROUTE_ADD,
    Action.ROUTE_REMOVE,
    Action.ADMIN_RECOVER,
    *access.TELLING,
)
"""The actions whose events change what is folded here."""

REVOKED_FOR = timedelta(days=1)  # the longest life of an access token
RECOVERED_FOR = timedelta(hours=1)  # the longest that somebody is administrator from the host
FRESH_ROLE = timedelta(hours=1)  # a role this young is shown with what its holder approves
ALL_TASKS = ("chat", "completions", "embeddings")  # of events that are older than that fact
RACI = ("responsible", "consulted", "informed")


@dataclass(frozen=True, slots=True)
class Person:
    """An identity as the ledger tells it. `human` is None when the event is older than that fact."""

    name: str
    roles: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    disabled: bool = False
    human: str | None = None
    granted: Mapping[str, tuple[datetime, str]] = field(default_factory=dict)

    def fresh_role(self, roles: Iterable[str], now: datetime) -> tuple[str, datetime, str] | None:
        """The first of the roles that was given within the last hour: its name, when and by whom."""
        for role in sorted(self.roles & set(roles)):
            when, by = self.granted.get(role, (None, ""))
            if when is not None and now - when < FRESH_ROLE:
                return role, when, by
        return None


@dataclass(slots=True)
class People:
    """Everything folded so far; `cursor` is the number of the last record."""

    cursor: int = 0
    persons: dict[str, Person] = field(default_factory=dict)
    groups: dict[str, frozenset[str]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    raci: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    revoked: dict[str, datetime] = field(default_factory=dict)
    routes: dict[str, str] = field(default_factory=dict)  # name: "upstream tier task,task"
    recovered: dict[str, datetime] = field(default_factory=dict)  # from the host, until when
    access: access.Access = field(default_factory=access.Access)

    def copy(self) -> People:
        """One that can be folded further while others go on reading this one."""
        return People(
            self.cursor,
            dict(self.persons),
            dict(self.groups),
            dict(self.owners),
            dict(self.raci),
            dict(self.revoked),
            dict(self.routes),
            dict(self.recovered),
            self.access.copy(),
        )

    def roles_of(self, name: str, now: datetime) -> frozenset[str]:
        """The roles of an identity: none when it is unknown or disabled, and `admin` while it is recovered."""
        person, until = self.persons.get(name), self.recovered.get(name)
        held = frozenset[str]() if person is None or person.disabled else person.roles
        return held if until is None or until <= now else held | {"admin"}

    def knows(self, name: str) -> bool:
        return name in self.persons or name in self.groups

    def live(self, name: str) -> tuple[str, ...]:
        """The people who answer when this person or group is called: nobody when they all left."""
        members = self.groups.get(name, frozenset({name}))
        return tuple(sorted(one for one in members if one in self.persons and not self.persons[one].disabled))

    def owned_by(self, name: str) -> tuple[str, ...]:
        """The models for which a person answers, alone or in a group."""
        answering = {name, *(group for group, members in self.groups.items() if name in members)}
        return tuple(sorted(model for model, owner in self.owners.items() if owner in answering))


def is_one_person(one: str, other: str, human_of: Callable[[str], str]) -> bool:
    """Whether two accounts are one person's; `human_of` gives what tells people apart when accounts do not."""
    return human_of(one).casefold() == human_of(other).casefold()


def fold(people: People, seq: int, event: Event) -> None:
    """Add one record. What was refused changed nothing."""
    people.cursor = max(people.cursor, seq)
    if event.outcome is not Outcome.ALLOWED:
        return
    if event.action is Action.TOKEN_REVOKE:
        people.revoked[event.resource] = event.time + REVOKED_FOR
    elif event.action is Action.ROUTE_ADD:
        tasks = ",".join(_texts(event.data.get("tasks", ALL_TASKS)))
        options = event.data.get("options", "")
        told = f"{event.data.get('upstream')} {event.data.get('tier')} {tasks}"
        people.routes[event.resource] = f"{told} {options}" if options else told
    elif event.action is Action.ADMIN_RECOVER:
        people.recovered[event.resource] = recovered_until(event)
    elif event.action is Action.ROUTE_REMOVE:
        people.routes.pop(event.resource, None)
    elif event.action is Action.OWNER_WRITE:
        _owner(people, event)
    elif event.action is Action.USER_WRITE:
        _user(people, event)
    elif event.action in access.TELLING:
        access.fold(people.access, event)


def recovered_until(event: Event) -> datetime:
    """When the administrator whom the event made is none any more; never later than may be asked for."""
    seconds, longest = event.data.get("seconds"), int(RECOVERED_FOR.total_seconds())
    return event.time + timedelta(seconds=min(seconds, longest) if type(seconds) is int else 0)


def differences(
    people: People,
    users: Iterable[User],
    owners: Mapping[str, str],
    revoked: Iterable[str],
    routes: Mapping[str, str],
) -> dict[str, str]:
    """What the tables say and the ledger does not: `user dana` -> a sentence, empty when they agree."""
    found: dict[str, str] = {}
    rows = {user.name: user for user in users}
    for name in sorted({*rows, *people.persons}):
        if said := difference(people.persons.get(name), rows.get(name)):
            found[f"user {name}"] = said
    for kind, table, told in (
        ("owner of", owners, people.owners),
        ("route", routes, people.routes),
    ):
        for key in sorted({*table, *told}):
            if table.get(key) != told.get(key):
                row, fact = table.get(key) or "nothing", told.get(key) or "nothing"
                found[f"{kind} {key}"] = f"the row says {row}, the ledger {fact}"
    for token in sorted(set(revoked) ^ set(people.revoked)):
        is_gone = token in people.revoked
        found[f"revocation {token}"] = "the row is gone" if is_gone else "the row was written by no event"
    return found


def difference(person: Person | None, row: User | None) -> str:
    """How a row differs from what the ledger tells; the empty text when it does not."""
    if row is None:
        return "the row is gone, and the ledger tells of the identity"
    if person is None:
        return f"the row was written by no event; it has the roles {_list(row.roles)}"
    if row.roles != person.roles:
        return f"the row has the roles {_list(row.roles)}, the ledger {_list(person.roles)}"
    if row.disabled != person.disabled:
        states = ("enabled", "disabled")
        return f"the row is {states[row.disabled]}, the ledger says {states[person.disabled]}"
    if person.human is not None and row.human != person.human:
        return "the row has another e-mail address than was entered"
    return ""


def facts_of_user(user: User, models: Iterable[str] = ()) -> dict[str, Any]:
    """What the event of a written user has to say for the fold to be complete. The e-mail stays out of it."""
    return {
        "roles": sorted(user.roles),
        "models": sorted(models),
        "disabled": user.disabled,
        "person": user.human,
    }


def _owner(people: People, event: Event) -> None:
    model = event.resource
    owner = event.data.get("owner")
    if isinstance(owner, str) and owner:
        people.owners[model] = owner
    table = {role: _texts(event.data[role]) for role in RACI if role in event.data}
    if table:
        people.raci[model] = {**people.raci.get(model, {}), **table}


def _user(people: People, event: Event) -> None:
    name, data = event.resource, event.data
    if "members" in data:
        people.groups[name] = frozenset(_texts(data["members"]))
        return
    known = people.persons.get(name, Person(name))
    if "roles" in data:
        roles = frozenset(_texts(data["roles"]))
        granted = {role: known.granted.get(role, (event.time, event.actor)) for role in roles}
        known = replace(
            known,
            roles=roles,
            models=frozenset(_texts(data.get("models", ()))),
            granted=granted,
            disabled=data.get("disabled") is True,
            human=data["person"] if isinstance(data.get("person"), str) else None,
        )
    elif data.get("disabled") is True:
        known = replace(known, disabled=True)
    people.persons[name] = known


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list | tuple) else ()


def _list(roles: Iterable[str]) -> str:
    return ", ".join(sorted(roles)) or "none"
