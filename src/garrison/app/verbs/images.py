"""Verbs about OCI: sign and pin images, push and pull versions, and what each tag has meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise, event_of
from garrison.artifacts import approval, at_rest
from garrison.artifacts.oci import model, signature, tags, verify
from garrison.artifacts.oci.address import Access, Address, credentials, parse_address
from garrison.artifacts.oci.client import Registry
from garrison.artifacts.registry import get, signed_facts
from garrison.core.actions import Action
from garrison.core.digest import Ref, check_name
from garrison.core.errors import Refused, Usage
from garrison.core.event import Outcome, format_time
from garrison.evidence import store as events

MAX_PUSHES = 20  # shown of one version


def image_sign(house: House, call: Call) -> dict[str, Any]:
    """Verify a layout where it lies, sign its root and put the signature beside it as a referrer."""
    reference = verify.parse_reference(call.text("source"))
    name = check_name(call.optional("name") or "image")
    authorise(house, call.subject, Action.ARTIFACT_SIGN, name)
    signature.check_writable(reference.path)
    image = verify.verify(reference, [])
    if len(image.roots) != 1:
        raise Usage(
            "IMG-PIN",
            f"the layout holds {len(image.roots)} images",
            fix="name the one to sign: oci:DIR@sha256:… (garrison image inspect lists them)",
        )
    root = image.roots[0]
    envelope = signature.sign(root, name, house.now(), house.release_key)
    facts = {**signed_facts(house.release_key, envelope), "image": name}
    audit_id = house.record(event_of(house, call, Action.ARTIFACT_SIGN, name, root.digest, **facts))
    signature.write(
        reference.path, signature.referrer(root, signature.ARTIFACT, signature.ENVELOPE, envelope)
    )
    return {
        "image": f"oci:{reference.path}@{root.digest}",
        "digest": root.digest,
        "name": name,
        "key": house.release_key.label,
        "key_id": house.release_key.key_id,
        "public_key": str(house.public_key_path("release")),
        "audit_id": audit_id,
    }


def image_pin(house: House, call: Call) -> dict[str, Any]:
    """Record which digest a name stands for: what a deployment names, and `image verify --as` asks for."""
    reference = verify.parse_reference(call.text("source"))
    name = check_name(call.text("name"))
    authorise(house, call.subject, Action.IMAGE_PIN, name)
    image = verify.verify(reference, house.registry.keys)
    if len(image.roots) != 1:
        raise Usage(
            "IMG-PIN",
            f"the layout holds {len(image.roots)} images",
            fix="name the one to pin: oci:DIR@sha256:…",
        )
    if not image.signed_by:
        raise Refused(
            "IMG-UNSIGNED",
            f"no key of this server signed {image.roots[0].digest}",
            evidence={"digest": image.roots[0].digest},
            fix=f"garrison image sign oci:{reference.path}@{image.roots[0].digest}",
        )
    digest = image.roots[0].digest
    _check_moved(house, call, name, digest)
    facts = {"how": "pinned", "key": image.signed_by[0]}
    audit_id = house.record(event_of(house, call, Action.IMAGE_PIN, name, digest, **facts))
    return {
        "name": name,
        "digest": digest,
        "image": f"oci:{reference.path}@{digest}",
        "signed_by": list(image.signed_by),
        "audit_id": audit_id,
    }


def image_history(house: House, call: Call) -> dict[str, Any]:
    """Every meaning that a tag or a pinned name had. With `registry` it is looked at once more, now."""
    name = call.text("name")
    authorise(house, call.subject, Action.ARTIFACT_READ, "images")
    seen = _seen(house, name)
    now = ""
    if name.startswith("oci://") and call.flag("look"):
        address = parse_address(name)
        found = _session(call, address).manifest(address.tag or "latest")
        now = "" if found is None else found[1].digest
    moved = [one.as_json() for one in seen if one.moved_from]
    if now and seen and seen[-1].digest != now:
        moved.append({"tag": name, "digest": now, "moved_from": seen[-1].digest, "how": "looked at"})
    return {"name": name, "seen": [one.as_json() for one in seen], "moved": moved, "now": now or None}


def model_push(house: House, call: Call) -> dict[str, Any]:
    """An approved version to an OCI registry, verified before, its signatures beside it."""
    ref = Ref.parse(call.text("ref"))
    address = parse_address(call.text("target"))
    authorise(house, call.subject, Action.REGISTRY_PUSH, ref.name)
    if address.digest:
        raise Usage("IMG-ADDRESS", "a push goes to a tag, not to a digest", fix="leave @sha256:… out")
    release = get(house.registry, ref)
    approval.approved_entry(house.registry, release)
    verified = at_rest.verify(house.registry, ref)
    at_rest.record_verified(house.registry, call.subject, verified, "push")
    tagged = replace(address, tag=address.tag or str(ref.version))
    _check_moved(house, call, str(tagged), model.digest_of(release))
    session = _session(call, tagged)
    done = model.push(session, release, house.registry.objects.open, tagged.tag, call.progress)
    facts = {"how": "pushed", "ref": str(ref), "bytes": done.sent}
    audit_id = house.record(event_of(house, call, Action.REGISTRY_PUSH, str(tagged), done.digest, **facts))
    return {
        "ref": str(ref),
        "target": str(tagged),
        "pinned": str(replace(tagged, tag="", digest=done.digest)),
        "digest": done.digest,
        "sent": done.sent,
        "signatures": list(done.referrers),
        "referrers": "api" if done.has_api else "tag",
        "audit_id": audit_id,
    }


def model_fetch(house: House, call: Call) -> dict[str, Any]:
    """A version from an OCI registry into a directory, verified by this server's keys."""
    address = parse_address(call.text("source"))
    name = call.optional("ref")
    expect = Ref.parse(name) if name else None
    resource = expect.name if expect else "registry"
    authorise(house, call.subject, Action.ARTIFACT_PULL, resource)
    session = _session(call, address)
    if not address.digest:
        address = replace(address, tag=address.tag or "latest")
        digest, _manifest = model.resolve(session)
        _check_moved(house, call, str(address), digest)
        session = _session(call, replace(address, digest=digest))
    verified, digest = model.pull(session, Path(call.text("destination")), house.registry.keys, expect)
    facts = {"how": "pulled", "ref": str(verified.ref), "address": str(address)}
    resource = str(address) if address.tag else str(verified.ref)
    audit_id = house.record(event_of(house, call, Action.ARTIFACT_PULL, resource, digest, **facts))
    at_rest.record_verified(house.registry, call.subject, verified, "fetch")
    return {
        "ref": str(verified.ref),
        "digest": verified.digest,
        "manifest": digest,
        "key_id": verified.key_id,
        "path": call.text("destination"),
        "audit_id": audit_id,
    }


