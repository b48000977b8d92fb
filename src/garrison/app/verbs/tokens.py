"""Adding a PKCS#11 token: checked before it is loaded, tried once, written down only when a key in it signs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from garrison.app.house import House
from garrison.app.verbs.base import Call
from garrison.core.actions import Action
from garrison.core.errors import GarrisonError, Usage
from garrison.core.event import Event, Outcome
from garrison.trust import key_store as store
from garrison.trust.keyring import ROOT, SPARE, KeyRecord, State
from garrison.trust.keys import added, cluster
from garrison.trust.keys.added import PIN_CREDENTIAL, PIN_FILE, PIN_KEPT, AddedToken
from garrison.trust.keys.algorithm import Algorithm
from garrison.trust.keys.base import Signer
from garrison.trust.keys.pin import parse_pin
from garrison.trust.keys.pkcs11 import Token
from garrison.trust.keys.profiles import profile
from garrison.trust.keys.public import public_from_pem


def add_token(house: House, call: Call, algorithm: Algorithm) -> dict[str, Any]:
    """Open the token and find or make the key `name` in it; then keyring, description and event at once.

    Raises `Refused` KEY-MODULE, KEY-CLUSTER, KEY-MECHANISM or KEY-EXTRACTABLE, `Undecided` KEY-PIN,
    KEY-UNAVAILABLE or KEY-CLUSTER, `Usage` KEY-PROFILE. Nothing is kept of a try that failed.
    """
    data, chain = house.settings.data, house.keychain
    wanted = added.check(_wanted(call))
    found = cluster.require_active(cluster.describe(wanted.cluster)) if wanted.cluster else None
    (data / "keys" / "tokens").mkdir(mode=0o700, exist_ok=True)
    kept = added.kept_pin(data, wanted.name)
    if wanted.pin == PIN_KEPT:
        _write_pin(kept, parse_pin(call.text("pin").encode()))
    try:
        token = added.open_added(wanted, data, may_lock=call.flag("risk_locking"))
        key = _key_in(token, wanted.name, algorithm)
        public = public_from_pem(key.public_pem(), wanted.name)
        if not public.verify(b"garrison", key.sign(b"garrison")):
            raise Usage(
                "KEY-PUBLIC",
                f"the two halves of {wanted.name!r} in that token do not belong together",
                fix="choose another name, so that a new pair is made",
            )
        record = KeyRecord(public, SPARE, State.ACTIVE, wanted.name, house.now())
        facts = {**wanted.as_json(), "key": key.key_id, "algorithm": key.algorithm.value}
        event = Event(
            time=house.now(),
            action=Action.KEY_ADD,
            actor=call.subject.actor,
            resource=wanted.name,
            outcome=Outcome.ALLOWED,
            data={**facts, "via": call.subject.via},
        )
        envelope = added.sign(wanted, chain.token.signer(ROOT))
        audit_id = chain.change(
            lambda ring: ring.with_key(record),
            lambda _ring: event,
            lambda transaction: store.add_key_token(transaction.connection, wanted.name, envelope),
        )
    except BaseException:
        if wanted.name not in {record.label for record in chain.ring.keys}:
            kept.unlink(missing_ok=True)
        raise
    chain.adopt(wanted, token)
    return {
        "label": wanted.name,
        "key_id": key.key_id,
        "algorithm": key.algorithm.display,
        "token": wanted.token,
        "profile": wanted.profile,
        "software": token.is_software,
        "cluster": None if found is None else found.as_json(),
        "public": str(chain.publish_public(public)),
        "next": f"garrison key rotate release --to {wanted.name}",
        "audit_id": audit_id,
    }


def cluster_of(wanted: AddedToken) -> dict[str, Any]:
    """The cluster's state for a list: what can't be read is told and does not hold the list up."""
    try:
        return cluster.describe(wanted.cluster).as_json()
    except GarrisonError as error:
        return {"id": wanted.cluster, "state": "unknown", "problem": error.what}


def _wanted(call: Call) -> AddedToken:
    kind = profile(call.optional("profile") or "generic")
    module = call.optional("module") or next((str(path) for path in kind.modules if path.is_file()), "")
    ways = {
        PIN_FILE: call.optional("pin_file"),
        PIN_CREDENTIAL: call.optional("pin_credential"),
        PIN_KEPT: call.optional("pin"),
    }
    given = {way: value for way, value in ways.items() if value}
    if len(given) != 1:
        raise Usage(
            "KEY-PIN",
            "the PIN comes in exactly one way",
            fix="--pin-file FILE, --pin-fd N, --pin-credential NAME, or none of them to be asked",
        )
    ((way, value),) = given.items()
    return AddedToken(
        name=call.text("name"),
        module=module,
        token=call.text("token"),
        profile=kind.name,
        pin=way,
        pin_at="" if way == PIN_KEPT else value,
        cluster=call.optional("cluster") or "",
    )


def _key_in(token: Token, label: str, algorithm: Algorithm) -> Signer:
    """The key of that name that the token has already, or a new one."""
    if any(key.label == label for key in token.list()):
        return token.signer(label)
    return token.create(label, algorithm)


def _write_pin(path: Path, pin: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(pin)
        stream.flush()
        os.fsync(descriptor)
