"""The gateway as its users meet it: what it adds to an answer, two workers against one, start to the first answer.

- Added time: one request at a time, asked of the model server alone, through nginx and through one gateway worker with
  everything on, in turn, so that whatever else the machine does hits all three. What is added is the difference to the
  model server alone. The median of the rounds counts.
- Two workers: a `garrison up` with one and one with two, over TLS, under 32 connections, in turn. By requests a second,
  which needs idle cores for both workers and for the load, and by CPU time a request, which does not: what two workers
  do more of, when each has a core, is twice the ratio of the CPU times.
- Start: from the command to the first good answer through a route, on an empty data directory and on one that was
  used before.

    python benchmarks/bench_gateway_users.py [--quick] [--write docs/performance.md]
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import soak_gateway
from bench_gateway import machine, write

import gateway

PAUSE = 0.001  # between two requests: nobody's queue is measured
GIVE_UP_SECONDS = 120.0
MARK = "bench-gateway-users"


@dataclass(frozen=True, slots=True)
class Times:
    """Of one server in one round, in milliseconds."""

    p50: float
    p99: float


def main() -> int:
    options = _options()
    missing = [name for name in ("wrk", "nginx", "gcc") if not shutil.which(name)]
    if missing:
        print(f"bench-gateway: SKIPPED, not installed: {' '.join(missing)}")
        return 0
    rounds, requests, seconds = (2, 200, 1) if options.quick else (5, 1000, 4)
    with tempfile.TemporaryDirectory(prefix="garrison-bench-") as name, ExitStack() as stack:
        shared = argparse.Namespace(tls=False, connections=32, profile=False)
        bench = gateway.Bench(Path(name), shared)
        upstream = stack.enter_context(bench._upstream())
        lines = [
            f"Made by `make bench-gateway` on {datetime.now(UTC):%Y-%m-%d}: {machine()}; median of {rounds} rounds.",
            "",
            *added(bench, upstream, rounds, requests),
            *workers(bench, upstream, rounds, seconds),
            *start(Path(name), upstream, rounds),
        ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        write(options.write, text, MARK)
    return 0


def added(bench: gateway.Bench, upstream: Path, rounds: int, requests: int) -> list[str]:
    """What nginx and a worker add to the time of one answer."""
    taken: dict[str, list[Times]] = {"alone": [], "nginx": [], "Garrison": []}
    with bench._nginx(upstream) as nginx, bench._gateway(upstream) as worker:
        wires = {"alone": _unix(upstream), "nginx": _tcp(nginx[0]), "Garrison": _tcp(worker[0])}
        asked = _requests(bench)
        for number in range(rounds + 1):  # the first one warms up
            times: dict[str, list[float]] = {name: [] for name in wires}
            for each in range(requests):
                for name, wire in wires.items():
                    raw = asked(number * requests + each)
                    time.sleep(PAUSE)
                    began = time.perf_counter()
                    _answer(wire, raw)
                    times[name].append((time.perf_counter() - began) * 1e3)
            for name, all_ in times.items():
                if number:
                    ordered = sorted(all_)
                    taken[name].append(Times(statistics.median(ordered), ordered[int(len(ordered) * 0.99)]))
        for wire in wires.values():
            wire.close()
    shown = {}
    for name in ("nginx", "Garrison"):
        pairs = list(zip(taken[name], taken["alone"], strict=True))
        shown[name] = (
            statistics.median(ours.p50 - alone.p50 for ours, alone in pairs),
            statistics.median(ours.p99 - alone.p99 for ours, alone in pairs),
        )
    out = ["| added to one answer | p50 ms | p99 ms |", "|---|---|---|"]
    out += [f"| by {name} | {p50:.2f} | {p99:.2f} |" for name, (p50, p99) in shown.items()]
    ratios = [
        ours / theirs if theirs > 0 else float("nan") for theirs, ours in zip(*shown.values(), strict=True)
    ]
    return [*out, f"| times as much | {ratios[0]:.1f}x | {ratios[1]:.1f}x |", ""]


def workers(bench: gateway.Bench, upstream: Path, rounds: int, seconds: int) -> list[str]:
    """Requests a second and CPU time a request of one worker and of two."""
    found: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    with ExitStack() as stack:
        ups = {}
        for many in found:
            room = bench.root / f"up-{many}"
            room.mkdir()
            up = stack.enter_context(soak_gateway._up(room, many))
            ups[many] = (up, _script(bench, _ready(up, upstream), many))
        for number in range(rounds + 1):  # the first one warms up
            for many, (up, script) in ups.items():
                before = _spent(up)
                requests, per_second = _wrk(up.port, script, seconds if number else 1)
                if number:
                    found[many].append((per_second, (_spent(up) - before) * 1e6 / requests))
    one, two = ([statistics.median(column) for column in zip(*found[many], strict=True)] for many in (1, 2))
    return [
        "| over TLS, everything on | requests/s | CPU us a request |",
        "|---|---|---|",
        *(
            f"| {many} | {found_[0]:.0f} | {found_[1]:.0f} |"
            for many, found_ in (("one worker", one), ("two", two))
        ),
        "",
        f"Two workers make {two[0] / one[0]:.2f} times the requests a second of one here, where the load and the model "
        f"server need their part of the cores, and {2 * one[1] / two[1]:.2f} times by CPU time a request.",
        "",
    ]


def start(root: Path, upstream: Path, rounds: int) -> list[str]:
    """Seconds from `garrison up` to the first good answer."""
    first, again, spent = [], [], []
    for number in range(rounds):
        room = root / f"start-{number}"
        room.mkdir()
        began = time.monotonic()
        with soak_gateway._up(room, 1) as up:
            up_after = time.monotonic() - began
            token = _ready(up, upstream)
            first.append(up_after + _until_answered(up.data, up.port, token, time.monotonic()))
            _end(up)
        for _ in range(2):
            began = time.monotonic()
            up = soak_gateway.Up(up.data, up.port, _started(up))
            try:
                again.append(_until_answered(up.data, up.port, token, began))
                spent.append(sum(use.cpu for use in soak_gateway._uses(up.process.pid).values()))
            finally:
                _end(up)
    least, most, usual = min(again), max(again), statistics.median(again)
    return [
        f"From `garrison up` to the first good answer: {usual:.2f} s on a data directory that was used before "
        f"({least:.2f} to {most:.2f}), {statistics.median(spent):.2f} s of CPU time; on an empty one, without the "
        f"commands that add the route and issue the token, {statistics.median(first):.2f} s."
    ]


def _ready(up: soak_gateway.Up, upstream: Path) -> str:
    """A route to the mock model server; a token for it. Its load is what the watch for copying is there for."""
    up.run(
        "route", "add", "bench", "--upstream", f"unix:{upstream}", "--tier", "internal", "--kind", "openai"
    )
    for code in soak_gateway.WATCHES:
        up.run("detect", "respond", code, "--action", "observe")
    return up.run("token", "issue", "--subject", "bench", "--role", "user", "--ttl", "12h")


def _until_answered(data: Path, port: int, token: str, began: float) -> float:
    context = ssl.create_default_context(cafile=data / "ca.pem")
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    question = b'{"model": "bench", "messages": [{"role": "user", "content": "Say hello."}]}'
    while time.monotonic() - began < GIVE_UP_SECONDS:
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
        try:
            connection.request("POST", "/v1/chat/completions", question, headers)
            if connection.getresponse().status == 200:
                return time.monotonic() - began
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.01)
    raise SystemExit("bench-gateway: no answer in two minutes")


def _started(up: soak_gateway.Up) -> subprocess.Popen[str]:
    words = [
        *soak_gateway.COMMAND,
        "--data",
        str(up.data),
        "up",
        "--listen",
        f"127.0.0.1:{up.port}",
        "--json",
    ]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def _end(up: soak_gateway.Up) -> None:
    up.process.send_signal(signal.SIGTERM)
    up.process.wait(GIVE_UP_SECONDS)
    if up.process.stdout is not None:
        up.process.stdout.close()


def _spent(up: soak_gateway.Up) -> float:
    """CPU seconds of the workers. What the control process does later with their records is not theirs."""
    return sum(
        use.cpu for name, use in soak_gateway._uses(up.process.pid).items() if name.startswith("worker")
    )


def _wrk(port: int, script: Path, seconds: int) -> tuple[int, float]:
    wrk = ["wrk", "-t1", "-c32", f"-d{seconds}s", "--timeout", "20s", "-s", str(script)]
    done = subprocess.run(
        [*wrk, f"https://127.0.0.1:{port}/v1/chat/completions"],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 60,
    ).stdout
    counted = re.search(r"(\d+) requests in ([\d.]+)s", done)
    if "Non-2xx" in done or "Socket errors" in done or not counted or not int(counted[1]):
        raise SystemExit(f"bench-gateway: the run is void, not every answer was good\n{done}")
    return int(counted[1]), int(counted[1]) / float(counted[2])


def _script(bench: gateway.Bench, token: str, many: int) -> Path:
    script = bench.root / f"workers-{many}.lua"
    script.write_text(re.sub(r"Bearer [^\"]+", f"Bearer {token}", bench._lua(False)))
    return script


def _requests(bench: gateway.Bench):  # type: ignore[no-untyped-def]  # a function of the number of the request
    lua = bench._lua(False)
    token = re.search(r"Bearer ([^\"]+)", lua)
    parts = re.search(r"local before, behind = (\".*\"), (\".*\")\n", lua)
    if token is None or parts is None:
        raise SystemExit("bench-gateway: the script of gateway.py is another one")
    before, behind = map(json.loads, parts.groups())

    def request(number: int) -> bytes:
        body = f"{before}{number:09d}{behind}".encode()
        head = f"host: a\r\ncontent-type: application/json\r\nauthorization: Bearer {token[1]}\r\n"
        return (
            f"POST /v1/chat/completions HTTP/1.1\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body
        )

    return request


def _answer(wire: socket.socket, request: bytes) -> None:
    wire.sendall(request)
    data = b""
    while True:
        piece = wire.recv(65_536)
        if not piece:
            raise SystemExit("bench-gateway: a connection ended")
        data += piece
        head, found, body = data.partition(b"\r\n\r\n")
        if found:
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            if len(body) >= int(length):
                break
    if not data.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"bench-gateway: the run is void: {data[:300]!r}")


def _tcp(port: int) -> socket.socket:
    wire = socket.create_connection(("127.0.0.1", port), timeout=30)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return wire


def _unix(path: Path) -> socket.socket:
    wire = socket.socket(socket.AF_UNIX)
    wire.settimeout(30)
    wire.connect(str(path))
    return wire


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    parser.add_argument("--write", type=Path, help="the page whose table is replaced")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
