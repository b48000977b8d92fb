"""The bytes that a scanner read of a file, kept so that new rules can judge the file without its weights.

Parsers read structure and skip tensors, so what they read is small: the header of a safetensors file, the
pickles and member headers of a torch zip, the whole of a configuration. `Recorder` keeps those pages while
a file is judged; `Kept` plays them back to the same scanners. There is no second implementation of any
rule: judging again is judging. Which scanners recognised a part is remembered too, since recognition looks
at bytes of weights that are not kept. A read of a page that was not kept marks the entry as `missed`: the
new rules want to see more, and only the file itself can answer.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence

from garrison.artifacts.scanners.base import HEAD, Inner, Scanner, Source
from garrison.artifacts.scanners.judge import Ask

PAGE = 512  # member headers of a torch zip stand alone between tensors; larger pages keep more weights
SMALL = 32 << 10  # files up to this size are kept whole: there is little to save
MAX_PAGES = 8 << 11  # 8 MiB: the vocabulary of the largest tokenizers fits
MAX_PARTS = 20_000  # parts whose recognition is remembered
MAX_PACKED = 16 << 20
MAX_HEADER = 4 << 20
_VERSION = 1


class NotKept(Exception):
    """A page that the scanners did not read when the file was here."""


class Recorder:
    """A source that keeps every page read through it, until there are too many; then it keeps nothing."""

    def __init__(self, outer: Source) -> None:
        self.name = outer.name
        self.size = outer.size
        self.is_full = False
        self._outer = outer
        self._paused = False
        self._pages: dict[int, bytes] = {}
        self._recognised: dict[str, list[str]] = {}
        self._scanners: list[str] = []
        if self.size <= SMALL:
            self.read_at(0, self.size)

    def read_at(self, offset: int, length: int) -> bytes:
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        if self._paused or self.is_full:
            return self._outer.read_at(offset, length)
        first, last = offset // PAGE, (offset + length - 1) // PAGE
        start = first * PAGE
        data = self._outer.read_at(start, (last + 1 - first) * PAGE)
        if len(self._pages) + last - first >= MAX_PAGES:
            self._give_up()
        else:
            for number in range(first, last + 1):
                self._pages[number] = data[(number - first) * PAGE : (number + 1 - first) * PAGE]
        return data[offset - start : offset - start + length]

    def recognition(self, part: Inner, where: str, scanners: Sequence[Scanner], ask: Ask) -> list[Scanner]:
        """Ask without keeping what is looked at; remember the answer."""
        if not part.guess:
            part.source.read_at(0, HEAD)  # so that a scanner made later can recognise the part too
        self._scanners = [scanner.format for scanner in scanners]
        self._paused = True
        try:
            matching = ask(scanners)
        finally:
            self._paused = False
        self._recognised[_key(part, where)] = [scanner.format for scanner in matching]
        if len(self._recognised) > MAX_PARTS:
            self._give_up()
        return matching

    def packed(self) -> bytes:
        """Everything kept as one compressed piece; empty when there was too much."""
        if self.is_full:
            return b""
        runs: list[list[int]] = []
        numbers = sorted(self._pages)
        for number in numbers:
            if runs and runs[-1][0] + runs[-1][1] == number:
                runs[-1][1] += 1
            else:
                runs.append([number, 1])
        header = {
            "version": _VERSION,
            "name": self.name,
            "size": self.size,
            "scanners": self._scanners,
            "recognised": self._recognised,
            "runs": runs,
        }
        data = b"".join(self._pages[number] for number in numbers)
        packed = zlib.compress(json.dumps(header, separators=(",", ":")).encode() + b"\n" + data, 6)
        return packed if len(packed) <= MAX_PACKED else b""

    def _give_up(self) -> None:
        self.is_full = True
        self._pages.clear()
        self._recognised.clear()


class Kept:
    """The pages of one file, played back. Raises `ValueError` for a piece that `Recorder` did not write."""

    def __init__(self, packed: bytes) -> None:
        engine = zlib.decompressobj()
        try:
            data = engine.decompress(packed, MAX_HEADER + MAX_PAGES * PAGE)
            header_bytes, newline, pages = data.partition(b"\n")
            header = json.loads(header_bytes)
            self.name = str(header["name"])
            self.size = int(header["size"])
            self._scanners = frozenset(header["scanners"])
            self._recognised: dict[str, list[str]] = dict(header["recognised"])
            runs = [(int(first), int(count)) for first, count in header["runs"]]
            is_known = header["version"] == _VERSION
        except (zlib.error, KeyError, TypeError, ValueError) as error:
            raise ValueError("not an entry of the feature index") from error
        if not newline or not engine.eof or not is_known:
            raise ValueError("an entry of the feature index that was cut off or is of another version")
        self.missed = False
        self._pages: dict[int, bytes] = {}
        at = 0
        for first, count in runs:
            for number in range(first, first + min(count, MAX_PAGES)):
                if at >= len(pages):
                    return
                self._pages[number] = pages[at : at + PAGE]
                at += PAGE

    def read_at(self, offset: int, length: int) -> bytes:
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        first, last = offset // PAGE, (offset + length - 1) // PAGE
        try:
            data = b"".join([self._pages[number] for number in range(first, last + 1)])
        except KeyError:
            self.missed = True
            raise NotKept(f"{length} bytes at {offset}") from None
        start = first * PAGE
        return data[offset - start : offset - start + length]

    def recognition(self, part: Inner, where: str, scanners: Sequence[Scanner], ask: Ask) -> list[Scanner]:
        """Scanners that were asked then are not asked again; those made since are."""
        known = self._recognised.get(_key(part, where))
        if known is None:
            return ask(scanners)
        since = [scanner for scanner in scanners if scanner.format not in self._scanners]
        now = [scanner.format for scanner in ask(since)] if since else []
        return [scanner for scanner in scanners if scanner.format in known or scanner.format in now]


def _key(part: Inner, where: str) -> str:
    return f"{where} {part.source.size} {part.kind}"
