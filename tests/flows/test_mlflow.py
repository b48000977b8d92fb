"""A real MLflow server beside Garrison: import, and what happens at the source afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.flows.peers import MlflowServer, peer
from tests.flows.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("mlflow")]

TRAIN = """
import pandas as pd
mlflow.set_experiment("fraud")
with mlflow.start_run() as run:
    mlflow.log_params({"depth": 3, "rate": 0.1})
    mlflow.log_metric("auc", 0.93)
    frame = pd.DataFrame({"amount": [1.0, 2.0], "label": [0, 1]})
    mlflow.log_input(mlflow.data.from_pandas(frame, name="payments"), context="training")
    mlflow.log_artifacts(words[0], "model")
c.create_registered_model(words[1])
v = c.create_model_version(words[1], f"{run.info.artifact_uri}/model", run.info.run_id)
c.set_registered_model_alias(words[1], "champion", v.version)
print(run.info.run_id)
"""


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(peer("mlflow"), tmp_path_factory.mktemp("mlflow")).start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("house") / "data").start()
    server.ok("user", "add", "dana", "--role", "approver")
    yield server
    assert server.stop() == 0


def _model(place: Path) -> Path:
    (place / "weights").mkdir(parents=True)
    (place / "config.json").write_text('{"layers": 2}\n')
    (place / "weights" / "vocab.txt").write_text("pay\nback\n")
    return place


def _import(server: Server, mlflow: MlflowServer, name: str, *more: str) -> list[str]:
    return [
        *("import", "mlflow", f"models:/{name}/1", "--tracking-uri", mlflow.url),
        *("--as", f"{name}@1", "--owner", "ml-team", "--tier", "internal", *more),
    ]


def _drift(server: Server, name: str) -> tuple[int, set[str], str]:
    answer = server.cli("drift", name)
    version = answer.json["versions"][0]
    return answer.status, {found["rule_id"] for found in version["findings"]}, answer.out


@pytest.mark.row("A18", kind="R")
def test_a_version_is_imported_with_its_run_and_a_later_overwrite_is_found(
    running: Server, mlflow: MlflowServer, tmp_path: Path
) -> None:
    model = _model(tmp_path / "fraud")
    run_id = mlflow.client(TRAIN, str(model), "fraud")
    result = running.ok(*_import(running, mlflow, "fraud"))
    assert result["parameters"] == {"depth": "3", "rate": "0.1"}
    assert result["metrics"] == {"auc": 0.93}
    kinds = {row["kind"]: row for row in result["materials"]}
    assert kinds["run"]["name"] == run_id
    assert kinds["data"]["name"] == "payments"
    assert kinds["data"]["digests"]["mlflow"]
    assert kinds["data"]["facts"]["context"] == "training"
    assert _drift(running, "fraud@1")[:2] == (0, set())

    # What MLflow itself accepts without a word: other bytes under the same registered version.
    (model / "config.json").write_text('{"layers": 3}\n')
    mlflow.client("c.log_artifact(words[0], words[1], 'model')", run_id, str(model / "config.json"))
    status, rules, out = _drift(running, "fraud@1")
    assert (status, rules) == (1, {"DRIFT-CONTENT"})
    (finding,) = json.loads(out)["versions"][0]["findings"]
    assert finding["where"] == "config.json"
    assert "expected sha256:" in finding["message"]
    assert "found sha256:" in finding["message"]
    assert running.cli("model", "verify", "fraud@1").status == 0  # the imported copy is as it was


@pytest.mark.row("A18", kind="R")
def test_a_moved_alias_and_a_changed_metric_are_drift(
    running: Server, mlflow: MlflowServer, tmp_path: Path
) -> None:
    model = _model(tmp_path / "credit")
    run_id = mlflow.client(TRAIN, str(model), "credit")
    running.ok(*_import(running, mlflow, "credit"))
    mlflow.client(
        "v = c.create_model_version('credit', c.get_model_version('credit', 1).source, words[0])\n"
        "c.set_registered_model_alias('credit', 'champion', v.version)\n"
        "c.log_metric(words[0], 'auc', 0.99)",
        run_id,
    )
    status, rules, out = _drift(running, "credit")
    assert (status, rules) == (1, {"DRIFT-ALIAS", "DRIFT-RUN"})
    assert "expected '1', found '2'" in out
    mlflow.client("c.delete_model_version('credit', '1')")
    assert _drift(running, "credit")[:2] == (1, {"DRIFT-SOURCE"})


@pytest.mark.row("A18", kind="R")
def test_a_server_that_does_not_answer_is_not_taken_for_unchanged(
    running: Server, mlflow: MlflowServer, tmp_path: Path
) -> None:
    mlflow.client(TRAIN, str(_model(tmp_path / "churn")), "churn")
    running.ok(*_import(running, mlflow, "churn"))
    mlflow.stop()
    try:
        answer = running.cli("drift", "churn")
        assert answer.status == 3
        assert answer.json["verdict"] == "unknown"
        assert answer.json["versions"][0]["code"] == "LIN-UNREACHABLE"
        assert running.cli(*_import(running, mlflow, "churn")).code == "LIN-UNREACHABLE"
    finally:
        mlflow.start()
    assert running.cli("drift", "churn").status == 0


def test_a_version_that_is_not_there_and_a_credential_in_an_address_are_refused(
    running: Server, mlflow: MlflowServer
) -> None:
    assert running.cli(*_import(running, mlflow, "nobody")).code == "LIN-GONE"
    words = ["--as", "x@1", "--owner", "ml-team", "--tier", "internal"]
    address = "http://dana:secret@127.0.0.1:1"
    answer = running.cli("import", "mlflow", "models:/x/1", "--tracking-uri", address, *words)
    assert answer.code == "LIN-SOURCE"
    assert "secret" not in answer.out
    metadata = "http://169.254.169.254"
    answer = running.cli("import", "mlflow", "models:/x/1", "--tracking-uri", metadata, *words)
    assert answer.code == "LIN-PLACE"
