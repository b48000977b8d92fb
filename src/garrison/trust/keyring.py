"""The keyring: every key that ever signed, what it was for, until when, and what was revoked. Signed by `root`.

One document (DSSE, `application/vnd.garrison.keyring+json`) with a number that only counts up. Whoever has
the root's public key and a keyring can judge offline: a retired key verifies what it signed, a revoked one
verifies only the messages that its revocation keeps. One meaning has one spelling, as in `statement.py`.

    keyring = open_keyring(envelope, root)
    keys = keyring.of_role("release")
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from garrison.core.digest import canonical_json, sha256_bytes
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.core.event import format_time, parse_time
from garrison.trust import approvers, dsse, strict_json
from garrison.trust.keys.algorithm import Algorithm
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import PublicKey, Revocation, load_public, public_from_pem

PAYLOAD_TYPE = "application/vnd.garrison.keyring+json"
TRUST_SCHEMA = "garrison.trust/1"
ROOT, RELEASE, SPARE, APPROVER, TIMESTAMP = "root", "release", "spare", "approver", "timestamp"
REASONS = ("compromise", "superseded", "cessation", "unspecified")  # as in RFC 5280, section 5.3.1
KEYRING_FILE = Path("keys") / "keyring.json"  # in a data directory
ROOT_FILE = Path("keys") / "public" / "root.pem"
MAX_KEYS = 1_000
MAX_KEPT = 200_000  # signed messages; ten thousand versions have about fifty thousand
MAX_TEXT = 256
MAX_PEM_TEXT = 2_000  # an RSA public key of 3072 bits is 624


class State(StrEnum):
    ACTIVE = "active"  # may sign
    RETIRED = "retired"  # signs no more; what it signed verifies
    REVOKED = "revoked"  # only what its revocation keeps verifies


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key. `role` is what it signs (`spare` before it was given any), `token` the name of where it lives.

    `since` is when it was first known here, `until` when it stopped signing.
    """

    public: PublicKey
    role: str
    state: State
    token: str
    since: datetime
    until: datetime | None = None

    @property
    def label(self) -> str:
        return self.public.label

    @property
    def key_id(self) -> str:
        return self.public.key_id

    @property
    def algorithm(self) -> Algorithm:
        return self.public.algorithm


@dataclass(frozen=True, slots=True)
class Keyring:
    """Every key, in the order in which they became known. Labels and ids are unique."""

    version: int
    issued: datetime
    keys: tuple[KeyRecord, ...]

    def __post_init__(self) -> None:
        if len({key.key_id for key in self.keys}) != len(self.keys) or self.version < 0:
            raise ValueError("a keyring counts up, and has each key once")
        if len({key.label for key in self.keys}) != len(self.keys) or len(self.keys) > MAX_KEYS:
            raise ValueError(f"a keyring has each label once and at most {MAX_KEYS} keys")

    def of_role(self, role: str) -> tuple[PublicKey, ...]:
        """The keys whose signatures count for a role, each with its revocation."""
        return tuple(key.public for key in self.keys if key.role == role)

    def active(self, role: str) -> KeyRecord | None:
        """The one that signs for a role now."""
        found = [key for key in self.keys if key.role == role and key.state is State.ACTIVE]
        return found[-1] if found else None

    def find(self, name: str) -> KeyRecord:
        """By label, or by id or the first sixteen or more digits of one. Raises `Refused` KEY-UNKNOWN."""
        found = [key for key in self.keys if key.label == name]
        found = found or [key for key in self.keys if len(name) >= 16 and key.key_id.startswith(name)]
        if len(found) != 1:
            raise Refused(
                "KEY-UNKNOWN",
                f"there is no key {name[:80]!a} in the keyring",
                fix="garrison key list shows the keys and their ids",
            )
        return found[0]

    def with_key(self, changed: KeyRecord) -> Keyring:
        """The same keyring with a key replaced, or added at the end."""
        known = any(key.key_id == changed.key_id for key in self.keys)
        kept = tuple(changed if key.key_id == changed.key_id else key for key in self.keys)
        return replace(self, keys=kept if known else (*kept, changed))

    @property
    def digest(self) -> str:
        return sha256_bytes(encode(self))


