"""What can be read without asking a model: which models there are, and whether this worker is well."""

from __future__ import annotations

from typing import Any

import orjson

from garrison.core.decision import Endpoint
from garrison.core.errors import Refused, Undecided
from garrison.gateway.admission import may_invoke
from garrison.gateway.doors import MODELS, model_asked
from garrison.gateway.exchange import Exchange
from garrison.gateway.record import Record
from garrison.gateway.replies import JSON, TEXT, id_headers
from garrison.gateway.snapshot import Snapshot, SnapshotFile
from garrison.trust.identity import Principal


def show_models(exchange: Exchange, snapshot: Snapshot, principal: Principal, record: Record) -> None:
    """The models that this subject may use, or the one that was asked about. Raises `Refused` GW-MODEL.

    Each has the fields of both vendors' APIs, so both clients read it.
    """

    def may_use(endpoint: Endpoint) -> bool:
        parties = [each for each in (principal.subject, principal.agent) if each is not None]
        return any(
            all(may_invoke(snapshot, party, endpoint, task).allowed for party in parties)
            for task in endpoint.tasks
        )

    record.policy_version = snapshot.policy.version
    target = exchange.head.target if exchange.head is not None else MODELS
    name = model_asked(target)
    if name is None:
        models = [_model(each.name) for each in snapshot.routes.values() if may_use(each)]
        ends = {"first_id": models[0]["id"], "last_id": models[-1]["id"]} if models else {}
        shown: dict[str, Any] = {"object": "list", "data": models, "has_more": False, **ends}
    else:
        endpoint = snapshot.route(name)
        if endpoint is None or not may_use(endpoint):
            raise Refused(
                "GW-MODEL",
                "no model of this name and version is served to you here",
                fix="use one of the names that GET /v1/models lists",
                evidence={"param": "model"},
            )
        shown = _model(name)
    record.complete()
    exchange.send(200, JSON + id_headers(record.request_id), orjson.dumps(shown))


def _model(name: str) -> dict[str, Any]:
    openai = {"id": name, "object": "model", "created": 0, "owned_by": "garrison"}
    return {**openai, "type": "model", "display_name": name, "created_at": "1970-01-01T00:00:00Z"}


def probe(snapshots: SnapshotFile, wall: float, exchange: Exchange, target: str) -> None:
    """Alive: this process answers. Ready: it has a valid snapshot. No detail for strangers."""
    ready = True
    if target in ("/readyz", "/v2/health/ready"):
        try:
            snapshots.current(wall)
        except Undecided:
            ready = False
    exchange.send(200 if ready else 503, TEXT, b"ok\n" if ready else b"no\n")
