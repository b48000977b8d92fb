"""What leaves in one turn of the loop leaves in this order: recorded, asked, answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from garrison.core.errors import GarrisonError, Undecided
from garrison.evidence.spool_writer import SpoolWriter
from garrison.gateway.outbox import Outbox


class Wire:
    """A connection of either kind that notes what happens to it."""

    def __init__(self, log: list[tuple[str, str]], name: str) -> None:
        self.log, self.name = log, name

    def transmit(self, request: bytes) -> None:
        self.log.append((self.name, request.decode()))

    def withdraw(self, error: GarrisonError) -> None:
        self.log.append((self.name, error.code))

    def send(self, data: bytes) -> None:
        self.log.append((self.name, data.decode()))


class Noting:
    """A real spool writer that notes each write, and may have no room."""

    def __init__(self, spool: SpoolWriter, log: list[tuple[str, str]], room: Callable[[bytes], bool]) -> None:
        self.spool, self.log, self.room = spool, log, room
        self.begun, self.ended = spool.begun, spool.ended

    def write(self, lines: bytes) -> None:
        if not self.room(lines):
            raise Undecided("DISK-FULL", "no room", fix="make room")
        self.spool.write(lines)
        self.log.append(("spool", " ".join(json.loads(line)["id"] for line in lines.splitlines())))


def one_turn(tmp_path: Path, room: Callable[[bytes], bool]) -> tuple[list[tuple[str, str]], Outbox]:
    log: list[tuple[str, str]] = []
    spool = SpoolWriter(tmp_path, "w", dumps=orjson.dumps)
    event: dict[str, Any] = {"outcome": "allowed"}

    async def main() -> Outbox:
        outbox = Outbox(Noting(spool, log, room), asyncio.get_running_loop())
        outbox.reply(Wire(log, "client"), b"answer")
        outbox.end("r-1", event)
        for number in (2, 3):
            outbox.begin(f"r-{number}", "t", "user:a", "m@1")
            outbox.ask(Wire(log, f"model-{number}"), b"question")
        assert log == []
        await asyncio.sleep(0)
        return outbox

    outbox = asyncio.run(main())
    spool.close()
    return log, outbox


def test_all_lines_of_a_turn_are_one_write_before_anything_is_sent(tmp_path: Path) -> None:
    log, _ = one_turn(tmp_path, lambda lines: True)
    assert log == [
        ("spool", "r-1 r-2 r-3"),
        ("model-2", "question"),
        ("model-3", "question"),
        ("client", "answer"),
    ]


@pytest.mark.parametrize(("alone", "lost"), [(True, 0), (False, 1)])
def test_without_room_nothing_is_asked_and_what_has_ended_is_tried_alone(
    tmp_path: Path, alone: bool, lost: int
) -> None:
    log, outbox = one_turn(tmp_path, lambda lines: alone and lines.count(b"\n") == 1)
    recorded = [("spool", "r-1")] if alone else []
    assert log == [*recorded, ("model-2", "DISK-FULL"), ("model-3", "DISK-FULL"), ("client", "answer")]
    assert outbox.unrecorded == lost
