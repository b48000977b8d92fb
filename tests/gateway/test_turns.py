"""A turn runs a coroutine without a task: at once, in order, and it ends where it waits when it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from garrison.gateway.turns import Signal, Turn


def begun(coroutine: Coroutine[Any, Any, None]) -> Turn:
    turn = Turn(coroutine)
    turn.resume()
    return turn


def test_a_turn_begins_at_once_and_goes_on_when_its_signal_is_set() -> None:
    seen: list[str] = []
    signal = Signal()

    async def work() -> None:
        seen.append("begun")
        await signal
        seen.append("ended")

    turn = begun(work())
    assert (seen, turn.done) == (["begun"], False)
    signal.set()
    signal.set()  # nobody waits any more
    assert (seen, turn.done) == (["begun", "ended"], True)


def test_a_turn_that_is_cancelled_at_a_signal_cleans_up_then_and_there() -> None:
    seen: list[str] = []
    first, second = Signal(), Signal()

    async def work() -> None:
        try:
            await first
        except asyncio.CancelledError:
            seen.append("cancelled")
            await second
        seen.append("cleaned")

    turn = begun(work())
    turn.cancel()
    assert seen == ["cancelled"]
    first.set()  # what it no longer waits for does not resume it
    assert seen == ["cancelled"]
    second.set()
    assert (seen, turn.done) == (["cancelled", "cleaned"], True)
    turn.cancel()  # too late: nothing happens


def test_a_turn_that_is_cancelled_while_it_runs_ends_at_its_next_wait() -> None:
    turns: list[Turn] = []
    seen: list[str] = []

    async def work() -> None:
        turns[0].cancel()
        seen.append("still here")
        try:
            await Signal()
        except asyncio.CancelledError:
            seen.append("cancelled")

    turns.append(Turn(work()))
    turns[0].resume()
    assert (seen, turns[0].done) == (["still here", "cancelled"], True)


@pytest.mark.parametrize("ended", [True, False])
def test_a_turn_that_is_cancelled_at_a_task_ends_also_when_the_task_had_just_ended(ended: bool) -> None:
    seen: list[str] = []

    async def main() -> None:
        gate = asyncio.Event()
        task = asyncio.ensure_future(gate.wait())

        async def work() -> None:
            try:
                await task
            except asyncio.CancelledError:
                seen.append("cancelled")

        turn = begun(work())
        await asyncio.sleep(0)
        if ended:
            gate.set()
            while not task.done():
                await asyncio.sleep(0)
        turn.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        assert turn.done

    asyncio.run(main())
    assert seen == ["cancelled"]


def test_what_a_future_brings_arrives_in_the_turn() -> None:
    seen: list[object] = []

    async def main() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        broken: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def work() -> None:
            seen.append(await future)
            with pytest.raises(ValueError, match="no"):
                await broken
            seen.append("refused")

        turn = begun(work())
        future.set_result(7)
        broken.set_exception(ValueError("no"))
        for _ in range(4):
            await asyncio.sleep(0)
        assert turn.done

    asyncio.run(main())
    assert seen == [7, "refused"]


def test_an_exception_reaches_whoever_resumed_the_turn() -> None:
    signal = Signal()

    async def work() -> None:
        await signal
        raise ValueError("no")

    turn = begun(work())
    with pytest.raises(ValueError, match="no"):
        signal.set()
    assert turn.done
