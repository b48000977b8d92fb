"""Plain text that models carry: prose, vocabularies, notes. Programs are refused, other text is not understood.

Which text is prose is said by its name: text has no magic number, and no loader runs these names.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from garrison.artifacts.scanners.base import Gap, Seen, Source, high
from garrison.artifacts.scanners.sources import chunks

MAX_TEXT = 256 << 20  # the largest vocabularies and word lists have some tens of megabytes
_PROSE = re.compile(
    r"(?:readme|licen[cs]e|notice|copying|authors|changelog|citation|use_policy|code_of_conduct|contributing)"
    r"(?:[._-][\w.-]*)?\Z|.*\.(?:md|txt|rst|csv|tsv|bpe|vocab|merges|license|cff)\Z|"
    r"\.git(?:attributes|ignore|keep)\Z|\.gitmodules\Z",
    re.IGNORECASE,
)
_CODE = re.compile(
    r".*\.(?:py|pyi|pyx|pyw|ipynb|sh|bash|zsh|fish|bat|cmd|ps1|js|mjs|ts|rb|pl|lua|php|r|jl|java|scala|go|rs|c|cc"
    r"|cpp|cu|h|hpp|so|dll|dylib|exe|jar|whl|pth)\Z|makefile\Z|dockerfile\Z",
    re.IGNORECASE,
)
_YAML = re.compile(r".*\.ya?ml\Z", re.IGNORECASE)
_YAML_TAG = re.compile(rb"(?:^|[\s\-:\[,{?])!(?:!|<)?[A-Za-z]", re.MULTILINE)
_YAML_KEY = re.compile(
    rb"^\s*(?:- )?[\"']?(?:_target_|auto_map|custom_pipelines?|trust_remote_code|loader_module|py/\w+)[\"']?\s*:",
    re.MULTILINE,
)
_FETCH = re.compile(
    rb"^\s*(?:-i\b|--(?:extra-)?index-url|--find-links|-f\b|-e\b|git\+|https?:|.*@\s*(?:git\+|https?:|file:))",
    re.MULTILINE,
)
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
        return any(kind.match(base) for kind in (_PROSE, _CODE, _YAML))

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
            for data in chunks(source):
                decoder.decode(data)
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
    if lower.startswith("requirements") and lower.endswith(".txt"):
        if _FETCH.search(source.read_at(0, 1 << 20)):
            yield high(
                "artifact.requirements.fetch", "installs packages from an address of its own", fix=FIX_CODE
            )
    elif _YAML.match(base):
        data = source.read_at(0, 1 << 20)
        if _YAML_TAG.search(data):
            yield high(
                "artifact.yaml.tag", "a YAML tag makes an object of the loader's language", fix=FIX_CODE
            )
        elif _YAML_KEY.search(data):
            yield high("artifact.yaml.code", "a key names code that the loader would run", fix=FIX_CODE)
        else:
            yield Gap("artifact.unknown", "YAML is looked through, not understood", fix="write it as JSON")


_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
