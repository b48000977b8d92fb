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

_BEGINS = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\{\s*[\"}]|\[\s*[\"\[\]{\dtfn-])")


class Json:
    format = "json"

    def recognises(self, head: bytes, source: Source) -> bool:
        return source.name.endswith(".json") or _BEGINS.match(head) is not None

    def scan(self, source: Source) -> Iterator[Seen]:
        if source.size > MAX_JSON:
            yield Gap("artifact.limit.size", f"more than {MAX_JSON} bytes of JSON", fix="split the file")
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
