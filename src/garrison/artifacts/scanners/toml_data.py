"""TOML files: read by the standard library, then every value judged as configuration, as JSON is."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

from garrison.artifacts.scanners.base import Gap, Seen, Source
from garrison.artifacts.scanners.config_python import judge_environment
from garrison.artifacts.scanners.config_rules import judge_config

MAX_TOML = 1 << 20  # the parser is slow, and the longest lock files have some hundred kilobytes
FIX = "repair the file or leave it out"


class Toml:
    format = "toml"

    def recognises(self, head: bytes, source: Source) -> bool:
        """By name: text has no magic number."""
        return source.name.lower().endswith(".toml") and b"\0" not in head

    def scan(self, source: Source) -> Iterator[Seen]:
        if source.size > MAX_TOML:
            yield Gap("artifact.limit.size", f"more than {MAX_TOML} bytes of TOML", fix=FIX)
            return
        try:
            value = tomllib.loads(source.read_at(0, source.size).decode("utf-8"))
        except (ValueError, RecursionError):
            yield Gap("artifact.toml.syntax", "TOML that is not understood", fix=FIX)
            return
        yield from judge_config(value, source.name)
        yield from judge_environment(value)
        yield from judge_environment(value.get("project"))
