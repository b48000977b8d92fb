"""Limits on use: requests, tokens, parallel requests, stream seconds and money, by identity, model and tenant.

What a request may need is reserved before it runs and settled to what it used, so parallel requests cannot overspend
by more than one reservation between them. A sliding window rather than a refilling bucket: a bucket admits up to
twice the stated number in its first minute, and the stated number is a promise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from garrison.core.errors import Refused
from garrison.gateway.counters import DIMENSIONS, Table

WINDOW_SECONDS = 60.0
DEFAULT_COMPLETION = 1_024  # tokens reserved for an answer whose request sets no maximum
STREAM_SECONDS = 60  # reserved for a stream; longer ones are counted when they end
MAX_RULES = 512
MAX_AMOUNT = 10**15
MICRO = 1_000_000  # money is counted in millionths of the unit that prices are given in
EACH, ANY = "each", "*"
_SELECTORS = ("identity", "model", "tenant")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one subject may use of one model when no rule says less; 0 means nothing may pass."""

    requests_per_minute: int
    tokens_per_minute: int
    concurrency: int


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit. A selector is a name, `each` (everyone has a count of their own) or `*` (all together).

    `caps` are by dimension, None where there is none.
    """

    name: str
    identity: str = EACH
    model: str = EACH
    tenant: str = ANY
    caps: tuple[int | None, ...] = (None,) * len(DIMENSIONS)
    concurrency: int | None = None
    capped: tuple[tuple[int, int], ...] = field(
        init=False, compare=False
    )  # (dimension, cap), of those there are

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "capped", tuple((n, cap) for n, cap in enumerate(self.caps) if cap is not None)
        )

    def key(self, identity: str, model: str, tenant: str) -> str | None:
        """Under what a request is counted; None when the rule is not about it."""
        parts = [self.name]
        for selector, value in ((self.identity, identity), (self.model, model), (self.tenant, tenant)):
            if selector == EACH:
                parts.append(value)
            elif selector not in (ANY, value):
                return None
        return "\0".join(parts)

    def share(self, replicas: int) -> Rule:
        """The part of one of several gateways that cannot count together: never more than the whole."""
        caps = tuple(cap if cap is None else cap // replicas for cap in self.caps)
        concurrency = self.concurrency if self.concurrency is None else self.concurrency // replicas
        return Rule(self.name, self.identity, self.model, self.tenant, caps, concurrency)


@dataclass(frozen=True, slots=True)
class Price:
    """Of a million tokens, in millionths of the unit."""

    input: int = 0
    output: int = 0

    def of(self, prompt: int, completion: int) -> int:
        if not self.input and not self.output:
            return 0
        return (prompt * self.input + completion * self.output + MICRO - 1) // MICRO


@dataclass(frozen=True, slots=True)
class Spend:
    """What one request needs, or used."""

    input: int
    output: int
    stream_seconds: int = 0
    money: int = 0

    def amounts(self) -> tuple[int, ...]:
        """By dimension."""
        return (1, self.input + self.output, self.input, self.output, self.stream_seconds, self.money)


@dataclass(frozen=True, slots=True)
class Counted:
    """The rules that a request is under, each with the key that it is counted by, and the model's price."""

    rules: tuple[tuple[Rule, str], ...]
    price: Price
    model: str


def default_rule(limits: Limits) -> Rule:
    """What the settings say, for each identity and model."""
    caps = (limits.requests_per_minute, limits.tokens_per_minute, None, None, None, None)
    return Rule("default", caps=caps, concurrency=limits.concurrency)


def parse_rule(facts: Mapping[str, Any]) -> Rule:
    """As the ledger tells it. Raises ValueError or TypeError."""
    known = {"name", "concurrency", *_SELECTORS, *DIMENSIONS}
    if set(facts) - known or not isinstance(facts.get("name"), str):
        raise ValueError("a limit has a name, selectors and amounts")
    selectors = [facts.get(name, ANY) for name in _SELECTORS]
    amounts = [facts.get(name) for name in (*DIMENSIONS, "concurrency")]
    if any(type(text) is not str or not text or len(text) > 256 for text in selectors):
        raise TypeError("selector")
    if any(
        number is not None and (type(number) is not int or not 0 <= number <= MAX_AMOUNT)
        for number in amounts
    ):
        raise TypeError("amount")
    if all(number is None for number in amounts):
        raise ValueError("a limit limits something")
    identity, model, tenant = selectors
    return Rule(facts["name"], identity, model, tenant, tuple(amounts[:-1]), amounts[-1])


