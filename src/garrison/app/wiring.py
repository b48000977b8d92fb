"""The composition root: opens everything once, in the order that makes each step safe for the next.

    data directory -> token and keys -> database -> ledger against its witness -> policy -> registry -> runtime

Nothing else in Garrison constructs a room. A step that fails says why and leaves what came before closed.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from garrison.app import stores
from garrison.app.house import House
from garrison.app.issuer_keys import IssuerRing
from garrison.app.keychain import BUILT_IN
from garrison.app.keyring_loss import open_or_repair
from garrison.app.lock import only_server
from garrison.app.settings import Settings
from garrison.artifacts import approved_files
from garrison.artifacts.approved_carry import carry_over
from garrison.artifacts.approved_list import ApprovedVersions
from garrison.artifacts.registry import Registry
from garrison.core.digest import sha256_bytes
from garrison.core.errors import Refused, Undecided
from garrison.evidence.ledger import Ledger
from garrison.evidence.witness import FileWitness, TokenWitness, Witnesses, accepted_loss, clear_accepted_loss
from garrison.runtime.supervisor import Supervisor
from garrison.storage.database import begin
from garrison.storage.local import explained, full_disk_explained, write_atomically
from garrison.storage.sql import Database
from garrison.trust.approvers import is_label
from garrison.trust.keyring import RELEASE
from garrison.trust.keys.pkcs11 import Token
from garrison.trust.keys.public import PublicKey
from garrison.trust.keys.softhsm import open_software_token
from garrison.trust.policy import base_policy
from garrison.trust.stray_keys import refuse_offered_keys
from garrison.trust.tuf.build import ServerKeys
from garrison.trust.tuf.shape import check_environment

SOFTWARE_TOKEN = "SoftHSM (software)"
ROOMS = ("run", "run/spool", "run/models", "keys", "keys/public", "models", "objects", "witness")
KEY_LABELS = BUILT_IN
ACCEPTED_LOSS = "garrison-accepted-loss"


def utc_now() -> datetime:
    return datetime.now(UTC)


def make_data_directory(data: Path) -> bool:
    """Make the data directory (0700) and its rooms; True when it is new.

    Raises `Undecided` DATA-READONLY, and `Refused` DATA-SHARED when somebody else could change what is in it.
    """
    is_new = not data.exists()
    with full_disk_explained():
        try:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_own(data)
            for name in ROOMS:
                (data / name).mkdir(mode=0o700, exist_ok=True)
                _check_own(data / name)
        except (FileExistsError, NotADirectoryError) as error:
            raise Undecided(
                "DATA-READONLY",
                f"{error.filename or data} is in the way: it is not a directory",
                fix="choose another place with --data DIR",
            ) from error
        except OSError as error:
            raise explained(error) from error
    return is_new


def _check_own(directory: Path) -> None:
    """Whoever may write in a directory of ours can put other keys, sockets and models in the place of ours."""
    found = directory.stat()
    if found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return
    raise Refused(
        "DATA-SHARED",
        f"{directory} belongs to user {found.st_uid} with mode {stat.S_IMODE(found.st_mode):04o}: others than "
        f"user {os.geteuid()} could change what is in it",
        fix=f"if what is in it is trusted: chown {os.geteuid()} {directory}; chmod 700 {directory}; "
        "else choose another place with --data DIR",
    )


def open_keys(settings: Settings) -> tuple[Token, tuple[PublicKey, ...]]:
    """The token with all of Garrison's keys in it, and their public halves, written where others find them.

    A public half is written after its key was made, so one without its key means that a key was lost. It
    is never replaced by a new key silently: everything that the old one signed would stop verifying.
    Raises `Undecided` KEY-LOST.
    """
    directory = settings.data / "keys" / "token"
    public = {label: settings.data / "keys" / "public" / f"{label}.pem" for label in KEY_LABELS}
    if not directory.exists() and any(path.exists() for path in public.values()):
        raise _lost(f"the token {directory} is gone, and its public keys are still here", directory)
    token = open_software_token(directory)
    held = {key.label for key in token.list()}
    for label, path in public.items():
        if label not in held and path.exists():
            raise _lost(f"the key {label} is not in the token any more", directory)
        token.ensure(label)
    keys = token.list()
    for key in keys:
        path = settings.data / "keys" / "public" / f"{key.label}.pem"
        if not path.is_file():
            write_atomically(path, key.pem, mode=0o644)
            if key.label in held and not is_label(key.label):  # an approver's is written at the next start
                token.repaired += (f"wrote keys/public/{key.label}.pem again, which was not there",)
        elif path.read_bytes() != key.pem:
            raise _lost(f"{path} is not the public half of the key in the token", directory)
    return token, keys


def _lost(what: str, directory: Path) -> Undecided:
    return Undecided(
        "KEY-LOST",
        what,
        fix=f"put {directory} and keys/public back from the same backup, or start anew with another --data DIR",
    )


def open_ledger(settings: Settings, database: Database, token: Token, now: Callable[[], datetime]) -> Ledger:
    """The ledger, after it was compared with its witness. Raises `Refused` AUD-* when they disagree."""
    witness_directory = settings.data / "witness"
    reason = accepted_loss(witness_directory)
    # Whoever may write a file there has not accepted anything: the token knows of it, and of which state.
    accepted = reason if reason and token.get_data(ACCEPTED_LOSS) == _acceptance(token, reason) else ""
    ledger_keys = [key for key in token.list() if key.label == "ledger"]
    ledger = Ledger.open(
        database,
        token.signer("ledger"),
        Witnesses(FileWitness(witness_directory / "checkpoint"), TokenWitness(token)),
        origin=f"garrison.local/{ledger_keys[0].key_id[:16]}",
        now=now,
        keys=ledger_keys,
        accept=accepted,
    )
    if accepted:
        clear_accepted_loss(witness_directory)
        token.put_data(ACCEPTED_LOSS, b"")
    return ledger


def note_accepted_loss(settings: Settings) -> None:
    """Tell the token of an acceptance that was written down just now. Raises SRV-RUNNING, and as `open_keys`."""
    with only_server(settings):
        token, _ = open_keys(settings)
        try:
            token.put_data(ACCEPTED_LOSS, _acceptance(token, accepted_loss(settings.data / "witness")))
        finally:
            token.close()


def _acceptance(token: Token, reason: str) -> bytes:
    """Of this reason, for what the token has seen of the ledger so far."""
    seen = b"".join(TokenWitness(token).read())
    return sha256_bytes(reason.encode() + b"\0" + seen).encode()


def open_approved(
    settings: Settings, ledger: Ledger, token: Token, now: Callable[[], datetime]
) -> ApprovedVersions:
    """The approved list. One that is not the one last in force refuses every decision, not the start."""
    approved = ApprovedVersions(
        directory=settings.data / "tuf",
        ledger=ledger,
        pin_store=token,
        keys=ServerKeys(token.signer("root"), token.signer("timestamp")),
        environment=check_environment(settings.environment),
        now=now,
    )
    approved.open()
    return approved


def build(
    settings: Settings, loop: asyncio.AbstractEventLoop, now: Callable[[], datetime] = utc_now
) -> House:
    """Everything, opened and checked. Raises the first step's own error when one fails."""
    refuse_offered_keys(os.environ, Path.cwd())
    token, keys = open_keys(settings)
    database = begin(settings.data, settings.database, settings.database_passfile)
    try:
        return _on(database, settings, loop, now, token, keys)
    except BaseException:
        database.close()  # who tries again finds it free
        raise


