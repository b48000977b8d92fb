"""`scan_path` and `garrison scan`: real models are clean, S07 to S09 are not, one entry for every file."""

from __future__ import annotations

import hashlib
import json
import os
import time
from functools import partial
from pathlib import Path

import pytest
from tests.vectors.artifacts import make

from garrison.app.cli.main import main
from garrison.artifacts.scan import Held, Options, scan_held, scan_path
from garrison.artifacts.worker_pool import Limits
from garrison.core.errors import Usage
from garrison.core.finding import Verdict


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "model.safetensors").write_bytes(make.CLEAN["model.safetensors"])
    (tmp_path / "sub" / "config.json").write_bytes(make.CLEAN["config.json"])
    return tmp_path


@pytest.mark.row("A01", kind="R")
def test_a_real_language_model_is_clean(smollm2_gguf: Path) -> None:
    report = scan_path([smollm2_gguf])
    assert [(file.format, file.verdict, file.findings) for file in report.files] == [
        ("gguf", Verdict.CLEAN, ())
    ]


@pytest.mark.row("A01", kind="R")
@pytest.mark.row("A02", kind="R")
def test_a_real_directory_with_tokenizer_and_configurations_is_clean(minilm_dir: Path) -> None:
    report = scan_path([minilm_dir])
    assert {file.path: file.verdict for file in report.files if file.verdict is not Verdict.CLEAN} == {}
    weights = next(file for file in report.files if file.path == "model.safetensors")
    assert weights.sha256 == hashlib.sha256((minilm_dir / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.row("S08", kind="R")
@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("name", make.S08)
def test_files_that_popular_scanners_pass_are_never_clean(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(make.S08[name])
    assert scan_path([tmp_path]).verdict is Verdict.REFUSED


@pytest.mark.row("A02", kind="R")
def test_a_template_escape_in_a_real_directory_is_refused_and_named(minilm_dir: Path, tmp_path: Path) -> None:
    config = json.loads((minilm_dir / "tokenizer_config.json").read_bytes())
    config["chat_template"] = "{{ self.__init__.__globals__ }}"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    report = scan_path([tmp_path])
    assert report.verdict is Verdict.REFUSED
    assert report.files[0].findings[0].where.startswith("tokenizer_config.json:chat_template")


@pytest.mark.row("A02", kind="R")
def test_remote_code_is_refused_at_its_key(folder: Path) -> None:
    (folder / "config.json").write_text('{"auto_map": {"AutoModel": "modeling.Model"}}')
    (folder / "modeling.py").write_text("import os\n")
    refused = {
        file.path: file.findings[0] for file in scan_path([folder]).files if file.verdict is Verdict.REFUSED
    }
    assert set(refused) == {"config.json", "modeling.py"}
    assert refused["config.json"].where == "config.json:auto_map"


def test_every_regular_file_has_exactly_one_entry_in_a_stable_order(folder: Path) -> None:
    (folder / ".hidden").write_bytes(make.CLEAN["model.gguf"])
    paths = [file.path for file in scan_path([folder]).files]
    assert paths == [".hidden", "model.safetensors", "sub/config.json"]


def test_members_of_archives_are_named_behind_the_file(folder: Path) -> None:
    (folder / "a.tar.gz").write_bytes(make.REFUSED["evil.tar.gz"])
    findings = [finding for file in scan_path([folder]).files for finding in file.findings]
    assert findings[0].where == "a.tar.gz!content!a.pkl"
    assert "posix.system('echo garrison-test')" in findings[0].message


def test_external_data_is_understood_by_the_model_that_refers_to_it(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(make.CLEAN["outside.onnx"])
    (tmp_path / "weights.bin").write_bytes(bytes(range(200, 216)))
    assert {file.path: file.format for file in scan_path([tmp_path]).files} == {
        "model.onnx": "onnx",
        "weights.bin": "data",
    }
    assert scan_path([tmp_path]).verdict is Verdict.CLEAN
    assert scan_path([tmp_path / "weights.bin"]).verdict is Verdict.INCOMPLETE
    (tmp_path / "weights.bin").write_bytes(bytes(range(200, 210)))
    short = scan_path([tmp_path])
    assert [file.path for file in short.files if file.verdict is Verdict.REFUSED] == ["model.onnx"]
    (tmp_path / "weights.bin").write_bytes(make.SYSTEM)
    assert [file.verdict for file in scan_path([tmp_path]).files] == [Verdict.CLEAN, Verdict.REFUSED]


def test_links_and_pipes_are_refused_and_never_opened(folder: Path) -> None:
    (folder / "link.json").symlink_to("/etc/passwd")
    (folder / "dir").symlink_to("/etc")
    os.mkfifo(folder / "pipe")
    special = {file.path for file in scan_path([folder]).files if file.format == "special"}
    assert special == {"link.json", "dir", "pipe"}
    assert scan_path([folder / "pipe"]).verdict is Verdict.REFUSED


def test_a_hard_link_is_refused_unless_the_caller_made_it(folder: Path) -> None:
    os.link(folder / "model.safetensors", folder / "second.safetensors")
    assert scan_path([folder]).verdict is Verdict.REFUSED
    assert scan_path([folder], options=Options(allow_hard_links=True)).verdict is Verdict.CLEAN


def test_an_empty_directory_an_empty_file_and_an_odd_name_are_answered(tmp_path: Path) -> None:
    assert scan_path([tmp_path]).verdict is Verdict.INCOMPLETE
    (tmp_path / os.fsdecode(b"\xff.bin")).write_bytes(b"")
    report = scan_path([tmp_path])
    assert [finding.rule_id for finding in report.files[0].findings] == ["artifact.empty"]
    json.dumps(report.as_json()).encode()


def test_a_path_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(Usage) as raised:
        scan_path([tmp_path / "absent"])
    assert raised.value.code == "SCAN-PATH"


@pytest.mark.row("S09", kind="R")
def test_a_file_that_takes_too_long_is_incomplete_and_the_next_is_judged(folder: Path) -> None:
    report = scan_path([folder], options=Options(limits=Limits(seconds=0, bytes_per_second=1e12)))
    assert {finding.rule_id for file in report.files for finding in file.findings} == {"artifact.limit.time"}
    slow = Limits(seconds=1.0)
    (folder / "a.pkl").write_bytes(b"\x80\x04]" + b"K\x01a" * 4_900_000 + b".")
    report = scan_path([folder], options=Options(limits=slow))
    assert report.files[0].verdict is Verdict.INCOMPLETE
    assert [file.verdict for file in report.files[1:]] == [Verdict.CLEAN, Verdict.CLEAN]


@pytest.mark.row("S09", kind="R")
def test_a_file_that_eats_memory_is_incomplete_and_the_next_is_judged(folder: Path) -> None:
    (folder / "a.json").write_bytes(b"[" + b"{}," * 20_000_000 + b"1]")
    report = scan_path([folder])
    assert report.files[0].verdict is Verdict.INCOMPLETE
    assert [file.verdict for file in report.files[1:]] == [Verdict.CLEAN, Verdict.CLEAN]


def test_small_files_go_through_at_a_hundred_a_second(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number}.pkl").write_bytes(make.SYSTEM)
    started = time.process_time()
    report = scan_path([tmp_path])
    assert {file.verdict for file in report.files} == {Verdict.REFUSED}
    assert time.process_time() - started < 2


def test_open_files_are_scanned_under_the_names_given(folder: Path) -> None:
    path = folder / "model.safetensors"
    report = scan_held([Held("weights/model.safetensors", lambda: path.open("rb"), path.stat().st_size)])
    assert [(file.path, file.verdict) for file in report.files] == [
        ("weights/model.safetensors", Verdict.CLEAN)
    ]
    device = Held("x", partial(open, os.devnull, "rb"), 1)
    assert scan_held([device]).verdict is Verdict.INCOMPLETE


@pytest.mark.parametrize(("name", "status"), [("model.gguf", 0), ("slip.tar", 1), ("empty.bin", 3)])
def test_the_exit_status_tells_the_three_answers_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, status: int
) -> None:
    path = tmp_path / name
    path.write_bytes({**make.CLEAN, **make.REFUSED, **make.INCOMPLETE}[name])
    assert main(["scan", str(path)]) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith({0: "CLEAN", 1: "REFUSED", 3: "INCOMPLETE"}[status])


def test_json_has_the_public_shape(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "evil.pkl").write_bytes(make.SYSTEM)
    assert main(["scan", str(folder), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["schema"], report["verdict"]) == ("garrison.scan/1", "refused")
    assert set(report["files"][0]) == {"path", "format", "verdict", "sha256", "size", "findings"}
    assert set(report["files"][0]["findings"][0]) == {"rule_id", "severity", "message", "where", "fix"}
