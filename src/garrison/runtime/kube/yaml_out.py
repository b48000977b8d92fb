"""Plain values as YAML that every parser reads alike: block style, every text that is no plain word in quotes.

Nothing that a name holds can become structure: outside of the quotes there are plain words alone.
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
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(value: str) -> str:
    """A double-quoted scalar in ASCII. YAML spells what is beyond 16 bits in one escape, JSON in two."""
    return f'"{"".join(map(_character, value))}"'


def _character(one: str) -> str:
    if " " <= one <= "~":
        return f"\\{one}" if one in '"\\' else one
    number = ord(one)
    return (
        f"\\x{number:02x}"
        if number < 0x100
        else f"\\u{number:04x}"
        if number < 0x10000
        else f"\\U{number:08x}"
    )
