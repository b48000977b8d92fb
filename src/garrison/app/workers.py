"""The gateway's worker processes: started with a listening address, restarted when one dies.

A worker gets its configuration and its TLS key by inherited descriptor, never by argument, environment
or file. It answers on a pipe: that it is ready, and which snapshot it serves by. End of file on its parent
pipe tells it that this process is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from garrison.core.errors import GarrisonError, Undecided
from garrison.gateway.counters import make_shared

READY_SECONDS = 30.0  # the first start compiles the patterns; later ones are ready in a second
RESTART_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)  # pauses between restarts; the last one repeats
STEADY_SECONDS = 30.0  # a worker that lived this long starts over at the first pause
BACKLOG = 512
DRAIN_SECONDS = 35.0  # a little more than a worker gives its own requests
LOADED_SECONDS = 3.0  # a worker looks for a new snapshot four times a second


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
    limits_redis: str = ""
    limits_redis_password: str = ""
    limit_replicas: int = 1
    unknown_keys: Callable[[list[str]], None] = lambda _issuers: None


@dataclass(slots=True)
class _Worker:
    """One process. `said` holds the newest value of everything it told us."""

    process: asyncio.subprocess.Process
    started: float
    region: int = 0
    said: dict[str, Any] = field(default_factory=dict)
    retired: bool = False


class Workers:
    """Keeps `plane.workers` processes alive until `stop()`. `died` is told of every unexpected end."""

    def __init__(self, plane: Plane, died: Callable[[str, int], None]) -> None:
        self._plane = plane
        self._died = died
        self._workers: dict[int, _Worker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._heard = asyncio.Condition()
        self._alive: list[_Worker] = []  # also those that were replaced and drain
        self._replacing = asyncio.Lock()
        self._stopping = False
        self._generation = 0
        # One place for each worker, and for each of those that drain while their successors serve already.
        self._regions = 2 * plane.workers + 2
        self._limits = make_shared(self._regions)
        self._sockets: list[socket.socket] = []
        self._newest = 0  # a worker that starts later may not serve by an older snapshot

    async def start(self) -> None:
        """Start all of them and wait until each answers. Raises `Undecided` GW-START when one can't."""
        self._open_sockets()
        try:
            for index in range(self._plane.workers):
                self._keep(index, await self._launch(index))
        except BaseException:
            self._close_sockets()
            raise

    async def rotate(self) -> None:
        """Replace every worker, one by one, by a fresh one with a fresh certificate; no request fails."""
        for index in list(self._workers):
            async with self._replacing:
                if self._stopping:
                    return
                new = await self._launch(index)
                old = self._workers[index]
                old.retired = True
                self._keep(index, new)
            _terminate(old, signal.SIGUSR1)

    async def loaded(self, version: int) -> bool:
        """Wait until every worker serves by snapshot `version` or a newer one; False when one is late."""
        try:
            async with asyncio.timeout(LOADED_SECONDS), self._heard:
                await self._heard.wait_for(
                    lambda: all(
                        worker.said.get("snapshot", 0) >= version for worker in self._workers.values()
                    )
                )
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Let requests in progress finish, within bounds, then end every worker."""
        self._stopping = True
        for worker in self._alive:
            _terminate(worker)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=DRAIN_SECONDS)
        for worker in self._alive:
            with contextlib.suppress(ProcessLookupError):
                worker.process.kill()
        if self._tasks:
            await asyncio.wait(self._tasks)
        os.close(self._limits)
        self._close_sockets()

    @property
    def metrics_ports(self) -> dict[int, int]:
        """Where each worker tells its figures, by the worker's number."""
        return {
            index: int(worker.said["metrics"])
            for index, worker in sorted(self._workers.items())
            if worker.said.get("metrics")
        }

    def _open_sockets(self) -> None:
        """One listening socket for each place. Who waits in its queue outlives the worker that has it."""
        if self._sockets:
            return
        host, port = self._plane.host, self._plane.port
        try:
            for _ in range(self._plane.workers):
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                listening = socket.socket(family, socket.SOCK_STREAM)
                self._sockets.append(listening)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                listening.bind((host, port))
                port = listening.getsockname()[1]
                listening.listen(BACKLOG)
        except OSError as error:
            self._close_sockets()
            raise Undecided(
                "GW-START",
                f"the gateway cannot listen on {host}:{port}: {error.strerror}",
                fix=f"see who holds it with ss -ltnp 'sport = :{port}', or choose another with --listen",
            ) from error

    def _close_sockets(self) -> None:
        for listening in self._sockets:
            listening.close()
        self._sockets.clear()

    def _keep(self, index: int, worker: _Worker) -> None:
        self._workers[index] = worker
        task = asyncio.create_task(self._watch(index, worker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, index: int, worker: _Worker) -> None:
        """Wait for the end of one process; unless it was meant, put another in its place."""
        loop = asyncio.get_running_loop()
        failures = 0
        status = await worker.process.wait()
        if self._stopping or worker.retired:
            return
        self._died(f"gateway-{index}", status)
        if loop.time() - worker.started < STEADY_SECONDS:
            failures = 1
        while not self._stopping:
            await asyncio.sleep(RESTART_SECONDS[min(failures, len(RESTART_SECONDS) - 1)])
            try:
                async with self._replacing:
                    if self._workers[index] is worker and not self._stopping:
                        self._keep(index, await self._launch(index))
                return
            except (GarrisonError, OSError):
                failures += 1

    async def _launch(self, index: int) -> _Worker:
        self._generation += 1
        with contextlib.ExitStack() as inherited, contextlib.ExitStack() as ours:
            tls = _memory_file("tls", self._plane.tls(), inherited)
            parent_read, parent_write = _pipe(read=inherited, write=ours)
            heard, tells = _pipe(read=ours, write=inherited)
            region = self._free_region()
            config = _memory_file("gateway", self._config(index, tls, tells, parent_read, region), inherited)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-m",
                "garrison.gateway.worker",
                "--config",
                str(config),
                pass_fds=(tls, parent_read, tells, config, self._limits, self._sockets[index].fileno()),
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
            ours.pop_all()  # closed by `_listen`, at the end of the process
        worker = _Worker(process, asyncio.get_running_loop().time(), region)
        self._alive.append(worker)
        listening = asyncio.create_task(self._listen(worker, heard, parent_write))
        self._tasks.add(listening)
        listening.add_done_callback(self._tasks.discard)
        await self._wait_ready(index, worker)
        return worker

    def _free_region(self) -> int:
        """A place among the shared counters that no living worker has; the first one when all are taken."""
        taken = {worker.region for worker in self._alive}
        return next((region for region in range(self._regions) if region not in taken), 0)

    def _config(self, index: int, tls: int, tells: int, parent: int, region: int) -> bytes:
        plane = self._plane
        return json.dumps(
            {
                "host": plane.host,
                "port": plane.port,
                "snapshot": str(plane.snapshot),
                "snapshot_key": plane.snapshot_key,
                "spool": str(plane.spool),
                "worker_id": f"gateway-{index}-{os.getpid()}-{self._generation}",
                "tls_fd": tls,
                "ready_fd": tells,
                "parent_fd": parent,
                "metrics_port": plane.metrics_port,
                "listen_fd": self._sockets[index].fileno(),
                "limits_fd": self._limits,
                "limit_region": region,
                "limit_regions": self._regions,
                "limits_redis": plane.limits_redis,
                "limits_redis_password": plane.limits_redis_password,
                "limit_replicas": plane.limit_replicas,
                "patterns": str(plane.patterns),
                "minimum_snapshot": self._newest,
            }
        ).encode()

    async def _wait_ready(self, index: int, worker: _Worker) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_SECONDS), self._heard:
                await self._heard.wait_for(lambda: "ready" in worker.said or "ended" in worker.said)
        if worker.said.get("ready") is True:
            return
        with contextlib.suppress(ProcessLookupError):
            worker.process.kill()
        await worker.process.wait()
        error = worker.said.get("error")
        why = error.get("message") if isinstance(error, dict) else "it gave no sign of life"
        raise Undecided(
            "GW-START",
            f"gateway worker {index} did not start: {why}",
            fix=f"check that {self._plane.host}:{self._plane.port} is free (ss -ltnp) and run garrison doctor",
        )

    async def _listen(self, worker: _Worker, heard: int, parent_write: int) -> None:
        """Take what the worker says until it ends. The parent pipe stays open exactly as long."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(heard, "rb", buffering=0)
        )
        try:
            while line := await reader.readline():
                with contextlib.suppress(ValueError):
                    message = json.loads(line)
                    async with self._heard:
                        self._plane.unknown_keys(message.pop("unknown_keys", []))
                        worker.said.update(message)
                        self._newest = max(self._newest, int(worker.said.get("snapshot", 0)))
                        self._heard.notify_all()
            await worker.process.wait()
        finally:
            self._alive.remove(worker)
            transport.close()
            os.close(parent_write)
            async with self._heard:
                worker.said["ended"] = True
                self._heard.notify_all()


def _terminate(worker: _Worker, number: signal.Signals = signal.SIGTERM) -> None:
    with contextlib.suppress(ProcessLookupError):
        worker.process.send_signal(number)


def _pipe(*, read: contextlib.ExitStack, write: contextlib.ExitStack) -> tuple[int, int]:
    """Both ends of a pipe, each closed with its stack."""
    reads, writes = os.pipe()
    read.callback(os.close, reads)
    write.callback(os.close, writes)
    return reads, writes


def _memory_file(name: str, data: bytes, closing: contextlib.ExitStack) -> int:
    descriptor = os.memfd_create(name)
    closing.callback(os.close, descriptor)
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
