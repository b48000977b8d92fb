"""Protocol buffers as text: a strict reader without a schema. It makes a tree of fields, and judges nothing.

Source: the text format language specification. Extensions and `Any` (names in brackets) are not understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_DEPTH = 64
MAX_FIELDS = 2_000_000
_TOKEN = re.compile(
    r"""(?P<space>(?:[ \t\r\n\f\v]++|\#[^\n]*+)++)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?[fF]?|\.[0-9]+(?:[eE][-+]?[0-9]+)?[fF]?))
    |(?P<text>"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*')
    |(?P<sign>[-{}<>\[\]:,;])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([abfnrtv\\'\"?])|.)",
    re.DOTALL,
)
_PLAIN = dict(zip("abfnrtv\\'\"?", "\a\b\f\n\r\t\v\\'\"?", strict=True))
_CLOSES = {"{": "}", "<": ">"}


class BadText(Exception):
    """Not what the specification calls text."""


@dataclass(frozen=True, slots=True)
class Item:
    """One field: a number or word as it stands there, bytes of a text, or the fields of a message."""

    name: str
    value: str | bytes | list[Item]


@dataclass(slots=True)
class _Tokens:
    text: str
    at: int = 0
    kind: str = ""
    value: str = ""
    count: int = 0

    def step(self) -> None:
        while True:
            if self.at >= len(self.text):
                self.kind = self.value = ""
                return
            found = _TOKEN.match(self.text, self.at)
            if found is None:
                line = self.text.count("\n", 0, self.at) + 1
                raise BadText(f"a character in line {line} that cannot stand there")
            self.at = found.end()
            self.kind, self.value = found.lastgroup or "", found.group()
            if self.kind != "space":
                return

    def take(self, *signs: str) -> bool:
        if self.kind == "sign" and self.value in signs:
            self.step()
            return True
        return False


def parse(text: str) -> list[Item]:
    tokens = _Tokens(text)
    tokens.step()
    items = list(_fields(tokens, "", 0))
    if tokens.kind:
        raise BadText(f"{tokens.value[:20]!r} behind the last field")
    return items


def _fields(tokens: _Tokens, end: str, depth: int) -> Iterator[Item]:
    if depth > MAX_DEPTH:
        raise BadText(f"deeper than {MAX_DEPTH}")
    while tokens.kind and not (end and tokens.kind == "sign" and tokens.value == end):
        if tokens.kind != "name":
            raise BadText(f"{tokens.value[:20]!r} where a name has to be")
        name = tokens.value
        tokens.count += 1
        if tokens.count > MAX_FIELDS:
            raise BadText(f"more than {MAX_FIELDS} fields")
        tokens.step()
        colon = tokens.take(":")
        if tokens.take("["):
            yield from _list(tokens, name, depth)
        else:
            yield Item(name, _value(tokens, depth, may_be_plain=colon))
        tokens.take(",", ";")


def _list(tokens: _Tokens, name: str, depth: int) -> Iterator[Item]:
    if tokens.take("]"):
        return
    while True:
        tokens.count += 1
        yield Item(name, _value(tokens, depth, may_be_plain=True))
        if tokens.take("]"):
            return
        if not tokens.take(","):
            raise BadText("a list that does not end")


def _value(tokens: _Tokens, depth: int, *, may_be_plain: bool) -> str | bytes | list[Item]:
    kind, value = tokens.kind, tokens.value
    if kind == "sign" and value in _CLOSES:
        tokens.step()
        items = list(_fields(tokens, _CLOSES[value], depth + 1))
        if not tokens.take(_CLOSES[value]):
            raise BadText("a message that does not end")
        return items
    if not may_be_plain:
        raise BadText("a value without a colon")
    if kind == "text":
        data = b""
        while tokens.kind == "text":
            data += _unescaped(tokens.value[1:-1])
            tokens.step()
        return data
    sign = "-" if tokens.take("-") else ""
    if tokens.kind not in ("number", "name"):
        raise BadText(f"{value[:20]!r} where a value has to be")
    plain = sign + tokens.value
    tokens.step()
    return plain


def _unescaped(text: str) -> bytes:
    if "\\" not in text:
        return text.encode("utf-8", "surrogatepass")
    out, at = bytearray(), 0
    for found in _ESCAPE.finditer(text):
        out += text[at : found.start()].encode("utf-8", "surrogatepass")
        octal, hexadecimal, short, long, plain = found.groups()
        if octal or hexadecimal:
            out.append(int(octal, 8) & 255 if octal else int(hexadecimal, 16))
        elif short or long:
            code = int(short or long, 16)
            if code > 0x10FFFF:
                raise BadText("an escape for no character")
            out += chr(code).encode("utf-8", "surrogatepass")
        elif plain:
            out += _PLAIN[plain].encode()
        else:
            raise BadText("an escape that is not one")
        at = found.end()
    return bytes(out + text[at:].encode("utf-8", "surrogatepass"))
