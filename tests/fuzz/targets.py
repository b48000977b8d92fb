"""One fuzz target per parser: any bytes at all, and the parser neither raises nor forgets its bounds.

A target drives a scanner as the judge does, but without the judge's safety net: only `Malformed` and
`EOFError`, which are part of the protocol, may leave a scanner. `judge` drives all of them together and
wants an answer for every input.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tests.fuzz.plane import PLANE
from tests.vectors.artifacts import frameworks, make, packed, pickles

from garrison.artifacts.scanners import SCANNERS
from garrison.artifacts.scanners.base import HEAD, Inner, Malformed, Scanner
from garrison.artifacts.scanners.judge import judge
from garrison.artifacts.scanners.seven_zip import MAGIC, SevenZip
from garrison.artifacts.scanners.sources import BytesSource

MAX_INPUT = 1 << 16  # larger inputs only make the search slow
MAX_SEED = 1 << 13  # the search lives of seeds that are read in a millisecond
MAX_SEEN = 50_000  # what one scanner may say of one input of this size before we call it endless
SECONDS = 5.0  # for one input; a parser that needs longer for 64 kB is not linear
CORPUS = Path(__file__).with_name("corpus")


@dataclass(frozen=True, slots=True)
class Target:
    """`run` raises when the parser does what it must not; `seeds` are valid and invalid files of the format."""

    name: str
    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def drive(scanner: Scanner, data: bytes) -> None:
    """What the judge does with one scanner; every part that is found can be read."""
    source = BytesSource("input", data)
    scanner.recognises(data[:HEAD], source)
    started = time.monotonic()
    try:
        for count, seen in enumerate(scanner.scan(source)):
            if count >= MAX_SEEN:
                raise AssertionError(f"{scanner.format} goes on without end")
            if isinstance(seen, Inner):
                seen.source.read_at(0, 64)
                seen.source.read_at(max(0, seen.source.size - 1), 64)
    except (Malformed, EOFError):
        pass
    if time.monotonic() - started > SECONDS:
        raise AssertionError(f"{scanner.format} took longer than {SECONDS} s")


def judged(data: bytes) -> None:
    verdict = judge(BytesSource("input", data), SCANNERS)
    failed = [finding for finding in verdict.findings if finding.rule_id == "artifact.scanner.failed"]
    if failed:
        raise AssertionError(failed[0].message)


def targets() -> dict[str, Target]:
    found = {scanner.format: _target(scanner) for scanner in SCANNERS}
    seeds = tuple(data for data in _vectors() if len(data) <= MAX_SEED)
    others = {**PLANE, "7z-header": (seven_zip_header, tuple(_headers(seeds)))}
    plane = {name: Target(name, run, (*inputs, *_kept(name))) for name, (run, inputs) in others.items()}
    return {**found, **plane, "judge": Target("judge", judged, (*seeds, *_kept("judge")))}


def seven_zip_header(data: bytes) -> None:
    """The header behind its checksums, which mutants never have: `data` is one, or 64 packed bytes and one."""
    for body, header in ((b"", data), (data[:64], data[64:])):
        start = struct.pack("<QQI", len(body), len(header), zlib.crc32(header))
        drive(SevenZip(), MAGIC + b"\0\4" + struct.pack("<I", zlib.crc32(start)) + start + body + header)


def _headers(files: tuple[bytes, ...]) -> Iterator[bytes]:
    for data in files:
        if data[:6] == MAGIC and len(data) > 32:
            offset, size = struct.unpack("<QQ", data[12:28])
            header = data[32 + offset : 32 + offset + size]
            yield header
            yield data[32 : 32 + offset][:64].ljust(64, b"\0") + header


def _target(scanner: Scanner) -> Target:
    seeds = [data for data in _vectors() if len(data) <= MAX_SEED]
    own = [data for data in seeds if scanner.recognises(data[:HEAD], BytesSource("", data))]
    own += list(_TEXTS.get(scanner.format, ()))
    return Target(scanner.format, lambda data: drive(scanner, data), (*own, *_kept(scanner.format)))


def _vectors() -> Iterator[bytes]:
    ours = (make.CLEAN, make.REFUSED, make.INCOMPLETE)
    theirs = (frameworks.CLEAN, frameworks.REFUSED, frameworks.INCOMPLETE, frameworks.SAVED)
    for group in (*ours, *theirs, packed.CLEAN, packed.REFUSED, packed.INCOMPLETE):
        yield from group.values()
    yield from pickles.HARMLESS.values()
    for data, _ in pickles.TRICKS.values():
        yield data


def _kept(name: str) -> Iterator[bytes]:
    """Inputs that once found something, and a small set that covers the parser."""
    folder = CORPUS / name
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return (path.read_bytes() for path in islice(files, 2_000))


# Formats that only another one names, so no content tells them.
_TEXTS: dict[str, tuple[bytes, ...]] = {
    "jinja": (make.MESSAGES.encode(), b"{{ ''.__class__ }}", b"{% for i in range(9) %}{{ i }}{% endfor %}"),
    "torchscript": (
        b"def forward(self, x: Tensor) -> Tensor:\n  _0 = torch.add(x, x, alpha=1)\n  return _0\n",
        b"class A(Module):\n  __parameters__ = []\n  def f(self):\n    return torch.from_file('x')\n",
    ),
    "torchscript-pickle": (b"\x80\x02c__torch__\nA\nq\x00)\x81q\x01}q\x02b.",),
}
