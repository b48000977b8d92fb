"""The keys in use: the token of the data directory, the tokens that were added, and the keyring over them all.

The keyring in the database is the one that counts. Its newest version is also known to the token, which no
copy of the database brings back to an older state: a keyring that is older than the token knows is refused.
The file `keys/keyring.json` is a copy for verifiers, written again whenever it differs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from garrison.app.settings import Settings
from garrison.core.actions import Action
from garrison.core.digest import sha256_bytes
from garrison.core.errors import GarrisonError, Refused, Undecided
from garrison.core.event import Event, Outcome
from garrison.evidence.ledger import Ledger, Transaction
from garrison.storage.local import write_atomically
from garrison.storage.sql import Database
from garrison.trust import approvers, keyring
from garrison.trust import key_store as store
from garrison.trust.keyring import KEYRING_FILE, RELEASE, ROOT, ROOT_FILE, KeyRecord, Keyring, State
from garrison.trust.keys import added
from garrison.trust.keys.added import AddedToken
from garrison.trust.keys.base import Signer
from garrison.trust.keys.pkcs11 import Token, TokenKey
from garrison.trust.keys.public import PublicKey, load_public, parse_public, public_from_pem

WITNESS_LABEL = "garrison-keyring"
HOME = "garrison"  # the name of the data directory's own token in the keyring
BUILT_IN = ("release", "ledger", "token", "snapshot", "ca", "root", "timestamp")
_SYSTEM = "service:garrison"
_RESTORE = (
    "put garrison.db and the directory keys/ back from the same, newest backup; without one, stop the server: "
    "garrison key accept-loss --reason TEXT revokes every release key and goes on with a new one"
)


@dataclass(slots=True)
class Keychain:
    """Made by `open_keychain`. `ring` is replaced as a whole; changes go through `change`, one at a time."""

    settings: Settings
    database: Database
    ledger: Ledger
    token: Token
    now: Callable[[], datetime]
    ring: Keyring
    tokens: dict[str, AddedToken]
    repaired: list[str] = field(default_factory=list)
    _open: dict[str, Token] = field(default_factory=dict)
    _changing: threading.RLock = field(default_factory=threading.RLock)

    def release_signer(self) -> Signer:
        """The key that signs releases now. Raises `Refused` KEY-UNKNOWN when none does."""
        record = self.ring.active(RELEASE)
        if record is None:
            raise Refused(
                "KEY-UNKNOWN", "no key signs releases now", fix="make one: garrison key rotate release"
            )
        return self.signer(record)

    def list_signer(self) -> Signer:
        """The key that vouches for the age of the approved list now; the token's own when the keyring names none."""
        record = self.ring.active(keyring.TIMESTAMP)
        return self.token.signer(keyring.TIMESTAMP) if record is None else self.signer(record)

    def approver(self, name: str) -> Signer:
        """The key with which the approval of a person is signed, made when there is none. Raises as the token."""
        revoked = {record.label for record in self.ring.keys if record.state is State.REVOKED}
        return self.token.ensure(approvers.in_force(name, revoked))

    def signer(self, record: KeyRecord) -> Signer:
        """A key of the keyring as a signer. Nothing is opened before it signs."""
        if record.state is not State.ACTIVE:
            raise Refused(
                "KEY-STATE",
                f"the key {record.label} is {record.state.value} and signs no more",
                fix="garrison key list shows the one in force",
            )
        return TokenKey(self.token_of(record.token), record.label, parse_public(record.public.pem))

    def token_of(self, name: str) -> Token:
        """The token of that name, not logged in yet. Raises `Refused` KEY-UNKNOWN."""
        if name == HOME:
            return self.token
        with self._changing:
            if name not in self._open:
                if name not in self.tokens:
                    raise Refused(
                        "KEY-UNKNOWN",
                        f"there is no token called {name!a}",
                        fix="garrison key list shows the keys and where they are",
                    )
                self._open[name] = added.open_added(self.tokens[name], self.settings.data)
            return self._open[name]

    def change(
        self,
        edit: Callable[[Keyring], Keyring],
        event: Callable[[Keyring], Event],
        also: Callable[[Transaction], object] = lambda _transaction: None,
    ) -> str:
        """The next version of the keyring with its event, in one transaction; returns the audit id."""
        with self._changing:
            changed = edit(self.ring)
            ring = replace(changed, version=self.ring.version + 1, issued=self.now())
            envelope = keyring.sign(ring, self.token.signer(ROOT))
            with self.ledger.transaction() as transaction:
                store.add_keyring(transaction.connection, ring.version, envelope)
                also(transaction)
                told = event(ring)
                facts = {"keyring": ring.version, "keyring_digest": ring.digest}
                audit_id = transaction.append(replace(told, data={**told.data, **facts}))
            self.ring = (
                ring  # in force before the copies are written: a full disk does not keep a revoked key
            )
            _write_copies(self.settings.data, self.token, ring, envelope)
            return audit_id

    def adopt(self, wanted: AddedToken, token: Token) -> None:
        """A token that was just added, opened and written down."""
        with self._changing:
            self.tokens[wanted.name] = wanted
            self._open[wanted.name] = token

    def public_path(self, label: str) -> Path:
        return self.settings.data / "keys" / "public" / f"{label}.pem"

    def publish_public(self, key: PublicKey) -> Path:
        path = self.public_path(key.label)
        write_atomically(path, key.pem, mode=0o644)
        return path

    def trust_document(self) -> bytes:
        """For verifiers elsewhere: the root's public half and the keyring."""
        envelope = (self.settings.data / KEYRING_FILE).read_bytes()
        return keyring.trust_document(self.token.signer(ROOT).public_pem(), envelope)


