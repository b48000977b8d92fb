"""Evaluation reports: known by their shape, signed with the version, and no score changes afterwards."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.app.household import Household
from tests.artifacts.trained import Trained

from garrison.artifacts.evaluations import read_report
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage

HARNESS = {
    "results": {
        "hellaswag": {"alias": "hellaswag", "acc,none": 0.43, "acc_stderr,none": 0.005},
        "arc_easy": {"alias": "arc_easy", "acc,none": 0.61},
    },
    "n-shot": {"hellaswag": 0},
    "config": {"model": "hf"},
}
MLFLOW = {"metrics": {"accuracy_score": 0.9, "toxicity/v1/mean": 0.01}, "artifacts": {}}


@pytest.fixture
def evaluated(home: Household, trained: Trained, request: pytest.FixtureRequest) -> str:
    """A version with one attached report, under a name of its own."""
    ref = f"{request.node.name.replace('_', '-')[:40].strip('-')}@1"
    home.publish(trained.model, ref)
    home.ask("eval.attach", ref=ref, report=str(trained.report), suite="holdout")
    return ref


@pytest.mark.row("A28")
def test_a_report_feeds_provenance_and_the_bill_of_materials(
    home: Household, trained: Trained, evaluated: str
) -> None:
    assert home.ask("eval.verify", ref=evaluated)["reports"][0]["metrics"][0] == {
        "name": "accuracy",
        "value": trained.accuracy,
    }
    assert "evaluation" not in home.ask("model.provenance", ref=evaluated)["gaps"]
    metrics = home.ask("model.bom", ref=evaluated)["document"]["metadata"]["component"]["modelCard"][
        "quantitativeAnalysis"
    ]["performanceMetrics"]
    assert {"type": "accuracy", "value": repr(trained.accuracy), "slice": "holdout"} in metrics


@pytest.mark.row("A28")
@pytest.mark.parametrize("where", ["file", "row"])
def test_one_changed_score_is_refused_and_named(home: Household, evaluated: str, where: str) -> None:
    name = evaluated.partition("@")[0]
    path = home.house.settings.data / "models" / name / "1.evaluation-holdout.json"
    envelope = json.loads(path.read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"]["metrics"][0]["value"] = 0.999
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    if where == "file":
        path.chmod(0o644)
        path.write_text(json.dumps(envelope))
    else:
        home.edit(
            "UPDATE attachments SET envelope = ? WHERE name = ? AND kind = 'evaluation'",
            json.dumps(envelope).encode(),
            name,
        )
    with pytest.raises(Refused, match=r"EVAL-TAMPER: .*the score accuracy") as refused:
        home.ask("eval.verify", ref=evaluated)
    assert refused.value.exit_status == 1
    with pytest.raises(Refused, match="ART-ATTACHMENT"):  # and nothing deploys, pulls or approves it
        home.ask("model.verify", ref=evaluated)


@pytest.mark.row("A28")
def test_a_changed_copy_is_refused_and_its_score_named(
    home: Household, trained: Trained, evaluated: str, tmp_path: Path
) -> None:
    copy = tmp_path / "evaluation.json"
    copy.write_bytes(trained.report.read_bytes())
    home.ask("eval.verify", ref=evaluated, copy=str(copy))
    copy.write_text(json.dumps({"metrics": {"accuracy": 0.999, "rows": 100}}))
    with pytest.raises(Refused, match=r"EVAL-TAMPER: .*the score accuracy is 0.999"):
        home.ask("eval.verify", ref=evaluated, copy=str(copy))


def test_reports_of_one_suite_are_all_kept(home: Household, trained: Trained, evaluated: str) -> None:
    home.ask("eval.attach", ref=evaluated, report=str(trained.report), suite="holdout")
    labels = [row["label"] for row in home.ask("eval.list", ref=evaluated)["reports"]]
    assert labels == ["evaluation-holdout", "evaluation-holdout-2"]
    assert len(home.ask("eval.list", ref=evaluated.partition("@")[0])["reports"]) == 2


def test_without_a_report_there_is_nothing_to_verify(home: Household, trained: Trained) -> None:
    home.publish(trained.model, "unjudged@1")
    with pytest.raises(Undecided, match="EVAL-NONE"):
        home.ask("eval.verify", ref="unjudged@1")


@pytest.mark.parametrize(
    ("report", "form", "first"),
    [
        (HARNESS, "lm-evaluation-harness", ("hellaswag/acc", 0.43)),
        (MLFLOW, "mlflow-evaluate", ("accuracy_score", 0.9)),
        ({"toxicity/v1/mean": 0.1}, "mlflow-evaluate", ("toxicity/v1/mean", 0.1)),
        ({"a": {"b": {"f1": 0.5}}}, "metrics", ("a.b.f1", 0.5)),
        ([{"name": "f1", "value": 0.5}], "metrics", ("f1", 0.5)),
    ],
)
def test_reports_are_known_by_their_shape(
    tmp_path: Path, report: Any, form: str, first: tuple[str, float]
) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    predicate = read_report(path, None)
    assert predicate["format"] == form
    assert predicate["metrics"][0] == {"name": first[0], "value": first[1]}


@pytest.mark.parametrize("text", ["{}", "[]", "nothing", '{"a": NaN}', '{"a": 1, "a": 2}', '{"a": "high"}'])
def test_what_has_no_score_is_no_report(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(Usage, match="EVAL-REPORT"):
        read_report(path, None)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_any_json_is_a_report_or_an_explained_refusal(
    tmp_path_factory: pytest.TempPathFactory, value: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(value))
    assert _refusal(path) in ("", "EVAL-REPORT")


def _refusal(path: Path) -> str:
    try:
        read_report(path, None)
    except GarrisonError as error:
        return error.code
    return ""
