"""YAML that means one thing: a recogniser of the part of YAML 1.1/1.2 that configurations are written in.

Understood: block and flow collections, plain, quoted and block scalars, comments, anchors, aliases, merge
keys, tags (named, never obeyed), several documents. Not understood, and said so: complex keys, `%TAG`, tabs
as indentation, anchors on keys. Nothing is constructed but dict, list, str, int, float, bool and None.

Source: YAML 1.2.2. Where 1.1 and 1.2 differ (`yes`, `0o7`) both readings are harmless here.
"""

from __future__ import annotations

import re
from typing import Any

from garrison.artifacts.scanners.yaml_values import (
    MAX_NODES,
    BadYaml,
    documents,
    is_content,
    scalar,
    unquoted,
    weigh,
)

MAX_YAML = 4 << 20  # configurations stay under 100 kB; a parser in Python takes seconds for more
MAX_DEPTH = 48  # real configurations stay under 15
MAX_KEY = 1_024  # YAML's own limit of an implicit key
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff]")
_NAME = re.compile(r"[A-Za-z0-9_-]+")  # what every parser takes for the name of an anchor
_TAG = re.compile(r"!(?:<[^\s>]*>|[^\s,\[\]{}]*)")
_BLOCK = re.compile(r"[|>](?:[1-9][+-]?|[+-][1-9]?)?[ \t]*(?:[ \t]#.*)?\Z")


def parse(data: bytes) -> tuple[list[Any], list[str]]:
    """The documents and every tag in them. Raises `BadYaml` and `AliasBomb`."""
    if len(data) > MAX_YAML:
        raise BadYaml(f"more than {MAX_YAML} bytes")
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadYaml(f"not UTF-8 at byte {error.start}") from error
    if _CONTROL.search(text):
        raise BadYaml("control characters")
    tags: list[str] = []
    values: list[Any] = []
    budget = [MAX_NODES]
    for first, rows in documents(re.split(r"\r\n|\r|\n", text)):
        parser = _Parser(rows, first, tags, budget)
        try:
            values.append(parser.document())
        except RecursionError as error:
            raise BadYaml(f"nested deeper than {MAX_DEPTH}") from error
        weigh(values[-1], {})
    return values, tags


