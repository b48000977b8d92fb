"""Counters that several gateways share in Redis or Valkey: the same windows, kept by one script in one step.

Time is the server's, so replicas need no common clock. What runs is counted by replica and counts only while that
replica is heard of. When the server does not answer within a moment, each gateway goes on with its own part of every
limit (`Rule.share`): stricter, never laxer.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from garrison.core.errors import Refused, Usage
from garrison.gateway.counters import SLOTS, WINDOWS
from garrison.gateway.limits import Counted, Limiter, Spend, refused_elsewhere
from garrison.gateway.record import Record
from garrison.gateway.restrictions import Restriction, explained

ANSWER_SECONDS = 0.25  # a request waits no longer for the shared counters
RETRY_SECONDS = 1.0
HEARTBEAT_SECONDS = 15  # after this long without a word the requests of a replica no longer count as running
MAX_REPLY = 64 * 1024
MAX_WAITING = 4_096  # answers that may be outstanding
MAX_PASSWORD = 1_024

_RESERVE = """
local function alive(replica) return redis.call('EXISTS', 'garrison:alive:' .. replica) == 1 end
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
local replica, slots, at, epochs = ARGV[1], tonumber(ARGV[2]), 4, {}
redis.call('SET', 'garrison:alive:' .. replica, '1', 'EX', ARGV[3])
local plan = {}
for rule = 1, #KEYS do
  local cap, count = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  at = at + 2
  if cap >= 0 then
    local running, all = 0, redis.call('HGETALL', KEYS[rule] .. ':r')
    for i = 1, #all, 2 do
      if alive(all[i]) then running = running + tonumber(all[i + 1])
      else redis.call('HDEL', KEYS[rule] .. ':r', all[i]) end
    end
    if running >= cap then return {rule, -1, 1000} end
  end
  for _ = 1, count do
    local dim, limit, amount, step = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    at = at + 4
    local key, epoch, total = KEYS[rule] .. ':' .. dim, math.floor(now / step), 0
    local all, live = redis.call('HGETALL', key), {}
    for i = 1, #all, 2 do
      local when = tonumber(all[i])
      if when > epoch - slots then
        total = total + tonumber(all[i + 1])
        live[#live + 1] = {when, tonumber(all[i + 1])}
      else redis.call('HDEL', key, all[i]) end
    end
    if amount > 0 and total + amount > limit then
      table.sort(live, function(a, b) return a[1] < b[1] end)
      local excess, wait = total + amount - limit, step * (slots - 1)
      for _, one in ipairs(live) do
        excess = excess - one[2]
        if excess <= 0 then wait = (one[1] + slots) * step - now break end
      end
      return {rule, tonumber(dim), math.ceil(wait * 1000)}
    end
    plan[#plan + 1] = {key, epoch, amount, step}
  end
end
for _, one in ipairs(plan) do
  redis.call('HINCRBY', one[1], one[2], one[3])
  redis.call('EXPIRE', one[1], math.ceil(one[4] * (slots + 1)))
  epochs[#epochs + 1] = one[2]
end
for rule = 1, #KEYS do
  redis.call('HINCRBY', KEYS[rule] .. ':r', replica, 1)
  redis.call('EXPIRE', KEYS[rule] .. ':r', 3600)
end
return {0, unpack(epochs)}
"""
_SETTLE = """
local at = 2
for rule = 1, #KEYS do
  local count = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, count do
    local key = KEYS[rule] .. ':' .. ARGV[at]
    if redis.call('HEXISTS', key, ARGV[at + 1]) == 1 then redis.call('HINCRBY', key, ARGV[at + 1], ARGV[at + 2]) end
    at = at + 3
  end
  local running = KEYS[rule] .. ':r'
  if redis.call('HINCRBY', running, ARGV[1], -1) <= 0 then redis.call('HDEL', running, ARGV[1]) end
end
return 0
"""


class Away(Exception):
    """The counters do not answer; what runs now is counted by this gateway alone."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where the counters are: `unix:/path`, `redis://host:port` or `rediss://host:port`."""

    path: str = ""
    host: str = ""
    port: int = 0
    tls: ssl.SSLContext | None = None


def parse_server(address: str) -> Server:
    """Raises `Usage` GW-CONFIG. A password is never part of an address."""
    if address.startswith("unix:/"):
        return Server(path=address.removeprefix("unix:"))
    url = urlsplit(address)
    if (
        url.scheme not in ("redis", "rediss")
        or not url.hostname
        or url.username
        or url.password
        or url.path.strip("/")
    ):
        raise Usage(
            "GW-CONFIG",
            "limits_redis is not unix:/PATH, redis://HOST:PORT or rediss://HOST:PORT",
            fix="correct it",
        )
    return Server(
        "", url.hostname, url.port or 6_379, ssl.create_default_context() if url.scheme == "rediss" else None
    )


@dataclass(slots=True)
class SharedLimits:
    """One connection of one worker. `replica` names it among all workers of all gateways."""

    server: Server
    replica: str
    replicas: int
    loop: asyncio.AbstractEventLoop
    password: Path | None = None
    clock: Callable[[], float] = field(init=False)
    up: bool = False
    _wire: _Wire | None = None
    _retry: float = 0.0
    _connecting: asyncio.Task[None] | None = None
    _connections: int = 0

    def __post_init__(self) -> None:
        self.clock = self.loop.time

    def tick(self) -> None:
        """Connect again, a second after the last try; say now and then that this replica is there."""
        if not self.up and self._connecting is None and self.clock() >= self._retry:
            self._connecting = self.loop.create_task(self._connect())
        if self._wire is not None and self.up:
            self._wire.send(["SET", f"garrison:alive:{self._name}", "1", "EX", str(HEARTBEAT_SECONDS)])

    @property
    def _name(self) -> str:
        """Another one for each connection: what was running over one that broke does not count for long."""
        return f"{self.replica}:{self._connections}"

    async def reserve(self, counted: Counted, spend: Spend) -> Callable[[tuple[int, ...]], None]:
        """Count a request everywhere; what has to be called with what it used. Raises `Refused` LIM-RATE, `Away`."""
        if self._wire is None or not self.up:
            raise Away
        amounts = spend.amounts()
        name = self._name
        keys, words, dims = [], [name, str(SLOTS), str(HEARTBEAT_SECONDS)], []
        for rule, key in counted.rules:
            used = rule.capped
            keys.append("garrison:" + key.replace("\0", "|"))
            dims.append([dim for dim, _ in used])
            words += [str(-1 if rule.concurrency is None else rule.concurrency), str(len(used))]
            for dim, cap in used:
                words += [str(dim), str(cap), str(amounts[dim]), str(WINDOWS[dim] / (SLOTS - 1))]

        def settle(answer: list[int], used: tuple[int, ...]) -> None:
            epochs, words = iter(answer[1:]), [name]
            for group in dims:
                words.append(str(len(group)))
                for dim in group:
                    words += [str(dim), str(next(epochs)), str(used[dim] - amounts[dim])]
            if self._wire is not None and self.up:
                self._wire.send(["EVAL", _SETTLE, str(len(keys)), *keys, *words])

        def unused(answered: asyncio.Future[Any]) -> None:
            granted = None if answered.cancelled() or answered.exception() else answered.result()
            if isinstance(granted, list) and granted and granted[0] == 0:
                settle(granted, (0,) * len(amounts))

        waiting = self._wire.send(["EVAL", _RESERVE, str(len(keys)), *keys, *words])
        timer = self.loop.call_later(ANSWER_SECONDS, self._lost)  # a turn of the gateway has no other clock
        try:
            answer = await asyncio.shield(waiting)
        except ConnectionError:
            raise Away from None
        except asyncio.CancelledError:
            waiting.add_done_callback(unused)  # the client left meanwhile
            raise
        finally:
            timer.cancel()
        if not isinstance(answer, list) or not answer:
            self._lost()
            raise Away
        if answer[0] != 0:
            rule, _ = counted.rules[answer[0] - 1]
            raise refused_elsewhere(rule, answer[1], answer[2] / 1_000, counted.model)
        return partial(settle, answer)

    def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        self._lost()

    async def _connect(self) -> None:
        wire: _Wire | None = None
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                make = _Wire
                if self.server.path:
                    _, wire = await self.loop.create_unix_connection(make, self.server.path)
                else:
                    _, wire = await self.loop.create_connection(
                        make, self.server.host, self.server.port, ssl=self.server.tls
                    )
                if self.password is not None:
                    await wire.send(["AUTH", self.password.read_text()[:MAX_PASSWORD].strip()])
                if await wire.send(["PING"]) == "PONG":
                    wire.lost = self._lost
                    self._wire, self.up, self._connections = wire, True, self._connections + 1
        except (OSError, TimeoutError):
            pass
        finally:
            if wire is not None and wire is not self._wire:
                wire.close()
            self._retry = self.clock() + RETRY_SECONDS
            self._connecting = None

    def _lost(self) -> None:
        self.up = False
        self._retry = self.clock() + RETRY_SECONDS
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()


async def count_together(
    shared: SharedLimits, limiter: Limiter, record: Record, held: Iterable[Restriction] = ()
) -> None:
    """Count an admitted request with the other gateways, or by this one's own part.

    Raises `Refused` LIM-RATE, or ANO-SLOWED when the limit is one that an alert led to (`held`).
    """
    counted, spend, reservation = record.counted, record.spend, record.reservation
    if counted is None or spend is None or reservation is None:
        return
    try:
        reservation.later = await shared.reserve(counted, spend)
    except Refused as error:
        reservation.cancel()
        raise explained(error, held) from None
    except Away:
        if not limiter.alone:
            limiter.alone = True
            reservation.cancel()
            try:
                record.reservation = limiter.reserve(counted, spend)
            except Refused as error:
                raise explained(error, held) from None


class _Wire(asyncio.Protocol):
    """RESP2, as much of it as is spoken here: commands out, and texts, numbers, lists and errors in."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: list[asyncio.Future[Any]] = []
        self._buffer = bytearray()
        self.lost: Callable[[], None] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        for future in self._waiting:
            if not future.done():
                future.set_exception(ConnectionError())
                future.exception()  # nobody may be waiting any more
        self._waiting.clear()
        self.lost()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._buffer:
            try:
                value, end = _parse(self._buffer, 0, 0)
            except ValueError:
                self.close()
                return
            if end < 0:
                if len(self._buffer) > MAX_REPLY:
                    self.close()
                return
            del self._buffer[:end]
            if not self._waiting:
                self.close()
                return
            future = self._waiting.pop(0)
            if not future.done():
                future.set_result(value)

    def send(self, words: Sequence[str]) -> asyncio.Future[Any]:
        """Send a command; its answer."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._transport is None or len(self._waiting) >= MAX_WAITING:
            future.set_exception(ConnectionError())
            future.exception()
            return future
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            raw = word.encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
        self._transport.write(b"".join(parts))
        self._waiting.append(future)
        return future

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _parse(data: bytearray, at: int, depth: int) -> tuple[Any, int]:
    """One value and where it ends; -1 when it is not all there. Raises ValueError."""
    line = data.find(b"\r\n", at)
    if line < 0:
        return None, -1
    kind, text, end = data[at : at + 1], bytes(data[at + 1 : line]), line + 2
    if kind == b"+":
        return text.decode("ascii", "replace"), end
    if kind == b"-":
        return None, end  # an error is no answer: the caller takes the counters for away
    if kind == b":":
        return int(text), end
    if kind == b"$":
        size = int(text)
        if size < 0:
            return None, end
        if size > MAX_REPLY:
            raise ValueError("too long")
        return (None, -1) if len(data) < end + size + 2 else (bytes(data[end : end + size]), end + size + 2)
    if kind != b"*" or depth > 2 or not 0 <= int(text) <= 1_024:
        raise ValueError("not an answer")
    items = []
    for _ in range(int(text)):
        item, end = _parse(data, end, depth + 1)
        if end < 0:
            return None, -1
        items.append(item)
    return items, end
