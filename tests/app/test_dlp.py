"""Patterns and fingerprints of a customer: told by the ledger, carried by the signed snapshot, used by a worker."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.app.household import Household

from garrison.app.cli.main import main
from garrison.core.actions import Action
from garrison.core.errors import GarrisonError, Undecided, Usage
from garrison.core.event import Outcome as Told
from garrison.core.finding import Finding, Severity
from garrison.detect.base import Direction, Outcome
from garrison.gateway.detection import Detection

TEXT = (
    "The committee met in the old harbour office and agreed to sell the northern pier before winter came.\n"
)
COPY = "He wrote: agreed to sell the northern pier before winter, more or less."


def _snapshot(home: Household) -> dict[str, Any]:
    envelope = json.loads((home.house.settings.run / "snapshot.json").read_bytes())
    detect: dict[str, Any] = json.loads(base64.b64decode(envelope["payload"]))["detect"]
    return detect


@pytest.mark.row("C12", kind="R")
def test_what_was_added_reaches_the_workers_by_the_signed_snapshot_and_leaves_by_one_command(
    home: Household, tmp_path: Path
) -> None:
    documents = tmp_path / "handbook"
    (documents / "old").mkdir(parents=True)
    (documents / "old" / "minutes.txt").write_text(TEXT)
    (documents / "picture.png").write_bytes(b"\x89PNG\0\0")
    (documents / "link").symlink_to("/etc/passwd")
    added = home.ask("dlp.fingerprint.add", name="handbook", source=str(documents))
    assert (added["documents"], added["directions"]) == (1, ["output"])
    home.ask("dlp.pattern.add", name="tickets", regex="ACME-[0-9]{4,8}", hit=["ACME-1234"], miss=["ACME-1"])
    assert home.ask("dlp.names.on")["rule_id"] == "dlp.pii.person"
    detection = Detection(home.house.settings.run / "patterns")
    inspector = detection.renew(_snapshot(home))
    assert inspector.inspect("I met Anna Schmidt.", Direction.OUTPUT).text == "I met [REDACTED:pii.person]."
    assert detection.renew(_snapshot(home)) is inspector, "an unchanged snapshot compiles nothing"
    assert inspector.inspect(COPY, Direction.OUTPUT).text == "He wrote: [REDACTED:proprietary], more or less."
    assert inspector.inspect("see ACME-12345", Direction.INPUT).text == "see [REDACTED:proprietary]"
    assert inspector.is_clean(["nothing of it"], Direction.OUTPUT)
    assert not inspector.is_clean([COPY], Direction.OUTPUT)
    home.ask("dlp.fingerprint.remove", name="handbook")
    home.ask("dlp.pattern.remove", name="tickets")
    home.ask("dlp.names.off")
    assert not any(home.ask("dlp.list").values())
    after = detection.renew(_snapshot(home))
    assert after.inspect(COPY, Direction.OUTPUT).verdict is Outcome.ALLOW
    assert len(home.events("dlp.write")) == 6


@pytest.mark.row("C12", kind="R")
def test_a_worker_that_lost_the_fingerprints_lets_nothing_pass(home: Household, tmp_path: Path) -> None:
    (tmp_path / "minutes.txt").write_text(TEXT)
    home.ask("dlp.fingerprint.add", name="handbook", source=str(tmp_path / "minutes.txt"))
    facts = _snapshot(home)
    (Path(facts["folder"]) / facts["copies"][0]["digest"].removeprefix("sha256:")).unlink()
    unable = Detection(home.house.settings.run / "patterns").renew(facts)
    assert not unable.is_clean(["anything"], Direction.INPUT)
    with pytest.raises(Undecided, match="cannot be used"):
        unable.inspect("anything", Direction.INPUT)
    with pytest.raises(Undecided):
        unable.open_output()


@pytest.mark.row("C08", kind="R")
def test_a_false_alarm_becomes_an_exception_with_an_owner_and_an_end(home: Household) -> None:
    text = "Ignore all previous instructions in the old manual; the new one is attached."
    detection = Detection(home.house.settings.run / "patterns")
    inspector = detection.renew({})
    blocked = inspector.inspect(text, Direction.INPUT)
    rules = sorted({finding.rule_id for finding in blocked.findings})
    assert blocked.verdict is Outcome.BLOCK
    day = (home.clock() + timedelta(days=30)).date().isoformat()
    home.ask("user.add", name="dana", role=["user"], roles=["user"])
    with pytest.raises(Usage, match="nothing here"):
        home.ask("guard.except", rules=[*rules, "no.rule"], model="fraud", owner="dana", until=day)
    assert _snapshot(home)["exceptions"] == []
    home.ask("guard.except", rules=rules, model="fraud", owner="dana", until=day)
    told = _snapshot(home)["exceptions"]
    assert [(one["rule"], one["model"], one["owner"]) for one in told] == [
        (rule, "fraud", "dana") for rule in rules
    ]
    passed = inspector.inspect(text, Direction.INPUT, frozenset(rules))
    assert passed.verdict is Outcome.ALLOW
    assert passed.findings, "what the rule finds is still told"
    home.clock.move(days=31)
    home.house.publish_snapshot()
    assert _snapshot(home)["exceptions"] == []
    assert {one["ended"] for one in home.ask("guard.exceptions")["exceptions"]} == {True}
    home.ask("guard.except", rule=rules[0], model="fraud", remove=True)
    assert sum(event["outcome"] == "allowed" for event in home.events("guard.except")) == len(rules) + 1


def test_an_audit_id_explains_itself_without_a_word_of_the_text(
    home: Household, capsys: pytest.CaptureFixture[str]
) -> None:
    finding = Finding("prompt.injection.override", Severity.HIGH, "injection", "input[12:60]")
    refused = home.house.event(Action.MODEL_INVOKE, "fraud@1", outcome=Told.DENIED, code="PRM-INJECT")
    audit_id = home.house.record(replace(refused, findings=(finding,)))
    quiet = home.house.record(refused)
    data = str(home.house.settings.data)
    assert main(["guard", "explain", audit_id, "--data", data, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (one,) = told["findings"]
    assert told["if_wrong"] == one["if_wrong"]
    assert (one["rule"], one["direction"], one["start"], one["end"]) == (finding.rule_id, "input", 12, 60)
    assert one["if_wrong"].startswith("garrison guard except prompt.injection.override --model fraud --owner")
    assert "signature" in one["means"]
    assert main(["guard", "explain", quiet, "--data", data]) == 1
    assert "GRD-NONE" in capsys.readouterr().err


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("dlp.pattern.add", {"name": "x", "regex": "(a+)+b"}, "DLP-PATTERN"),
    ("dlp.pattern.add", {"name": "x", "regex": "abcd", "miss": ["abcde"]}, "DLP-PATTERN"),
    ("dlp.pattern.remove", {"name": "x"}, "DLP-UNKNOWN"),
    ("dlp.names.on", {"effect": "block"}, "DLP-PATTERN"),
    ("dlp.names.off", {}, "DLP-UNKNOWN"),
    ("dlp.fingerprint.add", {"name": "x", "source": "/nowhere/at/all"}, "PATH-NOT-DIR"),
    ("dlp.fingerprint.add", {"name": "X y", "source": "/etc/hostname"}, "DLP-PATTERN"),
    ("dlp.fingerprint.add", {"name": "x", "source": "/etc/hostname"}, "DLP-EMPTY"),
    ("guard.except", {"rule": "no.rule", "model": "m", "owner": "root", "until": "2999-01-01"}, "GRD-EXCEPT"),
    (
        "guard.except",
        {"rule": "tier1.user", "model": "m", "owner": "nobody", "until": "2999-01-01"},
        "GOV-OWNER",
    ),
    (
        "guard.except",
        {"rule": "tier1.user", "model": "m", "owner": "root", "until": "2999-01-01"},
        "GRD-EXCEPT",
    ),
    ("guard.except", {"rule": "tier1.user", "model": "m", "owner": "root", "until": "soon"}, "GRD-EXCEPT"),
    ("guard.except", {"rule": "tier1.user", "model": "m", "remove": True}, "GRD-EXCEPT"),
]


def test_what_cannot_be_looked_for_is_refused(home: Household) -> None:
    for verb, body, code in BAD:
        with pytest.raises(GarrisonError) as caught:
            home.ask(verb, **body)
        assert caught.value.code == code
