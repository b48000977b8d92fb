"""A server of the customer's own as a declared command: it answers, and reaches no more than what was declared."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.stage import Served, need, sign_model

from garrison.core.errors import GarrisonError
from garrison.runtime import declared
from garrison.runtime.running import innermost
from garrison.runtime.sandboxes import features

SERVER = '''
"""A small server of OpenAI's shapes on a Unix socket: what it was given, and what it can reach."""
import json, os, socket, socketserver, subprocess, sys
from http.server import BaseHTTPRequestHandler

model, path, name = sys.argv[1:]


def tried(act):
    try:
        return str(act())
    except Exception as error:
        return type(error).__name__


def dropped():
    with open("/tmp/tool", "w") as file:
        file.write("#!/bin/sh\\nexit 0\\n")
    os.chmod("/tmp/tool", 0o755)
    return subprocess.run(["/tmp/tool"]).returncode


FACTS = {
    "first": open(os.path.join(model, "weights.gguf"), "rb").read(4).decode(),
    "also": sorted(os.listdir(model)),
    "environment": dict(os.environ),
    "own program": tried(lambda: subprocess.run([sys.executable, "-c", "print(2)"], capture_output=True).stdout),
    "dropped program": tried(dropped),
    "shell": tried(lambda: subprocess.run(["/bin/sh", "-c", "true"]).returncode),
    "internet": tried(lambda: socket.create_connection(("127.0.0.1", 80), 1)),
    "write model": tried(lambda: open(os.path.join(model, "weights.gguf"), "r+b").write(b"evil")),
    "shadow": tried(lambda: open("/etc/shadow").read()),
    "namespace": tried(lambda: os.unshare(0x10000000) if hasattr(os, "unshare") else open("/proc/self/uid_map", "w")),
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._send({} if self.path == "/up" else {"error": "no"}, 200 if self.path == "/up" else 404)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        words = {"role": "assistant", "content": json.dumps(FACTS)}
        self._send({"id": "1", "object": "chat.completion", "model": name, "choices": [{"index": 0, "message": words}]})

    def _send(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words): ...

    def address_string(self):
        return "local"


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


Server(path, Handler).serve_forever()
'''


def write(path: Path, **facts: object) -> Path:
    rows = "\n".join(
        f"{key} = {json.dumps(value)}" for key, value in facts.items() if not isinstance(value, dict)
    )
    tables = "\n".join(
        f"[server.{key}]\n" + "\n".join(f"{name} = {json.dumps(each)}" for name, each in value.items())
        for key, value in facts.items()
        if isinstance(value, dict)
    )
    path.write_text(f"[[server]]\n{rows}\n{tables}\n")
    return path


async def _ask(socket_path: Path) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(str(socket_path))
    body = json.dumps({"model": "own", "messages": [{"role": "user", "content": "Hello"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: m\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    answer = await reader.read()
    writer.close()
    content = json.loads(answer.partition(b"\r\n\r\n")[2])["choices"][0]["message"]["content"]
    found: dict[str, Any] = json.loads(content)
    return found


@pytest.mark.row("B01", kind="R")
@pytest.mark.row("B05", kind="R")
def test_a_declared_command_serves_verified_files_and_reaches_what_was_declared(
    served: Served, short_path: Path, tmp_path: Path
) -> None:
    need("bwrap")
    program = tmp_path / "program"
    program.mkdir(mode=0o755)
    (program / "server.py").write_text(SERVER)
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "weights.gguf").write_bytes(b"GGUF" + bytes(4096))
    (directory / "tokens.txt").write_text("a b c")
    python = os.path.realpath(sys.executable)
    command = [python, "-I", "-B", str(program / "server.py"), "{model}", "{socket}", "{name}"]
    file = write(
        tmp_path / declared.FILE,
        model="own",
        command=command,
        shows=[str(program), os.path.realpath(sys.base_prefix)],
        tasks=["chat"],
        health="/up",
        memory_gib=2,
        environment={"OWN_SETTING": "1"},
    )
    model = sign_model(directory, "own")

    async def story() -> dict[str, Any]:
        found = declared.find(file, "own")
        spec = replace(served.spec(model, "bwrap"), declared=found)
        endpoint = await served.supervisor.start(spec)
        try:
            assert endpoint.tasks == {"chat"}
            (state,) = served.supervisor.states()
            words = Path(f"/proc/{innermost(state.pid)}/cmdline").read_bytes().split(b"\0")
            assert words[-4:-1] == [b"/model", b"s.sock", b"own"]
            facts = await _ask(Path(endpoint.address.removeprefix("unix:")))
            if features.logs_refusals() and os.geteuid() == 0:
                async with asyncio.timeout(60):  # the kernel leaves lines out of its log when there are many
                    while not any(event.data.get("call") == "socket" for event in served.events):
                        await _ask(Path(endpoint.address.removeprefix("unix:")))
                        await asyncio.sleep(0.5)
            return facts
        finally:
            await served.supervisor.close()

    facts = asyncio.run(story())
    assert (facts["first"], facts["also"]) == ("GGUF", ["tokens.txt", "weights.gguf"])
    assert facts["environment"].pop("OWN_SETTING") == "1"
    assert not {"PATH", "HOME", "PYTEST_CURRENT_TEST"} & facts["environment"].keys()
    assert "2" in facts["own program"]
    for denied in ("dropped program", "shell", "internet", "write model", "shadow", "namespace"):
        assert facts[denied].endswith("Error"), f"{denied}: {facts[denied]}"
    assert served.events[0].data["loaded_digest"] == model.manifest.digest
    assert served.events[0].data["profile"] == "declared-command"
    refused = [event for event in served.events if event.code == "RUN-CALL"]
    assert all(event.action == "runtime.call" and event.outcome == "denied" for event in refused)
    names = [event.data["call"] for event in refused]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({"command": "/bin/server --model {model}"}, "list of words"),
        ({"command": ["server"]}, "absolute"),
        ({"command": ["/opt/s/run", "{home}"]}, "place"),
        ({"shows": ["/"]}, "whole machine"),
        ({"shows": ["opt"]}, "absolute"),
        ({"devices": ["/dev/sda"]}, "devices"),
        ({"environment": {"ld_preload": "x"}}, "variables"),
        ({"tasks": ["everything"]}, "tasks"),
        ({"profile": "mine"}, "profile"),
        ({"health": "http://elsewhere"}, "path"),
        ({"memory_gib": 0}, "whole numbers"),
        ({"seccomp": "off"}, "seccomp"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_declared_wrongly_is_refused_by_name(
    tmp_path: Path, facts: dict[str, object], word: str
) -> None:
    right = {"model": "own", "command": ["/opt/s/run", "{model}"], "shows": ["/opt/s"], "tasks": ["chat"]}
    assert declared.find(write(tmp_path / "right.toml", **right), "own") is not None
    assert declared.find(tmp_path / "right.toml", "other") is None
    assert declared.find(tmp_path / "none.toml", "own") is None
    with pytest.raises(GarrisonError, match=word) as caught:
        declared.find(write(tmp_path / "wrong.toml", **{**right, **facts}), "own")
    assert caught.value.code == "RUN-DECLARED"


@pytest.mark.parametrize("profile", [name for name in declared.PROFILES if name != "plain"])
def test_the_usual_servers_are_declared_by_their_profile(tmp_path: Path, profile: str) -> None:
    file = write(
        tmp_path / "servers.toml",
        model="big",
        profile=profile,
        command=[f"/opt/{profile}/run", *declared.PROFILES[profile]["command"][1:]],
        shows=[f"/opt/{profile}"],
    )
    found = declared.find(file, "big")
    assert found is not None
    words = found.words("big", 4, "/model")
    assert "/model" in words
    assert any("s.sock" in word for word in words)
    if not Path(f"/opt/{profile}").exists():
        pytest.skip(f"NOT PROVED HERE: {profile} itself needs an installation in /opt/{profile}")


def test_a_declared_command_is_refused_in_another_level(served: Served, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "weights.gguf").write_bytes(b"GGUF" + bytes(64))
    given = declared.Declared(("/bin/true",), (Path("/bin"),), frozenset({"chat"}))
    spec = replace(served.spec(sign_model(directory, "own"), "landlock"), declared=given)
    with pytest.raises(GarrisonError, match="RUN-DECLARED"):
        asyncio.run(served.supervisor.start(spec))
