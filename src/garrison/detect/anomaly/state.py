"""A detector as JSON and back, so that a restart goes on where the last one ended."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from garrison.detect.anomaly.crowd import KEPT, Drift, Group
from garrison.detect.anomaly.limits import Limits
from garrison.detect.anomaly.profile import COUNT, Profile
from garrison.detect.anomaly.watch import Watch

VERSION = 1


def dump(watch: Watch) -> Iterator[Any]:
    """A head, then one value for each identity: nothing is as large as all of them together."""
    yield {
        "version": VERSION,
        "last": watch.last,
        "requests": watch.requests,
        "raised": dict(watch.raised),
        "common": dict(watch.common.users),
        "identities": len(watch.profiles),
        "groups": {name: _group(group) for name, group in watch.groups.items()},
        "models": {
            name: [drift.hour, drift.members, drift.hours, drift.above, drift.below]
            for name, drift in watch.models.items()
        },
    }
    for name, profile in watch.profiles.items():
        yield [name, profile.dump()]


def load(values: Iterator[Any], limits: Limits) -> Watch:
    """Raises ValueError, TypeError, KeyError or AttributeError for what `dump` did not make."""
    facts = next(values, None)
    if not isinstance(facts, dict) or facts["version"] != VERSION:
        raise ValueError("another version")
    watch = Watch(limits)
    watch.last, watch.requests = float(facts["last"]), int(facts["requests"])
    watch.raised = OrderedDict((str(key), float(time)) for key, time in facts["raised"].items())
    watch.common.users = OrderedDict(
        (str(key), list(map(str, users))) for key, users in facts["common"].items()
    )
    watch.groups = OrderedDict((str(key), _to_group(one)) for key, one in facts["groups"].items())
    watch.models = OrderedDict((str(key), _to_drift(one)) for key, one in facts["models"].items())
    for name, profile in values:
        watch.profiles[str(name)] = Profile.load(profile)
    if len(watch.profiles) != facts["identities"]:
        raise ValueError("identities are missing")
    return watch


def _group(group: Group) -> list[Any]:
    kept = [[round(value, 2) for value in peaks] for peaks in group.kept]
    tried = {name: [time, sketch.hex()] for name, (time, sketch) in group.attackers.items()}
    return [kept, group.day, group.today, group.totals, tried, group.peak, group.peaks]


def _to_group(facts: list[Any]) -> Group:
    kept, day, today, totals, tried, peak, peaks = facts
    group = Group()
    group.kept = [array("f", map(float, each)) for each in kept][-KEPT:]
    if any(len(each) != 2 * COUNT for each in group.kept):
        raise ValueError("metrics")
    group.day, group.today, group.totals = int(day), float(today), [float(total) for total in totals]
    group.attackers = OrderedDict(
        (str(name), (float(time), bytes.fromhex(sketch))) for name, (time, sketch) in tried.items()
    )
    group.peak, group.peaks = float(peak), float(peaks)
    return group


def _to_drift(facts: list[Any]) -> Drift:
    hour, members, hours, above, below = facts
    drift = Drift()
    drift.hour, drift.hours = int(hour), [float(value) for value in hours]
    drift.members = {str(name): (float(total), int(count)) for name, (total, count) in members.items()}
    drift.above, drift.below = float(above), float(below)
    return drift
