"""Verbs about rule packs: signed, verified and tried before they are installed; never an older one; one step back."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from garrison.app.detection import folder_of
from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise
from garrison.app.verbs.dlp import compile_with, record, removed
from garrison.core.actions import Action
from garrison.core.digest import canonical_json
from garrison.core.errors import Refused, Usage
from garrison.detect.own import pack_file
from garrison.detect.pack import MAX_BYTES, MAX_PACKS, PAYLOAD_TYPE, read_pack, write_pack
from garrison.detect.pack_trial import check_rules
from garrison.storage.local import write_atomically
from garrison.trust import dsse
from garrison.trust.keys.public import PublicKey, public_from_pem


def pack_sign(house: House, call: Call) -> dict[str, Any]:
    """Try a file of rules and sign it with the release key of this house; nothing is installed."""
    name, version = call.text("name"), call.body.get("version")
    authorise(house, call.subject, Action.DLP_WRITE, name)
    text = _read(call.text("source")).decode("utf-8", "replace")
    payload = write_pack(text, name, version if type(version) is int else 0)
    pack = read_pack(payload)
    check_rules(pack.rules, name)
    envelope = canonical_json(dsse.sign(payload, PAYLOAD_TYPE, house.release_key))
    return {"name": name, "version": pack.version, "rules": len(pack.rules), "envelope": envelope.decode()}


def pack_install(house: House, call: Call) -> dict[str, Any]:
    """Verify, try and install a pack. The key of its first version is the key of all that follow."""
    given = call.optional("key")
    data = _read(call.text("source"))
    access = house.people().access
    key = public_from_pem(given.encode(), "rules") if given else _own_key(house)
    payload, key_id = dsse.open_envelope(data, [key], payload_type=PAYLOAD_TYPE)
    pack = read_pack(payload)
    authorise(house, call.subject, Action.DLP_WRITE, pack.name)
    known = access.packs.get(pack.name)
    if known is not None:
        _check_follows(known, pack.name, pack.version, key_id)
    elif len(access.packs) >= MAX_PACKS:
        raise Refused("DLP-FULL", f"there are {MAX_PACKS} packs", fix="garrison guard pack remove NAME")
    check_rules(pack.rules, pack.name)
    digest = f"sha256:{hashlib.sha256(payload).hexdigest()}"
    folder = folder_of(house.settings)
    folder.mkdir(mode=0o700, exist_ok=True)
    write_atomically(folder / pack_file(digest), payload)
    facts = {
        "name": pack.name,
        "version": pack.version,
        "digest": digest,
        "rules": len(pack.rules),
        "key_id": key_id,
        "highest": pack.version,
        "previous": None if known is None else {k: known[k] for k in ("version", "digest", "rules")},
    }
    compile_with(house, packs={**access.packs, pack.name: facts})
    return record(house, call, pack.name, facts, pack=facts)


def pack_rollback(house: House, call: Call) -> dict[str, Any]:
    """Back to the version before. The one left stays refused: what comes next has a higher number."""
    name = call.text("name")
    authorise(house, call.subject, Action.DLP_WRITE, name)
    known = _known(house, name)
    if not known["previous"]:
        raise Refused("DLP-PACK", f"{name} has no version before this one", fix="garrison guard pack list")
    facts = {**known, **known["previous"], "previous": None}
    compile_with(house, packs={**house.people().access.packs, name: facts})
    return record(house, call, name, facts, pack=facts)


def pack_remove(house: House, call: Call) -> dict[str, Any]:
    return removed(house, call, "pack", house.people().access.packs)


def pack_list(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.POSTURE_READ, "dlp")
    packs = house.people().access.packs
    return {"packs": [dict(packs[name]) for name in sorted(packs)]}


def _check_follows(known: Any, name: str, version: int, key_id: str) -> None:
    if key_id != known["key_id"]:
        raise Refused(
            "DLP-PACK",
            f"{name} was installed with key {known['key_id'][:12]}, this is signed by {key_id[:12]}",
            fix=f"garrison guard pack remove {name} first, when its maker has changed",
        )
    if version <= known["highest"]:
        raise Refused(
            "DLP-PACK",
            f"version {version} of {name} is not above {known['highest']}, which was installed",
            fix=f"garrison guard pack rollback {name} goes back to the version before",
        )


def _known(house: House, name: str) -> Any:
    known = house.people().access.packs.get(name)
    if known is None:
        raise Usage("DLP-UNKNOWN", "there is no pack of that name", fix="garrison guard pack list")
    return known


def _own_key(house: House) -> PublicKey:
    return public_from_pem(house.release_key.public_pem(), "rules")


def _read(source: str) -> bytes:
    path = Path(source)
    try:
        with path.open("rb") as file:
            data = file.read(2 * MAX_BYTES + 1)
    except OSError as cause:
        raise Usage(
            "DLP-PACK", f"the file cannot be read: {cause.strerror}", fix="give the path of a pack"
        ) from cause
    if len(data) > 2 * MAX_BYTES:
        raise Refused(
            "DLP-PACK", f"the file has more than {2 * MAX_BYTES} bytes", fix="give the path of a pack"
        )
    return data


PACK_VERBS = (
    Verb("guard.pack.sign", Action.DLP_WRITE, pack_sign),
    Verb("guard.pack.install", Action.DLP_WRITE, pack_install),
    Verb("guard.pack.rollback", Action.DLP_WRITE, pack_rollback),
    Verb("guard.pack.remove", Action.DLP_WRITE, pack_remove),
    Verb("guard.pack.list", Action.POSTURE_READ, pack_list),
)
