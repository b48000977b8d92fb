"""A server of the customer's own as a declared command: it answers, and reaches no more than what was declared."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.stage import Served, SignedModel, need, sign_model
from tests.runtime.test_serving import ask

from garrison.app.cli.main import main
from garrison.core.errors import GarrisonError
from garrison.runtime import declared
from garrison.runtime.running import family, innermost
from garrison.runtime.sandboxes import features
from garrison.runtime.server_profiles import PROFILES

SERVER = '''
"""A small server of OpenAI's shapes on a Unix socket or a port: what it was given, and what it can reach."""
import json, os, socket, socketserver, subprocess, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

model, path, name, hosts_port, hosts_abstract = sys.argv[1:]


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
    "host's loopback": tried(lambda: socket.create_connection(("127.0.0.1", int(hosts_port)), 1)),
    "internet": tried(lambda: socket.create_connection(("192.0.2.1", 443), 1)),
    "datagrams": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
    "raw packets": tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "the kernel's own sockets": tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    "the machine around": tried(lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)),
    "host's abstract socket": tried(lambda: socket.socket(socket.AF_UNIX).connect(chr(0) + hosts_abstract)),
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
        tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))  # again: a log may have lost the line
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


if path.isdigit():
    subprocess.Popen([sys.executable, "-I", "-c", "import time; time.sleep(999)"])  # as servers of several parts do
    ThreadingHTTPServer(("127.0.0.1", int(path)), Handler).serve_forever()
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


@pytest.fixture
def host_ports(short_path: Path) -> Iterator[tuple[str, str]]:
    """Where the host itself listens: a port of its loopback, and an abstract socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{short_path.name}")
        abstract.listen()
        yield str(listener.getsockname()[1]), short_path.name


@pytest.mark.row("B01", kind="R")
@pytest.mark.row("B05", kind="R")
@pytest.mark.parametrize("way", ["unix", "tcp"])
def test_a_declared_command_serves_verified_files_and_reaches_what_was_declared(
    served: Served, tmp_path: Path, host_ports: tuple[str, str], way: str
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
    command = [python, "-I", "-B", str(program / "server.py"), "{model}", "{socket}", "{name}", *host_ports]
    if way == "tcp":
        command[5] = "{port}"
    file = write(
        tmp_path / declared.FILE,
        model="own",
        command=command,
        shows=[str(program), os.path.realpath(sys.base_prefix)],
        tasks=["chat"],
        health="/up",
        memory_gib=2,
        environment={"OWN_SETTING": "1"},
        **({"port": 8011} if way == "tcp" else {}),
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
            assert words[-6:-3] == [b"/model", b"s.sock" if way == "unix" else b"8011", b"own"]
            facts = await _ask(Path(endpoint.address.removeprefix("unix:")))
            if features.logs_refusals() and os.geteuid() == 0:
                async with asyncio.timeout(60):  # the kernel leaves lines out of its log when there are many
                    while not any(event.data.get("call") in ("socket", "unshare") for event in served.events):
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
    for denied in facts.keys() - {"first", "also", "environment", "own program"}:
        assert facts[denied].endswith("Error"), f"{denied}: {facts[denied]}"
    assert served.events[0].data["loaded_digest"] == model.manifest.digest
    assert served.events[0].data["profile"] == ("declared-command" if way == "unix" else "declared-on-tcp")
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
        ({"port": 8000}, "both a port"),
        ({"command": ["/opt/s/run", "{port}"]}, "both a port"),
        ({"port": 80, "command": ["/opt/s/run", "{port}"]}, "whole numbers"),
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


@pytest.mark.parametrize("profile", list(PROFILES))
def test_each_profile_is_printed_as_a_declaration_that_is_understood(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], profile: str
) -> None:
    assert main(["runtime", "servers", profile]) == 0
    (tmp_path / "servers.toml").write_text(capsys.readouterr().out)
    found = declared.find(tmp_path / "servers.toml", "NAME")
    assert found is not None
    words = " ".join(found.words("big", 4, "/model/big.gguf"))
    assert "/model" in words
    assert "{" not in words
    assert ("s.sock" in words) != (str(found.port) in words)
    assert found.port is None or "127.0.0.1" in words, "it listens on the loopback alone"
    assert found.health.startswith("/")


LLAMA = """
import signal, sys, xllamacpp
model, port, name = sys.argv[1:]
chosen = xllamacpp.CommonParams()
chosen.model.path, chosen.hostnames, chosen.port, chosen.model_alias = model, ["127.0.0.1"], int(port), {name}
chosen.n_ctx, chosen.n_parallel, chosen.cpuparams.n_threads, chosen.warmup = 512, 1, 1, False
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
server = xllamacpp.Server(chosen)
signal.sigwait({signal.SIGTERM})
"""


@pytest.mark.row("B01", kind="R")
def test_a_real_server_that_listens_on_tcp_alone_serves_a_real_model(
    served: Served, chat_model: SignedModel, tmp_path: Path
) -> None:
    need("bwrap")
    program = tmp_path / "program"
    program.mkdir(mode=0o755)
    (program / "server.py").write_text(LLAMA)
    site, python = sysconfig.get_path("platlib"), os.path.realpath(sys.executable)
    start = (
        f"import runpy, sys; sys.path.append({site!r}); sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"
    )
    file = write(
        tmp_path / declared.FILE,
        model="smol",
        command=[python, "-I", "-c", start, str(program / "server.py"), "{model}", "{port}", "{name}"],
        shows=[str(program), os.path.realpath(sys.base_prefix), site],
        tasks=["chat"],
        port=8012,
    )

    async def story() -> None:
        spec = replace(served.spec(chat_model, "bwrap"), declared=declared.find(file, "smol"))
        endpoint = await served.supervisor.start(spec)
        try:
            body = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4}
            status, answer = await asyncio.to_thread(ask, endpoint.address, "/v1/chat/completions", body)
            assert (status, answer["model"]) == (200, "smol")
            assert answer["choices"][0]["message"]["content"]
            with pytest.raises(OSError, match=r".*"):  # its port is nowhere but in its own network
                socket.create_connection(("127.0.0.1", 8012), 5).close()
            (state,) = served.supervisor.states()
            os.kill(forwarder_of(state.pid), signal.SIGKILL)
            await served.until(lambda: any(event.code == "RUN-HUNG" for event in served.events))
            await served.until(lambda: served.supervisor.states()[0].state == "ready")
        finally:
            await served.supervisor.close()

    asyncio.run(story())
    assert served.events[0].data["loaded_digest"] == chat_model.manifest.digest


def forwarder_of(pid: int) -> int:
    """What runs beside the server: the other child of its sandbox's process 1."""
    server = innermost(pid)
    (found,) = (each for each in family(pid) if each > server and parent_of(each) == parent_of(server))
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_declared_command_is_refused_in_another_level(served: Served, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "weights.gguf").write_bytes(b"GGUF" + bytes(64))
    given = declared.Declared(("/bin/true",), (Path("/bin"),), frozenset({"chat"}))
    spec = replace(served.spec(sign_model(directory, "own"), "landlock"), declared=given)
    with pytest.raises(GarrisonError, match="RUN-DECLARED"):
        asyncio.run(served.supervisor.start(spec))
