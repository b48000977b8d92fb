"""The worker that reads sealed objects: the scanners see the plaintext, decrypted here a segment at a time.

Nothing plain is written or leaves this process, which is confined like any other worker. What is judged is
what lies in the store: a segment that was not sealed as that object does not open.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from garrison.artifacts.scanners.base import Source
from garrison.artifacts.scanners.worker import serve
from garrison.storage.sealing import Segments


@dataclass(frozen=True, slots=True)
class SealedSource:
    """A sealed file as scanners read it."""

    name: str
    segments: Segments

    @property
    def size(self) -> int:
        return self.segments.size

    def read_at(self, offset: int, length: int) -> bytes:
        return self.segments.read_at(offset, length)


def unsealed(request: Mapping[str, str], descriptor: int) -> Source:
    key, header = bytes.fromhex(request["key"]), bytes.fromhex(request["header"])
    return SealedSource(request["name"], Segments(descriptor, key, header, int(request["size"])))


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], sys.argv[3], unsealed)
