"""Texts in configurations and headers that somebody may decode, render or run: looked into, never decoded twice.

A number of words, paths and sentences stand in every configuration. What is refused here is a text that is only
there to be harmful: a template that climbs to the interpreter, or a program in a place where a name belongs.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

from garrison.artifacts.scanners.base import Inner, Seen, critical, shown
from garrison.artifacts.scanners.pem import private_key
from garrison.artifacts.scanners.sources import BytesSource

SHORT = 24  # no pickle that calls something is shorter, written as base64
MAX_TEXT = 1 << 20
# Base64 of what pickles of protocols 2 to 5, gzip, zip, xz and bzip2 begin with.
_BASE64 = ("gAJ", "gAN", "gAR", "gAS", "gAU", "gAV", "H4sI", "UEsD", "/Td6", "QlpoO")
_ESCAPES = re.compile(
    r"\{[{%][^}]{0,4000}?(?:__(?:class|mro|base|bases|subclasses|init|globals|builtins|import|getattribute|dict|code"
    r"|reduce|call|loader|self)__|\|\s*attr\s*\(|\blipsum\b|\bcycler\s*\.|\bjoiner\s*\.|\bself\s*\._"
    r"|\brequest\s*\.\s*(?:application|environ|args)|\bconfig\s*\.\s*(?:items|from)"
    r"|\bpopen\s*\(|\bos\s*\.\s*(?:system|popen|environ)|\bsubprocess\b|\beval\s*\(|\bexec\s*\(|\bopen\s*\("
    r"|\bget_flashed_messages\b|\burl_for\b|\x5cx5f)",
    re.IGNORECASE,
)
_PROGRAM = re.compile(
    r"__import__\s*\(|\bos\.(?:system|popen|exec[lv]p?e?|spawn\w+)\s*\(|\bsubprocess\.\w+\s*\(|\b(?:eval|exec|compile)\s*\("
    r"|\bpickle\.loads?\s*\(|\bpty\.spawn\b|\bimport\s+(?:os|subprocess|pty|socket|ctypes|shutil|sys)\b"
    r"|\bimportlib\.import_module\s*\(|\brunpy\.run_\w+|\bctypes\.(?:CDLL|cdll|windll)|__(?:reduce|subclasses|globals|builtins)__"
    r"|<script\b|\bjavascript:|\A#!\s*/|\bcurl\b[^\n]{0,200}\|\s*(?:ba|z)?sh\b|\bwget\b[^\n]{0,200}\|\s*(?:ba|z)?sh\b"
    r"|/bin/(?:ba|z)?sh\s+-[ci]\b|\bbash\s+-i\b|/dev/tcp/|\brm\s+-rf\s+[/~]|powershell(?:\.exe)?\s+-",
    re.IGNORECASE,
)
MAX_SETTING = 1_000  # longer texts are prose or data
_CALL = re.compile(
    r"(?<!`)\b__import__\s*\(|\A\s*(?:eval|exec|os\.(?:system|popen)|subprocess\.\w+)\s*\(.*\)\s*\Z",
    re.DOTALL,
)
# A plain `name.so` may as well be a site.
_NATIVE = re.compile(
    r"(?!\w+://)(?:[^\s`]{0,200}/|lib)[\w.-]+\.so(?:\.\d+){0,3}\Z|[^\s`]{1,200}\.(?:dll|dylib)\Z",
    re.IGNORECASE,
)
_SYSTEM = re.compile(
    r"(?:os|posix|nt|subprocess|builtins|__builtin__|pty|runpy|importlib|ctypes|shutil|marshal|pickle)"
    r"(?:\.[A-Za-z_]\w*)+\Z"
)
FIX = "ask the author for a model without it, or remove the entry after review"


def look_into(text: str, where: str) -> Iterator[Seen]:
    """A template that climbs out, a file written as base64, or a private key, in any text of a configuration."""
    if ("{{" in text or "{%" in text) and _ESCAPES.search(text, 0, MAX_TEXT):
        message = f"a template that reaches for the interpreter: {shown(text)}"
        yield critical("artifact.template.escape", message, where, FIX)
    yield from private_key(text, where)
    if len(text) >= SHORT and text.startswith(_BASE64):
        inner = decoded(text)
        if inner:
            yield Inner(f"{where} as base64", BytesSource("text", inner), guess=True, glue="")


def named_code(text: str) -> str:
    """Code in the value of a setting: a call that imports or runs, a native library, or a name that reaches the system.

    Sentences may speak of such things, so a name has to be the whole value, and a call one that nobody writes about.
    """
    if len(text) > MAX_SETTING:
        return ""
    if _CALL.search(text):
        return f"code in a setting: {shown(text)}"
    if _NATIVE.match(text):
        return f"the native library {shown(text)}"
    return f"the name of a function that reaches the system: {shown(text)}" if _SYSTEM.match(text) else ""


def decoded(text: str) -> bytes:
    """The bytes that a base64 text stands for; empty when it is none."""
    try:
        return binascii.a2b_base64(text.rstrip("=\n\r ") + "==")
    except (binascii.Error, ValueError):
        return b""


def program_in(text: str) -> str:
    """What looks like a program in a text that should be a name, a number or a sentence; empty when nothing does."""
    match = _PROGRAM.search(text, 0, MAX_TEXT)
    return shown(text[max(0, match.start() - 10) : match.end() + 40]) if match else ""
