"""How results reach people and programs: results on stdout, everything else on stderr.

Text that came from outside is shown with its control characters escaped, so that a model name or a log
line can't move the cursor or forge a line.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from garrison.core.digest import short
from garrison.core.errors import GarrisonError

WIDTH = 79
MAX_DIFFERENCES = 20  # files shown of a refusal; --json has all of them
_CHANGES = {
    "changed": "another content",
    "missing": "missing",
    "extra": "not signed",
    "executable": "made executable",
}


def visible(text: object) -> str:
    """Text with control, format and bidi characters written out as escapes (CWE-117, CWE-150)."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in str(text)
    )


def print_json(value: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_line(text: str = "") -> None:
    sys.stdout.write(text + "\n")


def print_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    """Aligned `name  value` lines; values are escaped, long ones wrap under themselves."""
    for name, value in pairs:
        lines = textwrap.wrap(visible(value), WIDTH - 12, break_long_words=False, break_on_hyphens=False) or [
            ""
        ]
        for index, line in enumerate(lines):
            print_line(f"{name if index == 0 else '':<10}  {line}")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """A plain table; with no rows, the sentence that says what to do next."""
    if not rows:
        print_line(empty)
        return
    cells = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(column), *(len(row[index]) for row in cells)) for index, column in enumerate(columns)]
    for line in (list(columns), *cells):
        print_line("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_error(error: GarrisonError, *, as_json: bool) -> None:
    """A refusal in the one shape: code and sentence, the evidence, the next step, the audit id."""
    if as_json:
        print_json({"error": error.as_json()})
        return
    label = {1: "REFUSED", 2: "USAGE", 3: "UNDECIDED"}.get(error.exit_status, "DEFECT")
    head = f"{label}  {error.code}  "
    sys.stderr.write(
        textwrap.fill(head + visible(error.what), WIDTH, subsequent_indent="  ", break_long_words=False)
        + "\n"
    )
    differences = difference_lines(error.evidence)
    lines = [
        (key, _plain(value))
        for key, value in error.evidence.items()
        if value not in ("", None, [], {}) and not (key == "paths" and differences)
    ]
    lines += differences
    lines += [
        ("finding", f"{finding.rule_id} {finding.where} {finding.message}") for finding in error.findings[:5]
    ]
    lines.append(("next", error.fix))
    lines.append(("explain", f"garrison explain {error.code}"))
    if error.audit_id:
        lines.append(("audit", error.audit_id))
    for key, text in lines:
        wrapped = textwrap.wrap(
            visible(text), WIDTH - 13, break_long_words=False, break_on_hyphens=False
        ) or [""]
        for index, line in enumerate(wrapped):
            sys.stderr.write(f"  {key if index == 0 else '':<9}  {line}\n")


def difference_lines(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What ART-TAMPER found, file by file: `signed` and `found` for each; nothing for other evidence."""
    rows = evidence.get("paths")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "change" in row for row in rows):
        return []
    lines = []
    for row in rows[:MAX_DIFFERENCES]:
        if len(rows) > 1:
            lines.append(("file", f"{row['path']}   {_CHANGES.get(row['change'], row['change'])}"))
        lines += [("signed", _facts(row.get("expected"))), ("found", _facts(row.get("found")))]
    if len(rows) > MAX_DIFFERENCES:
        lines.append(
            ("more", f"{evidence.get('changes', len(rows)) - MAX_DIFFERENCES} files; --json lists them")
        )
    return lines


def _facts(facts: Mapping[str, Any] | None) -> str:
    if facts is None:
        return "nothing"
    size = f"   {facts['size']:,} bytes" if "size" in facts else ""
    return f"{short(facts['digest'])}{size}{'   executable' if facts.get('mode') == '0755' else ''}"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size:,} bytes"
