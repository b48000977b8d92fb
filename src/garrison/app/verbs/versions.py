"""Verbs that read versions: list, search, compare. What an identity may not read does not exist for it."""

from __future__ import annotations

from typing import Any

from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise, identity_name
from garrison.artifacts import approval, attachments, diff, search, store
from garrison.artifacts.registry import get
from garrison.artifacts.store import Release
from garrison.core.actions import Action
from garrison.core.digest import Ref, check_name
from garrison.core.errors import GarrisonError
from garrison.trust.roles import kind_of


def authorise_read(house: House, call: Call, action: Action, ref: Ref) -> None:
    """Ask before anything is looked up, so that a refusal says nothing about what there is.

    A serving account also has to be asking for a version that stands on the approved list.
    """
    facts = {"state": _state_of(house, ref)} if "serving" in call.subject.roles else {}
    authorise(house, call.subject, action, ref.name, **facts)


def model_list(house: House, call: Call) -> dict[str, Any]:
    """Versions that this identity may read and that the question means."""
    name = call.optional("name")
    question = search.Question(
        states=tuple(call.texts("states")),
        tiers=tuple(call.texts("tiers")),
        owner=identity_name(call.optional("owner") or ""),
        text=call.optional("search") or "",
    )
    search.check(question)
    names = _names(house, call, check_name(name) if name else None)
    owners, known = house.people().owners, approval.readable(house.registry)
    with house.database.read() as connection:
        found = [
            release
            for one in (names if names is not None else [None])
            for release in store.releases(connection, one)
        ]
        licences = house.licences.of(connection) if question.text else {}
    models = []
    for release in found:
        state = approval.standing(house.registry, release, known)
        owner = owners.get(release.ref.name, release.owner)
        if "serving" in call.subject.roles and state != "approved":
            continue
        _, licence = licences.get((release.ref.name, release.ref.version), (0, ""))
        if search.matches(question, release, state, owner, licence):
            models.append({**release.summary(), "state": state, "owner": owner})
    return {"models": models}


def model_diff(house: House, call: Call) -> dict[str, Any]:
    old, new = Ref.parse(call.text("ref")), Ref.parse(call.text("to"))
    for ref in (old, new):
        authorise_read(house, call, Action.ARTIFACT_READ, ref)
    pair = get(house.registry, old), get(house.registry, new)
    owners = house.people().owners
    facts = {
        "state": (_state(house, pair[0]), _state(house, pair[1])),
        "tier": (pair[0].tier.value, pair[1].tier.value),
        "owner": (owners.get(old.name, pair[0].owner), owners.get(new.name, pair[1].owner)),
        "publisher": (pair[0].publisher, pair[1].publisher),
        "source": (pair[0].source, pair[1].source),
    }
    papers = [_papers(house, release) for release in pair]
    both = {kind: (papers[0].get(kind), papers[1].get(kind)) for kind in {*papers[0], *papers[1]}}
    return diff.versions(*pair, both, facts)


def _names(house: House, call: Call, name: str | None) -> list[str] | None:
    """The names to list; None for all of them. Raises `Refused` RBAC-403."""
    subject = call.subject
    facts = {"state": "approved"}  # single versions are held against the list one by one
    if name is not None or not (subject.models or kind_of(subject.roles) == "service"):
        authorise(house, subject, Action.ARTIFACT_READ, name or "registry", **facts)
        return None if name is None else [name]
    for model in subject.models or {"registry"}:
        authorise(house, subject, Action.ARTIFACT_READ, model, **facts)
    return sorted(subject.models)


def _state_of(house: House, ref: Ref) -> str:
    with house.database.read() as connection:
        release = store.find(connection, ref)
    return "" if release is None else _state(house, release)


def _state(house: House, release: Release) -> str:
    try:
        return approval.standing(house.registry, release)
    except GarrisonError as error:
        return error.code


def _papers(house: House, release: Release) -> dict[str, Any]:
    """The newest attachment of each kind, checked."""
    return {
        each.attachment.kind: each.attestation.predicate
        for each in attachments.check(house.registry, release)
    }


VERSION_VERBS = (
    Verb("model.list", Action.ARTIFACT_READ, model_list),
    Verb("model.diff", Action.ARTIFACT_READ, model_diff),
)
