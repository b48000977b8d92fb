"""Verbs that a cluster needs: is that object let in, and what is to be rendered for a version."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise, event_of
from garrison.app.verbs.images import pushed
from garrison.app.verbs.versions import authorise_read
from garrison.artifacts import approval
from garrison.artifacts.ownership import check_owner
from garrison.artifacts.registry import get
from garrison.core.actions import Action
from garrison.core.digest import Ref
from garrison.core.errors import Usage
from garrison.core.event import Outcome
from garrison.evidence.store import Filter
from garrison.evidence.told import told
from garrison.runtime.kube import admission, mutation, review, trust
from garrison.runtime.kube.admission import Approved, Known
from garrison.runtime.kube.review import Review, Ruling
from garrison.runtime.kube.words import LAUNCHER
from garrison.trust import approved
from garrison.trust import statement as statements
from garrison.trust.tuf.check import check
from garrison.trust.tuf.pins import Pins

MAX_REASONS = 40  # kept in an event; the answer itself carries fewer


def admission_review(house: House, call: Call) -> dict[str, Any]:
    """Judge one review and record it. A dry run, and a question of somebody who may only ask, leave no trace."""
    asked = review.parse(call.facts("review"))
    # Whoever may look may ask what would be decided; deciding is the listener's, and the operators'.
    may_decide = not asked.is_dry_run or "admission" in call.subject.roles
    action = Action.ADMISSION_DECIDE if may_decide else Action.POSTURE_READ
    authorise(house, call.subject, action, "admission")
    known = known_to(house)
    ruling = (mutation.completed if call.flag("mutate") else admission.judge)(asked, known)
    audit_id = None
    if not asked.is_dry_run and not call.flag("mutate"):  # the validation that follows is the decision
        audit_id = _record(house, call, asked, ruling)
    return {
        "review": review.answer(asked.uid, ruling),
        "allowed": ruling.allowed,
        "why": ruling.why if ruling.allowed else "",
        "reasons": [denial.as_json() for denial in ruling.denials],
        "models": [name for name, *_facts in ruling.models],
        "audit_id": audit_id,
    }


def admission_refused(house: House, call: Call) -> dict[str, Any]:
    """Leave the event of a review that could not be read."""
    authorise(house, call.subject, Action.ADMISSION_DECIDE, "admission")
    raise review.unreadable(call.text("why")[:300])


def known_to(house: House) -> Known:
    exempt, tiers = house.settings.admission_namespaces
    return Known(
        image=lambda digest: house.pinned.name(house.ledger, digest) if digest else "",
        version=lambda ref: _approved(house, ref),
        floor=lambda namespace, name: _floor(house, namespace, name),
        exempt=admission.SYSTEM | exempt,
        tiers=tiers,
    )


def cluster_facts(house: House, call: Call) -> dict[str, Any]:
    """What is rendered for an approved version. Raises what a deployment of it would."""
    ref = Ref.parse(call.text("ref"))
    authorise_read(house, call, Action.ARTIFACT_READ, ref)
    version = _approved(house, ref)
    release = get(house.registry, ref)
    places = pushed(house, ref)
    return {
        "ref": str(ref),
        "digest": version.digest,
        "tier": version.tier.value,
        "owner": house.people().owners.get(ref.name, release.owner),
        "size": release.manifest.size,
        "source": f"{places[-1]['tag'].rpartition(':')[0]}@{places[-1]['digest']}" if places else "",
        "launcher": house.pinned.digest(house.ledger, LAUNCHER),
        "trust": _trust(house),
    }


def cluster_policy(house: House, call: Call) -> dict[str, Any]:
    """What the webhook configuration and the policies of a cluster are made of."""
    authorise(house, call.subject, Action.POSTURE_READ, "admission")
    digest = house.pinned.digest(house.ledger, LAUNCHER)
    if not digest:
        raise Usage(
            "ADM-LAUNCHER",
            f"no image is pinned as {LAUNCHER}, so the policies would let nothing in",
            fix=f"garrison image sign oci:DIR --name {LAUNCHER}, then garrison image pin oci:DIR --as {LAUNCHER}",
        )
    exempt, _tiers = house.settings.admission_namespaces
    return {
        "launcher": digest,
        "exempt": sorted(admission.SYSTEM | exempt),
        "ca": (house.settings.data / "ca.pem").read_text(),
    }


def _approved(house: House, ref: Ref) -> Approved:
    """As a deployment judges it, but for its bytes: those are the launcher's to hash, every time it loads."""
    release = get(house.registry, ref)
    entry = approval.approved_entry(house.registry, release)
    house.registry.approved.current().check_fresh(house.now())
    approved.check_current(entry, house.policy.version, house.now())
    people = house.people()
    check_owner(people, ref.name, people.owners.get(ref.name, release.owner))
    _stated, key_id = statements.open_statement(release.statement, house.registry.keys)
    return Approved(ref, release.digest, release.tier, key_id, entry.counter)