def _on(
    database: Database,
    settings: Settings,
    loop: asyncio.AbstractEventLoop,
    now: Callable[[], datetime],
    token: Token,
    keys: tuple[PublicKey, ...],
) -> House:
    ledger = open_ledger(settings, database, token, now)
    keychain = open_or_repair(settings, database, ledger, token, now)
    release_key = keychain.release_signer()
    approved = open_approved(settings, ledger, token, now)
    opened = stores.open_store(settings, token)
    approved.repaired.extend(opened.repaired)
    registry = Registry(
        database=database,
        objects=opened.objects,
        models=settings.data / "models",
        ledger=ledger,
        signer=release_key,
        keys=keychain.ring.of_role(RELEASE),
        now=now,
        approved=approved,
        approver=keychain.approver,
    )
    approved.repaired.extend(carry_over(registry))
    approved.repaired.extend([*keychain.repaired, *approved_files.repair(registry)])
    if approved.sign_with(keychain.list_signer()):
        approved.repaired.append("signed the approved list by the key that followed the one before")
    return House(
        settings=settings,
        database=database,
        ledger=ledger,
        policy=base_policy(),
        registry=registry,
        supervisor=Supervisor(record=ledger.append, now=now),
        token=token,
        release_key=release_key,
        token_signer=token.signer("token"),
        snapshot_signer=token.signer("snapshot"),
        public_keys=keys,
        keychain=keychain,
        token_kind=SOFTWARE_TOKEN,
        now=now,
        loop=loop,
        issuers=IssuerRing(float(settings.issuer_stale_seconds)),
    )
