"""The two quick ways to a known digest: a signed chunk tree, and what this machine hashed before."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.releases import public_of, statement_of

from garrison.client import verify_model
from garrison.core.digest import Ref
from garrison.core.errors import GarrisonError
from garrison.trust import chunks, hash_cache, oms
from garrison.trust import statement as statements
from garrison.trust.chunks import CHUNK_BYTES, ChunkTree
from garrison.trust.hash_cache import HashCache, Recall
from garrison.trust.keys.file import FileSigner
from garrison.trust.statement import ReleaseStatement
from garrison.trust.tree import read_tree

SIGNER = FileSigner("release")
MIB = 1 << 20


def rfc6962(leaves: list[bytes]) -> bytes:
    """The Merkle tree hash of RFC 6962, section 2.1, as it is written there."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + rfc6962(leaves[:k]) + rfc6962(leaves[k:])).digest()


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=40))
def test_the_tree_is_the_one_of_rfc_6962(parts: list[bytes]) -> None:
    leaves = [hashlib.sha256(b"\x00" + part).digest() for part in parts]
    assert chunks.root(leaves) == chunks.PREFIX + rfc6962(parts).hex()


@given(st.integers(1, 3 * 64 + 5), st.lists(st.integers(1, 70), max_size=8))
def test_a_tree_grown_in_any_pieces_is_the_tree_of_the_whole(size: int, cuts: list[int]) -> None:
    content = os.urandom(size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK_BYTES", 64)
        grown, rest = chunks.Growing(), memoryview(content)
        for cut in [*cuts, size]:
            grown.update(rest[:cut])
            rest = rest[cut:]
        parts = [content[at : at + 64] for at in range(0, size, 64)]
        assert grown.root() == chunks.PREFIX + rfc6962(parts).hex()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ReleaseStatement]:
    """A model with one file of four and a half chunks, signed with its tree."""
    path = tmp_path_factory.mktemp("large") / "model"
    path.mkdir()
    block = os.urandom(MIB)
    with (path / "model.safetensors").open("wb") as stream:
        for number in range(72):
            stream.write(number.to_bytes(4) + block[4:])
    (path / "config.json").write_bytes(b"{}")
    roots: dict[str, str] = {}
    manifest = read_tree(path, roots=roots)
    statement = replace(statement_of(manifest, Ref("large", 1)), roots=roots)
    path.with_name("model.sig").write_bytes(oms.bundle(manifest, "large@1", SIGNER))
    path.with_name("model.release.json").write_bytes(statements.sign(statement, SIGNER))
    return path, statement


@pytest.mark.row("A05", kind="R")
def test_a_large_file_is_signed_with_its_tree_beside_its_plain_digest(
    large: tuple[Path, ReleaseStatement],
) -> None:
    path, statement = large
    data = (path / "model.safetensors").read_bytes()
    parts = [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]
    assert dict(statement.roots) == {"model.safetensors": chunks.PREFIX + rfc6962(parts).hex()}
    digests = {entry.path: entry.digest for entry in statement.manifest}
    assert digests["model.safetensors"] == "sha256:" + hashlib.sha256(data).hexdigest()
    verified = verify_model(path, name="large@1", trust=[public_of(SIGNER)])
    assert verified.digest == statement.manifest.digest == read_tree(path).digest


@pytest.mark.row("A05", kind="R")
@pytest.mark.parametrize("at", [0, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 7, 72 * MIB - 1])
def test_one_changed_byte_in_any_chunk_is_found(large: tuple[Path, ReleaseStatement], at: int) -> None:
    path, _statement = large
    with (path / "model.safetensors").open("r+b", buffering=0) as stream:
        original = os.pread(stream.fileno(), 1, at)
        os.pwrite(stream.fileno(), bytes([original[0] ^ 1]), at)
        try:
            with pytest.raises(GarrisonError) as caught:
                verify_model(path, trust=[public_of(SIGNER)])
        finally:
            os.pwrite(stream.fileno(), original, at)
    assert caught.value.code == "ART-TAMPER"
    (row,) = caught.value.evidence["paths"]
    assert row["path"] == "model.safetensors"
    assert row["found"]["digest"].startswith("sha256:")  # told in the usual terms
    assert row["found"]["digest"] != row["expected"]["digest"]


def test_chunks_that_changed_places_are_found(large: tuple[Path, ReleaseStatement]) -> None:
    path, _statement = large
    with (path / "model.safetensors").open("r+b", buffering=0) as stream:
        one, two = (os.pread(stream.fileno(), CHUNK_BYTES, at) for at in (0, CHUNK_BYTES))
        os.pwrite(stream.fileno(), two + one, 0)
        try:
            with pytest.raises(GarrisonError) as caught:
                verify_model(path, trust=[public_of(SIGNER)])
        finally:
            os.pwrite(stream.fileno(), one + two, 0)
    assert caught.value.code == "ART-TAMPER"


def test_a_tree_of_other_bytes_is_not_believed_over_the_plain_digest(
    large: tuple[Path, ReleaseStatement],
) -> None:
    path, statement = large
    entry = next(entry for entry in statement.manifest if entry.path == "model.safetensors")
    for tree in (
        ChunkTree(entry.size, chunks.PREFIX + "00" * 32, "sha256:" + "11" * 32),
        ChunkTree(entry.size + 1, statement.roots["model.safetensors"], "sha256:" + "11" * 32),
    ):
        assert read_tree(path, trees={"model.safetensors": tree}).digest == statement.manifest.digest


