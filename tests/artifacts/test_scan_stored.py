"""Publishing judges the bytes that it stored, by the digests it stored them under, whatever happens meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.app.household import Household, opened
from tests.fakes.wrap import MemoryWrap
from tests.vectors.artifacts import make

from garrison.app.settings import Settings
from garrison.artifacts.release import Publication, publish
from garrison.artifacts.scan import scan_path
from garrison.artifacts.scan_report import ScanReport
from garrison.artifacts.scan_stored import noting, scan_stored, settled
from garrison.core.decision import Subject, Tier
from garrison.core.digest import Ref
from garrison.core.errors import GarrisonError, Refused
from garrison.storage.local import LocalBlobs, LocalObjects, Stamp
from garrison.storage.objects import ObjectStore
from garrison.storage.spooled import SpooledObjects
from garrison.trust.tree import read_tree

CLEAN = make.CLEAN["model.gguf"]
STORES = {"plain": "none", "sealed": "aes-256-gcm"}


@pytest.fixture(scope="module", params=STORES)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Household]:
    data = tmp_path_factory.mktemp("stored") / "data"
    with opened(data, Settings(data=data, store_encryption=STORES[request.param])) as household:
        yield household


def _publish(home: Household, model: Path, ref: str, during: Callable[[], object]) -> None:
    """Publish, and do something at the moment when everything is stored and nothing is judged."""

    def progress(said: str) -> None:
        if said.startswith("scanning"):
            during()

    wanted = Publication(model, Ref.parse(ref), "ml-team", Tier.INTERNAL)
    subject = Subject("user", "owner", frozenset({"admin"}), via="test")
    publish(home.house.registry, wanted, subject, progress)


@pytest.mark.row("A02", kind="R")
def test_a_source_that_turns_harmless_after_it_was_copied_is_refused_all_the_same(
    home: Household, tmp_path: Path
) -> None:
    weights = tmp_path / "model.gguf"
    weights.write_bytes(make.SYSTEM + bytes(len(CLEAN) - len(make.SYSTEM)))
    with pytest.raises(Refused) as caught:
        _publish(home, tmp_path, "turncoat@1", lambda: weights.write_bytes(CLEAN))
    assert caught.value.code == "ART-SCAN"


@pytest.mark.row("A02", kind="R")
def test_a_source_that_turns_harmful_after_it_was_copied_changes_nothing(
    home: Household, tmp_path: Path
) -> None:
    weights = tmp_path / "model.gguf"
    weights.write_bytes(CLEAN)
    _publish(home, tmp_path, "steady@1", lambda: weights.write_bytes(make.SYSTEM))
    assert home.ask("model.verify", ref="steady@1")["digest"]


@pytest.mark.row("A17", kind="R")
@pytest.mark.parametrize("forged", [False, True], ids=["written", "with its time set back"])
def test_an_object_that_is_written_to_before_it_is_judged_is_not_signed(
    home: Household, tmp_path: Path, forged: bool
) -> None:
    """Another clean file in its place, of the same size: what was judged has to be what was stored."""
    other = bytearray(CLEAN)
    other[-1] ^= forged
    (tmp_path / "model.gguf").write_bytes(other)

    def write() -> None:
        for path in (home.house.settings.data / "objects").rglob("*"):
            if path.is_file() and path.suffix != ".key" and path.stat().st_size >= len(CLEAN):
                before = path.stat()
                path.chmod(0o600)
                content = bytearray(path.read_bytes())
                content[-20] ^= 1
                path.write_bytes(content)
                if forged:
                    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(GarrisonError) as caught:
        _publish(home, tmp_path, f"edited@{1 + forged}", write)
    assert caught.value.code in ("ART-CHANGED", "ART-INCOMPLETE", "ART-SCAN")


def _by_path(report: ScanReport) -> dict[str, dict[str, Any]]:
    return {file.path: file.as_json() for file in report.files}


def _stored(folder: Path, store: ObjectStore) -> ScanReport:
    tree, stamps = folder / "tree", dict[str, Stamp]()
    manifest = read_tree(folder / "source", sink=noting(store, stamps))
    if isinstance(store, LocalObjects):
        for entry in manifest:
            (tree / entry.path).parent.mkdir(parents=True, exist_ok=True)
            os.link(store.path(entry.digest), tree / entry.path)
        stamps = settled(tree, stamps)
        assert stamps
    return scan_stored(store, manifest, tree, stamps)


def test_every_kind_of_file_is_judged_in_the_store_as_it_is_on_a_disk(tmp_path: Path) -> None:
    for files in (make.CLEAN, make.REFUSED, make.INCOMPLETE):
        for name, data in files.items():
            path = tmp_path / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    big = make.zipped([("a/data.pkl", make.SYSTEM), ("a/data/0", os.urandom(5 << 20))])
    (tmp_path / "source" / "big.pt").write_bytes(big)  # several segments
    expected = _by_path(scan_path([tmp_path / "source"]))
    plain = LocalObjects(tmp_path / "plain")
    sealed = SpooledObjects(LocalBlobs(tmp_path / "sealed"), tmp_path / "sealed" / "incoming", MemoryWrap())
    assert _by_path(_stored(tmp_path, plain)) == expected
    assert _by_path(_stored(tmp_path, sealed)) == expected
