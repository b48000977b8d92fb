"""The verb that sends the escape probe into a sandbox and records what came of it."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from garrison.app.house import House
from garrison.app.parser_cell import ParserCell
from garrison.app.probes import matrix_json
from garrison.app.verbs.base import Call, Verb, authorise, event_of
from garrison.core.actions import Action
from garrison.core.event import Outcome
from garrison.runtime.probe import control, probe
from garrison.runtime.sandboxes.ladder import sandbox_for


def runtime_probe(house: House, call: Call) -> dict[str, Any]:
    """Raises ISO-UNKNOWN and ISO-UNAVAILABLE. The control run needs root."""
    level = call.optional("isolation") or house.settings.isolation
    authorise(house, call.subject, Action.RUNTIME_PROBE, level)
    matrix = probe(ParserCell() if level == "tools" else sandbox_for(level))
    seen = control() if os.geteuid() == 0 and call.flag("control") else None
    facts = matrix.facts() | ({} if seen is None else {"control_open": len(seen.open)})
    event = event_of(house, call, Action.RUNTIME_PROBE, level, **facts)
    if matrix.unwanted:
        event = replace(event, outcome=Outcome.DENIED)
    with house.ledger.transaction() as transaction:
        audit_id = transaction.append(event)
    return {**matrix_json(matrix, seen), "audit_id": audit_id}


RUNTIME_VERBS = (Verb("runtime.probe", Action.RUNTIME_PROBE, runtime_probe),)
