"""The first tier: how much a text reads like an order to a model, by a linear model with two heads.

`user` judges what a caller writes, `document` what a model will read. Both see hashed n-grams
(`ngrams.py`); a long text is judged in windows, and the worst one counts. A score says how rare it is:
0.80 is reached by 3 in 1,000 harmless texts of sources that the training did not see (docs/detection.md).
The weights are a safetensors file, named by its digest here, and made by `make train`.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from garrison.core.errors import Refused
from garrison.detect.base import Direction, TextFinding
from garrison.detect.ngrams import BITS, buckets, windows
from garrison.detect.normalise import View
from garrison.detect.tier2 import Scale, channel_of, read_anchors

WEIGHTS = "tier1.safetensors"
DIGEST = "4bd96761a31fcabf0a3f526e113077ffbecb7bd920c60aa17ba423c5df9d1b4b"
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
    """Weights and squared rarities, both of shape (2**BITS,), a bias, and what its values mean."""

    name: str
    weights: NDArray[np.float32]
    rarity: NDArray[np.float32]
    bias: float
    anchors: Scale

    def decide(self, text: str) -> float:
        """The decision value of one normalised window: positive means more attack than not."""
        found = buckets(text)
        if not len(found):
            return self.bias
        return self.bias + float(self.weights[found].sum()) / math.sqrt(float(self.rarity[found].sum()))


@dataclass(frozen=True, slots=True)
class Reading:
    """What the first tier makes of a text: its score, its decision value, and (value, start, end) of the
    windows it was read in, one list a size, from the smallest size to the largest."""

    score: float
    value: float
    windows: tuple[list[tuple[float, int, int]], ...]


class Classifier:
    """Both heads, loaded once. Raises `Refused` DLP-WEIGHTS when the file is not the one that was released."""

    def __init__(self, data: bytes | None = None, *, digest: str = DIGEST) -> None:
        stored = released(WEIGHTS, digest) if data is None else data
        if data is not None:
            check(WEIGHTS, data, digest)
        self._heads = _parsed(stored)

    def read(self, text: str, direction: Direction) -> Reading:
        """Read a normalised text in windows; of each size the worst counts, and the mean of those."""
        head = self._heads[channel_of(direction)]
        read = tuple(
            [(head.decide(text[start:end]), start, end) for start, end in windows(text, size)]
            for size in SIZES.get(direction, SIZES[Direction.INPUT])
        )
        value = sum(max(values)[0] for values in read) / len(read)
        return Reading(head.anchors.score(value), value, read)

    def judge(self, view: View, direction: Direction) -> tuple[float, TextFinding | None]:
        """The score of one reading of a text, and the stretch it comes from when that is worth noting."""
        reading = self.read(view.text[:MAX_JUDGED], direction)
        if reading.score < NOTED_FROM:
            return reading.score, None
        _, start, end = max(reading.windows[0])
        span = view.span(start, end)
        return reading.score, TextFinding(
            tier1_rule(direction), "injection", round(reading.score, 4), *span, view.name
        )


def released(name: str, digest: str) -> bytes:
    """A file of the package's weights. Raises `Refused` DLP-WEIGHTS when it is not the one of that digest."""
    data = (files("garrison.detect") / "weights" / name).read_bytes()
    check(name, data, digest)
    return data


def check(name: str, data: bytes, digest: str) -> None:
    if hashlib.sha256(data).hexdigest() != digest:
        raise Refused(
            "DLP-WEIGHTS",
            f"the classifier's weights are not the released ones ({name})",
            fix="install Garrison again; after training, put the printed digest beside the name of the file",
        )


def tier1_rule(direction: Direction) -> str:
    """The rule id of the head that judges in this direction."""
    return f"tier1.{channel_of(direction)}"


def _parsed(data: bytes) -> dict[str, Head]:
    """The safetensors layout, of exactly the shape that `training/train.py` writes; its digest was checked."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    heads = {}
    for name in ("user", "document"):
        weights, rarity = (
            _tensor(data[8 + size :], header[f"{name}.{part}"]) for part in ("weight", "rarity")
        )
        heads[name] = Head(
            name,
            weights,
            rarity**2,
            float(header["__metadata__"][f"{name}.bias"]),
            read_anchors(json.loads(header["__metadata__"][f"{name}.anchors"])),
        )
    return heads


def _tensor(body: bytes, entry: dict[str, list[int]]) -> NDArray[np.float32]:
    start, end = entry["data_offsets"]
    return np.frombuffer(body[start:end], np.float16).astype(np.float32).reshape(1 << BITS)
