"""The acceptance commands of provenance, bills of materials, evaluations and data sets, as a person types them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from tests.artifacts.trained import train
from tests.flows.server import Server, run

OWN = "https://garrison.dev/builders/publication/v1"


@pytest.mark.row("A21")
@pytest.mark.row("A22")
@pytest.mark.row("A28")
@pytest.mark.row("A29")
@pytest.mark.row("D06")
def test_a_trained_model_is_told_whole_and_every_change_is_refused(server: Server, tmp_path: Path) -> None:
    made = train(tmp_path / "fraud")
    server.start()
    registered = ("--as", "payments@2", "--owner", "root", "--tier", "internal")
    server.ok("dataset", "register", str(made.data), *registered)
    asked = ("--as", "fraud@3", "--owner", "root", "--tier", "internal", "--lineage", str(made.lineage))
    server.ok("model", "publish", str(made.model), *asked)

    listed = run(["--data", str(server.data), "owner", "list", "--csv"])
    cells = {row["model"]: row for row in csv.DictReader(listed.out.splitlines())}["fraud"]
    assert (cells["owner"], cells["gaps"]) == ("root", "nobody is responsible for the work")
    assert listed.status == 1, "the exit tells a pipeline that there is a gap"

    shown = server.ok("model", "show", "fraud@3", "--provenance")
    assert shown["gaps"] == []
    names = {part["part"]: [row["name"] for row in part["materials"]] for part in shown["parts"]}
    assert names == {
        "data": ["payments.csv"],
        "preprocessing": ["prepare.py"],
        "run": ["run-17"],
        "evaluation": ["evaluation.json"],
    }

    server.ok("eval", "attach", "fraud@3", str(made.report), "--suite", "holdout")
    assert server.cli("eval", "verify", "fraud@3").status == 0
    for form in ("cyclonedx", "cyclonedx-1.7", "spdx"):
        assert server.cli("model", "bom", "fraud@3", "--check", "--format", form).status == 0
    document = server.ok("model", "bom", "fraud@3")["document"]
    assert document["metadata"]["component"]["bom-ref"] == "fraud@3"

    copy = tmp_path / "copy"
    server.ok("model", "pull", "fraud@3", str(copy))
    copy.with_name("copy.spdx.json").write_text("{}")  # what `model bom --out` wrote there is no paper
    assert server.cli("verify", str(copy), "--slsa-builder", OWN).status == 0
    assert server.cli("verify", str(copy), "--slsa-builder", "https://ci.example.org/training").status == 1
    assert server.ok("dataset", "show", "payments@2")["models"][0]["ref"] == "fraud@3"

    rows = made.data.read_text().splitlines()
    rows[7] = rows[7][:-1] + str(1 - int(rows[7][-1]))  # one poisoned label
    made.data.write_text("\n".join(rows) + "\n")
    poisoned = server.cli("dataset", "verify", "payments@2")
    assert (poisoned.status, poisoned.code) == (1, "DATA-TAMPER")
    report = server.data / "models" / "fraud" / "3.evaluation-holdout.json"
    report.chmod(0o644)
    report.write_bytes(report.read_bytes().replace(b"e", b"f", 1))
    changed = server.cli("eval", "verify", "fraud@3")
    assert (changed.status, changed.code) == (1, "EVAL-TAMPER")
    assert server.stop() == 0
