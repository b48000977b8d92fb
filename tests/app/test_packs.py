"""Signed rule packs: tried, verified, never older, one step back, and in use by a worker that goes on serving."""

from __future__ import annotations

import json
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from tests.app.household import Household
from tests.app.test_dlp import _snapshot

from garrison.app.cli.main import main
from garrison.core.digest import canonical_json
from garrison.core.errors import GarrisonError, Undecided
from garrison.detect.base import Direction
from garrison.detect.pack import PAYLOAD_TYPE, write_pack
from garrison.detect.rulepack import PACKS, built_in_rules
from garrison.gateway.detection import Detection
from garrison.trust import dsse
from garrison.trust.keys.file import FileSigner

RULES = """
[[rule]]
id = "acme.badge"
kind = "secret.acme-badge"
trigger = 'BDG-[0-9]'
pattern = 'BDG-[0-9]{6}'
severity = "critical"
owasp = ["LLM02"]
atlas = ["AML.T0057"]
hit = ["badge BDG-123456."]
miss = ["BDG-12"]
"""


@pytest.fixture
def maker() -> FileSigner:
    return FileSigner("maker")


def _pack(maker: FileSigner, folder: Path, version: int, rules: str = RULES, name: str = "acme") -> str:
    path = folder / f"{name}-{version}.pack"
    payload = write_pack(rules, name, version)
    path.write_bytes(canonical_json(dsse.sign(payload, PAYLOAD_TYPE, maker)))
    return str(path)


def _install(home: Household, maker: FileSigner, source: str) -> dict[str, Any]:
    return home.ask("guard.pack.install", source=source, key=maker.public_pem().decode())


def _refused(home: Household, maker: FileSigner, source: str) -> str:
    with pytest.raises(GarrisonError) as caught:
        _install(home, maker, source)
    return caught.value.code


@pytest.mark.row("C11", kind="R")
def test_a_pack_is_used_by_a_worker_and_only_newer_ones_of_its_maker_follow(
    home: Household, maker: FileSigner, tmp_path: Path
) -> None:
    detection = Detection(home.house.settings.run / "patterns")
    before = detection.renew({})
    text = "my badge is BDG-123456 today"
    assert before.inspect(text, Direction.OUTPUT).text == text
    _install(home, maker, _pack(maker, tmp_path, 2))
    inspector = detection.renew(_snapshot(home))
    assert inspector.inspect(text, Direction.OUTPUT).text == "my badge is [REDACTED:acme-badge] today"
    assert before.inspect(text, Direction.OUTPUT).text == text, "a request that has begun goes on as it began"
    for version in (1, 2):
        assert _refused(home, maker, _pack(maker, tmp_path, version)) == "DLP-PACK"
    stranger = FileSigner("stranger")
    assert _refused(home, stranger, _pack(stranger, tmp_path, 9)) == "DLP-PACK"
    assert _refused(home, maker, _pack(stranger, tmp_path, 9)) != "DLP-PACK", (
        "the signature is looked at first"
    )
    _install(home, maker, _pack(maker, tmp_path, 3, RULES.replace("{6}", "{5}")))
    home.ask("guard.pack.rollback", name="acme")
    (listed,) = home.ask("guard.pack.list")["packs"]
    assert (listed["version"], listed["highest"]) == (2, 3)
    assert _refused(home, maker, _pack(maker, tmp_path, 3)) == "DLP-PACK", "what was left is not taken again"
    home.ask("guard.pack.remove", name="acme")
    assert detection.renew(_snapshot(home)).inspect(text, Direction.OUTPUT).text == text


def test_a_rule_of_a_pack_takes_the_place_of_the_built_in_one_of_its_id(
    home: Household, maker: FileSigner, tmp_path: Path
) -> None:
    _install(home, maker, _pack(maker, tmp_path, 1, RULES.replace("acme.badge", "dlp.pii.ipv4")))
    inspector = Detection(home.house.settings.run / "patterns").renew(_snapshot(home))
    found = inspector.inspect("from 187.131.219.151, BDG-123456", Direction.OUTPUT).findings
    assert [finding.kind for finding in found] == ["secret.acme-badge"]


