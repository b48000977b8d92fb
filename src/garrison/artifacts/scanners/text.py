"""Plain text that models carry: prose, vocabularies, notes. Programs are refused, other text is not understood.

Which text is prose is said by its name: text has no magic number, and no loader runs these names.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from garrison.artifacts.scanners.base import Gap, Seen, Source, high, shown
from garrison.artifacts.scanners.config_python import fetches
from garrison.artifacts.scanners.pem import OVERLAP, private_key
from garrison.artifacts.scanners.sources import chunks

MAX_TEXT = 256 << 20  # the largest vocabularies and word lists have some tens of megabytes
_PROSE = re.compile(
    r"(?:readme|licen[cs]e|notice|copying|authors|changelog|citation|use_policy|code_of_conduct|contributing)"
    r"(?:[._-][\w.-]*)?\Z|.*\.(?:md|txt|rst|csv|tsv|bpe|vocab|merges|license|cff"
    r"|ini|cfg|conf|properties|log|bib|md5|sha256|sha512|sum|sums)\Z|(?:md5|sha256|sha512)sums(?:\.txt)?\Z|manifest\.in\Z|"
    r"\.git(?:attributes|ignore|keep)\Z|\.gitmodules\Z|\.dvcignore\Z|\.dockerignore\Z",
    re.IGNORECASE,
)
_CODE = re.compile(
    r".*\.(?:py|pyi|pyx|pyw|ipynb|sh|bash|zsh|fish|bat|cmd|ps1|js|mjs|ts|rb|pl|lua|php|r|jl|java|scala|go|rs|c|cc"
    r"|cpp|cu|h|hpp|so|dll|dylib|exe|jar|whl|pth)\Z|makefile\Z|dockerfile\Z",
    re.IGNORECASE,
)
MAX_REQUIREMENTS = 1 << 20  # a list of packages has some kilobytes
FIX_CODE = "publish weights without programs; a server that needs this code has to ship it itself"


class Text:
    format = "text"

    def recognises(self, head: bytes, source: Source) -> bool:
        if _BINARY.search(head) or not (self._is_named(source.name) or head[:2] == b"#!"):
            return False
        try:
            codecs.getincrementaldecoder("utf-8")().decode(head)
        except UnicodeDecodeError:
            return False
        return True

    @staticmethod
    def _is_named(name: str) -> bool:
        base = name.rsplit("/", 1)[-1]
        return any(kind.match(base) for kind in (_PROSE, _CODE))

    def scan(self, source: Source) -> Iterator[Seen]:
        base = source.name.rsplit("/", 1)[-1]
        head = source.read_at(0, 256)
        if _CODE.match(base) or (head[:2] == b"#!" and not base.lower().endswith(".md")):
            yield high("artifact.code", "a program beside the weights", fix=FIX_CODE)
            return
        if source.size > MAX_TEXT:
            yield Gap("artifact.limit.size", f"more than {MAX_TEXT} bytes of text")
            return
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            before = ""
            for data in chunks(source):
                text = before[-OVERLAP:] + decoder.decode(data)
                found = next(private_key(text), None)
                if found is not None:
                    yield found
                    return
                before = text
                if _BINARY.search(data):
                    yield Gap("artifact.text.binary", "text with binary control characters in it")
                    return
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            yield Gap("artifact.text.encoding", "the text is not UTF-8 to its end", fix="save it as UTF-8")
            return
        yield from _named(base, source)


def _named(base: str, source: Source) -> Iterator[Seen]:
    lower = base.lower()
    if lower.startswith(("requirements", "constraints")) and lower.endswith(".txt"):
        text = source.read_at(0, MAX_REQUIREMENTS).decode("utf-8", "replace")
        line = next((line for line in text.splitlines() if fetches(line)), None)
        if line is not None:
            message = f"installs packages from an address of its own: {shown(line)}"
            yield high("artifact.requirements.fetch", message, fix=FIX_CODE)
        if source.size > MAX_REQUIREMENTS:
            yield Gap("artifact.limit.size", f"more than {MAX_REQUIREMENTS} bytes of requirements")


_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
