"""Keeps the second tier of the gateway alive: one process for each classifier, started again when it ends or hangs.

While it is away, texts in doubt are undecided; nothing here makes them pass.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from garrison.app.tier2 import SideProcess, directory_of
from garrison.core.digest import Manifest
from garrison.core.errors import GarrisonError
from garrison.trust.tree import Sink

LOOK_SECONDS = 1.0
SILENT_LOOKS = (
    5  # looks without an answer, each of `HEALTH_SECONDS`, after which a process that lives is hung
)
LAUNCH_SECONDS = 60.0
LONGEST_PAUSE = 60  # looks between two tries to start one that does not


class Tier2Keeper:
    """`died` is told of every unexpected end; `published` pours out a version of the registry.

    Processes are launched in the loop's thread, which outlives verbs'.
    """

    def __init__(
        self,
        run: Path,
        level: str,
        loop: asyncio.AbstractEventLoop,
        died: Callable[[str, int], object] = lambda _name, _status: None,
        published: Callable[[str, Sink], Manifest] | None = None,
    ) -> None:
        self._run = run
        self._level = level
        self._loop = loop
        self._died = died
        self._published = published
        self._away: dict[str, str] = {}  # why one that is wanted could not be started
        self._sides: dict[str, SideProcess] = {}
        self._silent: dict[str, int] = {}
        self._pause: dict[str, tuple[int, int]] = {}  # looks to wait, and how many the next time
        self._lock = Lock()

    def start(self, facts: Mapping[str, Any]) -> None:
        """Verify, start and wait, from a verb's thread. Raises what those raise; then it is not kept."""
        digest = str(facts["digest"])
        with self._lock:
            side = self._side(facts)
            running = self._sides.get(digest)
            if running is not None and running.is_running:  # the same bytes, perhaps from elsewhere
                running.facts, running.read = side.facts, side.read
                return
            self._begin(side)
            self._sides[digest] = side
            self._away.pop(digest, None)

    def _side(self, facts: Mapping[str, Any]) -> SideProcess:
        side = SideProcess(facts, directory_of(self._run, str(facts["digest"])), self._level)
        model, published = facts.get("model"), self._published
        if model and published is not None:
            side.read = lambda sink: published(str(model), sink)
        return side

    def remember(self, facts: Mapping[str, Any], why: GarrisonError | OSError) -> None:
        """One that is wanted and could not be started: it is tried again."""
        digest = str(facts["digest"])
        self._sides.setdefault(digest, self._side(facts))
        self._away[digest] = _reason(why)

    def away(self, digest: str) -> str:
        """Why the last try to start it failed; empty when it did not."""
        return self._away.get(digest, "")

    def running(self) -> frozenset[str]:
        """The digests of those whose process lives."""
        return frozenset(digest for digest, side in self._sides.items() if side.is_running)

    def keep_only(self, digests: Collection[str]) -> None:
        """End those that nobody wants any more."""
        with self._lock:
            for digest in set(self._sides) - set(digests):
                self._sides.pop(digest).stop()
                self._away.pop(digest, None)

    async def watch(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_SECONDS)
            if not stop.is_set():
                await asyncio.to_thread(self.look)

    def look(self) -> None:
        """One look at each: start again what has ended, end what hangs."""
        for digest, side in list(self._sides.items()):
            if side.is_running:
                self._silent[digest] = 0 if side.is_well() else self._silent.get(digest, 0) + 1
                if self._silent[digest] < SILENT_LOOKS:
                    continue
            self._revive(digest, side)

    def _revive(self, digest: str, side: SideProcess) -> None:
        left, next_time = self._pause.get(digest, (0, 1))
        if left:
            self._pause[digest] = (left - 1, next_time)
            return
        with self._lock:
            if self._sides.get(digest) is not side:
                return
            status = side.process.poll() if side.process is not None else None
            if side.process is not None:
                self._died("tier2", -9 if status is None else status)
            side.stop()
            self._silent[digest] = 0
            try:
                self._begin(side)
            except (GarrisonError, OSError) as error:
                self._away[digest] = _reason(error)
                self._pause[digest] = (next_time, min(2 * next_time, LONGEST_PAUSE))
            else:
                self._away.pop(digest, None)
                self._pause.pop(digest, None)

    def _begin(self, side: SideProcess) -> None:
        side.verify()
        try:
            asyncio.run_coroutine_threadsafe(_launched(side), self._loop).result(LAUNCH_SECONDS)
            side.wait_ready()
        except BaseException:
            side.stop()
            raise

    def close(self) -> None:
        """End all. Not from the loop's thread."""
        self.keep_only(())


def _reason(error: GarrisonError | OSError) -> str:
    return f"{error.code}: {error.what}" if isinstance(error, GarrisonError) else type(error).__name__


async def _launched(side: SideProcess) -> None:
    side.launch()
