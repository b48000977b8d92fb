"""What every store of objects promises. A suite subclasses this and says how to make and how to damage one."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator

import pytest

from garrison.core.errors import GarrisonError, Refused
from garrison.storage.objects import ObjectStore, holds, put

Damage = Callable[[ObjectStore, str, Callable[[bytes], bytes]], None]

SIZES = (0, 1000, 1 << 20, (1 << 20) + 1, (3 << 20) + 17)


def _bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def _name(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class ObjectsContract:
    """Subclasses give the fixtures `store` and `damage` (change the bytes as they lie in the backend)."""

    @pytest.mark.parametrize("size", SIZES)
    def test_what_was_put_comes_back_under_its_digest(self, store: ObjectStore, size: int) -> None:
        data = _bytes(size)
        assert put(store, (data[i : i + 70_000] for i in range(0, size, 70_000))) == (_name(data), size)
        assert store.has(_name(data))
        with store.open(_name(data)) as stream:
            assert stream.read() == data

    def test_any_way_of_reading_gives_the_same_bytes(self, store: ObjectStore) -> None:
        data = _bytes((2 << 20) + 5)
        digest, _ = put(store, [data])
        chance, found = random.Random(1), bytearray()
        with store.open(digest) as stream:
            while chunk := stream.read(chance.randint(1, 300_000)):
                found += chunk
        assert bytes(found) == data

    def test_an_interrupted_write_is_never_visible(self, store: ObjectStore) -> None:
        def broken() -> Iterator[bytes]:
            yield b"half"
            raise OSError("the source went away")

        with pytest.raises(OSError, match="went away"):
            put(store, broken())
        assert not store.has(_name(b"half"))
        assert store.sweep() == 0

    def test_a_missing_object_is_a_refusal_that_says_what_to_do(self, store: ObjectStore) -> None:
        with pytest.raises(Refused, match="OBJ-MISSING"):
            store.open(_name(b"never put"))
        assert not store.has(_name(b"never put"))

    @pytest.mark.parametrize("name", ["../../etc/passwd", "sha256:../x", "sha256:" + "G" * 64, ""])
    def test_only_a_digest_is_a_name(self, store: ObjectStore, name: str) -> None:
        with pytest.raises(ValueError, match="not a digest"):
            store.open(name)

    def test_any_changed_byte_is_found_by_reading(self, store: ObjectStore, damage: Damage) -> None:
        chance, data = random.Random(2), _bytes(3000)
        digest, _ = put(store, [data])
        for _ in range(6):
            kept: list[bytes] = []

            def flip(found: bytes, kept: list[bytes] = kept) -> bytes:
                kept.append(found)
                place = chance.randrange(len(found))
                return found[:place] + bytes([found[place] ^ (1 << chance.randrange(8))]) + found[place + 1 :]

            damage(store, digest, flip)
            with pytest.raises(Refused, match="OBJ-DAMAGED"):
                _read(store, digest)
            assert not holds(store, digest)
            damage(store, digest, lambda _found, kept=kept: kept[0])  # type: ignore[misc]  # binds the list
        assert holds(store, digest)

    @pytest.mark.parametrize("keep", [0, 1, 1500, 2999])
    def test_a_cut_object_is_found_by_reading(self, store: ObjectStore, damage: Damage, keep: int) -> None:
        digest, _ = put(store, [_bytes(3000)])
        damage(store, digest, lambda found: found[:keep])
        with pytest.raises(Refused, match="OBJ-DAMAGED"):
            _read(store, digest)

    def test_an_object_in_the_place_of_another_is_found(self, store: ObjectStore, damage: Damage) -> None:
        first, _ = put(store, [_bytes(3000, 1)])
        other, _ = put(store, [_bytes(3000, 2)])
        taken: list[bytes] = []
        damage(store, other, lambda found: taken.append(found) or found)  # type: ignore[func-returns-value]  # a note
        damage(store, first, lambda _found: taken[0])
        with pytest.raises(Refused, match="OBJ-DAMAGED"):
            _read(store, first)
        assert holds(store, other)

    def test_the_same_bytes_mend_a_damaged_object(self, store: ObjectStore, damage: Damage) -> None:
        digest, _ = put(store, [b"weights"])
        damage(store, digest, lambda found: found[:-1] + bytes([found[-1] ^ 1]))
        assert not holds(store, digest)
        put(store, [b"weights"])
        assert _read(store, digest) == b"weights"

    def test_equal_files_that_arrive_at_once_are_one_object(self, store: ObjectStore) -> None:
        data, failed = _bytes(200_000, 3), []

        def work() -> None:
            try:
                put(store, [data])
            except (GarrisonError, OSError) as error:
                failed.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert _read(store, _name(data)) == data

    def test_what_nothing_refers_to_is_discarded_but_not_while_somebody_puts(
        self, store: ObjectStore
    ) -> None:
        kept, _ = put(store, [b"kept"])
        other, _ = put(store, [b"other"])
        with store.in_use():
            assert store.discard_all_but(lambda: {kept}) == 0
        assert store.discard_all_but(lambda: {kept}) == 1
        assert (store.has(kept), store.has(other)) == (True, False)
        assert _read(store, kept) == b"kept"


def _read(store: ObjectStore, digest: str) -> bytes:
    with store.open(digest) as stream:
        return stream.read()
