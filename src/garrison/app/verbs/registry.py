"""Verbs about versions: publish, approve, list, show, pull, retire."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from garrison.app.house import House
from garrison.app.verbs import attachments
from garrison.app.verbs.base import Call, Verb, authorise, identity_name
from garrison.app.verbs.images import pushed
from garrison.app.verbs.owner import check_or_claim
from garrison.app.verbs.sources import fetched, refuse_public_target
from garrison.app.verbs.versions import authorise_read
from garrison.artifacts import approval, at_rest, layout, papers, store
from garrison.artifacts import release as releases
from garrison.artifacts.ownership import answering
from garrison.artifacts.pull import pull
from garrison.artifacts.registry import get
from garrison.artifacts.release import Publication
from garrison.artifacts.search import waivers
from garrison.core.actions import Action
from garrison.core.decision import Tier
from garrison.core.digest import Ref, check_name
from garrison.core.errors import Refused, Usage
from garrison.core.event import format_time
from garrison.runtime.store import routes
from garrison.trust import approvals


def publish(house: House, call: Call) -> dict[str, Any]:
    text = call.text("source")
    source = None if "://" in text else _directory(text)
    ref = _ref_or_next(house, call.text("ref"))
    owner, tier = _owner_and_tier(house, call, ref)
    with house.database.read() as connection:
        is_known = store.find(connection, ref) is not None
    if not is_known:  # the same bytes again change nothing, nor who answers for them
        check_or_claim(house, call, ref.name, owner)
    with house.database.read() as connection:
        if any(route.name == ref.name for route in routes(connection)):
            raise Refused(
                "ROUTE-TAKEN",
                f"{ref.name} is a route to a model that something else serves",
                fix="give the model a name of its own, so that nobody takes one for the other",
            )
    lineage = attachments.declared(house, call)
    refuse_public_target(house)
    with fetched(house, call, text) if source is None else nullcontext(source) as place:
        wanted = Publication(place, ref, owner, tier, lineage, origin=text if source is None else "")
        release, is_new, audit_id = releases.publish(house.registry, wanted, call.subject, call.progress)
    if not is_new and lineage is not None:
        audit_id = papers.renew(house.registry, ref, lineage, call.subject)
    tree = layout.tree_of(house.registry, ref)
    needed = approvals.required(release.tier)
    state = approval.standing(house.registry, release)
    return {
        **release.summary(),
        "unchanged": not is_new,
        "verdict": release.scan["verdict"],
        "key": house.release_key.label,
        "key_id": house.release_key.key_id,
        "path": str(tree),
        "bundle": str(tree.with_name(tree.name + ".sig")),
        "statement": str(tree.with_name(tree.name + ".release.json")),
        "public_key": str(house.public_key_path(house.release_key.label)),
        "state": state,
        "approvals_needed": 0 if state == "approved" else needed,
        "audit_id": audit_id,
    }


def sign(house: House, call: Call) -> dict[str, Any]:
    """Sign a directory where it lies. The caller writes the two files; the event is written here."""
    source = _directory(call.text("source"))
    ref = Ref.parse(call.text("ref"))
    owner = identity_name(call.optional("owner") or call.subject.name)
    tier = call.tier(Tier.INTERNAL)
    authorise(house, call.subject, Action.ARTIFACT_SIGN, ref.name, owner=owner)
    wanted = Publication(source, ref, owner, tier)
    signed = releases.sign_files(house.registry, wanted, call.subject, call.progress)
    manifest = signed.statement.manifest
    return {
        "ref": str(ref),
        "digest": manifest.digest,
        "files": len(manifest.files),
        "size": manifest.size,
        "owner": owner,
        "tier": tier.value,
        "key": house.release_key.label,
        "key_id": house.release_key.key_id,
        "public_key": str(house.public_key_path(house.release_key.label)),
        "bundle": signed.bundle.decode(),
        "statement": signed.envelope.decode(),
        "audit_id": signed.audit_id,
    }


def model_show(house: House, call: Call) -> dict[str, Any]:
    ref = Ref.parse(call.text("ref"))
    authorise_read(house, call, Action.ARTIFACT_READ, ref)
    release = get(house.registry, ref)
    given = approval.given(house.registry, ref)
    owner = house.people().owners.get(ref.name, release.owner)
    tree = layout.tree_of(house.registry, ref)
    return {
        **release.summary(),
        "state": approval.standing(house.registry, release),
        "owner": owner,
        "answering": answering(house.people(), ref.name, owner).as_json(),
        "publisher": release.publisher,
        "created": format_time(release.created),
        "source": release.source,
        "path": str(tree),
        "manifest": release.manifest.as_json(),
        "attachments": attachments.summary(house, ref),
        "gaps": list(attachments.lineage_gaps(house, ref)),
        "images": pushed(house, ref),
        "waivers": waivers(release.scan),
        "verdict": release.scan["verdict"],
        "approvals": [{"approver": item.approver, "digest": item.digest} for item in given],
        "approvals_needed": approvals.required(release.tier),
    }


def model_pull(house: House, call: Call) -> dict[str, Any]:
    ref = Ref.parse(call.text("ref"))
    authorise_read(house, call, Action.ARTIFACT_PULL, ref)
    if call.flag("repair"):
        if call.subject.kind == "service":  # it reads; mending writes
            authorise(house, call.subject, Action.ARTIFACT_PUBLISH, ref.name, owner="stored")
        return at_rest.repair(house.registry, ref, call.subject)
    return pull(house.registry, ref, Path(call.text("destination")), call.subject)


def model_retire(house: House, call: Call) -> dict[str, Any]:
    ref = Ref.parse(call.text("ref"))
    authorise(house, call.subject, Action.ARTIFACT_RETIRE, ref.name)
    serving = house.serving(ref.name)
    if serving is not None and serving.ref == ref:
        raise Refused(
            "DEP-SERVING",
            f"{ref} is serving",
            fix=f"stop it first: garrison deploy stop {ref.name}, or serve another version",
        )
    return approval.retire(house.registry, ref, call.subject)


def model_verify(house: House, call: Call) -> dict[str, Any]:
    """Check a stored version where it lies: the files, both signatures, the approval."""
    ref = Ref.parse(call.text("ref"))
    authorise_read(house, call, Action.ARTIFACT_VERIFY, ref)
    verified = at_rest.verify(house.registry, ref, again=True)
    builder = call.optional("slsa_builder")
    if builder is not None:
        attachments.check_builder(house, ref, builder)
    audit_id = at_rest.record_verified(house.registry, call.subject, verified, "at rest")
    return {
        "ref": str(ref),
        "digest": verified.digest,
        "key_id": verified.key_id,
        "attachments": attachments.summary(house, ref),
        "builder": builder,
        "audit_id": audit_id,
    }


def _owner_and_tier(house: House, call: Call, ref: Ref) -> tuple[str, Tier]:
    """As asked, else as the newest version of that name was signed. Raises `Usage` ARG-MISSING for the first one."""
    owner, known = call.optional("owner"), None
    if owner is None or call.optional("tier") is None:
        with house.database.read() as connection:
            latest = store.latest_version(connection, ref.name)
        known = get(house.registry, Ref(ref.name, latest)) if latest else None
    if owner is None and known is not None:
        owner = house.people().owners.get(ref.name, known.owner)
    authorise(house, call.subject, Action.ARTIFACT_PUBLISH, ref.name, owner=identity_name(owner or "nobody"))
    if owner is None or (known is None and call.optional("tier") is None):
        raise Usage(
            "ARG-MISSING",
            f"nothing is published as {ref.name} yet: its first version says who answers for it and how sensitive "
            "its data is",
            fix="add --owner NAME --tier TIER; later versions keep them unless others are given",
        )
    return identity_name(owner), call.tier(known.tier if known else None)


def _ref_or_next(house: House, text: str) -> Ref:
    """`name@version`, or `name` for the next version of that name."""
    if "@" in text:
        return Ref.parse(text)
    with house.database.read() as connection:
        return Ref(check_name(text), store.latest_version(connection, text) + 1)


def _directory(text: str) -> Path:
    """Raises `Usage` PATH-NOT-DIR, and PATH-NAME for a path that a signed statement could not name."""
    path = Path(text)
    try:
        text.encode()
        is_directory = path.is_dir()
    except UnicodeEncodeError:
        raise Usage(
            "PATH-NAME", "the path is not valid UTF-8, and it is recorded", fix="rename or move the directory"
        ) from None
    except OSError:
        is_directory = False
    if not is_directory:
        raise Usage(
            "PATH-NOT-DIR", f"{path} is not a directory that can be read", fix="give the model's directory"
        )
    return path


REGISTRY_VERBS = (
    Verb("model.publish", Action.ARTIFACT_PUBLISH, publish),
    Verb("artifact.sign", Action.ARTIFACT_SIGN, sign),
    Verb("model.show", Action.ARTIFACT_READ, model_show),
    Verb("model.pull", Action.ARTIFACT_PULL, model_pull),
    Verb("model.retire", Action.ARTIFACT_RETIRE, model_retire),
    Verb("model.verify", Action.ARTIFACT_VERIFY, model_verify),
)
