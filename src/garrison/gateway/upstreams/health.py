"""Which of a route's servers is asked: by weight among those that are well, and by whom it may be tried again.

A server that fails several times in a row is left alone for a while (its circuit is open), then one request tries
it. Retries are a share of the requests, so a failure everywhere is not multiplied. I/O-free; the clock is given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from garrison.core.errors import Undecided
from garrison.gateway.upstreams.backend import Backend

FAILURES = 5  # in a row, until a server is left alone
OPEN_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)  # for how long, each time that it is not well again
RETRY_SHARE = 0.2  # retries per request, over time
RETRY_BURST = 10.0  # retries that a quiet worker may do at once


@dataclass(slots=True)
class _State:
    failures: int = 0
    opened: int = 0  # how often in a row
    until: float = 0.0  # nobody asks before, unless there is nobody else to ask
    is_trying: bool = False  # one request finds out whether it is well again


class Health:
    """Of every server, by address and id. `draw` gives a number from 0 to 1."""

    def __init__(self, clock: Callable[[], float], draw: Callable[[], float]) -> None:
        self._clock = clock
        self._draw = draw
        self._states: dict[tuple[str, str], _State] = {}
        self._retries = RETRY_BURST

    def choose(self, backends: Sequence[Backend], tried: Collection[Backend] = ()) -> Backend:
        """The one to ask. Raises `Undecided` GW-OPEN when every one that was not tried is left alone."""
        now = self._clock()
        wait = OPEN_SECONDS[-1]
        for order in sorted({backend.order for backend in backends}):
            well = []
            for backend in backends:
                if backend.order != order or backend in tried:
                    continue
                state = self._states.get((backend.address, backend.id))
                if state is None or (state.until <= now and not state.is_trying):
                    well.append(backend)
                else:
                    wait = min(wait, max(0.1, state.until - now))
            if well:
                return self._by_weight(well)
        raise Undecided(
            "GW-OPEN",
            "every model server of this route fails and is left alone for a moment",
            fix="try again in a moment; an operator sees who fails in the events",
            retry_after=wait,
        )

    def _by_weight(self, well: list[Backend]) -> Backend:
        at = self._draw() * sum(backend.weight for backend in well)
        chosen = well[-1]
        for backend in well:
            at -= backend.weight
            if at < 0:
                chosen = backend
                break
        state = self._states.get((chosen.address, chosen.id))
        if state is not None and state.opened:
            state.is_trying = True
        return chosen

    def may_retry(self) -> bool:
        """Whether the budget has a retry left; it is taken."""
        if self._retries < 1.0:
            return False
        self._retries -= 1.0
        return True

    def succeeded(self, backend: Backend) -> None:
        self._retries = min(RETRY_BURST, self._retries + RETRY_SHARE)
        self._states.pop((backend.address, backend.id), None)

    def failed(self, backend: Backend) -> None:
        state = self._states.setdefault((backend.address, backend.id), _State())
        state.failures += 1
        state.is_trying = False
        if state.failures >= FAILURES or state.opened:
            pause = OPEN_SECONDS[min(state.opened, len(OPEN_SECONDS) - 1)]
            state.opened += 1
            state.failures = 0
            state.until = self._clock() + pause

    def let_go(self, backend: Backend) -> None:
        """The request ended without saying whether the server is well."""
        state = self._states.get((backend.address, backend.id))
        if state is not None:
            state.is_trying = False

    @property
    def open(self) -> int:
        """How many servers are left alone now."""
        return sum(state.opened > 0 for state in self._states.values())