def _session(call: Call, address: Address) -> Registry:
    auth, ca = call.optional("auth"), call.optional("ca")
    basic, bearer = credentials(Path(auth) if auth else None, address.origin)
    return Registry(address, Access(call.flag("plain_http"), Path(ca) if ca else None, basic, bearer))


def _check_moved(house: House, call: Call, tag: str, digest: str) -> None:
    if not call.flag("accept_moved"):
        tags.check(tag, digest, _seen(house, tag))


def pushed(house: House, ref: Ref) -> list[dict[str, str]]:
    """Where a version was pushed to as an OCI artifact, oldest first; the newest `MAX_PUSHES`."""
    wanted = events.Filter(action=Action.REGISTRY_PUSH.value, outcome=Outcome.ALLOWED.value)
    with house.ledger.read() as connection:
        found = [
            {"tag": event.resource, "digest": event.digest, "time": format_time(event.time)}
            for event in (record.event for record in events.find(connection, wanted))
            if event.data.get("ref") == str(ref)
        ]
    return found[-MAX_PUSHES:]


def _seen(house: House, tag: str) -> list[tags.Seen]:
    with house.ledger.read() as connection:
        found = [
            record
            for action in (Action.REGISTRY_PUSH, Action.ARTIFACT_PULL, Action.IMAGE_PIN)
            for record in events.find(connection, events.Filter(action=action.value, model=tag))
            if record.event.resource == tag
        ]
    return tags.history(record.event for record in sorted(found, key=lambda record: record.seq))


IMAGE_VERBS = (
    Verb("image.sign", Action.ARTIFACT_SIGN, image_sign),
    Verb("image.pin", Action.IMAGE_PIN, image_pin),
    Verb("image.history", Action.ARTIFACT_READ, image_history),
    Verb("model.push", Action.REGISTRY_PUSH, model_push),
    Verb("model.fetch", Action.ARTIFACT_PULL, model_fetch),
)
