"""Objects in a place for named blobs, plain or sealed with a data key of their own each.

An object's name is its digest, which is known when its last byte was seen: so it is spooled into a private
file first (sealed already, when it will be), and moved or uploaded under its name then.

    plain     sha256/ab/<64 hex>
    sealed    sealed/ab/<64 hex>          the ciphertext (`sealing.py`)
              sealed/ab/<64 hex>.key      its data key, wrapped in the token with digest and size as context

The wrapped key is written before the ciphertext and bound to the digest: the ciphertext of another object
under this name does not open. Changing the wrapping key rewrites the small files alone.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from garrison.core.digest import canonical_json
from garrison.core.errors import Refused
from garrison.storage import sealing
from garrison.storage.local import LocalBlobs, full_disk_explained
from garrison.storage.objects import READ_BYTES, Blobs, damaged, hexadecimal, holds, missing, rehashed
from garrison.storage.sealing import KEY_BYTES, Broken, KeyWrap, Sealer, new_header, unsealed

FORMAT = "garrison.sealed/1"
MAX_KEY_FILE = 4096  # bytes; ours have about 400
PLAIN, SEALED = "sha256", "sealed"


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What stands beside a sealed object."""

    digest: str
    size: int
    header: bytes
    label: str
    wrapped: bytes

    @property
    def context(self) -> bytes:
        return context_of(self.digest, self.size, self.header)

    def encode(self) -> bytes:
        return canonical_json(
            {
                "format": FORMAT,
                "digest": self.digest,
                "size": self.size,
                "header": self.header.hex(),
                "key": self.label,
                "wrapped": self.wrapped.hex(),
            }
        )

    @classmethod
    def decode(cls, data: bytes, digest: str) -> KeyFile:
        """Raises `Broken` for anything but a key file of that object."""
        try:
            body = json.loads(data)
            found = cls(
                str(body["digest"]),
                int(body["size"]),
                bytes.fromhex(body["header"]),
                str(body["key"]),
                bytes.fromhex(body["wrapped"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise Broken("its key file is not one") from error
        if body.get("format") != FORMAT or found.digest != digest or len(found.header) != 16:
            raise Broken("its key file is that of something else")
        if not 10 <= found.header[8] <= 24:
            raise Broken("its key file names a segment size that is not in use")
        return found


def context_of(digest: str, size: int, header: bytes) -> bytes:
    """What a wrapped data key is bound to: it opens this object and no other."""
    return canonical_json({"format": FORMAT, "digest": digest, "size": size, "header": header.hex()})


@dataclass(frozen=True, slots=True)
class SealedFile:
    """Where a sealed object lies, and what opens it: for a process that may see every byte of it."""

    open: Callable[[], BinaryIO]
    size: int
    header: bytes
    key: bytes = field(repr=False)


class IncomingSpooled:
    """One object on its way into the store."""

    def __init__(self, store: SpooledObjects) -> None:
        self._store = store
        self.path = store.incoming / secrets.token_hex(16)
        self.size = 0
        with full_disk_explained():
            store.incoming.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("xb", buffering=0)
        os.fchmod(self._file.fileno(), 0o600)
        self.key, self.header = (os.urandom(KEY_BYTES), new_header()) if store.wrap else (b"", b"")
        try:
            self._sealer = Sealer(_Whole(self._file), self.key, self.header) if store.wrap else None
        except BaseException:
            self.abort()
            raise

    def write(self, chunk: bytes | memoryview, /) -> None:
        self.size += len(chunk)
        (self._sealer or _Whole(self._file)).write(chunk)

    def commit(self, digest: str, /) -> None:
        with self._store.alone(digest):
            if self._store.has(digest):
                if holds(self._store, digest):
                    self.abort()
                    return
                self._store.remove(digest)
            if self._sealer is not None:
                self._sealer.finish()
            self._file.close()
            self._store.accept(self, digest)
        self.path.unlink(missing_ok=True)

    def abort(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


class SpooledObjects:
    """Objects over `blobs`; `wrap` None keeps them plain. One process writes; any number read."""

    is_linkable = False

    @property
    def is_sealed(self) -> bool:
        return self.wrap is not None

    def __init__(self, blobs: Blobs, incoming: Path, wrap: KeyWrap | None = None) -> None:
        self.blobs = blobs
        self.incoming = incoming
        self.wrap = wrap
        self.folder = SEALED if wrap is not None else PLAIN
        self._users = 0
        self._counting = threading.Lock()
        self._busy: set[str] = set()
        self._freed = threading.Condition()

    def name(self, digest: str) -> str:
        digits = hexadecimal(digest)
        return f"{self.folder}/{digits[:2]}/{digits}"

    def incoming_object(self, _path: str = "", /) -> IncomingSpooled:
        return IncomingSpooled(self)

    def accept(self, draft: IncomingSpooled, digest: str) -> None:
        """Give a finished draft its name."""
        if self.wrap is not None:
            known = self._key_file(digest)
            if known is None:
                self._keep_small(
                    f"{self.name(digest)}.key",
                    self._wrapped(digest, draft.size, draft.header, draft.key).encode(),
                )
            else:  # an upload that was cut short: the same key gives the same bytes, and it goes on
                self._reseal(draft, known)
        self.blobs.keep(self.name(digest), draft.path)

    def open(self, digest: str) -> BinaryIO:
        name = self.name(digest)
        try:
            if self.wrap is None:
                return rehashed(self.blobs.read(name), digest)
            known = self._key_file(digest)
            if known is None:
                raise missing(digest)
            key = self.wrap.unwrap(known.label, known.wrapped, known.context)
            return rehashed(_Told(unsealed(self.blobs.read(name), key, known.header), digest), digest)  # type: ignore[arg-type]  # a stream of read and close
        except FileNotFoundError as error:
            raise missing(digest) from error
        except Broken as error:
            raise damaged(digest, str(error)) from error

    @property
    def has_sealed_files(self) -> bool:
        """Whether objects are sealed files on this machine, which `sealed_file` gives."""
        return self.wrap is not None and isinstance(self.blobs, LocalBlobs)

    def sealed_file(self, digest: str) -> SealedFile:
        """An object's own file. The key opens what was written as that digest and nothing else. Raises as `open`."""
        assert self.wrap is not None
        known = self._key_file(digest)
        if known is None:
            raise missing(digest)
        try:
            key = self.wrap.unwrap(known.label, known.wrapped, known.context)
        except Broken as error:
            raise damaged(digest, str(error)) from error
        return SealedFile(partial(self.blobs.read, self.name(digest)), known.size, known.header, key)

    def has(self, digest: str) -> bool:
        try:
            self.blobs.read(self.name(digest)).close()
        except FileNotFoundError:
            return False
        return True

    def remove(self, digest: str) -> None:
        """The ciphertext goes first: without it a key opens nothing."""
        self.blobs.remove(self.name(digest))
        if self.wrap is not None:
            self.blobs.remove(f"{self.name(digest)}.key")

    def digests(self) -> Iterator[str]:
        for name in self.blobs.names(self.folder):
            digits = name.rpartition("/")[2]
            if len(digits) == 64:
                yield f"sha256:{digits}"

    def rewrap(self, digest: str) -> bool:
        """Wrap an object's data key with the current key; False when it was already.

        The new file takes the old one's place in one step. Raises `Refused` OBJ-DAMAGED or OBJ-MISSING.
        """
        assert self.wrap is not None
        known = self._key_file(digest)
        if known is None:
            raise missing(digest)
        if known.label == self.wrap.current():
            return False
        try:
            key = self.wrap.unwrap(known.label, known.wrapped, known.context)
        except Broken as error:
            raise damaged(digest, str(error)) from error
        name = f"{self.name(digest)}.key"
        fresh = self._wrapped(digest, known.size, known.header, key).encode()
        with self._small(fresh) as file:
            self.blobs.replace(name, file)
        return True

    def labels(self) -> set[str]:
        """The wrapping keys that some object still needs."""
        found = set()
        for name in self.blobs.names(self.folder):
            if name.endswith(".key"):
                digest = "sha256:" + name.rpartition("/")[2].removesuffix(".key")
                with suppress(Refused):
                    known = self._key_file(digest)
                    found.update([known.label] if known else [])
        return found

    @contextmanager
    def alone(self, digest: str) -> Iterator[None]:
        """Two equal files of one model arrive at once: their key and ciphertext have to be of one of them."""
        with self._freed:
            while digest in self._busy:
                self._freed.wait()
            self._busy.add(digest)
        try:
            yield
        finally:
            with self._freed:
                self._busy.discard(digest)
                self._freed.notify_all()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        with self._counting:
            self._users += 1
        try:
            yield
        finally:
            with self._counting:
                self._users -= 1

    def discard_all_but(self, wanted: Callable[[], Collection[str]]) -> int:
        with self._counting:
            if self._users:
                return 0
            kept = wanted()
            unfinished = self.blobs.pending(self.folder)
            rest = {
                name.removesuffix(".key")
                for name in self.blobs.names(self.folder)
                if f"sha256:{name.rpartition('/')[2].removesuffix('.key')}" not in kept
            } - set(unfinished)
            for name in rest:
                self.remove(f"sha256:{name.rpartition('/')[2]}")
            return len(rest)

    def sweep(self) -> int:
        leftovers = list(self.incoming.iterdir()) if self.incoming.is_dir() else []
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        return len(leftovers)

    def _key_file(self, digest: str) -> KeyFile | None:
        try:
            with self.blobs.read(f"{self.name(digest)}.key") as file:
                return KeyFile.decode(file.read(MAX_KEY_FILE), digest)
        except FileNotFoundError:
            return None
        except Broken as error:
            raise damaged(digest, str(error)) from error

    def _wrapped(self, digest: str, size: int, header: bytes, key: bytes) -> KeyFile:
        assert self.wrap is not None
        label = self.wrap.current()
        return KeyFile(
            digest, size, header, label, self.wrap.wrap(label, key, context_of(digest, size, header))
        )

    def _reseal(self, draft: IncomingSpooled, known: KeyFile) -> None:
        assert self.wrap is not None
        try:
            key = self.wrap.unwrap(known.label, known.wrapped, known.context)
        except Broken:
            self.blobs.remove(f"{self.name(known.digest)}.key")
            fresh = self._wrapped(known.digest, draft.size, draft.header, draft.key)
            self._keep_small(f"{self.name(known.digest)}.key", fresh.encode())
            return
        again = draft.path.with_name(secrets.token_hex(16))
        with full_disk_explained(), draft.path.open("rb") as source, again.open("xb", buffering=0) as target:
            sealer = Sealer(_Whole(target), key, known.header)
            with unsealed(source, draft.key, draft.header) as plain:
                while chunk := plain.read(READ_BYTES):
                    sealer.write(chunk)
            sealer.finish()
        again.replace(draft.path)

    def _keep_small(self, name: str, data: bytes) -> None:
        with self._small(data) as file:
            self.blobs.keep(name, file)

    @contextmanager
    def _small(self, data: bytes) -> Iterator[Path]:
        path = self.incoming / secrets.token_hex(16)
        with full_disk_explained():
            path.write_bytes(data)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


class _Whole:
    """Writes all of a chunk, and says in a sentence when the disk is full."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, chunk: bytes | memoryview) -> int:
        view = memoryview(chunk)
        with full_disk_explained():
            while view:
                view = view[self._file.write(view) :]
        return len(chunk)


class _Told:
    """A stream in which a segment that does not decrypt is a refusal that names the object."""

    def __init__(self, source: BinaryIO, digest: str) -> None:
        self._source = source
        self._digest = digest

    def read(self, count: int) -> bytes:
        try:
            return self._source.read(count)
        except Broken as error:
            raise damaged(self._digest, str(error)) from error

    def close(self) -> None:
        self._source.close()


__all__ = ["KeyFile", "SpooledObjects", "sealing"]
