"""The parent's side of the scanning worker: start it, hand it descriptors, end it when it hangs."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

from garrison.core.finding import Finding, Severity, Verdict

SECONDS = 30.0  # wall clock for one file, plus what follows
BYTES_PER_SECOND = 20 << 20  # the slowest thing done to every byte is unpacking; xz does 40 MB/s
START_SECONDS = 30.0
MAX_ANSWER = 4 << 20  # 200 findings of bounded length


@dataclass(frozen=True, slots=True)
class Limits:
    """Wall clock for one file: `seconds`, plus its size at `bytes_per_second`."""

    seconds: float = SECONDS
    bytes_per_second: float = BYTES_PER_SECOND


@dataclass(frozen=True, slots=True)
class Judged:
    format: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    references: dict[str, int]


class Worker:
    """One confined process, reused for every file; replaced after a file that killed it.

    `send` then `receive`, in turn, so that the caller can hash the file in between.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._name = ""
        self._deadline = 0.0

    def send(self, name: str, descriptor: int, size: int) -> None:
        if self._process is None or self._process.poll() is not None:
            self._stop()
            self._start()
        self._name = name
        self._deadline = time.monotonic() + self._limits.seconds + size / self._limits.bytes_per_second
        message = json.dumps({"name": name}).encode()
        try:
            if self._channel is not None:
                socket.send_fds(self._channel, [message], [descriptor])
        except OSError:
            self._stop()

    def receive(self) -> Judged:
        """The verdict of the file sent last; `incomplete` when the worker died or ran out of time."""
        try:
            line = self._line(self._deadline)
        except TimeoutError:
            self._stop()
            return _lost("artifact.limit.time", "scanning took longer than its time limit")
        except OSError:
            self._stop()
            return _lost(
                "artifact.limit.resources", "scanning ended at its limit of memory or processor time"
            )
        answer = json.loads(line)
        findings = tuple(
            Finding(row["rule_id"], Severity(row["severity"]), row["message"], row["where"], row["fix"])
            for row in answer["findings"]
        )
        return Judged(answer["format"], Verdict(answer["verdict"]), findings, answer["references"])

    def close(self) -> None:
        self._stop()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            argv = [sys.executable, "-I", "-m", "garrison.artifacts.scanners.worker", str(theirs.fileno())]
            self._process = subprocess.Popen(
                argv,
                pass_fds=(theirs.fileno(),),
                env={"LC_ALL": "C.UTF-8"},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._channel = ours
        try:
            self._line(time.monotonic() + START_SECONDS)
        except OSError:
            self._stop()

    def _line(self, deadline: float) -> bytes:
        if self._channel is None:
            raise ConnectionError("no worker")
        data = b""
        while not data.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or len(data) > MAX_ANSWER:
                raise TimeoutError
            self._channel.settimeout(left)
            piece = self._channel.recv(65_536)
            if not piece:
                raise ConnectionError("the worker is gone")
            data += piece
        return data

    def _stop(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _lost(rule_id: str, message: str) -> Judged:
    fix = "treat the file as hostile; if you made it yourself, split it into smaller files"
    return Judged("unknown", Verdict.INCOMPLETE, (Finding(rule_id, Severity.LOW, message, "", fix),), {})
