"""A script that copies a model is noticed and slowed down at a real server, and whoever asks as usual is not."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression
from tests.fakes.upstream import Asked, Upstream, completion
from tests.flows.server import Server

from garrison.detect.simulation.requests import Words

LONG = 60.0  # seconds, for what takes one or two
MOST = 4_000  # requests of a script that nobody stops
WORDS = Words(Random(7))
VOCABULARY = sorted({word for _ in range(60) for word in WORDS.text(50).split()})


def features(text: str) -> list[int]:
    present = set(text.split())
    return [word in present for word in VOCABULARY]


class Classifier:
    """A small, real model: which of two classes a text is of, learnt by logistic regression."""

    def __init__(self) -> None:
        draw = Random(1)
        texts = [WORDS.text(20) for _ in range(300)]
        weights = {word: draw.gauss(0, 1) for word in VOCABULARY}
        labels = [sum(weights.get(word, 0.0) for word in text.split()) > 0 for text in texts]
        self.model = LogisticRegression().fit([features(text) for text in texts], labels)

    def __call__(self, asked: Asked) -> list[bytes]:
        text = str(asked.body["messages"][-1]["content"])
        return completion("yes" if self.model.predict([features(text)])[0] else "no")


class Client:
    """One connection that stays open, and one token."""

    def __init__(self, server: Server, subject: str) -> None:
        context = ssl.create_default_context(cafile=server.ready["ca"])
        self.connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=LONG, context=context)
        words = ("token", "issue", "--subject", subject, "--role", "user", "--ttl", "1h")
        self.token = server.ok(*words)["token"]

    def close(self) -> None:
        self.connection.close()

    def ask(self, text: str) -> tuple[int, dict[str, Any]]:
        body = {"model": "judge", "messages": [{"role": "user", "content": text}]}
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        self.connection.request("POST", "/v1/chat/completions", body=json.dumps(body), headers=headers)
        with self.connection.getresponse() as answer:
            return answer.status, json.loads(answer.read())


@pytest.fixture
def judge(server: Server) -> Iterator[Server]:
    """A server with a route to the classifier."""
    (server.data / "garrison.toml").write_text(
        "requests_per_minute = 100000\ntokens_per_minute = 100000000\n"
    )
    loop, upstream = asyncio.new_event_loop(), Upstream(answer=Classifier())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        address = asyncio.run_coroutine_threadsafe(upstream.start_http(), loop).result(LONG)
        server.start()
        server.ok("route", "add", "judge", "--upstream", address, "--tier", "internal")
        yield server
    finally:
        server.kill()
        asyncio.run_coroutine_threadsafe(_closed(upstream), loop).result(LONG)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def clients(judge: Server) -> Iterator[Callable[[str], Client]]:
    """Makes clients that are closed when the test ends."""
    with ExitStack() as made:
        yield lambda subject: made.enter_context(closing(Client(judge, subject)))


async def _closed(upstream: Upstream) -> None:
    await upstream.stop()
    while upstream.running or len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0.01)


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.2)


def copied(client: Client) -> tuple[int, dict[str, Any]]:
    """Ask one text after another until somebody says stop: how many were answered, and what was said."""
    for number in range(MOST):
        status, body = client.ask(WORDS.text(20))
        if status != 200:
            return number, body["error"]
    return MOST, {}


@pytest.mark.row("C22", kind="R")
@pytest.mark.row("C21", kind="R")
def test_a_script_that_copies_a_classifier_is_slowed_down_and_an_ordinary_user_is_not(
    judge: Server, clients: Callable[[str], Client], tmp_path: Path
) -> None:
    mallory, dana = clients("mallory"), clients("dana")
    assert [dana.ask(WORDS.text(12))[0] for _ in range(5)] == [200] * 5
    answered, error = copied(mallory)
    assert answered < MOST
    assert error["code"] == "ANO-SLOWED"
    (alert,) = [
        one for one in judge.ok("alerts", "list")["alerts"] if one["id"] == error["evidence"]["alert"]
    ]
    assert (alert["code"], alert["subject"]) == ("ANO-EXTRACT", "user:mallory")
    noticed = next(sign["now"] for sign in alert["why"] if sign["sign"].startswith("distinct"))
    assert noticed <= 400  # however many more were under way until the next snapshot was there
    assert [dana.ask(WORDS.text(12))[0] for _ in range(5)] == [200] * 5

    judge.kill()
    judge.start()
    mallory, dana = clients("mallory"), clients("dana")
    assert copied(mallory)[0] <= 6  # a minute's worth: what a kill interrupts is as restricted as before
    until(lambda: judge.ok("detect", "status")["waiting"] == 0)
    assert len([one for one in judge.ok("alerts", "list")["alerts"] if one["code"] == "ANO-EXTRACT"]) == 1
    assert dana.ask("hello there")[0] == 200

    released = judge.ok("alerts", "release", alert["id"], "--note", "an evaluation")
    assert released["state"] == "released"
    until(lambda: mallory.ask(WORDS.text(20))[0] == 200)
    assert [mallory.ask(WORDS.text(20))[0] for _ in range(20)] == [200] * 20

    replayed = judge.ok("detect", "replay", "--since", "1", "--set", "ANO-EXTRACT=3")
    assert "ANO-EXTRACT" in {one["code"] for one in replayed["alerts"]}
    log = tmp_path / "events.jsonl"
    log.write_text(judge.cli("audit", "export", "--format", "jsonl").out)
    assert judge.ok("detect", "replay", str(log))["requests"] == replayed["requests"]
    findings = [
        json.loads(line) for line in judge.cli("audit", "export", "--format", "ocsf").out.splitlines()
    ]
    (raised,) = [
        one
        for one in findings
        if one["class_uid"] == 2004
        and one["finding_info"]["uid"] == alert["id"]
        and one["activity_name"] == "Create"
    ]
    assert raised["finding_info"]["attacks"][0]["technique"]["uid"].startswith("AML.")
    print(f"slowed down after {answered} requests, noticed at {noticed:.0f}")
