"""What a tag meant, each time it was looked at: a name that moves to other bytes is a finding. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from garrison.core.errors import Refused
from garrison.core.event import Event, Outcome, format_time


@dataclass(frozen=True, slots=True)
class Seen:
    """A tag and what it meant at one time; `how` is pushed, pulled or pinned."""

    time: str
    tag: str
    digest: str
    by: str
    how: str
    moved_from: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "time": self.time,
            "tag": self.tag,
            "digest": self.digest,
            "by": self.by,
            "how": self.how,
            "moved_from": self.moved_from or None,
        }


def history(events: Iterable[Event]) -> list[Seen]:
    """The events of one tag, oldest first, with the moves among them marked."""
    seen: list[Seen] = []
    for event in events:
        if event.outcome is not Outcome.ALLOWED or not event.digest:
            continue
        before = seen[-1].digest if seen else ""
        moved = before if before and before != event.digest else ""
        how = str(event.data.get("how", "seen"))
        seen.append(Seen(format_time(event.time), event.resource, event.digest, event.actor, how, moved))
    return seen


def check(tag: str, digest: str, seen: list[Seen]) -> None:
    """Raises `Refused` IMG-TAG-MOVED when the tag meant something else the last time."""
    if seen and seen[-1].digest != digest:
        last = seen[-1]
        raise Refused(
            "IMG-TAG-MOVED",
            f"{tag} is {digest} now, and was {last.digest} when it was {last.how} at {last.time}",
            evidence={"tag": tag, "expected": last.digest, "found": digest},
            fix=f"pull what was meant by its digest: …@{last.digest}; if the move is meant: --accept-moved",
        )
