"""The feature index: judged again is judged the same, without the files; what was not kept is never clean."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.vectors.artifacts import make

from garrison.app.cli.main import main
from garrison.artifacts.scan import Options, scan_path
from garrison.artifacts.scan_features import FeatureIndex
from garrison.artifacts.scanners import SCANNERS
from garrison.artifacts.scanners.base import Seen, Source, critical
from garrison.artifacts.scanners.judge import judge
from garrison.artifacts.scanners.kept import MAX_PAGES, PAGE, Kept, Recorder
from garrison.artifacts.scanners.sources import BytesSource
from garrison.core.errors import Usage
from garrison.core.finding import Verdict

VECTORS = {**make.REFUSED, **make.INCOMPLETE, **make.CLEAN}


def _kept(name: str, data: bytes) -> bytes:
    recorder = Recorder(BytesSource(name, data))
    judge(recorder, SCANNERS, recorder.recognition)
    return recorder.packed()


@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("name", VECTORS)
def test_what_was_kept_is_judged_as_the_file_was(name: str) -> None:
    data = VECTORS[name]
    packed = _kept(name, data)
    if not packed:
        pytest.skip("too much structure to keep")
    kept = Kept(packed)
    assert judge(kept, SCANNERS, kept.recognition) == judge(BytesSource(name, data), SCANNERS)
    assert not kept.missed


class _Late:
    """A scanner made after the file was stored, that looks for something at `offset`."""

    format = "late"

    def __init__(self, offset: int) -> None:
        self.offset = offset

    def recognises(self, head: bytes, source: Source) -> bool:
        return bool(source.read_at(self.offset, 4))

    def scan(self, source: Source) -> Iterator[Seen]:
        yield critical("acme.late", "a later rule refuses it")


def _weights() -> bytes:
    header = {"w": {"dtype": "U8", "shape": [1 << 20], "data_offsets": [0, 1 << 20]}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"\xa5" * (1 << 20)


def test_weights_are_not_kept() -> None:
    assert len(_kept("model.safetensors", _weights())) < 2_000


def test_a_later_rule_about_what_was_kept_judges_it_and_one_about_weights_asks_for_the_file() -> None:
    packed = _kept("model.safetensors", _weights())
    near, far = Kept(packed), Kept(packed)
    assert judge(near, (*SCANNERS, _Late(0)), near.recognition).verdict is Verdict.REFUSED
    assert not near.missed
    judge(far, (*SCANNERS, _Late(1 << 19)), far.recognition)
    assert far.missed


@given(st.lists(st.tuples(st.integers(0, 9_000), st.integers(0, 3_000)), max_size=20), st.integers(0, 9_000))
def test_a_recording_plays_back_what_was_read(reads: list[tuple[int, int]], size: int) -> None:
    data = bytes(index * 31 % 251 for index in range(size))
    recorder = Recorder(BytesSource("x", data))
    seen = [recorder.read_at(*read) for read in reads]
    kept = Kept(recorder.packed())
    assert seen == [BytesSource("x", data).read_at(*read) for read in reads]
    assert [kept.read_at(*read) for read in reads] == seen


def test_too_much_structure_is_not_kept_at_all() -> None:
    recorder = Recorder(BytesSource("x", bytes(PAGE * (MAX_PAGES + 1))))
    assert recorder.read_at(0, PAGE * (MAX_PAGES + 1)) == bytes(PAGE * (MAX_PAGES + 1))
    assert recorder.packed() == b""


@given(st.binary(max_size=200))
def test_bytes_that_are_no_entry_are_told(data: bytes) -> None:
    with pytest.raises(ValueError):
        Kept(data)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "evil.pkl").write_bytes(make.SYSTEM)
    (folder / "good.safetensors").write_bytes(make.CLEAN["model.safetensors"])
    (folder / "model.onnx").write_bytes(make.CLEAN["outside.onnx"])
    (folder / "weights.bin").write_bytes(bytes(range(200, 216)))
    return folder


def test_the_index_judges_again_without_the_files(models: Path, tmp_path: Path) -> None:
    report = scan_path([models], options=Options(keep=True))
    with FeatureIndex(tmp_path / "index.db") as index:
        assert index.store(report) == 4
        for path in models.iterdir():
            path.unlink()
        again = index.judge_again("later")
    assert [(file.path, file.verdict, file.findings) for file in again.files] == [
        (file.path, file.verdict, file.findings) for file in report.files
    ]
    assert again.ruleset == "later"


def test_an_entry_without_its_bytes_is_never_left_clean(models: Path, tmp_path: Path) -> None:
    with FeatureIndex(tmp_path / "index.db") as index:
        index.store(scan_path([models]))  # nothing kept
        again = {file.path: file for file in index.judge_again("later").files}
    assert again["evil.pkl"].verdict is Verdict.REFUSED
    assert again["good.safetensors"].verdict is Verdict.INCOMPLETE
    assert again["good.safetensors"].findings[-1].rule_id == "artifact.index.stale"


def test_a_damaged_entry_is_read_again_and_not_believed(models: Path, tmp_path: Path) -> None:
    with FeatureIndex(tmp_path / "index.db") as index:
        index.store(scan_path([models], options=Options(keep=True)))
    with sqlite3.connect(tmp_path / "index.db") as database:
        database.execute("UPDATE file SET kept = x'00112233'")
    database.close()
    with FeatureIndex(tmp_path / "index.db") as index:
        verdicts = {file.verdict for file in index.judge_again("later").files}
    assert Verdict.CLEAN not in verdicts


def test_what_a_model_uses_is_found_by_name(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = str(tmp_path / "index.db")
    assert main(["scan", str(models), "--index", index, "--json"]) == 1
    before = capsys.readouterr().out
    assert main(["scan", "--find", "posix.sys", "--index", index, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert [(fact["kind"], fact["value"], fact["name"]) for fact in facts] == [
        ("global", "posix.system", "evil.pkl")
    ]
    assert facts[0]["sha256"] == hashlib.sha256(make.SYSTEM).hexdigest()
    assert main(["scan", "--find", "%", "--index", index]) == 0
    assert "no file of the index has it" in capsys.readouterr().out
    assert main(["scan", "--judge-again", "--index", index, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["files"] == json.loads(before)["files"]


def test_a_file_that_is_something_else_is_not_taken_for_an_index(tmp_path: Path) -> None:
    text, other = tmp_path / "notes.txt", tmp_path / "other.db"
    text.write_text("not a database, and long enough to be looked at" * 100)
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE theirs (x)")
    database.close()
    for path in (text, other, tmp_path / "no" / "such" / "folder.db"):
        with pytest.raises(Usage) as raised, FeatureIndex(path):
            pass
        assert raised.value.code == "SCAN-INDEX"


def test_one_thing_at_a_time(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["scan"]) == 2
    assert main(["scan", "x", "--judge-again"]) == 2
    assert main(["scan", "--judge-again"]) == 2
    assert main(["scan", str(tmp_path), "--no-hash", "--index", str(tmp_path / "i.db")]) == 2
    assert capsys.readouterr().err.count("CLI-USAGE") >= 4
