"""`garrison posture --edge`: are the three points that an attack passes measured, and do devices tell of theirs?

Counted from the ledger: a point that no event speaks of is not called instrumented.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from garrison.app.cli import output
from garrison.core.actions import Action
from garrison.evidence import store, views
from garrison.evidence.store import Filter
from garrison.storage.database import open_kept

POINTS = {
    "ingress": ("API ingress", 'garrison_gateway_stage_duration_seconds{stage="ingress"}'),
    "prompt_handling": (
        "prompt handling",
        'garrison_gateway_stage_duration_seconds{stage="prompt_handling"}',
    ),
    "retrieval": ("retrieval", "not in this release: there is no document store"),
}


def measured(data: Path) -> dict[str, Any]:
    """The points with the events that speak of them, and the devices with theirs."""
    with (
        closing(open_kept(data)) as database,
        database.read() as connection,
    ):
        folded = views.fold(views.Facts(), store.find(connection, Filter(action=Action.MODEL_INVOKE.value)))
        told = store.find(connection, Filter(action=Action.EDGE_EVENT.value))
        devices: dict[str, int] = {}
        for record in told:
            name = str(record.event.data.get("site", ""))
            devices[name] = devices.get(name, 0) + 1
    points = [
        {
            "point": what,
            "by": by,
            "events": folded.stages.get(stage, 0),
            "instrumented": stage in folded.stages,
        }
        for stage, (what, by) in POINTS.items()
    ]
    return {"schema": "garrison.instrumented/1", "points": points, "devices": devices}


def show(found: dict[str, Any], *, as_json: bool) -> int:
    """Exit 1 when a point is not measured."""
    points = found["points"]
    count = sum(one["instrumented"] for one in points)
    if as_json:
        output.print_json(found)
    else:
        rows = [
            (one["point"], "yes" if one["instrumented"] else "no", one["events"], one["by"]) for one in points
        ]
        output.print_table(("POINT", "MEASURED", "EVENTS", "BY"), rows, empty="")
        for name, number in sorted(found["devices"].items()):
            output.print_line(output.visible(f"device {name}: {number} events came home"))
        output.print_line(f"{count}/{len(points)} instrumented")
    return 0 if count == len(points) else 1
