"""Who answers for each model: one accountable, at least one responsible, and where that has gaps. Pure.

`accountable` is the model's owner: a person, or a group of exactly one. A group of several owns a model
too, and the table says that nobody in it answers alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from garrison.core.errors import Refused
from garrison.trust.people import RACI, People


@dataclass(frozen=True, slots=True)
class Answering:
    """One model's row. `gaps` are sentences; with one of them the row is red."""

    model: str
    owner: str
    accountable: str
    responsible: tuple[str, ...]
    consulted: tuple[str, ...]
    informed: tuple[str, ...]
    gaps: tuple[str, ...]
    escalate_to: tuple[str, ...]

    @property
    def is_live(self) -> bool:
        """Whether somebody answers at all: without, nothing of the model goes forward."""
        return not any(gap.startswith("nobody is accountable") for gap in self.gaps)

    def as_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "owner": self.owner,
            "accountable": self.accountable,
            "responsible": list(self.responsible),
            "consulted": list(self.consulted),
            "informed": list(self.informed),
            "gaps": list(self.gaps),
            "escalate_to": list(self.escalate_to),
            "level": "bad" if self.gaps else "ok",
            "next": self.next,
        }

    @property
    def next(self) -> str:
        """The command that closes the first gap."""
        if not self.gaps:
            return ""
        if not self.accountable:
            return f"garrison owner set {self.model} --accountable PERSON"
        return f"garrison owner set {self.model} --responsible PERSON"


def answering(people: People, model: str, owner: str = "") -> Answering:
    """The row of one model; `owner` is what its release says when nobody was named since."""
    owner = people.owners.get(model, owner)
    table = people.raci.get(model, {})
    responsible, consulted, informed = (table.get(role, ()) for role in RACI)
    alive = people.live(owner) if owner else ()
    accountable = alive[0] if len(alive) == 1 else ""
    working = tuple(one for name in responsible for one in people.live(name))
    gaps = [*_accountability(people, owner, alive), *_gone(people, (*responsible, *consulted, *informed))]
    if not responsible:
        gaps.append("nobody is responsible for the work")
    elif not working:
        gaps.append(f"responsible {', '.join(responsible)} left")
    escalate = () if alive else tuple(sorted(set(working))) or _administrators(people)
    return Answering(
        model, owner, accountable, responsible, consulted, informed, tuple(dict.fromkeys(gaps)), escalate
    )


def check_owner(people: People, model: str, owner: str) -> None:
    """Whether somebody answers for the model now. Raises `Refused` GOV-OWNER with what to do."""
    if owner and people.live(owner):
        return
    if not owner:
        why = "has no owner"
    elif not people.knows(owner):
        why = f"would belong to {owner}, and there is no such person or group"
    else:
        why = f"belongs to {owner}, who left: nobody answers for it"
    row = answering(people, model, owner)
    raise Refused(
        "GOV-OWNER",
        f"{model} {why}",
        evidence={"owner": owner, "escalate_to": list(row.escalate_to)},
        fix=f"name who answers for it: garrison owner set {model} PERSON; people: garrison user list, "
        "groups: garrison owner group NAME --member PERSON",
    )


def _accountability(people: People, owner: str, alive: tuple[str, ...]) -> Iterable[str]:
    if not owner:
        yield "nobody is accountable"
    elif not people.knows(owner):
        yield f"nobody is accountable: {owner} is not a person or group that is known"
    elif not alive:
        yield f"nobody is accountable: {owner} left"
    elif len(alive) > 1:
        yield f"{owner} is a group of {len(alive)}: name the one who is accountable"


def _gone(people: People, names: Iterable[str]) -> Iterable[str]:
    for name in dict.fromkeys(names):
        if not people.live(name):
            yield f"{name} left" if people.knows(name) else f"{name} is not known"


def _administrators(people: People) -> tuple[str, ...]:
    return tuple(
        sorted(name for name, one in people.persons.items() if "admin" in one.roles and not one.disabled)
    )
