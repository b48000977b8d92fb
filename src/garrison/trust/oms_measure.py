"""The digests that a foreign bundle lists, made from the bytes while `read_tree` reads them.

measuring = Measuring(signed.scheme)
manifest = read_tree(path, sink=measuring)
measuring.digests["model.safetensors"]      # comparable with signed.files
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from garrison.core.errors import Undecided
from garrison.trust.oms_listing import Scheme

try:
    from blake3 import blake3 as _blake3
except ImportError:  # the extra `fast`
    _blake3 = None  # type: ignore[assignment, misc]  # its absence is what the name then says


class _Hash(Protocol):
    def update(self, data: memoryview, /) -> object: ...

    def hexdigest(self) -> str: ...


class Measuring:
    """A sink for `read_tree`; `digests` is complete when the reading has returned.

    Raises `Undecided` SRV-EXTRA when the scheme needs a hash that is not installed.
    """

    def __init__(self, scheme: Scheme) -> None:
        _new_hash(scheme)
        self.digests: dict[str, str] = {}
        self._scheme = scheme

    def __call__(self, path: str) -> _FileWriter:
        return _FileWriter(self._scheme, path, self.digests)


class _FileWriter:
    """One file. Empty files have no shards; they come out as a file of none, which no bundle can list."""

    def __init__(self, scheme: Scheme, path: str, digests: dict[str, str]) -> None:
        self._scheme = scheme
        self._path = path
        self._digests = digests
        self._hash = _new_hash(scheme)
        self._shards: list[str] = []
        self._size = 0

    def write(self, chunk: memoryview, /) -> None:
        while len(chunk):
            room = (
                self._scheme.shard_size - self._size % self._scheme.shard_size
                if self._sharded
                else len(chunk)
            )
            part, chunk = chunk[:room], chunk[room:]
            self._hash.update(part)
            self._size += len(part)
            if self._sharded and self._size % self._scheme.shard_size == 0:
                self._end_shard()

    def commit(self, _sha256: str, /) -> None:
        if not self._sharded:
            self._digests[self._path] = self._scheme.of_file(self._hash.hexdigest())
            return
        if self._size % self._scheme.shard_size:
            self._end_shard()
        self._digests[self._path] = self._scheme.of_shards(self._shards, self._size)

    def abort(self) -> None:
        self._digests.pop(self._path, None)

    @property
    def _sharded(self) -> bool:
        return self._scheme.shard_size > 0

    def _end_shard(self) -> None:
        self._shards.append(self._hash.hexdigest())
        self._hash = _new_hash(self._scheme)


def _new_hash(scheme: Scheme) -> _Hash:
    if scheme.hash_type == "blake2b":
        return hashlib.blake2b()
    if scheme.hash_type == "sha256":
        return hashlib.sha256()
    if _blake3 is None:
        raise Undecided(
            "SRV-EXTRA",
            "the model signature hashes with BLAKE3, which is not installed",
            fix="pip install 'garrison[fast]'",
        )
    return _blake3()
