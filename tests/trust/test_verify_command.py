"""`garrison verify` on bare directories: the statuses, the words and the JSON."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes.releases import FILES, SignedDirectory, sign_directory, write_files

from garrison.app.cli.main import main
from garrison.client import verify_model
from garrison.core.errors import GarrisonError
from garrison.trust.keys.file import FileSigner

SIGNER = FileSigner("release")


@pytest.fixture
def fraud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SignedDirectory:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GARRISON_DATA", raising=False)
    (tmp_path / "release.pem").write_bytes(SIGNER.public_pem())
    return sign_directory(write_files(tmp_path / "fraud", FILES), "fraud@3", SIGNER)


def publish(release: SignedDirectory, data: Path) -> None:
    """What the store lays out for a release."""
    tree = data / "models" / release.ref.name / str(release.ref.version)
    tree.parent.mkdir(parents=True)
    tree.with_name(f"{tree.name}.sig").write_bytes(release.bundle)
    tree.with_name(f"{tree.name}.release.json").write_bytes(release.envelope)
    (data / "keys" / "public").mkdir(parents=True)
    (data / "keys" / "public" / "release.pem").write_bytes(SIGNER.public_pem())


@pytest.mark.row("A04", kind="R")
def test_a_verified_directory_says_by_whose_key_and_when(
    fraud: SignedDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    fraud.write_sidecars()
    assert main(["verify", "fraud", "--as", "fraud@3", "--key", "release.pem"]) == 0
    said = capsys.readouterr()
    assert "fraud@3" in said.out
    assert "2026-11-22 14:03 UTC" in said.out
    assert f"by release {SIGNER.key_id[:16]}" in said.out
    assert said.err == ""


def test_json_is_one_document_and_nothing_else(
    fraud: SignedDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    fraud.write_sidecars()
    assert main(["verify", "fraud", "--key", "release.pem", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["verdict"], document["ref"]) == ("verified", "fraud@3")
    assert document["digest"] == fraud.manifest.digest


@pytest.mark.row("S01", kind="R")
@pytest.mark.row("A05", kind="R")
def test_a_tampered_file_is_shown_as_signed_and_as_found(
    fraud: SignedDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    fraud.write_sidecars()
    (fraud.path / "config.json").write_bytes(b"{}")
    assert main(["verify", "fraud", "--key", "release.pem"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert lines[0] == "REFUSED  ART-TAMPER  config.json is not the file that was signed"
    assert [line.split()[0] for line in lines[1:]] == ["signed", "found", "by", "next"]
    assert "20 bytes" in lines[1]
    assert "2 bytes" in lines[2]
    assert max(map(len, lines)) < 80


@pytest.mark.row("A04", kind="R")
def test_every_difference_has_its_line(fraud: SignedDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    fraud.write_sidecars()
    (fraud.path / "empty.bin").unlink()
    (fraud.path / ".git" / "HEAD").write_bytes(b"")
    (fraud.path / "extra\u00e9.py").write_bytes(b"")
    assert main(["verify", "fraud", "--key", "release.pem", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert {row["path"]: row["change"] for row in error["evidence"]["paths"]} == {
        "empty.bin": "missing",
        ".git/HEAD": "changed",
        "extra\u00e9.py": "extra",
    }
    assert main(["verify", "fraud", "--key", "release.pem"]) == 1
    shown = capsys.readouterr().err
    assert all(path in shown for path in ("empty.bin", ".git/HEAD", "extra\u00e9.py"))


@pytest.mark.row("A06", kind="R")
def test_another_name_is_refused(fraud: SignedDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    fraud.write_sidecars()
    assert main(["verify", "fraud", "--as", "credit@1", "--key", "release.pem"]) == 1
    assert "ART-NAME" in capsys.readouterr().err


def test_the_data_directory_gives_signatures_and_key(fraud: SignedDirectory, tmp_path: Path) -> None:
    publish(fraud, tmp_path / "garrison-data")
    assert main(["verify", "fraud", "--as", "fraud@3"]) == 0
    assert main(["verify", "fraud"]) == 0
    assert main(["verify", "fraud", "--as", "fraud@4"]) == 1
    assert main(["verify", "fraud", "--data", str(tmp_path / "elsewhere")]) == 3


def test_the_newest_release_of_a_source_is_the_one_that_counts(
    fraud: SignedDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(fraud, tmp_path / "garrison-data")
    broken = tmp_path / "garrison-data" / "models" / "fraud" / "9.release.json"
    broken.write_bytes(b"{")
    other = sign_directory(write_files(tmp_path / "other", FILES), "other@1", SIGNER)
    os.makedirs(tmp_path / "garrison-data" / "models" / "other")
    (tmp_path / "garrison-data" / "models" / "other" / "1.release.json").write_bytes(other.envelope)
    assert main(["verify", "./fraud/../fraud"]) == 0
    assert "fraud@3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (["nowhere"], 2, "ART-UNREADABLE"),
        (["fraud"], 3, "ART-UNSIGNED"),
        (["fraud", "--as", "fraud@3"], 1, "ART-UNSIGNED"),
        (["fraud", "--as", "no name"], 2, "REF-SYNTAX"),
        (["fraud", "--signature", "nowhere.sig", "--statement", "nowhere.json"], 3, "ART-UNREADABLE"),
        (["fraud", "--key", "nowhere.pem"], 2, "KEY-PUBLIC"),
    ],
)
def test_nothing_to_judge_by_ends_in_a_sentence(
    fraud: SignedDirectory, words: list[str], status: int, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--key" in words:
        fraud.write_sidecars()
    assert main(["verify", *words]) == status
    assert code in capsys.readouterr().err


def test_a_path_that_is_gone_is_a_usage_error(
    fraud: SignedDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    fraud.write_sidecars()
    fraud.path.rename(fraud.path.with_name("moved"))
    assert main(["verify", "fraud", "--key", "release.pem"]) == 2
    assert "ART-UNREADABLE" in capsys.readouterr().err


@pytest.mark.row("A09", kind="R")
def test_a_bundle_alone_proves_files_and_says_that_it_proves_no_name(
    fraud: SignedDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fraud.sig").write_bytes(fraud.bundle)
    assert main(["verify", "fraud", "--key", "release.pem"]) == 1  # no bundle lists the files of git
    shutil.rmtree(fraud.path / ".git")
    (fraud.path / ".gitignore").unlink()
    assert main(["verify", "fraud", "--key", "release.pem"]) == 0
    assert "binds no name" in capsys.readouterr().out
    assert main(["verify", "fraud", "--key", "release.pem", "--as", "fraud@3"]) == 1
    (fraud.path / "config.json").unlink()
    assert main(["verify", "fraud", "--key", "release.pem"]) == 1
    assert "config.json was signed and is missing" in capsys.readouterr().err


def test_a_private_key_offered_for_verification_is_refused(
    fraud: SignedDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fraud.write_sidecars()
    (tmp_path / "secret.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    assert main(["verify", "fraud", "--key", "secret.pem"]) == 1
    assert "KEY-ENV" in capsys.readouterr().err


def _untouched(_path: Path) -> None: ...


def _flipped(path: Path) -> None:
    (path / "config.json").write_bytes(b'{"hidden_size": 385}')


def _added(path: Path) -> None:
    (path / "late.bin").write_bytes(b"")


def _emptied_directory(path: Path) -> None:
    (path / "onnx" / "model.onnx").unlink()


def _linked(path: Path) -> None:
    (path / "link").symlink_to("config.json")


def _cut_statement(path: Path) -> None:
    statement = path.with_name("fraud.release.json")
    statement.write_bytes(statement.read_bytes()[:-10])


def _no_signature(path: Path) -> None:
    path.with_name("fraud.sig").unlink()


@pytest.mark.parametrize("name", [None, "fraud@3", "credit@1", "no name"])
@pytest.mark.parametrize("key", ["release.pem", "stranger.pem"])
@pytest.mark.parametrize(
    "change",
    [_untouched, _flipped, _added, _emptied_directory, _linked, _cut_statement, _no_signature],
)
def test_the_command_and_the_sdk_give_the_same_answer(
    fraud: SignedDirectory,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], None],
    key: str,
    name: str | None,
) -> None:
    fraud.write_sidecars()
    (tmp_path / "stranger.pem").write_bytes(FileSigner("stranger").public_pem())
    change(fraud.path)
    words = ["verify", "fraud", "--key", key, "--json", *(["--as", name] if name else [])]
    status = main(words)
    told = json.loads(capsys.readouterr().out)
    expected: tuple[object, ...]
    try:
        verified = verify_model("fraud", name=name, trust=key)
        expected = (0, verified.digest, verified.key_id)
    except GarrisonError as error:
        expected = (error.exit_status, error.code, error.what)
    refused = told.get("error")
    found = (refused["code"], refused["message"]) if refused else (told["digest"], told["key_id"])
    assert (status, *found) == expected
