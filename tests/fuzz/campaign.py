"""Mutants of harmful files whose payload still parses: none may be clean and none may make a scanner fail.

`python -m tests.fuzz.campaign FOLDER --count 100000` takes the files below FOLDER that are refused. Whether a
mutant's payload still parses is told by another reader than the scanner: Python's own `_Unpickler` with every
import replaced by an inert recorder (nothing is imported or called), and the standard library's containers.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import io
import json
import lzma
import pickle
import pickletools
import random
import struct
import sys
import tarfile
import time
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tests.fuzz.mutate import mutant
from tests.vectors.artifacts import pickles

from garrison.artifacts.scanners import SCANNERS
from garrison.artifacts.scanners.judge import judge
from garrison.artifacts.scanners.pickle_allowed import ALLOWED
from garrison.artifacts.scanners.sources import BytesSource
from garrison.core.finding import Verdict

MAX_FILE = 20_000  # larger files only make the campaign slow
MAX_DEPTH = 3
MAX_STREAMS = 20
# Complete opcodes without effect, put between two others.
PADDING = (b"N0", b"K\x010", b"]0", b")0", b"I010\n0", b"\x880", b"(1", b"F1.5\n0", b"I1\n0", b"}0", b"(0")
UNPACKERS: tuple[Callable[[bytes], bytes], ...] = (
    gzip.decompress,
    bz2.decompress,
    lzma.decompress,
    zlib.decompress,
)
# What a reader of the standard library raises at bytes that it cannot read.
UNREADABLE = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OSError, NotImplementedError),
    *(RuntimeError, MemoryError, OverflowError, RecursionError, AssertionError, lzma.LZMAError, zlib.error),
    *(pickle.UnpicklingError, zipfile.BadZipFile, tarfile.TarError, StopIteration, struct.error),
)


class Recorder:
    """Stands for whatever a pickle imports: it can be called, built and grown, and only takes notes."""

    def __init__(self, path: str, calls: set[str]) -> None:
        self._path, self._calls = path, calls

    def __call__(self, *_arguments: Any, **_named: Any) -> Recorder:
        self._calls.add(self._path)
        return Recorder(f"{self._path}()", self._calls)

    def __setstate__(self, _state: Any) -> None: ...

    def __setitem__(self, _key: Any, _value: Any) -> None: ...

    def append(self, _value: Any) -> None: ...

    def extend(self, _values: Any) -> None: ...

    def add(self, _value: Any) -> None: ...


class Oracle(pickle._Unpickler):  # type: ignore[name-defined]  # the reader in pure Python has no type information
    """Reads a stream as Python does, with inert imports: `calls` are the names that would have been called."""

    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]

    def __init__(self, file: io.BytesIO, calls: set[str]) -> None:
        super().__init__(file, encoding="latin1")
        self.calls = calls

    def find_class(self, module: str, name: str) -> Recorder:
        return Recorder(f"{module}.{name}", self.calls)

    def persistent_load(self, pid: Any) -> Any:
        return Recorder("persistent", self.calls)

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError(f"extension {code}")

    def _make(self) -> None:
        arguments, made = self.stack.pop(), self.stack.pop()
        if not isinstance(made, Recorder) or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("not made of an import")
        self.append(made(*arguments))

    def _make_named(self) -> None:
        self.stack.pop()
        self._make()

    dispatch[pickle.NEWOBJ[0]] = _make
    dispatch[pickle.NEWOBJ_EX[0]] = _make_named

    def _instantiate(self, made: Any, arguments: Any) -> None:
        self.append(made(*arguments))


def calls_of(data: bytes, depth: int = 0) -> set[str]:
    """Every name that loading this file, or a part of it, would call."""
    calls: set[str] = set()
    stream = io.BytesIO(data)
    for _ in range(MAX_STREAMS):
        try:
            Oracle(stream, calls).load()
        except UNREADABLE:
            break
    if depth < MAX_DEPTH:
        for part in _parts(data):
            calls |= calls_of(part, depth + 1)
    return calls


def _parts(data: bytes) -> Iterator[bytes]:
    for unpack in UNPACKERS:
        try:
            yield unpack(data)[:MAX_FILE]
        except UNREADABLE:
            continue
    if data[:6] == b"\x93NUMPY":
        yield data[10 + int.from_bytes(data[8:10], "little") :]
    if b"PK\x05\x06" in data:
        yield from _members(data)
    if data[257:262] == b"ustar":
        try:
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                for member in archive:
                    file = archive.extractfile(member) if member.isfile() else None
                    if file is not None:
                        yield file.read(MAX_FILE)
        except UNREADABLE:
            return


def _members(data: bytes) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    yield file.read(MAX_FILE)
    except UNREADABLE:
        return


@dataclass(frozen=True, slots=True)
class Harmful:
    """`calls` of a harmful file that no harmless file makes, or the text that a JSON file says."""

    name: str
    data: bytes
    calls: frozenset[str]
    said: Any = None

    def still_parses(self, data: bytes) -> bool:
        if self.said is not None:
            try:
                return bool(json.loads(data) == self.said)
            except UNREADABLE:
                return False
        return bool(self.calls & calls_of(data))


def harmful_files(folder: Path) -> list[Harmful]:
    """Refused files whose payload the oracle understands."""
    found = []
    named = [
        (str(path.relative_to(folder)), path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    named += [(name, data) for name, (data, _) in pickles.TRICKS.items()]
    for name, data in named:
        if (
            not 0 < len(data) <= MAX_FILE
            or judge(BytesSource(name, data), SCANNERS).verdict is not Verdict.REFUSED
        ):
            continue
        try:
            said = json.loads(data)
        except UNREADABLE:
            said = None
        calls = frozenset(call for call in calls_of(data) if not _harmless(call))
        if calls or said is not None:
            found.append(Harmful(name, data, calls, said))
    return found


def _harmless(call: str) -> bool:
    """A name of the allow-list, or what such a name returned."""
    module, _, name = call.rpartition(".")
    return "()" in call or call == "persistent" or (module, name) in ALLOWED


def changed(file: Harmful, chance: random.Random) -> bytes:
    """A change that often leaves the payload whole: padding, tails, heads, and bytes anywhere."""
    data, kind = file.data, chance.randrange(5)
    if kind == 0:
        return data + chance.randbytes(chance.randint(1, 64))
    if kind == 1:
        return chance.choice((b"N.", b"\x80\x04N.", b"I1\n.", b"\x80\x02]q\x00.", b"\x80\x05}.")) + data
    if kind == 2 and data[:1] in (b"\x80", b"c", b"("):
        return _padded(data, chance)
    return mutant(data, chance)


def _padded(data: bytes, chance: random.Random) -> bytes:
    """Opcodes without effect between the others."""
    places = []
    try:
        for _, _, position in pickletools.genops(data):
            places.append(position)
    except UNREADABLE:
        pass
    for _ in range(chance.randint(1, 6)):
        at = chance.choice(places[1:] or [len(data)])
        data = data[:at] + chance.choice(PADDING) + data[at:]
        places = [place + (2 if place >= at else 0) for place in places if place <= at] or [at]
    return data


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=100_000, help="mutants whose payload still parses")
    parser.add_argument("--seconds", type=float, default=3_600.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    sys.setrecursionlimit(2_000)
    files, chance = harmful_files(options.folder), random.Random(options.seed)
    print(f"{len(files)} harmful files whose payload another reader understands", flush=True)
    verdicts: Counter[str] = Counter()
    made, bad, end = 0, 0, time.monotonic() + options.seconds
    while sum(verdicts.values()) < options.count and time.monotonic() < end:
        file = files[made % len(files)]
        made += 1
        data = changed(file, chance)
        if not file.still_parses(data):
            continue
        judged = judge(BytesSource(file.name, data), SCANNERS)
        verdicts[judged.verdict.value] += 1
        failed = any(finding.rule_id == "artifact.scanner.failed" for finding in judged.findings)
        if failed or judged.verdict is Verdict.CLEAN:
            bad += 1
            path = Path(__file__).with_name("found") / f"campaign-{made}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            print(f"{path}: {file.name} became {judged.verdict.value}", flush=True)
    print(
        f"{made} mutants made, {sum(verdicts.values())} whose payload parses: {dict(verdicts)}, {bad} wrong"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
