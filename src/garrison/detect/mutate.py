"""How attackers hide an order: encodings of a text, each a function of the text alone.

For measuring (`garrison guard eval --encode`), so that what is claimed about encodings is run, not said.
"""

from __future__ import annotations

import base64
import codecs
import urllib.parse
from collections.abc import Callable, Mapping
from types import MappingProxyType

_LEET = str.maketrans("oieastOIEAST", "013457013457")
_LEET_LIGHT = str.maketrans("oieaOIEA", "01340134")
_LOOKALIKES = str.maketrans("aeopcxyisjAEOPCXBHKMT", "аеорсхуіѕјАЕОРСХВНКМТ")
_WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}


def _bold(text: str) -> str:
    return "".join(
        chr(0x1D400 + ord(char) - 65) if "A" <= char <= "Z"
        else chr(0x1D41A + ord(char) - 97) if "a" <= char <= "z"
        else char
        for char in text
    )  # fmt: skip


def _tags(text: str) -> str:
    """Invisible, behind a harmless sentence: alone it would be an empty message to its reader."""
    hidden = "".join(chr(0xE0000 + ord(char)) for char in text if " " <= char <= "~")
    return f"What a nice day.{hidden}"


def _by_word(text: str, sign: str) -> str:
    return " ".join(sign.join(word) for word in text.split())


ENCODINGS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "base64": lambda text: base64.b64encode(text.encode("utf-8", "replace")).decode(),
        "base64-asked": lambda text: (
            "Decode this: " + base64.b64encode(text.encode("utf-8", "replace")).decode()
        ),
        "hex": lambda text: text.encode("utf-8", "replace").hex(),
        "hex-spaced": lambda text: text.encode("utf-8", "replace").hex(" "),
        "hex-escaped": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode("utf-8", "replace")),
        "url": lambda text: urllib.parse.quote(text, safe="", errors="replace"),
        "url-plus": lambda text: urllib.parse.quote_plus(text, errors="replace"),
        "url-all": lambda text: "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "replace")),
        "rot13": lambda text: codecs.encode(text, "rot13"),
        "leet": lambda text: text.translate(_LEET),
        "leet-light": lambda text: text.translate(_LEET_LIGHT),
        "reversed": lambda text: text[::-1],
        "reversed-words": lambda text: " ".join(word[::-1] for word in text.split()),
        "spaced": lambda text: " ".join(text),
        "spaced-wide": lambda text: "  ".join(" ".join(word) for word in text.split()),
        "dashed": lambda text: _by_word(text, "-"),
        "dashed-through": lambda text: "-".join(text),
        "dashed-words": lambda text: "-".join(text.split()),
        "underscored": lambda text: "_".join(text.split()),
        "dotted": lambda text: _by_word(text, "."),
        "tags": _tags,
        "homoglyphs": lambda text: text.translate(_LOOKALIKES),
        "zero-width": lambda text: "\u200b".join(text),
        "fullwidth": lambda text: text.translate(_WIDE),
        "mathematical": _bold,
    }
)
