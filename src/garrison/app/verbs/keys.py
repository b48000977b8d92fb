"""Verbs about keys: list, show, create, export, rotate, revoke, add a token, and the trust file for elsewhere."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from garrison.app.house import House
from garrison.app.keychain import BUILT_IN, HOME, Keychain
from garrison.app.verbs.approval import human_of
from garrison.app.verbs.approver_keys import record_of, revoke_approver, stop_serving
from garrison.app.verbs.base import Call, Verb, authorise, event_of
from garrison.app.verbs.fixed_keys import fixed_role
from garrison.app.verbs.tokens import add_token, cluster_of
from garrison.artifacts import revocation
from garrison.artifacts.resign import resign
from garrison.artifacts.revocation import Affected
from garrison.core.actions import Action
from garrison.core.digest import Ref
from garrison.core.errors import Refused, Usage
from garrison.core.event import Event, format_time
from garrison.trust.keyring import (
    APPROVER,
    REASONS,
    RELEASE,
    SPARE,
    TIMESTAMP,
    KeyRecord,
    Keyring,
    State,
    role_of,
)
from garrison.trust.keys.algorithm import Algorithm
from garrison.trust.keys.public import Revocation, public_from_pem

REPLACED = (RELEASE, TIMESTAMP)  # the roles whose key can be followed by another
_INSTANT = timedelta(microseconds=1)  # what was recorded in this very moment is before it
MAX_SHOWN = 1_000  # affected versions in one answer; the count is always whole


def key_list(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.KEY_READ, "keys")
    return {"keys": facts_of_keys(house), "keyring": house.keychain.ring.version}


def facts_of_keys(house: House) -> list[dict[str, Any]]:
    """Every key of the keyring as lists show it, then those that are in the token and not entered yet."""
    chain = house.keychain
    with house.ledger.read() as connection:
        signed = revocation.signatures(connection)
    known = {record.key_id for record in chain.ring.keys}
    new = [
        KeyRecord(key, role_of(key.label, BUILT_IN), State.ACTIVE, HOME, house.now())
        for key in chain.token.list()
        if key.key_id not in known
    ]
    return [_facts(house, record, signed) for record in (*chain.ring.keys, *new)]


def _facts(house: House, record: KeyRecord, signed: dict[str, tuple[int, str]]) -> dict[str, Any]:
    chain, revoked = house.keychain, record.public.revocation
    count, last = signed.get(record.key_id, (0, ""))
    found = chain.tokens.get(record.token)
    return {
        "label": record.label,
        "role": record.role,
        "algorithm": record.algorithm.display,
        "state": record.state.value,
        "token": house.token_kind if record.token == HOME else record.token,
        "profile": found.profile if found else "softhsm",
        "cluster": cluster_of(found) if found and found.cluster else None,
        "exportable": False,
        "key_id": record.key_id,
        "public": str(chain.public_path(record.label)),
        "since": format_time(record.since),
        "until": format_time(record.until) if record.until else "",
        "signed": count,
        "last_signed": last,
        "revoked": None
        if revoked is None
        else {
            "reason": revoked.reason,
            "since": format_time(revoked.since),
            "kept": len(revoked.kept),
        },
    }


def key_show(house: House, call: Call) -> dict[str, Any]:
    name = call.text("label")
    authorise(house, call.subject, Action.KEY_READ, name)
    record = house.keychain.ring.find(name)
    with house.ledger.read() as connection:
        signed = revocation.signatures(connection)
        hit = revocation.affected(connection, record.public)
    return {
        **_facts(house, record, signed),
        "pem": record.public.pem.decode(),
        "interchange": record.algorithm.is_interchangeable,
        "affected": [_affected_json(house, one) for one in hit[:MAX_SHOWN]],
    }


def key_create(house: House, call: Call) -> dict[str, Any]:
    label, algorithm = call.text("label"), algorithm_named(call.optional("algorithm"))
    authorise(house, call.subject, Action.KEY_CREATE, label)
    chain = house.keychain
    _refuse_taken(chain, label)
    key = chain.token.create(label, algorithm)
    public = public_from_pem(key.public_pem(), label)
    path = chain.publish_public(public)
    record = KeyRecord(public, role_of(label, BUILT_IN), State.ACTIVE, HOME, house.now())
    audit_id = chain.change(
        lambda ring: ring.with_key(record),
        lambda _ring: event_of(
            house, call, Action.KEY_CREATE, label, key=key.key_id, algorithm=algorithm.value
        ),
    )
    return {
        "label": label,
        "algorithm": algorithm.display,
        "key_id": key.key_id,
        "public": str(path),
        "audit_id": audit_id,
    }


def key_export(house: House, call: Call) -> dict[str, Any]:
    """The public half on demand; the private half never."""
    label = call.text("label")
    authorise(house, call.subject, Action.KEY_READ, label)
    if call.flag("public"):
        record = house.keychain.ring.find(label)
        return {"label": record.label, "key_id": record.key_id, "pem": record.public.pem.decode()}
    house.token.export(label)
    raise Refused(
        "KEY-EXPORT",
        f"the private half of {label} stays in the token",
        fix=f"garrison key export {label} --public",
    )


def key_rotate(house: House, call: Call) -> dict[str, Any]:
    """Another key signs from now on; the one before it keeps verifying."""
    role, to = call.text("role"), call.optional("to")
    authorise(house, call.subject, Action.KEY_ROTATE, role)
    if role not in REPLACED:
        raise fixed_role(role)
    chain = house.keychain
    before = chain.ring.active(role)
    following = _following(house, role, before, to, call.optional("algorithm"))
    now = house.now()

    def event(_ring: Keyring) -> Event:
        facts = {"key": following.key_id, "before": before.key_id if before else ""}
        return event_of(house, call, Action.KEY_ROTATE, following.label, **facts)

    audit_id = chain.change(lambda ring: _succeeded(ring, following, now), event)
    house.use_keys()
    return {
        "label": following.label,
        "key_id": following.key_id,
        "algorithm": following.algorithm.display,
        "effects": _effects(house, role),
        "before": before.label if before else "",
        "public": str(chain.public_path(following.label)),
        "note": ""
        if following.algorithm.is_interchangeable
        else "model_signing does not verify bundles by such a key: it reads EC keys alone",
        "audit_id": audit_id,
    }


def key_revoke(house: House, call: Call) -> dict[str, Any]:
    """A key's signatures stop counting, but for those that the ledger had on record before a moment."""
    name, reason = call.text("label"), call.optional("reason") or "unspecified"
    authorise(house, call.subject, Action.KEY_REVOKE, name)
    chain, now = house.keychain, house.now()
    record = record_of(house, name)
    if reason not in REASONS:
        raise Usage("ARG-MISSING", f"{reason[:40]!a} is no reason", fix=f"choose one of {', '.join(REASONS)}")
    if record.role == APPROVER:
        return revoke_approver(
            house, call, record, reason, _moment(call.optional("since"), reason, record, now)
        )
    if record.role not in (*REPLACED, SPARE):
        raise fixed_role(record.role)
    since = _moment(call.optional("since"), reason, record, now)
    with house.ledger.read() as connection:
        kept = revocation.kept_before(connection, record.key_id, since)
    old = record.public.revocation
    if old is not None:  # a second look never gives back what the first one took
        kept, since = kept & old.kept, min(since, old.since)
    public = replace(record.public, revocation=Revocation(reason, since, kept))
    revoked = replace(record, public=public, state=State.REVOKED, until=record.until or now)
    role = record.role
    following = _following(house, role, record, None, None) if chain.ring.active(role) == record else None

    def edit(ring: Keyring) -> Keyring:
        ring = ring.with_key(revoked)
        return ring if following is None else _succeeded(ring, following, now)

    def event(_ring: Keyring) -> Event:
        facts: dict[str, Any] = {"key": record.key_id, "reason": reason, "since": format_time(since)}
        return event_of(house, call, Action.KEY_REVOKE, record.label, **facts, kept=len(kept))

    audit_id = chain.change(edit, event)
    house.use_keys()
    with house.ledger.read() as connection:
        hit = revocation.affected(connection, public)
    listed = [_affected_json(house, one) for one in hit]
    stops = reason == "compromise" and not call.flag("keep_serving")
    stopped, not_stopped = stop_serving(
        house, call, [row for row in listed if row["serving"]] if stops else []
    )
    return {
        "label": record.label,
        "role": role,
        "key_id": record.key_id,
        "reason": reason,
        "since": format_time(since),
        "kept": len(kept),
        "affected_count": len(listed),
        "affected": listed[:MAX_SHOWN],
        "effects": _effects(house, role),
        "stopped": stopped,
        "not_stopped": not_stopped,
        "successor": following.label if following else "",
        "audit_id": audit_id,
    }


