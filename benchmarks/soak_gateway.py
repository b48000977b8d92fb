"""The gateway at half load for half an hour: does it leak, lose or fail anything?

A real `garrison up` with all that it does by default, over TLS, in front of a mock model server. Most clients ask
usual questions. Others stream, hang up in the middle, leave before the answer, read slowly, stop reading, come with
bad tokens or with none, give orders to the model, or ask what makes it say a secret. Once a minute what is looked
for and what is allowed changes, so that workers reload. Memory, files, threads and the spool are told as they go,
and so is what the gateway adds to an answer, against asking the model server alone from the same clients.

At the end all of this has to hold: each request left exactly one event; nothing failed that ought to succeed and
nothing passed that ought to be refused; the resident memory of a worker is at most 5 % above what it was at first; as
many files and threads as then, but for connections and pools; the spool is folded; the ledger verifies. Memory comes
and goes with load and reloads, so the lowest of the last third is held against the lowest of the one after a tenth of
the time: a leak would raise it. The growth of the control process is told, and not judged.

    python benchmarks/soak_gateway.py [--minutes 30] [--rate N] [--workers 1] [--json]

Without --rate the clients find out for five seconds how much they can ask, and then ask half as much.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import uvloop
from _soak_load import STREAMED, Clients, Model

COMMAND = (sys.executable, "-I", "-m", "garrison.app.cli.main")
SETTINGS = "requests_per_minute = 10000000\ntokens_per_minute = 10000000000\nconcurrency = 10000\n"
CLIENTS, SLOW = 16, 4
SETTLED = 0.1  # of the time, after which memory and files are taken for what they are
GROWTH = 0.05
FILES, THREADS = 8, 4  # more than before: connections come and go, pools of threads fill up to their size
REQUESTS, STREAMS = 200_000, 20_000  # with fewer of them what processes take is told, not judged
SAMPLES = 60
ROWS = 15
FIND_SECONDS = 5.0
FOLD_SECONDS = 120.0
WATCHES = ("ANO-EXTRACT", "ANO-PROBE")  # a program that asks so much is what they are there to slow down
RELOAD_SECONDS = 60.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process takes. Sizes are in MB."""

    rss: float
    pss: float
    files: int
    threads: int
    cpu: float  # seconds since the start


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment, and the requests since the one before. Times are in milliseconds."""

    minute: float
    requests: int
    per_second: float
    added_p50: float
    added_p99: float
    spool_kb: float
    uses: dict[str, Usage]


@dataclass(frozen=True, slots=True)
class Up:
    """A gateway that is up."""

    data: Path
    port: int
    process: subprocess.Popen[str]

    def run(self, *words: str) -> str:
        command = [*COMMAND, "--data", str(self.data), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode != 0:
            raise Failed(f"garrison {' '.join(words)}: {done.stdout} {done.stderr}")
        return done.stdout.strip()


class Failed(Exception):
    """A command that ought to work did not."""


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="garrison-soak-") as room, _up(Path(room), options.workers) as up:
        samples, clients, rate = uvloop.run(_soak(up, Path(room) / "model.sock", options))
        up.process.send_signal(signal.SIGTERM)
        status = up.process.wait(FOLD_SECONDS)
        told = {
            "rate": round(rate),
            "workers": options.workers,
            **_verdict(up, samples, clients, status),
        }
    print(json.dumps(told) if options.json else table(told, samples))
    return 0 if told["good"] else 1


async def _soak(up: Up, path: Path, options: argparse.Namespace) -> tuple[list[Sample], Clients, float]:
    model = await asyncio.get_running_loop().create_unix_server(Model, str(path))
    await asyncio.to_thread(
        up.run, "route", "add", "soak", "--upstream", f"unix:{path}", "--tier", "internal", "--kind", "openai"
    )
    for code in WATCHES:
        await asyncio.to_thread(up.run, "detect", "respond", code, "--action", "observe")
    issue = ("token", "issue", "--subject", "soak", "--role", "user", "--ttl", "12h")
    token = await asyncio.to_thread(up.run, *issue)
    clients = Clients(up.port, up.data / "ca.pem", path, token, options.seed)
    seconds = options.minutes * 60
    try:
        rate = options.rate or await _half(clients)
        async with asyncio.TaskGroup() as working:
            for _ in range(CLIENTS):
                working.create_task(clients.paced(rate))
            for _ in range(SLOW):
                working.create_task(clients.slow())
            working.create_task(clients.stalled())
            working.create_task(_reload(up, clients, seconds))
            samples = await _watch(up, clients, seconds)
            clients.stop()
    finally:
        model.close()
    return samples, clients, rate


async def _half(clients: Clients) -> float:
    """Half of what the clients reach when none of them waits."""
    began, before = time.perf_counter(), clients.seen.asked.total()
    async with asyncio.TaskGroup() as working:
        for _ in range(CLIENTS):
            working.create_task(clients.paced(0))
        await asyncio.sleep(FIND_SECONDS)
        rate = (clients.seen.asked.total() - before) / (time.perf_counter() - began) / 2
        clients.stop()
    clients.stopped.clear()
    return rate


async def _reload(up: Up, clients: Clients, seconds: float) -> None:
    """Another pattern of the customer's and another limit, once a minute."""
    every, number = min(RELOAD_SECONDS, seconds / 4), 0
    while not clients.stopped.is_set():
        try:
            async with asyncio.timeout(every):
                await clients.stopped.wait()
        except TimeoutError:
            number += 1
            code = ("dlp", "pattern", "add", f"code{number}", "--regex", f"CODE{number}-[0-9]{{6}}")
            await asyncio.to_thread(up.run, *code)
            if number > 1:
                await asyncio.to_thread(up.run, "dlp", "pattern", "remove", f"code{number - 1}")
            await asyncio.to_thread(
                up.run, "limit", "set", "all", "--requests-per-minute", f"{10**7 + number}"
            )


