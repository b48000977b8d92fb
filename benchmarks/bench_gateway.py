"""The gateway beside its peers: CPU per request, requests a second, latency and memory, as ratios of one run.

Peers: nginx that only passes on, Envoy with jwt_authn, a local rate limit and a JSON access log, LiteLLM proxy
and Portkey without guards. Garrison does its full work, inspection on both ways included. Each peer is installed
into the user's cache by this script; one that cannot be had is left out, loudly. LiteLLM and Portkey cannot reach
a Unix socket, so they reach the mock model server through the nginx of this run, whose CPU is not theirs.
CPU is user and system time of all processes of a peer, divided by the requests that wrk counted.

    python benchmarks/bench_gateway.py [--quick] [--write docs/performance.md]
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench_gateway_peers import LITELLM, PORTKEY, Missing, Side, envoy, litellm, portkey

import gateway

ROOT = Path(__file__).resolve().parent.parent
CONNECTIONS = 32
WARM_SECONDS = 60
SLOW, LONGER = 200, 4  # a server of fewer requests a second has rounds so many times as long
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}  # wrk's units, in milliseconds
COMMAND = "make bench-gateway"


class Void(Exception):
    """A round in which not every answer was good."""


class Silent(Void):
    """A round in which there was no answer at all."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one round of wrk showed."""

    cpu_us: float
    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Row:
    """One peer: the median of its rounds."""

    name: str
    whole: Load
    stream: Load | None  # none where a peer does not answer streams here
    memory_mb: float


def main() -> int:
    options = _options()
    missing = [name for name in ("wrk", "nginx", "gcc") if not shutil.which(name)]
    if missing:
        print(f"bench-gateway: SKIPPED, not installed: {' '.join(missing)}")
        return 0
    seconds, rounds = (2, 1) if options.quick else (5, 3)
    with tempfile.TemporaryDirectory(prefix="garrison-bench-") as name:
        shared = argparse.Namespace(tls=False, connections=CONNECTIONS, profile=False)
        try:
            rows, left_out = measure(gateway.Bench(Path(name), shared), seconds, rounds)
        except Void as error:
            raise SystemExit(f"bench-gateway: the run is void: {error}") from error
    text = table(rows, left_out, seconds, rounds)
    print(text)
    if options.write:
        write(options.write, text)
    return 0


def measure(bench: gateway.Bench, seconds: int, rounds: int) -> tuple[list[Row], list[str]]:
    """Every peer in turn, round by round, all up together."""
    left_out: list[str] = []
    with ExitStack() as stack:
        upstream = stack.enter_context(bench._upstream())
        nginx = Side("nginx, passing on", *stack.enter_context(bench._nginx(upstream)))
        sides = [nginx, Side("Garrison, everything on", *stack.enter_context(bench._gateway(upstream)))]
        openers: dict[str, Callable[[], object]] = {
            "Envoy": lambda: stack.enter_context(envoy(bench, upstream)),
            f"LiteLLM proxy {LITELLM}": lambda: stack.enter_context(litellm(bench.root, nginx.port)),
            f"Portkey gateway {PORTKEY}": lambda: stack.enter_context(portkey(bench.root)),
        }
        for name, opened in openers.items():
            try:
                side = opened()
            except Missing as error:
                print(f"bench-gateway: {name} LEFT OUT: {error}", file=sys.stderr)
                left_out.append(f"{name}: {error}")
                continue
            if isinstance(side, Side):
                sides.append(side)
        scripts = {shape: _script(bench, nginx.port, stream=shape) for shape in (False, True)}
        taken: dict[tuple[str, bool], list[Load]] = {}
        asked = _answering(sides, scripts, left_out)
        for _ in range(rounds):
            for side, shape, length in asked:
                load = _load(side, scripts[shape], seconds * length)
                taken.setdefault((side.name, shape), []).append(load)
        return [_row(side, taken) for side in sides if (side.name, False) in taken], left_out


def _answering(
    sides: list[Side], scripts: dict[bool, Path], left_out: list[str]
) -> list[tuple[Side, bool, int]]:
    """Warm each server up; a peer that does not answer a shape is left out of it, and nothing else is."""
    asked = []
    for shape, script in scripts.items():
        for number, side in enumerate(sides):
            try:
                length = _warm(side, script)
            except Void as error:
                if number < 2:  # nginx and Garrison: without them there is nothing to compare
                    raise
                kind = "streams" if shape else "whole answers"
                print(f"bench-gateway: {kind} LEFT OUT: {error}", file=sys.stderr)
                left_out.append(f"{side.name}: did not answer each request for {kind} on this machine.")
            else:
                asked.append((side, shape, length))
    return asked


