"""A classifier for the second tier out of the registry: an approved version, judged anew at every start."""

from __future__ import annotations

import contextlib
from typing import Any

from garrison.app import tier2
from garrison.app.house import SYSTEM, House
from garrison.artifacts import approval, at_rest, layout
from garrison.artifacts.registry import get
from garrison.core.digest import Manifest, Ref
from garrison.core.errors import GarrisonError
from garrison.trust import approved
from garrison.trust.tree import Sink
from garrison.trust.verify import verify_release


def check(house: House, ref: Ref) -> dict[str, Any]:
    """The facts of a version that may be used now. Raises what `read` raises, and what a stale list does."""
    release = get(house.registry, ref)
    entry = approval.approved_entry(house.registry, release)
    house.registry.approved.current().check_fresh(house.now())
    approved.check_current(entry, house.policy.version, house.now())
    return tier2.facts_of(
        {"model": str(ref), "digest": release.digest}, lambda sink: read(house, str(ref), sink)
    )


def read(house: House, model: str, sink: Sink) -> Manifest:
    """Pour a version out and judge what was poured. Raises `Refused` ART-* and APP-*; the check is an event."""
    ref = Ref.parse(model)
    release = get(house.registry, ref)
    entry = approval.approved_entry(house.registry, release)
    found = layout.with_modes_of(layout.read_back(house.registry, release, sink=sink), release.manifest)
    verified = verify_release(
        manifest=found,
        bundle=release.bundle,
        statement=release.statement,
        keys=house.registry.keys,
        expect=ref,
        approved=entry,
    )
    at_rest.record_verified(house.registry, SYSTEM, verified, "load")
    return found


def standing(house: House, model: str) -> str:
    """What the approved list says of it now; a code when that cannot be told, nothing for a folder."""
    if not model:
        return ""
    with contextlib.suppress(GarrisonError):
        return approval.standing(house.registry, get(house.registry, Ref.parse(model)))
    return "gone"
