"""What is held is what was verified, whatever a racing writer does to the directory meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import random
import shutil
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.runtime.stage import SignedModel, sign_model

from garrison.core.digest import Manifest
from garrison.core.errors import GarrisonError, Refused
from garrison.runtime.loader import LoadedModel, load
from garrison.trust.verify import Verified

MIB = 1 << 20
WEIGHTS = bytes(range(256)) * 8192  # 2 MiB: the loader reads it in two pieces


@pytest.fixture
def model(tmp_path: Path) -> SignedModel:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "weights.gguf").write_bytes(b"GGUF" + WEIGHTS)
    (directory / "config.json").write_text("{}")
    (directory / "more").mkdir()
    (directory / "more" / "vocab.txt").write_bytes(b"word\n" * 1000)
    return sign_model(directory)


@contextlib.contextmanager
def held(model: SignedModel, **options: object) -> Iterator[LoadedModel]:
    loaded = load(model.directory, model.verify, **options)  # type: ignore[arg-type]  # passed through as they are
    try:
        yield loaded
    finally:
        loaded.close()


def digest_of(descriptor: int) -> str:
    data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    return "sha256:" + hashlib.sha256(data).hexdigest()


# Everything a writer in the same directory can do to a file, by name.


def rewrite(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"evil")


def rename_over(file: Path) -> None:
    other = file.with_name("." + file.name)
    other.write_bytes(b"GGUF" + b"e" * len(WEIGHTS))
    other.replace(file)


def truncate(file: Path) -> None:
    os.truncate(file, 1500)


def extend(file: Path) -> None:
    with file.open("ab") as stream:
        stream.write(b"evil")


def remove(file: Path) -> None:
    file.unlink()


def link_elsewhere(file: Path) -> None:
    target = file.parent.parent / "evil"
    target.write_bytes(b"GGUF" + b"e" * len(WEIGHTS))
    file.unlink()
    file.symlink_to(target)


def same_length_swap(file: Path) -> None:
    """The hardest to see: same size, same times, other bytes."""
    before = file.stat()
    with file.open("r+b") as stream:
        stream.seek(MIB + 5)
        stream.write(b"evil")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def add_file(file: Path) -> None:
    (file.parent / "extra.safetensors").write_bytes(b"evil")


ATTACKS: tuple[Callable[[Path], None], ...] = (
    rewrite,
    rename_over,
    truncate,
    extend,
    remove,
    link_elsewhere,
    same_length_swap,
    add_file,
)


@pytest.mark.row("A08", kind="R")
@pytest.mark.row("B09", kind="R")
@pytest.mark.parametrize("disk", [False, True], ids=["sealed memory", "private copy"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_no_interleaving_of_a_racing_writer_gets_a_changed_byte_held(
    model: SignedModel, tmp_path: Path, attack: Callable[[Path], None], disk: bool
) -> None:
    pristine = tmp_path / "pristine"
    shutil.copytree(model.directory, pristine)
    signed = {entry.path: entry.digest for entry in model.manifest}
    outcomes = set()
    target = model.directory / "weights.gguf"
    scratch = tmp_path if disk else None
    interleavings = 0
    for moment in itertools.count():
        clock = itertools.count()
        struck: list[int] = []

        def strike_at(
            _done: int = 0, _total: int = 0, *, moment: int = moment, clock: Iterator[int] = clock
        ) -> None:
            if next(clock) == moment:
                struck.append(moment)  # noqa: B023  # used within this turn only
                attack(target)

        def verify(manifest: Manifest, strike: Callable[[], None] = strike_at) -> Verified:
            strike()
            verified = model.verify(manifest)
            strike()
            return verified

        strike_at()
        try:
            share = 1e-9 if disk else 0.5
            loaded = load(model.directory, verify, progress=strike_at, memory_share=share, scratch=scratch)
            strike_at()
            for path, descriptor in loaded.kept.items():
                assert digest_of(descriptor) == signed[path]
            assert loaded.loaded == loaded.verified.digest == model.manifest.digest
            strike_at()
            for path, descriptor in loaded.kept.items():
                assert digest_of(descriptor) == signed[path]
            loaded.close()
            outcomes.add("loaded")
        except GarrisonError as error:
            outcomes.add(error.code)
        interleavings += 1
        shutil.rmtree(model.directory)
        shutil.copytree(pristine, model.directory)
        if not struck:
            break
    assert interleavings >= 10
    assert "loaded" in outcomes  # struck too late to matter, or never
    assert len(outcomes) > 1  # struck early: refused


@pytest.mark.row("A08", kind="R")
def test_two_hundred_random_races_with_a_thread_that_never_stops(model: SignedModel) -> None:
    signed = {entry.path: entry.digest for entry in model.manifest}
    original = (model.directory / "weights.gguf").read_bytes()
    stop = threading.Event()

    def write() -> None:
        choose = random.Random(7)
        with (model.directory / "weights.gguf").open("r+b", buffering=0) as stream:
            while not stop.is_set():
                position = choose.randrange(4, len(original) - 4)
                stream.seek(position)
                stream.write(b"evil")
                stream.seek(position)
                stream.write(original[position : position + 4])

    writer = threading.Thread(target=write)
    writer.start()
    loads, refusals = 0, []
    try:
        for _ in range(200):
            try:
                with held(model) as loaded:
                    assert digest_of(loaded.kept["weights.gguf"]) == signed["weights.gguf"]
                    loads += 1
            except Refused as error:
                refusals.append(error.code)
    finally:
        stop.set()
        writer.join(60)
        assert not writer.is_alive()
    assert loads + len(refusals) == 200
    assert set(refusals) <= {"ART-TAMPER", "ART-CHANGED"}
    assert refusals


@pytest.mark.row("A08", kind="R")
def test_held_memory_is_sealed_against_everybody(model: SignedModel) -> None:
    with held(model) as loaded:
        descriptor = loaded.kept["weights.gguf"]
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"evil", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)
        with pytest.raises(PermissionError):
            write_anew(f"/proc/self/fd/{descriptor}")


def write_anew(path: str) -> None:
    """Opening a sealed file for writing may succeed for root; writing may not."""
    with open(path, "r+b", buffering=0) as file:
        file.write(b"evil")


@pytest.mark.row("A08", kind="R")
def test_a_private_copy_has_no_name_and_no_writer(model: SignedModel, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    with held(model, memory_share=1e-9, scratch=tmp_path) as loaded:
        assert loaded.where == "private copy"
        descriptor = loaded.kept["weights.gguf"]
        assert os.fstat(descriptor).st_nlink == 0
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(descriptor, b"evil", 0)
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("attack", "word"), [(rewrite, "weights.gguf"), (add_file, "extra.safetensors"), (remove, "weights.gguf")]
)
@pytest.mark.row("B09", kind="R")
def test_a_changed_directory_is_refused_by_name(
    model: SignedModel, attack: Callable[[Path], None], word: str
) -> None:
    attack(model.directory / "weights.gguf")
    with pytest.raises(Refused) as refusal:
        load(model.directory, model.verify)
    assert refusal.value.code == "ART-TAMPER"
    assert word in refusal.value.what


def test_only_what_a_server_needs_stays_held_and_all_is_verified(model: SignedModel) -> None:
    with held(model, keep=lambda path: path.endswith(".gguf")) as loaded:
        assert loaded.kept.keys() == {"weights.gguf"}
        assert model.judged[0].files == model.manifest.files


def test_a_model_larger_than_its_share_is_refused_when_there_is_no_scratch(model: SignedModel) -> None:
    with pytest.raises(Refused) as refusal:
        load(model.directory, model.verify, memory_share=1e-9)
    assert refusal.value.code == "RUN-MEMORY"


def test_nothing_stays_held_after_a_refusal(model: SignedModel) -> None:
    before = len(os.listdir("/proc/self/fd"))
    rewrite(model.directory / "weights.gguf")
    for _ in range(3):
        with pytest.raises(Refused):
            load(model.directory, model.verify)
    assert len(os.listdir("/proc/self/fd")) == before


def test_loading_takes_no_memory_beside_the_model(chat_model: SignedModel) -> None:
    tracemalloc.start()
    try:
        with held(chat_model) as loaded:
            size = os.fstat(loaded.kept["model.gguf"]).st_size
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 80 * MIB
    assert peak < 16 * MIB
