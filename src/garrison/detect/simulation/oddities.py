"""Harmless things that happen in an organisation and look odd: none of them is an attack, all of them may alarm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from garrison.detect.simulation.organisation import DAY, HOUR, START, Member, Organisation
from garrison.detect.simulation.requests import Asked


class Oddities:
    """Drawn once for a simulation. Some change members, some change a day, some add requests."""

    def __init__(self, house: Organisation, days: int) -> None:
        draw, shape = house.random, house.shape
        self._house = house
        self._days = days
        self.holiday = (draw.choice(shape.tenants), draw.randrange(1, days))
        self.crunch = (draw.choice(shape.tenants), draw.randrange(2, days - 1))
        self.office = (draw.choice(shape.tenants), draw.randrange(2, days))
        self.rollout = (draw.choice(shape.tenants), draw.randrange(2, days))
        self.upgrade = (shape.models[0], draw.randrange(2, days))
        people = [member for member in house.members if member.is_person]
        services = [member for member in house.members if not member.is_person]
        self.moved = {one.actor for one in people if one.tenant == self.office[0] and draw.random() < 0.5}
        self.updated = {one.actor for one in people if one.tenant == self.rollout[0] and draw.random() < 0.7}
        self.traveller, self.on_call = draw.sample(people, 2)
        self.travels = draw.randrange(2, days - 1)
        self.tester, self.backfill = draw.sample(
            [one for one in services if one.kind in ("assistant", "batch")], 2
        )
        self.retrier = draw.choice([one for one in services if one.kind == "assistant"])
        launched = START + draw.uniform(1.5, days - 2.5) * DAY
        new = house.service(draw.choice(shape.tenants), "assistant", "launch", since=launched)
        new.growth = draw.uniform(1.1, 1.5)
        house.members.append(new)
        for number in range(3):
            since = START + draw.randrange(2, days) * DAY
            house.members.append(house.person(draw.choice(shape.tenants), f"hire-{number}", since))

    def busy(self, member: Member, day: int) -> float:
        if not member.is_person:
            return 3.0 if member is self.backfill and day == self.travels else 1.0
        if (member.tenant, day) == self.holiday:
            return 0.05
        return 2.0 if (member.tenant, day) == self.crunch else 1.0

    def as_is(self, asked: Asked, day: int) -> Asked:
        """The request, with what is different for whoever it concerns."""
        if asked.actor in self.moved and day >= self.office[1] and asked.network.startswith("office"):
            asked = replace(asked, network=f"{asked.network}-east")
        if asked.actor in self.updated and day >= self.rollout[1]:
            asked = replace(asked, client="workbench")
        if asked.actor == self.traveller.actor and self.travels <= day < self.travels + 2:
            asked = replace(asked, network="hotel", time=asked.time + 5 * HOUR)
        if asked.model == self.upgrade[0] and day >= self.upgrade[1]:
            asked = replace(asked, version=2, answer=asked.answer * 1.6)
        return asked

    def extra(self) -> Iterator[Asked]:
        """A load test, a night on call, a client that retries what fails."""
        house, draw = self._house, self._house.random
        pool = [house.words.text(30) for _ in range(40)]
        time = START + (draw.randrange(2, self._days) + 0.6) * DAY
        for _ in range(1_200):
            time += draw.expovariate(1.0)
            yield house.asked(self.tester, time, self.tester.models[0], draw.choice(pool))
        time = START + (draw.randrange(2, self._days) + 0.08) * DAY - house.shape.offset * HOUR
        for _ in range(18):
            time += draw.expovariate(1 / 120.0)
            text = house.words.text(40)
            home = self.on_call.networks[1]
            yield house.asked(self.on_call, time, self.on_call.models[0], text, network=home)
        time, text = START + (draw.randrange(1, self._days) + 0.45) * DAY, house.words.text(25)
        for _ in range(250):
            time += draw.uniform(1.0, 4.0)
            yield house.asked(self.retrier, time, self.retrier.models[0], text, code="GW-UPSTREAM")
