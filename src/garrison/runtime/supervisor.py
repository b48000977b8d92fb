"""Keeps model servers alive: load, start, watch, restart, stop. It decides nothing about trust.

Every start, the first and each restart, goes through the loader again, so a server that comes back serves
bytes that were verified just now; when they no longer verify, it stays down. Works in one event loop, whose
thread must live as long as the servers should: the kernel ends them when it goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from garrison.confine.profiles import EXPECTED
from garrison.core.actions import Action
from garrison.core.decision import Endpoint, Tier
from garrison.core.digest import Ref
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.core.event import Event, Outcome
from garrison.runtime import running as processes
from garrison.runtime.declared import Declared, refuse_level
from garrison.runtime.health import HealthCheck
from garrison.runtime.loader import Files, LoadedModel, Verify, load
from garrison.runtime.refused import RefusedCalls
from garrison.runtime.running import Running
from garrison.runtime.sandboxes.base import Launch, Limits, Prepares, Sandbox
from garrison.runtime.sandboxes.ladder import DEFAULT_LEVEL, sandbox_for
from garrison.runtime.sandboxes.start import SOCKET_NAME
from garrison.runtime.sandboxes.users import free_uid
from garrison.runtime.servers.choose import Service, choose, is_wanted
from garrison.storage.local import explained

ACTOR = "service:runtime"
SPARE_CPUS = 1.0  # beside the computing threads: for those that read and write
IDLE_TICKS = 2  # hundredths of a second between two looks: gVisor's kernel uses that much for itself
CRASH_SECONDS = 0.2  # a server that stopped answering because it ended is reported ended by then
MAX_SOCKET_PATH = 107  # bytes in sockaddr_un without its end


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. A server that neither answers nor computes for `deadline` is hung; `busy` bounds computing."""

    ready: float = 120.0
    interval: float = 0.5
    deadline: float = 1.4
    busy: float = 60.0
    grace: float = 3.0
    first_backoff: float = 0.5
    longest_backoff: float = 60.0
    stable: float = 60.0
    attempts: int = 10  # restarts in a row without `stable` seconds of life before giving up


@dataclass(frozen=True, slots=True)
class ServeSpec:
    """What to serve. `verify` is `trust.verify.verify_release` with all but the manifest bound.

    It is called at every start, so it should read signatures, keys and approvals anew. `directory` holds
    the files; `run_directory` gets one directory for the socket; `scratch` private copies of large models.
    """

    ref: Ref
    tier: Tier
    directory: Path | Files
    verify: Verify
    run_directory: Path
    isolation: str = DEFAULT_LEVEL
    threads: int = 1
    memory_share: float = 0.5
    scratch: Path | None = None
    declared: Declared | None = None


@dataclass(frozen=True, slots=True)
class ServerState:
    """`state` is starting, ready, backoff, failed or stopped; `digest` that of the bytes being served."""

    ref: Ref
    state: str
    isolation: str
    digest: str = ""
    pid: int = 0
    uid: int = 0
    restarts: int = 0
    held: str = ""
    reason: str = ""


@dataclass(slots=True)
class _Server:
    spec: ServeSpec
    sandbox: Sandbox
    uid: int
    socket: Path
    state: str = "starting"
    reason: str = ""
    restarts: int = 0
    digest: str = ""
    verified: str = ""
    held: str = ""
    walls: dict[str, str] = field(default_factory=dict)
    tasks: frozenset[str] = frozenset()
    ready_at: float = 0.0
    running: Running | None = None
    is_wanted: bool = True
    watch: asyncio.Task[None] | None = None