def key_trust(house: House, call: Call) -> dict[str, Any]:
    """The file by which verifiers elsewhere judge: root key and keyring."""
    authorise(house, call.subject, Action.KEY_READ, "keyring")
    return {
        "version": house.keychain.ring.version,
        "trust": house.keychain.trust_document().decode(),
    }


def key_add(house: House, call: Call) -> dict[str, Any]:
    """A token of the user's own, with a key in it that can become the release key."""
    name = call.text("name")
    authorise(house, call.subject, Action.KEY_ADD, name)
    _refuse_taken(house.keychain, name)
    return add_token(house, call, algorithm_named(call.optional("algorithm")))


def model_resign(house: House, call: Call) -> dict[str, Any]:
    ref = Ref.parse(call.text("ref"))
    authorise(house, call.subject, Action.ARTIFACT_RESIGN, ref.name)
    source = call.optional("source")
    copy = Path(source) if source else None
    return resign(
        house.registry, ref, call.subject, call.progress, lambda name: human_of(house, name), source=copy
    )


def algorithm_named(name: str | None) -> Algorithm:
    try:
        return Algorithm(name or Algorithm.P256)
    except ValueError:
        raise Usage(
            "KEY-ALGORITHM",
            f"{str(name)[:40]!a} is not an algorithm for keys",
            fix=f"choose one of {', '.join(Algorithm)}",
        ) from None


