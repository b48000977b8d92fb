"""The rules compiled for Hyperscan: which rules may have something here, and where their trigger ended.

A hit is not a finding: `redact.py` and `signatures.py` confirm it with the rule's exact pattern. A
database belongs to one thread. Hyperscan is given bytes: UTF-8, a lone surrogate encoded as itself.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hyperscan

from garrison.core.errors import Undecided, Usage
from garrison.detect.rulepack import Rule, digest

_SCHEME = 3  # of flags: a database that was compiled under another one is not loaded
# Whole texts are also scanned joined by line feeds, where `^` and `$` have to match as at a text's own ends.
# A trigger that fires once too often costs a confirmation and changes no answer.
_FLAGS = {
    hyperscan.HS_MODE_BLOCK: hyperscan.HS_FLAG_DOTALL | hyperscan.HS_FLAG_MULTILINE,
    hyperscan.HS_MODE_STREAM: hyperscan.HS_FLAG_DOTALL,
}
_CONTINUATION = bytes(range(0x80, 0xC0))  # every byte of a code point in UTF-8 but its first


# The offset just behind a trigger, and the number of its rule: a bare tuple, because hostile text has many.
Hit = tuple[int, int]


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _compile(rules: Sequence[Rule], mode: int) -> Any:
    database = hyperscan.Database(mode=mode)
    try:
        database.compile(
            expressions=[rule.trigger.encode() for rule in rules],
            ids=list(range(len(rules))),
            elements=len(rules),
            flags=[_flags(rule, mode) for rule in rules],
        )
    except hyperscan.HyperscanError as cause:
        raise Usage(
            "DLP-RULE", f"The triggers do not compile: {cause}", fix="Correct the trigger of the named rule."
        ) from cause
    return database


def _flags(rule: Rule, mode: int) -> int:
    flags: int = _FLAGS[mode]
    if rule.caseless:
        flags |= hyperscan.HS_FLAG_CASELESS
    if rule.kind in ("view", "gate", "turns") and mode == hyperscan.HS_MODE_BLOCK:
        flags |= (
            hyperscan.HS_FLAG_SINGLEMATCH
        )  # it says that something may be worth a look; where does not matter
    return flags


def _stored(path: Path, mode: int) -> Any | None:
    """A database that an earlier process wrote, or nothing: a wrong platform or file is compiled anew."""
    try:
        database = hyperscan.loadb(path.read_bytes(), mode)
        database.scratch = hyperscan.Scratch(database)
    except (OSError, hyperscan.HyperscanError):
        return None
    return database


def _store(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    Path(temporary).replace(path)


def _open(rules: Sequence[Rule], mode: int, cache: Path | None) -> Any:
    if cache is None:
        return _compile(rules, mode)
    engine = version("hyperscan")
    path = cache / f"{digest(rules)}-{mode}-{_SCHEME}-{engine}.hsdb"
    database = _stored(path, mode)
    if database is None:
        database = _compile(rules, mode)
        with contextlib.suppress(OSError):  # a cache that cannot be written costs the next start a second
            _store(path, hyperscan.dumpb(database))
    return database


def _into(hits: list[Hit]) -> Callable[..., None]:
    """What is called for each match. No method of a scanner: the two would keep each other alive."""

    def on_match(rule: int, _start: int, end: int, _flags: int, _context: object) -> None:
        hits.append((end, rule))

    return on_match


class BlockScanner:
    """Whole texts. `cache`, when given, is a directory only this user can write."""

    def __init__(self, rules: Sequence[Rule], cache: Path | None = None) -> None:
        self._database = _open(rules, hyperscan.HS_MODE_BLOCK, cache)
        self._hits: list[Hit] = []
        self._callback = _into(self._hits)  # the binding does not keep it alive; this reference does

    def scan(self, text: str) -> list[Hit]:
        """Hits in code points, ordered by offset, then rule."""
        data = encode(text)
        self._hits.clear()
        try:
            self._database.scan(data, match_event_handler=self._callback)
        except hyperscan.HyperscanError as cause:
            raise _failed(cause) from cause
        if not self._hits:
            return []
        found = sorted(self._hits)
        return in_code_points(found, data, len(data) == len(text), 0, 0)

    def is_silent(self, text: str) -> bool:
        """Whether `scan` finds nothing."""
        self._hits.clear()
        try:
            self._database.scan(encode(text), match_event_handler=self._callback)
        except hyperscan.HyperscanError as cause:
            raise _failed(cause) from cause
        return not self._hits


class StreamScanner:
    """Opens streams over one compiled database."""

    def __init__(self, rules: Sequence[Rule], cache: Path | None = None) -> None:
        self._database = _open(rules, hyperscan.HS_MODE_STREAM, cache)

    def open(self) -> TextStream:
        return TextStream(self._database)


class TextStream:
    """One text in pieces: the hits are the same however it is cut."""

    def __init__(self, database: Any) -> None:
        self._hits: list[Hit] = []
        self._callback = _into(self._hits)  # see BlockScanner: without this reference the process would crash
        self._stream = database.stream(match_event_handler=self._callback)
        self._stream.__enter__()
        self._bytes = 0
        self._points = 0
        self._closed = False

    def scan(self, text: str) -> list[Hit]:
        """Hits that ended in this piece, in code points from the start of the stream."""
        data = encode(text)
        try:
            self._stream.scan(data)
        except hyperscan.HyperscanError as cause:
            raise _failed(cause) from cause
        hits: list[Hit] = []
        if self._hits:
            found = sorted(self._hits)
            self._hits.clear()
            hits = in_code_points(found, data, len(data) == len(text), self._bytes, self._points)
        self._bytes += len(data)
        self._points += len(text)
        return hits

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._stream.close()


def _failed(cause: Exception) -> Undecided:
    return Undecided(
        "PRM-UNDECIDED",
        f"The text could not be inspected: {type(cause).__name__}",
        fix="Nothing was passed on. Repeat the request; `garrison doctor` checks the pattern engine.",
    )


def in_code_points(
    found: Sequence[Hit], data: bytes, is_ascii: bool, first_byte: int, first_point: int
) -> list[Hit]:
    """Byte offsets to code points, in one pass: a code point is a byte that is not a continuation."""
    shift = first_point - first_byte
    if is_ascii:
        return [(end + shift, rule) for end, rule in found] if shift else list(found)
    hits: list[Hit] = []
    at, points = 0, first_point
    for end, rule in found:
        here = end - first_byte
        points += len(data[at:here].translate(None, _CONTINUATION))
        at = here
        hits.append((points, rule))
    return hits