class Supervisor:
    """`record` takes each event and may block (it is called in a thread); `now` is UTC."""

    def __init__(
        self,
        *,
        record: Callable[[Event], object],
        now: Callable[[], datetime],
        timing: Timing | None = None,
    ) -> None:
        self._record = record
        self._now = now
        self._timing = timing or Timing()
        self._servers: dict[Ref, _Server] = {}
        self._refused = RefusedCalls()

    async def start(self, spec: ServeSpec) -> Endpoint:
        """Verify, load and start a server; return when it answers.

        Raises `Usage` ISO-UNKNOWN or RUN-SOCKET-PATH; `Undecided` ISO-UNAVAILABLE or RUN-NOT-READY; `Refused`
        RUN-RUNNING, RUN-UNSERVABLE, RUN-MEMORY and whatever the verification refuses. Nothing runs then.
        """
        if spec.declared is not None:
            refuse_level(spec.isolation, spec.ref.name)
        sandbox = await asyncio.to_thread(sandbox_for, spec.isolation)
        existing = self._servers.get(spec.ref)
        if existing is not None and existing.state not in ("failed", "stopped"):
            raise Refused(
                "RUN-RUNNING",
                f"{spec.ref} is served already",
                fix=f"garrison deploy status; to start it anew: garrison deploy stop {spec.ref.name}",
            )
        if existing is not None and existing.running is not None:
            await asyncio.wait({existing.running.ended})  # it is being ended; two of one uid never live
        server = _Server(spec, sandbox, self._free_uid(), _socket_path(spec))
        self._servers[spec.ref] = server
        try:
            await self._launch(server)
            if not server.is_wanted:
                raise _stopped(server)
        except BaseException as error:
            server.state = "failed" if server.is_wanted else "stopped"
            server.reason = error.code if isinstance(error, GarrisonError) else ""
            await self._end(server)
            raise
        server.watch = asyncio.create_task(self._stay(server))
        return Endpoint(
            spec.ref.name, spec.ref.version, server.digest, spec.tier, f"unix:{server.socket}", server.tasks
        )

    async def stop(self, ref: Ref) -> None:
        """End a server; unknown or stopped ones are fine. Returns when nothing of it is left."""
        server = self._servers.get(ref)
        if server is None:
            return
        server.state, server.is_wanted = "stopped", False
        if server.watch is not None:
            server.watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await server.watch
        await self._end(server)

    async def close(self) -> None:
        """End all servers."""
        await asyncio.gather(*(self.stop(ref) for ref in list(self._servers)))
        self._refused.log.close()

    def states(self) -> tuple[ServerState, ...]:
        return tuple(
            ServerState(
                ref=server.spec.ref,
                state=server.state,
                isolation=server.spec.isolation,
                digest=server.digest,
                pid=server.running.pid if server.running is not None else 0,
                uid=server.uid,
                restarts=server.restarts,
                held=server.held,
                reason=server.reason,
            )
            for server in self._servers.values()
        )

    def _free_uid(self) -> int:
        live = (
            server
            for server in self._servers.values()
            if server.state not in ("failed", "stopped") or server.running is not None
        )
        return free_uid([server.uid for server in live])

    async def _launch(self, server: _Server) -> None:
        """One start, from the bytes on disk to an answer; one runtime.load event, however it ends."""
        began = time.monotonic()
        try:
            await self._load_and_start(server)
        except (GarrisonError, OSError) as caught:
            error = explained(caught) if isinstance(caught, OSError) else caught
            outcome = Outcome.DENIED if isinstance(error, Refused) else Outcome.ERROR
            await self._event(server, Action.RUNTIME_LOAD, outcome, error.code)
            raise error from caught
        await self._tell_refused(server, EXPECTED)
        seconds = round(time.monotonic() - began, 3)
        await self._event(server, Action.RUNTIME_LOAD, Outcome.ALLOWED, seconds=seconds)
        # Last: nothing is ready without its event.
        server.state, server.ready_at, server.reason = "ready", time.monotonic(), ""

    async def _load_and_start(self, server: _Server) -> None:
        spec = server.spec
        server.digest = server.verified = ""
        loaded = await _load(spec)
        try:
            if not server.is_wanted:
                raise _stopped(server)
            server.digest, server.verified, server.held = loaded.loaded, loaded.verified.digest, loaded.where
            service = choose(loaded, threads=spec.threads, declared=spec.declared)
            server.tasks = service.tasks
            _make_socket_directory(server.socket.parent, server.uid)
            server.walls.clear()
            self._refused.forget(server.uid)
            order = replace(_order(server, service), digests=_digests(loaded))
            if isinstance(server.sandbox, Prepares):
                await asyncio.to_thread(server.sandbox.prepare, order)
            if not server.is_wanted:
                raise _stopped(server)
            server.running = processes.run(
                lambda output: server.sandbox.launch(replace(order, output=output)),
                forwards_signals=server.sandbox.forwards_signals,
            )
        finally:
            loaded.close()  # the server has its own descriptors; ours would keep the memory after it ends
        await self._wait_ready(server, server.running)
        server.running.forget_output()

    async def _wait_ready(self, server: _Server, running: Running) -> None:
        health = HealthCheck(server.socket, server.uid, _health_of(server))
        try:
            async with asyncio.timeout(self._timing.ready):
                while not await health.ask(self._timing.deadline):
                    if running.ended.done():
                        raise _not_ready(server, f"it ended with status {running.ended.result()}")
                    await asyncio.wait({running.ended}, timeout=0.02)
        except TimeoutError:
            raise _not_ready(server, f"it did not answer in {self._timing.ready:g} s") from None
        finally:
            health.close()

    async def _stay(self, server: _Server) -> None:
        """Keep it alive; when that itself fails, such as for want of a ledger to write to, end the server."""
        try:
            await self._keep_alive(server)
        except GarrisonError as error:
            server.state, server.reason = "failed", error.code
            await self._end(server)

    async def _keep_alive(self, server: _Server) -> None:
        """Watch a ready server; when it ends or hangs, bring it back, each time later, until it is hopeless."""
        failures = 0
        while True:
            code, facts = await self._watch(server)
            failures = 1 if time.monotonic() - server.ready_at > self._timing.stable else failures + 1
            await self._end(server)
            server.state, server.reason = "backoff", code
            await self._event(server, Action.RUNTIME_CRASH, Outcome.ERROR, code, **facts)
            while True:
                if failures > self._timing.attempts:
                    server.state = "failed"
                    return
                await asyncio.sleep(self._backoff(failures))
                server.restarts += 1
                try:
                    await self._launch(server)
                    break
                except GarrisonError as error:
                    await self._end(server)
                    server.reason = error.code
                    if isinstance(
                        error, Refused
                    ):  # verified bytes are the condition; time does not heal them
                        server.state = "failed"
                        return
                    failures += 1

    def _backoff(self, failures: int) -> float:
        return min(self._timing.first_backoff * float(2 ** (failures - 1)), self._timing.longest_backoff)

    async def _watch(self, server: _Server) -> tuple[str, dict[str, Any]]:
        """Returns when the server is dead or hung: the code and the facts of it."""
        running = server.running
        assert running is not None  # a ready server has a process
        health = HealthCheck(server.socket, server.uid, _health_of(server))
        answered, ticks = time.monotonic(), running.cpu_ticks()
        try:
            while True:
                await asyncio.wait({running.ended}, timeout=self._timing.interval)
                if running.ended.done():
                    return "RUN-CRASHED", {"status": running.ended.result()}
                await self._tell_refused(server)
                healthy = await health.ask(self._timing.deadline)
                if not healthy and (await asyncio.wait({running.ended}, timeout=CRASH_SECONDS))[0]:
                    continue
                used = running.cpu_ticks()
                if healthy:
                    answered = time.monotonic()
                elif not (used - ticks > IDLE_TICKS or running.wants_to_run()) or (
                    time.monotonic() - answered > self._timing.busy
                ):
                    return "RUN-HUNG", {"silent_seconds": round(time.monotonic() - answered, 3)}
                ticks = used
        except Refused as error:
            return error.code, error.evidence
        finally:
            health.close()

    async def _tell_refused(self, server: _Server, expected: frozenset[str] = frozenset()) -> None:
        for call in self._refused.fresh(server.uid, expected):
            facts = {"call": call.name, "ended": call.is_fatal}
            await self._event(server, Action.RUNTIME_CALL, Outcome.DENIED, "RUN-CALL", **facts)

    async def _end(self, server: _Server) -> None:
        if server.running is not None:
            await server.running.end(self._timing.grace)
            server.running = None
        if self._servers.get(server.spec.ref) is server:  # else the directory is its successor's
            shutil.rmtree(server.socket.parent, ignore_errors=True)

    async def _event(
        self, server: _Server, action: Action, outcome: Outcome, code: str = "", **facts: Any
    ) -> None:
        event = Event(
            time=self._now(),
            action=action,
            actor=ACTOR,
            resource=str(server.spec.ref),
            outcome=outcome,
            code=code,
            digest=server.digest,
            data={
                "isolation": server.spec.isolation,
                "verified_digest": server.verified,
                "loaded_digest": server.digest,
                "held": server.held,
                "uid": server.uid,
                "restarts": server.restarts,
                **server.walls,
                **facts,
            },
        )
        await asyncio.to_thread(self._record, event)


