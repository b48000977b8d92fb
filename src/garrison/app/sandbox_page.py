"""The table of docs/isolation.md, made from probes: a row for each attack and each try, a column for each level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from garrison.runtime.probe import ATTACKS, Matrix
from garrison.runtime.sandboxes.base import Availability

BEGIN, END = "<!-- garrison runtime matrix: begin -->", "<!-- garrison runtime matrix: end -->"


def page(found: Mapping[str, Matrix], levels: Sequence[Availability], seen: Matrix | None) -> str:
    """`found` by level; `seen` is the control run without a sandbox."""
    columns = {**found, **({} if seen is None else {"no sandbox, root": seen})}
    lines = [
        f"Not tried here: {level.level} ({'; '.join(level.missing)})." for level in levels if not level.ok
    ]
    lines += ["", _row("", *columns), _row("---", *("---" for _ in columns))]
    lines.append(_row("tries", *(str(len(matrix.attempts)) for matrix in columns.values())))
    lines.append(_row("succeeded", *(str(len(matrix.open)) for matrix in columns.values())))
    succeeded = {name: matrix.succeeded() for name, matrix in columns.items()}
    for attack in ATTACKS:
        cells = ("**succeeds**" if succeeded[name][attack] else "denied" for name in columns)
        lines.append(_row(f"**{attack}**", *cells))
    for index, attempt in enumerate(next(iter(columns.values())).attempts):
        cells = (_cell(matrix, index) for matrix in columns.values())
        lines.append(_row(f"`{attempt.check}`", *cells))
    return "\n".join(lines)


def _cell(matrix: Matrix, index: int) -> str:
    attempt = matrix.attempts[index]
    if attempt.open:
        return "given" if attempt.check in matrix.given and matrix.level != "none" else "**open**"
    return attempt.why if attempt.why.startswith("E") else "stopped"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def replaced(text: str, table: str) -> str:
    """`text` with what stands between the marks replaced. Raises ValueError without them."""
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError("the marks are not there")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"
