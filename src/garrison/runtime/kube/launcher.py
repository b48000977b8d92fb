"""The entrypoint of a model's pod: verify, load exactly what was verified, answer the gateway, until SIGTERM.

The supervisor does the work; every start again verifies again. Each event is one line of JSON on standard
output, which is where a cluster's logs are taken from.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from garrison.core.decision import Tier
from garrison.core.digest import Manifest, Ref
from garrison.core.event import Event
from garrison.runtime.kube.door import Door, health
from garrison.runtime.supervisor import ServeSpec, Supervisor
from garrison.trust.verify import Verified


@dataclass(frozen=True, slots=True)
class Order:
    """What to serve, how closed, and to whom."""

    ref: Ref
    files: Path
    verify: Callable[[Manifest], Verified]
    run_directory: Path
    isolation: str
    threads: int
    listen: tuple[str, int]
    health: tuple[str, int]
    tls: Path
    allowed: frozenset[str]


async def serve(order: Order) -> int:
    """Raises whatever keeps the model from being loaded; nothing listens for requests then."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    supervisor = Supervisor(record=_told, now=lambda: datetime.now(UTC))

    def is_ready() -> bool:
        return any(state.ref == order.ref and state.state == "ready" for state in supervisor.states())

    checks = await health(order.health, is_ready)
    watching: asyncio.Task[None] | None = None
    door: Door | None = None
    try:
        endpoint = await supervisor.start(_spec(order))
        door = Door(order.listen, order.tls, order.allowed, Path(endpoint.address.removeprefix("unix:")))
        await door.open()
        watching = asyncio.create_task(door.watch())
        line = {"event": "ready", "ref": str(order.ref), "digest": endpoint.digest, "port": door.port}
        _line(line | {"health": checks.sockets[0].getsockname()[1]})
        await stop.wait()
    finally:
        checks.close()
        if watching is not None:
            watching.cancel()
        if door is not None:
            await door.close()
        await supervisor.close()
    return 0


def _spec(order: Order) -> ServeSpec:
    return ServeSpec(
        ref=order.ref,
        tier=Tier.SECRET,  # what it may see is decided outside; in here nothing is less than secret
        directory=order.files,
        verify=order.verify,
        run_directory=order.run_directory,
        isolation=order.isolation,
        threads=order.threads,
        scratch=None,
    )


def _told(event: Event) -> None:
    _line(event.as_json())


def _line(value: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
