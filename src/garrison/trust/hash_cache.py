"""Recognise bytes that were hashed here before, three times faster than SHA-256 hashes them.

Every byte is read and hashed again, by BLAKE3 under a key that only this data directory has; sizes and times
prove nothing. An entry says "content with this keyed hash has that SHA-256" and is sealed with the same key
and named by the SHA-256, so an entry can be neither made up nor moved by someone who may write to the folder.
Who can read the key can. That is why it only ever speeds up looking again at what was fully verified before,
and never judges bytes before a model is loaded, published or pulled; and after MAX_AGE it is SHA-256 again.

    cache = HashCache.open(data / "cache" / "hashes")       # None without the extra `fast`
    read_tree(tree, recall=Recall(cache, expected))
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from garrison.core.digest import is_digest

try:
    from blake3 import blake3
except ImportError:  # the extra `fast`
    blake3 = None  # type: ignore[assignment, misc]  # its absence is what the name then says

KEY_NAME = "key"
KEY_BYTES = 32
_CONTENT = "garrison 2026-11 hash cache content"
_SEAL = "garrison 2026-11 hash cache entry"
_TIME_BYTES = 8
_ENTRY_BYTES = _TIME_BYTES + 32
MAX_AGE = 30 * 24 * 3600  # seconds an entry counts for


class KeyedHash(Protocol):
    def update(self, data: memoryview, /) -> object: ...

    def digest(self) -> bytes: ...


class HashCache:
    """Entries in a folder, one small file a digest; whatever is wrong with one, it counts as absent."""

    @staticmethod
    def open(folder: Path) -> HashCache | None:
        """The cache in `folder`, made with its key on first use. None when it cannot be used: without
        BLAKE3, without a writable folder, or with a key that others may read or that is not whole."""
        if blake3 is None:
            return None
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return HashCache(folder, _key(folder / KEY_NAME))
        except (OSError, ValueError):
            return None

    def __init__(self, folder: Path, key: bytes) -> None:
        self._folder = folder
        self._content = blake3(key, derive_key_context=_CONTENT).digest()
        self._seal = blake3(key, derive_key_context=_SEAL).digest()

    def hasher(self) -> KeyedHash:
        return blake3(key=self._content)

    def knows(self, digest: str, content: bytes) -> bool:
        """Whether content of that keyed hash was seen to have that SHA-256, not too long ago."""
        try:
            with self._entry(digest).open("rb") as stream:
                found = stream.read(_ENTRY_BYTES + 1)
        except OSError:
            return False
        written = int.from_bytes(found[:_TIME_BYTES])
        is_ours = hmac.compare_digest(found, self._sealed(digest, content, written))
        return is_ours and 0 <= time.time() - written <= MAX_AGE

    def remember(self, digest: str, content: bytes) -> None:
        """Note what was just computed; a folder that cannot be written costs time and nothing else."""
        entry = self._entry(digest)
        partial = entry.with_name(f".{secrets.token_hex(8)}")
        try:
            entry.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(self._sealed(digest, content, int(time.time())))
            partial.rename(entry)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink()

    def _entry(self, digest: str) -> Path:
        if not is_digest(digest):
            raise ValueError("not a digest")
        name = digest.removeprefix("sha256:")
        return self._folder / name[:2] / name

    def _sealed(self, digest: str, content: bytes, written: int) -> bytes:
        stamp = written.to_bytes(_TIME_BYTES)
        return stamp + bytes(blake3(stamp + digest.encode() + content, key=self._seal).digest())


class Recall:
    """A cache, and which digest each path is expected to have: what `read_tree` needs to use it."""

    def __init__(self, cache: HashCache, expected: Mapping[str, str]) -> None:
        self.cache = cache
        self.expected = expected


def _key(path: Path) -> bytes:
    """Read the key, or make it. Raises ValueError for one that others may read or that is cut."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(KEY_BYTES))
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        key = stream.read(KEY_BYTES + 1)
    if len(key) != KEY_BYTES or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise ValueError("not a key of this account alone")
    return key