async def _watch(up: Up, clients: Clients, seconds: float) -> list[Sample]:
    samples: list[Sample] = []
    began, before = time.perf_counter(), clients.seen.asked.total()
    while (passed := time.perf_counter() - began) < seconds:
        await asyncio.sleep(min(seconds / SAMPLES, seconds - passed))
        seen, now = clients.seen, time.perf_counter() - began
        requests = seen.asked.total()
        p50, p99 = (_quantile(seen.through, at) - _quantile(seen.direct, at) for at in (0.5, 0.99))
        spool = sum(each.stat().st_size for each in (up.data / "run" / "spool").glob("*.jsonl")) / 1e3
        per_second = (requests - before) / (now - passed)
        samples.append(Sample(now / 60, requests, per_second, p50, p99, spool, _uses(up.process.pid)))
        before = requests
        seen.through.clear()
        seen.direct.clear()
    return samples


def _verdict(up: Up, samples: list[Sample], clients: Clients, status: int) -> dict[str, Any]:
    seen, events = clients.seen, _events(up)
    requests = seen.asked.total()
    streams = sum(seen.asked[kind] for kind in STREAMED)
    verified = subprocess.run(
        [*COMMAND, "--data", str(up.data), "audit", "verify"], capture_output=True, timeout=600, check=False
    )
    left = [each for each in (up.data / "run" / "spool").glob("*.jsonl") if each.stat().st_size]
    growth = {name: _growth(samples, name) for name in samples[-1].uses}
    enough = requests >= REQUESTS and streams >= STREAMS
    holds = {
        "one event a request": len(events) == requests and events.total() == requests,
        "each answer has its event": seen.ids <= events.keys(),
        "nothing failed": not seen.wrong,
        "the ledger verifies": verified.returncode == 0,
        "the spool is folded": not left,
        "the server ended well": status == 0,
        "files and threads are flat": not enough or all(_flat(samples, name) for name in samples[-1].uses),
        "the memory of workers is flat": not enough
        or all(grown <= GROWTH for name, grown in growth.items() if name.startswith("worker")),
    }
    return {
        "good": all(holds.values()),
        "holds": holds,
        "use_judged": enough,
        "requests": requests,
        "streams": streams,
        "events": events.total(),
        "kinds": dict(seen.asked),
        "wrong": dict(seen.wrong.most_common(20)),
        "growth": growth,
        "samples": [asdict(sample) for sample in samples],
    }


def _events(up: Up) -> Counter[str]:
    """How many events each request left."""
    words = [
        *COMMAND,
        "--data",
        str(up.data),
        "audit",
        "export",
        "--format",
        "jsonl",
        "--kind",
        "model.invoke",
    ]
    found: Counter[str] = Counter()
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            found[json.loads(line)["trace_id"]] += 1
        process.wait(FOLD_SECONDS)
    return found


def _growth(samples: list[Sample], name: str) -> float:
    """The lowest resident memory of the last third against the lowest of the one that follows the first tenth."""
    before, after = (min(use.rss for use in part) for part in _thirds(samples, name))
    return round(after / before - 1, 4)


