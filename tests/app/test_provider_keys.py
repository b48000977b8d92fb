"""Keys of model servers that somebody else runs: read from a file once, known to one process, sent to one place."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tests.app.household import Household
from tests.fakes.upstream import Upstream, completion

from garrison.app.broker import BrokerKeeper
from garrison.core.errors import GarrisonError, Refused, Usage
from garrison.trust.ca import open_authority, server_context
from garrison.trust.keys.file import FileSigner

SECRET = "sk-very-secret-2718281828"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


def route(key: Path, **options: Any) -> dict[str, Any]:
    given = {"kind": "openai", "model": "gpt-x", "key_file": str(key), **options}
    return {"name": "gpt", "upstream": "https://api.example.org", "tier": "public", "options": given}


def test_a_route_with_a_key_names_the_key_and_never_holds_it(home: Household, key_file: Path) -> None:
    told: list[Any] = []
    home.house.broker = lambda wanted: told.append(wanted) or "unix:/run/broker.sock"  # type: ignore[func-returns-value]  # it is for its effect
    home.ask("route.add", **route(key_file, stream="buffer", images=True))
    envelope = json.loads((home.house.settings.run / "snapshot.json").read_bytes())
    assert SECRET not in json.dumps(envelope)
    wanted = told[-1]["gpt.main"]
    assert (wanted["address"], wanted["models"]) == ("https://api.example.org", ["gpt-x"])
    for path in home.house.settings.data.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    home.edit("UPDATE routes SET options = ? WHERE name = 'gpt'", "{}")
    home.house.publish_snapshot()
    assert told[-1] == {}  # the ledger tells of another route: the row is not used


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"kind": "ollama"}, "ROUTE-OPTION"),
        ({"stream": "later"}, "ROUTE-OPTION"),
        ({"stream": "audit", "found": "block"}, "ROUTE-OPTION"),
        (
            {"upstreams": [{"id": "a", "kind": "openai", "address": "http://h:1", "tier": "public", "x": 1}]},
            "ROUTE-OPTION",
        ),
        ({"upstreams": [{"id": "a", "kind": "openai", "address": "ftp://h"}]}, "ROUTE-OPTION"),
        ({"key_file": "key"}, "ROUTE-OPTION"),
        ({"key_file": "/nowhere/key"}, "ROUTE-KEY"),
        ({"client_file": "relative"}, "ROUTE-OPTION"),
        ({"client_file": "/nowhere/client"}, "ROUTE-KEY"),
        ({"ca": "this is not PEM"}, "ROUTE-OPTION"),
        (
            {"upstreams": [{"id": "a", "kind": "openai", "address": "http://h:1", "ca": "x"}]},
            "ROUTE-OPTION",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(
    home: Household, key_file: Path, options: dict[str, Any], code: str
) -> None:
    with pytest.raises(GarrisonError) as caught:
        home.ask("route.add", **route(key_file, **options))
    assert caught.value.code == code


@pytest.mark.row("S50", kind="R")
@pytest.mark.row("B15", kind="R")
def test_a_server_of_a_lower_tier_than_its_route_is_refused(home: Household) -> None:
    low = {"id": "cloud", "kind": "openai", "address": "https://api.example.org", "tier": "public"}
    own = {"id": "own", "kind": "openai", "address": "http://127.0.0.1:9"}
    with pytest.raises(Usage, match="lower tier"):
        home.ask(
            "route.add",
            name="r",
            upstream="http://127.0.0.1:9",
            tier="secret",
            options={"upstreams": [own, low]},
        )


def test_a_key_file_that_others_read_is_refused(home: Household, key_file: Path) -> None:
    key_file.chmod(0o644)
    with pytest.raises(Refused) as caught:
        home.ask("route.add", **route(key_file))
    assert caught.value.code == "ROUTE-KEY"
    assert SECRET not in str(caught.value)


def test_the_broker_adds_the_key_over_verified_tls_and_comes_back_after_a_kill(
    tmp_path: Path, key_file: Path
) -> None:
    authority = open_authority(FileSigner("ca"), tmp_path / "ca.pem")
    died: list[int] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()
        upstream = Upstream(answer=lambda asked: completion("hello"))
        server = await asyncio.start_server(
            upstream._serve,
            "127.0.0.1",
            0,
            ssl=server_context(authority.issue_server(["localhost"], hours=1)),
        )
        port = server.sockets[0].getsockname()[1]
        facts = {"kind": "openai", "models": ["gpt-x"], "key_file": str(key_file), "region": ""}
        wanted = {
            "good": {**facts, "address": f"https://localhost:{port}"},
            "other name": {**facts, "address": f"https://127.0.0.1:{port}"},
            "no file": {**facts, "address": f"https://localhost:{port}", "key_file": "/nowhere"},
        }
        ca = (tmp_path / "ca.pem").read_text()
        keeper = BrokerKeeper(tmp_path, loop, lambda _name, status: died.append(status), ca)
        address = await asyncio.to_thread(keeper.address, wanted)
        assert address == await asyncio.to_thread(keeper.address, wanted)

        async def ask(key: str, path: str = "/v1/chat/completions") -> int:
            reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
            head = (
                f"POST {path} HTTP/1.1\r\nhost: localhost\r\nx-garrison-key: {key}\r\nconnection: close\r\n"
            )
            writer.write(f"{head}content-length: 2\r\n\r\n{{}}".encode())
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            assert SECRET.encode() not in answer
            return int(answer.split(b" ")[1])

        assert await ask("good") == 200
        (asked,) = upstream.asked
        assert asked.headers["authorization"] == f"bearer {SECRET}"
        assert await ask("other name") == 502  # its certificate is not for that name: no byte was sent
        for key, path in (
            ("no file", "/v1/chat/completions"),
            ("none", "/v1/chat/completions"),
            ("good", "/v1/files"),
        ):
            assert await ask(key, path) == 403
        assert len(upstream.asked) == 1
        running = keeper._current
        assert running is not None
        for name in ("environ", "cmdline"):
            assert SECRET.encode() not in Path(f"/proc/{running.process.pid}/{name}").read_bytes()
        running.process.send_signal(signal.SIGKILL)
        while keeper._current is running or not os.path.exists(running.socket):
            await asyncio.sleep(0.01)
        assert await ask("good") == 200
        assert died == [-signal.SIGKILL]
        await keeper.stop()
        server.close()

    asyncio.run(asyncio.wait_for(story(), 20))
    assert not list(tmp_path.glob("*.sock"))


def test_a_broker_answers_wherever_the_control_socket_fits(key_file: Path) -> None:
    """A Unix socket's path has at most 107 bytes; the start checks that of the control socket alone."""

    async def story(run: Path) -> None:
        keeper = BrokerKeeper(run, asyncio.get_running_loop(), lambda _name, status: died.append(status))
        wanted = {
            "k": {
                "kind": "openai",
                "address": "http://127.0.0.1:9",
                "models": ["m"],
                "key_file": str(key_file),
            }
        }
        address = await asyncio.to_thread(keeper.address, wanted)
        assert os.path.exists(address.removeprefix("unix:"))
        await keeper.stop()

    died: list[int] = []
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        run = Path(short) / ("r" * (107 - len(f"{short}//control.sock")))
        assert len(str(run / "control.sock")) == 107
        asyncio.run(asyncio.wait_for(story(run), 60))
    assert not died
