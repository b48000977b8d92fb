"""What can be scanned beside a path: standard input, a model in the Hugging Face cache; with several workers."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.vectors.artifacts import make

from garrison.artifacts.scan import Options, Step, scan_path, scan_stream
from garrison.artifacts.worker_pool import Limits
from garrison.core.errors import Undecided, Usage
from garrison.core.finding import Verdict

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """One model in the layout of huggingface_hub."""
    home = tmp_path / "hub" / "models--acme--fraud"
    snapshot = home / "snapshots" / REVISION
    (home / "refs").mkdir(parents=True)
    (home / "blobs").mkdir()
    (snapshot / "onnx").mkdir(parents=True)
    (home / "refs" / "main").write_text(REVISION)
    _add(home, "model.safetensors", make.CLEAN["model.safetensors"])
    _add(home, "onnx/model.gguf", make.CLEAN["model.gguf"])
    return tmp_path / "hub"


def _add(home: Path, name: str, data: bytes, digest: str = "") -> None:
    blob = home / "blobs" / (digest or hashlib.sha256(data).hexdigest())
    blob.write_bytes(data)
    link = home / "snapshots" / REVISION / name
    link.symlink_to(os.path.relpath(blob, link.parent))


def test_a_model_in_the_cache_is_scanned_through_its_links(cache: Path) -> None:
    for name in ("acme/fraud", "acme/fraud@main", f"acme/fraud@{REVISION}"):
        report = scan_path([f"hf-cache:{name}"], environment={"HF_HUB_CACHE": str(cache)})
        assert {file.path: file.verdict for file in report.files} == {
            "model.safetensors": Verdict.CLEAN,
            "onnx/model.gguf": Verdict.CLEAN,
        }
    report = scan_path(["hf-cache:acme/fraud"], environment={"HF_HOME": str(cache.parent)})
    assert report.verdict is Verdict.CLEAN


@pytest.mark.row("A02", kind="R")
def test_a_link_that_leaves_the_blobs_is_refused_and_not_opened(cache: Path) -> None:
    snapshot = cache / "models--acme--fraud" / "snapshots" / REVISION
    (snapshot / "config.json").symlink_to("/etc/hostname")
    (snapshot / "vocab.json").symlink_to("../../blobs/../refs/main")
    (cache / "models--acme--fraud" / "blobs" / ("0" * 40)).symlink_to("/etc/hostname")
    (snapshot / "merges.txt").symlink_to("../../blobs/" + "0" * 40)
    report = scan_path(["hf-cache:acme/fraud"], environment={"HF_HUB_CACHE": str(cache)})
    special = {file.path for file in report.files if file.format == "special"}
    assert special == {"config.json", "vocab.json", "merges.txt"}


def test_a_blob_with_another_content_than_its_name_says_is_refused(cache: Path) -> None:
    _add(cache / "models--acme--fraud", "extra.gguf", make.CLEAN["model.gguf"], digest="1" * 64)
    report = scan_path(["hf-cache:acme/fraud"], environment={"HF_HUB_CACHE": str(cache)})
    extra = next(file for file in report.files if file.path == "extra.gguf")
    assert [finding.rule_id for finding in extra.findings] == ["artifact.cache.digest"]
    assert extra.verdict is Verdict.REFUSED


@pytest.mark.parametrize("name", ["acme/none", "acme", "../x/y", "acme/fraud@v9", "acme/../fraud", "a/b/c"])
def test_a_model_that_is_not_in_the_cache_is_a_usage_error(cache: Path, name: str) -> None:
    with pytest.raises(Usage) as raised:
        scan_path([f"hf-cache:{name}"], environment={"HF_HUB_CACHE": str(cache)})
    assert raised.value.code == "SCAN-PATH"


def test_a_reference_that_leads_elsewhere_is_a_usage_error(cache: Path) -> None:
    (cache / "models--acme--fraud" / "refs" / "main").write_text("../../../../etc")
    with pytest.raises(Usage):
        scan_path(["hf-cache:acme/fraud"], environment={"HF_HUB_CACHE": str(cache)})


def test_a_tar_from_a_pipe_is_judged_member_by_member() -> None:
    data = make.tarred([("good.gguf", make.CLEAN["model.gguf"]), ("evil.pkl", make.SYSTEM)])
    report = scan_stream(io.BytesIO(data))
    assert [(file.path, file.sha256) for file in report.files] == [
        ("stdin", hashlib.sha256(data).hexdigest())
    ]
    assert report.files[0].findings[0].where == "stdin!evil.pkl"


def test_a_pipe_that_brings_nothing_is_not_clean() -> None:
    with pytest.raises(Undecided) as raised:
        scan_stream(io.BytesIO(b""))
    assert raised.value.code == "SCAN-STREAM"


def test_the_command_reads_a_pipe() -> None:
    command = [sys.executable, "-m", "garrison.app.cli.main", "scan", "-", "--json"]
    done = subprocess.run(command, input=make.SYSTEM, capture_output=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["files"][0]["path"] == "stdin"


def test_several_workers_give_the_same_answer_in_the_same_order(tmp_path: Path) -> None:
    for number in range(100):
        name, data = list({**make.REFUSED, **make.CLEAN}.items())[number % 40]
        (tmp_path / f"{number:03}-{name.replace('/', '_')}").write_bytes(data)
    steps: list[Step] = []
    one = scan_path([tmp_path])
    three = scan_path([tmp_path], options=Options(jobs=3), progress=steps.append)
    assert one.as_json() == three.as_json()
    assert [step.files for step in steps] == list(range(1, 101))
    assert (steps[-1].size, steps[-1].all_files) == (steps[-1].all_size, 100)


@pytest.mark.row("A01", kind="R")
def test_a_hostile_file_costs_one_incomplete_whatever_the_number_of_workers(tmp_path: Path) -> None:
    slow = b"\x80\x04]" + b"K\x01a" * 4_900_000 + b"."
    (tmp_path / "000.pkl").write_bytes(slow)
    for number in range(1, 60):
        (tmp_path / f"{number:03}.pkl").write_bytes(make.SYSTEM)
    report = scan_path([tmp_path], options=Options(jobs=2, limits=Limits(seconds=1.0)))
    assert [file.verdict for file in report.files] == [Verdict.INCOMPLETE, *[Verdict.REFUSED] * 59]


def test_without_hashes_the_verdict_is_the_same_and_the_digest_is_empty(tmp_path: Path) -> None:
    (tmp_path / "evil.pkl").write_bytes(make.SYSTEM)
    report = scan_path([tmp_path], options=Options(hash_files=False))
    assert [(file.verdict, file.sha256) for file in report.files] == [(Verdict.REFUSED, "")]


def test_the_process_that_reads_the_command_imports_no_scanner() -> None:
    """They cost 0.1 s and parse untrusted bytes; both belong into the worker."""
    program = (
        "import sys, garrison.app.cli.scan, garrison.app.cli.main\n"
        "print([name for name in sys.modules if name.startswith('garrison.artifacts.scanners') or name == 'jinja2'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