class _Parser:
    """A cursor (row, col) over the rows of one document."""

    def __init__(self, rows: list[str], first: int, tags: list[str], budget: list[int]) -> None:
        self.rows, self.first, self.tags, self.budget = rows, first, tags, budget
        self.row = self.col = 0
        self.anchors: dict[str, Any] = {}

    def bad(self, what: str) -> BadYaml:
        return BadYaml(f"{what} at line {self.first + self.row + 1}")

    def document(self) -> Any:
        self._next_content()
        value = self._block(-1, 0, in_map=False, at_row=True)
        if self.row < len(self.rows):
            raise self.bad("text that belongs to nothing")
        return value

    # --- position ---

    def _rest(self) -> str:
        return self.rows[self.row][self.col :] if self.row < len(self.rows) else ""

    def _spaces(self) -> None:
        row = self.rows[self.row] if self.row < len(self.rows) else ""
        while self.col < len(row) and row[self.col] in " \t":
            self.col += 1

    def _at_end(self) -> bool:
        """Whether only a comment is left on this row."""
        self._spaces()
        rest = self._rest()
        return not rest or (rest[0] == "#" and (self.col == 0 or self.rows[self.row][self.col - 1] in " \t"))

    def _next_content(self) -> None:
        """To the first character of the next row that says something; the current row counts when at its start."""
        while self.row < len(self.rows) and not is_content(self.rows[self.row]):
            self.row += 1
        row = self.rows[self.row] if self.row < len(self.rows) else ""
        self.col = len(row) - len(row.lstrip(" "))
        if row[self.col : self.col + 1] == "\t":
            raise self.bad("a tab as indentation")

    def _end_row(self) -> None:
        if not self._at_end():
            raise self.bad("text behind a value")
        self.row += 1
        self._next_content()

    def _count(self, depth: int) -> None:
        self.budget[0] -= 1
        if self.budget[0] < 0:
            raise BadYaml(f"more than {MAX_NODES} values")
        if depth > MAX_DEPTH:
            raise self.bad(f"nested deeper than {MAX_DEPTH}")

    # --- block style ---

    def _properties(self) -> str:
        """Tags are remembered; the anchor is returned."""
        anchor = ""
        while True:
            self._spaces()
            rest = self._rest()
            if rest[:1] == "!":
                match = _TAG.match(rest)
                self.tags.append(match.group() if match else "!")
                self.col += len(self.tags[-1])
            elif rest[:1] == "&":
                name = _NAME.match(rest, 1)
                if anchor or not name:
                    raise self.bad("an anchor that is not understood")
                anchor = name.group()
                self.col += 1 + len(anchor)
            else:
                return anchor
            if self._rest()[:1] not in ("", " ", "\t", ",", "]", "}"):
                raise self.bad("a tag or an anchor that runs into something")

    def _block(self, parent: int, depth: int, *, in_map: bool, at_row: bool) -> Any:
        """A value more indented than `parent`. `at_row`: it begins its row, so it may be a block collection."""
        self._count(depth)
        self._spaces()
        begin = self.col
        anchor = self._properties()
        tagged = self.col > begin and self._rest()[:1] != ""
        if self._at_end() and self.row < len(self.rows):
            self.row += 1
            self._next_content()
            inside = self.col > parent or (in_map and self.col == parent and self._is_item())
            if self.row >= len(self.rows) or not inside:
                value: Any = None
            else:
                value = self._block(self.col - 1, depth + 1, in_map=False, at_row=True)
        elif _BLOCK.match(self._rest()):
            value = self._literal(parent)
        elif at_row and (self._is_item() or self._key_end() >= 0):
            if tagged and self.col != begin:
                raise self.bad("a tag or an anchor on a key")
            value = self._sequence(depth) if self._is_item() else self._mapping(depth)
        else:
            value = self._inline(parent, depth)
            self._end_row()
        if anchor:
            self.anchors[anchor] = value
        return value

    def _is_item(self) -> bool:
        rest = self._rest()
        return rest[:1] == "-" and rest[1:2] in ("", " ", "\t")

    def _sequence(self, depth: int) -> list[Any]:
        indent, items = self.col, []
        while self.row < len(self.rows) and self.col == indent and self._is_item():
            self.col += 1
            items.append(self._block(indent, depth + 1, in_map=False, at_row=True))
        if self.row < len(self.rows) and self.col > indent:
            raise self.bad("an indentation that belongs to nothing")
        return items

    def _mapping(self, depth: int) -> dict[Any, Any]:
        indent = self.col
        table: dict[Any, Any] = {}
        while self.row < len(self.rows) and self.col == indent:
            end = self._key_end()
            if end < 0 or self._is_item():
                if self._is_item():
                    return table  # an item of the sequence around this mapping
                raise self.bad("a row that is no key")
            key = self._key(end)
            if key in table:
                raise self.bad("a key stands twice")
            table[key] = self._block(indent, depth + 1, in_map=True, at_row=False)
        if self.row < len(self.rows) and self.col > indent:
            raise self.bad("an indentation that belongs to nothing")
        return table

    def _key_end(self) -> int:
        """Column of the colon that ends an implicit key on this row, or -1."""
        row, at = self.rows[self.row], self.col
        if row[at : at + 1] in ("'", '"'):
            try:
                at = self._quote_end(row, at)
            except BadYaml:
                return -1  # a quoted scalar of several rows
            while row[at : at + 1] == " ":
                at += 1
            return at if row[at : at + 1] == ":" and row[at + 1 : at + 2] in ("", " ", "\t") else -1
        if row[at : at + 1] in tuple("[{&*!|>%@`#,") or row[at : at + 2] == "? " or row[at:] == "?":
            return -1
        while at < len(row):
            if row[at] == "#" and at and row[at - 1] in " \t":
                return -1
            if row[at] == ":" and row[at + 1 : at + 2] in ("", " ", "\t"):
                return at
            at += 1
        return -1

    def _key(self, end: int) -> Any:
        text = self.rows[self.row][self.col : end].rstrip()
        if len(text) > MAX_KEY:
            raise self.bad("a key of more than 1,024 characters")
        self.col = end + 1
        if text[:1] in ("'", '"'):
            return unquoted(text)
        return str(text)

    def _quote_end(self, row: str, at: int) -> int:
        quote = row[at]
        at += 1
        while at < len(row):
            if row[at] == "\\" and quote == '"':
                at += 1
            elif row[at] == quote:
                if quote == "'" and row[at + 1 : at + 2] == "'":
                    at += 1
                else:
                    return at + 1
            at += 1
        raise self.bad("a quoted text without an end")

    def _literal(self, parent: int) -> str:
        """A block scalar: every following row that is more indented than its parent."""
        self.row += 1
        lines: list[str] = []
        while self.row < len(self.rows):
            row = self.rows[self.row]
            if row.strip(" ") and len(row) - len(row.lstrip(" ")) <= parent:
                break
            lines.append(row)
            self.row += 1
        self._next_content()
        margin = min((len(line) - len(line.lstrip(" ")) for line in lines if line.strip(" ")), default=0)
        return "\n".join(line[margin:] for line in lines)

    # --- one value: flow collections and scalars ---

    def _inline(self, parent: int, depth: int) -> Any:
        rest = self._rest()
        if rest[:1] in ("[", "{"):
            return self._flow(depth)
        if rest[:1] in ("'", '"'):
            return self._quoted()
        if rest[:1] == "*":
            return self._alias()
        return scalar(self._plain(parent))

    def _alias(self) -> Any:
        name = _NAME.match(self._rest(), 1)
        if not name or name.group() not in self.anchors:
            raise self.bad("an alias of nothing")
        self.col += 1 + len(name.group())
        return self.anchors[name.group()]

    def _plain(self, parent: int) -> str:
        parts = [self._plain_row()]
        while self._at_end() and self.row + 1 < len(self.rows) and not self._rest():
            following = self.rows[self.row + 1]
            indent = len(following) - len(following.lstrip(" "))
            if not is_content(following) or indent <= parent:
                break
            self.row, self.col = self.row + 1, indent
            parts.append(self._plain_row(first=False))
        return " ".join(parts)

    def _plain_row(self, *, first: bool = True) -> str:
        row, start = self.rows[self.row], self.col
        head = row[start : start + 1]
        if first and (
            head in tuple("&*!|>%@`#,]}[{'\"") or (head in "-?:" and row[start + 1 : start + 2] in ("", " "))
        ):
            raise self.bad("a value that is not understood")
        at = start
        while at < len(row) and not (row[at] == "#" and at > start and row[at - 1] in " \t"):
            if row[at] == ":" and row[at + 1 : at + 2] in ("", " ", "\t"):
                raise self.bad("a key inside a value")
            at += 1
        text = row[start:at].rstrip()
        self.col = at if at < len(row) else len(row)
        return text

    def _quoted(self) -> str:
        start, text = self.row, self.rows[self.row][self.col :]
        while True:
            try:
                end = self._quote_end(text, 0)
                break
            except BadYaml:
                self.row += 1
                if self.row >= len(self.rows):
                    self.row = start
                    raise
                text += " " + self.rows[self.row].strip(" \t")
                self.col = 0
        behind = len(text) - end
        self.col = (
            len(self.rows[self.row].rstrip(" \t") if self.row > start else self.rows[self.row]) - behind
        )
        return unquoted(text[:end])

    def _flow(self, depth: int) -> Any:
        self._count(depth)
        is_map = self._rest()[0] == "{"
        self.col += 1
        table: dict[Any, Any] = {}
        items: list[Any] = []
        while True:
            self._flow_space()
            head = self._rest()[:1]
            if head == ("}" if is_map else "]"):
                self.col += 1
                return table if is_map else items
            key = self._flow_value(depth)
            self._flow_space()
            value, paired = None, self._rest()[:1] == ":"
            if paired:
                self.col += 1
                self._flow_space()
                value = self._flow_value(depth) if self._rest()[:1] not in (",", "}", "]") else None
                self._flow_space()
            if (is_map or paired) and isinstance(key, dict | list):
                raise self.bad("a key that is a collection")
            if is_map and str(key) in table:
                raise self.bad("a key stands twice")
            if is_map:
                table[str(key)] = value
            else:
                items.append({str(key): value} if paired else key)
            if self._rest()[:1] == ",":
                self.col += 1
            elif self._rest()[:1] != ("}" if is_map else "]"):
                raise self.bad("a flow collection without an end")

    def _flow_space(self) -> None:
        while self._at_end():
            self.row, self.col = self.row + 1, 0
            if self.row >= len(self.rows):
                raise self.bad("a flow collection without an end")

    def _flow_value(self, depth: int) -> Any:
        self._count(depth + 1)
        anchor = self._properties()
        self._flow_space()
        head = self._rest()[:1]
        if head in ("[", "{"):
            value: Any = self._flow(depth + 1)
        elif head in ("'", '"'):
            value = self._quoted()
        elif head == "*":
            value = self._alias()
        elif head in (",", "]", "}"):
            if self._rest()[:1] == head and self.rows[self.row][: self.col].rstrip()[-1:] in (",", "["):
                raise self.bad("an empty entry")
            value = None
        else:
            value = scalar(self._flow_plain())
        if anchor:
            self.anchors[anchor] = value
        return value

    def _flow_plain(self) -> str:
        row, start = self.rows[self.row], self.col
        if row[start] in "%@`#|>":
            raise self.bad("a value that is not understood")
        at = start
        while at < len(row) and row[at] not in ",[]{}":
            if row[at] == ":" and row[at + 1 : at + 2] in ("", " ", "\t", ",", "[", "]", "{", "}"):
                break
            if row[at] == "#" and row[at - 1] in " \t":
                break
            at += 1
        if at == start:
            raise self.bad("a value that is not understood")
        self.col = at
        return row[start:at].rstrip()
