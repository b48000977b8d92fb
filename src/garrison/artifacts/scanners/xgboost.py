"""XGBoost models: the JSON tree they are, read from JSON or UBJSON, and the older binary form.

Trees index into arrays, and the reader of the library trusts them: counts, children and features are checked
here. Objectives name functions of the library only. Sources: doc/model.schema of XGBoost; the structures
that `Learner::Save` of its 1.x and 2.x releases wrote.
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

from garrison.artifacts.scanners.base import Gap, Malformed, Seen, Source, high, shown
from garrison.artifacts.scanners.config_rules import judge_config
from garrison.artifacts.scanners.sources import Reader
from garrison.artifacts.scanners.ubjson import BadUbj, parse

MAX_UBJ = 1 << 30
MAX_TREES = 1_000_000
MAX_NODES = 1 << 28  # of one tree of the old form
MAX_NAME = 1 << 20
_OBJECTIVE = re.compile(r"[a-z]{2,16}:[a-z0-9_]{2,40}\Z")
_BOOSTERS = (b"gbtree", b"gblinear", b"dart")
_LEARNER = 136  # bytes of LearnerModelParam
_TREE, _NODE, _STATS = 148, 20, 16
FIX = "save the model again as JSON with XGBoost, or get it again from its author"


def judge_xgboost(value: Any) -> Iterator[Seen]:
    """The tree of an XGBoost model; nothing for what is not one."""
    learner = value.get("learner") if isinstance(value, dict) else None
    if not isinstance(learner, dict) or "gradient_booster" not in learner:
        return
    objective = learner.get("objective")
    name = objective.get("name") if isinstance(objective, dict) else None
    if name is not None and not (isinstance(name, str) and _OBJECTIVE.match(name)):
        yield high(
            "artifact.xgboost.objective",
            f"an objective that is none: {shown(name)}",
            ":learner.objective",
            FIX,
        )
    parameters = learner.get("learner_model_param")
    features = _number(parameters.get("num_feature") if isinstance(parameters, dict) else None)
    booster = learner["gradient_booster"]
    if isinstance(booster, dict) and isinstance(booster.get("gbtree"), dict):
        booster = booster["gbtree"]  # dart holds its trees so
    model = booster.get("model") if isinstance(booster, dict) else None
    trees = model.get("trees") if isinstance(model, dict) else None
    if not isinstance(trees, list):
        return
    said = model.get("gbtree_model_param") if isinstance(model, dict) else None
    count = _number(said.get("num_trees")) if isinstance(said, dict) else None
    if count is not None and count != len(trees):
        yield high(
            "artifact.xgboost.count", f"{len(trees)} trees where {count} are announced", ":learner", FIX
        )
    for index, tree in enumerate(trees):
        reason = _bad_tree(tree, features) if isinstance(tree, dict) else "is not an object"
        if reason:
            yield high("artifact.xgboost.tree", f"tree {index} {reason}", f":trees.{index}", FIX)
            return


def _number(value: Any) -> int | None:
    text = str(value)
    return int(text) if re.fullmatch(r"\d{1,18}", text) else None


def _bad_tree(tree: dict[str, Any], features: int | None) -> str:
    left, right, split = (
        _integers(tree.get(key)) for key in ("left_children", "right_children", "split_indices")
    )
    if left is None or right is None or split is None:
        return "has no children or no features"
    size = len(left)
    said = tree.get("tree_param")
    nodes = _number(said.get("num_nodes")) if isinstance(said, dict) else None
    if len(right) != size or len(split) != size or (nodes is not None and nodes != size):
        return "has arrays of different lengths"
    if any(not -1 <= child < size for children in (left, right) for child in children):
        return "has a child that does not exist"
    if features and any(left[node] != -1 and not 0 <= split[node] < features for node in range(size)):
        return "splits on a feature that does not exist"
    return ""


def _integers(value: Any) -> Sequence[int] | None:
    if isinstance(value, array):
        return value if value.typecode not in "fd" else None
    return value if isinstance(value, list) and all(isinstance(item, int) for item in value) else None


class XgboostUbj:
    format = "ubjson"

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        """An object whose first key has a length and is a word."""
        if head[:1] != b"{" or head[1:2] not in (b"i", b"U", b"I", b"l", b"L"):
            return False
        width = {b"i": 1, b"U": 1, b"I": 2, b"l": 4, b"L": 8}[head[1:2]]
        length = int.from_bytes(head[2 : 2 + width], "big")
        return (
            0 < length < 256 and re.fullmatch(rb"[\w.-]+", head[2 + width : 2 + width + length]) is not None
        )

    def scan(self, source: Source) -> Iterator[Seen]:
        if source.size > MAX_UBJ:
            yield Gap("artifact.limit.size", f"more than {MAX_UBJ} bytes of UBJSON", fix=FIX)
            return
        reader = Reader(source)
        try:
            value = parse(reader)
        except BadUbj as error:
            raise Malformed(
                "artifact.ubjson.syntax", f"UBJSON that contradicts itself: {error}", fix=FIX
            ) from error
        if reader.left:
            yield high("artifact.ubjson.trailing", f"{reader.left} bytes follow the value", fix=FIX)
        yield from judge_xgboost(value)
        if isinstance(value, dict):
            yield from judge_config(value, source.name)


class XgboostBinary:
    """`deprecated` binary models: parameters, names, trees of fixed structures, attributes."""

    format = "xgboost"

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        head = head.removeprefix(b"binf")
        length = int.from_bytes(head[_LEARNER : _LEARNER + 8], "little")
        name = head[_LEARNER + 8 : _LEARNER + 8 + length] if length < 64 else b""
        return len(name) == length and re.fullmatch(rb"[a-z]{2,16}:[a-z0-9_]{2,40}", name) is not None

    def scan(self, source: Source) -> Iterator[Seen]:
        reader = Reader(source, 4 if source.read_at(0, 4) == b"binf" else 0)
        learner = reader.take(_LEARNER)
        attributes, metrics = struct.unpack("<ii", learner[12:20])
        objective, booster = _name(reader), _name(reader)
        if booster not in _BOOSTERS:
            raise Malformed("artifact.xgboost.booster", f"a booster that is none: {shown(booster)}", fix=FIX)
        if booster == b"gblinear":
            features, groups = struct.unpack("<Ii", reader.take(136)[:8])
            weights = struct.unpack("<Q", reader.take(8))[0]
            reader.skip(weights * 4)
            del features, groups
        else:
            _trees(reader, is_dart=booster == b"dart")
        if attributes:
            for _ in range(2 * _count(reader)):
                _name(reader)
        if objective == b"count:poisson" and reader.left:
            _name(reader)
        if metrics:
            for _ in range(_count(reader)):
                _name(reader)
        if reader.left:
            yield Gap("artifact.xgboost.trailing", f"{reader.left} bytes follow the model", fix=FIX)


def _count(reader: Reader) -> int:
    count: int = struct.unpack("<Q", reader.take(8))[0]
    if count > MAX_TREES:
        raise Malformed("artifact.xgboost.count", f"{count} entries", fix=FIX)
    return count


def _name(reader: Reader) -> bytes:
    length: int = struct.unpack("<Q", reader.take(8))[0]
    if length > MAX_NAME:
        raise Malformed("artifact.xgboost.count", f"a name of {length} bytes", fix=FIX)
    return reader.take(length)


def _trees(reader: Reader, *, is_dart: bool) -> None:
    (count,) = struct.unpack("<i", reader.take(160)[:4])
    if not 0 <= count <= MAX_TREES:
        raise Malformed("artifact.xgboost.count", f"{count} trees", fix=FIX)
    for _ in range(count):
        _, nodes, _, _, _, vector = struct.unpack("<6i", reader.take(_TREE)[:24])
        if not 0 < nodes <= MAX_NODES:
            raise Malformed("artifact.xgboost.tree", f"a tree of {nodes} nodes", fix=FIX)
        start = reader.offset
        reader.skip(nodes * (_NODE + _STATS))
        for index in range(nodes):
            reader.offset = start + index * _NODE
            _, left, right = struct.unpack("<iii", reader.take(12))
            if not (-1 <= left < nodes and -1 <= right < nodes):
                raise Malformed("artifact.xgboost.tree", "a child that does not exist", fix=FIX)
        reader.offset = start + nodes * (_NODE + _STATS)
        if vector > 1:  # one value a leaf stands in the node itself
            reader.skip(4 * struct.unpack("<Q", reader.take(8))[0])
    reader.skip(4 * count)
    if is_dart and count:
        reader.skip(4 * _count(reader))
