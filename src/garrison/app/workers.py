"""The gateway's worker processes: started with a listening address, restarted when one dies.

A worker gets its configuration and its TLS key by inherited descriptor, never by argument, environment
or file; end of file on its parent pipe tells it that the control process is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from garrison.core.errors import Refused, Undecided

READY_SECONDS = 20.0  # loading and compiling patterns on a slow machine; a worker is ready in about a second
RESTART_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)  # pauses between restarts; the last one repeats
DRAIN_SECONDS = 15.0
STEADY_SECONDS = 30.0  # a worker that lived this long starts over at the first pause


@dataclass(frozen=True, slots=True)
class Plane:
    """What every worker is told. `tls` makes a fresh PEM chain and key in memory for each start."""

    host: str
    port: int
    snapshot: Path
    snapshot_key: str
    spool: Path
    patterns: Path
    workers: int
    metrics_port: int
    tls: Callable[[], bytes]


class Workers:
    """Keeps `plane.workers` processes alive until `stop()`."""

    def __init__(self, plane: Plane, died: Callable[[str, int], None]) -> None:
        self._plane = plane
        self._died = died
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._generation = 0
        self.metrics: list[str] = []

    async def start(self) -> None:
        """Start all of them and wait until each answers. Raises `Undecided` GW-START when one can't."""
        for index in range(self._plane.workers):
            process = await self._launch(index)
            self._tasks.append(asyncio.create_task(self._keep(index, process)))

    async def stop(self) -> None:
        """Let requests in progress finish, within bounds, then end every worker."""
        self._stopping = True
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        _done, late = (
            await asyncio.wait(self._tasks, timeout=DRAIN_SECONDS) if self._tasks else (set(), set())
        )
        for process in self._processes.values():
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        if late:
            await asyncio.wait(late)

    @property
    def alive(self) -> int:
        return sum(process.returncode is None for process in self._processes.values())

    async def _keep(self, index: int, process: asyncio.subprocess.Process) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started = loop.time()
            status = await process.wait()
            if self._stopping:
                return
            self._died(f"gateway-{index}", status)
            failures = 0 if loop.time() - started > STEADY_SECONDS else failures + 1
            while True:
                await asyncio.sleep(RESTART_SECONDS[min(failures, len(RESTART_SECONDS) - 1)])
                if self._stopping:
                    return
                try:
                    process = await self._launch(index)
                    break
                except (Undecided, Refused, OSError):
                    failures += 1

    async def _launch(self, index: int) -> asyncio.subprocess.Process:
        self._generation += 1
        tls = _memfd("tls", self._plane.tls())
        parent_read, parent_write = os.pipe()
        ready_read, ready_write = os.pipe()
        config = _memfd(
            "gateway",
            json.dumps(
                {
                    "host": self._plane.host,
                    "port": self._plane.port,
                    "snapshot": str(self._plane.snapshot),
                    "snapshot_key": self._plane.snapshot_key,
                    "spool": str(self._plane.spool),
                    "worker_id": f"gateway-{index}-{os.getpid()}-{self._generation}",
                    "tls_fd": tls,
                    "ready_fd": ready_write,
                    "parent_fd": parent_read,
                    "metrics_port": self._plane.metrics_port,
                    "workers": self._plane.workers,
                    "patterns": str(self._plane.patterns),
                }
            ).encode(),
        )
        inherited = (tls, parent_read, ready_write, config)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-m",
                "garrison.gateway.worker",
                "--config",
                str(config),
                pass_fds=inherited,
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            for descriptor in inherited:
                os.close(descriptor)
        # The write end stays open for as long as this process lives: its end of file is our death.
        asyncio.get_running_loop().create_task(_close_with(process, parent_write))
        message: dict[str, object] = {}
        with contextlib.suppress(TimeoutError):
            message = await asyncio.wait_for(_read_line(ready_read), READY_SECONDS)
        if not message.get("ready", bool(message) and "error" not in message):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            error = message.get("error")
            raise Undecided(
                "GW-START",
                f"gateway worker {index} did not start: {_reason(error)}",
                fix=f"check that {self._plane.host}:{self._plane.port} is free (ss -ltnp) and run garrison doctor",
            )
        self._processes[index] = process
        if message.get("metrics"):
            self.metrics = [*self.metrics, str(message["metrics"])]
        return process


def _memfd(name: str, data: bytes) -> int:
    descriptor = os.memfd_create(name)
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


async def _read_line(descriptor: int) -> dict[str, object]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    try:
        line = await reader.readline()
    finally:
        transport.close()
    try:
        message = json.loads(line or b"{}")
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


async def _close_with(process: asyncio.subprocess.Process, descriptor: int) -> None:
    try:
        await process.wait()
    finally:
        os.close(descriptor)


def _reason(error: object) -> str:
    if isinstance(error, dict):
        return f"{error.get('code', '')} {error.get('message', '')}".strip()
    return str(error or "it gave no sign of life")
