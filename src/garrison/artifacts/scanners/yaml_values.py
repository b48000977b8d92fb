"""The small parts of YAML: documents, scalars, escapes, and how much aliases expand to."""

from __future__ import annotations

import re
from typing import Any

MAX_NODES = 200_000  # after aliases are expanded; more than this is an alias bomb or data, not configuration
_MARK = re.compile(r"(?:---|\.\.\.)(?:\s|\Z)")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]{0,400})\Z")
_FLOAT = re.compile(
    r"[-+]?(?:[0-9]{1,400}\.[0-9]{0,400}|\.[0-9]{1,400}|[0-9]{1,400})(?:[eE][-+]?[0-9]{1,4})?\Z"
)
_WORDS = {"": None, "~": None, "null": None, "true": True, "yes": True, "on": True}
_WORDS |= {"false": False, "no": False, "off": False}


class BadYaml(ValueError):
    """Not YAML, or a part of it that is not understood. Carries the line and never the content."""


class AliasBomb(ValueError):
    """Aliases expand to more values than any configuration has."""


def documents(rows: list[str]) -> list[tuple[int, list[str]]]:
    """Rows split at the document marks, which may stand nowhere else in column 0."""
    found: list[tuple[int, list[str]]] = [(0, [])]
    for number, row in enumerate(rows):
        if _MARK.match(row):
            if row.startswith("...") and row[3:].strip() and not row[3:].lstrip().startswith("#"):
                raise BadYaml(f"text behind the end of a document at line {number + 1}")
            found.append((number, ["   " + row[3:] if row[0] == "-" else ""]))
        elif row.startswith("%") and not any(line.strip() for line in found[-1][1]):
            if not row.startswith("%YAML "):
                raise BadYaml(f"a directive at line {number + 1}")
            found[-1][1].append("")
        else:
            found[-1][1].append(row)
    return [(first, body) for first, body in found if any(is_content(row) for row in body)]


def is_content(row: str) -> bool:
    row = row.strip(" \t")
    return bool(row) and row[0] != "#"


def weigh(value: Any, known: dict[int, int]) -> int:
    """How many values there are when every alias is followed."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        children = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(weigh(child, known) for child in children)
        if known[id(value)] > MAX_NODES:
            raise AliasBomb(f"aliases expand to more than {MAX_NODES} values")
    return known[id(value)]


def scalar(text: str) -> Any:
    """What a plain scalar means."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INT.match(text):
        return int(text.replace("_", "")) if text.strip("+-_") else text
    return float(text) if _FLOAT.match(text) else text


_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_SIMPLE = {
    "0": "\0",
    "a": "\a",
    "b": "\b",
    "t": "\t",
    "n": "\n",
    "v": "\v",
    "f": "\f",
    "r": "\r",
    "e": "\x1b",
}


def unquoted(text: str) -> str:
    """The text of a quoted scalar."""
    if text[0] == "'":
        return text[1:-1].replace("''", "'")

    def one(match: re.Match[str]) -> str:
        code = match.group(1)
        if len(code) > 1:
            number = int(code[1:], 16)
            return chr(number) if number < 0x110000 else "\ufffd"
        return _SIMPLE.get(code, code)

    return _ESCAPE.sub(one, text[1:-1])
