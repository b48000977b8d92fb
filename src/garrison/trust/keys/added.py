"""Tokens that were added: which module, which token, which profile, and where the PIN lies.

The description is signed by the root, because whoever could write it otherwise could have the server load a
library of theirs. It is read at each start; the token is opened when one of its keys signs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from garrison.core.digest import canonical_json
from garrison.core.errors import Refused, Usage
from garrison.trust import strict_json
from garrison.trust.keys.base import Signer
from garrison.trust.keys.labels import check_label
from garrison.trust.keys.pin import Pin, pin_credential, pin_file
from garrison.trust.keys.pkcs11 import Token, refuse_writable
from garrison.trust.keys.profiles import profile
from garrison.trust.keys.public import PublicKey

PIN_FILE, PIN_KEPT, PIN_CREDENTIAL = "file", "kept", "credential"
MAX_BYTES = 16 * 1024
MAX_TEXT = 4096  # a path


@dataclass(frozen=True, slots=True)
class AddedToken:
    """`pin` says where the PIN lies: a private file at `pin_at`, a systemd credential of that name, or the
    file that Garrison keeps in the data directory. `cluster` is the id of an AWS CloudHSM cluster or empty."""

    name: str
    module: str
    token: str
    profile: str
    pin: str
    pin_at: str
    cluster: str

    def as_json(self) -> dict[str, str]:
        return {
            "name": self.name,
            "module": self.module,
            "token": self.token,
            "profile": self.profile,
            "pin": self.pin,
            "pin_at": self.pin_at,
            "cluster": self.cluster,
        }


def sign(wanted: AddedToken, root: Signer) -> bytes:
    """The description with the root's signature, for the database."""
    payload = canonical_json(wanted.as_json())
    return canonical_json({"token": wanted.as_json(), "signature": root.sign(_signed(payload)).hex()})


def parse_all(envelopes: Mapping[str, bytes], root: PublicKey) -> dict[str, AddedToken]:
    """Raises `Refused` KEY-KEYRING for a description that the root did not sign."""
    return {name: _parsed(name, data, root) for name, data in envelopes.items()}


def _parsed(name: str, data: bytes, root: PublicKey) -> AddedToken:
    try:
        outer = strict_json.exactly(strict_json.loads(data, MAX_BYTES), "token", "signature")
        fields = strict_json.exactly(
            outer["token"], "name", "module", "token", "profile", "pin", "pin_at", "cluster"
        )
        found = AddedToken(**{key: strict_json.text(value, MAX_TEXT) for key, value in fields.items()})
        signature = bytes.fromhex(strict_json.text(outer["signature"], MAX_TEXT))
        if found.name != name or not root.verify(_signed(canonical_json(fields)), signature):
            raise ValueError("it is not what the root signed")
    except (ValueError, TypeError) as error:
        raise Refused(
            "KEY-KEYRING",
            f"the description of the token {name[:64]!a} in the database does not hold: {error}",
            fix="put the newest backup of the data directory back, then run garrison audit verify",
        ) from error
    return found


def _signed(payload: bytes) -> bytes:
    return b"garrison token description v1\n" + payload


def kept_pin(data: Path, name: str) -> Path:
    return data / "keys" / "tokens" / f"{name}.pin"


def pin_of(wanted: AddedToken, data: Path) -> Pin:
    """Raises `Undecided` KEY-PIN when it is a credential and there are none."""
    mark = data / "keys" / "tokens" / f"{wanted.name}.refused"
    if wanted.pin == PIN_CREDENTIAL:
        return pin_credential(wanted.pin_at, mark)
    return pin_file(kept_pin(data, wanted.name) if wanted.pin == PIN_KEPT else Path(wanted.pin_at), mark)


def open_added(wanted: AddedToken, data: Path, *, may_lock: bool = False) -> Token:
    """The token, not logged in yet; `may_lock` lets its last PIN try be used.

    Raises `Refused` KEY-MODULE for a module that others could change.
    """
    module = Path(wanted.module)
    refuse_writable(module)
    return Token(module, wanted.token, pin_of(wanted, data), profile(wanted.profile), may_lock=may_lock)


def is_software(wanted: AddedToken) -> bool:
    """Whether it is known for a software token by its profile or module, without opening it."""
    name = Path(wanted.module).name.lower()
    return wanted.profile in ("softhsm", "opencryptoki") or "softhsm" in name or "opencryptoki" in name


def check(wanted: AddedToken) -> AddedToken:
    """What a person asked for, before anything is loaded. Raises `Usage` KEY-LABEL, KEY-PROFILE, KEY-MODULE."""
    check_label(wanted.name)
    profile(wanted.profile)
    if not Path(wanted.module).is_absolute() or not wanted.token or len(wanted.token) > 32:
        raise Usage(
            "KEY-MODULE",
            "a token is named by the absolute path of its module and its label of at most 32 characters",
            fix="garrison key add NAME --pkcs11 /path/to/module.so --token LABEL --pin-file FILE",
        )
    return wanted
