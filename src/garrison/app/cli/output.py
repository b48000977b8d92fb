"""How results reach people and programs: results on stdout, everything else on stderr.

Text that came from outside is shown with its control characters escaped, so that a model name or a log
line can't move the cursor or forge a line.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from garrison.core.digest import short
from garrison.core.errors import GarrisonError
from garrison.core.event import age, parse_time

WIDTH = 79
MIN_CELL = 8  # columns below which a name in a table says nothing
MAX_NAME = 14  # columns for the names of values; a longer one stands out
MIN_PROSE = 24
MAX_LINES = 8  # of one fact of a refusal; --json has all of it
MAX_FINDINGS = 5
WHOLE = frozenset({"CODE", "ID", "NEXT"})  # columns that are for typing, not for reading
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


def columns(text: str) -> int:
    """How many columns of a terminal the text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def fitted(text: str, width: int) -> str:
    """At most `width` columns: prose loses its end, a name its middle, so that its version stays."""
    if columns(text) <= width:
        return text
    if " " in text:
        return _start(text, width - 1).rstrip() + "…"
    head = _start(text, width // 2)
    return head + "…" + _start(text[::-1], width - columns(head) - 1)[::-1]


def wrapped(text: str, width: int, *, keep_words: bool = False) -> list[str]:
    """Lines of at most `width` columns, at least one. `keep_words` leaves a longer word whole: a command
    or a path that was cut could not be copied."""
    lines, line = [], ""
    for piece in re.findall(r" +|[^ ]+", text):
        if columns(line) + columns(piece) <= width:
            line += piece
            continue
        if line.strip():
            lines.append(line.rstrip())
        line = "" if piece.isspace() else piece
        while not keep_words and columns(line) > width:
            lines.append(_start(line, width))
            line = line[len(lines[-1]) :]
    if line.strip() or not lines:
        lines.append(line.rstrip())
    return lines


def moment(time: datetime | str, now: datetime | None = None) -> str:
    """`2026-11-22 14:03 UTC, 5 h ago`; a text is RFC 3339, and stays as it is when it is not."""
    try:
        when = parse_time(time) if isinstance(time, str) else time.astimezone(UTC)
    except ValueError:
        return visible(time)
    span = (now or datetime.now(UTC)) - when
    distance = f"in {age(-span)}" if span < timedelta() else f"{age(span)} ago"
    return f"{when:%Y-%m-%d %H:%M} UTC, {distance}"


def print_json(value: Mapping[str, Any]) -> None:
    """One document, in ASCII: what it quotes from outside reaches neither a terminal nor a codec raw."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_line(text: str = "") -> None:
    sys.stdout.write(text + "\n")


def print_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    """Aligned `name  value` lines; values are escaped, long ones wrap under themselves."""
    shown = list(pairs)
    width = min(max([10, *(len(name) for name, _ in shown)]), MAX_NAME)
    for name, value in shown:
        for line in _pair(f"{name:<{width}}  ", visible(value), keep_words=name == "next"):
            print_line(line)


def print_table(names: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """A plain table; with no rows, the sentence that says what to do next.

    Too wide for a terminal, prose in the last column wraps under itself and the widest other cells lose
    their middle; a column of `WHOLE` never does.
    """
    if not rows:
        for line in wrapped(empty, WIDTH, keep_words=True):
            print_line(line)
        return
    cells = [[visible(cell) for cell in row] for row in rows]
    has_prose = any(" " in row[-1] for row in cells)
    widths = _widths(names, [list(names), *cells], has_prose=has_prose)
    for row in (list(names), *cells):
        shown = [
            cell if name in WHOLE else fitted(cell, width)
            for name, cell, width in zip(names[:-1], row, widths, strict=False)
        ]
        last = [row[-1]] if names[-1] in WHOLE else [fitted(row[-1], widths[-1])]
        if has_prose:
            last = wrapped(row[-1], widths[-1])
        for index, text in enumerate(last):
            left = [*(shown if index == 0 else [""] * len(shown)), text]
            print_line("  ".join(_padded(*pair) for pair in zip(left, widths, strict=True)).rstrip())


def print_error(error: GarrisonError, *, as_json: bool) -> None:
    """A refusal in the one shape: code and sentence, the evidence, the next step, the audit id."""
    if as_json:
        print_json({"error": error.as_json()})
        return
    differences = difference_lines(error.evidence)
    lines = [
        (key, _plain(value))
        for key, value in error.evidence.items()
        if value not in ("", None, [], {}) and not (key == "paths" and differences)
    ]
    lines += differences
    lines += [
        ("finding", f"{finding.rule_id} {finding.where} {finding.message}")
        for finding in error.findings[:MAX_FINDINGS]
    ]
    if len(error.findings) > MAX_FINDINGS:
        lines.append(("", f"and {len(error.findings) - MAX_FINDINGS} more findings; --json lists them"))
    lines.append(("next", error.fix))
    lines.append(("explain", f"garrison explain {error.code}"))
    if error.audit_id:
        lines.append(("audit", error.audit_id))
    print_refusal(error, lines)


def print_refusal(error: GarrisonError, lines: Iterable[tuple[str, str]]) -> None:
    """The head of a refusal and the given `name  text` lines, on standard error."""
    label = {1: "REFUSED", 2: "USAGE", 3: "UNDECIDED"}.get(error.exit_status, "DEFECT")
    first, *more = wrapped(f"{label}  {error.code}  {visible(error.what)}", WIDTH)
    head = [first, *(f"  {line}" for line in wrapped(" ".join(more), WIDTH - 2) if more)]
    body: list[str] = []
    for name, text in lines:
        shown = _pair(f"  {visible(name):<9}  ", visible(text), keep_words=name == "next")
        if len(shown) > MAX_LINES and name != "next":
            shown = [*shown[:MAX_LINES], f"{'':<13}…   --json has all of it"]
        body += shown
    sys.stderr.write("\n".join([*head, *body]) + "\n")


def _pair(head: str, text: str, *, keep_words: bool) -> list[str]:
    """A value behind its name, or below it when a word of it is too long for that."""
    indent = columns(head)
    longest = max((columns(word) for word in text.split(" ")), default=0)
    if longest > WIDTH - indent:
        return [head.rstrip(), *(f"  {line}" for line in wrapped(text, WIDTH - 2, keep_words=keep_words))]
    lines = wrapped(text, WIDTH - indent)
    return [(head if index == 0 else " " * indent) + line for index, line in enumerate(lines)]


def _widths(names: Sequence[str], rows: Sequence[Sequence[str]], *, has_prose: bool) -> list[int]:
    widths = [min(WIDTH, max(columns(row[index]) for row in rows)) for index in range(len(names))]
    last = len(names) - 1
    while sum(widths) + 2 * last > WIDTH:
        if has_prose and widths[last] > MIN_PROSE:
            widths[last] -= 1
            continue
        shrinkable = [
            index
            for index in range(len(names))
            if names[index] not in WHOLE and widths[index] > MIN_CELL and not (has_prose and index == last)
        ]
        if not shrinkable:
            break
        widths[max(shrinkable, key=lambda index: widths[index])] -= 1
    return widths


def _padded(text: str, width: int) -> str:
    return text + " " * (width - columns(text))


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _start(text: str, width: int) -> str:
    """As many characters as fit."""
    used = 0
    for index, character in enumerate(text):
        used += _columns(character)
        if used > width:
            return text[:index]
    return text


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
