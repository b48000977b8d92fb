"""JSON files: strict syntax, then every value judged as configuration that somebody's loader will obey."""

from __future__ import annotations

import re
from collections.abc import Iterator

from garrison.artifacts.scanners.base import Gap, Malformed, Seen, Source
from garrison.artifacts.scanners.config_rules import judge_config
from garrison.artifacts.scanners.keras_config import KERAS_OBJECT, is_document, judge_keras
from garrison.artifacts.scanners.strict_json import MAX_JSON, BadJson, parse
from garrison.artifacts.scanners.xgboost import judge_xgboost
from garrison.core.finding import Finding

_LINES = re.compile(r".*\.(?:jsonl|ndjson)\Z", re.IGNORECASE)
MAX_ROWS = 200_000  # larger tables are data, and have formats of their own
_BEGINS = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\{\s*[\"}]|\[\s*[\"\[\]{\dtfn-])")


def _rows(source: Source) -> Iterator[Seen]:
    """JSON Lines: each line is a document of its own."""
    rows = source.read_at(0, source.size).split(b"\n")
    if len(rows) > MAX_ROWS:
        yield Gap("artifact.limit.count", f"more than {MAX_ROWS} lines of JSON", fix="split the file")
        return
    for number, row in enumerate(rows, 1):
        try:
            value = parse(row) if row.strip() else None
        except BadJson as error:
            message = f"line {number} is not strict JSON: {error}"
            yield Gap("artifact.json.syntax", message, fix="repair the file or leave it out")
            return
        yield from judge_config(value, source.name)


class Json:
    format = "json"

    def recognises(self, head: bytes, source: Source) -> bool:
        return (
            source.name.endswith(".json")
            or _LINES.match(source.name) is not None
            or _BEGINS.match(head) is not None
        )

    def scan(self, source: Source) -> Iterator[Seen]:
        if source.size > MAX_JSON:
            yield Gap("artifact.limit.size", f"more than {MAX_JSON} bytes of JSON", fix="split the file")
            return
        if _LINES.match(source.name):
            yield from _rows(source)
            return
        try:
            value = parse(source.read_at(0, source.size).removeprefix(b"\xef\xbb\xbf"))
        except BadJson as error:
            if error.duplicate:
                raise Malformed("artifact.json.duplicate", str(error)) from error
            yield Gap(
                "artifact.json.syntax", f"not strict JSON: {error}", fix="repair the file or leave it out"
            )
            return
        if is_document(value):
            yield from judge_keras(value, is_model=True)
        # In a Keras model its own judgement has said what the rule for single objects would repeat.
        for seen in judge_config(value, source.name):
            if not (is_document(value) and isinstance(seen, Finding) and seen.rule_id == KERAS_OBJECT):
                yield seen
        yield from judge_xgboost(value)
