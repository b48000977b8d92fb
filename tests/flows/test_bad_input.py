"""Every verb with bad input: one sentence, a code that has a page, a next step, a status; no traceback."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.flows.server import Answer, Server, run

from garrison.core.codes import CODES

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("restart")]

PUBLISH = ("--owner", "o", "--tier", "public")


def assert_a_sentence(answer: Answer, status: int, code: str) -> None:
    """The one shape of every refusal."""
    assert (answer.status, answer.code) == (status, code), answer.out + answer.err
    error = answer.json["error"]
    assert code in CODES
    assert error["message"].strip()
    assert "\n" not in error["message"]
    assert error["next"].strip()
    assert "Traceback" not in answer.out + answer.err


@pytest.fixture(scope="module")
def calm(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all of it: nothing here is meant to change anything."""
    data = tmp_path_factory.mktemp("calm") / "data"
    subprocess.run(["cp", "-a", f"{template}/.", str(data)], check=True)
    server = Server(data).start()
    yield server
    try:
        assert server.cli("audit", "verify").status == 0
        assert [model["ref"] for model in server.ok("model", "list")["models"]] == ["base@1"]
        assert server.stop() == 0
    finally:
        server.kill()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Paths that are not what they should be."""
    top = tmp_path_factory.mktemp("odd")
    for name in ("empty", "hollow", "zero", "fifo", "nested"):
        (top / name).mkdir()
    (top / "hollow" / "sub").mkdir()
    (top / "zero" / "model.gguf").write_bytes(b"")
    os.mkfifo(top / "fifo" / "model.gguf")
    (top / "file").write_text("not a directory")
    (top / "loop").symlink_to(top / "loop")
    os.mkdir(os.fsencode(top) + b"/\xff\xfe")
    (top / "binary.token").write_bytes(b"\xff\x00")
    (top / "empty.token").write_text("")
    (top / "forged.token").write_text("abc.def.ghi")
    (top / "lines.token").write_text("abc\ndef")
    return top


LONG = "/" + "a" * 300
BASE = "{base}"
# words ({odd} is the directory of odd paths, {base} the files of base@1), status, code
CASES: list[tuple[list[str], int, str]] = [
    (["model", "publish", "{odd}/empty", "--as", "x@1", *PUBLISH], 1, "ART-EMPTY"),
    (["model", "publish", "{odd}/hollow", "--as", "x@1", *PUBLISH], 1, "ART-EMPTY"),
    (["model", "publish", "{odd}/zero", "--as", "x@1", *PUBLISH], 3, "ART-INCOMPLETE"),
    (["model", "publish", "{odd}/fifo", "--as", "x@1", *PUBLISH], 1, "ART-SPECIAL"),
    (["model", "publish", "{odd}/file", "--as", "x@1", *PUBLISH], 2, "PATH-NOT-DIR"),
    (["model", "publish", "{odd}/none", "--as", "x@1", *PUBLISH], 2, "PATH-NOT-DIR"),
    (["model", "publish", "{odd}/loop", "--as", "x@1", *PUBLISH], 2, "PATH-NOT-DIR"),
    (["model", "publish", "{odd}/\udcff\udcfe", "--as", "x@1", *PUBLISH], 2, "PATH-NAME"),
    (["model", "publish", LONG, "--as", "x@1", *PUBLISH], 2, "PATH-NOT-DIR"),
    (["model", "publish", "", "--as", "x@1", *PUBLISH], 2, "PATH-NOT-DIR"),
    (["model", "publish", BASE, "--as", "x@0", *PUBLISH], 2, "REF-SYNTAX"),
    (["model", "publish", BASE, "--as", "../x@1", *PUBLISH], 2, "REF-SYNTAX"),
    (["model", "publish", BASE, "--as", "x@1", "--owner", "\x1b[31m", "--tier", "public"], 2, "ID-SYNTAX"),
    (["model", "publish", BASE, "--as", "x@1", "--owner", "o", "--tier", "zz"], 2, "CLI-USAGE"),
    (["model", "show", "none@1"], 1, "ART-UNKNOWN"),
    (["model", "show", "base@2"], 1, "ART-UNKNOWN"),
    (["model", "verify", "none@1"], 1, "ART-UNKNOWN"),
    (["model", "retire", "none@1"], 1, "ART-UNKNOWN"),
    (["model", "pull", "none@1", "{odd}/pulled"], 1, "ART-UNKNOWN"),
    (["model", "pull", "base@1", "{odd}/file"], 2, "PULL-EXISTS"),
    (["model", "pull", "base@1", "{odd}/file/below"], 2, "PULL-PATH"),
    (["model", "pull", "base@1", LONG], 2, "PULL-PATH"),
    (["model", "pull", "base@1", "/proc/pulled"], 2, "PULL-PATH"),
    (["approve", "none@1"], 1, "ART-UNKNOWN"),
    (["approve", "base"], 2, "REF-SYNTAX"),
    (["serve", "none@1"], 1, "ART-UNKNOWN"),
    (["serve", "base@1"], 1, "RUN-UNSERVABLE"),
    (["serve", "base@1", "--isolation", "zz"], 2, "CLI-USAGE"),
    (["deploy", "stop", "none"], 1, "DEP-NONE"),
    (["deploy", "rollback", "none"], 1, "DEP-NONE"),
    (["token", "issue", "--subject", "a b", "--role", "user"], 2, "ID-SYNTAX"),
    (["token", "issue", "--subject", "a", "--role", "zz"], 2, "ROLE-UNKNOWN"),
    (["token", "issue", "--subject", "a", "--role", "user", "--ttl", "0s"], 1, "TOK-TTL"),
    (["token", "issue", "--subject", "a", "--role", "user", "--ttl", "soon"], 2, "CLI-USAGE"),
    (["token", "revoke", "zz"], 2, "ID-SYNTAX"),
    (["key", "create", "A B"], 2, "KEY-LABEL"),
    (["key", "create", "release"], 1, "KEY-EXISTS"),
    (["key", "export", "release"], 1, "KEY-EXPORT"),
    (["user", "add", "x", "--role", "user", "--email", "a\nb"], 2, "ID-SYNTAX"),
    (["user", "disable", "none"], 2, "ID-UNKNOWN"),
    (["owner", "set", "../x", "dana"], 2, "REF-SYNTAX"),
    (["route", "add", "x", "--upstream", "http://h:99999", "--tier", "public"], 2, "ROUTE-ADDRESS"),
    (["route", "add", "x", "--upstream", "unix:/" + "a" * 200, "--tier", "public"], 2, "ROUTE-ADDRESS"),
    (["audit", "show", "a-999999"], 1, "AUD-NOT-FOUND"),
    (["audit", "show", "zz"], 2, "AUD-ID"),
    (["audit", "list", "--limit", "-1"], 2, "CLI-USAGE"),
    (["audit", "verify", "--key", "/none"], 2, "KEY-PUBLIC"),
    (["audit", "verify", "--witness", "/none"], 3, "AUD-WITNESS"),
    (["ask", "none", "hello"], 2, "GW-MODEL"),
    (["scan", "{odd}/none"], 2, "SCAN-PATH"),
    (["scan", LONG], 2, "SCAN-PATH"),
    (["verify", "{odd}/none"], 2, "ART-UNREADABLE"),
    (["verify", LONG], 2, "ART-UNREADABLE"),
    (["verify", "{odd}/empty"], 3, "ART-UNSIGNED"),
    (["sign", "{odd}/none", "--as", "x@1"], 2, "PATH-NOT-DIR"),
    (["sign", "{odd}/empty", "--as", "x@1"], 1, "ART-EMPTY"),
    (["sign", BASE, "--as", "x@1", "--out", "/"], 2, "SIGN-OUT"),
    (["sign", BASE, "--as", "x@1", "--out", "/none/x"], 2, "SIGN-OUT"),
    (["sign", BASE, "--as", "x@1", "--out", "{base}/x"], 2, "SIGN-OUT"),
    (["--token-file", "{odd}/binary.token", "model", "list"], 2, "TOK-FILE"),
    (["--token-file", "{odd}/empty.token", "model", "list"], 2, "TOK-FILE"),
    (["--token-file", "{odd}/lines.token", "model", "list"], 2, "TOK-FILE"),
    (["--token-file", "{odd}", "model", "list"], 2, "TOK-FILE"),
    (["--token-file", "{odd}/forged.token", "model", "list"], 1, "TOK-INVALID"),
    (["--as", "a\nb", "model", "list"], 2, "ID-SYNTAX"),
    (["--as", "a" * 300, "model", "list"], 2, "ID-SYNTAX"),
    (["--as", "\udcff", "model", "list"], 1, "RBAC-403"),
    (["--as", "nobody", "model", "publish", BASE, "--as", "x@1", *PUBLISH], 1, "RBAC-403"),
    (["--as", "dana", "serve", "base@1"], 1, "RBAC-403"),
    (["--as", "nobody", "approve", "base@1"], 1, "RBAC-403"),
    (["--as", "dana", "token", "issue", "--subject", "a", "--role", "admin"], 1, "RBAC-403"),
    (["--data", "/dev/null", "model", "list"], 3, "SRV-DOWN"),
    (["--data", LONG, "model", "list"], 3, "SRV-DOWN"),
    (["--data", "/dev/null", "up", "--listen", "127.0.0.1:0"], 3, "DATA-READONLY"),
    (["--data", "/proc/x", "up", "--listen", "127.0.0.1:0"], 3, "HOST-IO"),
    (["--data", "/tmp/" + "d" * 100, "up", "--listen", "127.0.0.1:0"], 2, "RUN-SOCKET-PATH"),
    (["--data", "{odd}/nested/a", "up", "--listen", "203.0.113.9:1"], 3, "SRV-PORT"),
    (["up", "--listen", "127.0.0.1"], 2, "SET-VALUE"),
    (["up", "--workers", "0"], 2, "SET-VALUE"),
    (["up", "--config", "/none"], 2, "SET-FILE"),
    (["up", "--config", "{odd}/binary.token"], 2, "SET-FILE"),
    (["explain", "NOPE"], 2, "CODE-UNKNOWN"),
    (["nonsense"], 2, "CLI-USAGE"),
    ([], 2, "CLI-USAGE"),
]


def test_every_verb_with_bad_input_ends_in_a_sentence(calm: Server, places: Path) -> None:
    base = str(calm.data / "models" / "base" / "1")

    def go(case: tuple[list[str], int, str]) -> str:
        words = [word.replace("{odd}", str(places)).replace("{base}", base) for word in case[0]]
        answer = run(["--json", *words]) if words[:1] == ["--data"] else calm.cli(*words)
        try:
            assert_a_sentence(answer, *case[1:])
        except (AssertionError, ValueError, KeyError) as error:
            return f"{words!a}: {str(error)[:600]}"
        return ""

    with ThreadPoolExecutor(3) as pool:
        failures = [failure for failure in pool.map(go, CASES) if failure]
    assert not failures, "\n".join(failures)


def test_a_refusal_for_people_has_the_same_code_and_a_next_step(calm: Server) -> None:
    answer = run(["--data", str(calm.data), "model", "show", "none@1"])
    assert answer.status == 1
    assert answer.out == ""
    assert "REFUSED  ART-UNKNOWN" in answer.err
    assert "next" in answer.err
    assert "garrison explain ART-UNKNOWN" in answer.err


def test_an_expired_token_is_refused_at_the_control_socket(calm: Server, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(calm.token(role="auditor", model=None, ttl="1s"))
    for _ in range(50):  # each try takes a good part of a second, so the second passes by itself
        answer = calm.cli("--token-file", str(path), "model", "list")
        if answer.status:
            break
    assert_a_sentence(answer, 1, "TOK-EXPIRED")