@dataclass(slots=True, eq=False)
class Reservation:
    """Places in the windows. `settle` once, when the request has ended, with what it used."""

    table: Table
    clock: Callable[[], float]
    reserved: tuple[int, ...]
    price: Price
    rows: list[tuple[int, list[tuple[int, int, int]]]]  # row, then (dimension, its place, epoch)
    later: Callable[[tuple[int, ...]], None] | None = None  # tells the counters that several gateways share
    open: bool = True

    def settle(self, prompt: int, completion: int = 0, seconds: float = 0.0) -> None:
        money = self.price.of(prompt, completion)
        self._end((1, prompt + completion, prompt, completion, math.ceil(seconds), money))

    def cancel(self) -> None:
        """It never was: another count refused the request."""
        self._end((0,) * len(DIMENSIONS))

    def _end(self, used: tuple[int, ...]) -> None:
        if not self.open:
            return
        self.open = False
        table, reserved, now = self.table, self.reserved, self.clock()
        bases = [row[0] for row in self.rows]
        table.lock(bases)
        try:
            for base, places in self.rows:
                table.run(base, -1)
                for dimension, place, epoch in places:
                    change = used[dimension] - reserved[dimension]
                    if change:
                        table.advance(base, dimension, now)
                        table.correct(place, epoch, change)
        finally:
            table.unlock(bases)
        if self.later is not None:
            self.later(used)


@dataclass(slots=True)
class Limiter:
    """Counts of one machine. `clock` gives monotonic seconds."""

    clock: Callable[[], float]
    table: Table = field(default_factory=Table)
    replicas: int = 1  # gateways that have these limits together
    alone: bool = False  # whether this one cannot count with the others now

    def reserve(self, counted: Counted, spend: Spend) -> Reservation:
        """Places for one request under all of its rules, or under none.

        Raises `Refused` LIM-RATE with `retry_after` seconds.
        """
        if self.alone:
            counted = Counted(
                tuple((rule.share(self.replicas), key) for rule, key in counted.rules),
                counted.price,
                counted.model,
            )
        table, now, amounts = self.table, self.clock(), spend.amounts()
        bases = self._rows(counted, now)
        table.lock(bases)
        try:
            found = []
            for base, (rule, key) in zip(bases, counted.rules, strict=True):
                if not table.holds(base, key):
                    raise _over("subjects", 0, 0, 1.0, counted.model)  # another worker forgot it this instant
                found.append((base, self._places(base, rule, amounts, counted.model, now)))
            taken = []
            for base, places in found:
                table.run(base, 1)
                taken.append((base, [(dim, place, table.add(place, amounts[dim])) for dim, place in places]))
        finally:
            table.unlock(bases)
        return Reservation(table, self.clock, amounts, counted.price, taken)

    def _rows(self, counted: Counted, now: float) -> list[int]:
        bases = []
        for _, key in counted.rules:
            base = self.table.row(key, now)
            if base is None:
                raise _over("subjects", 0, 0, WINDOW_SECONDS, counted.model)
            bases.append(base)
        return bases

    def _places(
        self, base: int, rule: Rule, amounts: Sequence[int], model: str, now: float
    ) -> list[tuple[int, int]]:
        """The dimensions of a rule that have room, with their places. Raises `Refused` LIM-RATE."""
        table = self.table
        if rule.concurrency is not None and (running := table.running(base)) >= rule.concurrency:
            raise _over("concurrency", rule.concurrency, running, 1.0, model, rule.name)
        places = []
        for dimension, cap in rule.capped:
            place = table.advance(base, dimension, now)
            amount = amounts[dimension]
            asked = table.total(place) + amount
            if asked > cap and amount:
                wait = table.wait(place, dimension, max(1, asked - cap), now)
                raise _over(DIMENSIONS[dimension], cap, asked, wait, model, rule.name)
            places.append((dimension, place))
        return places


def _over(limit: str, allowed: int, asked: int, wait: float, model: str, rule: str = "default") -> Refused:
    seconds = max(1, math.ceil(wait))
    shown = f"{allowed / MICRO:g}" if limit.startswith("money") else str(allowed)
    return Refused(
        "LIM-RATE",
        f"{limit} for {model} is {allowed}; this request would make it {asked}"
        if "tokens" in limit
        else f"{limit} for {model} is {shown} and used up",
        fix=f"wait {seconds} seconds, ask for fewer tokens, or ask an operator for a higher limit",
        evidence={"limit": limit, "allowed": allowed, "rule": rule},
        retry_after=seconds,
    )


def refused_elsewhere(rule: Rule, dimension: int, wait: float, model: str) -> Refused:
    """The refusal of the counters that several gateways share. `dimension` -1 is parallel requests."""
    if dimension < 0:
        return _over("concurrency", rule.concurrency or 0, 0, 1.0, model, rule.name)
    return _over(DIMENSIONS[dimension], rule.caps[dimension] or 0, 0, wait, model, rule.name)
