"""Verbs about models in cloud services: compare them with the registry, and tell who is responsible for what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise, event_of
from garrison.artifacts import approval, store
from garrison.artifacts.cloud import azureml, judge
from garrison.artifacts.cloud.azureml import Workspace
from garrison.artifacts.cloud.judge import CloudModel, Version
from garrison.artifacts.lineage.remote import Remote
from garrison.artifacts.lineage.sources import Origin, access_to
from garrison.core.actions import Action
from garrison.core.errors import Undecided, Usage
from garrison.evidence.store import Filter
from garrison.evidence.told import told, told_last
from garrison.governance import responsibilities
from garrison.governance.responsibilities import Evidence

SERVICES = ("sagemaker", "azureml")
SPARE_BYTES = 1 << 30  # beside the largest version: what an artifact may hold that does not belong there
MANAGEMENT = "https://management.azure.com"


def check(house: House, call: Call) -> dict[str, Any]:
    """Raises `Refused` CLD-* with every finding, `Undecided` CLD-UNREADABLE when the worst is that."""
    service = call.text("service")
    if service not in SERVICES:
        raise Usage("CLI-USAGE", f"{service[:40]!a} is not a service", fix=f"one of {', '.join(SERVICES)}")
    authorise(house, call.subject, Action.CLOUD_CHECK, service)
    versions = _versions(house)
    most = max((sum(sizes) for sizes in _sizes(house)), default=0) + SPARE_BYTES
    call.progress(f"asking {service}")
    models = _sagemaker(call, most) if service == "sagemaker" else _azureml(house, call, most)
    found = judge.judge(models, versions, _pinned(house))
    error = judge.error_of(found, service)
    if error is not None:
        raise error
    facts: dict[str, Any] = {"models": len(models), "endpoints": sum(len(one.endpoints) for one in models)}
    with house.ledger.transaction() as transaction:
        audit_id = transaction.append(event_of(house, call, Action.CLOUD_CHECK, service, **facts))
    return {
        "schema": "garrison.cloud/1",
        "service": service,
        "models": [
            {"name": one.name, "location": one.location, "endpoints": list(one.endpoints)} for one in models
        ],
        "findings": [],
        "audit_id": audit_id,
    }


def _sagemaker(call: Call, most: int) -> Sequence[CloudModel]:
    try:
        from garrison.artifacts.cloud import sagemaker  # boto3: 0.4 s, and an extra
    except ModuleNotFoundError as error:
        raise Undecided(
            "SRV-EXTRA",
            f"checking SageMaker needs {error.name}, which is not installed",
            fix="pip install 'garrison[aws]'",
        ) from error
    return sagemaker.inspect(call.optional("endpoint") or "", most)


def _azureml(house: House, call: Call, most: int) -> Sequence[CloudModel]:
    parts = call.text("workspace").split("/")
    if len(parts) != 3 or not all(parts):
        raise Usage(
            "CLD-WORKSPACE", "the workspace is not SUBSCRIPTION/GROUP/NAME", fix="--workspace SUB/GROUP/NAME"
        )
    management = Origin.parse(call.optional("endpoint") or MANAGEMENT)
    storage = Origin.parse(call.text("storage"))
    data = house.settings.data
    workspace = Workspace(
        azureml.workspace_path(*parts),
        Remote(management, access_to(management, data)),
        Remote(storage, access_to(storage, data), azureml.STORAGE_HEADERS),
    )
    return azureml.inspect(workspace, most)


def _versions(house: House) -> list[Version]:
    known = approval.readable(house.registry)
    with house.database.read() as connection:
        releases = store.releases(connection)
    return [
        Version(
            str(release.ref),
            release.digest,
            {entry.path: entry.digest for entry in release.manifest},
            approval.standing(house.registry, release, known),
        )
        for release in releases
    ]


def _sizes(house: House) -> list[list[int]]:
    with house.database.read() as connection:
        return [[entry.size for entry in release.manifest] for release in store.releases(connection)]


def _pinned(house: House) -> frozenset[str]:
    with house.ledger.read() as connection:
        found = told(connection, Filter(action=Action.IMAGE_PIN.value, outcome="allowed"))
        return frozenset(record.event.digest for record in found)


def tell(house: House, call: Call) -> dict[str, Any]:
    """Per control: who it is owed by, and what the ledger has to show for it."""
    authorise(house, call.subject, Action.POSTURE_READ, "responsibilities")
    pattern = call.optional("pattern") or "public"
    if pattern not in responsibilities.PATTERNS:
        raise Usage(
            "CLI-USAGE",
            f"{pattern[:40]!a} is not a pattern of deployment",
            fix=f"one of {', '.join(responsibilities.PATTERNS)}",
        )

    with house.ledger.read() as connection:

        def last(action: Action) -> Evidence | None:
            wanted = Filter(action=action.value, outcome="allowed", limit=1)
            found = told_last(connection, wanted)
            return Evidence(found[0].audit_id, found[0].event.time) if found else None

        return responsibilities.report(pattern, last)


CLOUD_VERBS = (
    Verb("cloud.check", Action.CLOUD_CHECK, check),
    Verb("cloud.responsibilities", Action.POSTURE_READ, tell),
)
