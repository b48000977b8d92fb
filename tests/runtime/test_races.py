"""Every way in which a model's bytes come in, beside a thread that never stops breaking them: no wrong byte is held."""

from __future__ import annotations

import hashlib
import os
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.runtime.stage import SignedModel, sign_model

from garrison.artifacts.stored import StoredFiles
from garrison.core.errors import GarrisonError
from garrison.runtime.edge import bundle
from garrison.runtime.edge.device import Accepted, BundleFiles
from garrison.runtime.edge.memory import Memory
from garrison.runtime.loader import Files, load
from garrison.storage.local import LocalObjects
from garrison.trust import statement as statements
from garrison.trust.keys.public import public_from_pem

RACES = 300  # for each of four ways: 1,200 interleavings
EVIL = b"evil" * 2048
NOW = datetime(2026, 1, 2, tzinfo=UTC)
EXPECTED = {
    *("ART-TAMPER", "ART-CHANGED", "ART-LINK", "ART-UNREADABLE", "OBJ-MISSING", "OBJ-DAMAGED", "RUN-MEMORY"),
    *("EDGE-TAMPER", "EDGE-TRUNCATED", "EDGE-EXTENDED", "EDGE-FORM"),
}
ACTS = ("rewrite", "truncate", "grow", "rename", "link", "remove", "same")


def break_it(act: str, target: Path, right: bytes, chance: random.Random) -> None:
    if act in ("rewrite", "same"):
        before = target.stat()
        with target.open("r+b", buffering=0) as stream:
            stream.seek(chance.randrange(len(right) - len(EVIL)))
            stream.write(EVIL)
        if act == "same":
            os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif act == "truncate":
        os.truncate(target, chance.randrange(len(right)))
    elif act == "grow":
        with target.open("ab") as file:
            file.write(EVIL)
    elif act == "remove":
        target.unlink()
    else:
        fresh, elsewhere = target.with_name(f".{target.name}.new"), target.parents[1] / "elsewhere"
        elsewhere.write_bytes(EVIL + right[len(EVIL) :])
        fresh.symlink_to(elsewhere) if act == "link" else fresh.write_bytes(elsewhere.read_bytes())
        fresh.replace(target)


def mend(target: Path, right: bytes) -> None:
    fresh = target.with_name(f".{target.name}.right")
    fresh.write_bytes(right)
    fresh.replace(target)


@contextmanager
def racing(target: Path, seed: int) -> Iterator[threading.Lock]:
    """A thread that breaks `target` and puts it right again, in turn, until the block ends.

    Whoever takes the lock finds it right, and undisturbed until the lock is given back.
    """
    right, stop, chance = target.read_bytes(), threading.Event(), random.Random(seed)
    at_rest = threading.Lock()

    def meddle() -> None:
        while not stop.is_set():
            with at_rest:
                with suppress(OSError):  # its own last act may be in the way of the next one
                    break_it(chance.choice(ACTS), target, right, chance)
                stop.wait(chance.uniform(0, 0.002))
                mend(target, right)
            stop.wait(chance.uniform(0, 0.004))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # both threads get their turn in the middle of everything
    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        yield at_rest
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()
        sys.setswitchinterval(interval)


Way = tuple[Path | Files, Path, dict[str, object]]  # what is loaded, what is broken, how it is held


def sealed_memory(model: SignedModel, _place: Path) -> Way:
    return model.directory, model.directory / "weights.gguf", {}


def private_copy(model: SignedModel, place: Path) -> Way:
    return model.directory, model.directory / "weights.gguf", {"memory_share": 1e-9, "scratch": place}


def store(model: SignedModel, place: Path) -> Way:
    objects = LocalObjects(place / "objects")
    for entry in model.manifest:
        incoming = objects.incoming_object()
        incoming.write((model.directory / entry.path).read_bytes())
        incoming.commit(entry.digest)
    weights = max(model.manifest, key=lambda entry: entry.size)
    return StoredFiles(objects, model.manifest), objects.path(weights.digest), {}


def edge_image(model: SignedModel, place: Path) -> Way:
    """An encrypted image, which takes the place of a mounted one: it is decrypted into what is held."""
    (place / "carried").mkdir()
    private, path = X25519PrivateKey.generate(), place / "carried" / "model.gar"
    key = public_from_pem(model.signer.public_pem(), "release")
    draft = bundle.Draft(
        site="plant-7",
        site_public=private.public_key().public_bytes_raw(),
        sequence=1,
        created=NOW,
        expires=NOW + timedelta(days=1),
        environment="production",
        papers={bundle.KEYRING: b"{}", bundle.STATEMENT: model.statement, bundle.SIGNATURE: model.bundle},
        ref=model.ref,
        digest=model.manifest.digest,
        files=([(model.directory / entry.path).read_bytes()] for entry in model.manifest),
    )
    bundle.write(path, draft, model.signer)
    with bundle.opened(path) as stream:
        found = bundle.judge(stream, lambda _keyring: [key])
    stated, _ = statements.open_statement(model.statement, [key])
    accepted = Accepted(found, (key,), Memory("plant-7"), stated, model.approval)
    return BundleFiles(path, accepted, private), path, {}


@pytest.mark.row("A08", kind="R")
@pytest.mark.row("B09", kind="R")
@pytest.mark.parametrize(
    "way", [sealed_memory, private_copy, store, edge_image], ids=lambda way: way.__name__
)
def test_three_hundred_races_for_each_way_in_hold_no_wrong_byte(
    tmp_path: Path, way: Callable[[SignedModel, Path], Way]
) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "weights.gguf").write_bytes(b"GGUF" + random.Random(1).randbytes(200_000))
    (directory / "config.json").write_text("{}")
    model = sign_model(directory)
    files, target, options = way(model, tmp_path)
    signed = {entry.path: entry.digest for entry in model.manifest}

    def attempt() -> str:
        try:
            loaded = load(files, model.verify, **options)  # type: ignore[arg-type]  # as the way says
        except GarrisonError as error:
            return error.code
        for path, descriptor in loaded.kept.items():
            data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            assert f"sha256:{hashlib.sha256(data).hexdigest()}" == signed[path], "a wrong byte is held"
        assert loaded.loaded == model.manifest.digest
        loaded.close()
        return "loaded"

    outcomes: Counter[str] = Counter()
    with racing(target, seed=11) as at_rest:
        for _ in range(RACES):
            outcomes[attempt()] += 1
        with at_rest:
            assert attempt() == "loaded"  # what is left alone loads
            break_it("same", target, target.read_bytes(), random.Random(3))
            assert attempt() in EXPECTED
    assert outcomes.total() == RACES
    assert outcomes.keys() <= EXPECTED | {"loaded"}, outcomes
