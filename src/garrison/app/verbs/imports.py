"""Verbs about other registries: import from them, list what came from them, and drift against them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from garrison.app.addresses import certificate_names
from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise, identity_name
from garrison.app.verbs.owner import check_or_claim
from garrison.app.verbs.sources import refuse_public_target
from garrison.artifacts import drift, import_store, imports, papers
from garrison.artifacts.approval import standing
from garrison.artifacts.lineage.files import nowhere
from garrison.artifacts.lineage.imported import Imported, Locator
from garrison.artifacts.lineage.mlflow import Wanted
from garrison.artifacts.lineage.sources import Origin
from garrison.artifacts.registry import get
from garrison.artifacts.release import Publication
from garrison.core.actions import Action
from garrison.core.digest import Ref
from garrison.core.errors import Refused, Usage
from garrison.core.event import format_time
from garrison.runtime.store import routes
from garrison.trust.ca import ensure_ca, issue_server


def import_version(house: House, call: Call) -> dict[str, Any]:
    """Read a source, and publish what it holds as a version or attach what it tells to one."""
    locator = _locator(call)
    if call.optional("attach"):
        return _attach(house, call, locator)
    ref = imports.next_ref(house.registry, call.text("ref"))
    owner = identity_name(call.text("owner"))
    tier = call.tier()
    authorise(house, call.subject, Action.ARTIFACT_IMPORT, ref.name)
    authorise(house, call.subject, Action.ARTIFACT_PUBLISH, ref.name, owner=owner)
    check_or_claim(house, call, ref.name, owner)
    _not_a_route(house, ref)
    refuse_public_target(house)
    if locator.kind in ("dvc", "wandb") and "model" not in locator.place:
        raise Usage(
            "LIN-SOURCE",
            f"{locator} does not say which files are the model",
            fix="add --model PATH, or --attach NAME@VERSION for a version that is published already",
        )
    wanted = Publication(Path(), ref, owner, tier, origin=str(locator))
    read = imports.reader(locator, house.settings.data)
    release, is_new, audit_id, imported = imports.bring(
        house.registry, read, wanted, call.subject, call.progress
    )
    return {
        **release.summary(),
        **_told(imported),
        "unchanged": not is_new,
        "verdict": release.scan["verdict"],
        "audit_id": audit_id,
    }


def _attach(house: House, call: Call, locator: Locator) -> dict[str, Any]:
    ref = Ref.parse(call.text("attach"))
    authorise(house, call.subject, Action.ARTIFACT_IMPORT, ref.name)
    authorise(house, call.subject, Action.ARTIFACT_ATTACH, ref.name)
    imported = imports.reader(locator, house.settings.data)(nowhere)
    release = imports.attachable(house.registry, ref, imported)
    imports.remember(house.registry, ref, release.digest, imported, call.subject)
    audit_id = papers.renew(house.registry, ref, imported.lineage, call.subject)
    return {**release.summary(), **_told(imported), "unchanged": True, "verdict": "", "audit_id": audit_id}


def import_list(house: House, call: Call) -> dict[str, Any]:
    name = call.optional("name")
    authorise(house, call.subject, Action.ARTIFACT_READ, (name or "registry").partition("@")[0])
    return {
        "imports": [
            {
                "ref": str(entry.ref),
                "digest": entry.digest,
                "kind": entry.locator.kind,
                "source": dict(entry.locator.place),
                "imported": format_time(entry.imported),
                "state": standing(house.registry, get(house.registry, entry.ref)),
                "files": len(entry.state.files),
            }
            for entry in imports.find(house.registry, name)
        ]
    }


def drift_check(house: House, call: Call) -> dict[str, Any]:
    """Compare imported versions with their sources. The answer says; it is no error that something drifted."""
    name = call.optional("name")
    authorise(house, call.subject, Action.ARTIFACT_DRIFT, (name or "registry").partition("@")[0])
    checked = drift.check_all(house.registry, house.settings.data, call.subject, name, call.progress)
    if name and not checked:
        raise Usage("LIN-NONE", f"no version of {name} was imported", fix="garrison import list")
    return {
        "schema": "garrison.drift/1",
        "verdict": drift.verdict(checked),
        "versions": [item.as_json() for item in checked],
    }


def webhook_take(house: House, call: Call) -> dict[str, Any]:
    """A webhook whose signature and time were checked: take its id once, or refuse it as a replay."""
    authorise(house, call.subject, Action.WEBHOOK_RECEIVE, call.text("name"))
    delivery = call.text("delivery")
    event = house.event(
        Action.WEBHOOK_RECEIVE,
        call.text("name")[:200],
        delivery=delivery[:100],
        sent=call.text("sent")[:40],
        about=(call.optional("about") or "")[:100],
    )
    with house.ledger.transaction() as transaction:
        if not import_store.take_delivery(transaction.connection, delivery, house.now()):
            raise Refused(
                "HOOK-REPLAY",
                f"the delivery {delivery[:64]!a} was taken before",
                fix="nothing: it was dealt with the first time",
            )
        audit_id = transaction.append(replace(event, actor=call.subject.actor))
    return {"delivery": delivery, "audit_id": audit_id}


def webhook_refused(house: House, call: Call) -> dict[str, Any]:
    """Leave the event of a webhook that the receiver turned away."""
    authorise(house, call.subject, Action.WEBHOOK_RECEIVE, "webhook")
    raise Refused(
        call.text("code")[:20], call.text("why")[:300], fix="garrison explain " + call.text("code")[:20]
    )


def webhook_certificate(house: House, call: Call) -> dict[str, Any]:
    """A certificate of the local authority for the receiver of webhooks; its key is kept nowhere."""
    authorise(house, call.subject, Action.KEY_CREATE, "webhook")  # whoever has it can stand in for this host
    dns, ips = certificate_names(call.text("host"), call.optional("names") or "")
    signer = house.token.signer("ca")
    authority = ensure_ca(house.settings.data / "ca.pem", signer, house.now())
    leaf = issue_server(authority, signer, "garrison webhook", dns=dns, ips=ips, now=house.now())
    house.record(
        house.event(Action.WEBHOOK_RECEIVE, "webhook", certificate_until=format_time(leaf.not_after))
    )
    return {"chain": leaf.chain.decode(), "key": leaf.key.decode()}


def _told(imported: Imported) -> dict[str, Any]:
    lineage = imported.lineage
    return {
        "source": dict(imported.locator.place),
        "from": imported.locator.kind,
        "materials": [material.as_json() for material in lineage.materials],
        "parameters": dict(lineage.parameters),
        "metrics": dict(lineage.metrics),
        "gaps": list(lineage.gaps()),
    }


def _locator(call: Call) -> Locator:
    kind, place = call.text("kind"), dict[str, str]()
    if kind == "mlflow":
        uri = call.text("uri")
        Wanted.parse(uri)
        return Locator(kind, {"uri": uri, "server": str(Origin.parse(call.text("server")))})
    if kind not in ("dvc", "wandb", "hf"):
        raise Usage("LIN-SOURCE", f"{kind[:40]!a} is no source", fix="garrison import --help lists them")
    place = {"path": _absolute(call.body, "path")}
    if kind == "hf":
        place["revision"] = call.optional("revision") or "main"
    elif call.optional("model"):
        place["model"] = call.text("model") if kind == "dvc" else _absolute(call.body, "model")
    return Locator(kind, place)


def _absolute(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise Usage("LIN-SOURCE", f"{key} is not an absolute path", fix="give the directory of the source")
    return value


def _not_a_route(house: House, ref: Ref) -> None:
    with house.database.read() as connection:
        if any(route.name == ref.name for route in routes(connection)):
            raise Refused(
                "ROUTE-TAKEN",
                f"{ref.name} is a route to a model that something else serves",
                fix="give the model a name of its own, so that nobody takes one for the other",
            )


IMPORT_VERBS = (
    Verb("import.version", Action.ARTIFACT_IMPORT, import_version),
    Verb("import.list", Action.ARTIFACT_READ, import_list),
    Verb("drift.check", Action.ARTIFACT_DRIFT, drift_check),
    Verb("webhook.take", Action.WEBHOOK_RECEIVE, webhook_take),
    Verb("webhook.certificate", Action.WEBHOOK_RECEIVE, webhook_certificate),
    Verb("webhook.refused", Action.WEBHOOK_RECEIVE, webhook_refused),
)
