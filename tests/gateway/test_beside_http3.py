"""HTTP/3 through a real Envoy with the configuration that Garrison renders, also when it is abused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.fakes.upstream import HANG, STREAM_HEAD, chunk, delta, event
from tests.gateway import proxies
from tests.gateway.fronts import Front, front_of
from tests.gateway.h2_client import H2Client, Reply, plain
from tests.gateway.h3_client import connected
from tests.gateway.rig import Rig, chat
from tests.gateway.smuggling import BODY, DOOR, SMUGGLING

from garrison.detect.inspect import Inspector


@dataclass
class Edge:
    """A plane, Envoy before it, and the one port where that takes TCP and UDP."""

    front: Front
    port: int

    @property
    def rig(self) -> Rig:
        return self.front.rig

    def ask(self, path: str = DOOR, token: str | None = "", body: bytes | None = BODY, **more: str) -> Reply:
        async def work() -> Reply:
            async with connected(self.port, self.front.ca) as client:
                headers = plain(path, self.rig.token() if token == "" else token, body, **more)
                return await client.ask(headers, body)

        return asyncio.run(work())


@pytest.fixture(scope="module")
def edge(inspector: Inspector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    made: list[Rig] = []

    def make(**settings: Any) -> Rig:
        made.append(Rig(tmp_path_factory.mktemp("plane"), inspector, **settings).start())
        return made[-1]

    binary, room = proxies.envoy(), tmp_path_factory.mktemp("envoy")
    try:
        front = front_of(make, tmp_path_factory.mktemp("front"))
        front.trusts(clients=True)
        at = proxies.site(front, room, http3=True)
        port = int(at.listen.rpartition(":")[2])
        command = proxies.envoy_command(binary, proxies.write("envoy", at, room))
        with proxies.running(command, port, room / "log"):
            yield Edge(front, port)
    finally:
        for rig in made:
            rig.stop()


@pytest.mark.row("C02", kind="R")
def test_an_http3_client_is_answered_whole_and_streamed_over_one_connection(edge: Edge) -> None:
    token, streamed = edge.rig.token(), json.dumps(chat(stream=True)).encode()

    async def work() -> list[Reply]:
        async with connected(edge.port, edge.front.ca) as client:
            numbers = [client.start(plain(DOOR, token, BODY), BODY) for _ in range(10)]
            replies = [await client.until(number) for number in numbers]
            replies.append(await client.ask(plain(DOOR, token, streamed), streamed))
            replies.append(await client.ask(plain("/v1/models", token)))
            return replies

    replies = asyncio.run(work())
    assert [reply.status for reply in replies] == [200] * 12
    assert len({reply.headers["x-request-id"] for reply in replies}) == 12
    assert json.loads(replies[0].body)["choices"][0]["message"]["content"] == "hello"
    assert replies[10].body.endswith(b"data: [DONE]\n\n")


def test_a_client_of_http2_is_told_where_http3_is(edge: Edge) -> None:
    with H2Client(edge.port, edge.front.context()) as client:
        reply = client.ask(plain("/v1/models", edge.rig.token()))
    assert (reply.status, reply.headers["alt-svc"]) == (200, f'h3=":{edge.port}"; ma=86400')


@pytest.mark.row("C05", kind="R")
def test_over_http3_too_nobody_says_who_they_are_by_a_header(edge: Edge) -> None:
    """A token that is bound to a certificate is of no use there: Envoy takes no certificates over QUIC."""
    app = edge.front.client("app")
    bound = edge.rig.token(cnf={"x5t#S256": app.thumbprint})
    for token, said, code in (
        (None, {}, "TOK-MISSING"),
        (None, {"x_garrison_caller": "root"}, "TOK-MISSING"),
        (None, {"x_forwarded_client_cert": app.passed_on}, "TOK-MISSING"),
        (bound, {"x_forwarded_client_cert": app.passed_on}, "TOK-BOUND"),
    ):
        reply = edge.ask(token=token, **said)
        assert (reply.status, json.loads(reply.body)["error"]["code"]) == (401, code)
    for path in (f"/ext_authz{DOOR}", "/metrics", "/", "/v1/../ext_authz/v1/models", DOOR + "?a=1"):
        assert edge.ask(path).status in (400, 404), path


def test_a_stream_over_http3_is_not_held_back_and_who_leaves_ends_it(edge: Edge) -> None:
    upstream = edge.rig.upstream
    known, before = upstream.answer, upstream.left
    upstream.answer = lambda _asked: [STREAM_HEAD, chunk(event(delta(content="one two three. " * 40))), HANG]
    body = json.dumps(chat(stream=True)).encode()

    async def work() -> Reply:
        async with connected(edge.port, edge.front.ca) as client:
            number = client.start(plain(DOOR, edge.rig.token(), body), body)
            reply = await client.until(number, b"one two three")
            assert not reply.over
            client.leave(number)
            await asyncio.to_thread(edge.rig.until, lambda: upstream.left == before + 1, 60)
            return reply

    try:
        assert asyncio.run(work()).status == 200
    finally:
        upstream.answer = known


# QPACK as it is written here has no empty name. Envoy does not look at the scheme over HTTP/3, and makes nothing of it.
SENT = [name for name in SMUGGLING if name not in ("empty name", "a path in the scheme")]


@pytest.fixture(scope="module")
def smuggled(edge: Edge) -> dict[str, Reply]:
    token, before = edge.rig.token().encode(), len(edge.rig.upstream.asked)

    async def send(name: str) -> Reply:
        headers, body = SMUGGLING[name]
        async with connected(edge.port, edge.front.ca) as client:
            return await client.ask([(key, value.replace(b"TOKEN", token)) for key, value in headers], body)

    async def work() -> list[Reply]:
        return await asyncio.gather(*map(send, SENT))

    replies = dict(zip(SENT, asyncio.run(work()), strict=True))
    assert len(edge.rig.upstream.asked) == before  # the model server saw nothing
    return replies


@pytest.mark.row("C01", kind="R")
@pytest.mark.parametrize("name", SENT)
def test_what_http3_could_smuggle_into_http1_is_refused(smuggled: dict[str, Reply], name: str) -> None:
    reply = smuggled[name]
    assert reply.status == 0 or 400 <= reply.status < 500, reply


def test_after_all_that_a_request_over_http3_gets_its_own_answer(
    edge: Edge, smuggled: dict[str, Reply]
) -> None:
    assert smuggled
    after = edge.ask()
    assert (after.status, json.loads(after.body)["choices"][0]["message"]["content"]) == (200, "hello")
