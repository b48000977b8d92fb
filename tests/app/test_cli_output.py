"""What reaches a terminal: nothing that steers it, nothing wider than it; and what reaches a program."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.app.cli import output
from garrison.core.errors import Refused
from garrison.core.event import format_time
from garrison.core.finding import Finding, Severity

HOSTILE = "a\x1b[2Jb\u202ec\nd\x9b31m<img src=x>\r\u200be\x00"
NOW = datetime(2026, 11, 22, 14, 3, tzinfo=UTC)


def _refused(**settings: Any) -> Refused:
    return Refused("ART-TAMPER", settings.pop("what", "changed"), fix=settings.pop("fix", "go"), **settings)


def _is_plain(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.row("S40", kind="R")
def test_a_hostile_name_is_written_out_wherever_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("NAME", "STATE"), [(HOSTILE, "serving")], empty="")
    output.print_pairs([("name", HOSTILE)])
    finding = Finding("artifact.name", Severity.HIGH, HOSTILE, where=HOSTILE)
    error = _refused(what=HOSTILE, fix=HOSTILE, evidence={HOSTILE: HOSTILE}, findings=[finding])
    error.audit_id = HOSTILE
    output.print_error(error, as_json=False)
    said = capsys.readouterr()
    assert _is_plain(said.out)
    assert _is_plain(said.err)
    assert len(said.out.splitlines()) == 3
    assert "\\x1b[2J" in said.out


def test_json_quotes_everything_in_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"name": HOSTILE + "é\udcff"}
    output.print_json(value)
    text = capsys.readouterr().out
    assert text.isascii()
    assert "\x1b" not in text
    assert json.loads(text) == value


@given(
    st.lists(
        st.tuples(st.text(max_size=200), st.text(max_size=60), st.text(max_size=300)), min_size=1, max_size=3
    )
)
def test_a_table_fits_whatever_stands_in_it(rows: list[tuple[str, str, str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr(output, "print_line", lines.append)
        output.print_table(("MODEL", "STATE", "WHY"), rows, empty="")
    assert max(map(output.columns, lines)) <= 80
    assert _is_plain("\n".join(lines))


def test_a_table_never_cuts_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("CODE", "NAME", "MEANS"), [("X" * 40, "n" * 60, "word " * 30)], empty="")
    said = capsys.readouterr().out
    assert "X" * 40 in said
    assert max(map(len, said.splitlines())) <= 80


def test_a_long_name_keeps_its_version() -> None:
    assert output.fitted("a-very-long-name-of-a-model@12", 16) == "a-very-l…odel@12"
    assert output.fitted("模型模型模型@3", 9) == "模型…型@3"
    assert output.fitted("a sentence that goes on", 12) == "a sentence…"


@given(st.text(max_size=400), st.integers(10, 80))
def test_wrapping_loses_no_word_and_no_column(text: str, width: int) -> None:
    shown = output.visible(text)
    lines = output.wrapped(shown, width)
    assert all(output.columns(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == shown.replace(" ", "")


def test_a_refusal_is_never_wider_than_a_terminal_but_its_next_step_stays_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fix = f"garrison model pull {'n' * 90}@1 --repair"
    evidence = {"digest": "sha256:" + "a" * 64, "path": "p" * 300, "rows": [{"n": n} for n in range(500)]}
    output.print_error(_refused(what="w" * 200, fix=fix, evidence=evidence), as_json=False)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if len(line) > 80] == [f"  {'n' * 90}@1"]
    assert "sha256:" + "a" * 64 in "\n".join(lines)
    assert any("--json has all of it" in line for line in lines)
    assert len(lines) < 40


def test_a_time_is_utc_and_has_an_age() -> None:
    past, coming = NOW - timedelta(hours=5), NOW + timedelta(minutes=9)
    assert output.moment(past, NOW) == "2026-11-22 09:03 UTC, 5 h ago"
    assert output.moment(format_time(coming), NOW) == "2026-11-22 14:12 UTC, in 9 min"
    assert output.moment("yesterday\n", NOW) == "yesterday\\n"


def test_a_refusal_looks_as_it_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    error = _refused(what="model.safetensors is not the file that was signed", evidence={"key": "release"})
    error.audit_id = "a-000412"
    output.print_error(error, as_json=False)
    assert capsys.readouterr().err.splitlines() == [
        "REFUSED  ART-TAMPER  model.safetensors is not the file that was signed",
        "  key        release",
        "  next       go",
        "  explain    garrison explain ART-TAMPER",
        "  audit      a-000412",
    ]
