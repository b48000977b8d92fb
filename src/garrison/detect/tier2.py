"""The second tier's words: when another classifier is asked, what it is asked, and which answers can be true.

It runs in a process of its own, without a network, behind a Unix socket (`runtime/servers/text_classifier.py`).
Nothing here does I/O: `tier2_ask.py` carries questions, the inspector says what is in doubt, and `settle` decides.
"""

from __future__ import annotations

import itertools
import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from garrison.detect.base import Direction, Doubt, Opinion, Opinions

LOW, HIGH = 0.10, 0.97  # first-tier scores between which the second is asked: docs/detection.md
BLOCK_AT = 0.80
NAME = "tier2"  # among the detectors that an event calls incomplete
ASK_SECONDS = 2.0  # for a text of up to `ASK_CHARACTERS`, and as long again for each as many more
ASK_CHARACTERS = 4_000
MAX_SECONDS = 30.0
MAX_READINGS = 4  # of one text: as it stands, and decoded; those that the first tier puts highest
MAX_ANSWER = 64 * 1024  # bytes, head included
MAX_LABELS = 64
_EDGE = 1e-6  # probabilities nearer to 0 and 1 say nothing more
# Probability of an attack as log odds, and the score on our scale: even odds block.
PLAIN_WEIGHTS = (0.0, 1.0, 0.0)
PLAIN_ANCHORS = ((-7.0, 0.02), (0.0, BLOCK_AT), (7.0, 0.99))
HARMLESS = frozenset({"benign", "harmless", "safe", "legit", "legitimate", "clean", "negative", "label_0"})
CHANNELS = ("user", "document")


