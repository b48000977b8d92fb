"""What dies under a gateway that serves: nothing leaves unrecorded or uninspected, and it recovers by itself."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.issuer import FakeIssuer
from tests.fakes.upstream import HANG, STREAM_HEAD, chunk, completion, delta, event, words
from tests.gateway.fronts import front_of
from tests.gateway.rig import WAIT, Rig, chat, parse_answer, read_answer
from tests.gateway.test_worker import launch

from garrison.app.broker import BrokerKeeper
from garrison.detect.handling import How
from garrison.detect.inspect import Inspector
from garrison.detect.patterns import Hit

LONG = 60.0  # seconds; an upper bound on a machine with other things to do
SHOWN = chunk(event(delta(content="some words that are shown at once, at once ")))
ASK = "/ext_authz/v1/chat/completions"


def test_a_disk_that_takes_no_line_stops_every_kind_of_answer_until_it_does(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    """The kernel refuses the writes of a real worker: a chat, a stream, a list, and a yes to a proxy that asks."""
    front = front_of(make_rig, tmp_path / "front")
    front.trusts()
    made = launch(front.rig, front.authority)
    proxy, asked = front.client("front"), front.rig.upstream.asked

    def ask(body: Any, **how: Any) -> tuple[int, str]:
        shown = front.context(proxy if how.get("path") == ASK else None)
        plain = socket.create_connection(("127.0.0.1", made.port), timeout=LONG)
        with shown.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(front.rig.request(body, **how))
            answer = parse_answer(read_answer(client))
        return answer.status, answer.code if answer.status != 200 else ""

    def answers() -> list[tuple[int, str]]:
        return [
            ask(chat()),
            ask(chat(stream=True)),
            ask(b"", path="/v1/models", method="GET"),
            ask(b"", path="/v1/models/smollm2", method="GET"),
            ask(chat(), path=ASK),
        ]

    try:
        assert answers() == [(200, "")] * 5
        before = len(asked)
        _, hard = resource.prlimit(made.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(made.process.pid, resource.RLIMIT_FSIZE, (0, hard))
        assert answers() == [(503, "AUD-BACKLOG")] * 5
        assert len(asked) == before
        resource.prlimit(made.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert answers() == [(200, "")] * 5
    finally:
        made.process.kill()
        made.process.wait(LONG)
        os.close(made.parent)
        assert made.process.stdout is not None
        made.process.stdout.close()


@pytest.mark.row("C16", kind="R")
def test_a_spool_that_somebody_removes_is_made_again_before_the_next_answer(rig: Rig) -> None:
    """The kernel would go on taking lines for a file that is no longer anywhere."""
    spool = rig.directory / "spool"
    for remove in (lambda: [file.unlink() for file in spool.glob("*")], lambda: shutil.rmtree(spool)):
        assert rig.ask(chat()).status == 200
        remove()
        for answer in (rig.ask(chat()), rig.ask(chat(stream=True)), rig.ask(chat(), token=None)):
            assert rig.event_of(answer)["trace_id"] == answer.headers["x-request-id"]
        begun = [line for line in rig.lines() if line["k"] == "b"]
        assert len(begun) == 2
    shutil.rmtree(spool)
    spool.write_text("a file is in the way")
    asked = len(rig.upstream.asked)
    refused = rig.ask(chat())
    assert (refused.status, refused.code) == (503, "AUD-BACKLOG")
    assert "garrison doctor" in refused.json["error"]["next"]
    assert len(rig.upstream.asked) == asked
    spool.unlink()
    assert rig.event_of(rig.ask(chat()))["outcome"] == "allowed"


class _Dies:
    """A real inspector whose stream stops working after some pieces."""

    def __init__(self, inner: Inspector, pieces: int) -> None:
        self.inner, self.left = inner, pieces
        self.is_clean, self.inspect = inner.is_clean, inner.inspect

    def open_output(self, how: How | None = None) -> tuple[Any, Any]:
        stream, redaction = self.inner.open_output(how)
        scan = stream.scan

        def failing(text: str) -> list[Hit]:
            self.left -= 1
            if self.left < 0:
                raise MemoryError("scratch")
            return scan(text)

        stream.scan = failing  # type: ignore[method-assign]  # that is how it dies
        return stream, redaction


@pytest.mark.row("S37", kind="R")
@pytest.mark.row("C13", kind="R")
def test_a_detector_that_dies_in_the_middle_of_a_stream_ends_it_there(rig: Rig) -> None:
    text = "".join(f"word{number} " for number in range(60))
    rig.upstream.answer = lambda asked: words(text) if asked.body.get("stream") else completion(text)
    whole = rig.plane.inspector
    for pieces in (0, 1, 40, 200):
        rig.plane.inspector = _Dies(whole, pieces)  # type: ignore[assignment, arg-type]  # as far as it is used
        answer = rig.ask(chat(stream=True))
        assert b'"code":"INTERNAL"' in answer.body
        assert b"[DONE]" not in answer.body
        found = rig.event_of(answer)
        assert found["data"]["ended"] in ("cut", "failed")
        assert found["data"].get("scanned_out", 0) <= pieces
        assert answer.body.count(b'"content":') <= pieces
    rig.plane.inspector = whole
    assert rig.ask(chat(stream=True)).body.endswith(b"data: [DONE]\n\n")


def test_a_broker_killed_in_the_middle_of_an_answer_ends_it_with_an_error_and_comes_back(
    rig: Rig, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("sk-live-0123456789\n")
    key.chmod(0o600)
    address = rig.run(rig.upstream.start_http())
    died: list[int] = []
    keeper = BrokerKeeper(tmp_path / "run", rig.loop, lambda _name, status: died.append(status))
    wanted = {"vendor": {"kind": "openai", "address": address, "models": ["gpt-x"], "key_file": str(key)}}
    try:
        broker = keeper.address(wanted)
        server = {"id": "v", "kind": "openai", "address": address, "model": "gpt-x", "key": "vendor"}
        rig.published(routes=[{**rig.routes[0], "upstreams": [server]}], broker=broker)
        assert rig.ask(chat()).status == 200
        rig.upstream.answer = lambda asked: [STREAM_HEAD, SHOWN, HANG]
        with socket.create_connection(("127.0.0.1", rig.port), timeout=LONG) as client:
            client.sendall(rig.request(chat(stream=True)))
            begun = client.recv(65_536)
            while b"shown" not in begun:
                begun += client.recv(65_536)
            assert keeper._current is not None
            keeper._current.process.send_signal(signal.SIGKILL)
            answer = parse_answer(begun + read_answer(client))
        assert b'"code":"GW-UPSTREAM"' in answer.body
        assert b"[DONE]" not in answer.body
        assert rig.event_of(answer)["data"]["ended"] == "cut"
        rig.upstream.answer = lambda asked: completion("hello")
        meanwhile = []

        def answered() -> bool:
            with socket.create_connection(("127.0.0.1", rig.port), timeout=LONG) as client:
                client.sendall(rig.request(chat()))
                meanwhile.append(parse_answer(read_answer(client)))
            return meanwhile[-1].status == 200

        rig.until(answered, seconds=LONG)
        assert {each.code for each in meanwhile[:-1]} <= {"GW-UPSTREAM", "GW-OPEN"}
        assert died == [-signal.SIGKILL]
        assert len(rig.events()) == len(meanwhile) + 2
    finally:
        rig.run(keeper.stop())


@pytest.mark.row("C06", kind="R")
def test_with_an_issuers_keys_too_old_its_tokens_are_503_and_ours_are_not(rig: Rig) -> None:
    issuer = FakeIssuer("https://login.example.com")
    issuer.add("first")
    facts = {
        "url": issuer.url,
        "audience": "garrison",
        "name": "corp",
        "claims": [["roles", "groups"]],
        "grants": [["ml-users", "user"]],
        "algorithms": ["ES256"],
    }
    body = {"issuer": facts, "keys": issuer.jwks()["keys"]}
    theirs = issuer.token(aud="garrison", groups=["ml-users"])
    now = int(time.time())
    for until, told in ((now + 600, 200), (now - 1, 503), (now + 600, 200)):
        rig.published(issuers=[{**body, "until": until}])
        answer = rig.ask(chat(), token=theirs)
        assert answer.status == told, answer.body
        assert rig.ask(chat()).status == 200
        if told == 503:
            assert answer.code == "TOK-ISSUER"
            assert answer.json["error"]["next"]
            assert int(answer.headers["retry-after"]) >= 1


def test_what_began_before_the_snapshot_ended_may_end_and_nothing_else_begins(rig: Rig) -> None:
    """With nobody there to sign another one."""
    rig.upstream.answer = lambda asked: [STREAM_HEAD, SHOWN, HANG]
    with socket.create_connection(("127.0.0.1", rig.port), timeout=LONG) as client:
        client.sendall(rig.request(chat(stream=True), token=rig.token(ttl=7_200)))
        begun = client.recv(65_536)
        while b"shown" not in begun:
            begun += client.recv(65_536)
        rig.wall_offset = 3_700
        for how in ({}, {"path": "/v1/models", "method": "GET"}):
            refused = rig.ask(chat(), **how)  # type: ignore[arg-type]  # a dict of two kinds
            assert (refused.status, refused.code) == (503, "GW-STALE")
            assert "garrison up" in refused.json["error"]["next"]
        assert rig.ask(b"", path="/readyz", method="GET").status == 503
        assert rig.ask(b"", path="/livez", method="GET").status == 200
        assert len(rig.plane.active) == 1
        assert len(rig.upstream.asked) == 1
    rig.wall_offset = 0.0
    rig.upstream.answer = lambda asked: completion("hello")
    assert rig.ask(chat()).status == 200
    with contextlib.suppress(json.JSONDecodeError):
        rig.until(lambda: not rig.plane.active, seconds=WAIT)
