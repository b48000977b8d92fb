"""Who there is in a simulated organisation, and how each of them asks on an ordinary day."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from garrison.detect.simulation.requests import Asked, Words

HOUR, DAY = 3_600.0, 86_400.0
START = 1_772_409_600.0  # Monday 2 March 2026, 00:00 UTC


@dataclass(frozen=True, slots=True)
class Shape:
    """The parameters of an organisation. Times are local hours; `offset` is hours from UTC."""

    name: str
    tenants: tuple[str, ...]
    people: int  # of a tenant
    services: tuple[str, ...]  # kinds, of each tenant
    models: tuple[str, ...]
    offset: float = 1.0
    begins: float = 9.0
    workday: float = 8.5
    sessions: float = 4.0
    asks: float = 8.0  # requests in a session
    pause: float = 50.0  # seconds between them
    spread: float = 0.5  # of a person's days, in logarithms
    weekends: float = 0.12  # who asks on a day off
    night_shift: float = 0.0
    home: float = 0.3  # of sessions from home
    answer: float = 180.0  # tokens


FIRST = Shape(
    "first",
    ("sales", "research", "finance", "support"),
    26,
    ("assistant", "batch", "ingest", "monitor", "evaluation"),
    ("chat-large", "chat-small", "classifier", "embedder"),
)
SECOND = Shape(
    "second",
    ("clinic", "lab", "logistics"),
    14,
    ("assistant", "assistant", "batch", "batch", "ingest", "monitor", "scorer"),
    ("triage", "writer", "vision-text", "vectors", "coder"),
    offset=-7.0,
    begins=7.0,
    workday=10.0,
    sessions=7.0,
    asks=5.0,
    pause=95.0,
    spread=0.75,
    weekends=0.35,
    night_shift=0.2,
    home=0.1,
    answer=90.0,
)
SHAPES = {shape.name: shape for shape in (FIRST, SECOND)}


@dataclass(slots=True)
class Member:
    """A person or a service. `since` is when it began to exist."""

    actor: str
    tenant: str
    kind: str
    models: tuple[str, ...]
    networks: tuple[str, ...]
    clients: tuple[str, ...]
    pace: float
    begins: float = 9.0
    template: str = ""
    since: float = 0.0
    growth: float = 1.0  # a day
    until: float = math.inf

    @property
    def is_person(self) -> bool:
        return self.kind == "person"


@dataclass(slots=True)
class Organisation:
    """Everybody, made from a shape and a seed."""

    shape: Shape
    random: Random
    words: Words
    members: list[Member] = field(default_factory=list)

    @classmethod
    def make(cls, shape: Shape, random: Random) -> Organisation:
        made = cls(shape, random, Words(random))
        for tenant in shape.tenants:
            for number in range(shape.people):
                made.members.append(made.person(tenant, f"{tenant}-{number:02}"))
            for number, kind in enumerate(shape.services):
                made.members.append(made.service(tenant, kind, f"{tenant}-{kind}-{number}"))
        return made

    def person(self, tenant: str, name: str, since: float = 0.0) -> Member:
        draw, shape = self.random, self.shape
        chat = [model for model in shape.models if model not in (shape.models[-1], _embedder(shape))]
        shift = 12.0 if draw.random() < shape.night_shift else 0.0
        return Member(
            f"user:{name}",
            tenant,
            "person",
            tuple(draw.sample(chat, draw.randint(1, 2))),
            (f"office-{tenant}", f"net-{draw.getrandbits(24):06x}"),
            (draw.choice(("OpenAI", "OpenAI", "Anthropic", "Mozilla", "python-httpx")),),
            draw.lognormvariate(0.0, 0.5),
            min(15.0, shape.begins + draw.gauss(0.0, 0.7) + shift * 0.6),
            since=since,
        )

    def service(self, tenant: str, kind: str, name: str, since: float = 0.0) -> Member:
        draw = self.random
        model = _embedder(self.shape) if kind == "ingest" else draw.choice(self.shape.models[:3])
        return Member(
            f"service:{name}",
            tenant,
            kind,
            (model,),
            (f"cluster-{tenant}",),
            (draw.choice(("python-httpx", "node-fetch", "Go-http-client")),),
            draw.lognormvariate(0.0, 0.4),
            draw.uniform(0.0, 5.0),
            self.words.text(draw.randint(20, 60)),
            since=since,
        )

    def ordinary(self, member: Member, day: int, busy: float = 1.0) -> Iterator[Asked]:
        """What a member asks on one day."""
        midnight = START + day * DAY - self.shape.offset * HOUR
        end = midnight + DAY
        if end < member.since or midnight > member.until:
            return
        age = max(0.0, (midnight - member.since) / DAY) if member.since else 0.0
        busy *= member.growth**age
        asked = (
            self._person(member, day, midnight, busy)
            if member.is_person
            else self._service(member, midnight, busy)
        )
        for one in asked:
            if member.since <= one.time < member.until:
                yield one

    def _person(self, member: Member, day: int, midnight: float, busy: float) -> Iterator[Asked]:
        draw, shape = self.random, self.shape
        is_free = day % 7 >= 5
        if is_free and draw.random() > shape.weekends:
            return
        today = busy * member.pace * draw.lognormvariate(0.0, shape.spread) * (0.3 if is_free else 1.0)
        sessions = range(_poisson(draw, shape.sessions * min(today, 3.0)))
        at_home, time = is_free or draw.random() < shape.home, 0.0
        for begins in sorted(member.begins + draw.betavariate(2.0, 2.2) * shape.workday for _ in sessions):
            time = max(time + 60.0, midnight + begins * HOUR)
            is_away = draw.random() < 0.08  # over a telephone, in a meeting elsewhere
            network = member.networks[at_home != is_away]
            model, text = draw.choice(member.models), ""
            for _ in range(1 + _poisson(draw, shape.asks * max(1.0, min(today / 2, 2.0)))):
                time += draw.lognormvariate(math.log(shape.pause), 0.9)
                again = text and draw.random() < 0.12
                text = self.words.changed(text) if again else self.words.text(draw.randint(6, 70))
                yield self.asked(member, time, model, text, network=network)

    def _service(self, member: Member, midnight: float, busy: float) -> Iterator[Asked]:
        rhythm = {
            "assistant": self._assistant,
            "batch": self._batch,
            "ingest": self._batch,
            "evaluation": self._batch,
            "scorer": self._batch,
            "monitor": self._monitor,
        }
        yield from rhythm[member.kind](member, midnight, busy)

    def _assistant(self, member: Member, midnight: float, busy: float) -> Iterator[Asked]:
        """Asked by customers, day and night, more by day."""
        draw, time = self.random, midnight
        rate = 55.0 * member.pace * busy * draw.lognormvariate(0.0, 0.2)
        while time < midnight + DAY:
            hour = (time - midnight) / HOUR
            level = 0.15 + max(0.0, math.sin((hour - 6.0) / 16.0 * math.pi))
            time += draw.expovariate(rate * level / HOUR)
            text = f"{member.template} {self.words.text(draw.randint(5, 40))}"
            yield self.asked(member, time, member.models[0], text)

    def _batch(self, member: Member, midnight: float, busy: float) -> Iterator[Asked]:
        """The same work every night; machine-paced."""
        draw = self.random
        many = {"batch": 500, "ingest": 90, "evaluation": 120, "scorer": 350}[member.kind]
        hour = 13.5 if member.kind == "evaluation" else member.begins
        time = midnight + (hour + draw.uniform(0.0, 0.3)) * HOUR
        pause = draw.uniform(2.0, 6.0)
        for _ in range(int(many * member.pace * busy * draw.lognormvariate(0.0, 0.25))):
            time += pause * draw.uniform(0.8, 1.3)
            if member.kind == "ingest":
                inputs = draw.choice((16, 32, 64))
                yield self.asked(
                    member, time, member.models[0], self.words.text(40), task="embeddings", inputs=inputs
                )
            else:
                text = f"{member.template} {self.words.text(draw.randint(10, 50))}"
                yield self.asked(member, time, member.models[0], text, logprobs=member.kind == "evaluation")

    def _monitor(self, member: Member, midnight: float, _busy: float) -> Iterator[Asked]:
        for number in range(144):
            time = midnight + number * 600.0 + self.random.uniform(0.0, 2.0)
            yield self.asked(member, time, member.models[0], member.template, answer=3.0)

    def asked(self, member: Member, time: float, model: str, text: str, **more: object) -> Asked:
        """One request of a member, with what a person or program of its kind brings along."""
        draw = self.random
        facts: dict[str, object] = {
            "network": member.networks[0],
            "client": member.clients[0],
            "answer": self.shape.answer * draw.lognormvariate(0.0, 0.6),
            **more,
        }
        if draw.random() < 0.004 and "code" not in facts:
            facts["code"] = draw.choice(("LIM-RATE", "GW-UPSTREAM", "PRM-INJECT", "DLP-BLOCK", "GW-MODEL"))
        return Asked(time, member.actor, member.tenant, model, text, **facts)  # type: ignore[arg-type]  # by name


def _embedder(shape: Shape) -> str:
    return next(model for model in shape.models if model in ("embedder", "vectors"))


def _poisson(random: Random, mean: float) -> int:
    """Knuth's way; means here are small."""
    limit, product, count = math.exp(-min(mean, 50.0)), random.random(), 0
    while product > limit:
        product *= random.random()
        count += 1
    return count
