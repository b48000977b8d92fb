"""The attacks of a simulation: twelve kinds, three strengths each, by identities that the organisation has."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random

from garrison.detect.simulation.organisation import DAY, HOUR, START, Member, Organisation
from garrison.detect.simulation.requests import Asked

LOW, MIDDLE, HIGH = STRENGTHS = ("low", "middle", "high")


@dataclass(frozen=True, slots=True)
class Attack:
    """What really happened. `subjects` are the actors, and the tenant or model where it is about many."""

    label: str
    kind: str
    strength: str
    begins: float
    ends: float
    subjects: frozenset[str]


Script = Iterator[Asked]


@dataclass(slots=True)
class _Scene:
    """What a script may use. `who` are the people (one, or several for the kinds that need them)."""

    house: Organisation
    who: list[Member]
    begins: float
    strength: int
    draw: Random

    @property
    def actor(self) -> Member:
        return self.who[0]

    def level(self, low: float, middle: float, high: float) -> float:
        return (low, middle, high)[self.strength] * self.draw.uniform(0.85, 1.15)

    def times(self, hours: float, an_hour: float, jitter: float = 0.3) -> Iterator[float]:
        """Of a script that sleeps between requests."""
        time, pause = self.begins, HOUR / an_hour
        while time < self.begins + hours * HOUR:
            yield time
            time += pause * self.draw.uniform(1 - jitter, 1 + jitter)

    def asked(self, time: float, text: str, **more: object) -> Asked:
        actor = self.actor
        model = more.pop("model", actor.models[0])
        return self.house.asked(actor, time, str(model), text, **more)


def extraction(scene: _Scene) -> Script:
    """Distinct inputs, one after another, for a copy of the model."""
    hours, rate = scene.level(30, 10, 2), scene.level(80, 300, 2_000)
    client = scene.draw.choice((scene.actor.clients[0], "python-requests"))
    for time in scene.times(hours, rate):
        yield scene.asked(time, scene.house.words.text(scene.draw.randint(8, 40)), client=client, answer=6.0)


def near_duplicates(scene: _Scene) -> Script:
    """One record changed a little at a time: inversion, membership."""
    text = scene.house.words.text(40)
    for time in scene.times(scene.level(20, 6, 1.5), scene.level(25, 110, 600)):
        yield scene.asked(time, scene.house.words.changed(text), answer=10.0)


def logprobs(scene: _Scene) -> Script:
    for time in scene.times(scene.level(20, 8, 2), scene.level(15, 80, 600)):
        yield scene.asked(time, scene.house.words.text(20), logprobs=True, answer=2.0)


def embeddings(scene: _Scene) -> Script:
    model = scene.house.shape.models[3]
    for time in scene.times(scene.level(20, 8, 2), scene.level(12, 60, 400)):
        text = scene.house.words.text(40)
        yield scene.asked(time, text, model=model, task="embeddings", inputs=scene.draw.choice((16, 32, 64)))


def jailbreak(scene: _Scene) -> Script:
    """Try, be refused, change it, try again; ordinary requests between."""
    for time in scene.times(scene.level(12, 4, 1), scene.level(2, 10, 120), jitter=0.8):
        text = scene.house.words.text(60)
        code = "PRM-INJECT" if scene.draw.random() < 0.6 else ""
        yield scene.asked(time, text, code=code)


def campaign(scene: _Scene) -> Script:
    """The same trick from many accounts, a few times each."""
    text, many = scene.house.words.text(70), int(scene.level(7, 12, 20))
    for member in scene.who[:many]:
        time = scene.begins + scene.draw.uniform(0, 3 * HOUR)
        for _ in range(scene.draw.randint(1, 4)):
            time += scene.draw.expovariate(1 / 90.0)
            code = "PRM-INJECT" if scene.draw.random() < 0.8 else ""
            said = scene.house.words.changed(text)
            yield scene.house.asked(member, time, member.models[0], said, code=code)


def tokens(scene: _Scene) -> Script:
    """Prompts and answers as long as they may be: somebody else pays."""
    long = scene.house.words.text(1_500)
    for time in scene.times(scene.level(8, 5, 3), scene.level(35, 90, 300)):
        yield scene.asked(
            time, f"{scene.house.words.text(6)} {long}", answer=scene.draw.uniform(2_500, 4_000)
        )


def stolen(scene: _Scene) -> Script:
    """A credential in other hands: another network, another program, at night."""
    offset = scene.house.shape.offset
    midnight = math.floor((scene.begins - START) / DAY) * DAY + START
    home = (scene.actor.begins - offset - 7.0) % 24
    scene.begins = midnight + home * HOUR
    network = f"net-{scene.draw.getrandbits(24):06x}"
    client = scene.draw.choice(("curl", "python-requests", scene.actor.clients[0]))
    for time in scene.times(scene.level(1.5, 2, 4), scene.level(16, 40, 150), jitter=0.9):
        model = scene.draw.choice(scene.house.shape.models[:3])
        yield scene.asked(time, scene.house.words.text(30), network=network, client=client, model=model)


def shared(scene: _Scene) -> Script:
    """One key, several people who hold it."""
    places = [f"net-{scene.draw.getrandbits(24):06x}" for _ in range(int(scene.level(2.6, 4, 7)))]
    for time in scene.times(scene.level(10, 9, 8), scene.level(9, 18, 50), jitter=0.9):
        text = scene.house.words.text(30)
        yield scene.asked(time, text, network=scene.draw.choice([*places, scene.actor.networks[0]]))


def ramp(scene: _Scene) -> Script:
    """Extraction that grows from day to day, so that no day is far from the one before."""
    growth, many = scene.level(1.5, 1.8, 2.4), 60.0
    scene.begins = START + scene.draw.uniform(1.0, 1.5) * DAY
    for _ in range(5):
        for time in scene.times(20, many / 20, jitter=0.7):
            yield scene.asked(time, scene.house.words.text(25), answer=8.0)
        scene.begins += DAY
        many *= growth


def drift(_scene: _Scene) -> Script:
    """A model that answers otherwise than it did, under the same version. Done to the traffic, in `generate`."""
    yield from ()


def scanning(scene: _Scene) -> Script:
    """Names of models and rights tried one after another."""
    for time in scene.times(scene.level(6, 2, 1), scene.level(4, 20, 200)):
        yield scene.asked(
            time, "hello there, who are you", code=scene.draw.choice(("GW-MODEL", "RBAC-MODEL"))
        )


SCRIPTS: dict[str, Callable[[_Scene], Script]] = {
    "extraction": extraction,
    "near-duplicates": near_duplicates,
    "log-probabilities": logprobs,
    "embedding sweep": embeddings,
    "jailbreak": jailbreak,
    "campaign": campaign,
    "token spike": tokens,
    "stolen credential": stolen,
    "shared credential": shared,
    "slow ramp": ramp,
    "drift": drift,
    "scanning": scanning,
}
SPAN = {"slow ramp": 5.0, "drift": 0.6}  # days that have to be left


def stage(house: Organisation, days: int, random: Random, turn: int) -> tuple[list[Attack], list[Asked]]:
    """One attack of each kind, its strength by turns; who attacks does so once."""
    people = [member for member in house.members if member.is_person and not member.since]
    random.shuffle(people)
    attacks: list[Attack] = []
    asked: list[Asked] = []
    for number, (kind, script) in enumerate(SCRIPTS.items()):
        strength = (turn + number) % len(STRENGTHS)
        label = f"{kind}/{STRENGTHS[strength]}"
        begins = START + random.uniform(2.2, days - 1.6) * DAY
        if kind == "drift":
            attacks.append(_drift(house, label, kind, strength, begins))
            continue
        if kind == "campaign":
            tenant = random.choice(house.shape.tenants)
            who = [member for member in people if member.tenant == tenant]
        else:
            who = [people.pop()]
        made = [replace(one, label=label) for one in script(_Scene(house, who, begins, strength, random))]
        last = START + days * DAY
        made = [one for one in made if one.time < last]
        subjects = {one.actor for one in made} | (
            {f"tenant:{who[0].tenant}"} if kind == "campaign" else set()
        )
        times = [one.time for one in made]
        attacks.append(Attack(label, kind, STRENGTHS[strength], min(times), max(times), frozenset(subjects)))
        asked += made
    return attacks, asked


def _drift(house: Organisation, label: str, kind: str, strength: int, begins: float) -> Attack:
    model = house.shape.models[1]
    local = math.floor((begins - START) / DAY)
    local = local if local % 7 < 5 else 4
    begins = START + local * DAY + (house.shape.begins - house.shape.offset) * HOUR
    ends = begins + 10 * HOUR
    return Attack(label, kind, STRENGTHS[strength], begins, ends, frozenset({f"model:{model}@1"}))


DRIFTS = {LOW: 1.7, MIDDLE: 2.5, HIGH: 5.0}
