"""CPU per request of one gateway worker with everything on, against nginx passing the same requests on.

Everything on: token check, policy, rate limits, detectors on prompt and answer, audit spool, metrics. Both
sides speak plain HTTP to the client and to the same mock model server over a Unix socket, in turn, in one
run; user and system time of the process divided by the requests that wrk counted. The median of the rounds
counts. With --tls both sides also speak TLS 1.3 (wrk keeps its connections, so that is bulk encryption).

    python benchmarks/gateway.py [--rounds 3] [--seconds 3] [--connections 16] [--only whole] [--profile]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from garrison.core.digest import canonical_json
from garrison.core.event import format_time
from garrison.gateway.snapshot import PAYLOAD_TYPE
from garrison.trust import dsse
from garrison.trust.ca import Issued, memory_file, open_authority
from garrison.trust.identity import mint
from garrison.trust.keys.file import FileSigner
from garrison.trust.policy import base_cedar, base_schema

CPU_TARGET = 6.0  # times nginx
RSS_TARGET = 90.0  # MB of one worker after the run
CHUNKS = 64  # events of the streamed answer
NUMBER = "number-of-this-request"  # stands in the question for one
TICKS = os.sysconf("SC_CLK_TCK")
TEXT = (
    "The quarterly report describes how the team moved the billing service to the new cluster, which "
    "alerts were tuned afterwards, and what is still open. Summarise it for the steering committee in "
    "five sentences, name the two largest risks, and keep the tone neutral and free of jargon. "
)


def main() -> int:
    options = _options()
    missing = [name for name in ("wrk", "nginx", "gcc") if not shutil.which(name)]
    if missing:
        print(f"gateway: skipped, not installed: {' '.join(missing)}")
        return 0
    with tempfile.TemporaryDirectory(prefix="garrison-bench-") as name:
        return Bench(Path(name), options).run()


class Bench:
    """One run: mock model server, nginx and one gateway worker, all up together."""

    def __init__(self, root: Path, options: argparse.Namespace) -> None:
        self.root = root
        root.chmod(0o755)  # nginx's worker has a user of its own
        self.options = options
        self.token_key, self.snapshot_key = FileSigner("token"), FileSigner("snapshot")
        self.leaf = _leaf(root) if options.tls else None

    def run(self) -> int:
        with self._upstream() as upstream, self._nginx(upstream) as nginx, self._gateway(upstream) as gateway:
            shapes = {"whole": False, "stream": True}
            measured = {
                name: self._compare(nginx, gateway, stream=stream)
                for name, stream in shapes.items()
                if self.options.only in (None, name)
            }
            return report(measured, _rss(gateway[1]), tls=self.options.tls)

    def _compare(
        self, nginx: tuple[int, int], gateway: tuple[int, int], *, stream: bool
    ) -> list[tuple[float, float]]:
        """(nginx, gateway) CPU microseconds per request, round by round."""
        script = self.root / f"ask-{stream}.lua"
        script.write_text(self._lua(stream))
        for port, _ in (nginx, gateway):
            self._load(port, script, 1)
        rounds = []
        for number in range(self.options.rounds):
            cost = {}
            for side in (nginx, gateway) if number % 2 else (gateway, nginx):
                before = _cpu(side[1])
                requests = self._load(side[0], script, self.options.seconds)
                cost[side] = (_cpu(side[1]) - before) * 1e6 / requests
            rounds.append((cost[nginx], cost[gateway]))
        return rounds

    def _load(self, port: int, script: Path, seconds: int) -> int:
        scheme = "https" if self.leaf else "http"
        out = subprocess.run(
            [
                *_on(0),
                "wrk",
                "-t1",
                f"-c{self.options.connections}",
                f"-d{seconds}s",
                "-s",
                str(script),
                f"{scheme}://127.0.0.1:{port}/v1/chat/completions",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        if "Non-2xx" in out or "Socket errors" in out:
            raise SystemExit(f"gateway: the run is void, not every answer was good\n{out}")
        return int(re.search(r"(\d+) requests in", out)[1])  # type: ignore[index]  # wrk always prints it

    def _lua(self, stream: bool) -> str:
        body = {
            "model": "bench",
            "messages": [
                {"role": "system", "content": "You are a careful assistant."},
                {"role": "user", "content": f"{NUMBER} {(TEXT * 3)[:850]}"},
            ],
            "max_tokens": 200,
            **({"stream": True} if stream else {}),
        }
        raw = json.dumps(body, separators=(",", ":"))
        token = mint({"sub": "bench", "roles": ["user"], "models": []}, self.token_key, datetime.now(UTC))
        return (
            # Every question is another one: what was found clean before is not scanned again.
            'wrk.method = "POST"\n'
            f"local before, behind = {', '.join(json.dumps(part) for part in raw.split(NUMBER))}\n"
            "local count = 0\n"
            'wrk.headers["Content-Type"] = "application/json"\n'
            f'wrk.headers["Authorization"] = "Bearer {token}"\n'
            "function request()\n"
            "  count = count + 1\n"
            "  return wrk.format(nil, nil, nil, before .. string.format('%09d', count) .. behind)\n"
            "end\n"
        )

    @contextmanager
    def _upstream(self) -> Iterator[Path]:
        program, address = self.root / "upstream", self.root / "model.sock"
        source = Path(__file__).with_name("_upstream.c")
        subprocess.run(["gcc", "-O2", "-o", str(program), str(source)], check=True)
        (self.root / "answer").write_bytes(_answer())
        (self.root / "stream").write_bytes(_stream())
        with _process(
            [*_on(0), str(program), str(address), str(self.root / "answer"), str(self.root / "stream")]
        ):
            _until(address.exists)
            address.chmod(0o777)
            yield address

    @contextmanager
    def _nginx(self, upstream: Path) -> Iterator[tuple[int, int]]:
        port, tls = _free_port(), ""
        if self.leaf is not None:
            (self.root / "leaf.pem").write_bytes(self.leaf.chain)
            (self.root / "leaf.key").write_bytes(self.leaf.key)
            files = f"ssl_certificate {self.root}/leaf.pem; ssl_certificate_key {self.root}/leaf.key;"
            tls = f"ssl_protocols TLSv1.3; {files}"
        (self.root / "nginx.conf").write_text(
            f"""
