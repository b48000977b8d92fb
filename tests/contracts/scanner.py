"""What every `Scanner` promises. A suite subclasses this with a scanner, files it accepts and files it refuses."""

from __future__ import annotations

from typing import ClassVar

from garrison.artifacts.scanners.base import HEAD, Scanner
from garrison.artifacts.scanners.judge import judge
from garrison.artifacts.scanners.sources import BytesSource
from garrison.core.finding import Verdict

EVERY = 400  # a long file is cut at about this many places


def named(files: dict[str, bytes], *endings: str) -> dict[str, bytes]:
    """Those of a set of vectors that are for one scanner."""
    return {name: data for name, data in files.items() if name.endswith(endings)}


class ScannerContract:
    """Subclasses set `scanner`, `good` and `bad`: name -> bytes."""

    scanner: ClassVar[Scanner]
    good: ClassVar[dict[str, bytes]]
    bad: ClassVar[dict[str, bytes]] = {}

    def test_it_recognises_its_files_by_content(self) -> None:
        for name, data in {**self.good, **self.bad}.items():
            assert self.scanner.recognises(data[:HEAD], BytesSource(name, data)), name

    def test_what_it_accepts_yields_nothing_that_refuses(self) -> None:
        for name, data in self.good.items():
            assert judge(BytesSource(name, data), [self.scanner]).verdict is not Verdict.REFUSED, name

    def test_what_it_refuses_is_never_clean(self) -> None:
        for name, data in self.bad.items():
            assert judge(BytesSource(name, data), [self.scanner]).verdict is not Verdict.CLEAN, name

    def test_a_file_cut_anywhere_never_makes_it_fail(self) -> None:
        for name, data in {**self.good, **self.bad}.items():
            for end in range(0, len(data), max(1, len(data) // EVERY)):
                seen = judge(BytesSource(name, data[:end]), [self.scanner])
                assert "artifact.scanner.failed" not in {finding.rule_id for finding in seen.findings}, (
                    name,
                    end,
                )

    def test_it_does_not_recognise_noise(self) -> None:
        noise = bytes((index * 89 + 37) % 256 for index in range(HEAD))
        assert not self.scanner.recognises(noise, BytesSource("noise.dat", noise))