@pytest.mark.parametrize(
    "rules",
    [
        RULES.replace("BDG-123456.", "BDG-12."),
        RULES.replace('BDG-12"', 'BDG-777777"'),
        RULES.replace('hit = ["badge BDG-123456."]', ""),
        RULES + RULES,
        "",
    ],
    ids=["misses", "hits", "without examples", "twice", "empty"],
)
def test_a_pack_whose_rules_do_not_hold_is_not_installed(
    home: Household, maker: FileSigner, tmp_path: Path, rules: str
) -> None:
    assert _refused(home, maker, _pack(maker, tmp_path, 1, rules)) == "DLP-RULE"
    assert home.ask("guard.pack.list") == {"packs": []}


def test_a_worker_that_lost_a_pack_lets_nothing_pass(
    home: Household, maker: FileSigner, tmp_path: Path
) -> None:
    _install(home, maker, _pack(maker, tmp_path, 1))
    facts = _snapshot(home)
    file = Path(facts["folder"]) / f"pack-{facts['packs'][0]['digest'].removeprefix('sha256:')}"
    file.write_bytes(file.read_bytes().replace(b"BDG", b"XXX"))
    unable = Detection(home.house.settings.run / "patterns").renew(facts)
    with pytest.raises(Undecided, match="not the one installed"):
        unable.inspect("anything", Direction.INPUT)


def test_a_house_signs_its_own_packs_and_anybody_verifies_one_without_a_server(
    home: Household, maker: FileSigner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    sealed = home.ask("guard.pack.sign", source=str(tmp_path / "rules.toml"), name="own", version=1)
    (tmp_path / "own.pack").write_text(sealed["envelope"])
    assert home.ask("guard.pack.install", source=str(tmp_path / "own.pack"))["version"] == 1
    (tmp_path / "maker.pem").write_bytes(maker.public_pem())
    source = _pack(maker, tmp_path, 4)
    assert main(["guard", "pack", "verify", source, "--key", str(tmp_path / "maker.pem"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rules"] == 1
    assert (
        main(["guard", "pack", "verify", str(tmp_path / "own.pack"), "--key", str(tmp_path / "maker.pem")])
        != 0
    )


def test_values_canaries_and_hosts_are_told_by_the_ledger_and_reach_the_workers(home: Household) -> None:
    home.ask("dlp.action.set", tier="personal", direction="output", **{"class": "pii", "action": "mask"})
    canary = home.ask("dlp.canary.add", name="support")["value"]
    home.ask("dlp.host.add", name="docs.firm.com")
    facts = _snapshot(home)
    assert facts["actions"][0]["action"] == "mask"
    inspector = Detection(home.house.settings.run / "patterns").renew(facts)
    found = inspector.inspect(f"it says {canary}, see https://evil.example/a", Direction.OUTPUT)
    assert found.text == "it says [REDACTED:exfiltration], see [REDACTED:exfiltration]"
    with pytest.raises(GarrisonError, match="DLP-ACTION"):
        home.ask(
            "dlp.action.set", tier="personal", direction="input", **{"class": "secret", "action": "tokenise"}
        )
    home.ask("dlp.action.remove", tier="personal", direction="output", **{"class": "pii"})
    home.ask("dlp.canary.remove", name="support")
    home.ask("dlp.host.remove", name="docs.firm.com")
    assert not any(home.ask("dlp.list").values())


def test_every_rule_says_how_bad_it_is_and_which_items_of_owasp_and_atlas_it_is_about() -> None:
    folder = files("garrison.detect") / "rules"
    known = {rule.id: rule for rule in built_in_rules() if rule.kind not in ("view", "gate", "turns")}
    assert all(rule.severity and rule.owasp and rule.atlas for rule in known.values())
    assert {item for rule in known.values() for item in rule.owasp} >= {"LLM01", "LLM02", "LLM10"}
    entries = [entry for pack in PACKS for entry in tomllib.loads((folder / pack).read_text("utf-8"))["rule"]]
    assert len(entries) == len(built_in_rules())
