"""A server with its records in PostgreSQL: from a file to an answer, and through a database that stops."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.postgres import Cluster
from tests.fakes.upstream import STREAM_HEAD, WAIT, Asked, Upstream, chunk, completion, delta, event
from tests.flows.server import COMMAND, Server, environment, run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("postgres")]
LONG = 120.0
INVOKED = "SELECT count(*), count(DISTINCT trace_id) FROM ledger_event WHERE action = 'model.invoke'"


@dataclass
class Place:
    """A server, its database, a model server behind it, and what everybody was told."""

    server: Server
    cluster: Cluster
    name: str
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    upstream: Upstream = field(default_factory=Upstream)
    told: list[int] = field(default_factory=list)

    def connection(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=self.server.ready["ca"])
        return http.client.HTTPSConnection("127.0.0.1", self.server.port, timeout=LONG, context=context)

    def begin(
        self, connection: http.client.HTTPSConnection, token: str, **body: Any
    ) -> http.client.HTTPResponse:
        asked = {"model": "stub", "messages": [{"role": "user", "content": "hello"}], **body}
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {token}"} if token else {}
        )
        connection.request("POST", "/v1/chat/completions", body=json.dumps(asked), headers=headers)
        answer = connection.getresponse()
        self.told.append(answer.status)
        assert answer.status != 503 or answer.headers["Retry-After"]
        return answer

    def status(self, token: str, **body: Any) -> int:
        with closing(self.connection()) as connection, self.begin(connection, token, **body) as answer:
            answer.read()
            return answer.status

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self.cluster.sql(statement, self.name)


@pytest.fixture(scope="module")
def begun(
    postgres: Cluster, model_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """smollm2@1 published by root, approved by dana, serving; and a route to a scripted model server."""
    data, name = tmp_path_factory.mktemp("pg") / "data", postgres.make()
    data.mkdir(mode=0o700)
    (data / "garrison.toml").write_text(
        f'database = "{postgres.address(name)}"\nrequests_per_minute = 100000\ntokens_per_minute = 100000000\n'
    )
    made = Place(Server(data).start(), postgres, name)
    made.upstream.answer = streaming
    thread = threading.Thread(target=made.loop.run_forever)
    thread.start()
    try:
        address = asyncio.run_coroutine_threadsafe(made.upstream.start_http(), made.loop).result(LONG)
        made.server.ok("route", "add", "stub", "--upstream", address, "--tier", "internal")
        made.server.ok("user", "add", "dana", "--role", "approver")
        made.server.publish(model_directory, "smollm2@1")
        yield made
    finally:
        made.server.kill()
        made.loop.call_soon_threadsafe(made.upstream.gate.set)
        asyncio.run_coroutine_threadsafe(_closed(made.upstream), made.loop).result(LONG)
        made.loop.call_soon_threadsafe(made.loop.stop)
        thread.join(LONG)
        made.loop.close()


@pytest.fixture
def place(begun: Place) -> Place:
    """Two of the tests end with the server stopped, and nobody says which one comes next."""
    if begun.server.process is None:
        begun.server.start()
    return begun


async def _closed(upstream: Upstream) -> None:
    await upstream.stop()
    while upstream.running:
        await asyncio.sleep(0.01)


def streaming(asked: Asked) -> list[bytes]:
    if not asked.body.get("stream"):
        return completion("hello")
    begun = [STREAM_HEAD, chunk(event(delta(content="these words are shown at once ")))]
    ended = [delta(content="and these at the end"), delta(finish="stop")]
    return [*begun, WAIT, *(chunk(event(item)) for item in ended), chunk(event("[DONE]")), b"0\r\n\r\n"]


@pytest.mark.row("F09", kind="R")
def test_a_model_goes_from_a_file_to_an_answer_with_its_records_in_postgresql(place: Place) -> None:
    server = place.server
    refused = server.cli("serve", "smollm2@1")
    assert (refused.status, refused.code) == (1, "ART-NOT-APPROVED")
    server.ok("--as", "dana", "approve", "smollm2@1")
    server.ok("serve", "smollm2@1")
    assert place.status(server.token(model="smollm2"), model="smollm2", max_tokens=8) == 200
    assert place.status("") == 401
    assert server.ok("audit", "verify")["verdict"] == "intact"
    assert not (server.data / "garrison.db").exists()
    assert place.rows("SELECT version FROM releases WHERE name = 'smollm2'") == [(1,)]


def test_every_command_that_reads_without_a_server_reads_postgresql(place: Place) -> None:
    server = place.server
    doctor = server.cli("doctor").json  # who lost a race may have left something
    assert doctor["database"]["kind"] == "postgresql"
    assert server.ok("audit", "list", "--kind", "artifact.publish")["records"]
    assert len(server.ok("posture")["layers"]) == 5
    assert server.ok("detect", "replay", "--since", "1")["schema"] == "garrison.detect-replay/1"
    verified = server.ok("verify", str(server.data / "models" / "smollm2" / "1"), "--as", "smollm2@1")
    assert verified["recorded"]


def test_two_publishers_of_one_version_have_one_winner(place: Place, tmp_path: Path) -> None:
    running = []
    for number in (1, 2):
        source = tmp_path / f"m{number}"
        source.mkdir()
        (source / "config.json").write_text(json.dumps({"hidden_size": number}))
        words = [
            "--data",
            str(place.server.data),
            "--json",
            "model",
            "publish",
            str(source),
            "--as",
            "raced@1",
        ]
        running.append(
            subprocess.Popen(
                [*COMMAND, *words, "--owner", "o", "--tier", "public"],
                stdout=subprocess.PIPE,
                env=environment(),
            )
        )
    answers = [(process.communicate(timeout=LONG)[0], process.returncode) for process in running]
    assert sorted(status for _, status in answers) == [0, 1], answers
    assert place.rows("SELECT count(*) FROM releases WHERE name = 'raced'") == [(1,)]


def test_another_data_directory_and_a_copy_of_this_one_are_refused(place: Place, tmp_path: Path) -> None:
    other = Server(tmp_path / "other")
    words = ("--database", place.cluster.address(place.name))
    answer = other.try_start(*words)
    # The one that runs is in the way before anything is read.
    assert (answer.status, answer.code) == (1, "SRV-RUNNING")
    assert f"/{place.server.ready['pid']}" in answer.json["error"]["message"]


@pytest.mark.row("S35", kind="R")
def test_the_database_is_stopped_in_the_middle_of_everything_and_comes_back(place: Place) -> None:
    server, token = place.server, place.server.token(model="stub")
    stop = threading.Event()
    statuses: list[int] = []
    answered = threading.Semaphore(0)

    def keep_asking() -> None:
        with closing(place.connection()) as connection:
            while not stop.wait(0.02):
                with place.begin(connection, token) as answer:
                    answer.read()
                    statuses.append(answer.status)
                    answered.release()

    client = threading.Thread(target=keep_asking)
    with closing(place.connection()) as streamed, place.begin(streamed, token, stream=True) as answer:
        first = answer.readline()
        client.start()
        try:
            place.cluster.stop("immediate")
            try:
                while answered.acquire(blocking=False):
                    pass
                down = server.cli("user", "add", "lost", "--role", "user")
                assert (down.status, down.code) == (3, "DB-UNAVAILABLE")
                offline = server.cli("audit", "list")
                assert (offline.status, offline.code) == (3, "DB-UNAVAILABLE")
                assert [place.status("") for _ in range(3)] == [401] * 3
                assert [place.status("nobody") for _ in range(3)] == [401] * 3
                for _ in range(20):
                    assert answered.acquire(timeout=LONG)
                place.loop.call_soon_threadsafe(place.upstream.gate.set)
                text = first + answer.read()
            finally:
                place.cluster.start()
            assert run(["--data", str(server.data), "user", "list"]).status == 0
        finally:
            stop.set()
            client.join(LONG)
    assert set(statuses) == {200}
    said = [json.loads(line[6:]) for line in text.splitlines() if line.startswith(b"data: {")]
    words = "".join(one["choices"][0]["delta"].get("content", "") for one in said if one["choices"])
    assert words == "these words are shown at once and these at the end"
    assert text.rstrip().endswith(b"data: [DONE]")
    server.ok("user", "add", "found", "--role", "user")
    until = time.monotonic() + LONG
    while place.rows(INVOKED)[0][0] < len(place.told):
        assert time.monotonic() < until, "records are missing"
    assert server.stop() == 0
    assert place.rows(INVOKED) == [(len(place.told), len(place.told))], Counter(place.told)
    assert server.ok("audit", "verify")["verdict"] == "intact"
    assert place.rows("SELECT name FROM users WHERE name IN ('lost', 'found')") == [("found",)]


def test_without_its_database_a_server_does_not_start_and_says_what_to_do(place: Place) -> None:
    place.server.stop()
    place.cluster.stop("fast")
    try:
        answer = place.server.try_start()
        assert (answer.status, answer.code) == (3, "DB-UNAVAILABLE")
        assert "start PostgreSQL" in answer.json["error"]["next"]
        assert str(os.getpid()) not in answer.err
    finally:
        place.cluster.start()
