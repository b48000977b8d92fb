"""HTTP/2 through a real Envoy and a real nginx with the configuration that Garrison renders, also when it is abused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.upstream import HANG, STREAM_HEAD, chunk, delta, event
from tests.gateway import proxies
from tests.gateway.fronts import Front, front_of
from tests.gateway.h2_client import H2Client, Reply, plain
from tests.gateway.rig import Rig, chat
from tests.gateway.smuggling import BODY, DOOR, SMUGGLING, Case

from garrison.detect.inspect import Inspector


@dataclass
class Fronted:
    """A plane, a proxy before it, and where that listens."""

    front: Front
    port: int
    room: Path

    @property
    def rig(self) -> Rig:
        return self.front.rig

    def connect(self, shown: str = "") -> H2Client:
        certificate = self.front.client(shown) if shown else None
        return H2Client(self.port, self.front.context(certificate))

    def ask(self, path: str = DOOR, token: str | None = "", body: bytes | None = BODY, **more: str) -> Reply:
        with self.connect(more.pop("shown", "")) as client:
            return client.ask(plain(path, self.rig.token() if token == "" else token, body, **more), body)


@pytest.fixture(scope="module")
def plane(inspector: Inspector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    made: list[Rig] = []

    def make(**settings: Any) -> Rig:
        made.append(Rig(tmp_path_factory.mktemp("plane"), inspector, **settings).start())
        return made[-1]

    front = front_of(make, tmp_path_factory.mktemp("front"))
    front.trusts(clients=True)
    yield front
    for rig in made:
        rig.stop()


@pytest.fixture(scope="module", params=["envoy", "nginx"])
def fronted(
    request: pytest.FixtureRequest, plane: Front, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fronted]:
    room = tmp_path_factory.mktemp(request.param)
    at = proxies.site(plane, room)
    port = int(at.listen.rpartition(":")[2])
    config = proxies.write(request.param, at, room)
    if request.param == "envoy":
        command = proxies.envoy_command(proxies.envoy(), config)
    else:
        command = proxies.nginx_command(proxies.nginx(), config, room)
    with proxies.running(command, port, room / "log"):
        yield Fronted(plane, port, room)


@pytest.mark.row("C02", kind="R")
def test_an_http2_client_is_answered_whole_and_streamed_over_one_connection(fronted: Fronted) -> None:
    token = fronted.rig.token()
    with fronted.connect() as client:
        numbers = [client.start(plain(DOOR, token, BODY), BODY) for _ in range(10)]
        replies = [client.until(number) for number in numbers]
        assert [reply.status for reply in replies] == [200] * 10
        ids = {reply.headers["x-request-id"] for reply in replies}
        assert len(ids) == 10
        body = json.dumps(chat(stream=True)).encode()
        streamed = client.ask(plain(DOOR, token, body), body)
        assert streamed.status == 200
        assert streamed.body.endswith(b"data: [DONE]\n\n")
        assert client.ask(plain("/v1/models", token)).status == 200
        assert client.ask(plain("/readyz", None)).body in (b"ok", b"ok\n")


def test_only_what_is_the_gateways_own_passes(fronted: Fronted) -> None:
    """The question door least of all: the proxy may ask there, and would ask for anybody."""
    for path in (
        f"/ext_authz{DOOR}",
        "/metrics",
        "/",
        "/v1/../ext_authz/v1/models",
        "/v1/%2e%2e/metrics",
        "/invocations",
    ):
        reply = fronted.ask(path)
        assert reply.status in (400, 404), path
    assert fronted.ask(DOOR + "?api-version=1").status == 404
    assert fronted.ask(token=None).status == 401


@pytest.mark.row("C05", kind="R")
def test_what_a_client_says_of_who_it_is_ends_at_the_proxy(fronted: Fronted) -> None:
    refused = fronted.ask(token=None, x_garrison_caller="root")
    assert (refused.status, json.loads(refused.body)["error"]["code"]) == (401, "TOK-MISSING")
    app = fronted.front.client("app")
    token = fronted.rig.token(cnf={"x5t#S256": app.thumbprint})
    assert fronted.ask(token=token, shown="app").status == 200
    for shown in ("", "thief"):
        stolen = fronted.ask(token=token, shown=shown, x_forwarded_client_cert=app.passed_on)
        assert (stolen.status, json.loads(stolen.body)["error"]["code"]) == (401, "TOK-BOUND")


@pytest.fixture(scope="module")
def smuggled(fronted: Fronted) -> dict[str, Reply]:
    """Each with a good token, so that nothing but the form can be the reason. A proxy takes its time to hang up."""
    token, before = fronted.rig.token().encode(), len(fronted.rig.upstream.asked)

    def send(case: Case) -> Reply:
        headers, body = case
        with fronted.connect() as client:
            return client.ask([(name, value.replace(b"TOKEN", token)) for name, value in headers], body)

    with ThreadPoolExecutor(10) as together:
        replies = dict(zip(SMUGGLING, together.map(send, SMUGGLING.values()), strict=True))
    assert len(fronted.rig.upstream.asked) == before  # the model server saw nothing
    return replies


@pytest.mark.row("C01", kind="R")
@pytest.mark.parametrize("name", SMUGGLING)
def test_what_http2_could_smuggle_into_http1_is_refused(smuggled: dict[str, Reply], name: str) -> None:
    reply = smuggled[name]
    assert reply.status == 0 or 400 <= reply.status < 500, reply


def test_after_all_that_a_request_gets_its_own_answer(fronted: Fronted, smuggled: dict[str, Reply]) -> None:
    after = fronted.ask()
    assert (after.status, json.loads(after.body)["choices"][0]["message"]["content"]) == (200, "hello")


def test_a_body_above_the_limit_is_refused_by_the_proxy(fronted: Fronted) -> None:
    body = json.dumps(chat("x" * (3 << 20))).encode()
    reply = fronted.ask(body=body)
    assert reply.status in (0, 413)


def test_a_stream_is_not_held_back_and_who_leaves_ends_it(fronted: Fronted) -> None:
    """The first words arrive although the last ones never come; then the client goes, and the model server knows."""
    upstream = fronted.rig.upstream
    known, before = upstream.answer, upstream.left
    upstream.answer = lambda _asked: [STREAM_HEAD, chunk(event(delta(content="one two three. " * 40))), HANG]
    body = json.dumps(chat(stream=True)).encode()
    try:
        with fronted.connect() as client:
            number = client.start(plain(DOOR, fronted.rig.token(), body), body)
            while b"one two three" not in client.replies[number].body:
                assert client.read()
            assert not client.replies[number].over
            client.talk.reset_stream(number)
            client.flush()
            fronted.rig.until(lambda: upstream.left == before + 1, 60)
    finally:
        upstream.answer = known


def test_the_shipped_configuration_is_read_by_its_program(plane: Front, tmp_path: Path) -> None:
    for ask in (False, True):
        config = proxies.write("envoy", proxies.site(plane, tmp_path, ask=ask, http3=True), tmp_path)
        done = subprocess.run(
            [str(proxies.envoy()), "--mode", "validate", "-c", str(config)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    config = proxies.write("nginx", proxies.site(plane, tmp_path), tmp_path)
    words_ = [
        str(proxies.nginx()),
        "-t",
        "-c",
        str(config),
        "-e",
        str(tmp_path / "error"),
        "-g",
        f"pid {tmp_path}/pid;",
    ]
    done = subprocess.run(words_, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
