"""Lineage from what other tools leave on disk: DVC and W&B made by the real clients, a Hugging Face cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.flows import peers
from tests.flows.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("imports")]

DVC = """
import pathlib, subprocess, sys
def do(*words): subprocess.run([sys.executable, "-m", *words], check=True)
subprocess.run(["git", "init", "-q", "."], check=True)
pathlib.Path("data").mkdir()
pathlib.Path("data/a.csv").write_text("amount,label\\n1,0\\n")
pathlib.Path("data/b.csv").write_text("amount,label\\n2,1\\n")
pathlib.Path("params.yaml").write_text("train:\\n  depth: 3\\n")
pathlib.Path("train.py").write_text(
    "import pathlib\\n"
    "pathlib.Path('model').mkdir(exist_ok=True)\\n"
    "pathlib.Path('model/config.json').write_text('{\\"depth\\": 3}')\\n"
)
do("dvc", "init", "-q")
do("dvc", "add", "-q", "data")
do("dvc", "stage", "add", "-q", "-n", "train", "-d", "train.py", "-d", "data", "-p", "train.depth",
   "-o", "model", "python3 train.py")
do("dvc", "repro", "-q")
"""

WANDB = """
import pathlib, wandb
pathlib.Path("out").mkdir()
pathlib.Path("out/config.json").write_text('{"depth": 3}')
pathlib.Path("rows.csv").write_text("amount,label\\n1,0\\n")
run = wandb.init(project="fraud", mode="offline", config={"rate": 0.1, "note": "x" * 70_000})
rows = wandb.Artifact("payments", "dataset")
rows.add_file("rows.csv")
run.log_artifact(rows)
model = wandb.Artifact("fraud", "model")
model.add_dir("out")
run.log_artifact(model)
run.log({"auc": 0.9})
run.log({"auc": 0.93})
run.finish()
"""

_WORDS = ("--owner", "ml-team", "--tier", "internal")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("imports") / "data").start()
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    python, room = peers.peer("dvc"), tmp_path_factory.mktemp("dvc") / "fraud"
    room.mkdir()
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    peers.run(python, DVC, cwd=room, PATH=path, DVC_NO_ANALYTICS="1", HOME=str(room.parent))
    return room


@pytest.fixture(scope="module")
def offline_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    python, room = peers.peer("wandb"), tmp_path_factory.mktemp("wandb")
    home = {"HOME": str(room), "WANDB_CONSOLE": "off", "WANDB_SILENT": "true"}
    peers.run(python, WANDB, cwd=room, **home)
    return next((room / "wandb").glob("offline-run-*"))


def _kinds(result: dict[str, object], kind: str) -> list[dict[str, dict[str, str]]]:
    rows = result["materials"]
    assert isinstance(rows, list)
    return [row for row in rows if row["kind"] == kind]


@pytest.mark.row("A19", kind="R")
def test_dvc_hashes_and_stages_become_provenance(house: Server, repository: Path) -> None:
    words = ["import", "dvc", str(repository), "--model", "model"]
    result = house.ok(*words, "--as", "dvc-fraud@1", *_WORDS)
    (data,) = _kinds(result, "data")
    assert data["digests"]["dvc-dir-md5"]
    assert data["digests"]["sha256"]
    (run,) = _kinds(result, "run")
    assert run["facts"]["cmd"] == "python3 train.py"
    assert result["parameters"] == {"train.train.depth": "3"}
    shown = house.ok("model", "show", "dvc-fraud@1")
    assert shown["manifest"][0]["digest"] == "sha256:" + hashlib.sha256(b'{"depth": 3}').hexdigest()
    attached = house.ok("model", "provenance", "dvc-fraud@1")
    assert data["digests"]["sha256"] in str(attached)
    assert run["digests"]["sha256"] in str(attached)
    assert house.cli("drift", "dvc-fraud").status == 0


@pytest.mark.row("A19", kind="R")
def test_a_file_that_dvc_did_not_record_is_refused_and_later_is_drift(
    house: Server, repository: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(repository, copy)
    house.ok("import", "dvc", str(copy), "--model", "model", "--as", "dvc-copy@1", *_WORDS)
    (copy / "data" / "a.csv").write_text("amount,label\n1,1\n")
    answer = house.cli("import", "dvc", str(copy), "--model", "model", "--as", "dvc-copy@2", *_WORDS)
    assert (answer.status, answer.code) == (1, "LIN-DIGEST")
    drift = house.cli("drift", "dvc-copy")
    assert drift.status == 1
    assert drift.json["versions"][0]["findings"][0]["rule_id"] == "DRIFT-CONTENT"


@pytest.mark.row("A20", kind="E")
def test_a_wandb_run_and_its_artifacts_become_lineage(house: Server, offline_run: Path) -> None:
    model = offline_run.parent.parent / "out"
    words = ["import", "wandb", str(offline_run), "--model", str(model)]
    result = house.ok(*words, "--as", "wandb-fraud@1", *_WORDS)
    assert result["parameters"]["rate"] == "0.1"
    assert result["metrics"] == {"auc": 0.93}
    (data,) = _kinds(result, "data")
    assert data["name"] == "payments"
    assert data["digests"]["wandb-manifest-md5"]
    assert house.cli("drift", "wandb-fraud").status == 0
    # The lineage alone, for a version that was published in another way.
    house.publish(model, "wandb-other@1")
    house.ok("import", "wandb", str(offline_run), "--model", str(model), "--attach", "wandb-other@1")
    assert "payments" in str(house.ok("model", "provenance", "wandb-other@1"))


@pytest.mark.row("A20", kind="E")
def test_files_that_the_run_did_not_log_and_a_damaged_log_are_refused(
    house: Server, offline_run: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"depth": 4}')
    words = ["--as", "wandb-bad@1", *_WORDS]
    answer = house.cli("import", "wandb", str(offline_run), "--model", str(other), *words)
    assert answer.code == "LIN-DIGEST"
    damaged = tmp_path / "offline-run-x"
    shutil.copytree(offline_run, damaged)
    log = next(damaged.glob("run-*.wandb"))
    data = bytearray(log.read_bytes())
    data[200] ^= 1
    log.write_bytes(data)
    answer = house.cli("import", "wandb", str(damaged), "--model", str(other), *words)
    assert (answer.status, answer.code) == (3, "LIN-FORMAT")


def _cache(place: Path) -> Path:
    """What huggingface_hub leaves: links from a snapshot to blobs that are named by their content."""
    home, commit = place / "models--acme--tiny", "a" * 40
    (home / "blobs").mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    snapshot = home / "snapshots" / commit
    snapshot.mkdir(parents=True)
    card, config = b"# Tiny\n", b'{"layers": 1}\n'
    large = hashlib.sha256(config).hexdigest()
    small = hashlib.sha1(b"blob %d\0" % len(card) + card).hexdigest()
    for name, blob, content in (("config.json", large, config), ("README.md", small, card)):
        (home / "blobs" / blob).write_bytes(content)
        (snapshot / name).symlink_to(f"../../blobs/{blob}")
    return home


def test_a_cached_model_is_rehashed_and_a_poisoned_blob_is_found(house: Server, tmp_path: Path) -> None:
    home = _cache(tmp_path)
    result = house.ok("import", "hf", str(home), "--as", "tiny@1", *_WORDS)
    (base,) = _kinds(result, "base_model")
    assert base["digests"]["sha1"] == "a" * 40
    assert house.cli("drift", "tiny").status == 0
    blob = next(path for path in (home / "blobs").iterdir() if len(path.name) == 64)
    blob.write_bytes(b'{"layers": 2}\n')
    assert house.cli("import", "hf", str(home), "--as", "tiny@2", *_WORDS).code == "LIN-DIGEST"
    assert house.cli("drift", "tiny").status == 1


def test_a_link_out_of_the_cache_is_refused(house: Server, tmp_path: Path) -> None:
    home = _cache(tmp_path)
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    (home / "snapshots" / ("a" * 40) / "extra.json").symlink_to(secret)
    answer = house.cli("import", "hf", str(home), "--as", "tiny-link@1", *_WORDS)
    assert (answer.status, answer.code) == (1, "LIN-PLACE")
