"""Objects: written once, named by digest, never visible by halves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.core.errors import Refused
from garrison.storage.local import LocalObjects, write_atomically


@given(chunks=st.lists(st.binary(max_size=200), max_size=8))
def test_what_was_put_comes_back_under_its_digest(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]
) -> None:
    store = LocalObjects(tmp_path_factory.mktemp("objects"))
    digest, size = store.put(chunks)
    data = b"".join(chunks)
    assert (digest, size) == ("sha256:" + hashlib.sha256(data).hexdigest(), len(data))
    with store.open(digest) as file:
        assert file.read() == data


def test_an_interrupted_write_is_never_visible_and_is_swept(tmp_path: Path) -> None:
    store = LocalObjects(tmp_path)

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError("the source went away")

    with pytest.raises(OSError, match="went away"):
        store.put(broken())
    assert store.sweep() == 0
    (store.incoming / "left-by-a-killed-process").write_bytes(b"half")
    assert store.sweep() == 1
    assert not (tmp_path / "sha256").exists()


def test_a_damaged_object_is_replaced_by_the_same_bytes(tmp_path: Path) -> None:
    store = LocalObjects(tmp_path)
    digest, _ = store.put([b"weights"])
    store.path(digest).chmod(0o644)
    store.path(digest).write_bytes(b"w3ights")
    store.put([b"weights"])
    assert store.path(digest).read_bytes() == b"weights"


def test_objects_are_read_only_on_the_disk(tmp_path: Path) -> None:
    store = LocalObjects(tmp_path)
    digest, _ = store.put([b"weights"])
    assert store.path(digest).stat().st_mode & 0o777 == 0o444


def test_a_missing_object_is_a_refusal_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="OBJ-MISSING"):
        LocalObjects(tmp_path).open("sha256:" + "0" * 64)


@pytest.mark.parametrize("name", ["../../etc/passwd", "sha256:../x", "sha256:" + "G" * 64, ""])
def test_only_a_digest_is_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a digest"):
        LocalObjects(tmp_path).path(name)


def test_a_small_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "note"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert [item.name for item in tmp_path.iterdir()] == ["note"]
