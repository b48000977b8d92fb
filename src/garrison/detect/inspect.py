"""One text in one direction: what it carries, whether it may pass, and what of it may pass.

Values (secrets, personal data) are judged on the text as it stands; orders to the model on its
normalised form and on the views that its encodings open. An `Inspector` belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from garrison.core.errors import Refused
from garrison.detect import signatures
from garrison.detect.base import Direction, Effect, Inspection, Outcome, TextFinding
from garrison.detect.normalise import HIDDEN, View, normalise, views
from garrison.detect.patterns import BlockScanner, Hit, StreamScanner, TextStream
from garrison.detect.redact import Redaction
from garrison.detect.rulepack import Rule, built_in_rules
from garrison.detect.stream import StreamRedactor

BLOCK_AT = 0.80
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
    `exfiltration` values per direction. `cache` is a directory for compiled databases, private to this user.
    Raises `Usage` DLP-RULE for a rule that does not compile.
    """

    def __init__(
        self,
        rules: Sequence[Rule] | None = None,
        *,
        block_at: float = BLOCK_AT,
        effects: Mapping[Direction, Mapping[str, Effect]] = EFFECTS,
        cache: Path | None = None,
    ) -> None:
        known = built_in_rules() if rules is None else tuple(rules)
        self._block_at = block_at
        self._rules = {way: _for_direction(known, way, effects.get(way, {})) for way in Direction}
        # Input and documents differ in a few rules only, but a rule number must mean one rule.
        self._blocks = {
            way: BlockScanner(self._rules[way], cache) for way in (Direction.INPUT, Direction.DOCUMENT)
        }
        self._stream = StreamScanner(self._rules[Direction.OUTPUT], cache)

    def inspect(self, text: str, direction: Direction) -> Inspection:
        """Judge a whole text. Raises `Refused` PRM-LENGTH for one over `MAX_TEXT` characters."""
        if len(text) > MAX_TEXT:
            raise Refused(
                "PRM-LENGTH",
                f"The text has {len(text)} characters; at most {MAX_TEXT} are inspected in one piece",
                fix="Send less text, or send it in parts.",
            )
        if direction is Direction.OUTPUT:
            return self._inspect_output(text)
        return self._inspect_incoming(text, direction)

    def open_output(self) -> tuple[TextStream, Redaction]:
        """For `StreamRedactor`."""
        return self._stream.open(), Redaction(self._rules[Direction.OUTPUT])

    def _inspect_output(self, text: str) -> Inspection:
        redactor = StreamRedactor(self)
        passed = redactor.feed(text) + redactor.close()
        return _inspection(text, passed, redactor.findings, 0.0, blocked=False)

    def _inspect_incoming(self, text: str, direction: Direction) -> Inspection:
        rules, scanner = self._rules[direction], self._blocks[direction]
        hits = scanner.scan(text)
        if not hits and text.isascii():
            return Inspection(Outcome.ALLOW, 0.0, (), text)
        values = [hit for hit in hits if rules[hit.rule].is_dlp]
        passed, findings = text, list[TextFinding]()
        if values:
            redaction = Redaction(rules)
            passed = redaction.feed(text, values) + redaction.feed("", (), last=True)
            findings.extend(redaction.findings)
        findings.extend(self._orders(text, direction, hits))
        score = signatures.score(findings)
        return _inspection(text, passed, tuple(findings), score, blocked=score >= self._block_at)

    def _orders(self, text: str, direction: Direction, hits: list[Hit]) -> list[TextFinding]:
        """Injection and jailbreak findings in the plain reading and in what its encodings hide."""
        rules, scanner = self._rules[direction], self._blocks[direction]
        plain = normalise(text)
        if plain.text != text:
            hits = scanner.scan(plain.text)
        findings = signatures.confirm(plain, rules, _orders_only(rules, hits))
        if HIDDEN.search(text):
            findings.extend(signatures.hidden(text))
        wanted = {rules[hit.rule].id.removeprefix("view.") for hit in hits if rules[hit.rule].kind == "view"}
        if wanted:
            for view in views(plain, wanted):
                found = signatures.confirm(view, rules, _orders_only(rules, scanner.scan(view.text)))
                findings.extend(found)
        return findings


def _for_direction(
    rules: Sequence[Rule], way: Direction, effects: Mapping[str, Effect]
) -> tuple[Rule, ...]:
    chosen = [rule for rule in rules if way in rule.directions]
    if way is Direction.OUTPUT:
        chosen = [rule for rule in chosen if rule.is_dlp]
    return tuple(
        replace(rule, effect=effects.get(rule.kind.partition(".")[0], rule.effect))
        if rule.is_dlp and rule.effect is not Effect.NOTE
        else rule
        for rule in chosen
    )


def _orders_only(rules: Sequence[Rule], hits: list[Hit]) -> list[Hit]:
    return [hit for hit in hits if not rules[hit.rule].is_dlp and rules[hit.rule].kind != "view"]


def _inspection(
    text: str, passed: str, findings: tuple[TextFinding, ...], score: float, *, blocked: bool
) -> Inspection:
    if blocked:
        return Inspection(Outcome.BLOCK, score, findings, "")
    verdict = Outcome.ALLOW if passed == text else Outcome.REDACT
    return Inspection(verdict, score, findings, passed)
