"""Single bytes of a real model flipped on the disk, one at a time; how each was answered."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.fakes.releases import SignedDirectory, public_of, sign_directory

from garrison.client import verify_model
from garrison.core.digest import Manifest
from garrison.core.errors import GarrisonError
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import PublicKey
from garrison.trust.tree import read_tree
from garrison.trust.verify import verify_release

MANY_BYTES = 1 << 20  # a file above this is flipped in one try of ten: it takes the longest to hash


def flip(model: Path, place: Path, tries: int, seed: int, *, whole: bool) -> Counter[str]:
    """Flip `tries` seeded bytes over all files of a copy of `model`; counts the answers.

    `named` is the right one: refused, and exactly the changed file named. With `whole` the directory is
    verified as a user does it; without, the changed file is hashed and judged with the others as they were.
    """
    directory = place / "model"
    shutil.copytree(model, directory)
    for path in directory.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    signer = FileSigner("release")
    release = sign_directory(directory, "flipped@1", signer)
    release.write_sidecars()
    keys = [public_of(signer)]
    judge = _whole(release, keys) if whole else _one_file(release, keys)
    chance = random.Random(seed)
    large = [entry for entry in release.manifest if entry.size > MANY_BYTES]
    small = [entry for entry in release.manifest if 0 < entry.size <= MANY_BYTES]
    answers: Counter[str] = Counter()
    for number in range(tries):
        entry = chance.choice(large if large and number % 10 == 0 else small)
        at, mask = chance.randrange(entry.size), chance.randrange(1, 256)
        with (directory / entry.path).open("r+b", buffering=0) as stream:
            original = os.pread(stream.fileno(), 1, at)
            os.pwrite(stream.fileno(), bytes([original[0] ^ mask]), at)
            answers[judge(entry.path)] += 1
            os.pwrite(stream.fileno(), original, at)
    assert verify_model(directory, name="flipped@1", trust=keys).digest == release.manifest.digest
    return answers


def _whole(release: SignedDirectory, keys: list[PublicKey]) -> Callable[[str], str]:
    return lambda path: _answer(path, lambda: verify_model(release.path, name=release.ref, trust=keys))


def _one_file(release: SignedDirectory, keys: list[PublicKey]) -> Callable[[str], str]:
    signed = {entry.path: entry for entry in release.manifest}

    def judge(path: str) -> str:
        (found,) = read_tree(release.path / path)
        entries = {**signed, path: replace(found, path=path)}
        return _answer(
            path,
            lambda: verify_release(
                manifest=Manifest.of(entries.values()),
                bundle=release.bundle,
                statement=release.envelope,
                keys=keys,
                expect=release.ref,
            ),
        )

    return judge


def _answer(path: str, judge: Callable[[], object]) -> str:
    try:
        judge()
    except GarrisonError as error:
        changes = [(row["path"], row["change"]) for row in error.evidence.get("paths", [])]
        is_right = error.code == "ART-TAMPER" and changes == [(path, "changed")]
        return "named" if is_right else error.code
    return "accepted"
