"""Verbs about the second tier: which classifier is asked in doubt, out of the registry or by folder and digest.

It is tried before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from garrison.app import tier2, tier2_published
from garrison.app.detection import second_tier
from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise, event_of
from garrison.core.actions import Action
from garrison.core.digest import Ref
from garrison.core.errors import Usage
from garrison.detect.tier2 import CHANNELS


def tier2_set(house: House, call: Call) -> dict[str, Any]:
    """Verify, or scan and compare; then start: only a classifier that answers in its sandbox is used."""
    authorise(house, call.subject, Action.GUARD_WRITE, "tier2")
    if model := call.optional("model"):
        facts = tier2_published.check(house, Ref.parse(model))
    else:
        facts = tier2.check(Path(call.text("source")), call.text("digest"))
    if house.second is not None:
        house.second.start(facts)
    audit_id = _record(house, call, dict.fromkeys(facts["channels"], facts))
    return {**_shown(facts), "audit_id": audit_id}


def tier2_off(house: House, call: Call) -> dict[str, Any]:
    """Nobody is asked any more: the first tier decides alone."""
    return _changed(house, call, {"off": True})


def tier2_remove(house: House, call: Call) -> dict[str, Any]:
    """Forget what was set."""
    return _changed(house, call, {}, removed=True)


def tier2_show(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.POSTURE_READ, "guard")
    access = house.people().access
    running = house.second.running() if house.second is not None else frozenset[str]()
    rows = [
        {
            **_shown(one),
            "standing": tier2_published.standing(house, str(one.get("model", ""))),
            "is_set": any(f"tier2.{channel}" in access.tier2 for channel in one["channels"]),
            "runs": one["digest"] in running,
            "reason": house.second.away(one["digest"]) if house.second is not None else "",
        }
        for one in second_tier(access)
    ]
    return {"classifiers": rows}


def _shown(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The same keys for a version and for a folder."""
    return {key: facts.get(key, "") for key in ("model", "folder", "digest", "channels")}


def _changed(house: House, call: Call, said: dict[str, Any], **more: Any) -> dict[str, Any]:
    authorise(house, call.subject, Action.GUARD_WRITE, "tier2")
    channels = call.texts("channels") or list(CHANNELS)
    if not set(channels) <= set(CHANNELS):
        raise Usage("GRD-TIER2", "a channel is user or document", fix="garrison guard tier2 --help")
    known = house.people().access.tier2
    if more and not any(f"tier2.{channel}" in known for channel in channels):
        raise Usage("GRD-TIER2", "none was set", fix="garrison guard tier2 show")
    audit_id = _record(house, call, {channel: {**said, "channel": channel} for channel in channels}, **more)
    return {"channels": channels, "audit_id": audit_id}


def _record(house: House, call: Call, by_channel: dict[str, dict[str, Any]], **more: Any) -> str:
    """One transaction; then the snapshot, and the end of those that nobody asks any more."""
    audit_id = ""
    with house.ledger.transaction() as transaction:
        for channel, facts in by_channel.items():
            event = event_of(house, call, Action.GUARD_WRITE, f"tier2.{channel}", tier2=facts, **more)
            audit_id = transaction.append(event)
    house.publish_snapshot()
    if house.second is not None:
        house.second.keep_only([one["digest"] for one in second_tier(house.people().access)])
    return audit_id


GUARD_TIER2_VERBS = (
    Verb("guard.tier2.set", Action.GUARD_WRITE, tier2_set),
    Verb("guard.tier2.off", Action.GUARD_WRITE, tier2_off),
    Verb("guard.tier2.remove", Action.GUARD_WRITE, tier2_remove),
    Verb("guard.tier2.show", Action.POSTURE_READ, tier2_show),
)
