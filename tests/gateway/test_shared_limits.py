"""Two gateways that count together in a real Redis, and what they do when it is not there."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.fakes.upstream import HANG, STREAM_HEAD, chunk, completion, delta, event
from tests.gateway.rig import Answer, Rig, chat

from garrison.core.errors import Usage
from garrison.core.event import format_time
from garrison.gateway.shared_limits import SharedLimits, parse_server

WIDE = {"requests_per_minute": 100_000, "tokens_per_minute": 100_000_000, "concurrency": 1_000}
SERVERS = ("redis-server", "valkey-server")


@dataclass
class Counters:
    """A Redis or Valkey on a Unix socket that a test stops and starts."""

    directory: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def path(self) -> Path:
        return self.directory / "counters.sock"

    def start(self) -> Counters:
        program = next((name for name in SERVERS if shutil.which(name)), None)
        if program is None:
            pytest.skip("NOT PROVED HERE: neither redis-server nor valkey-server is installed")
        words = [
            program,
            "--port",
            "0",
            "--unixsocket",
            str(self.path),
            "--save",
            "",
            "--dir",
            str(self.directory),
        ]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        ends = time.monotonic() + 20
        while not self.path.exists():
            assert time.monotonic() < ends, "it does not listen"
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()


@pytest.fixture
def counters(tmp_path: Path) -> Iterator[Counters]:
    made = Counters(tmp_path).start()
    yield made
    made.stop()


@pytest.fixture
def pair(make_rig: Callable[..., Rig], counters: Counters) -> Iterator[list[Rig]]:
    """Two gateways that trust the same tokens and count in the same place."""
    first = make_rig()
    rigs = [first, make_rig(token_key=first.token_key)]
    for number, rig in enumerate(rigs):
        server = parse_server(f"unix:{counters.path}")

        async def join(rig: Rig = rig, server: object = server, number: int = number) -> None:
            rig.plane.limiter.replicas = 2
            rig.plane.shared = SharedLimits(server, f"replica-{number}", 2, asyncio.get_running_loop())  # type: ignore[arg-type]  # bound above

        rig.run(join())
        rig.until(lambda rig=rig: rig.plane.shared.up)
    yield rigs
    for rig in rigs:
        rig.loop.call_soon_threadsafe(rig.plane.shared.close)


@pytest.mark.row("C07", kind="R")
def test_two_gateways_let_through_what_the_limit_says_and_not_one_more(pair: list[Rig]) -> None:
    for rig in pair:
        rig.published(limits=WIDE | {"requests_per_minute": 150})
    token = pair[0].token()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: pair[n % 2].ask(chat(), token=token), range(240)))
    assert [answer.status for answer in answers].count(200) == 150  # exact; 1 % is allowed
    assert {answer.status for answer in answers} == {200, 429}, [a.body for a in answers if a.status > 429]
    refused = [answer for answer in answers if answer.status == 429]
    assert len(refused) == 90
    assert all(1 <= int(answer.headers["retry-after"]) <= 61 for answer in refused)
    assert {rig.event_of(answer)["code"] for rig, answer in zip(pair, answers[-2:], strict=True)} <= {
        "",
        "LIM-RATE",
    }


@pytest.mark.row("C07", kind="R")
def test_tokens_are_settled_for_both_and_running_requests_counted_for_both(pair: list[Rig]) -> None:
    for rig in pair:
        rig.published(limits=WIDE | {"tokens_per_minute": 1_200, "concurrency": 1})
    token = pair[0].token()
    for number in range(6):  # each reserves about 1,000 and uses 18
        assert pair[number % 2].ask(chat(max_tokens=1_000), token=token).status == 200
    assert (
        pair[1].ask(chat(max_tokens=1_190), token=token).json["error"]["evidence"]["limit"]
        == "tokens_per_minute"
    )
    pair[0].upstream.answer = lambda _asked: [STREAM_HEAD, chunk(event(delta(content="a "))), HANG]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(pair[0].ask, chat(stream=True, max_tokens=10), token=token)
        pair[0].until(lambda: len(pair[0].upstream.asked) == 4)
        busy = pair[1].ask(chat(max_tokens=10), token=token)
        assert busy.json["error"]["evidence"]["limit"] == "concurrency"
        pair[0].loop.call_soon_threadsafe(pair[0].plane.pool.close)
        waiting.result()
    pair[1].until(lambda: pair[1].ask(chat(max_tokens=10), token=token).status == 200)


@pytest.mark.row("C07", kind="R")
def test_without_the_counters_each_gateway_has_its_own_part_and_they_count_together_again(
    pair: list[Rig], counters: Counters
) -> None:
    for rig in pair:
        rig.published(limits=WIDE | {"requests_per_minute": 20})
    counters.stop()
    for rig in pair:
        statuses = [rig.ask(chat(), token=pair[0].token()).status for _ in range(15)]
        assert statuses == [200] * 10 + [429] * 5
    counters.start()
    for rig in pair:
        rig.until(lambda rig=rig: rig.plane.shared.up and not rig.plane.limiter.alone)
        rig.published(limits=WIDE | {"requests_per_minute": 15})
        assert rig.ask(chat(), token=pair[0].token()).status == 200


@pytest.mark.row("C07", kind="R")
@pytest.mark.row("C22", kind="R")
def test_who_is_slowed_down_and_who_is_over_a_limit_are_told_so_whichever_gateway_says_it(
    pair: list[Rig], counters: Counters
) -> None:
    until = format_time(datetime.now(UTC) + timedelta(minutes=30))
    facts = {"alert": "al-0007", "identity": "user:mallory", "model": "", "until": until, "per_minute": 4}
    slowed = [{**facts, "action": "throttle"}]
    for rig in pair:
        rig.published(limits=WIDE | {"requests_per_minute": 6}, restrictions=slowed)
    mallory, dana = pair[0].token("mallory"), pair[0].token("dana")

    def asked(token: str, times: int) -> list[Answer]:
        return [pair[number % 2].ask(chat(), token=token) for number in range(times)]

    def judged(answers: list[Answer], allowed: int, code: str) -> None:
        assert [answer.status for answer in answers] == [200] * allowed + [429] * (len(answers) - allowed)
        for number, answer in list(enumerate(answers))[allowed:]:
            assert answer.code == code
            assert 1 <= int(answer.headers["retry-after"]) <= 61
            assert pair[number % 2].event_of(answer)["code"] == code
            assert ("al-0007" in answer.json["error"]["message"]) == (code == "ANO-SLOWED")

    judged(asked(mallory, 8), 4, "ANO-SLOWED")  # two at each gateway: only the shared counters know
    judged(asked(dana, 8), 6, "LIM-RATE")
    counters.stop()
    for rig in pair:  # each by its own part
        uma = pair[0].token("mallory", tenant="elsewhere")
        assert {rig.ask(chat(), token=uma).code for _ in range(2)} == {"ANO-SLOWED"}


@pytest.mark.row("C07", kind="R")
def test_a_hundred_at_once_over_two_gateways_overspend_by_one_reservation_at_most(pair: list[Rig]) -> None:
    """Each reserves 100 of 1,000 tokens for the answer and is told afterwards that it used 18."""
    for rig in pair:
        rig.published(limits=WIDE | {"tokens_per_minute": 1_000})
    gate = threading.Event()
    for rig in pair:
        rig.upstream.answer = lambda _asked: completion("hello") if gate.is_set() else [HANG]
    token, body = pair[0].token(), chat(max_tokens=100)
    with ThreadPoolExecutor(100) as pool:
        waiting = [pool.submit(pair[n % 2].ask, body, token=token) for n in range(100)]

        def settled() -> bool:
            asked = sum(len(rig.upstream.asked) for rig in pair)
            return asked + sum(one.done() for one in waiting) == len(waiting)

        pair[0].until(settled, seconds=60)
        running = [one for one in waiting if not one.done()]
        assert 8 <= len(running) <= 10  # with a token or two for each question, at most 1,000 of them
        assert {one.result().status for one in waiting if one not in running} == {429}
        for rig in pair:
            rig.loop.call_soon_threadsafe(rig.plane.pool.close)
    gate.set()
    assert pair[1].ask(body, token=token).status == 200  # what failed has cost nothing


@pytest.mark.row("S36", kind="R")
def test_counters_that_refuse_to_write_are_taken_for_away(pair: list[Rig], counters: Counters) -> None:
    """A Redis out of memory answers and counts nothing."""
    for rig in pair:
        rig.published(limits=WIDE | {"requests_per_minute": 20})
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(counters.path))
        client.sendall(b"CONFIG SET maxmemory-policy noeviction\r\nCONFIG SET maxmemory 1\r\n")
        said = b""
        while said.count(b"+OK") < 2:
            said += client.recv(100)
    for rig in pair:
        statuses = [rig.ask(chat(), token=pair[0].token()).status for _ in range(12)]
        assert statuses == [200] * 10 + [429] * 2


@pytest.mark.row("S36", kind="R")
def test_counters_that_hang_cost_a_moment_and_are_then_left_alone(
    pair: list[Rig], counters: Counters
) -> None:
    assert counters.process is not None
    subprocess.run(["kill", "-STOP", str(counters.process.pid)], check=True)
    try:
        began = time.monotonic()
        assert pair[0].ask(chat()).status == 200
        assert time.monotonic() - began < 2
        assert pair[0].plane.limiter.alone
    finally:
        subprocess.run(["kill", "-CONT", str(counters.process.pid)], check=True)


@pytest.mark.parametrize(
    "address",
    ["", "http://x", "redis://", "redis://user:pw@host", "redis://host/1", "/tmp/x", "redis://:pw@h"],
)
def test_what_is_no_address_of_counters_is_refused(address: str) -> None:
    with pytest.raises(Usage):
        parse_server(address)
