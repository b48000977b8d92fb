"""Texts in doubt, settled before anything of a request leaves: asked all at once, the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from garrison.detect.base import Doubt, Opinions, Outcome
from garrison.detect.tier2_ask import Asker
from garrison.gateway.admission import blocked, note
from garrison.gateway.record import Record


async def settle(asker: Asker | None, record: Record) -> None:
    """Ask about every text that `admit` left in doubt, and hear what is said.

    Raises `Refused` PRM-INJECT, or `Undecided` PRM-UNDECIDED without an answer, unless the route tolerates that.
    """
    doubts, record.doubts = record.doubts, []
    # A task of its own: when the client leaves, it ends with all that it began.
    answers = await asyncio.get_running_loop().create_task(_all(asker, [doubt for doubt, _ in doubts]))
    for (doubt, excepted), opinions in zip(doubts, answers, strict=True):
        inspection = doubt.settle(opinions)
        note(record, inspection, excepted)
        if inspection.verdict is Outcome.BLOCK:
            raise blocked(inspection)


async def _all(asker: Asker | None, doubts: Sequence[Doubt]) -> list[Opinions | None]:
    if asker is None:
        return [None] * len(doubts)
    return list(await asyncio.gather(*(asker.ask(doubt) for doubt in doubts)))
