"""Reading a directory: every path counts, nothing is followed out of it."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.releases import FILES, write_files

from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.trust.paths import check_path, check_paths, folded
from garrison.trust.tree import read_tree
from garrison.trust.tree_hash import PARALLEL_FROM_BYTES


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_files(tmp_path / "fraud", FILES)


@pytest.mark.row("A04", kind="R")
def test_every_path_is_listed_hidden_git_and_empty_files_included(model: Path) -> None:
    manifest = read_tree(model)
    assert {entry.path: entry.digest for entry in manifest} == {
        path: "sha256:" + hashlib.sha256(content).hexdigest() for path, content in FILES.items()
    }
    assert {entry.path: entry.size for entry in manifest} == {p: len(content) for p, content in FILES.items()}


def test_a_single_file_is_a_manifest_of_one(model: Path) -> None:
    assert [entry.path for entry in read_tree(model / "config.json")] == ["config.json"]


def test_modes_are_recorded_as_executable_or_not(model: Path) -> None:
    (model / "config.json").chmod(0o400)
    (model / ".hidden").chmod(0o777)
    modes = {entry.path: entry.mode for entry in read_tree(model)}
    assert (modes["config.json"], modes[".hidden"]) == (0o644, 0o755)


def refusal(root: Path, **options: bool) -> GarrisonError:
    with pytest.raises(GarrisonError) as caught:
        read_tree(root, **options)
    return caught.value


@pytest.mark.row("S07", kind="R")
@pytest.mark.row("A04", kind="R")
@pytest.mark.parametrize("target", ["/etc/passwd", "config.json", "nowhere", "."])
def test_a_symbolic_link_is_refused_wherever_it_leads(model: Path, target: str) -> None:
    (model / "onnx" / "link").symlink_to(target)
    error = refusal(model)
    assert (error.code, error.exit_status, error.evidence["path"]) == ("ART-LINK", 1, "onnx/link")


@pytest.mark.row("S07", kind="R")
def test_a_hard_link_is_refused_unless_the_caller_owns_the_tree(model: Path, tmp_path: Path) -> None:
    os.link(model / "config.json", tmp_path / "other")
    assert refusal(model).code == "ART-LINK"
    assert len(read_tree(model, allow_hard_links=True).files) == len(FILES)


def test_a_pipe_and_a_socket_are_refused_without_hanging(model: Path) -> None:
    os.mkfifo(model / "pipe")
    assert refusal(model).code == "ART-SPECIAL"
    (model / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(model / "s"))
        assert refusal(model).code == "ART-SPECIAL"


def test_a_set_uid_file_is_refused(model: Path) -> None:
    (model / "config.json").chmod(0o4755)
    assert refusal(model).code == "ART-SPECIAL"


@pytest.mark.row("S07", kind="R")
@pytest.mark.parametrize(
    "name",
    [
        b"\xff\xfe",
        b"line\nbreak",
        b"bell\x07",
        "right\u202eleft".encode(),
        b"back\\slash",
        "zero\u200bwidth".encode(),
    ],
)
def test_an_unsafe_name_is_refused_and_shown_escaped(model: Path, name: bytes) -> None:
    (Path(os.fsdecode(bytes(model) + b"/" + name))).write_bytes(b"x")
    error = refusal(model)
    assert error.code == "ART-NAME-UNSAFE"
    assert error.what.isprintable()
    assert error.what.isascii()


@pytest.mark.row("S07", kind="R")
@pytest.mark.parametrize(
    ("one", "other"), [("README", "readme"), ("größe", "gro\u0308ße"), ("straße", "STRASSE")]
)
def test_names_that_are_one_on_another_file_system_are_refused(model: Path, one: str, other: str) -> None:
    (model / one).write_bytes(b"1")
    (model / other).write_bytes(b"2")
    assert refusal(model).code == "ART-COLLISION"


def test_directories_that_collide_are_refused(model: Path) -> None:
    write_files(model, {"Onnx/other": b""})
    assert refusal(model).code == "ART-COLLISION"


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "a//b", "a/../b", "./a", "", "n" * 300, "a/" * 70 + "b"]
)
def test_a_path_that_may_not_stand_in_a_manifest_is_refused(path: str) -> None:
    with pytest.raises(Refused) as caught:
        check_path(path)
    assert caught.value.code == "ART-NAME-UNSAFE"


@pytest.mark.parametrize("paths", [["a", "A"], ["a/x", "A/y"], ["a", "a/b"], ["same", "same"]])
def test_a_list_with_colliding_paths_is_refused(paths: list[str]) -> None:
    with pytest.raises(Refused) as caught:
        check_paths(paths)
    assert caught.value.code == "ART-COLLISION"


@given(st.text(max_size=40))
def test_folding_is_stable(name: str) -> None:
    assert folded(folded(name)) == folded(name)


def test_an_empty_directory_is_refused_or_listed_but_never_left_out(model: Path) -> None:
    (model / "logs").mkdir()
    assert refusal(model).code == "ART-EMPTY"
    assert "logs/" in [entry.path for entry in read_tree(model, list_empty=True)]


def test_a_tree_without_a_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).code == "ART-EMPTY"


def test_a_path_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(Usage) as caught:
        read_tree(tmp_path / "nowhere")
    assert caught.value.code == "ART-UNREADABLE"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_leaves_it_undecided(model: Path) -> None:
    (model / "config.json").chmod(0)
    with pytest.raises(Undecided) as caught:
        read_tree(model)
    assert caught.value.code == "ART-UNREADABLE"


def test_more_files_than_a_signature_may_list_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("garrison.trust.tree.MAX_FILES", 10)
    write_files(tmp_path, {f"{n}": b"" for n in range(11)})
    assert refusal(tmp_path).code == "ART-TOO-MANY"


def _grow(model: Path) -> None:
    with (model / "model-00001-of-00002.safetensors").open("ab") as stream:
        stream.write(b"x")


def _rewrite_in_place(model: Path) -> None:
    with (model / "model-00001-of-00002.safetensors").open("r+b") as stream:
        stream.write(b"x")


def _replace(model: Path) -> None:
    (model / "new").write_bytes(b"n")
    (model / "new").rename(model / "config.json")


def _swap_for_link(model: Path) -> None:
    (model / "config.json").unlink()
    (model / "config.json").symlink_to("/etc/passwd")


def _swap_directory_for_link(model: Path) -> None:
    (model / "onnx").rename(model.parent / "moved")
    (model / "onnx").symlink_to(model.parent / "moved")


def _add(model: Path) -> None:
    (model / "onnx" / "late.bin").write_bytes(b"late")


def _remove(model: Path) -> None:
    (model / "onnx" / "model.onnx").unlink()


@pytest.mark.row("A08", kind="R")
@pytest.mark.parametrize(
    "change", [_grow, _rewrite_in_place, _replace, _swap_for_link, _swap_directory_for_link, _add, _remove]
)
def test_a_directory_that_changes_while_it_is_read_is_refused(model: Path, change) -> None:  # type: ignore[no-untyped-def]  # parametrised
    changed: list[bool] = []

    def meddle(_done: int, _total: int) -> None:
        if not changed:
            changed.append(True)
            change(model)

    with pytest.raises(Refused) as caught:
        read_tree(model, progress=meddle)
    assert caught.value.code in {"ART-CHANGED", "ART-LINK"}


class Copy:
    """Keeps what was written; knows how it ended."""

    def __init__(self, path: str) -> None:
        self.path, self.content, self.ended, self.threads = path, bytearray(), "", set[int]()

    def write(self, chunk: memoryview) -> int:
        self.content += chunk
        self.threads.add(threading.get_ident())
        return len(chunk)

    def commit(self, digest: str) -> None:
        self.ended = digest

    def abort(self) -> None:
        self.ended = "aborted"


def test_a_sink_receives_every_byte_in_the_same_pass(model: Path) -> None:
    copies: list[Copy] = []

    def sink(path: str) -> Copy:
        copies.append(Copy(path))
        return copies[-1]

    manifest = read_tree(model, sink=sink)
    assert {copy.path: bytes(copy.content) for copy in copies} == FILES
    assert {copy.path: copy.ended for copy in copies} == {entry.path: entry.digest for entry in manifest}


def test_a_sink_that_fails_is_aborted_and_its_error_comes_through(model: Path) -> None:
    copies: list[Copy] = []

    class Full(Copy):
        def write(self, chunk: memoryview) -> int:
            raise Undecided("DISK-FULL", "no room", fix="free space")

    def sink(path: str) -> Copy:
        copies.append(Full(path))
        return copies[-1]

    with pytest.raises(Undecided):
        read_tree(model, sink=sink)
    assert {copy.ended for copy in copies} == {"aborted"}


def test_large_files_are_hashed_in_parallel_with_the_same_result(tmp_path: Path) -> None:
    block = os.urandom(1 << 20)
    names = [f"{n}.bin" for n in range(4)]
    for name in names:
        with (tmp_path / name).open("wb") as stream:
            for _ in range(PARALLEL_FROM_BYTES // len(block) // 4 + 1):
                stream.write(block)
            stream.write(name.encode())
    seen: list[tuple[int, int]] = []
    manifest = read_tree(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert {entry.path: entry.digest for entry in manifest} == {
        name: "sha256:" + hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in names
    }
    assert seen[-1] == (manifest.size, manifest.size)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_failure_in_one_thread_ends_the_others_and_is_the_one_reported(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(bytes(PARALLEL_FROM_BYTES // 2))

    class Picky(Copy):
        def write(self, chunk: memoryview) -> int:
            if self.path == "b":
                raise Undecided("DISK-FULL", "no room", fix="free space")
            return len(chunk)

    with pytest.raises(Undecided) as caught:
        read_tree(tmp_path, sink=Picky)
    assert caught.value.code == "DISK-FULL"
