"""A device of its own: the key that bundles are sealed to, made here, and whom the device believes.

The private half lies on the device's disk under a key that does not: scrypt of an unlock secret, AES-256-GCM.
The secret is a file that a service manager, a TPM or a person provides at start; a stolen disk without it holds
weights that nobody reads. Whoever has both has the device.
"""

from __future__ import annotations

import base64
import os
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from garrison.core.digest import canonical_json
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.core.event import format_time, parse_time
from garrison.runtime.edge import sealing
from garrison.runtime.edge.bundle import check_site
from garrison.storage.local import explained, write_atomically
from garrison.trust import strict_json
from garrison.trust.keys.public import PublicKey, public_from_pem

SCHEMA = "garrison.edge.site/1"
DEVICE_SCHEMA = "garrison.edge.device/1"
FILE = "device.json"
MAX_BYTES = 64 * 1024
MIN_SECRET, MAX_SECRET = 16, 4096
SCRYPT = {
    "n": 1 << 15,
    "r": 8,
    "p": 1,
}  # 32 MiB and a tenth of a second: a device can, a guesser pays each time


@dataclass(frozen=True, slots=True)
class SiteCard:
    """What a device says of itself, to be carried home: the key to seal for, and the key of its ledger."""

    site: str
    public: bytes
    origin: str
    ledger: PublicKey
    made: datetime

    @property
    def key_id(self) -> str:
        return sealing.key_id(self.public)

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "site": self.site,
            "public": base64.b64encode(self.public).decode(),
            "origin": self.origin,
            "ledger": self.ledger.pem.decode(),
            "made": format_time(self.made),
        }


def parse_card(document: Any) -> SiteCard:
    """Raises `Usage` EDGE-CARD."""
    try:
        fields = strict_json.exactly(document, "schema", "site", "public", "origin", "ledger", "made")
        public = base64.b64decode(strict_json.text(fields["public"], 64), validate=True)
        if fields["schema"] != SCHEMA or len(public) != 32:
            raise ValueError("another form of card")
        ledger = public_from_pem(strict_json.text(fields["ledger"], 2_000).encode(), "ledger")
        origin = strict_json.text(fields["origin"], 200)
        return SiteCard(check_site(fields["site"]), public, origin, ledger, parse_time(fields["made"]))
    except (ValueError, TypeError, AttributeError, GarrisonError) as error:
        raise Usage(
            "EDGE-CARD",
            "the file is not the card of a device",
            fix="on the device: garrison edge enrol --site NAME --trust FILE --unlock FILE > NAME.site",
        ) from error


def read_card(path: Path) -> SiteCard:
    """Raises `Usage` EDGE-CARD."""
    try:
        with path.open("rb") as file:
            document = strict_json.loads(file.read(MAX_BYTES + 1), MAX_BYTES)
    except (OSError, ValueError):
        document = None
    return parse_card(document)


@dataclass(frozen=True, slots=True)
class Device:
    """An enrolled device as its disk has it. `root` is whom it believes."""

    card: SiteCard
    root: PublicKey
    sealed: dict[str, str]

    def open(self, unlock: Path) -> X25519PrivateKey:
        """Raises `Refused` EDGE-UNLOCK for the wrong secret, `Undecided` EDGE-UNLOCK when there is none."""
        secret = read_secret(unlock)
        salt, nonce, box = (base64.b64decode(self.sealed[name]) for name in ("salt", "nonce", "box"))
        try:
            raw = AESGCM(_stretched(secret, salt)).decrypt(nonce, box, self.card.site.encode())
        except (InvalidTag, ValueError) as error:
            raise Refused(
                "EDGE-UNLOCK",
                f"{unlock} is not the secret that this device was enrolled with",
                fix="give the file that --unlock named when the device was enrolled",
            ) from error
        return X25519PrivateKey.from_private_bytes(raw)


def enrol(
    directory: Path, site: str, root: PublicKey, ledger: PublicKey, origin: str, unlock: Path, now: datetime
) -> Device:
    """Make the device's key and lay it down, sealed; an earlier one is replaced. Raises `Undecided` EDGE-UNLOCK."""
    secret = read_secret(unlock)
    private = X25519PrivateKey.generate()
    card = SiteCard(check_site(site), private.public_key().public_bytes_raw(), origin, ledger, now)
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    box = AESGCM(_stretched(secret, salt)).encrypt(nonce, private.private_bytes_raw(), card.site.encode())
    sealed = {
        name: base64.b64encode(value).decode()
        for name, value in (("salt", salt), ("nonce", nonce), ("box", box))
    }
    device = Device(card, root, sealed)
    directory.mkdir(mode=0o700, exist_ok=True)
    write_atomically(
        directory / FILE,
        canonical_json(
            {"schema": DEVICE_SCHEMA, "card": card.as_json(), "root": root.pem.decode(), "sealed": sealed}
        ),
    )
    return device


def read_device(directory: Path) -> Device:
    """Raises `Refused` EDGE-ENROL when this data directory is no device, or its file does not hold."""
    try:
        with (directory / FILE).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Refused(
            "EDGE-ENROL",
            "this data directory is not enrolled as a device",
            fix="garrison edge enrol --site NAME --trust FILE --unlock FILE",
        ) from error
    try:
        fields = strict_json.exactly(strict_json.loads(data, MAX_BYTES), "schema", "card", "root", "sealed")
        sealed = strict_json.exactly(fields["sealed"], "salt", "nonce", "box")
        root = public_from_pem(strict_json.text(fields["root"], 2_000).encode(), "root")
        if fields["schema"] != DEVICE_SCHEMA:
            raise ValueError("another form")
        return Device(parse_card(fields["card"]), root, {key: str(value) for key, value in sealed.items()})
    except (ValueError, TypeError, GarrisonError) as error:
        raise Refused(
            "EDGE-ENROL",
            f"{directory / FILE} is damaged",
            fix="enrol the device again: garrison edge enrol --site NAME --trust FILE --unlock FILE",
        ) from error


def make_secret(path: Path) -> bool:
    """A new random secret at `path` unless one is there; True when it was made. Raises as `explained`."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise explained(error) from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_hex(32).encode() + b"\n")
    return True


def read_secret(path: Path) -> bytes:
    """Raises `Undecided` EDGE-UNLOCK when it cannot be read or is too short to be one."""
    try:
        with path.open("rb") as file:
            secret = file.read(MAX_SECRET + 1).strip()
    except OSError as error:
        raise Undecided(
            "EDGE-UNLOCK",
            f"the unlock secret {path} cannot be read: {error.strerror}",
            fix="provide the file and name it: --unlock FILE",
        ) from error
    if not MIN_SECRET <= len(secret) <= MAX_SECRET:
        raise Undecided(
            "EDGE-UNLOCK",
            f"the unlock secret {path} has {len(secret)} bytes",
            fix=f"use a secret of {MIN_SECRET} to {MAX_SECRET} bytes: openssl rand -hex 32",
        )
    return secret


def is_on_same_disk(unlock: Path, directory: Path) -> bool:
    """Whoever takes the disk then has the secret too."""
    return unlock.stat().st_dev == directory.stat().st_dev


def _stretched(secret: bytes, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, **SCRYPT).derive(secret)