def test_a_statement_without_trees_is_written_as_it_always_was(
    large: tuple[Path, ReleaseStatement],
) -> None:
    _, statement = large
    assert b"trees" not in statements.encode(replace(statement, roots={}))
    assert statements.decode(statements.encode(statement)) == statement


@pytest.mark.parametrize(
    "roots",
    [
        {"config.json": chunks.PREFIX + "00" * 32},  # too small for a tree
        {"nowhere.bin": chunks.PREFIX + "00" * 32},
        {"model.safetensors": "sha256:" + "00" * 32},
        {"model.safetensors": chunks.PREFIX + "0" * 63},
    ],
)
def test_a_statement_with_a_tree_of_nothing_is_none(
    large: tuple[Path, ReleaseStatement], roots: dict[str, str]
) -> None:
    with pytest.raises(ValueError):
        replace(large[1], roots=roots)


# What this machine hashed before.


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    (path / "a.bin").write_bytes(b"a" * 5000)
    (path / "b.bin").write_bytes(b"b" * 5000)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> HashCache:
    pytest.importorskip("blake3")
    opened = HashCache.open(tmp_path / "cache")
    assert opened is not None
    return opened


class Counted(HashCache):
    """Says how often it recognised something."""

    hits = 0

    def knows(self, digest: str, content: bytes) -> bool:
        found = super().knows(digest, content)
        self.hits += found
        return found


def counted(tmp_path: Path) -> Counted:
    return Counted(tmp_path / "cache", (tmp_path / "cache" / "key").read_bytes())


@pytest.mark.row("A05", kind="R")
def test_unchanged_files_are_recognised_and_changed_ones_are_not(
    model: Path, cache: HashCache, tmp_path: Path
) -> None:
    manifest = read_tree(model)
    expected = {entry.path: entry.digest for entry in manifest}
    assert read_tree(model, recall=Recall(cache, expected)) == manifest
    again = counted(tmp_path)
    assert read_tree(model, recall=Recall(again, expected)) == manifest
    assert again.hits == 2
    status = (model / "a.bin").stat()
    (model / "a.bin").write_bytes(b"A" + b"a" * 4999)
    os.utime(model / "a.bin", ns=(status.st_atime_ns, status.st_mtime_ns))
    found = {entry.path: entry.digest for entry in read_tree(model, recall=Recall(again, expected))}
    assert found["a.bin"] == "sha256:" + hashlib.sha256(b"A" + b"a" * 4999).hexdigest()
    assert found["b.bin"] == expected["b.bin"]


@pytest.mark.row("A05", kind="R")
def test_an_entry_cannot_be_moved_to_another_digest(model: Path, cache: HashCache, tmp_path: Path) -> None:
    """Who may write to the folder has valid entries of bad bytes too; none of them fits another digest."""
    manifest = read_tree(model)
    expected = {entry.path: entry.digest for entry in manifest}
    read_tree(model, recall=Recall(cache, expected))
    (model / "a.bin").write_bytes((model / "b.bin").read_bytes())
    entries = {path.name: path for path in (tmp_path / "cache").glob("??/*")}
    b_entry = entries[expected["b.bin"][7:]].read_bytes()
    for forged in (b_entry, b_entry[:8] + bytes(32), b"", bytes(40), b_entry + b"x"):
        entries[expected["a.bin"][7:]].write_bytes(forged)
        again = counted(tmp_path)
        found = {entry.path: entry.digest for entry in read_tree(model, recall=Recall(again, expected))}
        assert found["a.bin"] == expected["b.bin"] != expected["a.bin"]


def test_a_key_that_others_may_read_is_not_used(cache: HashCache, tmp_path: Path) -> None:
    key = tmp_path / "cache" / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o644)
    assert HashCache.open(tmp_path / "cache") is None
    key.chmod(0o600)
    key.write_bytes(b"short")
    assert HashCache.open(tmp_path / "cache") is None


def test_an_entry_ends_after_a_month_and_another_key_knows_nothing(
    cache: HashCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, content = "sha256:" + "00" * 32, b"c" * 32
    cache.remember(digest, content)
    assert cache.knows(digest, content)
    assert not cache.knows(digest, b"d" * 32)
    assert not HashCache(tmp_path / "cache", b"k" * 32).knows(digest, content)
    monkeypatch.setattr(hash_cache, "MAX_AGE", -1)
    assert not cache.knows(digest, content)


def test_bytes_that_go_somewhere_are_hashed_in_full(model: Path, cache: HashCache, tmp_path: Path) -> None:
    """A sink is how bytes are loaded, stored and pulled: no shortcut judges those."""
    expected = {entry.path: entry.digest for entry in read_tree(model)}
    read_tree(model, recall=Recall(cache, expected))
    again = counted(tmp_path)

    class Sink:
        def __init__(self, _path: str) -> None: ...

        def write(self, chunk: memoryview) -> None: ...

        def commit(self, digest: str) -> None: ...

        def abort(self) -> None: ...

    read_tree(model, sink=Sink, recall=Recall(again, expected))
    assert again.hits == 0
