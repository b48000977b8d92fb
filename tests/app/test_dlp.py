"""Patterns and fingerprints of a customer: told by the ledger, carried by the signed snapshot, used by a worker."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tests.app.household import Household

from garrison.core.errors import GarrisonError, Undecided
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
    detection = Detection(home.house.settings.run / "patterns")
    inspector = detection.renew(_snapshot(home))
    assert detection.renew(_snapshot(home)) is inspector, "an unchanged snapshot compiles nothing"
    assert inspector.inspect(COPY, Direction.OUTPUT).text == "He wrote: [REDACTED:proprietary], more or less."
    assert inspector.inspect("see ACME-12345", Direction.INPUT).text == "see [REDACTED:proprietary]"
    assert inspector.is_clean(["nothing of it"], Direction.OUTPUT)
    assert not inspector.is_clean([COPY], Direction.OUTPUT)
    home.ask("dlp.fingerprint.remove", name="handbook")
    home.ask("dlp.pattern.remove", name="tickets")
    assert home.ask("dlp.list") == {"patterns": [], "copies": []}
    after = detection.renew(_snapshot(home))
    assert after.inspect(COPY, Direction.OUTPUT).verdict is Outcome.ALLOW
    assert len(home.events("dlp.write")) == 4


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


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("dlp.pattern.add", {"name": "x", "regex": "(a+)+b"}, "DLP-PATTERN"),
    ("dlp.pattern.add", {"name": "x", "regex": "abcd", "miss": ["abcde"]}, "DLP-PATTERN"),
    ("dlp.pattern.remove", {"name": "x"}, "DLP-UNKNOWN"),
    ("dlp.fingerprint.add", {"name": "x", "source": "/nowhere/at/all"}, "PATH-NOT-DIR"),
    ("dlp.fingerprint.add", {"name": "X y", "source": "/etc/hostname"}, "DLP-PATTERN"),
    ("dlp.fingerprint.add", {"name": "x", "source": "/etc/hostname"}, "DLP-EMPTY"),
]


def test_what_cannot_be_looked_for_is_refused(home: Household) -> None:
    for verb, body, code in BAD:
        with pytest.raises(GarrisonError) as caught:
            home.ask(verb, **body)
        assert caught.value.code == code