async def _load(spec: ServeSpec) -> LoadedModel:
    """The loader, in a thread. When nobody waits for it any more, what it made is given back."""
    loading = asyncio.ensure_future(
        asyncio.to_thread(
            load,
            spec.directory,
            spec.verify,
            keep=is_wanted if spec.declared is None else lambda _path: True,
            memory_share=spec.memory_share,
            scratch=spec.scratch,
        )
    )
    try:
        return await asyncio.shield(loading)
    except asyncio.CancelledError:
        loading.add_done_callback(_give_back)
        raise


def _give_back(loading: asyncio.Future[LoadedModel]) -> None:
    if not loading.cancelled() and loading.exception() is None:
        loading.result().close()


def _digests(loaded: LoadedModel) -> dict[int, str]:
    verified = {entry.path: entry.digest for entry in loaded.verified.manifest}
    return {descriptor: verified[path] for path, descriptor in loaded.kept.items()}


def _order(server: _Server, service: Service) -> Launch:
    return Launch(
        name=str(server.spec.ref),
        program=service.program,
        socket_directory=server.socket.parent,
        uid=server.uid,
        output=-1,  # known when it is started
        settings=service.settings,
        files=service.files,
        limits=_limits(server, service),
        compute_threads=server.spec.threads,
        modules=service.modules,
        tree=service.tree,
        command=service.command,
        shows=() if service.declared is None else service.declared.shows,
        devices=() if service.declared is None else service.declared.devices,
        variables={} if service.declared is None else service.declared.environment,
        profile=service.profile,
        facts=server.walls,
    )


