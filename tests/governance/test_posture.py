"""Posture is computed, is red without evidence, and one changed fact turns exactly its line."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from garrison.app.cli import posture as command
from garrison.app.jobs import JOBS
from garrison.core.codes import CODES
from garrison.core.event import age
from garrison.governance.facts import (
    DeploymentFacts,
    DriftFacts,
    Facts,
    GatewayFacts,
    GuardFacts,
    JobFacts,
    LedgerFacts,
    ReleaseFacts,
    StandFacts,
)
from garrison.governance.posture import BAD, LAYERS, OK, WARN, compute, render

NOW = datetime(2026, 11, 22, 14, 3, tzinfo=UTC)
GREEN = Facts(
    now=NOW,
    releases=(
        ReleaseFacts("fraud@1", "approved", "clean", "ml"),
        ReleaseFacts("old@1", "retired", "refused", ""),
    ),
    deployments=(DeploymentFacts("fraud@1", "bwrap", NOW - timedelta(seconds=40), True),),
    hardware_keys=("release", "ledger"),
    probes=(("bwrap", 12, 12),),
    gateway=GatewayFacts("", 10, 0, (("dana", 900),)),
    ledger=LedgerFacts("intact", "", "", "a-000431", 431),
    jobs=(
        JobFacts("check-drift", "artifacts", timedelta(hours=24), NOW, "allowed", evidence="a-000012"),
        JobFacts("check-rows", "governance", timedelta(hours=1), NOW, "allowed", evidence="a-000013"),
    ),
    keyring=StandFacts("keyring 3: 8 keys, 0 revoked", evidence="a-000007"),
    approved_list=StandFacts("approved list fresh for 20 h", evidence="a-000009"),
    inventory=NOW,
    pipeline_checks=("documents are inspected",),
)


def levels(facts: Facts) -> dict[str, str]:
    return {layer.name: layer.level for layer in compute(facts).layers}


@pytest.mark.row("F07", kind="R")
def test_without_evidence_every_layer_is_bad_and_nothing_is_green() -> None:
    posture = compute(Facts(now=NOW))
    assert [layer.name for layer in posture.layers] == list(LAYERS)
    assert {layer.level for layer in posture.layers} == {BAD}
    assert sum(layer.count(OK) for layer in posture.layers) == 0
    assert posture.next == "garrison model publish DIR --as NAME@1"


@pytest.mark.row("F07", kind="R")
def test_full_evidence_is_green_in_five_lines() -> None:
    assert levels(GREEN) == dict.fromkeys(LAYERS, OK)
    lines = render(compute(GREEN))
    assert len(lines) == 8
    assert "audit intact to a-000431" in lines[-1]
    assert "1 model in production · 1 verified 40 s ago" in lines[-2]


ONE = GREEN.deployments[0]
DRIFT, ROWS = GREEN.jobs
STOLEN = ReleaseFacts("fraud@1", "approved", "clean", "ml", "release")
LANDLOCK = {"deployments": (replace(ONE, isolation="landlock"),), "probes": (("landlock", 12, 12),)}
CHANGES = [
    ({"releases": (ReleaseFacts("fraud@1", "approved", "clean", ""),)}, "governance", BAD, "GOV-OWNER"),
    ({"releases": (ReleaseFacts("fraud@1", "approved", "incomplete", "ml"),)}, "artifacts", BAD, "ART-INCOMPLETE"),
    ({"releases": (STOLEN,)}, "artifacts", BAD, "KEY-REVOKED"),
    ({"releases": (replace(STOLEN, ref="fraud@2"),)}, "artifacts", WARN, "KEY-REVOKED"),
    ({"hardware_keys": (), "software_keys": ("release",)}, "artifacts", WARN, "KEY-SOFT"),
    ({"hardware_keys": ()}, "artifacts", BAD, "POS-NONE"),
    ({"deployments": (replace(ONE, verified=None),)}, "runtime", BAD, "ART-UNCHECKED"),
    ({"deployments": (replace(ONE, is_verified=False),)}, "runtime", BAD, "ART-REST"),
    ({"deployments": (replace(ONE, verified=NOW - timedelta(days=2)),)}, "runtime", WARN, "ART-UNCHECKED"),
    ({"deployments": (replace(ONE, crashes=2),)}, "runtime", WARN, "RUN-CRASHES"),
    ({"probes": ()}, "runtime", WARN, "ISO-PROBE"),
    ({"probes": (("bwrap", 11, 12),)}, "runtime", BAD, "ISO-PROBE"),
    (LANDLOCK, "runtime", WARN, "ISO-LOW"),
    ({"deployments": ()}, "runtime", BAD, "POS-NONE"),
    ({"gateway": None}, "gateway", BAD, "POS-NONE"),
    ({"gateway": GatewayFacts("its snapshot ended", 0, 0, ())}, "gateway", BAD, "GW-SNAPSHOT"),
    ({"gateway": GatewayFacts("", 0, 0, (("ci", 7_200),))}, "gateway", WARN, "TOK-TTL"),
    ({"gateway": GatewayFacts("", 0, 0, (("ci", 86_400),))}, "gateway", BAD, "TOK-TTL"),
    ({"ledger": None}, "governance", BAD, "POS-NONE"),
    ({"ledger": LedgerFacts("broken", "AUD-EDITED", "a-000002", "", 9)}, "governance", BAD, "AUD-EDITED"),
    ({"ledger": LedgerFacts("undecided", "AUD-WITNESS", "none", "", 9)}, "governance", BAD, "AUD-WITNESS"),
    ({"inventory": None}, "governance", BAD, "INV-NONE"),
    ({"jobs": (replace(DRIFT, last=None), ROWS)}, "artifacts", WARN, "SCHED-LATE"),
    ({"jobs": (replace(DRIFT, last=NOW - timedelta(hours=49)), ROWS)}, "artifacts", WARN, "SCHED-LATE"),
    ({"jobs": (replace(DRIFT, last=NOW + timedelta(days=365)), ROWS)}, "artifacts", WARN, "SCHED-LATE"),
    ({"jobs": (replace(DRIFT, outcome="unknown", code="LIN-UNREACHABLE"), ROWS)}, "artifacts", WARN, "LIN-UNREACHABLE"),
    ({"jobs": (DRIFT, replace(ROWS, outcome="denied", code="DB-EDITED"))}, "governance", BAD, "DB-EDITED"),
    ({"alerts": (("al-1", "ANO-EXTRACT", "user:mallory", "throttle"),)}, "gateway", WARN, "ANO-EXTRACT"),
    ({"drift": (DriftFacts("fraud@1", True, "DRIFT-CONTENT", "a-000020"),)}, "artifacts", BAD, "DRIFT-CONTENT"),
    ({"drift": (DriftFacts("fraud@1", False, "LIN-DENIED", "a-000020"),)}, "artifacts", WARN, "LIN-DENIED"),
    ({"keyring": StandFacts("older", "KEY-ROLLBACK", "garrison key list")}, "artifacts", BAD, "KEY-ROLLBACK"),
    ({"approved_list": StandFacts("stale", "TUF-EXPIRED", "garrison approvals")}, "artifacts", BAD, "TUF-EXPIRED"),
    ({"exceptions": (("tier1.user", "fraud", "dana", NOW + timedelta(days=2)),)}, "gateway", WARN, "GRD-EXCEPT"),
    ({"exceptions": (("tier1.user", "fraud", "dana", NOW - timedelta(days=2)),)}, "gateway", WARN, "GRD-EXCEPT"),
    ({"guards": (GuardFacts("fraud", observes=True, observed=3),)}, "gateway", WARN, "GRD-ROUTE"),
    ({"guards": (GuardFacts("fraud", tolerant=True),)}, "gateway", WARN, "PRM-UNDECIDED"),
    ({"guards": (GuardFacts("fraud", failed=2),)}, "gateway", WARN, "PRM-UNDECIDED"),
    ({"pipeline_checks": ()}, "data pipeline", BAD, "POS-NONE"),
]  # fmt: skip


@pytest.mark.row("F07", kind="R")
@pytest.mark.parametrize(("change", "layer", "level", "code"), CHANGES)
def test_one_changed_fact_turns_exactly_its_line(change, layer, level, code) -> None:
    facts = replace(GREEN, **change)
    assert levels(facts) == dict.fromkeys(LAYERS, OK) | {layer: level}
    found = next(each for each in compute(facts).layers if each.name == layer).worst
    assert found.code == code
    assert found.next.startswith("garrison ")


def test_what_is_well_names_the_event_that_says_so() -> None:
    layer = compute(GREEN).as_json()["layers"][0]
    assert {item["evidence"] for item in layer["items"]} == {"a-000007", "a-000009", "a-000012"}
    assert {item["level"] for item in layer["items"]} == {OK}


def test_posture_knows_every_periodic_job() -> None:
    assert list(command.JOB_LAYERS) == [job.name for job in JOBS]
    assert set(command.JOB_LAYERS.values()) <= set(LAYERS)


def test_every_line_fits_and_every_code_has_a_page() -> None:
    for change, *_ in CHANGES:
        posture = compute(replace(GREEN, **change, now=NOW))
        assert all(len(line) <= 79 for line in render(posture))
    long = replace(GREEN, releases=(ReleaseFacts(f"{'m' * 63}@1", "approved", "refused", ""),))
    assert all(len(line) <= 79 for line in render(compute(long)))
    pages = {"KEY-SOFT", "POS-NONE", "INV-NONE", "ISO-LOW", "ISO-PROBE", "RUN-CRASHES", "ART-UNCHECKED"}
    assert pages <= set(CODES)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (172_800, "2 d"), (-5, "0 s")],
)
def test_ages_are_short(seconds, text) -> None:
    assert age(timedelta(seconds=seconds)) == text


def run(tmp_path, *, as_json: bool, strict: bool = False, **options) -> int:
    args = argparse.Namespace(edge=False, data=str(tmp_path), json=as_json, strict=strict)
    return command.run(args, **options)


def test_the_command_prints_five_lines_and_json(tmp_path, capsys) -> None:
    assert run(tmp_path, as_json=False, gather=lambda data, now: GREEN) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("artifacts")
    assert run(tmp_path, as_json=True, strict=True, gather=lambda data, now: GREEN) == 0
    body = json.loads(capsys.readouterr().out)
    assert [layer["name"] for layer in body["layers"]] == list(LAYERS)


@pytest.mark.row("F07", kind="R")
def test_an_empty_or_damaged_data_directory_is_red_and_no_traceback(tmp_path, capsys) -> None:
    for content in (None, b"", b"not a database" * 200):
        if content is not None:
            (tmp_path / "garrison.db").write_bytes(content)
        assert run(tmp_path, as_json=True, strict=True) == 1
        body = json.loads(capsys.readouterr().out)
        assert {layer["level"] for layer in body["layers"]} == {BAD}
