"""Who is let in at a real server: tokens of two real providers, keys that change, people who are locked out."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.fakes.upstream import HANG, STREAM_HEAD, Asked, Upstream, chunk, completion, delta, event
from tests.flows.providers import access_token, ec_key, id_token, node_provider, python_provider
from tests.flows.server import Server, free_port

BODY = {"model": "open", "messages": [{"role": "user", "content": "hello"}]}


@dataclass
class Gate:
    """A server with a route to a model that something else serves, two workers, and a client without opinion."""

    server: Server
    upstream: Upstream
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def connect(self, **certificates: Any) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=self.server.ready["ca"])
        if certificates:
            context.load_cert_chain(**certificates)
        return http.client.HTTPSConnection("127.0.0.1", self.server.port, timeout=30, context=context)

    def ask(
        self, token: str, body: dict[str, Any] | None = None, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        connection = self.connect()
        try:
            sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
            connection.request("POST", "/v1/chat/completions", body=json.dumps(body or BODY), headers=sent)
            with connection.getresponse() as answer:
                return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def code(self, token: str, **more: Any) -> str:
        status, body = self.ask(token, **more)
        return "" if status == 200 else str(body["error"]["code"])

    def until(self, true: Callable[[], bool], seconds: float = 15.0) -> float:
        """Wait for something; how long it took."""
        began = time.monotonic()
        while not true():
            assert time.monotonic() - began < seconds, "it did not happen"
            time.sleep(0.02)
        return time.monotonic() - began


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    data = tmp_path_factory.mktemp("identity") / "data"
    data.mkdir(mode=0o700)
    (data / "garrison.toml").write_text("workers = 2\n")
    made = Gate(Server(data).start(), Upstream())
    thread = threading.Thread(target=made.loop.run_forever)
    thread.start()
    try:
        address = asyncio.run_coroutine_threadsafe(made.upstream.start_http(), made.loop).result(10)
        made.server.ok("route", "add", "open", "--upstream", address, "--tier", "internal")
        yield made
        assert made.server.stop() == 0
    finally:
        made.server.kill()
        asyncio.run_coroutine_threadsafe(_closed(made.upstream), made.loop).result(10)
        made.loop.call_soon_threadsafe(made.loop.stop)
        thread.join()
        made.loop.close()


async def _closed(upstream: Upstream) -> None:
    await upstream.stop()
    while upstream.running:
        await asyncio.sleep(0.01)


@pytest.fixture
def endless(gate: Gate) -> Iterator[None]:
    """Streams begin and do not end by themselves."""
    before = gate.upstream.answer

    def answer(asked: Asked) -> list[bytes]:
        if asked.body.get("stream"):
            return [STREAM_HEAD, chunk(event(delta(content="these words are shown at once "))), HANG]
        return completion("hello")

    gate.upstream.answer = answer
    yield
    gate.upstream.answer = before


@pytest.mark.row("C06", kind="R")
def test_people_of_a_real_provider_are_let_in_and_locked_out(gate: Gate) -> None:
    with python_provider() as url:
        gate.server.ok(
            "issuer", "add", url, "--audience", "garrison", "--name", "people", "--role", "user", "--without-nbf",
            "--loopback", "--condition", "sub=alice", "--condition", "sub=bob",
        )  # fmt: skip
        alice, bob = (id_token(url, name, "garrison") for name in ("alice", "bob"))
        assert gate.code(alice) == gate.code(bob) == ""
        assert gate.code(id_token(url, "mallory", "garrison")) == "TOK-INVALID"
        assert gate.code(id_token(url, "alice", "another-application")) == "TOK-INVALID"
        gate.server.ok("user", "disable", "people|alice")
        gate.until(lambda: gate.code(alice) == "TOK-REVOKED", 5)
        assert gate.code(bob) == ""
        gate.server.ok("issuer", "remove", url)
        gate.until(lambda: gate.code(bob) == "TOK-INVALID", 5)


@pytest.mark.row("C06", kind="R")
def test_keys_of_a_real_provider_change_without_a_restart_and_outlive_it(gate: Gate) -> None:
    port, first, second = free_port(), ec_key("first"), ec_key("second")
    with node_provider(port, [first]) as url:
        gate.server.ok(
            "issuer", "add", url, "--audience", "garrison", "--name", "programs", "--loopback",
            "--claims-map", "sub=client_id,roles=groups", "--grant", "ml-users=user",
        )  # fmt: skip
        old = access_token(url)
        assert gate.code(old) == ""
    assert gate.code(old) == ""  # it is away, and its keys are fresh enough
    with node_provider(port, [second]) as url:
        new = access_token(url)
        took = gate.until(lambda: gate.code(new) == "")
        assert took < 12, took
        gate.until(lambda: gate.code(old) == "TOK-INVALID", 5)  # the key that signed it was withdrawn
        (known,) = [one for one in gate.server.ok("issuer", "list")["issuers"] if one["name"] == "programs"]
        assert (known["keys"], known["state"]) == (["second"], "ok")
        gate.server.ok("issuer", "remove", url)


@pytest.mark.row("C06", kind="R")
@pytest.mark.usefixtures("endless")
@pytest.mark.parametrize("how", ["token", "user"])
def test_who_is_locked_out_is_cut_in_the_middle_of_a_stream_within_five_seconds(gate: Gate, how: str) -> None:
    name = f"erin-{how}"
    gate.server.ok("user", "add", name, "--role", "user")
    issued = gate.server.ok("token", "issue", "--subject", name, "--role", "user", "--model", "open")
    connection = gate.connect()
    headers = {"Authorization": f"Bearer {issued['token']}", "Content-Type": "application/json"}
    connection.request(
        "POST", "/v1/chat/completions", body=json.dumps(BODY | {"stream": True}), headers=headers
    )
    with connection.getresponse() as answer:
        assert answer.status == 200
        assert answer.readline().startswith(b"data: ")
        began = time.monotonic()
        words = ("token", "revoke", issued["token_id"]) if how == "token" else ("user", "disable", name)
        revoking = threading.Thread(target=gate.server.ok, args=words)
        revoking.start()
        rest = answer.read()
        took = time.monotonic() - began
        revoking.join()
    connection.close()
    assert b"TOK-REVOKED" in rest
    assert b"[DONE]" not in rest
    assert took < 5, took
    assert gate.code(issued["token"]) == "TOK-REVOKED"
