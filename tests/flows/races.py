"""A process that keeps changing a model while it is verified and loaded; what came out of it, counted.

Also a script: `python -m tests.flows.races DIR SEED` is the racing process. It knows the right bytes, breaks
them in one of six ways for a moment, puts them back, and starts again until it is killed.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tests.fakes.releases import public_of, sign_directory, write_files

from garrison.client import verify_model
from garrison.core.digest import Manifest
from garrison.core.errors import GarrisonError
from garrison.runtime.loader import load
from garrison.trust.approved import ApprovedEntry
from garrison.trust.keys.file import FileSigner
from garrison.trust.verify import Verified, verify_release

ROOT = Path(__file__).resolve().parents[2]
WHEN = datetime(2026, 1, 1, tzinfo=UTC)
LONGEST_WAIT = 0.002  # seconds between two acts of the racing process
EVIL = b"evil" * 4096
FILES = {
    "weights.gguf": b"GGUF" + bytes(range(256)) * 1024,
    "config.json": b"{}",
    "more/vocab.txt": b"word\n" * 1000,
}
EXPECTED = {"ART-TAMPER", "ART-CHANGED", "ART-LINK", "ART-UNREADABLE"}


def _rewrite(target: Path) -> None:
    with target.open("r+b", buffering=0) as stream:
        stream.seek(8192)
        stream.write(EVIL)


def _truncate(target: Path) -> None:
    os.truncate(target, 100)


def _grow(target: Path) -> None:
    with target.open("ab") as stream:
        stream.write(EVIL)


def _rename_over(target: Path) -> None:
    fresh = target.with_name(target.name + ".new")
    fresh.write_bytes(EVIL)
    fresh.rename(target)


def _link(target: Path) -> None:
    elsewhere = target.parents[1] / "elsewhere"
    elsewhere.write_bytes(EVIL)
    fresh = target.with_name(target.name + ".link")
    fresh.symlink_to(elsewhere)
    fresh.rename(target)


def _same_size_and_time(target: Path) -> None:
    status = target.stat()
    data = bytearray(target.read_bytes())
    data[-4096:] = EVIL[:4096]
    fresh = target.with_name(target.name + ".same")
    fresh.write_bytes(data)
    os.utime(fresh, ns=(status.st_atime_ns, status.st_mtime_ns))
    fresh.rename(target)


ACTS: tuple[Callable[[Path], None], ...] = (
    _rewrite,
    _truncate,
    _grow,
    _rename_over,
    _link,
    _same_size_and_time,
)


def meddle(directory: Path, seed: int) -> None:
    """Never returns. The right bytes come back by rename or in place, whichever chance says."""
    chance = random.Random(seed)
    target = directory / "weights.gguf"
    right = FILES[target.name]
    while True:
        time.sleep(chance.uniform(0, LONGEST_WAIT))
        chance.choice(ACTS)(target)
        time.sleep(chance.uniform(0, LONGEST_WAIT))
        if target.is_symlink() or chance.random() < 0.5:
            fresh = target.with_name(target.name + ".right")
            fresh.write_bytes(right)
            fresh.rename(target)
        else:
            with target.open("r+b", buffering=0) as stream:
                stream.write(right)
                stream.truncate(len(right))


def race(place: Path, tries: int, seed: int) -> Counter[str]:
    """Load, and every fourth time verify as the SDK does, `tries` times; counts `loaded` and the refusals.

    AssertionError when a byte is held, or a digest told, that is not the signed one.
    """
    signer = FileSigner("release")
    release = sign_directory(write_files(place / "model", FILES), "race@1", signer)
    release.write_sidecars()
    keys = [public_of(signer)]
    signed = {entry.path: entry.digest for entry in release.manifest}
    outcomes: Counter[str] = Counter()

    entry = ApprovedEntry(
        release.ref, release.manifest.digest, 1, ("dana",), "sha256:" + "0" * 64, WHEN, WHEN
    )

    def judge(found: Manifest) -> Verified:
        return verify_release(
            manifest=found,
            bundle=release.bundle,
            statement=release.envelope,
            keys=keys,
            expect=release.ref,
            approved=entry,
        )

    def attempt(number: int) -> str:
        if number % 4 == 3:
            return verify_model(release.path, name="race@1", trust=keys).digest
        loaded = load(release.path, judge)
        try:
            for path, descriptor in loaded.kept.items():
                data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
                assert "sha256:" + hashlib.sha256(data).hexdigest() == signed[path], "a wrong byte was loaded"
            return loaded.loaded
        finally:
            loaded.close()

    command = [sys.executable, "-m", "tests.flows.races", str(release.path), str(seed)]
    with subprocess.Popen(command, cwd=ROOT) as racer:
        try:
            for number in range(tries):
                try:
                    assert attempt(number) == release.manifest.digest, "another digest was loaded"
                    outcomes["loaded"] += 1
                except GarrisonError as error:
                    outcomes[error.code] += 1
            assert racer.poll() is None, "the racing process ended early, and proved nothing"
            assert outcomes.keys() <= EXPECTED | {"loaded"}, outcomes
        finally:
            racer.kill()
    return outcomes


if __name__ == "__main__":
    meddle(Path(sys.argv[1]), int(sys.argv[2]))
