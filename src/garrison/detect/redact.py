"""Values out of a text that arrives in pieces: what to hold, what to replace, what may go.

The answer is a function of the text alone, never of how it was cut:
  - a *cut* is a place that no value crosses (after white space, but not inside `4111 1111`);
  - a hit is judged on its *window*, from the cut before it (at most `reach` back) to the boundary after
    it (at most `ahead` on): both are properties of the text, and a window is judged when it is complete;
  - everything from the last cut, or from the first open window, is held back.
A value longer than its window is not let go: its rule's boundary ends it, however far that is, and
nothing of it is kept in memory or passed on. After `CROWD` values of one rule, values and what stands between
them become one stretch: a text made of nothing else costs no more than another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from garrison.detect.base import Effect, TextFinding
from garrison.detect.patterns import Hit
from garrison.detect.rulepack import CONTEXT, MAX_REACH, Rule

CROWD = 1_000  # values that one rule replaces, or notes, one by one in a text
STRETCH = 1_024  # characters that are then judged, and from the first value on replaced, in one piece
NONE = (0, 0)
WIDTH = "width"  # the boundary of a rule whose values have a greatest length, and may hold white space
_SPACE = "[ \u00a0\u2009\u202f]"
# After white space, or after a character of a script that is written without spaces. One space between
# digits or capitals is no cut: cards, IBANs and telephone numbers are written in groups.
_CUT = re.compile(rf"[\s\u2e80-\uffef](?:(?<![0-9A-Z)]{_SPACE})|(?<={_SPACE})(?=[^0-9A-Z(]))")
_LAST_CUT = re.compile(rf"(?s:.*)(?:{_CUT.pattern})")  # greedy: it is sought from the end
_LAST_CUT_BEFORE = re.compile(rf"{_LAST_CUT.pattern}(?=(?s:.))")  # and something follows it
_BOUNDARIES: dict[str, re.Pattern[str]] = {
    "token": _CUT,
    # Ends at a quote or at the end of the line.
    "quote": re.compile(r"[\"'`\n\r]"),
    # A PEM block ends at its END line. Prose (three short words) also ends it, or a text that only
    # mentions the BEGIN line would be held.
    "pem": re.compile(r"-----END [A-Z0-9 ]{0,40}-----|(?<= [a-z])[a-z]{0,12} [a-z]{1,12} [a-z]{1,12}[ .,]"),
}


@dataclass(slots=True)
class _Window:
    """A hit whose end of window is not known yet. Offsets are absolute; `searched` saves repeated work.

    Its boundary is looked for from `least` on: the hit, or farther where values of its rule are a crowd.
    """

    rule: Rule
    number: int
    hit: int
    start: int
    least: int
    searched: int
    late: int = 0  # the first hit of its rule behind the place where it ends when there is no boundary


@dataclass(slots=True, eq=False)
class _Span:
    rule: Rule
    start: int
    end: int
    found: int = 0  # where it ended when it was confirmed, before it may have grown

    @property
    def order(self) -> tuple[int, int, int, str]:
        return (self.start, -self.rule.priority, -self.end, self.rule.id)


@dataclass(slots=True)
class _Growing:
    """A value that filled its window: it goes on until its boundary, and takes in what its rule sees there."""

    span: _Span
    number: int
    searched: int


class Marks(Protocol):
    """A detector of its own kind: it names places itself, and says how far it is."""

    @property
    def safe(self) -> int:
        """Nothing that is not told yet starts before this place."""

    def feed(self, text: str, *, last: bool = False) -> list[tuple[int, int, Rule]]:
        """What is certain now: start, end and rule, counted from the first feed."""


def farthest(rules: Iterable[Rule]) -> int:
    """How far back, across any cut, a value with spaces in it may begin."""
    return max((rule.reach for rule in rules if rule.boundary == WIDTH), default=0)


class Redaction:
    """Feed text with its trigger hits, get text that may pass on. Offsets count from the first feed."""

    def __init__(
        self,
        rules: Sequence[Rule],
        back: int,
        marks: Sequence[Marks] = (),
        relabel: Callable[[Rule, str], str] | None = None,
    ) -> None:
        self._rules = rules
        self._relabel = relabel  # what stands in the place of a value, instead of its rule's label
        self._marks = marks
        self._back = back  # what `farthest` says of the rules
        self._buffer = ""
        self._base = 0  # absolute offset of buffer[0]
        self._out = 0  # absolute: everything before it was passed on or replaced
        self._cut = 0  # absolute: the last cut seen
        self._windows: list[_Window] = []
        self._judged: dict[int, int] = {}  # number of a rule -> end of its last window
        self._counted: dict[
            int, tuple[int, int]
        ] = {}  # number of a rule -> its values so far, the last one's end
        self._word = (0, 0)  # two cuts with none between them
        self._spans: list[_Span] = []
        self._growing: list[_Growing] = []
        self._swallowing: frozenset[int] = frozenset()  # the numbers of their rules
        self._current: _Span | None = None
        self._findings: list[TextFinding] = []
        self._notes: list[_Span] = []
        self._ended = False

    @property
    def held(self) -> int:
        """Characters received and neither passed on nor replaced."""
        return max(0, self._base + len(self._buffer) - self._out)

    @property
    def findings(self) -> tuple[TextFinding, ...]:
        """One per value: where several rules saw it, the one that gave it its name."""
        found = list(self._findings)
        if self._current:
            found.append(_finding(self._current))
        if self._notes:
            noted = sorted(self._notes, key=lambda span: span.order)
            found.extend(_finding(span) for span in _apart(noted, found))
        return tuple(sorted(found, key=lambda f: (f.start, f.end, f.rule_id)))

    @property
    def has_replaced(self) -> bool:
        """Whether anything that was passed on stands for something else."""
        return self._current is not None

    def feed(self, text: str, hits: Sequence[Hit], *, last: bool = False) -> str:
        """Text in, text out. `last` says that nothing follows."""
        fresh = self._base + len(self._buffer)
        self._buffer += text
        self._ended = last
        end = fresh + len(text)
        if not last:
            self._move_cut(fresh, end)
        if self._growing:
            self._grow(end)
        if self._windows or hits:
            self._judge(end, hits)
        limit = end if last else max(self._cut, end - MAX_REACH)
        if self._back and not last:
            limit = min(limit, end - self._back)
        for marks in self._marks:
            self._mark(marks.feed(text, last=last))
            limit = end if last else min(limit, marks.safe)
        if self._windows:
            limit = min(limit, min(window.start for window in self._windows))
        if self._growing:
            limit = min(limit, min(growing.span.end for growing in self._growing))
        passed = self._emit(limit)
        self._forget()
        return passed

    def _mark(self, found: Sequence[tuple[int, int, Rule]]) -> None:
        """Take in what another detector found. Passages that overlap become one: `_emit` joins them."""
        for start, end, rule in found:
            notes = rule.effect is Effect.NOTE
            (self._notes if notes else self._spans).append(_Span(rule, start, end, end))

    def _move_cut(self, fresh: int, end: int) -> None:
        """Look for the last cut; the last character before may have become one now."""
        found = _LAST_CUT.match(self._buffer, max(fresh - 1, end - MAX_REACH, self._base) - self._base)
        if found:
            self._cut = self._base + found.end()

    def _start(self, rule: Rule, hit: int) -> int:
        """The last cut before the hit, at most `reach` back."""
        floor = max(0, hit - rule.reach)
        if rule.boundary == WIDTH:
            return floor
        low = max(floor - 1, self._base) - self._base
        found = _LAST_CUT_BEFORE.match(self._buffer, low, hit - self._base)
        return self._base + found.end() if found else floor

    def _end(self, window: _Window, end: int) -> tuple[int, int] | None:
        """Before which place a value of the window starts, and where it has to end; None: not known yet.

        They differ where there is no boundary: a value may go on behind such a window, and what starts near its
        end is judged on as many characters as what starts near its beginning.
        """
        rule, least = window.rule, window.least
        cap = least + rule.ahead
        if rule.boundary == WIDTH:
            stop = min(cap, end)
            return (stop, stop) if end >= cap or self._ended else None
        last = cap + rule.ahead
        found = _BOUNDARIES[rule.boundary].search(
            self._buffer, max(window.searched, least) - self._base, min(last, end) - self._base
        )
        if found:
            stop = self._base + found.end()
            return stop, stop
        if end > last:
            return cap, last
        if self._ended:
            return end, end
        window.searched = max(least, end - CONTEXT)  # a boundary may have begun in the last characters
        return None

    def _judge(self, end: int, hits: Sequence[Hit]) -> None:
        waiting: dict[int, _Window] = {}
        for window in self._windows:
            if not self._close(window, end):
                waiting[window.number] = window
            elif window.late > self._judged[window.number] and window.number not in self._swallowing:
                self._look(window.number, window.late, end, waiting)
        for offset, number in hits:
            if number in waiting:
                # A window that waits reaches behind everything received: it takes in later hits of its rule.
                window = waiting[number]
                if not window.late and offset > window.least + window.rule.ahead:
                    window.late = offset
            elif offset > self._judged.get(number, -1) and number not in self._swallowing:
                self._look(number, offset, end, waiting)
        self._windows = list(waiting.values())

    def _look(self, number: int, hit: int, end: int, waiting: dict[int, _Window]) -> None:
        """Judge what is around a hit, or let it wait for what follows."""
        rule = self._rules[number]
        is_crowd = (
            self._counted.get(number, NONE)[0] >= CROWD
            and rule.boundary != WIDTH
            and (self._relabel is None or rule.effect is Effect.NOTE)
        )
        if is_crowd and rule.effect is Effect.NOTE:
            return
        first, last = self._word
        if first < hit < last <= hit + rule.ahead and rule.boundary == "token" and not is_crowd:
            self._judged[number] = last
            self._confirm(rule, number, max(first, hit - rule.reach), last, last)
            return
        least = hit + STRETCH if is_crowd else hit
        window = _Window(rule, number, hit, self._start(rule, hit), least, least)
        if not self._close(window, end):
            waiting[number] = window

    def _close(self, window: _Window, end: int) -> bool:
        """Judge the window if its end is known."""
        closed = self._end(window, end)
        if closed is None:
            return False
        stop, limit = closed
        rule, hit = window.rule, window.hit
        self._judged[window.number] = stop
        if (
            rule.boundary == "token"
            and stop == limit < self._base + len(self._buffer)
            and window.least == hit
            and window.start > hit - rule.reach
            and " " < self._buffer[hit - self._base - 1] < "\x7f"  # the hit itself is no cut
        ):
            self._word = window.start, stop
        self._confirm(rule, window.number, window.start, stop, limit, crowd=window.least > hit)
        return True

    def _confirm(
        self, rule: Rule, number: int, start: int, stop: int, limit: int, *, crowd: bool = False
    ) -> None:
        base, buffer, grows = self._base, self._buffer, False
        values, reached = self._counted.get(number, NONE)  # windows may overlap: no value counts twice
        group, context, validator = rule.group, rule.context, rule.validator
        for match in rule.pattern.finditer(buffer, start - base, limit - base):
            low, high = match.span(group)
            if low >= stop - base:
                break
            if context and not context.search(buffer, max(0, low - rule.sight), low):
                continue
            if validator and not validator(buffer[low:high]):
                continue
            if base + low >= reached:
                values, reached = values + 1, base + high
            span = _Span(rule, base + low, base + high, base + high)
            if rule.effect is Effect.NOTE:
                self._notes.append(span)
                continue
            if crowd:
                span.end, span.found = limit, 0
            self._spans.append(span)
            if stop < limit <= span.end:
                self._growing.append(_Growing(span, number, limit))
                grows = True
            if crowd:
                break
        if values:
            self._counted[number] = values, reached
        if grows:
            self._grow(base + len(buffer))

    def _grow(self, end: int) -> None:
        going: list[_Growing] = []
        for growing in self._growing:
            span, is_pem = growing.span, growing.span.rule.boundary == "pem"
            found = _BOUNDARIES[span.rule.boundary].search(
                self._buffer, max(0, growing.searched - self._base)
            )
            if found:
                span.end = max(span.end, self._base + (found.end() if is_pem else found.start()))
                self._judged[growing.number] = max(self._judged[growing.number], self._base + found.end())
            elif self._ended:
                span.end = end
            else:
                # The last character may turn out to be the boundary: it waits.
                span.end = max(span.end, end if is_pem else end - 1)
                growing.searched = max(growing.searched, end - CONTEXT if is_pem else end - 1)
                going.append(growing)
            if self._current and span.start < self._out and span not in self._spans:
                self._out = max(self._out, span.end)
                self._current.end = max(self._current.end, span.end)
        self._growing = going
        self._swallowing = frozenset(growing.number for growing in going)

    def _emit(self, limit: int) -> str:
        """Pass on everything before `limit`: every span that starts before it is known."""
        pieces: list[str] = []
        if self._spans:
            self._spans.sort(key=lambda span: span.order)
            rest: list[_Span] = []
            for span in self._spans:
                if span.start >= limit:
                    rest.append(span)
                elif span.start < self._out and self._current:
                    self._out = max(self._out, span.end)
                    self._current.end = max(self._current.end, span.end)
                else:
                    pieces.append(self._buffer[self._out - self._base : span.start - self._base])
                    pieces.append(self._shown(span))
                    self._out = span.end
                    if self._current:
                        self._findings.append(_finding(self._current))
                    self._current = span
            self._spans = rest
        if limit > self._out:
            pieces.append(self._buffer[self._out - self._base : limit - self._base])
            self._out = limit
        return "".join(pieces)

    def _shown(self, span: _Span) -> str:
        """What stands in the place of a value: its label, or what `relabel` makes of all that overlaps it."""
        if self._relabel is None or not span.found:
            return span.rule.label
        end = span.found
        for other in self._spans:  # in order: those before start earlier and end before this one
            if span.start <= other.start < end:
                end = max(end, other.found)
        return self._relabel(span.rule, self._buffer[span.start - self._base : end - self._base])

    def _forget(self) -> None:
        """Keep what a later window or context may look at: bounded by reach and context."""
        keep = min(self._out, self._cut, self._base + len(self._buffer)) - MAX_REACH - CONTEXT
        keep = min(keep, self._base + len(self._buffer) - MAX_REACH - CONTEXT)
        if self._windows:
            keep = min(keep, min(window.start for window in self._windows) - CONTEXT)
        if keep > self._base + 2_048:  # forget in larger steps: copying the buffer costs more than keeping it
            self._buffer = self._buffer[keep - self._base :]
            self._base = keep


def _finding(span: _Span) -> TextFinding:
    return TextFinding(span.rule.id, span.rule.kind, span.rule.score, span.start, span.end)


def _apart(spans: Iterable[_Span], taken: Iterable[TextFinding]) -> list[_Span]:
    """Spans, in order, that overlap neither one another nor what was replaced."""
    kept: list[_Span] = []
    busy = sorted((finding.start, finding.end) for finding in taken)
    at, reached = 0, -1
    for span in spans:
        while at < len(busy) and busy[at][1] <= span.start:
            at += 1
        if span.start >= reached and not (at < len(busy) and busy[at][0] < span.end):
            kept.append(span)
            reached = span.end
    return kept
