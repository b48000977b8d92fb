"""Chat templates: recognised here by place or name, judged in `jinja_tree.py`."""

from __future__ import annotations

from collections.abc import Iterator

from garrison.artifacts.scanners.base import Seen, Source


class Jinja:
    format = "jinja"

    def recognises(self, head: bytes, source: Source) -> bool:
        return source.name.endswith((".jinja", ".jinja2", ".j2")) and b"\0" not in head

    def scan(self, source: Source) -> Iterator[Seen]:
        from garrison.artifacts.scanners.jinja_tree import template_findings  # jinja2: 50 ms, rarely wanted

        yield from template_findings(source)
