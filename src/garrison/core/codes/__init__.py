"""Every refusal code, with the page that `garrison explain CODE` prints: one module an area.

A code is forever: it is never renamed or given another meaning. The documentation test fails when a code
is raised that has no page here, and when a page has no code that raises it.
"""

from __future__ import annotations

from collections.abc import Mapping

from garrison.core.codes import (
    anomaly,
    approvals,
    artifacts,
    cloud,
    cluster,
    database,
    detection,
    edge,
    evidence,
    gateway,
    identity,
    images,
    keys,
    lineage,
    provenance,
    runtime,
    server,
    sinks,
    storage,
)
from garrison.core.codes.code import Code

__all__ = ["CODES", "Code", "merged"]


def merged(*areas: Mapping[str, Code]) -> dict[str, Code]:
    """All areas as one catalogue. Raises ValueError when two of them explain the same code."""
    pages: dict[str, Code] = {}
    for area in areas:
        if twice := sorted(pages.keys() & area.keys()):
            raise ValueError(f"codes with two pages: {', '.join(twice)}")
        pages |= area
    return pages


CODES: dict[str, Code] = merged(
    artifacts.CODES,
    cloud.CODES,
    cluster.CODES,
    approvals.CODES,
    keys.CODES,
    lineage.CODES,
    identity.CODES,
    runtime.CODES,
    gateway.CODES,
    detection.CODES,
    anomaly.CODES,
    evidence.CODES,
    sinks.CODES,
    edge.CODES,
    images.CODES,
    server.CODES,
    database.CODES,
    provenance.CODES,
    storage.CODES,
)