def _refuse_taken(chain: Keychain, label: str) -> None:
    if any(record.label == label for record in chain.ring.keys):
        raise Refused(
            "KEY-EXISTS",
            f"there is a key called {label!r} already",
            fix="use that key, or choose another label; a key is never overwritten",
        )


def _effects(house: House, role: str) -> list[str]:
    """What a change of a key changed besides the versions that are listed."""
    if role != TIMESTAMP:
        return []
    try:
        pins = house.registry.approved.current().pins
    except Refused as error:
        return [f"the approved list is refused as it is ({error.code}); its next version is by this key"]
    return [
        f"the approved list is signed anew: root {pins.root}, snapshot {pins.snapshot}, timestamp {pins.timestamp}",
        "a list by the key before it is refused here (TUF-ROLLBACK); other clients refuse it once they have seen "
        f"root {pins.root}",
    ]


def _following(
    house: House, role: str, before: KeyRecord | None, to: str | None, algorithm: str | None
) -> KeyRecord:
    """The key that takes over: one that was named, or a new one. A leftover of a killed try is used again."""
    chain = house.keychain
    if to is not None:
        record = chain.ring.find(to)
        if record.role != SPARE or record.state is not State.ACTIVE:
            raise Refused(
                "KEY-STATE",
                f"the key {record.label} is {record.state.value} and signs as {record.role}; it can't take over",
                fix=f"make one for it: garrison key create NAME, then garrison key rotate {role} --to NAME",
            )
        _refuse_algorithm(role, record.algorithm)
        chain.signer(record).sign(b"garrison: can this key sign")  # before anything depends on it
        return replace(record, role=role)
    wanted = algorithm_named(algorithm or (before.algorithm if before else None))
    _refuse_algorithm(role, wanted)
    taken = {record.label for record in chain.ring.keys}
    number = 2
    while f"{role}-{number}" in taken:
        number += 1
    label = f"{role}-{number}"
    try:
        key = chain.token.signer(label)
    except Refused:
        key = chain.token.create(label, wanted)
    if key.algorithm is not wanted:
        raise Refused(
            "KEY-STATE",
            f"an earlier try left a key {label} with {key.algorithm.display}",
            fix=f"garrison key rotate {role} --algorithm {key.algorithm.value}",
        )
    public = public_from_pem(key.public_pem(), label)
    chain.publish_public(public)
    return KeyRecord(public, role, State.ACTIVE, HOME, house.now())


def _refuse_algorithm(role: str, algorithm: Algorithm) -> None:
    if role == TIMESTAMP and algorithm is not Algorithm.P256:
        raise Usage(
            "KEY-ALGORITHM",
            f"the approved list is signed with {Algorithm.P256.display}, not with {algorithm.display}",
            fix="garrison key rotate timestamp",
        )


def _succeeded(ring: Keyring, following: KeyRecord, now: datetime) -> Keyring:
    for record in ring.keys:
        if record.role == following.role and record.state is State.ACTIVE:
            ring = ring.with_key(replace(record, state=State.RETIRED, until=now))
    return ring.with_key(following)


def _moment(text: str | None, reason: str, record: KeyRecord, now: datetime) -> datetime:
    """From when the key is not believed: given; else now, or from its beginning when it was compromised."""
    if text is None:
        return datetime(1970, 1, 1, tzinfo=UTC) if reason == "compromise" else now + _INSTANT
    try:
        moment: datetime | None = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment > now:
        raise Usage(
            "KEY-SINCE",
            f"{text[:40]!a} is not a moment in the past with a time zone",
            fix=f"garrison key revoke {record.label} --reason compromise --since 2026-01-31T09:00:00Z",
        )
    return moment.astimezone(UTC)


def _affected_json(house: House, one: Affected) -> dict[str, Any]:
    serves = False
    if one.is_published:
        current = house.serving(Ref.parse(one.ref).name)
        serves = current is not None and str(current.ref) == one.ref
    return {"ref": one.ref, "digest": one.digest, "time": one.time, "serving": serves, "next": one.fix}


KEY_VERBS = (
    Verb("key.list", Action.KEY_READ, key_list),
    Verb("key.show", Action.KEY_READ, key_show),
    Verb("key.create", Action.KEY_CREATE, key_create),
    Verb("key.export", Action.KEY_READ, key_export),
    Verb("key.rotate", Action.KEY_ROTATE, key_rotate),
    Verb("key.revoke", Action.KEY_REVOKE, key_revoke),
    Verb("key.trust", Action.KEY_READ, key_trust),
    Verb("key.add", Action.KEY_ADD, key_add),
    Verb("model.resign", Action.ARTIFACT_RESIGN, model_resign),
)