def open_keychain(
    settings: Settings, database: Database, ledger: Ledger, token: Token, now: Callable[[], datetime]
) -> Keychain:
    """Compare the keyring with what the token knows of it, and enter keys that it does not have yet.

    Raises `Refused` KEY-ROLLBACK when the database has an older one, KEY-KEYRING when it is not the root's.
    """
    root = public_from_pem(token.signer(ROOT).public_pem(), ROOT)
    with database.read() as connection:
        stored, tokens = store.newest_keyring(connection), store.key_tokens(connection)
    ring = Keyring(0, now(), ()) if stored is None else keyring.open_keyring(stored, root)
    _refuse_older(token, None if stored is None else ring)
    chain = Keychain(settings, database, ledger, token, now, ring, added.parse_all(tokens, root))
    if stored is not None and _write_copies(settings.data, token, ring, stored):
        chain.repaired.append(f"wrote {KEYRING_FILE} again: it was not the keyring in force")
    known = {key.key_id for key in ring.keys}
    missing = [key for key in token.list() if key.key_id not in known]
    if missing or stored is None:
        chain.change(lambda ring: with_all(ring, missing, now()), lambda _ring: _entered(missing, now()))
    return chain


def with_all(ring: Keyring, keys: list[PublicKey], now: datetime) -> Keyring:
    for key in keys:
        role = keyring.role_of(key.label, BUILT_IN)
        ring = ring.with_key(KeyRecord(key, role, State.ACTIVE, HOME, now))
    return ring


def _entered(keys: list[PublicKey], now: datetime) -> Event:
    return Event(
        time=now,
        action=Action.KEY_CREATE,
        actor=_SYSTEM,
        resource="keyring",
        outcome=Outcome.ALLOWED,
        data={"entered": [f"{key.label} {key.key_id}" for key in keys], "via": "server"},
    )


def _refuse_older(token: Token, ring: Keyring | None) -> None:
    noted = token.get_data(WITNESS_LABEL)
    if noted is None:
        return
    try:
        text, digest = noted.decode().split(" ")
        version = int(text)
    except ValueError:
        raise _rolled_back("what the token notes of the keyring cannot be read", {}) from None
    if ring is None and version == 1:
        return  # the first one says what the token itself lists, and nothing in it was revoked
    found = 0 if ring is None else ring.version
    if ring is None or found < version or (found == version and ring.digest != digest):
        what = f"the keyring in the database has version {found}, and the token has seen version {version}"
        raise _rolled_back(what, {"found": found, "seen": version})


def _rolled_back(what: str, evidence: dict[str, Any]) -> Refused:
    return Refused(
        "KEY-ROLLBACK",
        f"{what}: an older keyring would bring revoked keys back",
        fix=_RESTORE,
        evidence=evidence,
    )


def _write_copies(data: Path, token: Token, ring: Keyring, envelope: bytes) -> bool:
    """The token's note first: what it has seen cannot be taken back, and the file is written again anyway.

    True when the file was another one.
    """
    note = f"{ring.version} {ring.digest}".encode()
    if token.get_data(WITNESS_LABEL) != note:
        token.put_data(WITNESS_LABEL, note)
    path = data / KEYRING_FILE
    is_other = not path.is_file() or sha256_bytes(path.read_bytes()) != sha256_bytes(envelope)
    if is_other:
        write_atomically(path, envelope, mode=0o644)
    if not (data / ROOT_FILE).is_file():
        raise Undecided(
            "KEY-LOST", f"the root's public key {data / ROOT_FILE} is gone", fix="restart the server"
        )
    return is_other


def labels_by_kind(data: Path, tokens: Mapping[str, bytes]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The keys that may sign, for posture: those in software tokens, and those in others.

    `tokens` are the descriptions in the database. Without a readable keyring every public key counts as software.
    """
    try:
        root = load_public(data / ROOT_FILE)
        ring = keyring.open_keyring((data / KEYRING_FILE).read_bytes(), root)
        described = added.parse_all(tokens, root)
    except (GarrisonError, OSError):
        return tuple(sorted(path.stem for path in (data / "keys" / "public").glob("*.pem"))), ()
    signing = [record for record in ring.keys if record.state is State.ACTIVE]
    software = {name for name, one in described.items() if added.is_software(one)} | {HOME}
    return (
        tuple(sorted(record.label for record in signing if record.token in software)),
        tuple(sorted(record.label for record in signing if record.token not in software)),
    )
