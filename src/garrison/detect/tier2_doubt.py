"""What becomes of a text: by signatures and the first tier, and anew when the second tier was asked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice

from garrison.detect import signatures
from garrison.detect.base import Direction, Doubt, Inspection, Opinions, Outcome, TextFinding
from garrison.detect.classifier import MAX_JUDGED, NOTED_FROM, tier1_rule
from garrison.detect.judges import undecided
from garrison.detect.normalise import View
from garrison.detect.tier2 import MAX_READINGS, NAME, Guard, tier2_rule

# Words of which one in five is one, in the languages that are written in ASCII; hardly any in what is encoded.
COMMON = frozenset(
    re.findall(
        "[a-z]{2,}",  # single letters are what a spaced or dashed text is made of
        """the and you your are was for with that this what how can not from have will which about would
        please give me my make write tell create who when where why should does into its their it is to
        of in on an or be do que los las una por para con del como est les des pour dans avec qui sur
        vous et le la un une sans tout toute ta tes ton tu je ne pas ce cette au aux
        der die das und ist nicht ein eine mit von auf wie du dein deine mir dich dem im zu nur jetzt ab hier
        y el en tu mi sin todo todas ahora solo lo le che il di per sono gli tutto senza ora tue
        uma os e o seu sua sem todas de het een van je niet voor met alle ignore all
        previous instructions system prompt disregard forget now no rules""",
    )
)
EVERY = 5
MAX_LOOKED_AT = 4_000
UNSPELT = 2  # words of a text that is spelt out letter by letter, at most
_WHOLE_WORD = re.compile(r"[^\W\d_]{2}")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[0-9]+")


@dataclass(frozen=True, slots=True)
class Read:
    """One reading of a text, what the first tier says of it, and its finding when that is worth noting."""

    view: View
    score: float
    finding: TextFinding | None

    @property
    def is_language(self) -> bool:
        """Whether a classifier of language can say something of it: not of what is still encoded."""
        text = self.view.text[:MAX_LOOKED_AT]
        if not text.isascii():
            return True
        words = _WORD.findall(text.lower())
        return EVERY * sum(word in COMMON for word in words) >= len(words) > 0


@dataclass(frozen=True, slots=True)
class Orders:
    """A text of which everything is known but the second opinion.

    `passed` is what of it may go on as far as values go, `values` what was found of those; with `forbidden` one of
    them ends the request. `signed` is what signatures found.
    """

    text: str
    passed: str
    direction: Direction
    values: tuple[TextFinding, ...]
    signed: tuple[TextFinding, ...]
    read: tuple[Read, ...]
    excepted: frozenset[str]
    forbidden: bool

    def score(self, classified: float) -> float:
        counted = (finding for finding in self.signed if finding.rule_id not in self.excepted)
        return signatures.score(counted, classified)

    def first(self, read: Iterable[Read]) -> float:
        """What the first tier contributes by these readings."""
        if tier1_rule(self.direction) in self.excepted:
            return 0.0
        return max((one.score for one in read), default=0.0)


def telling(read: Iterable[Read]) -> tuple[Read, ...]:
    """The readings that count. Letters one by one look odd to a reader of language, harmless or not: once they were
    put together, what they were put together from says nothing any more."""
    found = tuple(read)
    if not any(one.view.name for one in found):
        return found
    return tuple(one for one in found if one.view.name or not _is_spelt(one.view.text))


def _is_spelt(text: str) -> bool:
    """Whether a text is of single letters, so that no order can stand between them."""
    return sum(1 for _ in islice(_WHOLE_WORD.finditer(text), UNSPELT + 1)) <= UNSPELT


def concluded(orders: Orders, guard: Guard, *, doubt: Doubt | None = None) -> Inspection:
    """By signatures and the first tier. With a doubt, it is as if nothing was blocked until that is settled."""
    findings = (*orders.values, *orders.signed, *_told(orders.read))
    return _inspection(orders, guard, orders.first(orders.read), findings, doubt)


def doubted(orders: Orders, guard: Guard, *, tolerant: bool) -> Doubt | None:
    """The question to the second tier, if the first leaves one."""
    if orders.forbidden or orders.score(0.0) >= guard.block_at:
        return None  # decided without any classifier
    if any(one.score >= guard.high for one in orders.read):
        return None
    is_signed = any(finding.rule_id not in orders.excepted for finding in orders.signed)
    grey = [one for one in orders.read if guard.is_grey(one.score) or (is_signed and one.score < guard.low)]
    grey.sort(key=lambda one: -one.score)
    asked = tuple(one for one in grey[:MAX_READINGS] if one.is_language and one.view.text.strip())
    if not asked:
        return None

    def settle(opinions: Opinions | None) -> Inspection:
        return _settled(orders, guard, asked, opinions, tolerant=tolerant)

    texts = tuple(one.view.text[:MAX_JUDGED] for one in asked)
    seconds = guard.seconds_for(sum(map(len, texts)))
    return Doubt(orders.direction, texts, tuple(one.score for one in asked), seconds, settle)


def _settled(
    orders: Orders, guard: Guard, asked: tuple[Read, ...], opinions: Opinions | None, *, tolerant: bool
) -> Inspection:
    if opinions is None:
        alone = concluded(orders, guard)
        if not tolerant and alone.verdict is not Outcome.BLOCK:
            raise undecided((NAME,))
        return replace(alone, incomplete=(NAME,))
    others = [one for one in orders.read if one not in asked]
    rule = tier2_rule(orders.direction)
    second = 0.0 if rule in orders.excepted else max(one.score for one in opinions)
    found = [
        TextFinding(
            rule,
            "injection",
            round(opinion.score, 4),
            *one.view.span(opinion.start, opinion.end),
            one.view.name,
        )
        for one, opinion in zip(asked, opinions, strict=True)
        if opinion.score >= NOTED_FROM
    ]
    findings = (*orders.values, *orders.signed, *_told(others), *found)
    return _inspection(orders, guard, max(orders.first(others), second), findings, None)


def _told(read: Iterable[Read]) -> list[TextFinding]:
    return [one.finding for one in read if one.finding is not None]


def _inspection(
    orders: Orders, guard: Guard, classified: float, findings: tuple[TextFinding, ...], doubt: Doubt | None
) -> Inspection:
    score = orders.score(classified)
    is_over = score >= guard.block_at and doubt is None
    if orders.forbidden or (is_over and not guard.observes):
        return Inspection(Outcome.BLOCK, score, findings, "")
    verdict = Outcome.ALLOW if orders.passed == orders.text else Outcome.REDACT
    return Inspection(verdict, score, findings, orders.passed, doubt=doubt, observed=is_over)
