"""The detector: requests in, in the order of the ledger, alerts out. One pass, bounded memory, no clock of its own.

    watch = Watch(Limits())
    for seen in requests:
        alerts = watch.feed(seen)

The same requests always give the same alerts with the same ids, so a replay after a restart raises none twice.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import OrderedDict
from collections.abc import Iterable

import numpy as np

from garrison.detect.anomaly.alert import Alert
from garrison.detect.anomaly.crowd import MAX_GROUPS, Common, Drift, Group
from garrison.detect.anomaly.limits import Limits
from garrison.detect.anomaly.profile import (
    ACTIVE,
    DAY,
    DISTINCT,
    EMBEDDED,
    HOUR,
    INJECTED,
    LOGPROBS,
    MACHINE,
    NAMES,
    NEAR,
    RECENT,
    REFUSED,
    REQUESTS,
    SKETCH,
    SWITCHES,
    TOKENS,
    Profile,
    hour_of,
)
from garrison.detect.anomaly.seen import Seen
from garrison.detect.anomaly.signs import NEW_CLIENT, NEW_MODEL, NEW_NETWORK, OFF_HOURS, Sign, judge
from garrison.detect.anomaly.sketch import BYTES, shared

MAX_IDENTITIES = 100_000  # about 250 MB after a week; who was not seen for longest is forgotten first
MAX_MODELS = 1_024
MAX_RAISED = 10_000
EVERY = 8  # requests between two judgements of an identity, unless something happens
SWITCH_WITHIN = HOUR / 2
ALIKE = 5  # bytes that near-duplicates share, of eight
FALSE_START = 6 * HOUR  # a clock that was set back further than this is not followed


class Watch:
    """`feed` is not for several threads."""

    def __init__(self, limits: Limits, most: int = MAX_IDENTITIES) -> None:
        self.limits = limits
        self.profiles: OrderedDict[str, Profile] = OrderedDict()
        self.groups: OrderedDict[str, Group] = OrderedDict()
        self.models: OrderedDict[str, Drift] = OrderedDict()
        self.common = Common()
        self.raised: OrderedDict[str, float] = OrderedDict()  # "code subject": when
        self.requests = 0
        self.last = 0.0
        self._most = most
        self._floors = [floor for both in limits.floors for floor in both]

    def feed_all(self, requests: Iterable[Seen]) -> list[Alert]:
        return [alert for seen in requests for alert in self.feed(seen)]

    def feed(self, seen: Seen) -> list[Alert]:
        self.requests += 1
        time = max(seen.time, self.last - FALSE_START)
        self.last = max(self.last, time)
        group = self._group(f"{seen.tenant}\0{'service' if seen.is_service else 'user'}")
        profile = self.profiles.get(seen.actor)
        if profile is None:
            profile = self.profiles[seen.actor] = Profile(time)
            if len(self.profiles) > self._most:
                self.profiles.popitem(last=False)
        else:
            self.profiles.move_to_end(seen.actor)
        day, ended = profile.day, array("f", profile.today) if time // DAY > profile.day else profile.today
        before = profile.last
        profile.advance(time, self._floors)
        if profile.day != day:
            group.day_ended(ended)
        group.count(time)
        happened = self._note(profile, seen, time, time - before)
        alerts: list[Alert] = []
        if happened or not self.requests % EVERY:
            for code, score, signs in judge(profile, group.usual(), self.limits, is_service=seen.is_service):
                self._raise(alerts, code, seen, seen.actor, score, signs)
        if seen.injected:
            self._judged(
                alerts, "ANO-CAMPAIGN", seen, f"tenant:{seen.tenant or 'none'}", group.attacked(seen)
            )
        elif seen.complete and seen.answered:
            drift = self._drift(seen.model)
            signs = drift.answered(seen, profile)
            if self._judged(alerts, "ANO-DRIFT", seen, f"model:{seen.model}", signs):
                drift.restart()
        return alerts

    # --- what a request changes in a profile ---

    def _note(self, profile: Profile, seen: Seen, time: float, gap: float) -> bool:
        """Count it; whether something happened that is worth a look at once."""
        add = profile.add
        add(REQUESTS, 1.0)
        profile.totals[-1] += 1
        happened = self._names(profile, seen, time, gap)
        if seen.tokens:
            add(TOKENS, seen.tokens)
        if seen.injected:
            add(INJECTED, 1.0)
            return True
        if seen.refused:
            add(REFUSED, 1.0)
            return True
        if seen.logprobs:
            add(LOGPROBS, 1.0)
        if seen.task == "embeddings":
            add(EMBEDDED, seen.inputs)
        else:
            self._sketch(profile, seen)
        self._pace(profile, gap)
        return happened

    def _names(self, profile: Profile, seen: Seen, time: float, gap: float) -> bool:
        new = 0
        if seen.network:
            is_common = self.common.seen(f"n\0{seen.tenant}\0{seen.network}", seen.actor)
            if seen.network not in profile.networks:
                new |= 0 if is_common or not profile.networks else NEW_NETWORK
            elif profile.networks[0] != seen.network and gap < SWITCH_WITHIN:
                profile.add(SWITCHES, 1.0)
            profile.networks = _front(profile.networks, seen.network)
        if seen.client:
            is_common = self.common.seen(f"c\0{seen.tenant}\0{seen.client}", seen.actor)
            if seen.client not in profile.clients:
                new |= 0 if is_common or not profile.clients else NEW_CLIENT
            profile.clients = _front(profile.clients, seen.client)
        if seen.name and seen.name not in profile.models:
            new |= NEW_MODEL if profile.models else 0
            profile.models = _front(profile.models, seen.name)
        hour = hour_of(time)
        if hour != hour_of(time - gap) or gap >= HOUR or profile.totals[-1] <= 1:
            profile.add(ACTIVE, 1.0)
            if profile.days >= 2 and profile.is_off_hours(time):
                new |= OFF_HOURS
            else:
                profile.mark_hour(time)
        if new:
            is_old = time - profile.new_since > 12 * HOUR
            profile.new = new if is_old else profile.new | new
            profile.new_since = time if is_old else profile.new_since
        return bool(new)

    def _sketch(self, profile: Profile, seen: Seen) -> None:
        if not seen.sketch:
            return
        ring = profile.recent
        if ring is None:
            ring = profile.recent = bytearray(SKETCH * RECENT)
        alike = shared(seen.sketch, np.frombuffer(ring, np.uint8).reshape(RECENT, SKETCH))
        if alike == BYTES and seen.sketch in ring:
            return  # the very same again
        profile.add(DISTINCT if alike < ALIKE else NEAR, 1.0)
        place = profile.recent_at * SKETCH
        ring[place : place + SKETCH] = seen.sketch
        profile.recent_at = (profile.recent_at + 1) % RECENT

    def _pace(self, profile: Profile, gap: float) -> None:
        """Requests in the rhythm of the one before, minutes apart at most: a program's, not a person's."""
        if not 0 < gap < 900:
            return
        rhythm = math.log(max(gap, 0.05))
        if abs(rhythm - profile.gap) < 0.5:
            profile.add(MACHINE, 1.0)
        profile.gap += 0.3 * (rhythm - profile.gap)

    # --- what many share ---

    def _group(self, key: str) -> Group:
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Group()
            if len(self.groups) > MAX_GROUPS:
                self.groups.popitem(last=False)
        return group

    def _drift(self, model: str) -> Drift:
        drift = self.models.get(model)
        if drift is None:
            drift = self.models[model] = Drift()
            if len(self.models) > MAX_MODELS:
                self.models.popitem(last=False)
        return drift

    # --- alerts ---

    def _judged(self, alerts: list[Alert], code: str, seen: Seen, subject: str, signs: list[Sign]) -> bool:
        score = sum(sign.strength for sign in signs)
        if not signs or score < self.limits.scores[code]:
            return False
        self._raise(alerts, code, seen, subject, score, signs)
        return True

    def _raise(
        self, alerts: list[Alert], code: str, seen: Seen, subject: str, score: float, signs: list[Sign]
    ) -> None:
        key = f"{code} {subject}"
        if seen.time - self.raised.get(key, -math.inf) < self.limits.lasts.get(code, self.limits.again):
            return
        self.raised.pop(key, None)
        self.raised[key] = seen.time
        if len(self.raised) > MAX_RAISED:
            self.raised.popitem(last=False)
        why = tuple((one.what, one.strength, one.now, one.usual) for one in signs[:4])
        alerts.append(
            Alert(alert_id(code, subject, seen.time), code, seen.time, subject, seen.name, score, why)
        )


def alert_id(code: str, subject: str, time: float) -> str:
    """The same for the same alert, however often its requests are replayed."""
    return "al-" + hashlib.sha256(f"{code}\0{subject}\0{time:.3f}".encode()).hexdigest()[:12]


def _front(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    """With the name first, the one that was not used for longest dropped."""
    if names and names[0] == name:
        return names
    return (name, *(each for each in names if each != name))[:NAMES]
