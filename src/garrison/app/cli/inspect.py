"""`garrison inspect`: the detectors on their own, as a filter. No server, no data directory.

With `--jsonl`: one `{"id", "text"}` a line in, one inspection a line out, each written as soon as it is
known. The exit status tells whether the filter worked, not what it found: 0 also when texts were blocked,
2 when a line was not a text (that line is answered with an error object).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from garrison.app.cli.guard_tier2 import add_options as add_tier2
from garrison.app.cli.guard_tier2 import opened
from garrison.core.errors import GarrisonError, Usage
from garrison.detect.base import Direction, Inspection
from garrison.detect.inspect import MAX_TEXT, Inspector
from garrison.detect.own import NOTHING_OWN, with_names
from garrison.detect.tier2_ask import BothTiers

MAX_LINE = 6 * MAX_TEXT  # bytes: every character of the longest text written as a JSON escape
_FIX = 'Write one JSON object a line: {"id": "1", "text": "what to inspect"}.'


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "inspect",
        help="what a text carries: secrets, personal data, orders to a model",
        description="Inspect text from standard input.",
        epilog='example: printf \'{"id":"1","text":"..."}\\n\' | garrison inspect --direction input --jsonl',
    )
    parser.add_argument(
        "--direction",
        choices=[way.value for way in Direction],
        default=Direction.INPUT.value,
        help="where the text is going (default: input)",
    )
    parser.add_argument(
        "--jsonl", action="store_true", help="one JSON object a line; without it, all of stdin is one text"
    )
    parser.add_argument("--names", action="store_true", help="names of people, too")
    add_tier2(parser)


def run(args: argparse.Namespace) -> int:
    """0 when every text was answered, 2 when a line was not one."""
    direction = Direction(args.direction)
    own = with_names() if args.names else NOTHING_OWN
    with opened(args, (direction,), _cache(), own=own) as inspector:
        return _filtered(args, inspector, direction)


def _filtered(args: argparse.Namespace, inspector: Inspector | BothTiers, direction: Direction) -> int:
    if not args.jsonl:
        text = sys.stdin.buffer.read(MAX_LINE).decode("utf-8", "replace")
        _write({"id": None, **as_json(inspector.inspect(text, direction))})
        return 0
    status = 0
    for line in _lines(sys.stdin.buffer):
        try:
            answer = _answer(line, inspector, direction)
        except GarrisonError as error:
            answer = {"id": error.evidence.get("id"), "error": error.as_json()}
            status = Usage.exit_status
        _write(answer)
    return status


def _cache() -> Path | None:
    """Where compiled patterns are kept for the next start, if only this user can write there."""
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME")
    if not home:
        return None
    folder = Path(home) / ("garrison" if os.environ.get("XDG_CACHE_HOME") else ".cache/garrison") / "patterns"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return None
    return folder if status.st_uid == os.getuid() and not status.st_mode & 0o022 else None


def as_json(inspection: Inspection) -> dict[str, Any]:
    """The public shape of one inspection, without its id."""
    return {
        "verdict": inspection.verdict.value,
        "score": inspection.score,
        "findings": [
            {
                "rule_id": finding.rule_id,
                "kind": finding.kind,
                "score": finding.score,
                "start": finding.start,
                "end": finding.end,
                **({"view": finding.view} if finding.view else {}),
            }
            for finding in inspection.findings
        ],
        "text": inspection.text,
    }


def _answer(line: bytes, inspector: Inspector | BothTiers, direction: Direction) -> dict[str, Any]:
    if len(line) >= MAX_LINE:
        raise Usage("INSPECT-LINE", f"The line is longer than {MAX_LINE} bytes", fix="Send shorter texts.")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as cause:
        raise Usage("INSPECT-LINE", "The line is not JSON", fix=_FIX) from cause
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise Usage("INSPECT-LINE", 'The line is not an object with a string under "text"', fix=_FIX)
    return {"id": value.get("id"), **as_json(inspector.inspect(value["text"], direction))}


def _lines(source: BinaryIO) -> Iterator[bytes]:
    """Lines without their end, empty ones left out; of one over the limit, its first `MAX_LINE` bytes."""
    while line := source.readline(MAX_LINE):
        whole = line.endswith(b"\n")
        if line.strip():
            yield line
        while not whole and len(line) == MAX_LINE:
            line = source.readline(MAX_LINE)
            whole = line.endswith(b"\n")


def _write(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
