"""Signed checkpoints of the ledger: the size and root of the tree, under a key in a token.

The text follows C2SP tlog-checkpoint (origin, size, base64 root), the envelope C2SP signed-note. The
signature type is 0x02, ECDSA P-256 over SHA-256 of the note text, DER encoded, because the keys live in
PKCS#11 tokens and P-256 is what every token can do; its key id is the truncated SHA-256 of the DER
SubjectPublicKeyInfo, as the specification assigns for that type. Several signature lines are read;
lines of unknown keys are ignored; a wrong line of a known key rejects the whole note.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from garrison.core.errors import Refused
from garrison.evidence.merkle import HASH_SIZE, MAX_SIZE
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import PublicKey

MAX_NOTE_BYTES = 16_384  # a checkpoint is ~250 bytes; room for 16 signatures, as the format demands
MAX_SIGNATURES = 32
_DASH = "\u2014 "
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}\Z")
_ORIGIN = re.compile(r"[^\s+]{1,200}\Z")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tree of `origin` had `size` leaves and this `root` (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer) -> bytes:
    """The signed note of a checkpoint. The key name is the origin, as C2SP tlog-checkpoint asks.

    Raises ValueError when the origin is not a valid key name, and what the signer raises.
    """
    if not _ORIGIN.match(checkpoint.origin):
        raise ValueError(f"{checkpoint.origin!r} is not an origin: no spaces and no plus sign")
    text = checkpoint.text()
    blob = bytes.fromhex(signer.key_id[:8]) + signer.sign(text.encode())
    return f"{text}\n{_DASH}{checkpoint.origin} {base64.b64encode(blob).decode()}\n".encode()


def read_checkpoint(note: bytes, keys: Sequence[PublicKey], origin: str | None = None) -> Checkpoint:
    """The checkpoint of a note that one of `keys` signed.

    Raises `Refused` AUD-SIGNATURE when the note is malformed, is of another origin, carries no
    signature of a known key, or carries a wrong one.
    """
    text, lines = _split_note(note)
    checkpoint = _parse_text(text)
    if origin is not None and checkpoint.origin != origin:
        raise _bad(f"it is of log {checkpoint.origin!r}, not {origin!r}")
    known = {(checkpoint.origin, key.key_id[:8]): key for key in keys}
    verified = False
    for name, key_id, signature in lines:
        key = known.get((name, key_id))
        if key is None:
            continue
        if not key.verify(text.encode(), signature):
            raise _bad(f"the signature of key {key_id} over size {checkpoint.size} is wrong")
        verified = True
    if not verified:
        raise _bad("no key that this ledger trusts has signed it")
    return checkpoint


def _split_note(note: bytes) -> tuple[str, list[tuple[str, str, bytes]]]:
    if len(note) > MAX_NOTE_BYTES:
        raise _bad(f"it has {len(note)} bytes, more than {MAX_NOTE_BYTES}")
    try:
        whole = note.decode()
    except UnicodeDecodeError as error:
        raise _bad("it is not UTF-8") from error
    if any(character < " " and character != "\n" for character in whole):
        raise _bad("it holds control characters")
    text, separator, tail = whole.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise _bad("it is not a signed note")
    rows = tail[:-1].split("\n")
    if len(rows) > MAX_SIGNATURES:
        raise _bad(f"it has {len(rows)} signatures, more than {MAX_SIGNATURES}")
    return text + "\n", [_parse_signature(row) for row in rows]


def _parse_signature(row: str) -> tuple[str, str, bytes]:
    name, space, encoded = row.removeprefix(_DASH).partition(" ")
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad("a signature line is not base64") from error
    if not row.startswith(_DASH) or not name or not space or len(blob) < 5:
        raise _bad("a signature line is malformed")
    return name, blob[:4].hex(), blob[4:]


def _parse_text(text: str) -> Checkpoint:
    rows = text.split("\n")
    if len(rows) < 4 or not all(rows[:-1]):
        raise _bad("it does not have the three lines of a checkpoint")
    if not _ORIGIN.match(rows[0]) or not _SIZE.match(rows[1]) or int(rows[1]) >= MAX_SIZE:
        raise _bad("its origin or size is malformed")
    try:
        root = base64.b64decode(rows[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad("its root is not base64") from error
    if len(root) != HASH_SIZE:
        raise _bad("its root is not a SHA-256")
    return Checkpoint(rows[0], int(rows[1]), root)


def _bad(why: str) -> Refused:
    return Refused(
        "AUD-SIGNATURE",
        f"a checkpoint of the ledger cannot be believed: {why}",
        fix="restore the checkpoint or the public key from a backup, then run garrison audit verify",
    )
