"""A detector that gives an opinion on a reading is believed only when it answers, and answers something possible.

One that raises, or whose score or place cannot be, has *failed*: not "nothing found". Who asked decides what then.
"""

from __future__ import annotations

import math
from typing import Protocol

from garrison.core.errors import Undecided
from garrison.detect.base import Direction, TextFinding
from garrison.detect.normalise import View

KINDS = ("injection", "jailbreak")


class Judge(Protocol):
    """`Classifier`, or another that scores a reading of a text between 0 and 1."""

    def judge(self, view: View, direction: Direction) -> tuple[float, TextFinding | None]:
        """The score, and the finding when there is one."""


def heard(
    judge: Judge, view: View, direction: Direction, size: int
) -> tuple[float, TextFinding | None] | None:
    """What a judge says of one reading of a text of `size` code points; None when it failed or said what cannot be."""
    try:
        score, finding = judge.judge(view, direction)
        return (score, finding) if _can_be(score, finding, size) else None
    except Exception:  # noqa: BLE001 - the boundary of a detector: its crash is an answer, "could not tell"
        return None


def undecided(names: tuple[str, ...]) -> Undecided:
    return Undecided(
        "PRM-UNDECIDED",
        f"the text could not be inspected: {', '.join(names)} failed",
        fix="nothing was passed on; an operator looks at garrison doctor, or says --unsure pass for the route",
        evidence={"detectors": list(names)},
    )


def _can_be(score: float, finding: TextFinding | None, size: int) -> bool:
    if not (math.isfinite(score) and 0.0 <= score <= 1.0):  # `isfinite` raises for what is no number
        return False
    if finding is None:
        return True
    return 0 <= finding.start < finding.end <= size and finding.kind in KINDS and 0.0 <= finding.score <= 1.0
