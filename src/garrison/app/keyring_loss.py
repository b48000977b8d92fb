"""When the database has an older keyring than the token has seen: find the newest again, or begin anew if told to.

The copy `keys/keyring.json` is believed when it is the very one that the token notes. Where that is lost too,
nobody can say which keys were revoked since. Then, and only after `garrison key accept-loss`, every key that
could sign releases is revoked: what the ledger has on record goes on verifying, nothing else does, and a new key
signs from now on. The acceptance lies in the token and is for this one loss, so a file put somewhere is none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from garrison.app.keychain import HOME, WITNESS_LABEL, Keychain, open_keychain, with_all
from garrison.app.settings import Settings
from garrison.artifacts.revocation import kept_before
from garrison.core.actions import Action
from garrison.core.digest import canonical_json
from garrison.core.errors import GarrisonError, Refused, Usage
from garrison.core.event import Event, Outcome
from garrison.evidence.ledger import Ledger
from garrison.storage.sql import Database
from garrison.trust import key_store as store
from garrison.trust import keyring
from garrison.trust.keyring import KEYRING_FILE, RELEASE, ROOT, SPARE, KeyRecord, Keyring, State
from garrison.trust.keys import added
from garrison.trust.keys.algorithm import Algorithm
from garrison.trust.keys.pkcs11 import Token
from garrison.trust.keys.public import PublicKey, Revocation, public_from_pem

Clock = Callable[[], datetime]

ACCEPTED_LABEL = "garrison-accepted-keyring-loss"
MAX_REASON = 500  # characters
_INSTANT = timedelta(microseconds=1)


def accept(token: Token, reason: str) -> None:
    """Note in the token that its owner goes on without the newest keyring. Raises `Usage` ARG-MISSING."""
    text = " ".join(reason.split())[:MAX_REASON]
    if not text:
        raise Usage("ARG-MISSING", "an acceptance needs a reason", fix="say in a sentence what happened")
    note = (token.get_data(WITNESS_LABEL) or b"").decode("ascii", "replace")
    token.put_data(ACCEPTED_LABEL, canonical_json({"reason": text, "note": note}))


def open_or_repair(
    settings: Settings, database: Database, ledger: Ledger, token: Token, now: Clock
) -> Keychain:
    """As `open_keychain`; after a loss with the newest keyring, or one begun anew where that was accepted."""
    try:
        return open_keychain(settings, database, ledger, token, now)
    except Refused as error:
        if error.code != "KEY-ROLLBACK":
            raise
        version, digest = _noted(token, error)
        root = public_from_pem(token.signer(ROOT).public_pem(), ROOT)
        if (envelope := _newest_copy(settings, root, version, digest)) is not None:
            with ledger.transaction() as transaction:
                store.add_keyring(transaction.connection, version, envelope)
                facts = {"keyring": version, "keyring_digest": digest, "from": str(KEYRING_FILE)}
                transaction.append(_event(now(), facts))
        elif reason := _accepted(token):
            _begin_anew(_as_found(settings, database, ledger, token, now, root), version, reason)
            token.put_data(ACCEPTED_LABEL, b"")
        else:
            raise
    return open_keychain(settings, database, ledger, token, now)


def _noted(token: Token, error: Refused) -> tuple[int, str]:
    try:
        text, digest = (token.get_data(WITNESS_LABEL) or b"").decode().split(" ")
        return int(text), digest
    except ValueError:
        raise error from None


def _newest_copy(settings: Settings, root: PublicKey, version: int, digest: str) -> bytes | None:
    """The copy for verifiers, when it is what the token saw last."""
    try:
        envelope = (settings.data / KEYRING_FILE).read_bytes()
        found = keyring.open_keyring(envelope, root)
    except (OSError, GarrisonError):
        return None
    return envelope if (found.version, found.digest) == (version, digest) else None


def _accepted(token: Token) -> str:
    """The reason, when this very loss was accepted."""
    try:
        fields = json.loads(token.get_data(ACCEPTED_LABEL) or b"{}")
        is_this = fields.get("note") == (token.get_data(WITNESS_LABEL) or b"").decode()
        return str(fields["reason"]) if is_this else ""
    except (ValueError, KeyError):
        return ""


def _as_found(
    settings: Settings, database: Database, ledger: Ledger, token: Token, now: Clock, root: PublicKey
) -> Keychain:
    with database.read() as connection:
        stored, tokens = store.newest_keyring(connection), store.key_tokens(connection)
    ring = Keyring(0, now(), ()) if stored is None else keyring.open_keyring(stored, root)
    return Keychain(settings, database, ledger, token, now, ring, added.parse_all(tokens, root))


def _begin_anew(chain: Keychain, seen: int, reason: str) -> None:
    """Revoke what could sign releases, and make the key that does from now on."""
    now, found = chain.now(), chain.ring.version
    held = chain.token.list()
    known = {record.key_id for record in chain.ring.keys}
    ring = with_all(chain.ring, [key for key in held if key.key_id not in known], now)
    doubted = [r for r in ring.keys if r.role in (RELEASE, SPARE) and r.state is not State.REVOKED]
    with chain.ledger.read() as connection:
        for record in doubted:
            kept = kept_before(connection, record.key_id, now + _INSTANT)
            public = replace(record.public, revocation=Revocation("unspecified", now, kept))
            revoked = replace(record, public=public, state=State.REVOKED, until=record.until or now)
            ring = ring.with_key(revoked)
    taken = {record.label for record in ring.keys}
    number = 2
    while f"{RELEASE}-{number}" in taken:
        number += 1
    key = chain.token.create(f"{RELEASE}-{number}", Algorithm.P256)
    public = public_from_pem(key.public_pem(), key.label)
    chain.publish_public(public)
    following = ring.with_key(KeyRecord(public, RELEASE, State.ACTIVE, HOME, now))
    chain.ring = replace(chain.ring, version=max(seen, found))  # the next one is above all that were seen
    facts = {
        "accepted": reason,
        "found": found,
        "seen": seen,
        "revoked": [record.label for record in doubted],
        "release": public.label,
    }
    chain.change(lambda ring: replace(following, version=ring.version), lambda _ring: _event(now, facts))


def _event(now: datetime, facts: dict[str, object]) -> Event:
    return Event(
        time=now,
        action=Action.SYSTEM_REPAIR,
        actor="service:garrison",
        resource="keyring",
        outcome=Outcome.ALLOWED,
        code="KEY-ROLLBACK",
        data={**facts, "via": "server"},
    )
