"""Ollama's `Modelfile`: known instructions, and files that stay beside it.

Its templates are Go's `text/template`, which calls nothing that the server did not give it.
Source: docs/modelfile.md of Ollama.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from garrison.artifacts.scanners.base import Gap, Seen, Source, high, shown
from garrison.artifacts.scanners.paths import unsafe_path

MAX_TEXT = 1 << 20  # a few kilobytes of prompt and template
_NAME = re.compile(r"modelfile(?:\.[\w.-]+)?\Z", re.IGNORECASE)
_LINE = re.compile(
    r"(?P<word>FROM|ADAPTER|PARAMETER|TEMPLATE|SYSTEM|LICENSE|MESSAGE|REQUIRES)\s+(?P<rest>.*)\Z", re.I
)
_MODEL = re.compile(r"(?:\w[\w.-]*/)*\w[\w.-]*:\w[\w.-]*\Z")  # a name of the library: llama3.2:1b
FIX = "put the weights beside the Modelfile and refer to them by their plain name"


class Modelfile:
    format = "modelfile"

    def recognises(self, head: bytes, source: Source) -> bool:
        return _NAME.match(source.name.rsplit("/", 1)[-1]) is not None and b"\0" not in head

    def scan(self, source: Source) -> Iterator[Seen]:
        if source.size > MAX_TEXT:
            yield Gap("artifact.limit.size", f"more than {MAX_TEXT} bytes of a Modelfile", fix=FIX)
            return
        open_quote = False
        for line in source.read_at(0, source.size).decode("utf-8", "replace").splitlines():
            if open_quote:
                open_quote = '"""' not in line
                continue
            match = _LINE.match(line.strip())
            if match is None:
                if line.strip() and not line.lstrip().startswith("#"):
                    yield Gap(
                        "artifact.modelfile.line", f"a line that is not understood: {shown(line)}", fix=FIX
                    )
                continue
            rest = match.group("rest").strip()
            open_quote = rest.count('"""') == 1
            if match.group("word").upper() in ("FROM", "ADAPTER"):
                path = rest.strip('"').removeprefix("./")
                if unsafe_path(path) and not _MODEL.match(path):
                    yield high(
                        "artifact.modelfile.reference",
                        f"loads {shown(path)}, which {unsafe_path(path)}",
                        fix=FIX,
                    )
