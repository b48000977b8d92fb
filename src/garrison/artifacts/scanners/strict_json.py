"""JSON that means one thing: UTF-8, no duplicate keys, bounded depth, numbers and size."""

from __future__ import annotations

import json
from typing import Any

MAX_JSON = 64 << 20  # the largest tokenizer.json files have about 35 MB
MAX_DEPTH = 64  # real configurations stay under 15
MAX_DIGITS = 400  # a number of more digits is an attack on the parser


class BadJson(ValueError):
    """Not strict JSON; `duplicate` when the reason is a key that stands twice."""

    def __init__(self, message: str, *, duplicate: bool = False) -> None:
        super().__init__(message)
        self.duplicate = duplicate


def parse(data: bytes) -> Any:
    """The value. Raises `BadJson`, which never carries the content itself."""
    if len(data) > MAX_JSON:
        raise BadJson(f"more than {MAX_JSON} bytes")
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_constant, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise BadJson(f"not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise BadJson(f"nested deeper than {MAX_DEPTH}") from error
    except json.JSONDecodeError as error:
        raise BadJson(f"{error.msg} at line {error.lineno}") from error
    if not _shallow(value):
        raise BadJson(f"nested deeper than {MAX_DEPTH}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise BadJson("a key stands twice in one object", duplicate=True)
    return table


def _constant(name: str) -> Any:
    # Python writers put these into real configurations; no reader turns them into code.
    return float(name.replace("Infinity", "inf"))


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise BadJson(f"a number of more than {MAX_DIGITS} digits")
    return int(digits)


def _shallow(value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return True
    return False