def role_of(label: str, builtin: Iterable[str]) -> str:
    """The role that a key has by its label when it is first seen."""
    if label in builtin:
        return label
    return APPROVER if approvers.is_label(label) else SPARE


def encode(keyring: Keyring) -> bytes:
    """The payload to be signed."""
    return canonical_json(
        {
            "version": keyring.version,
            "issued": format_time(keyring.issued),
            "keys": [_key_json(key) for key in keyring.keys],
        }
    )


def _key_json(key: KeyRecord) -> dict[str, Any]:
    revocation = key.public.revocation
    return {
        "label": key.label,
        "role": key.role,
        "state": key.state.value,
        "algorithm": key.algorithm.value,
        "key_id": key.key_id,
        "pem": key.public.pem.decode(),
        "token": key.token,
        "since": format_time(key.since),
        "until": format_time(key.until) if key.until else "",
        "revoked": None
        if revocation is None
        else {
            "reason": revocation.reason,
            "since": format_time(revocation.since),
            "kept": sorted(revocation.kept),
        },
    }


def sign(keyring: Keyring, root: Signer) -> bytes:
    """The keyring in its envelope, as canonical JSON bytes."""
    return canonical_json(dsse.sign(encode(keyring), PAYLOAD_TYPE, root))


def open_keyring(envelope: bytes, root: PublicKey) -> Keyring:
    """Check the root's signature and parse strictly. Raises `Refused` KEY-KEYRING for anything else."""
    try:
        payload, _key_id = dsse.open_envelope(envelope, [root], payload_type=PAYLOAD_TYPE)
        keyring = _parsed(strict_json.loads(payload, dsse.MAX_ENVELOPE_BYTES))
        if encode(keyring) != payload:
            raise ValueError("it is not in the one form that it has")
    except (ValueError, KeyError, TypeError, AttributeError, GarrisonError) as error:
        why = error.what if isinstance(error, GarrisonError) else str(error)
        raise Refused(
            "KEY-KEYRING",
            f"the keyring does not hold: {why[:300]}",
            fix="get a new one from the server: garrison key trust --out FILE",
        ) from error
    return keyring


def _parsed(document: Any) -> Keyring:
    fields = strict_json.exactly(document, "version", "issued", "keys")
    if type(fields["version"]) is not int or fields["version"] < 1 or not isinstance(fields["keys"], list):
        raise ValueError("a keyring has a number from 1 on and a list of keys")
    if len(fields["keys"]) > MAX_KEYS:
        raise ValueError("too many keys")
    return Keyring(
        fields["version"], parse_time(fields["issued"]), tuple(_parsed_key(row) for row in fields["keys"])
    )


def _parsed_key(row: Any) -> KeyRecord:
    names = ("label", "role", "state", "algorithm", "key_id", "pem", "token", "since", "until", "revoked")
    fields = strict_json.exactly(row, *names)
    state = State(fields["state"])
    revocation = None if fields["revoked"] is None else _parsed_revocation(fields["revoked"])
    if (revocation is not None) != (state is State.REVOKED):
        raise ValueError("a key is revoked with a revocation and no other way")
    pem = strict_json.text(fields["pem"], MAX_PEM_TEXT).encode()
    public = PublicKey(fields["key_id"], strict_json.text(fields["label"], MAX_TEXT), pem, revocation)
    if public.algorithm is not Algorithm(fields["algorithm"]):
        raise ValueError("a key has another algorithm than its record says")
    return KeyRecord(
        public,
        strict_json.text(fields["role"], MAX_TEXT),
        state,
        strict_json.text(fields["token"], MAX_TEXT),
        parse_time(fields["since"]),
        parse_time(fields["until"]) if fields["until"] else None,
    )


