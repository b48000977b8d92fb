"""The first tier: how much a text reads like an order to a model, by a linear model with two heads.

`user` judges what a caller writes, `document` what a model will read. Both see hashed n-grams
(`ngrams.py`); a long text is judged in windows, and the worst one counts. A score says how rare it is:
0.80 is reached by 3 in 1,000 harmless texts of sources that the training did not see (docs/detection.md).
The weights are a safetensors file, named by its digest here, and made by `make train`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from garrison.core.errors import Refused
from garrison.detect.base import Direction, TextFinding
from garrison.detect.ngrams import BITS, buckets, windows
from garrison.detect.normalise import View

WEIGHTS = "tier1.safetensors"
DIGEST = "611238e6ae3ac7b1724da82948b88cf6bc1fa93d203a0e575bba243a5453c89a"
# Named in the model card; a figure on texts of these is a memory, not a measurement.
FAMILIES = frozenset(
    {"s-labs", "gpteacher", "llmail-inject", "neuralchemy", "oubliette", "yanismiraoui", "in-the-wild",
     "protectai", "pyrit-templates", "pypi-docs"}
)  # fmt: skip
NOTED_FROM = 0.60  # reached by one in a hundred harmless texts; the score itself is always given
MAX_JUDGED = 100_000  # characters of one text; the rest is for the signatures, and documents come in parts
# Sizes in which a text is read. An order may fill a message or hide in two lines of a page.
SIZES = {Direction.INPUT: (1_200,), Direction.DOCUMENT: (300, 1_200)}


@dataclass(frozen=True, slots=True)
class Head:
    """Weights of shape (2**BITS,), a bias, and the anchors (decision value, score) in ascending order."""

    name: str
    weights: NDArray[np.float32]
    bias: float
    values: NDArray[np.float64]
    scores: NDArray[np.float64]

    def decide(self, text: str) -> float:
        """The decision value of one normalised window: positive means more attack than not."""
        found = buckets(text)
        return (
            self.bias if not len(found) else self.bias + float(self.weights[found].sum()) / len(found) ** 0.5
        )

    def score(self, value: float) -> float:
        """From 0 to 1, strictly rising: between the anchors linear, outside of them asymptotic."""
        if value <= self.values[0]:
            return float(self.scores[0] * np.exp(value - self.values[0]))
        if value >= self.values[-1]:
            return float(1.0 - (1.0 - self.scores[-1]) * np.exp(self.values[-1] - value))
        return float(np.interp(value, self.values, self.scores))


class Classifier:
    """Both heads, loaded once. Raises `Refused` DLP-WEIGHTS when the file is not the one that was released."""

    def __init__(self, data: bytes | None = None, *, digest: str = DIGEST) -> None:
        stored = (files("garrison.detect") / "weights" / WEIGHTS).read_bytes() if data is None else data
        if hashlib.sha256(stored).hexdigest() != digest:
            raise Refused(
                "DLP-WEIGHTS",
                f"the classifier's weights are not the released ones ({WEIGHTS})",
                fix="install Garrison again; after make train, put the printed digest into detect/classifier.py",
            )
        self._heads = _parsed(stored)

    def judge(self, view: View, direction: Direction) -> tuple[float, TextFinding | None]:
        """The score of one reading of a text, and the stretch it comes from when that is worth noting."""
        head = self._heads[_head(direction)]
        text = view.text[:MAX_JUDGED]
        totals, worst = 0.0, (0, len(text))
        for size in SIZES.get(direction, SIZES[Direction.INPUT]):
            values = [(head.decide(text[start:end]), start, end) for start, end in windows(text, size)]
            value, start, end = max(values)
            totals += value
            if size == min(SIZES[direction]):
                worst = start, end
        score = head.score(totals / len(SIZES[direction]))
        if score < NOTED_FROM:
            return score, None
        span = view.span(*worst)
        return score, TextFinding(f"tier1.{head.name}", "injection", round(score, 4), *span, view.name)


def tier1_rule(direction: Direction) -> str:
    """The rule id of the head that judges in this direction."""
    return f"tier1.{_head(direction)}"


def _head(direction: Direction) -> str:
    return "document" if direction is Direction.DOCUMENT else "user"


def _parsed(data: bytes) -> dict[str, Head]:
    """The safetensors layout, of exactly the shape that `training/train.py` writes; its digest was checked."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    heads = {}
    for name in ("user", "document"):
        start, end = header[f"{name}.weight"]["data_offsets"]
        weights = np.frombuffer(data[8 + size + start : 8 + size + end], np.float16).astype(np.float32)
        anchors = json.loads(header["__metadata__"][f"{name}.anchors"])
        heads[name] = Head(
            name,
            weights.reshape(1 << BITS),
            float(header["__metadata__"][f"{name}.bias"]),
            np.array([value for value, _ in anchors]),
            np.array([score for _, score in anchors]),
        )
    return heads
