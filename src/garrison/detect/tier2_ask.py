"""Asking the second tier: over its Unix socket, one question a connection, never longer than the deadline.

Whatever goes wrong - no socket, a crash, silence, an answer that cannot be true - is one thing: no opinion (None).
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import socket
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from garrison.detect.base import Direction, Doubt, Inspection, Opinions
from garrison.detect.inspect import Inspector
from garrison.detect.tier2 import (
    BLOCK_AT,
    MAX_ANSWER,
    Guard,
    Spec,
    channel_of,
    parse_spec,
    question,
    read_answer,
)

MAX_REMEMBERED = 4_096  # opinions on what an application repeats with every request, by a keyed digest
MAX_ASKING = 64  # questions of one worker at a time; one more has no answer


@dataclass(frozen=True, slots=True)
class Asked:
    """One classifier: where it listens, and what its configuration says."""

    socket: str
    spec: Spec


def guards(asked: Mapping[str, Asked], block_at: float = BLOCK_AT) -> dict[str, Guard]:
    """By channel, the thresholds that the classifiers were made with."""
    return {channel: Guard(block_at, one.spec.low, one.spec.high) for channel, one in asked.items()}


def parse_asked(items: Any) -> dict[str, Asked]:
    """By channel, from the facts of a snapshot. Raises `ValueError`, `KeyError` or `TypeError`."""
    found = {}
    for item in items:
        asked = Asked(str(item["socket"]), parse_spec(item["config"]))
        found.update({channel: asked for channel in item["channels"] if channel in asked.spec.channels})
    return found


class Asker:
    """Asks from a coroutine. What a classifier said of a text is remembered as long as this lives."""

    def __init__(self, asked: Mapping[str, Asked]) -> None:
        self._asked = asked
        self._asking = 0
        self._known: OrderedDict[bytes, Opinions] = OrderedDict()
        self._secret = secrets.token_bytes(32)

    async def ask(self, doubt: Doubt) -> Opinions | None:
        """An opinion of each reading, or None. Never raises, never takes longer than the doubt allows."""
        key = self._key(doubt)
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        asked = self._asked.get(channel_of(doubt.direction))
        if asked is None or self._asking >= MAX_ASKING:
            return None
        self._asking += 1
        try:
            found = await asyncio.wait_for(_asked_once(asked, doubt), doubt.seconds)
        except (OSError, EOFError, ValueError, TimeoutError):
            return None
        finally:
            self._asking -= 1
        self._known[key] = found
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return found

    def _key(self, doubt: Doubt) -> bytes:
        parts = (channel_of(doubt.direction), *doubt.texts, repr(doubt.first))
        digest = hashlib.blake2b(key=self._secret, digest_size=16)
        for part in parts:
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little") + data)
        return digest.digest()


async def _asked_once(asked: Asked, doubt: Doubt) -> Opinions:
    number = secrets.token_hex(8)
    reader, writer = await asyncio.open_unix_connection(asked.socket)
    try:
        writer.write(question(number, doubt.direction, doubt.texts))
        await writer.drain()
        data = bytearray()
        while len(data) <= MAX_ANSWER and (piece := await reader.read(MAX_ANSWER)):
            data += piece
    finally:
        writer.close()
    return read_answer(bytes(data), number, doubt, asked.spec)


def ask_and_wait(asked: Asked | None, doubt: Doubt) -> Opinions | None:
    """The same from a program without a loop."""
    if asked is None:
        return None
    number, ends = secrets.token_hex(8), time.monotonic() + doubt.seconds
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(doubt.seconds)
            connection.connect(asked.socket)
            connection.sendall(question(number, doubt.direction, doubt.texts))
            data = bytearray()
            while len(data) <= MAX_ANSWER:
                connection.settimeout(max(0.001, ends - time.monotonic()))
                piece = connection.recv(MAX_ANSWER)
                if not piece:
                    break
                data += piece
        return read_answer(bytes(data), number, doubt, asked.spec)
    except (OSError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class BothTiers:
    """An inspector whose doubts are settled before it answers, for programs without a loop."""

    inspector: Inspector
    asked: Mapping[str, Asked]

    def inspect(self, text: str, direction: Direction, *, tolerant: bool = False) -> Inspection:
        """As `Inspector.inspect`."""
        inspection = self.inspector.inspect(text, direction, tolerant=tolerant)
        doubt = inspection.doubt
        if doubt is None:
            return inspection
        return doubt.settle(ask_and_wait(self.asked.get(channel_of(direction)), doubt))
