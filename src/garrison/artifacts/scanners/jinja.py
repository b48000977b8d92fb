"""Chat templates as hostile Jinja. The judgement is in `jinja_tree.py`, which is loaded when there is a template.

Loading it costs 0.06 s of processor time, as much as most scanners together, and a confined process can load
nothing. So a worker that was started without it says that it wants it (`Later`) and is started again with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from garrison.artifacts.scanners.base import Gap, Later, Seen, Source

MAX_TEMPLATE = 1 << 20  # the longest published templates have under 100 kB


def judge_template(source: Source) -> Iterator[Seen]:
    try:
        from garrison.artifacts.scanners.jinja_tree import judged  # 0.06 s; see above
    except (ImportError, OSError) as error:
        raise Later from error
    yield from judged(source)


class Jinja:
    format = "jinja"

    def recognises(self, head: bytes, source: Source) -> bool:
        return source.name.endswith((".jinja", ".jinja2", ".j2", ".template")) and b"\0" not in head

    def scan(self, source: Source) -> Iterator[Seen]:
        if source.size > MAX_TEMPLATE:
            yield Gap("artifact.limit.size", f"a template of more than {MAX_TEMPLATE} bytes")
            return
        yield from judge_template(source)
