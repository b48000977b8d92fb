"""JSON as a security document: one reading only. Sizes, duplicate keys and odd numbers are refused."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def loads(data: bytes, max_bytes: int) -> Any:
    """Parse UTF-8 JSON of at most `max_bytes`.

    Raises ValueError for anything longer, nested deeper than the interpreter follows, not UTF-8, or with
    a repeated key (RFC 8259 section 4 leaves its meaning open), NaN, an infinity or a lone surrogate.
    """
    if len(data) > max_bytes:
        raise ValueError(f"{len(data):,} bytes are more than {max_bytes:,}")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
        if b"\\u" in data:  # only an escape can spell half a surrogate pair
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeError:
        raise ValueError("not UTF-8") from None
    return value


def exactly(value: Any, *fields: str) -> dict[str, Any]:
    """An object with these fields and no others. Raises ValueError."""
    if not isinstance(value, dict) or set(value) != set(fields):
        found = sorted(value)[:20] if isinstance(value, dict) else type(value).__name__
        raise ValueError(f"expected an object with exactly {', '.join(sorted(fields))}, found {found!a}")
    return value


def text(value: Any, max_length: int) -> str:
    """A string of at most `max_length` characters. Raises ValueError."""
    if not isinstance(value, str) or len(value) > max_length:
        raise ValueError(f"expected a string of at most {max_length} characters")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
