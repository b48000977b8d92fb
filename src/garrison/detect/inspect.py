"""One text in one direction: what it carries, whether it may pass, and what of it may pass.

Values (secrets, personal data) are judged on the text as it stands; orders to the model on its
normalised form and on the views that its encodings open, by signatures and by the classifier. An
`Inspector` belongs to one thread.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from garrison.core.errors import Refused, Undecided
from garrison.detect import signatures
from garrison.detect.base import Direction, Effect, Inspection, Outcome, TextFinding
from garrison.detect.classifier import Classifier
from garrison.detect.handling import How
from garrison.detect.judges import Judge, heard, undecided
from garrison.detect.many_shot import many_shot
from garrison.detect.names import DETECTOR, NameStream
from garrison.detect.normalise import HIDDEN, View, normalise, views
from garrison.detect.own import NOTHING_OWN, Own
from garrison.detect.patterns import BlockScanner, Hit, StreamScanner, TextStream, encode
from garrison.detect.redact import Marks, Redaction, farthest
from garrison.detect.route_guard import AS_EVER, WIDEST, RouteGuard
from garrison.detect.rulepack import Rule, built_in_rules
from garrison.detect.stream import StreamRedactor
from garrison.detect.tier2 import Guard, channel_of
from garrison.detect.tier2_doubt import Orders, Read, concluded, doubted, telling

BLOCK_AT = 0.80
GATE = "gate"  # the kind of the rule that finds words which orders use; without one, tier 1 does not block
TURNS = "turns"  # the kind of the rule that finds a turn of a written-out dialogue
BELOW = 0.01  # how far under `block_at` the score of a text without such a word stays
SEPARATOR = "\n"  # between joined texts: no word crosses it, and the triggers' `^` and `$` match beside it
_ABSOLUTE = re.compile(r"\\[AzZGK]")  # anchors that no separator satisfies
MAX_REMEMBERED = 4_096  # texts known to be without a finding, by a keyed digest: 0.5 MB
FEW = 16  # texts of which each is looked up before they are scanned: above that, scanning costs less
MAX_TEXT = 8 * 1024 * 1024  # characters; a request body is smaller, and documents come in parts

# What happens to a value, by who wrote the text. A caller may speak of people; a model needs no key.
EFFECTS: Mapping[Direction, Mapping[str, Effect]] = MappingProxyType(
    {
        Direction.INPUT: {"secret": Effect.REDACT, "pii": Effect.NOTE},
        Direction.DOCUMENT: {"secret": Effect.REDACT, "pii": Effect.NOTE},
        Direction.OUTPUT: {"secret": Effect.REDACT, "pii": Effect.REDACT},
    }
)


class Inspector:
    """Rules compiled once, then asked for every text.

    `block_at` is the injection score that blocks. `effects` overrides what happens to `secret`, `pii` or
    `exfiltration` values per direction. `cache` is a directory for compiled databases, private to this user;
    only what `directions` need is compiled. `score_all` asks the classifier also about texts in which no word
    of an order stands: their score is under `block_at` in any case, so a gateway need not know it. `own` is what
    a customer added: patterns and registered documents. One that `asks`, by channel, leaves what the first tier does
    not settle open: its inspections may have a `doubt`, and nothing of such a text passes before that is settled.
    Raises `Usage` DLP-RULE for a rule that does not compile, `Refused` DLP-WEIGHTS.
    """

    def __init__(
        self,
        rules: Sequence[Rule] | None = None,
        *,
        block_at: float = BLOCK_AT,
        effects: Mapping[Direction, Mapping[str, Effect]] = EFFECTS,
        cache: Path | None = None,
        directions: Collection[Direction] = tuple(Direction),
        score_all: bool = True,
        own: Own = NOTHING_OWN,
        tier1: Judge | None = None,
        asks: Mapping[str, Guard] | None = None,
    ) -> None:
        known = own.over(built_in_rules() if rules is None else tuple(rules))
        self._guard = Guard(block_at)
        self._asks = dict(asks or {})
        incoming = [rule for rule in known if rule.directions - {Direction.OUTPUT}]
        outgoing = [rule for rule in known if Direction.OUTPUT in rule.directions and rule.is_dlp]
        self._plain = {
            way: (outgoing if way is Direction.OUTPUT else incoming, effects.get(way, {}))
            for way in directions
        }
        self._rules = {way: _with_effects(*plain) for way, plain in self._plain.items()}
        self._back = {way: farthest(rules) for way, rules in self._rules.items()}
        judges = bool(set(directions) - {Direction.OUTPUT})
        self._block = BlockScanner(incoming, cache) if judges else None
        self._classifier = (tier1 or Classifier()) if judges else None
        self._failed: set[str] = set()  # detectors that failed on the text that is being judged
        self._score_all = score_all
        self._blocking = own.blocking  # a value that ends a request; in an answer it is replaced
        self._ways: dict[tuple[Direction, tuple[tuple[str, Effect], ...]], tuple[Rule, ...]] = {}
        self._quiet: OrderedDict[bytes, None] = OrderedDict()
        self._scanned: tuple[str, list[Hit]] | None = (
            None  # the last text: `is_clean` and `inspect` ask twice
        )
        self._secret = secrets.token_bytes(32)
        self._stream = StreamScanner(outgoing, cache) if Direction.OUTPUT in directions else None
        self._answers = BlockScanner(outgoing, cache) if Direction.OUTPUT in directions else None
        self._named = {way for way in directions if own.names is not None and way in own.names[1].directions}
        self._names = own.names
        self._copies = {way: copies for way in directions if (copies := own.copies_in(way)) is not None}
        self._joins = not any(_ABSOLUTE.search(rule.trigger) for rule in known)

    def inspect(
        self,
        text: str,
        direction: Direction,
        excepted: frozenset[str] = frozenset(),
        how: How | None = None,
        *,
        tolerant: bool = False,
        guard: RouteGuard = AS_EVER,
    ) -> Inspection:
        """Judge a whole text. What rules that are `excepted` find is told and blocks nothing.

        `how` says what is done with values, in the place of the defaults. A detector that fails leaves the text
        undecided, unless `tolerant`: then it is judged by the others, and `incomplete` names the one that failed.
        `guard` is what the route says of orders to the model.

        Raises `Refused` PRM-LENGTH for a text over `MAX_TEXT` characters, `Undecided` PRM-UNDECIDED.
        """
        if len(text) > MAX_TEXT:
            raise Refused(
                "PRM-LENGTH",
                f"The text has {len(text)} characters; at most {MAX_TEXT} are inspected in one piece",
                fix="Send less text, or send it in parts.",
            )
        if direction is Direction.OUTPUT:
            return self._inspect_output(text, how)
        self._failed.clear()
        inspection = self._inspect_incoming(text, direction, excepted, how, guard, tolerant)
        if not self._failed:
            return inspection
        names = tuple(sorted(self._failed))
        if not tolerant and inspection.verdict is not Outcome.BLOCK:
            raise undecided(names)
        return replace(inspection, incomplete=names, doubt=None)

    def is_clean(self, texts: Sequence[str], direction: Direction) -> bool:
        """Whether `inspect` would let every one of these texts pass as it is, without a finding.

        One scan over all of them, joined; only when that finds something, each by itself. False says only
        that they have to be looked at one by one.
        """
        copies = self._copies.get(direction)
        if copies is not None and any(copies.find(text) for text in texts):
            return False
        if direction is Direction.OUTPUT and direction in self._named and self._may_name(texts):
            return False
        keys: list[bytes] | None = None
        if direction is not Direction.OUTPUT and len(texts) <= FEW:
            unknown = {self._key(text, direction): text for text in texts}
            unknown = {key: text for key, text in unknown.items() if not self._is_known(key)}
            if not unknown:
                return True
            keys, texts = list(unknown), list(unknown.values())
        joined = texts[0] if len(texts) == 1 else SEPARATOR.join(texts)
        if len(joined) > MAX_TEXT or (not self._joins and len(texts) != 1):
            return False
        if direction is Direction.OUTPUT:
            return self._answers is not None and self._answers.is_silent(joined)
        if self._block is None:
            return False
        plain = not self._asks and direction not in self._named
        if plain and joined.isascii() and not self._scan(joined, direction):
            return True
        if keys is None:
            keys = [self._key(text, direction) for text in texts]
        return all(self._is_quiet(key, text, direction) for key, text in zip(keys, texts, strict=True))

    def _may_name(self, texts: Sequence[str]) -> bool:
        try:
            return self._names is not None and any(self._names[0].find(text) for text in texts)
        except Exception:  # noqa: BLE001 - the boundary of a detector: whether it failed is told when it is asked again
            return True

    def _key(self, text: str, direction: Direction) -> bytes:
        return hashlib.blake2b(direction.encode() + encode(text), key=self._secret, digest_size=16).digest()

    def _is_known(self, key: bytes) -> bool:
        if key not in self._quiet:
            return False
        self._quiet.move_to_end(key)
        return True

    def _is_quiet(self, key: bytes, text: str, direction: Direction) -> bool:
        """Whether a text has no finding. What an application repeats with every request is judged once."""
        if self._is_known(key):
            return True
        try:
            inspection = self.inspect(text, direction, guard=WIDEST)
        except Undecided:
            return False
        if inspection.findings or inspection.doubt or inspection.verdict is not Outcome.ALLOW:
            return False
        self._quiet[key] = None
        if len(self._quiet) > MAX_REMEMBERED:
            self._quiet.popitem(last=False)
        return True

    def open_output(self, how: How | None = None) -> tuple[TextStream, Redaction]:
        """For `StreamRedactor`."""
        if self._stream is None:
            raise ValueError("this inspector was made without Direction.OUTPUT")
        return self._stream.open(), self._redaction(Direction.OUTPUT, how)

    def _redaction(self, direction: Direction, how: How | None, *, names: bool = True) -> Redaction:
        marks: list[Marks] = []
        if direction in self._copies:
            marks.append(self._copies[direction].open())
        if names and self._names is not None and direction in self._named:
            model, rule = self._names
            effects = {**self._plain[direction][1], **dict(() if how is None else how.effects)}
            marks.append(NameStream(model, _with_effects([rule], effects)[0]))
        return Redaction(
            self._treated(direction, how),
            self._back[direction],
            marks,
            None if how is None else how.relabel,
        )

    def _redacted(
        self, text: str, values: list[Hit], direction: Direction, how: How | None
    ) -> tuple[str, tuple[TextFinding, ...]]:
        """What may pass of a whole text, and the values. Without the recogniser of names when that fails."""
        redaction = self._redaction(direction, how)
        try:
            passed = redaction.feed(text, values, last=True)
        except Undecided:
            self._failed.add(DETECTOR)
            redaction = self._redaction(direction, how, names=False)
            passed = redaction.feed(text, values, last=True)
        return passed, redaction.findings

    def _treated(self, direction: Direction, how: How | None) -> tuple[Rule, ...]:
        """The rules with what `how` does to their class; made once for each way that is asked for."""
        if how is None:
            return self._rules[direction]
        key = (direction, how.effects)
        if key not in self._ways:
            rules, usual = self._plain[direction]
            self._ways[key] = _with_effects(rules, {**usual, **dict(how.effects)})
        return self._ways[key]

    def _inspect_output(self, text: str, how: How | None) -> Inspection:
        redactor = StreamRedactor(self, how)
        passed = redactor.feed(text) + redactor.close()
        ended = how is not None and any(how.ends(finding.kind) for finding in redactor.findings)
        return _inspection(text, passed, redactor.findings, 0.0, blocked=ended)

    def _inspect_incoming(
        self,
        text: str,
        direction: Direction,
        excepted: frozenset[str],
        how: How | None,
        said: RouteGuard,
        tolerant: bool,
    ) -> Inspection:
        rules = self._treated(direction, how)
        hits = self._scan(text, direction)
        marked = direction in self._copies or direction in self._named
        if not hits and not marked and text.isascii() and not self._score_all:
            return Inspection(Outcome.ALLOW, 0.0, (), text)
        values = [hit for hit in hits if rules[hit[1]].is_dlp]
        passed, findings = text, tuple[TextFinding, ...]()
        if values or marked:
            passed, findings = self._redacted(text, values, direction, how)
        ends = self._blocking - excepted
        forbidden = any(
            finding.rule_id in ends or (how is not None and how.ends(finding.kind)) for finding in findings
        )
        if not findings and not self._score_all and len(values) == len(hits) and text.isascii():
            return Inspection(Outcome.ALLOW, 0.0, (), passed)  # nothing hints at an order
        channel = channel_of(direction)
        guard = said.over(self._asks.get(channel, self._guard))
        signed, read = self._orders(text, direction, hits, guard)
        orders = Orders(text, passed, direction, findings, tuple(signed), telling(read), excepted, forbidden)
        doubt = (
            doubted(orders, guard, tolerant=tolerant) if channel in self._asks and not self._failed else None
        )
        return concluded(orders, guard, doubt=doubt)

    def _orders(
        self, text: str, direction: Direction, hits: list[Hit], guard: Guard
    ) -> tuple[list[TextFinding], list[Read]]:
        """What signatures find, and what the classifier says, of the plain reading and of hidden ones."""
        rules = self._rules[direction]
        plain = normalise(text)
        if plain.text != text:
            hits = self._scan(plain.text, direction)
        signed = signatures.confirm(plain, rules, _orders_only(rules, hits), direction)
        signed.extend(_dialogue(plain, rules, hits))
        if HIDDEN.search(text):
            signed.extend(signatures.hidden(text, direction))
        read = [self._tier1(plain, direction, rules, hits, len(text), guard)]
        wanted = {rules[rule].id.removeprefix("view.") for _, rule in hits if rules[rule].kind == "view"}
        if wanted:
            for view in views(plain, wanted):
                inner = self._scan(view.text, direction)
                signed.extend(signatures.confirm(view, rules, _orders_only(rules, inner), direction))
                signed.extend(_dialogue(view, rules, inner))
                read.append(self._tier1(view, direction, rules, inner, len(text), guard))
        return signed, read

    def _tier1(
        self,
        view: View,
        direction: Direction,
        rules: Sequence[Rule],
        hits: list[Hit],
        size: int,
        guard: Guard,
    ) -> Read:
        """What the classifier says of one reading, if it is worth asking."""
        gated = not view.text.isascii() or any(
            not rules[rule].is_dlp and rules[rule].kind != TURNS for _, rule in hits
        )
        if self._classifier is None or not (gated or self._score_all):
            return Read(view, 0.0, None)
        opinion = heard(self._classifier, view, direction, size)
        if opinion is None:
            self._failed.add("tier1")
            return Read(view, 0.0, None)
        score, finding = opinion
        return Read(view, score, finding) if gated else Read(view, min(score, guard.block_at - BELOW), None)

    def _scan(self, text: str, direction: Direction) -> list[Hit]:
        """Hits of the rules that apply in this direction."""
        if self._block is None:
            raise ValueError("this inspector was made for Direction.OUTPUT only")
        if self._scanned is None or self._scanned[0] is not text:
            self._scanned = text, self._block.scan(text)
        rules = self._rules[direction]
        return [hit for hit in self._scanned[1] if direction in rules[hit[1]].directions]


def _with_effects(rules: Sequence[Rule], effects: Mapping[str, Effect]) -> tuple[Rule, ...]:
    """The rules with what the direction does to their kind; a rule that only notes stays so."""
    return tuple(
        replace(rule, effect=effects.get(rule.kind.partition(".")[0], rule.effect))
        if rule.is_dlp and rule.effect is not Effect.NOTE
        else rule
        for rule in rules
    )


def _orders_only(rules: Sequence[Rule], hits: list[Hit]) -> list[Hit]:
    kinds = ("view", GATE, TURNS)
    return [hit for hit in hits if not rules[hit[1]].is_dlp and rules[hit[1]].kind not in kinds]


def _dialogue(view: View, rules: Sequence[Rule], hits: list[Hit]) -> list[TextFinding]:
    """A dialogue that is written out in this reading, when it is one that asks for a yes."""
    found = many_shot(view) if any(rules[rule].kind == TURNS for _, rule in hits) else None
    return [] if found is None else [found]


def _inspection(
    text: str, passed: str, findings: tuple[TextFinding, ...], score: float, *, blocked: bool
) -> Inspection:
    if blocked:
        return Inspection(Outcome.BLOCK, score, findings, "")
    verdict = Outcome.ALLOW if passed == text else Outcome.REDACT
    return Inspection(verdict, score, findings, passed)
