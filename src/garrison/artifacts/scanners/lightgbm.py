"""LightGBM's text models: every line has one of the known shapes, and the trees are as long as they say.

Source: `GBDT::SaveModelToString` and `Tree::ToString` of LightGBM 2 to 4.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from garrison.artifacts.scanners.base import Gap, Malformed, Seen, Source, high, shown

MAX_TEXT = 512 << 20
_HEADER = frozenset(
    """
    version num_class num_tree_per_iteration label_index max_feature_idx objective average_output feature_names
    monotone_constraints feature_infos tree_sizes init_score
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
_TREE = frozenset(
    """
    num_leaves num_cat split_feature split_gain threshold decision_type left_child right_child leaf_value
    leaf_weight leaf_count internal_value internal_weight internal_count cat_boundaries cat_threshold is_linear
    leaf_const num_features leaf_features leaf_coeff shrinkage leaf_depth leaf_parent
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
_NUMBERS = re.compile(rb"[-+0-9.eE \tinfa]*\Z", re.IGNORECASE)
_OBJECTIVE = re.compile(r"[a-z_0-9]{1,40}(?: [a-z_]+:[\w.,+-]+| sqrt)*\Z")
_PARAMETER = re.compile(rb"\[[a-z_0-9]{1,60}: [^\n]*\]\Z")
_IMPORTANCE = re.compile(rb"[^\n=]{1,4096}=[-+0-9.eEinf]+\Z")
FIX = "save the model again with LightGBM, or get it again from its author"


class LightGbm:
    format = "lightgbm"

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        return re.match(rb"tree\r?\nversion=v\d", head) is not None

    def scan(self, source: Source) -> Iterator[Seen]:
        if source.size > MAX_TEXT:
            yield Gap("artifact.limit.size", f"more than {MAX_TEXT} bytes of text", fix=FIX)
            return
        data = source.read_at(0, source.size)
        start = data.find(b"\nTree=")
        end = data.find(b"\nend of trees")
        if start < 0 and (end >= 0 or b"\ntree_sizes=" not in data):
            start = end if end >= 0 else len(data)  # a model of no trees
            end = start
        if start < 0 or end < start:
            yield Gap("artifact.lightgbm.cut", "the trees are missing or have no end", fix=FIX)
            return
        sizes: list[int] | None = None
        for line in data[:start].split(b"\n")[1:]:
            key, _, value = line.rstrip(b"\r").partition(b"=")
            if key and key.decode("latin-1") not in _HEADER:
                yield Gap("artifact.lightgbm.line", f"a line that is not understood: {shown(line)}", fix=FIX)
            if key == b"objective" and not _OBJECTIVE.match(value.decode("latin-1")):
                yield high(
                    "artifact.lightgbm.objective", f"an objective that is none: {shown(value)}", fix=FIX
                )
            if key == b"tree_sizes" and _NUMBERS.match(value):
                sizes = [int(word) for word in value.split() if word.isdigit() and len(word) < 16]
        if sizes is not None and b"\r\n" not in data[:256]:
            at = start + 1
            for index, size in enumerate(sizes):
                if not data.startswith(b"Tree=%d\n" % index, at):
                    raise Malformed(
                        "artifact.lightgbm.size", f"tree {index} is not where it is said to be", fix=FIX
                    )
                at += size
        blocks = data[start + 1 : end].split(b"\nTree=") if end > start else []
        for index, block in enumerate(blocks):
            yield from _tree(index, block)
        yield from _rest(data[end + 1 :])


def _tree(index: int, block: bytes) -> Iterator[Seen]:
    values: dict[str, bytes] = {}
    for line in block.split(b"\n")[1:]:
        line = line.rstrip(b"\r")
        if not line:
            continue
        key, _, value = line.partition(b"=")
        name = key.decode("latin-1")
        if name not in _TREE or not _NUMBERS.match(value):
            yield Gap("artifact.lightgbm.line", f"tree {index}: {shown(line)} is not understood", fix=FIX)
        values[name] = value
    leaves = values.get("num_leaves", b"").strip()
    if not leaves.isdigit() or len(leaves) > 9:
        raise Malformed("artifact.lightgbm.tree", f"tree {index} has no number of leaves", fix=FIX)
    count = int(leaves)
    for name, length in (
        ("leaf_value", count),
        ("split_feature", count - 1),
        ("left_child", count - 1),
        ("right_child", count - 1),
    ):
        words = values.get(name, b"").split()
        if len(words) != length and count > 1:
            raise Malformed(
                "artifact.lightgbm.tree", f"tree {index}: {name} has {len(words)} of {length} values", fix=FIX
            )
        if name.endswith("child") and count > 1 and not all(_is_child(word, count) for word in words):
            raise Malformed(
                "artifact.lightgbm.tree", f"tree {index} has a child that does not exist", fix=FIX
            )


def _is_child(word: bytes, leaves: int) -> bool:
    return re.fullmatch(rb"-?\d{1,9}", word) is not None and -leaves <= int(word) < leaves - 1


def _rest(data: bytes) -> Iterator[Seen]:
    """Importances, parameters, and the categories of pandas as JSON."""
    part = b""
    for line in data.split(b"\n")[1:]:
        line = line.rstrip(b"\r")
        if line in (b"feature_importances:", b"feature importances:", b"parameters:", b"end of parameters"):
            part = line
        elif line.startswith((b"pandas_categorical:", b"loaded_parameters:")):
            part = b"json"
        elif line and not (_PARAMETER.match(line) if part == b"parameters:" else _IMPORTANCE.match(line)):
            yield Gap("artifact.lightgbm.line", f"a line that is not understood: {shown(line)}", fix=FIX)
            return