@dataclass(frozen=True, slots=True)
class Guard:
    """How one route judges orders to the model. `observes` lets what would be blocked pass, and tells of it."""

    block_at: float = BLOCK_AT
    low: float = LOW
    high: float = HIGH
    seconds: float = ASK_SECONDS
    observes: bool = False

    def is_grey(self, score: float) -> bool:
        return self.low <= score < self.high

    def seconds_for(self, characters: int) -> float:
        return min(MAX_SECONDS, self.seconds * (1 + characters // ASK_CHARACTERS))


@dataclass(frozen=True, slots=True)
class Scale:
    """Pairs of value and score, both rising. Between them linear, outside of them asymptotic to 0 and 1."""

    pairs: tuple[tuple[float, float], ...]

    def score(self, value: float) -> float:
        (first, lowest), (last, highest) = self.pairs[0], self.pairs[-1]
        if value <= first:
            return lowest * math.exp(value - first)
        if value >= last:
            return 1.0 - (1.0 - highest) * math.exp(last - value)
        at = bisect_right(self.pairs, (value, 2.0))
        (left, low), (right, high) = self.pairs[at - 1], self.pairs[at]
        return low + (high - low) * (value - left) / (right - left)


@dataclass(frozen=True, slots=True)
class Reckoning:
    """How two opinions become one score: `first * odds of the first tier + second * own odds + bias`, on a scale."""

    first: float
    second: float
    bias: float
    anchors: Scale

    def score(self, probability: float, first: float) -> float:
        return self.anchors.score(self.second * odds(probability) + self.first * odds(first) + self.bias)


@dataclass(frozen=True, slots=True)
class Spec:
    """What the configuration of a classifier says: its channels, which outputs and labels, and what its odds mean."""

    channels: tuple[str, ...]
    outputs: Mapping[str, str]  # by channel; empty for the only one
    harmless: tuple[int, ...]
    labels: int
    reckoning: Mapping[str, Reckoning]  # by channel
    low: float = LOW
    high: float = HIGH
    max_tokens: int = 256


def odds(probability: float) -> float:
    """Log odds, bounded."""
    kept = min(1.0 - _EDGE, max(_EDGE, probability))
    return math.log(kept / (1.0 - kept))


def parse_spec(config: Any) -> Spec:
    """From `config.json`. Raises `ValueError` with what is wrong."""
    if not isinstance(config, dict):
        raise ValueError("config.json is not an object")
    labels = _labels(config.get("id2label"))
    named = config.get("garrison.harmless", [])
    harmless = tuple(
        n for n, label in enumerate(labels) if (label in named if named else label.lower() in HARMLESS)
    )
    if not harmless or len(harmless) == len(labels):
        raise ValueError("id2label names no harmless label: say which in garrison.harmless")
    channel = config.get("garrison.channel", "both")
    if channel not in (*CHANNELS, "both"):
        raise ValueError("garrison.channel is user, document or both")
    channels = CHANNELS if channel == "both" else (channel,)
    outputs = config.get("garrison.outputs", {})
    if not isinstance(outputs, dict) or not all(isinstance(name, str) for name in outputs.values()):
        raise ValueError("garrison.outputs names an output for each channel")
    thresholds = config.get("garrison.thresholds", {})
    low, high = _numbers([thresholds.get("low", LOW), thresholds.get("high", HIGH)], 2)
    if not 0.0 < low < high <= 1.0:
        raise ValueError("garrison.thresholds: 0 < low < high <= 1")
    tokens = config.get("garrison.max_tokens", 256)
    if type(tokens) is not int or not 16 <= tokens <= 8_192:
        raise ValueError("garrison.max_tokens is 16 to 8192")
    return Spec(
        channels,
        {name: str(outputs.get(name, "")) for name in channels},
        harmless,
        len(labels),
        {name: _reckoning(config, name) for name in channels},
        low,
        high,
        tokens,
    )


def _labels(named: Any) -> list[str]:
    if not isinstance(named, dict) or not 2 <= len(named) <= MAX_LABELS:
        raise ValueError("id2label does not name 2 or more labels")
    if set(named) != {str(n) for n in range(len(named))}:
        raise ValueError("id2label does not count from 0")
    return [str(named[str(n)]) for n in range(len(named))]


def _numbers(values: Any, count: int) -> list[float]:
    if not isinstance(values, list | tuple) or len(values) != count:
        raise ValueError(f"{count} numbers are needed")
    if not all(type(one) in (int, float) and math.isfinite(one) for one in values):
        raise ValueError("a number is none")
    return [float(one) for one in values]


def _reckoning(config: Mapping[str, Any], channel: str) -> Reckoning:
    weights, anchors = (
        config.get("garrison.weights", PLAIN_WEIGHTS),
        config.get("garrison.anchors", PLAIN_ANCHORS),
    )
    if isinstance(weights, dict):
        weights = weights.get(channel, PLAIN_WEIGHTS)
    if isinstance(anchors, dict):
        anchors = anchors.get(channel, PLAIN_ANCHORS)
    first, second, bias = _numbers(weights, 3)
    return Reckoning(first, second, bias, read_anchors(anchors))


def read_anchors(pairs: Any) -> Scale:
    """From pairs of value and score. Raises `ValueError` when they do not rise."""
    if not isinstance(pairs, list | tuple) or not 2 <= len(pairs) <= 64:
        raise ValueError("garrison.anchors are 2 to 64 pairs")
    rows = [_numbers(pair, 2) for pair in pairs]
    rising = all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(rows))
    if not rising or not rows[0][1] > 0.0 or not rows[-1][1] < 1.0:
        raise ValueError("garrison.anchors rise, with scores between 0 and 1")
    return Scale(tuple((value, score) for value, score in rows))


def question(number: str, direction: Direction, texts: Sequence[str]) -> bytes:
    """One HTTP request; the connection ends with its answer."""
    body = json.dumps({"id": number, "channel": channel_of(direction), "texts": list(texts)}).encode()
    head = f"POST /judge HTTP/1.1\r\nHost: tier2\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def read_answer(data: bytes, number: str, doubt: Doubt, spec: Spec) -> Opinions:
    """What was answered. Raises `ValueError` for what cannot be true, or is not an answer to this question."""
    head, end, body = data.partition(b"\r\n\r\n")
    if len(data) > MAX_ANSWER or not end or not head.startswith(b"HTTP/1.1 200 "):
        raise ValueError("no answer")
    try:
        told = json.loads(body)
    except RecursionError as error:
        raise ValueError("nested") from error
    if not isinstance(told, dict) or told.get("id") != number:
        raise ValueError("the answer to another question")
    rows = told.get("opinions")
    if not isinstance(rows, list) or len(rows) != len(doubt.texts):
        raise ValueError("another number of opinions")
    return tuple(
        _opinion(row, text, first, spec.reckoning[channel_of(doubt.direction)])
        for row, text, first in zip(rows, doubt.texts, doubt.first, strict=True)
    )


def _opinion(row: Any, text: str, first: float, reckoning: Reckoning) -> Opinion:
    if not isinstance(row, list) or len(row) != 3:
        raise ValueError("not an opinion")
    probability, start, end = row
    if type(probability) not in (int, float) or not 0.0 <= probability <= 1.0:  # also false for NaN
        raise ValueError("not a probability")
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(text):
        raise ValueError("not a stretch of the text")
    return Opinion(reckoning.score(probability, first), start, end)


def channel_of(direction: Direction) -> str:
    """`user` or `document`."""
    return "document" if direction is Direction.DOCUMENT else "user"


def tier2_rule(direction: Direction) -> str:
    """The rule id of the second tier in this direction."""
    return f"tier2.{channel_of(direction)}"
