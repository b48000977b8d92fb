"""A real server and the commands a person types at it; what every flow test starts from."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.app.cli import link

COMMAND = (sys.executable, "-I", "-m", "garrison.app.cli.main")
SECONDS = 180


@dataclass(frozen=True)
class Answer:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


def environment(**more: str) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR") if key in os.environ}
    return {**kept, "LANG": "C.UTF-8", **more}


def run(words: Sequence[str], **more: str) -> Answer:
    done = subprocess.run(
        [*COMMAND, *words],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=environment(**more),
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """`garrison up` on a data directory, with the commands pointed at it."""

    def __init__(self, data: Path, port: int | None = None) -> None:
        self.data = data
        self.host = "127.0.0.1"
        self.port = port or free_port()
        self.process: subprocess.Popen[str] | None = None
        self.ready: dict[str, Any] = {}

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> Server:
        words = [*COMMAND, "--data", str(self.data), "up", "--listen", f"{self.host}:{self.port}", "--json"]
        with self.data.with_suffix(".log").open("a") as log:
            self.process = subprocess.Popen(
                words,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment(),
                start_new_session=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the server did not start: {self.data.with_suffix('.log').read_text()[-2000:]}"
        self.ready = json.loads(line)
        return self

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return status

    def kill(self) -> None:
        """SIGKILL, the way a crash or the kernel's out-of-memory killer ends it."""
        self.stop(signal.SIGKILL)

    def try_start(self, *words: str, **more: str) -> Answer:
        """A start that is expected to be refused: its answer. One that succeeds is stopped again."""
        process = subprocess.Popen(
            [*COMMAND, "--data", str(self.data), "--json", "up", "--listen", "127.0.0.1:0", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**more),
        )
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        if '"ready"' in first:
            process.send_signal(signal.SIGTERM)
        with process.stdout as out, process.stderr as err:
            return Answer(process.wait(SECONDS), first + out.read(), err.read())

    def ask(self, verb: str, identity: str | None = None, **body: Any) -> dict[str, Any]:
        """One verb over the control socket from this process. Raises the server's own refusal."""
        args = argparse.Namespace(data=str(self.data), identity=identity, json=True, token_file=None)
        return link.call(args, verb, **body)

    def cli(self, *words: str, **more: str) -> Answer:
        return run(["--data", str(self.data), "--json", *words], **more)

    def ok(self, *words: str) -> Any:
        answer = self.cli(*words)
        assert answer.status == 0, f"{words}: exit {answer.status}: {answer.out} {answer.err}"
        return answer.json

    def publish(self, directory: Path, ref: str, *, tier: str = "internal") -> Any:
        return self.ok("model", "publish", str(directory), "--as", ref, "--owner", "ml-team", "--tier", tier)

    def token(self, *, role: str = "user", model: str | None = "smollm2", ttl: str = "10m") -> str:
        words = ["token", "issue", "--subject", "app", "--role", role, "--ttl", ttl]
        answer = run(["--data", str(self.data), *words, *(["--model", model] if model else [])])
        assert answer.status == 0, answer.err
        return answer.out.strip()