def _floor(house: House, namespace: str, name: str) -> int:
    """The highest place of a model's versions that were let into a namespace, as the ledger tells it; read once."""
    if (namespace, name) not in house.admitted:
        wanted = Filter(action=Action.ARTIFACT_VERIFY.value, model=name, outcome=Outcome.ALLOWED.value)
        with house.ledger.read() as connection:
            facts = [record.event.data for record in told(connection, wanted)]
        here = [one for one in facts if (one.get("stage"), one.get("namespace")) == ("admit", namespace)]
        places = [int(one["place"]) for one in here]
        house.admitted[namespace, name] = max(places, default=0)
    return house.admitted[namespace, name]


def _trust(house: House) -> dict[str, str]:
    """The files of the ConfigMap by which a launcher judges: keys, and the approved list as it is now."""
    versions = house.registry.approved
    files = {
        trust.KEYS: house.keychain.trust_document().decode(),
        trust.ENVIRONMENT: versions.environment,
    }

    def read(name: str, limit: int) -> bytes:
        with (versions.directory / "metadata" / name).open("rb") as file:
            data = file.read(limit + 1)
        files[trust.LIST + name] = data.decode()
        return data

    check(read, [key for key in house.public_keys if key.label == "root"], Pins())
    return files


def _record(house: House, call: Call, asked: Review, ruling: Ruling) -> str:
    """The decision, and for each model that was let in the row of its stage, in one transaction."""
    first = ruling.models[0] if ruling.models else ("", "", "", 0)
    facts: dict[str, Any] = {"operation": asked.operation, "asked_by": asked.user, "uid": asked.uid}
    if ruling.denials:
        facts["reasons"] = [f"{one.code} {one.where}"[:200] for one in ruling.denials[:MAX_REASONS]]
    facts |= {"models": [name for name, *_facts in ruling.models]} if ruling.models else {"why": ruling.why}
    event = event_of(house, call, Action.ADMISSION_DECIDE, asked.title, first[1], **facts)
    if ruling.denials:
        event = replace(event, outcome=Outcome.DENIED, code=ruling.denials[0].code)
    with house.ledger.transaction() as transaction:
        audit_id = transaction.append(event)
        if ruling.allowed:
            for name, digest, key, place in ruling.models:
                stage: dict[str, Any] = {"stage": "admit", "key": key, "object": asked.title}
                stage |= {"namespace": asked.namespace, "place": place}
                transaction.append(event_of(house, call, Action.ARTIFACT_VERIFY, name, digest, **stage))
    if ruling.allowed:
        for name, _digest, _key, place in ruling.models:
            where = asked.namespace, Ref.parse(name).name
            if where in house.admitted:
                house.admitted[where] = max(house.admitted[where], place)
    return audit_id


CLUSTER_VERBS = (
    Verb("admission.review", Action.ADMISSION_DECIDE, admission_review),
    Verb("admission.refused", Action.ADMISSION_DECIDE, admission_refused),
    Verb("k8s.facts", Action.ARTIFACT_READ, cluster_facts),
    Verb("k8s.policy", Action.POSTURE_READ, cluster_policy),
)