def _parsed_revocation(value: Any) -> Revocation:
    fields = strict_json.exactly(value, "reason", "since", "kept")
    kept = fields["kept"]
    if fields["reason"] not in REASONS or not isinstance(kept, list) or len(kept) > MAX_KEPT:
        raise ValueError("a revocation has a known reason and a list of what it keeps")
    if any(not isinstance(item, str) or len(item) != 64 for item in kept):
        raise ValueError("what is kept is named by its SHA-256")
    return Revocation(fields["reason"], parse_time(fields["since"]), frozenset(kept))


def trust_document(root_pem: bytes, envelope: bytes) -> bytes:
    """One file for verifiers elsewhere: the root's public key and the keyring that it signed."""
    return canonical_json(
        {"schema": TRUST_SCHEMA, "root": root_pem.decode(), "keyring": json.loads(envelope)}
    )


def open_trust(document: bytes) -> Keyring:
    """The keyring of such a file. It is believed as far as the way on which the file came."""
    return trusted_root(document)[1]


def trusted_root(document: bytes) -> tuple[PublicKey, Keyring]:
    """The root that such a file names, and the keyring, which it signed. Believed as in `open_trust`."""
    try:
        fields = strict_json.exactly(
            strict_json.loads(document, dsse.MAX_ENVELOPE_BYTES), "schema", "root", "keyring"
        )
        if fields["schema"] != TRUST_SCHEMA:
            raise ValueError(f"not a {TRUST_SCHEMA}")
        root = public_from_pem(strict_json.text(fields["root"], MAX_PEM_TEXT).encode(), ROOT)
        envelope = canonical_json(fields["keyring"])
    except (ValueError, TypeError) as error:
        raise Usage(
            "KEY-PUBLIC",
            f"neither a public key nor a trust file: {error}",
            fix="give the .pem file of a key, or what garrison key trust --out FILE wrote",
        ) from error
    return root, open_keyring(envelope, root)


def load_trusted(path: Path) -> tuple[PublicKey, ...]:
    """The release keys that a file names: one public key, or those of a trust file with their revocations.

    Raises as `load_public` and `open_trust`.
    """
    try:
        with path.open("rb") as stream:
            document = stream.read(dsse.MAX_ENVELOPE_BYTES + 1)
    except OSError:
        document = b""
    return open_trust(document).of_role(RELEASE) if document[:1] == b"{" else (load_public(path),)


def keys_of_data(data: Path) -> tuple[PublicKey, ...]:
    """The release keys of a data directory, by its keyring; of one made without a keyring, release.pem.

    Raises `Undecided` KEY-KEYRING when there is a root key and no keyring: removing the file would
    otherwise remove the revocations in it.
    """
    if not (data / ROOT_FILE).is_file():
        release = data / "keys" / "public" / "release.pem"
        return (load_public(release),) if release.is_file() else ()
    try:
        with (data / KEYRING_FILE).open("rb") as stream:
            envelope = stream.read(dsse.MAX_ENVELOPE_BYTES + 1)
    except OSError as error:
        raise Undecided(
            "KEY-KEYRING",
            f"the keyring {data / KEYRING_FILE} cannot be read: {error.strerror}",
            fix=f"start the server once, which writes it again: garrison up --data {data}",
        ) from error
    return open_keyring(envelope, load_public(data / ROOT_FILE)).of_role(RELEASE)


def signer_id(envelope: bytes) -> str:
    """The key id that an envelope names, unverified: for lists of what a key signed. Empty when it names none."""
    try:
        outer = strict_json.loads(envelope, dsse.MAX_ENVELOPE_BYTES)
        outer = outer.get("dsseEnvelope", outer)
        return str(outer["signatures"][0]["keyid"])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return ""


def message_of(envelope: bytes) -> str:
    """The message digest of a statement or bundle, unverified; empty when it is not one."""
    try:
        outer = strict_json.loads(envelope, dsse.MAX_ENVELOPE_BYTES)
        outer = outer.get("dsseEnvelope", outer)
        return dsse.message_digest(outer["payloadType"], base64.b64decode(outer["payload"], validate=True))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