def _limits(server: _Server, service: Service) -> Limits:
    limits = Limits(memory=service.memory, cpus=server.spec.threads + SPARE_CPUS)
    return limits if service.declared is None else replace(limits, threads=service.declared.threads)


def _health_of(server: _Server) -> str:
    return "/health" if server.spec.declared is None else server.spec.declared.health


def _socket_path(spec: ServeSpec) -> Path:
    path = spec.run_directory.absolute() / f"{spec.ref.name}-{spec.ref.version}" / SOCKET_NAME
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise Usage(
            "RUN-SOCKET-PATH",
            f"the path of the model's socket has {len(os.fsencode(path))} bytes, and {MAX_SOCKET_PATH} are possible",
            fix="use a data directory with a shorter path: --data DIR",
            evidence={"path": str(path)},
        )
    return path


def _make_socket_directory(directory: Path, uid: int) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True)
    if os.geteuid() == 0:
        os.chown(directory, uid, uid)


def _stopped(server: _Server) -> Undecided:
    return Undecided("RUN-NOT-READY", f"{server.spec.ref} was stopped while it started", fix="start it again")


def _not_ready(server: _Server, why: str) -> Undecided:
    assert server.running is not None
    words = server.running.last_words()
    return Undecided(
        "RUN-NOT-READY",
        f"the server of {server.spec.ref} did not become ready: {why}" + (f" ({words})" if words else ""),
        fix="if the model is of an unusual kind, run a server of your own and use garrison route add; "
        "else look at garrison doctor",
        evidence={"isolation": server.spec.isolation, "digest": server.digest},
    )
