"""Who is let in at a real server: tokens of two real providers, keys that change, people who are locked out."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import signal
import sqlite3
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
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
            time.sleep(0.3)  # each try may be a bad login, and fifty in ten seconds lock this address out
        return time.monotonic() - began


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    data = tmp_path_factory.mktemp("identity") / "data"
    data.mkdir(mode=0o700)
    (data / "garrison.toml").write_text(
        "workers = 2\nrequests_per_minute = 100000\ntokens_per_minute = 100000000\n"
    )
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


@pytest.mark.row("S28", kind="R")
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


@pytest.mark.row("S27", kind="R")
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


@pytest.mark.row("C05", kind="R")
def test_nothing_is_answered_to_nobody(gate: Gate) -> None:
    result = gate.server.ok("gateway", "selftest", "--anon")
    assert result["answered"] == []
    assert result["tried"] > 500
    assert {probe["bytes"] for probe in result["probes"].values()} <= {0, 3}


@pytest.mark.row("S25", kind="R")
@pytest.mark.row("B08", kind="R")
def test_bad_certificates_are_turned_away_at_both_ends_and_good_ones_are_not(gate: Gate) -> None:
    result = gate.server.ok("mesh", "check")
    assert [(row["tried"], row["accepted"], row["good_certificate"]) for row in result["hops"]] == [
        (7, [], "let in")
    ] * 2
    incoming, outgoing = (row["met"] for row in result["hops"])
    assert incoming.pop("wrong SAN") == "401"
    assert set(incoming.values()) == set(outgoing.values()) == {"tls"}
    assert result["sockets"]
    assert all(row["closed"] for row in result["sockets"])


@dataclass
class Workload:
    """A service account with a key of its own and a certificate for it."""

    name: str
    file: Path
    token_id: str


def enrolled(gate: Gate, place: Path, name: str) -> Workload:
    key, request, out = (place / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
    words = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run(
        [*words, "-keyout", key, "-subj", "/CN=x", "-out", request], check=True, capture_output=True
    )
    gate.server.ok("user", "add", name, "--role", "service", "--model", "open")
    issued = gate.server.ok("user", "certificate", name, "--csr", str(request), "--out", str(out))
    assert issued["spiffe"] == f"spiffe://garrison/{name}"
    together = place / f"{name}.both"
    together.write_bytes(out.read_bytes() + key.read_bytes())
    return Workload(name, together, issued["token_id"])


def shown(
    gate: Gate, workload: Workload | None, token: str = "", path: str = "/v1/chat/completions"
) -> tuple[int, str]:
    """Status and code of a request with a client certificate, a token, or both."""
    connection = gate.connect(**({"certfile": workload.file} if workload else {}))
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    try:
        connection.request("POST", path, body=json.dumps(BODY), headers=headers)
        with connection.getresponse() as answer:
            body = json.loads(answer.read())
            return answer.status, body.get("error", {}).get("code", "")
    finally:
        connection.close()


@pytest.mark.row("B08", kind="R")
def test_a_workload_is_let_in_by_its_certificate_until_that_is_revoked(gate: Gate, tmp_path: Path) -> None:
    app, other = enrolled(gate, tmp_path, "app-one"), enrolled(gate, tmp_path, "app-two")
    assert shown(gate, app) == (200, "")
    assert shown(gate, None) == (401, "TOK-MISSING")
    gate.server.ok("token", "revoke", app.token_id)
    gate.until(lambda: shown(gate, app) == (401, "TOK-REVOKED"), 5)
    assert shown(gate, other) == (200, "")
    gate.server.ok("user", "disable", "app-two")
    gate.until(lambda: shown(gate, other)[0] == 401, 5)


@pytest.mark.row("C06", kind="R")
def test_a_token_bound_to_a_certificate_is_worth_nothing_without_its_key(gate: Gate, tmp_path: Path) -> None:
    app, thief = enrolled(gate, tmp_path, "bound-app"), enrolled(gate, tmp_path, "thief")
    issue = [
        "token",
        "issue",
        "--subject",
        "dora",
        "--role",
        "user",
        "--model",
        "open",
        "--bind",
        str(app.file),
    ]
    token = gate.server.ok(*issue)["token"]
    assert shown(gate, app, token) == (200, "")
    assert shown(gate, thief, token) == (401, "TOK-BOUND")
    assert shown(gate, None, token) == (401, "TOK-BOUND")
    (tmp_path / "token").write_text(token)
    assert gate.server.cli("--token-file", str(tmp_path / "token"), "user", "list").code == "TOK-BOUND"


@pytest.mark.row("C27", kind="R")
def test_an_agent_has_what_both_it_and_its_user_have(gate: Gate, tmp_path: Path) -> None:
    def issued(subject: str, role: str, *models: str) -> Path:
        words = [word for model in models for word in ("--model", model)]
        answer = gate.server.ok("token", "issue", "--subject", subject, "--role", role, *words)
        file = tmp_path / f"{subject}.jwt"
        file.write_text(answer["token"])
        ids[subject] = answer["token_id"]
        return file

    def exchanged(user: Path, agent: Path) -> str:
        words = ["--subject-token", str(user), "--actor-token", str(agent)]
        return str(gate.server.ok("token", "exchange", *words)["access_token"])

    ids: dict[str, str] = {}
    user, agent = issued("uma", "user", "open"), issued("bot", "service", "open", "closed")
    narrow, stranger = issued("una", "user", "closed"), issued("bit", "service", "closed")
    both = exchanged(user, agent)
    assert gate.code(both) == ""
    assert gate.code(exchanged(narrow, agent)) == "RBAC-DELEGATE"  # what the user may not, the agent may not
    assert gate.code(exchanged(user, stranger)) == "RBAC-DELEGATE"  # and the other way round
    (tmp_path / "both").write_text(both)
    assert gate.server.cli("--token-file", str(tmp_path / "both"), "user", "list").code == "RBAC-DELEGATE"
    words = ["token", "exchange", "--subject-token", str(tmp_path / "both"), "--actor-token", str(agent)]
    assert gate.server.cli(*words).code == "TOK-EXCHANGE"
    assert gate.server.cli(*words[:3], str(user), "--actor-token", str(user)).code in (
        "TOK-EXCHANGE",
        "RBAC-403",
    )
    gate.server.ok("token", "revoke", ids["uma"])  # with the user's own token goes what came from it
    gate.until(lambda: gate.code(both) == "TOK-REVOKED", 5)


@pytest.mark.row("C06", kind="R")
def test_an_api_key_is_short_scoped_kept_as_a_hash_and_revoked_like_a_token(gate: Gate) -> None:
    issued = gate.server.ok(
        "token", "issue", "--subject", "legacy", "--model", "open", "--api-key", "--ttl", "1h"
    )
    key = issued["token"]
    assert gate.code(key) == ""
    assert gate.code(key, body=BODY | {"model": "other"}) == "RBAC-MODEL"
    assert gate.code(key[:-1] + ("A" if key[-1] != "A" else "B")) == "TOK-INVALID"
    assert gate.server.cli("token", "issue", "--subject", "x", "--api-key").code == "ARG-MISSING"
    long = gate.server.cli("token", "issue", "--subject", "x", "--model", "open", "--api-key", "--ttl", "30d")
    assert (long.status, long.code) == (1, "TOK-TTL")
    secret = key.removeprefix("garrison-key-").encode()
    files = [path for path in gate.server.data.rglob("*") if path.is_file()]
    assert not [path for path in files if secret in path.read_bytes()]
    gate.server.ok("token", "revoke", issued["token_id"])
    gate.until(lambda: gate.code(key) == "TOK-REVOKED", 5)


@pytest.mark.row("C07", kind="R")
def test_a_limit_that_was_set_holds_over_all_workers_and_a_budget_by_the_price(gate: Gate) -> None:
    gate.server.ok("limit", "set", "trial", "--identity", "tess", "--requests-per-minute", "25")
    token = gate.server.ok("token", "issue", "--subject", "tess", "--role", "user", "--model", "open")[
        "token"
    ]
    with ThreadPoolExecutor(
        6
    ) as pool:  # each request over a connection of its own: the kernel picks a worker
        codes = list(pool.map(lambda _: gate.code(token), range(40)))
    assert (codes.count(""), codes.count("LIM-RATE")) == (25, 15)
    gate.server.ok("limit", "remove", "trial")
    gate.server.ok("limit", "price", "open", "--input", "1", "--output", "1000000")
    gate.server.ok("limit", "set", "acme", "--tenant", "acme", "--money-per-day", "20")
    issue = [
        "token",
        "issue",
        "--subject",
        "acme-app",
        "--role",
        "user",
        "--model",
        "open",
        "--tenant",
        "acme",
    ]
    token = gate.server.ok(*issue)["token"]
    dear = BODY | {"max_tokens": 10}  # reserves 10 and costs 7
    gate.until(lambda: gate.code(token, body=dear) == "")
    assert [gate.code(token, body=dear) for _ in range(2)] == ["", "LIM-RATE"]
    status, answer = gate.ask(token, dear)
    assert (status, answer["error"]["evidence"]["limit"]) == (429, "money_per_day")
    listed = gate.server.ok("limit", "list")
    assert [one["name"] for one in listed["limits"]] == ["default", "acme"]


@pytest.mark.row("B07", kind="R")
@pytest.mark.row("B08", kind="R")
def test_certificates_rotate_under_load_and_no_request_fails(gate: Gate) -> None:
    gate.server.ok("user", "add", "load", "--role", "user")
    token = gate.server.ok("token", "issue", "--subject", "load", "--role", "user", "--model", "open")[
        "token"
    ]

    def serial() -> str:
        pem = ssl.get_server_certificate(("127.0.0.1", gate.server.port))
        return hashlib.sha256(pem.encode()).hexdigest()

    before = {serial() for _ in range(12)}
    stop, failed, statuses = threading.Event(), list[str](), list[int]()

    def load() -> None:
        while not stop.is_set():
            try:
                statuses.append(gate.ask(token)[0])
            except OSError as error:
                failed.append(repr(error))

    clients = [threading.Thread(target=load) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        for _ in range(2):
            gate.server.ok("mesh", "rotate")
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert failed == []
    assert len(statuses) > 20
    assert set(statuses) == {200}
    assert not {serial() for _ in range(12)} & before


@pytest.mark.row("S35", kind="R")
@pytest.mark.row("C05", kind="R")
def test_with_the_database_locked_or_the_control_process_frozen_requests_go_on(gate: Gate) -> None:
    """On the last snapshot; that its end is an end is proved where a clock can be moved."""
    token = gate.server.token(model="open")
    with contextlib.closing(
        sqlite3.connect(gate.server.data / "garrison.db", isolation_level=None)
    ) as database:
        database.execute("BEGIN IMMEDIATE")
        assert [gate.code(token) for _ in range(6)] == [""] * 6
        assert gate.code("nobody") == "TOK-INVALID"
        database.execute("ROLLBACK")
    os.kill(gate.server.ready["pid"], signal.SIGSTOP)
    try:
        assert [gate.code(token) for _ in range(6)] == [""] * 6
        assert gate.code("nobody") == "TOK-INVALID"
    finally:
        os.kill(gate.server.ready["pid"], signal.SIGCONT)
    issued = gate.server.ok("token", "issue", "--subject", "ida", "--role", "user", "--model", "open")
    gate.server.ok("token", "revoke", issued["token_id"])
    gate.until(lambda: gate.code(issued["token"]) == "TOK-REVOKED", 5)


@pytest.mark.row("C24", kind="R")
def test_fifty_bad_logins_are_counted_by_reason_and_slowed_down(gate: Gate) -> None:
    # Last: for ten seconds afterwards nobody on this machine is let in with a token that is new.
    good = gate.server.token(model="open")
    assert [gate.code(good) for _ in range(12)] == [""] * 12  # both workers know it now
    head, body, _ = good.split(".")
    codes = [gate.code(f"{head}.{body}.{'A' * 80}{number:06d}") for number in range(260)]
    assert set(codes) == {"TOK-INVALID", "LIM-AUTH"}
    assert codes.count("TOK-INVALID") <= 2 * 2 * 50  # of two workers, in at most two windows
    assert gate.code(good) == ""  # what is known to be good goes on
    failed = gate.server.ok("audit", "list", "--kind", "model.invoke", "--limit", "200")["records"]
    reasons = [one["data"]["authentication"] for one in failed if "authentication" in one.get("data", {})]
    assert {"source": "127.0.0.1", "reason": "signature", "identity": ""} in reasons
    gate.until(
        lambda: "AUTH-ALERT" in [one["code"] for one in gate.server.ok("alerts", "list")["alerts"]], 60
    )
    gateway = next(one for one in gate.server.ok("posture")["layers"] if one["name"] == "gateway")
    counted = next(one["what"] for one in gateway["items"] if "failed logins" in one["what"])
    assert int(counted.split()[0]) >= 260
    assert "AUTH-ALERT" in [one["code"] for one in gateway["items"]]
