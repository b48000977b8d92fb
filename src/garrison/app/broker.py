"""The broker process: started when a route wants a key, replaced when keys change, started again when it dies.

The control process reads keys from the files that operators named, hands them to the broker in memory (never by
argument, environment or file) and forgets them. A key file that cannot be read costs its own routes only.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from garrison.core.errors import Refused
from garrison.gateway.upstreams.private_tls import MAX_PEM, check_client
from garrison.trust.secret_file import read_secret, read_secret_pem

READY_SECONDS = 10.0
RESTART_SECONDS = 0.2
HANDOVER_SECONDS = 10.0  # until every worker has read the snapshot that names the new one
DRAIN_SECONDS = 35.0  # answers that run through the old one may end


def read_key(path: str) -> str:
    """The key in a file that only this user reads. Raises `Refused` ROUTE-KEY, never with the key."""
    try:
        return read_secret(path)
    except ValueError as error:
        raise Refused(
            "ROUTE-KEY",
            f"the key file {path} {error}",
            fix=f"chmod 600 {path}, with the key as its only line",
        ) from None


def read_client(path: str) -> str:
    """The certificate and its key in a file that only this user reads. Raises `Refused` ROUTE-KEY."""
    try:
        pem = read_secret_pem(path, MAX_PEM)
        check_client(pem)
    except ValueError as error:
        raise Refused(
            "ROUTE-KEY",
            f"the client certificate file {path} {error}",
            fix=f"put a valid certificate and its key into it as PEM, then chmod 600 {path}",
        ) from None
    return pem


@dataclass(slots=True)
class _Running:
    process: asyncio.subprocess.Process
    socket: Path
    config: dict[str, Any] = field(repr=False)
    parent: int = -1
    is_wanted: bool = True


class BrokerKeeper:
    """At most one broker that is wanted. `died` is told of an unexpected end."""

    def __init__(
        self, run: Path, loop: asyncio.AbstractEventLoop, died: Callable[[str, int], object], ca: str = ""
    ) -> None:
        self._directory = run
        self._loop = loop
        self._died = died
        self._ca = ca
        self._digest = b""
        self._salt = secrets.token_bytes(16)
        self._current: _Running | None = None
        self._leaving: list[_Running] = []
        self._tasks: set[asyncio.Task[None]] = set()
        for left in run.glob("b??????.sock"):  # of a server that was killed
            left.unlink(missing_ok=True)

    def address(self, wanted: Mapping[str, dict[str, Any]]) -> str:
        """Where the broker of these keys answers; empty when none is wanted. Called from a verb's thread.

        `wanted` is the providers by key name, each with its `key_file`, its `client_file`, or both.
        """
        providers: dict[str, dict[str, Any]] = {}
        for name, item in wanted.items():
            with contextlib.suppress(Refused):
                facts = {key: value for key, value in item.items() if key not in ("key_file", "client_file")}
                secret = read_key(item["key_file"]) if item.get("key_file") else ""
                client = read_client(item["client_file"]) if item.get("client_file") else ""
                providers[name] = {**facts, "secret": secret, "client": client}
        text = json.dumps(providers, sort_keys=True).encode()
        digest = hashlib.blake2b(text, key=self._salt).digest()
        if digest != self._digest or (self._current is None and providers):
            asyncio.run_coroutine_threadsafe(self._replace(providers), self._loop).result(2 * READY_SECONDS)
            self._digest = digest
        return "" if not wanted else f"unix:{self._socket()}"

    def _socket(self) -> Path:
        return self._current.socket if self._current is not None else self._directory / "b.sock"

    async def _replace(self, providers: dict[str, dict[str, Any]]) -> None:
        before, self._current = self._current, None
        if providers:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # No longer than the control socket, whose length the start has checked: the kernel takes 107 bytes.
            socket = self._directory / f"b{secrets.token_hex(3)}.sock"
            await self._start(socket, {"socket": str(socket), "providers": providers, "ca": self._ca})
        if before is not None:
            before.is_wanted = False
            self._leaving.append(before)
            self._loop.call_later(HANDOVER_SECONDS, self._dismiss, before)

    def _dismiss(self, running: _Running) -> None:
        if running in self._leaving:
            self._leaving.remove(running)
            with contextlib.suppress(ProcessLookupError):
                running.process.send_signal(signal.SIGTERM)

    async def _start(self, socket: Path, config: dict[str, Any]) -> None:
        with contextlib.ExitStack() as inherited:
            heard, tells = os.pipe()
            listens, parent = os.pipe()
            for descriptor in (tells, listens):
                inherited.callback(os.close, descriptor)
            memory = os.memfd_create("broker")
            inherited.callback(os.close, memory)
            os.write(memory, json.dumps({**config, "ready_fd": tells, "parent_fd": listens}).encode())
            os.lseek(memory, 0, os.SEEK_SET)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-m",
                "garrison.gateway.broker",
                "--config",
                str(memory),
                pass_fds=(memory, tells, listens),
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        running = self._current = _Running(process, socket, config, parent)
        task = self._loop.create_task(self._watch(running))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await _until_ready(heard)

    async def _watch(self, running: _Running) -> None:
        """Wait for its end; unless it was meant, put another in its place at the same address."""
        status = await running.process.wait()
        os.close(running.parent)
        running.socket.unlink(missing_ok=True)
        if not running.is_wanted:
            return
        self._died("broker", status)
        await asyncio.sleep(RESTART_SECONDS)
        if self._current is running:
            await self._start(running.socket, running.config)

    async def stop(self) -> None:
        """Let answers end, within bounds."""
        await self._replace({})
        for running in list(self._leaving):
            self._dismiss(running)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=DRAIN_SECONDS)
            for task in late:
                task.cancel()


async def _until_ready(heard: int) -> None:
    """Wait for its first line. One that says nothing is found dead by who watches it."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(heard, "rb", buffering=0)
    )
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_SECONDS):
                await reader.readline()
    finally:
        transport.close()