daemon off; master_process off; worker_processes 1; pid {self.root}/nginx.pid; error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000; client_body_buffer_size 64k;
  client_body_temp_path {self.root}/b; proxy_temp_path {self.root}/p; fastcgi_temp_path {self.root}/f;
  uwsgi_temp_path {self.root}/u; scgi_temp_path {self.root}/s;
  upstream model {{ server unix:{upstream}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port}{" ssl" if tls else ""}; {tls}
    location / {{
      proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
        )
        with _process(
            [*_on(1), "nginx", "-p", str(self.root), "-c", str(self.root / "nginx.conf")]
        ) as process:
            _until(lambda: _answers(port))
            yield port, process.pid

    @contextmanager
    def _gateway(self, upstream: Path) -> Iterator[tuple[int, int]]:
        snapshot = self.root / "snapshot.json"
        snapshot.write_bytes(self._snapshot(upstream))
        ready_read, ready_write = os.pipe()
        tls = memory_file(self.leaf) if self.leaf is not None else None
        config = self.root / "gateway.json"
        config.write_text(
            json.dumps(
                {
                    "host": "127.0.0.1",
                    "port": 0,
                    "snapshot": str(snapshot),
                    "snapshot_key": self.snapshot_key.public_pem().decode(),
                    "spool": str(self.root / "spool"),
                    "worker_id": "bench",
                    "ready_fd": ready_write,
                    "tls_fd": tls,
                    "patterns": str(self.root / "patterns"),
                }
            )
        )
        runner = ["-m", "cProfile", "-o", "/tmp/gateway.prof"] if self.options.profile else []
        command = [*_on(1), sys.executable, *runner, "-m", "garrison.gateway.worker", "--config", str(config)]
        passed = [each for each in (ready_write, tls) if each is not None]
        with _process(command, pass_fds=passed) as process, _folding(self.root / "spool"):
            for each in passed:
                os.close(each)
            with os.fdopen(ready_read, "rb") as pipe:
                ready = json.loads(pipe.readline() or b"{}")
            if not ready.get("ready"):
                raise SystemExit(f"gateway: the worker did not start: {ready}")
            yield ready["port"], process.pid

    def _snapshot(self, upstream: Path) -> bytes:
        now = datetime.now(UTC)
        route = {
            "name": "bench",
            "version": 1,
            "digest": "sha256:" + "0" * 64,
            "tier": "internal",
            "address": f"unix:{upstream}",
            "tasks": ["chat"],
        }
        body = {
            "version": 1,
            "issued": format_time(now),
            "expires": format_time(now + timedelta(hours=1)),
            "policy_version": "bench",
            "policy": {"cedar": base_cedar(), "schema": base_schema()},
            "token_keys": [{"kid": self.token_key.key_id, "pem": self.token_key.public_pem().decode()}],
            "revoked": {"tokens": [], "subjects": []},
            "routes": [route],
            "limits": {"requests_per_minute": 10**9, "tokens_per_minute": 10**12, "concurrency": 10_000},
            "max_token_lifetime": 86_400,
        }
        return canonical_json(dsse.sign(canonical_json(body), PAYLOAD_TYPE, self.snapshot_key))


def report(measured: dict[str, list[tuple[float, float]]], memory: float, *, tls: bool) -> int:
    """Print the table; the exit status says whether the targets hold for what was measured."""
    print(f"gateway: one worker, everything on, {'TLS 1.3' if tls else 'plain HTTP'} on both sides")
    print(f"{'CPU us per request':34}{'nginx':>8}{'garrison':>10}{'ratio':>8}")
    titles = {"whole": "chat, 1 kB in, 1 kB out", "stream": f"chat, streamed, {CHUNKS} chunks"}
    good = memory <= RSS_TARGET
    for name, rounds in measured.items():
        ratio = statistics.median(ours / theirs for theirs, ours in rounds)
        theirs, ours = (statistics.median(column) for column in zip(*rounds, strict=True))
        good = good and ratio <= CPU_TARGET
        print(f"{titles[name]:34}{theirs:8.1f}{ours:10.1f}{ratio:7.2f}x")
    print(
        f"worker memory {memory:.0f} MB (target {RSS_TARGET:.0f}), ratio target {CPU_TARGET:.0f}x: ", end=""
    )
    print("reached" if good else "missed")
    return 0 if good else 1


def _answer() -> bytes:
    body = json.dumps(
        {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": "bench",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": (TEXT * 3)[:760]},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 190, "completion_tokens": 170, "total_tokens": 360},
        }
    ).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )


def _stream() -> bytes:
    words = (TEXT * 2).split(" ")[:CHUNKS]
    parts = [b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"]
    for number, word in enumerate(words):
        finish = "stop" if number == CHUNKS - 1 else None
        choice = {"index": 0, "delta": {"content": word + " "}, "finish_reason": finish}
        event = {
            "id": "x",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "b",
            "choices": [choice],
        }
        parts.append(_chunk(b"data: %s\n\n" % json.dumps(event).encode()))
    usage = (
        b'data: {"choices":[],"usage":{"prompt_tokens":190,"completion_tokens":64,"total_tokens":254}}\n\n'
    )
    parts.append(_chunk(usage + b"data: [DONE]\n\n") + b"0\r\n\r\n")
    return b"".join(part + b"\n--\n" for part in parts)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _leaf(root: Path) -> Issued:
    authority = open_authority(FileSigner("ca"), root / "ca.pem")
    return authority.issue_server(["127.0.0.1", "localhost"], hours=1)


def _on(core: int) -> list[str]:
    """Load and mock on one core, the measured process on another, where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cores[core])] if len(cores) > 1 and shutil.which("taskset") else []


@contextmanager
def _process(command: list[str], pass_fds: list[int] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, pass_fds=pass_fds or [], stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def _folding(spool: Path) -> Iterator[None]:
    """Stand in for the control process: remove segments that the worker has moved on from."""
    program = (
        "import pathlib, sys, time\n"
        "while True:\n"
        "    for old in sorted(pathlib.Path(sys.argv[1]).glob('*.jsonl'))[:-1]: old.unlink()\n"
        "    time.sleep(0.05)\n"
    )
    with _process([*_on(0), sys.executable, "-c", program, str(spool)]):
        yield


def _cpu(pid: int) -> float:
    """User and system seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _rss(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _until(true: object) -> None:
    ends = time.monotonic() + 10
    while not true():  # type: ignore[operator]  # a callable without arguments
        if time.monotonic() > ends:
            raise SystemExit("gateway: a process of the benchmark did not start")
        time.sleep(0.02)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--only", choices=("whole", "stream"), help="measure one shape")
    parser.add_argument(
        "--profile", action="store_true", help="write a cProfile of the worker; figures are void"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
