"""Plain values as YAML that every parser reads alike: block style, texts in the quotes of JSON.

A JSON string is a YAML double-quoted scalar, so nothing that a name holds can become structure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# No reader takes these for a number, a boolean, a null, a date, a tag or an indicator.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def dump(documents: Iterable[Mapping[str, Any]]) -> str:
    """Several documents, each with its `---`."""
    return "".join("\n".join(("---", *_block(document, 0), "")) for document in documents)


def _block(value: Any, depth: int) -> Iterator[str]:
    pad = "  " * depth
    if isinstance(value, Mapping):
        for key, inside in value.items():
            yield from _entry(f"{pad}{_scalar(key)}:", inside, depth)
    else:
        for inside in value:
            if isinstance(inside, Mapping) and inside:
                lines = list(_block(inside, depth + 1))
                yield f"{pad}- {lines[0].lstrip()}"
                yield from lines[1:]
            else:
                yield from _entry(f"{pad}-", inside, depth)


def _entry(start: str, value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, Mapping | list | tuple) and value:
        yield start
        yield from _block(value, depth + 1)
    else:
        yield f"{start} {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, list | tuple):
        return "[]"
    return json.dumps(value)
