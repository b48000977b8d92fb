"""Who is responsible for which control, by pattern of deployment, and what there is to show for it.

Three parties: the `provider` of the platform, `you`, and `garrison` where it does the work on your behalf. What
Garrison does for you stays yours to answer for. Evidence is the newest event of the control in the ledger; a
control of yours without any is owed, and is told so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from garrison.core.actions import Action
from garrison.core.event import format_time

PATTERNS = ("public", "private", "hybrid", "edge")
PROVIDER, YOU, BOTH = "provider", "you", "provider and you"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The newest event that shows a control at work."""

    audit_id: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Control:
    """`owed` says by whom in each pattern, in the order of PATTERNS; `by` are the actions that show it at work."""

    name: str
    what: str
    owed: tuple[str, str, str, str]
    by: tuple[Action, ...] = ()
    command: str = ""


CONTROLS = (
    Control("hardware", "buildings, power, disks, destroyed at their end", (PROVIDER, YOU, BOTH, YOU)),
    Control("hypervisor", "one tenant's machines cannot reach another's", (PROVIDER, YOU, BOTH, YOU)),
    Control("patches", "operating systems and runtimes without known holes", (BOTH, YOU, BOTH, YOU)),
    Control(
        "artifact integrity",
        "what loads is what was approved, to the byte",
        (YOU, YOU, YOU, YOU),
        (Action.ARTIFACT_VERIFY, Action.RUNTIME_LOAD),
        "garrison store verify",
    ),
    Control(
        "artifact origin",
        "versions are signed by a key that never leaves its token",
        (YOU, YOU, YOU, YOU),
        (Action.ARTIFACT_SIGN, Action.ARTIFACT_PUBLISH),
        "garrison model publish DIR --as NAME@VERSION",
    ),
    Control(
        "release approval",
        "another person approves what serves",
        (YOU, YOU, YOU, YOU),
        (Action.ARTIFACT_APPROVE,),
        "garrison approve NAME@VERSION",
    ),
    Control(
        "models in the cloud",
        "what the service runs is what the registry has",
        (YOU, "nobody", YOU, "nobody"),
        (Action.CLOUD_CHECK,),
        "garrison cloud check sagemaker",
    ),
    Control(
        "storage of models",
        "encrypted, closed to others, versions kept",
        (BOTH, YOU, BOTH, YOU),
        (Action.STORE_READ, Action.STORE_WRITE),
        "garrison store check",
    ),
    Control(
        "isolation of model servers",
        "a hostile model reaches nothing",
        (BOTH, YOU, BOTH, YOU),
        (Action.RUNTIME_PROBE,),
        "garrison runtime probe",
    ),
    Control(
        "access to models",
        "every request is authenticated, limited and recorded",
        (YOU, YOU, YOU, YOU),
        (Action.TOKEN_ISSUE, Action.MODEL_INVOKE),
        "garrison gateway selftest --anon",
    ),
    Control(
        "prompts and answers",
        "what goes in and comes out is inspected and masked",
        (YOU, YOU, YOU, YOU),
        (Action.MODEL_INVOKE,),
        "garrison posture",
    ),
    Control(
        "identities",
        "people and services, their roles, their end",
        (YOU, YOU, YOU, YOU),
        (Action.USER_WRITE,),
        "garrison user list",
    ),
    Control(
        "signing keys",
        "in a token, rotated, revocable",
        (BOTH, YOU, BOTH, YOU),
        (Action.KEY_CREATE, Action.KEY_ROTATE, Action.ARTIFACT_SIGN),
        "garrison key list",
    ),
    Control(
        "audit",
        "a record that nobody can change unnoticed, kept elsewhere too",
        (YOU, YOU, YOU, YOU),
        (Action.AUDIT_VERIFY, Action.AUDIT_EXPORT),
        "garrison audit export --format ocsf",
    ),
    Control(
        "offline devices",
        "bundles that end; events that come home",
        ("nobody", "nobody", "nobody", YOU),
        (Action.EDGE_BUILD, Action.EDGE_IMPORT, Action.EDGE_RUN),
        "garrison edge build NAME@VERSION --site SITE",
    ),
)


def report(pattern: str, last: Callable[[Action], Evidence | None]) -> dict[str, Any]:
    """Every control of a pattern. `state` is shown, owed, or the provider's: ask for its attestation."""
    place = PATTERNS.index(pattern)
    rows = [
        _row(control, control.owed[place], last) for control in CONTROLS if control.owed[place] != "nobody"
    ]
    return {
        "schema": "garrison.responsibilities/1",
        "pattern": pattern,
        "controls": rows,
        "owed": sum(row["state"] == "owed" for row in rows),
    }


def _row(control: Control, owed: str, last: Callable[[Action], Evidence | None]) -> dict[str, Any]:
    found = [(action, evidence) for action in control.by if (evidence := last(action)) is not None]
    newest = max(found, key=lambda one: one[1].time, default=None)
    state = "provider" if owed == PROVIDER else "shown" if newest is not None else "owed"
    return {
        "control": control.name,
        "what": control.what,
        "responsible": owed,
        "garrison": bool(control.by) and owed != PROVIDER,
        "state": state,
        "evidence": ""
        if newest is None
        else f"{newest[1].audit_id} {newest[0].value} {format_time(newest[1].time)}",
        "next": _next(control, owed, state),
    }


def _next(control: Control, owed: str, state: str) -> str:
    if state == "shown":
        return ""
    if owed == PROVIDER:
        return "ask the provider for its attestation (SOC 2, ISO 27001) and keep it with your evidence"
    return control.command or "name who does it and keep their evidence: Garrison does not see it"
