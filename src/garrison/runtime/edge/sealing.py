"""The encryption of a bundle's image: a content key sealed to one site, then chunks that end where they should.

The key travels by HPKE (RFC 9180, base mode: X25519, HKDF-SHA256, AES-256-GCM). The image is a STREAM of
chunks, each under AES-256-GCM with its number and whether it is the last one in the nonce, so that chunks
cannot be cut off, added, exchanged or taken from another file. A content key is used for one image.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from garrison.core.errors import Refused

CHUNK_BYTES = 1 << 20  # of the image; memory of a reader, and what is lost to tags is 16 bytes of each
TAG_BYTES = 16
KEY_BYTES = 32
SUITE_NAME = "HPKE X25519 HKDF-SHA256 AES-256-GCM"
_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
_INFO = b"garrison.edge/1 content key\0"


def key_id(public: bytes) -> str:
    """How a site's key is named: hexadecimal SHA-256 of its 32 raw bytes."""
    return hashlib.sha256(public).hexdigest()


def new_content_key() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


def seal_key(content_key: bytes, site_public: bytes, context: bytes) -> bytes:
    """For the site alone. `context` has to be the same when it is opened: which site, which number."""
    return _SUITE.encrypt(content_key, X25519PublicKey.from_public_bytes(site_public), _INFO + context)


def open_key(sealed: bytes, private: X25519PrivateKey, context: bytes) -> bytes:
    """Raises `Refused` EDGE-SITE when it was sealed for another key or another bundle."""
    try:
        content_key = _SUITE.decrypt(sealed, private, _INFO + context)
    except (InvalidTag, ValueError) as error:
        raise Refused(
            "EDGE-SITE",
            "the bundle's key cannot be opened with the key of this device",
            fix="ask for a bundle that was built after this device was enrolled: garrison edge build",
        ) from error
    if len(content_key) != KEY_BYTES:
        raise damaged("its content key has another length")
    return content_key


def sealed_size(plain: int) -> int:
    """How long the image of so many bytes is; an empty one is one empty chunk."""
    return plain + TAG_BYTES * max(1, -(-plain // CHUNK_BYTES))


class ImageWriter:
    """Takes the image in any pieces, hands encrypted chunks to `out`. `size` and `digest` after `finish`."""

    def __init__(self, content_key: bytes, out: Callable[[bytes], object]) -> None:
        self._cipher = AESGCM(content_key)
        self._out = out
        self._waiting = bytearray()
        self._number = 0
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """A full chunk waits for what follows it, so that only the image of nothing ends in an empty one."""
        view = memoryview(data)
        while view:
            if len(self._waiting) == CHUNK_BYTES:
                self._emit(is_last=False)
            taken = view[: CHUNK_BYTES - len(self._waiting)]
            self._waiting += taken
            view = view[len(taken) :]

    def finish(self) -> str:
        """The last chunk; returns the SHA-256 of all that was written, hexadecimal."""
        self._emit(is_last=True)
        return self._hash.hexdigest()

    def _emit(self, *, is_last: bool) -> None:
        chunk = self._cipher.encrypt(_nonce(self._number, is_last=is_last), bytes(self._waiting), None)
        self._number += 1
        self._waiting.clear()
        self._hash.update(chunk)
        self.size += len(chunk)
        self._out(chunk)


def read_image(stream: BinaryIO, content_key: bytes, size: int, sha256: str) -> Iterator[bytes]:
    """The plain chunks of the next `size` bytes, each judged before it is given.

    Raises `Refused` EDGE-TAMPER, or EDGE-TRUNCATED when the stream ends early. Who wants nothing of a bad
    image to count waits for the end: the whole is compared with `sha256` there.
    """
    cipher, whole = AESGCM(content_key), hashlib.sha256()
    number, left = 0, size
    while True:
        wanted = min(left, CHUNK_BYTES + TAG_BYTES)
        chunk = stream.read(wanted)
        if len(chunk) != wanted:
            raise truncated(size - left + len(chunk), size)
        left -= wanted
        whole.update(chunk)
        try:
            plain = cipher.decrypt(_nonce(number, is_last=left == 0), chunk, None)
        except (InvalidTag, ValueError) as error:
            raise damaged(f"chunk {number} of its image is not what was sealed") from error
        number += 1
        if left == 0 and whole.hexdigest() != sha256:
            raise damaged("its image is not the one that was signed")
        yield plain
        if left == 0:
            return


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])


def damaged(why: str) -> Refused:
    return Refused(
        "EDGE-TAMPER",
        f"the bundle is not what was signed: {why}",
        fix="carry the file over again, and compare its SHA-256 with what garrison edge build printed",
    )


def truncated(found: int, wanted: int) -> Refused:
    return Refused(
        "EDGE-TRUNCATED",
        f"the bundle was cut off: {found:,} bytes are there, and {wanted:,} were signed",
        fix="carry the file over again: the copy did not finish",
        evidence={"found": found, "signed": wanted},
    )
