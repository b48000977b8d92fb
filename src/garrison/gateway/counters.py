"""Sliding counters in a piece of memory, of one worker alone or shared by all workers of a machine.

One row a key: for each dimension a total and 61 slots, and how many requests run in each worker. A slot is a
sixtieth of the window, so a window is at most one slot longer than it says and never shorter. Whoever changes a row
holds its lock; the kernel lets go of it when a worker dies, and totals are summed anew whenever time moves on, so
that half a change does not last. Times are monotonic seconds, which all processes of a machine share.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

# Order is part of the layout: append only.
DIMENSIONS = (
    "requests_per_minute",
    "tokens_per_minute",
    "input_tokens_per_minute",
    "output_tokens_per_minute",
    "stream_seconds_per_hour",
    "money_per_day",
)
WINDOWS = (60.0, 60.0, 60.0, 60.0, 3_600.0, 86_400.0)
SLOTS = 61  # sixty whole ones, and the one that has begun
ROWS = 16_384  # keys that are counted at once; idle ones are forgotten first
PROBES = 64
_DIMENSION_WORDS = 2 + SLOTS  # total, newest epoch, slots
_HEADER_WORDS = 2  # digest of the key
_FIXED_WORDS = _HEADER_WORDS + len(DIMENSIONS) * _DIMENSION_WORDS
_STEPS = tuple(window / (SLOTS - 1) for window in WINDOWS)


def size_of(regions: int) -> int:
    """Bytes of a table for so many workers. Only pages with rows in use take memory."""
    return ROWS * (_FIXED_WORDS + regions) * 8


def make_shared(regions: int) -> int:
    """A descriptor of a new table; workers inherit it. The memory is used as rows are."""
    descriptor = os.memfd_create("garrison-limits", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, size_of(regions))
    return descriptor


def _touched(descriptor: int, row_bytes: int) -> Iterator[int]:
    """Rows that begin in a page that somebody wrote to. Looking at the others would give each of them a page."""
    end = 0
    while True:
        try:
            begin = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:  # nothing but holes from here on
            return
        end = os.lseek(descriptor, begin, os.SEEK_HOLE)
        yield from range(-(-begin // row_bytes), -(-end // row_bytes))


@dataclass(slots=True, eq=False)
class Table:
    """Counters. `regions` is how many workers there are, `region` which one this is; `descriptor` shares them."""

    regions: int = 1
    region: int = 0
    descriptor: int = -1
    _view: memoryview = field(init=False, repr=False)
    _known: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._view = memoryview(mmap.mmap(self.descriptor, size_of(self.regions))).cast("q")
        if self.descriptor < 0:
            return
        words = _FIXED_WORDS + self.regions
        for row in _touched(self.descriptor, words * 8):  # what the worker before us here left running
            place = row * words
            if self._view[place] or self._view[place + 1]:
                self._view[place + _FIXED_WORDS + self.region] = 0

    def lock(self, bases: Sequence[int]) -> None:
        """Rows to change. In order of their places, so that no two workers wait for each other."""
        if self.descriptor >= 0:
            for base in sorted(bases):
                fcntl.lockf(self.descriptor, fcntl.LOCK_EX, 1, base * 8)

    def unlock(self, bases: Sequence[int]) -> None:
        if self.descriptor >= 0:
            for base in bases:
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, base * 8)

    def row(self, key: str, now: float) -> int | None:
        """Where a key is counted; None when there is no room for another one."""
        known = self._known.get(key)
        if known is not None:
            base, first, second = known
            if self._view[base] == first and self._view[base + 1] == second:
                return base
        digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
        first = int.from_bytes(digest[:8], "big", signed=True) or 1
        second = int.from_bytes(digest[8:], "big", signed=True)
        behind = [ROWS * (_FIXED_WORDS + self.regions)]  # the last row
        self.lock(behind)
        try:
            found = self._place(first, second, now)
        finally:
            self.unlock(behind)
        if found is not None:
            if len(self._known) >= ROWS:
                self._known.clear()
            self._known[key] = (found, first, second)
        return found

    def advance(self, base: int, dimension: int, now: float) -> int:
        """Forget what has left the window; where the dimension's words begin."""
        view = self._view
        place = base + _HEADER_WORDS + dimension * _DIMENSION_WORDS
        epoch = int(now / _STEPS[dimension])
        newest = view[place + 1]
        if epoch > newest:
            slots = place + 2
            if epoch - newest >= SLOTS:
                for slot in range(slots, slots + SLOTS):
                    view[slot] = 0
            else:
                for passed in range(newest + 1, epoch + 1):
                    view[slots + passed % SLOTS] = 0
            view[place + 1] = epoch
            view[place] = sum(view[slots : slots + SLOTS])
        return place

    def total(self, place: int) -> int:
        return self._view[place]

    def add(self, place: int, amount: int) -> int:
        """Count now; the epoch in which it was counted."""
        view = self._view
        epoch = view[place + 1]
        view[place + 2 + epoch % SLOTS] += amount
        view[place] += amount
        return epoch

    def correct(self, place: int, epoch: int, amount: int) -> None:
        """Change what was counted in an earlier epoch, unless that has left the window."""
        view = self._view
        if view[place + 1] - epoch < SLOTS:
            view[place + 2 + epoch % SLOTS] += amount
            view[place] += amount

    def wait(self, place: int, dimension: int, excess: int, now: float) -> float:
        """Seconds until `excess` has left the window; a whole one when it never will."""
        newest = self._view[place + 1]
        for epoch in range(newest - SLOTS + 1, newest + 1):
            excess -= self._view[place + 2 + epoch % SLOTS]
            if excess <= 0:
                return (epoch + SLOTS) * _STEPS[dimension] - now
        return WINDOWS[dimension]

    def running(self, base: int) -> int:
        begin = base + _FIXED_WORDS
        if self.regions == 1:
            return self._view[begin]
        return sum(self._view[begin : begin + self.regions])

    def run(self, base: int, change: int) -> None:
        self._view[base + _FIXED_WORDS + self.region] += change

    def holds(self, base: int, key: str) -> bool:
        """Whether the row is still this key's; look when it is locked."""
        if self.descriptor < 0:
            return True
        known = self._known.get(key)
        if known is None:
            return False
        _, first, second = known
        return self._view[base] == first and self._view[base + 1] == second

    def _place(self, first: int, second: int, now: float) -> int | None:
        view, width = self._view, _FIXED_WORDS + self.regions
        free = None
        for probe in range(PROBES):
            base = (first + probe) % ROWS * width
            if view[base] == first and view[base + 1] == second:
                return base
            if free is None and (not view[base] or self._is_idle(base, now)):
                free = base
            if not view[base]:
                break
        if free is not None:
            view[free : free + width] = memoryview(bytes(width * 8)).cast("q")
            view[free + 1], view[free] = second, first
        return free

    def _is_idle(self, base: int, now: float) -> bool:
        return not self.running(base) and not any(
            self.total(self.advance(base, dimension, now)) for dimension in range(len(DIMENSIONS))
        )
