"""A request's JSON, parsed once: duplicate keys and deep nesting are refused.

What goes upstream is always written anew from the parsed value, so that no second parser can read the same
bytes in another way.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from garrison.core.errors import Usage


def parse_object(raw: bytes, depth: int) -> dict[str, Any]:
    """The JSON object in `raw`. Raises `Usage` HTTP-JSON with the reason, never with the content."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _bad(f"the body is not JSON (line {error.lineno}, column {error.colno})") from None
    if not isinstance(value, dict):
        raise _bad("the body is not a JSON object")
    if raw.count(b"{") + raw.count(b"[") > depth:
        _check_depth(value, depth)
    # A value that prints as exactly the bytes it came from had no key twice; only others are read again.
    if orjson.dumps(value) != raw:
        try:
            json.loads(raw, object_pairs_hook=_unique)
        except ValueError:  # such as a number of 5,000 digits
            raise _bad("the body is not JSON that every parser reads alike") from None
    return value


def _check_depth(value: Any, depth: int) -> None:
    level = [value]
    for _ in range(depth):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise _bad(f"the body is nested more than {depth} deep")


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _bad("an object in the body has one key twice")


def _bad(what: str) -> Usage:
    return Usage("HTTP-JSON", what, fix="send one JSON object, each key once")
