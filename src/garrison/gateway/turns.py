"""Runs a request's coroutine without an asyncio task: begun at once, resumed by whoever has what it waits for.

A task costs two trips through the event loop and a future for every wait, which is more than all the checks of
a short request together. The coroutine may await a `Signal` (the usual case) or an asyncio future or task (the
rare one, such as opening a connection). It has no current task: `asyncio.timeout` needs one, so what needs a
timeout is awaited as a task of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any


class Signal:
    """Something that one turn waits for. `set` resumes it then and there; without a waiter it does nothing.

    A turn looks whether it has to wait before it does, and looks again afterwards.
    """

    __slots__ = ("_turn",)

    def __init__(self) -> None:
        self._turn: Turn | None = None

    def __await__(self) -> Generator[Signal, None, None]:
        yield self

    def wait_for(self, turn: Turn | None) -> None:
        self._turn = turn

    def set(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.resume()


class Turn:
    """One coroutine. It has to handle its own exceptions: what it raises goes to whoever resumed it."""

    __slots__ = ("_cancelled", "_coroutine", "_running", "_wait", "done")

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine = coroutine
        self._wait: Signal | asyncio.Future[Any] | None = None
        self._running = False
        self._cancelled = False
        self.done = False

    def resume(self, _future: object = None) -> None:
        """Run until the next wait or the end. Also the callback of the future that is waited for."""
        self._running = True
        self._wait = None
        try:
            if self._cancelled:
                self._cancelled = False
                wait = self._coroutine.throw(asyncio.CancelledError())
            else:
                wait = self._coroutine.send(None)
        except StopIteration:
            self.done = True
            return
        except BaseException:
            self.done = True
            raise
        finally:
            self._running = False
        self._wait = wait
        if type(wait) is Signal:
            wait.wait_for(self)
        else:
            wait._asyncio_future_blocking = False  # Future.__await__ has set it and waits for this
            wait.add_done_callback(self.resume)
        if self._cancelled:
            self._end_wait()

    def cancel(self) -> None:
        """Raise `CancelledError` where it waits: at once at a signal, when a future has ended at a future."""
        if self.done or self._cancelled:
            return
        self._cancelled = True
        if not self._running:
            self._end_wait()

    def _end_wait(self) -> None:
        wait = self._wait
        if isinstance(wait, Signal):
            wait.wait_for(None)
            self.resume()
        elif wait is not None:
            wait.cancel()
