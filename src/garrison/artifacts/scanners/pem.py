"""PEM files (RFC 7468): certificates and public keys are data, a private key beside a model is a leak."""

from __future__ import annotations

import re
from collections.abc import Iterator

from garrison.artifacts.scanners.base import Gap, Seen, Source, high
from garrison.artifacts.scanners.sources import chunks
from garrison.core.finding import Finding

MAX_PEM = 4 << 20  # the bundle of all public authorities has 230 kB
OVERLAP = 4_096  # between two pieces of a text: the first lines of a key, with room
_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 #.-]{1,60})-----\Z")
_STARTS = re.compile(rb"(?:\s|#[^\n]{0,200}\n){0,50}-----BEGIN [A-Z]")
_HEADER = re.compile(rb"[A-Za-z][A-Za-z0-9-]{1,40}: ?[ -~]*\Z")
_BODY = re.compile(rb"[A-Za-z0-9+/]{0,76}={0,2}\Z")
# The marker alone stands in many a manual; 60 characters of its body do not.
_PRIVATE = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:\s|\\[nr]){1,4}(?:[A-Za-z-]{1,40}: ?[^\n\\]{0,200}(?:\s|\\[nr]){1,4}){0,4}[A-Za-z0-9+/=]{60}"
)
FIX = "take the file out, treat that key as leaked, and replace it"


def private_key(text: str, where: str = "") -> Iterator[Finding]:
    """A private key that stands in a text, plain or with its line ends escaped. It is never quoted."""
    if "PRIVATE KEY" in text and _PRIVATE.search(text):
        yield high("artifact.key.private", "a private key lies among the files of the model", where, FIX)


class Pem:
    format = "pem"

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        return _STARTS.match(head) is not None

    def scan(self, source: Source) -> Iterator[Seen]:
        if source.size > MAX_PEM:
            yield Gap("artifact.limit.size", f"more than {MAX_PEM} bytes of PEM")
            return
        label = b""
        for number, line in enumerate(b"".join(chunks(source)).splitlines(), 1):
            line = line.strip()
            begins = _BEGIN.match(line)
            if not label and begins:
                label = begins.group(1)
                if b"PRIVATE KEY" in label:
                    yield high(
                        "artifact.key.private", "a private key lies among the files of the model", "", FIX
                    )
                    return
            elif label and line == b"-----END " + label + b"-----":
                label = b""
            elif not (_BODY.match(line) or _HEADER.match(line) if label else _is_remark(line)):
                yield Gap(
                    "artifact.pem.line", f"line {number} is neither a PEM block's nor a remark between two"
                )
                return
        if label:
            yield Gap("artifact.pem.line", "the last PEM block does not end")


def _is_remark(line: bytes) -> bool:
    """Text between blocks, which RFC 7468 (section 2) lets parsers skip: lists of authorities name each so."""
    try:
        return line.decode("utf-8").replace("\t", " ").isprintable()
    except UnicodeDecodeError:
        return False
