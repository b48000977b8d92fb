"""The rules and the dashboard that are shipped name only what there is, and find what they are for."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.evidence.conftest import an_event

from garrison.app import metrics_page
from garrison.app.cli.main import main
from garrison.core.actions import Action
from garrison.core.codes import CODES
from garrison.core.event import Outcome
from garrison.core.finding import Finding, Severity
from garrison.evidence.export import to_ocsf
from garrison.evidence.record import make_record
from garrison.evidence.sinks import shipped
from garrison.evidence.telemetry.family import HISTOGRAM
from garrison.gateway import metrics

FILES = dict(shipped.files())
RULES = {name: yaml.safe_load(data) for name, data in FILES.items() if name.startswith("sigma/")}
CASES = {
    "failed-logins": {"action": Action.ALERT_RAISE, "code": "AUTH-ALERT"},
    "unusual-use": {"action": Action.ALERT_RAISE, "code": "ANO-EXTRACT"},
    "prompt-injection": {"outcome": Outcome.DENIED, "code": "PRM-INJECT"},
    "ledger": {"action": Action.SYSTEM_REPAIR, "outcome": Outcome.DENIED, "code": "DB-EDITED"},
    "model-not-signed": {"action": Action.ARTIFACT_VERIFY, "outcome": Outcome.DENIED, "code": "ART-REST"},
    "sink-silent": {"action": Action.SINK_DELIVER, "outcome": Outcome.UNKNOWN, "code": "SINK-AWAY"},
    "sink-changed": {"action": Action.SINK_WRITE},
    "admin-recovered": {"action": Action.ADMIN_RECOVER},
}


def ocsf(**fields: Any) -> dict[str, Any]:
    found = (Finding("rule", Severity.HIGH, "what", "where"),)
    return to_ocsf(make_record(1, an_event(findings=found, **fields)), "0.1.0")


def matches(rule: dict[str, Any], event: dict[str, Any]) -> bool:
    """A Sigma rule of one selection, as shipped: equality, startswith, lists as alternatives."""
    return all(_field(event, key, wanted) for key, wanted in rule["detection"]["selection"].items())


def _field(event: dict[str, Any], key: str, wanted: Any) -> bool:
    path, _, modifier = key.partition("|")
    value: Any = event
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    options = wanted if isinstance(wanted, list) else [wanted]
    return any(str(value).startswith(str(one)) if modifier else value == one for one in options)


@pytest.mark.row("C23", kind="C")
@pytest.mark.row("C24", kind="C")
@pytest.mark.parametrize("name", sorted(CASES))
def test_a_rule_finds_what_it_is_for_and_nothing_else(name: str) -> None:
    rule = RULES[f"sigma/{name}.yml"]
    assert matches(rule, ocsf(**CASES[name]))
    assert not matches(rule, ocsf())
    others = [case for other, case in CASES.items() if other != name]
    assert not any(matches(rule, ocsf(**case)) for case in others)


def test_every_rule_is_complete_and_names_codes_and_actions_that_there_are() -> None:
    assert {Path(name).stem for name in RULES} == set(CASES)
    assert len({rule["id"] for rule in RULES.values()}) == len(RULES)
    for rule in RULES.values():
        assert uuid.UUID(rule["id"])
        assert rule["detection"]["condition"] == "selection"
        assert rule["level"] in ("medium", "high", "critical")
        assert rule["falsepositives"]
        selection = rule["detection"]["selection"]
        if "metadata.event_code" in selection:
            Action(selection["metadata.event_code"])
        for key, wanted in selection.items():
            if key.startswith("status_code"):
                for one in wanted if isinstance(wanted, list) else [wanted]:
                    assert any(code.startswith(one) for code in CODES), one


@pytest.mark.row("C17", kind="C")
def test_the_dashboard_names_only_figures_that_there_are_and_all_of_them() -> None:
    dashboard = json.loads(FILES["grafana.json"])
    exprs = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    named = set(re.findall(r"\b(?:garrison|gen_ai)_\w+", " ".join(exprs)))
    labels = {"gen_ai_request_model", "gen_ai_token_type"}
    families = (*metrics.FAMILIES, *metrics_page.FAMILIES)
    known = {
        f"{family.prometheus}{suffix}": family.prometheus
        for family in families
        for suffix in (("_bucket", "_sum", "_count") if family.kind == HISTOGRAM else ("",))
    }
    assert named - labels <= set(known)
    shown = {known[name] for name in named - labels}
    assert {family.prometheus for family in families} - shown == {"garrison_gateway_connections_refused"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_files_are_written_for_who_asks_for_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sink", "files", str(tmp_path / "siem"), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["written"]
    assert len(written) == len(FILES)
    assert (tmp_path / "siem" / "sigma" / "failed-logins.yml").read_bytes() == FILES[
        "sigma/failed-logins.yml"
    ]
    collector = yaml.safe_load(FILES["otel-collector.yaml"])
    assert set(collector["service"]["pipelines"]) == {"logs", "traces", "metrics"}
    assert yaml.safe_load(FILES["prometheus.yml"])["scrape_configs"][0]["job_name"] == "garrison"