def _warm(side: Side, script: Path) -> int:
    """Some load much at their first requests, and answer none of them for a while. How long a round has to be, in
    shorter ones, so that what is under way at its end does not count."""
    ends, seconds = time.monotonic() + WARM_SECONDS, 1
    while True:
        seconds *= 2  # with many at once the first answer may come after all of them are nearly done
        try:
            load = _load(side, script, seconds)
        except Silent:
            if time.monotonic() > ends:
                raise
        else:
            return 1 if load.per_second > SLOW else LONGER


def _row(side: Side, taken: dict[tuple[str, bool], list[Load]]) -> Row:
    streamed = taken.get((side.name, True))
    memory = sum(map(gateway._rss, _family(side.pid)))
    return Row(side.name, _median(taken[side.name, False]), _median(streamed) if streamed else None, memory)


def table(rows: list[Row], left_out: list[str], seconds: int, rounds: int) -> str:
    """The page's table, with what is needed to make it again."""
    nginx, ours = rows[0], rows[1]
    out = [
        f"Made by `{COMMAND}` on {datetime.now(UTC):%Y-%m-%d}: {machine()}; {rounds} x {seconds} s each,",
        f"{CONNECTIONS} connections, plain HTTP, 1 kB in and 1 kB out; a stream has {gateway.CHUNKS} chunks.",
        "",
        "| | CPU us a request | Garrison takes | requests/s | p50 ms | p99 ms | stream, CPU us | MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        streamed = f"{row.stream.cpu_us:.0f}" if row.stream else "not answered"
        share = f"{ours.whole.cpu_us / row.whole.cpu_us:.3g}x"
        out.append(
            f"| {row.name} | {row.whole.cpu_us:.0f} | {share} | {row.whole.per_second:.0f} "
            f"| {row.whole.p50_ms:.2f} | {row.whole.p99_ms:.2f} | {streamed} | {row.memory_mb:.0f} |"
        )
    out += [""]
    if ours.stream and nginx.stream:
        ratio = ours.stream.cpu_us / nginx.stream.cpu_us
        out += [f"An inspected stream takes {ratio:.2f} times the CPU of one that nginx passes on.", ""]
    out += [f"- Left out: {line}" for line in left_out]
    return "\n".join(out) + "\n"


def write(page: Path, text: str, mark: str = "bench-gateway") -> None:
    """Put a table between the page's two marks."""
    head, begin, rest = page.read_text().partition(f"<!-- {mark} -->\n")
    _, end, tail = rest.partition(f"<!-- /{mark} -->\n")
    if not begin or not end:
        raise SystemExit(f"bench-gateway: {page} has no marks for {mark}")
    page.write_text(f"{head}{begin}{text}{end}{tail}")


def _script(bench: gateway.Bench, port: int, *, stream: bool) -> Path:
    script = bench.root / f"peers-{stream}.lua"
    extra = (
        'wrk.headers["x-portkey-provider"] = "openai"\n'
        f'wrk.headers["x-portkey-custom-host"] = "http://127.0.0.1:{port}/v1"\n'
    )
    script.write_text(bench._lua(stream).replace("local count = 0\n", "local count = 0\n" + extra))
    return script


def _load(side: Side, script: Path, seconds: int) -> Load:
    before = sum(map(gateway._cpu, _family(side.pid)))
    wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "--timeout", "20s"]
    done = subprocess.run(
        [*gateway._on(0), *wrk, "-s", str(script), f"http://127.0.0.1:{side.port}{side.path}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 60,
    ).stdout
    spent = sum(map(gateway._cpu, _family(side.pid))) - before
    counted = re.search(r"(\d+) requests in ([\d.]+)s", done)
    if counted and not int(counted[1]) and "Non-2xx" not in done:
        raise Silent(f"{side.name} answered nothing\n{done}")
    if "Non-2xx" in done or "Socket errors" in done or not counted or not int(counted[1]):
        raise Void(f"{side.name} did not answer each request\n{done}")
    requests = int(counted[1])
    p50, p99 = (_latency(done, share) for share in ("50%", "99%"))
    return Load(spent * 1e6 / requests, requests / float(counted[2]), p50, p99)


def _latency(text: str, share: str) -> float:
    found = re.search(rf"{share}\s+([\d.]+)(us|ms|s)", text)
    if found is None:
        raise SystemExit(f"bench-gateway: wrk printed no latency\n{text}")
    return float(found[1]) * UNITS[found[2]]


def _median(loads: list[Load]) -> Load:
    fields = ("cpu_us", "per_second", "p50_ms", "p99_ms")
    return Load(*(statistics.median(getattr(load, field) for load in loads) for field in fields))


def _family(pid: int) -> list[int]:
    """A process and all that came from it."""
    children = " ".join(each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/children"))
    return [pid, *(each for child in children.split() for each in _family(int(child)))]


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    return f"{(names or [platform.machine()])[0]}, {cores} cores, load average {load:.0f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round of two seconds each")
    parser.add_argument("--write", type=Path, help="the page whose table is replaced")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
