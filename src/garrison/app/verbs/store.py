"""Verbs about the store of model files: check, verify, encrypt, rekey."""

from __future__ import annotations

from typing import Any

from garrison.app import stores
from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise
from garrison.artifacts import layout, store
from garrison.artifacts.at_rest import record_verified, verify
from garrison.artifacts.registry import record
from garrison.core.actions import Action
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.core.event import Outcome
from garrison.storage.spooled import SpooledObjects
from garrison.trust.keys.wrapping import TokenWrap

ALONE = "no server"  # `via` of a call that holds the data directory's lock itself


def store_check(house: House, call: Call) -> dict[str, Any]:
    """The store of this data directory. Raises STO-*; either way it leaves its event."""
    authorise(house, call.subject, Action.STORE_READ, "store")
    known = stores.read_record(house.settings.data) or stores.Record("")
    report = stores.inspect(house.settings)
    error = report.error()
    if error is not None:
        raise error
    answer = report.as_json()
    answer["encryption"] = known.encryption
    answer["audit_id"] = house.record(
        house.event(Action.STORE_READ, known.store, by=call.subject.actor, passed=list(report.passed))
    )
    return answer


def store_verify(house: House, call: Call) -> dict[str, Any]:
    """Hash every object of every version where it lies; an event for each version.

    Raises `Refused` ART-TAMPER naming what is damaged or missing and the versions it belongs to.
    """
    authorise(house, call.subject, Action.ARTIFACT_VERIFY, "registry")
    if call.flag("repair"):
        authorise(house, call.subject, Action.STORE_WRITE, "store")
    with house.database.read() as connection:
        releases = store.releases(connection)
    sound: list[str] = []
    broken: list[dict[str, Any]] = []
    unknown: list[dict[str, Any]] = []
    for number, release in enumerate(releases, 1):
        call.progress(f"verifying {release.ref} ({number} of {len(releases)})")
        try:
            if call.flag("repair"):
                _mend(house, release)
            record_verified(house.registry, call.subject, verify(house.registry, release.ref), "at rest")
            sound.append(str(release.ref))
        except GarrisonError as error:
            outcome = Outcome.DENIED if isinstance(error, Refused) else Outcome.UNKNOWN
            record(
                house.registry, call.subject, Action.ARTIFACT_VERIFY, release.ref, release.digest,
                {"stage": "at rest", "reason": error.what[:500]}, outcome=outcome, code=error.code,
            )  # fmt: skip
            found = {"ref": str(release.ref), "code": error.code, "what": error.what, "next": error.fix}
            (broken if isinstance(error, Refused) else unknown).append(found)
    if broken or unknown:
        raise _unsound(sound, broken, unknown)
    return {"versions": sound, "damaged": []}


def _mend(house: House, release: store.Release) -> None:
    try:
        verify(house.registry, release.ref)
    except Refused:
        layout.materialise(house.registry, release, replace_tree=True)


def _unsound(sound: list[str], broken: list[dict[str, Any]], unknown: list[dict[str, Any]]) -> GarrisonError:
    evidence = {"sound": sound, "damaged": broken, "unknown": unknown}
    if not broken:
        return Undecided(unknown[0]["code"], unknown[0]["what"], fix=unknown[0]["next"], evidence=evidence)
    rest = f" (and {len(broken) - 1} more versions)" if len(broken) > 1 else ""
    return Refused(
        broken[0]["code"],
        f"{broken[0]['ref']}: {broken[0]['what']}{rest}",
        fix=broken[0]["next"],
        evidence=evidence,
    )


def store_encrypt(house: House, call: Call) -> dict[str, Any]:
    """Seal a plain local store. Nothing may read it meanwhile, so no server runs."""
    authorise(house, call.subject, Action.STORE_WRITE, "store")
    if call.subject.via != ALONE:
        raise Refused(
            "SRV-RUNNING",
            "a server is reading the store that is to be encrypted",
            fix="stop the server, then repeat the command",
        )
    known = stores.read_record(house.settings.data) or stores.Record("")
    if known.store != stores.LOCAL:
        raise Usage(
            "STO-CHANGED",
            f"{known.store} is encrypted by its service; Garrison's own encryption is chosen at its first start",
            fix="begin a new data directory: garrison up --store s3://… --store-encryption aes-256-gcm",
        )
    if known.is_sealed:
        return {"objects": 0, "encryption": known.encryption, "unchanged": True}
    count = stores.convert(house.settings, house.token, known)
    audit_id = house.record(
        house.event(
            Action.STORE_WRITE, "store", by=call.subject.actor, encryption=stores.SEALED, objects=count
        )
    )
    return {"objects": count, "encryption": stores.SEALED, "unchanged": False, "audit_id": audit_id}


def store_rekey(house: House, call: Call) -> dict[str, Any]:
    """A new wrapping key; every data key is wrapped again, and the old wrapping keys are destroyed.

    The objects themselves are not touched. Cut short, both keys are there; repeating it finishes.
    """
    authorise(house, call.subject, Action.STORE_WRITE, "store")
    objects = house.registry.objects
    if not isinstance(objects, SpooledObjects) or not isinstance(objects.wrap, TokenWrap):
        raise Usage(
            "STO-CHANGED",
            "this store is not encrypted with a key of the token",
            fix="garrison store encrypt turns that on",
        )
    wrap = objects.wrap
    label = wrap.rotate()
    count = 0
    for digest in list(objects.digests()):
        call.progress(f"wrapping key {count}")
        try:
            count += objects.rewrap(digest)
        except Refused as error:
            if error.code != "OBJ-MISSING":  # discarded meanwhile
                raise
    needed = objects.labels()
    gone = [old for old in wrap.labels() if old != label and old not in needed]
    for old in gone:
        wrap.destroy(old)
    audit_id = house.record(
        house.event(
            Action.STORE_WRITE, "store", by=call.subject.actor, key=label, wrapped=count, destroyed=gone
        )
    )
    return {"key": label, "wrapped": count, "destroyed": gone, "audit_id": audit_id}


STORE_VERBS = (
    Verb("store.check", Action.STORE_READ, store_check),
    Verb("store.verify", Action.ARTIFACT_VERIFY, store_verify),
    Verb("store.encrypt", Action.STORE_WRITE, store_encrypt),
    Verb("store.rekey", Action.STORE_WRITE, store_rekey),
)