def _flat(samples: list[Sample], name: str) -> bool:
    first, last = _thirds(samples, name)
    files = min(use.files for use in last) <= max(use.files for use in first) + FILES
    return files and min(use.threads for use in last) <= max(use.threads for use in first) + THREADS


def _thirds(samples: list[Sample], name: str) -> tuple[list[Usage], list[Usage]]:
    """What a process took in the third of the time after all had settled, and in the last one."""
    known = [use for sample in samples if (use := sample.uses.get(name))]
    start, third = round(len(known) * SETTLED), max(1, len(known) // 3)
    return known[start : start + third], known[-third:]


def _uses(control: int) -> dict[str, Usage]:
    """The control process and what it started, each by what it is."""
    found = {"control": _usage(control)}
    children = Path(f"/proc/{control}/task").glob("*/children")
    for pid in sorted(int(pid) for each in children for pid in each.read_text().split()):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            kind = next((w.decode().rpartition(".")[2] for w in words if w.startswith(b"garrison.")), "other")
            name = kind if kind not in found else f"{kind}-{pid}"
            found[name] = _usage(pid)
        except OSError:  # gone in the meantime
            continue
    return found


def _usage(pid: int) -> Usage:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    rss, pss = (
        next(int(line.split()[1]) / 1e3 for line in rollup.splitlines() if line.startswith(name))
        for name in ("Rss:", "Pss:")
    )
    files, threads = (len(os.listdir(f"/proc/{pid}/{what}")) for what in ("fd", "task"))
    spent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return Usage(round(rss, 1), round(pss, 1), files, threads, sum(map(int, spent)) / TICKS)


def table(told: dict[str, Any], samples: list[Sample]) -> str:
    """The curve in at most fifteen rows, and what holds."""
    names = [name for name in samples[-1].uses if name in ("worker", "control")]
    heads = [f"{name} {what}" for name in names for what in ("MB", "PSS", "files", "threads", "CPU")]
    out = [
        f"{told['requests']:,} requests, {told['streams']:,} of them streams or hung up; {told['events']:,} events; "
        f"{told['rate']} a second wanted; {told['workers']} worker",
        "",
        f"| minute | requests | a second | added p50 ms | added p99 ms | spool kB | {' | '.join(heads)} |",
        "|---" * (6 + len(heads)) + "|",
    ]
    step = max(1, len(samples) // ROWS)
    for before, each in pairwise(samples[::step]):
        cells = []
        for name in names:
            use, cpu = each.uses[name], each.uses[name].cpu - before.uses[name].cpu
            share = cpu / (each.minute - before.minute) / 60
            cells.append(f"{use.rss:.1f} | {use.pss:.1f} | {use.files} | {use.threads} | {share:.0%}")
        out.append(
            f"| {each.minute:.1f} | {each.requests:,} | {each.per_second:.0f} | {each.added_p50:.2f} "
            f"| {each.added_p99:.2f} | {each.spool_kb:.0f} | {' | '.join(cells)} |"
        )
    out += [
        "",
        "growth of the least resident memory: "
        + ", ".join(f"{k} {v:+.1%}" for k, v in told["growth"].items()),
    ]
    if not told["use_judged"]:
        out.append(f"(not judged: fewer than {REQUESTS:,} requests with {STREAMS:,} streams)")
    out += [f"{'holds' if held else 'FAILS'}: {what}" for what, held in told["holds"].items()]
    out += [f"  {many} x {what}" for what, many in told["wrong"].items()]
    return "\n".join(out)


def _quantile(times: list[float], at: float) -> float:
    """In milliseconds; 0 when there are none."""
    return sorted(times)[int(len(times) * at)] * 1e3 if times else 0.0


@contextmanager
def _up(room: Path, workers: int) -> Iterator[Up]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    data = room / "data"
    data.mkdir(mode=0o700)
    (data / "garrison.toml").write_text(SETTINGS)
    words = [*COMMAND, "--data", str(data), "up", "--listen", f"127.0.0.1:{port}", "--workers", str(workers)]
    with subprocess.Popen([*words, "--json"], stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or not process.stdout.readline():
                raise SystemExit("soak-gateway: the gateway did not start")
            yield Up(data, port, process)
        finally:
            process.kill()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument(
        "--rate", type=float, default=0.0, help="requests a second; default: half of what goes"
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
