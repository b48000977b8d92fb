"""Model servers over TLS: only a certificate of a believed authority, for this name and of today, is told anything."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.fakes.upstream import Upstream
from tests.gateway.rig import Rig, chat

from garrison.gateway.broker import _authorities
from garrison.gateway.config import UpstreamLimits
from garrison.gateway.upstreams.pool import Pool
from garrison.trust.ca import issue_server, open_authority, server_context
from garrison.trust.keys.file import FileSigner

NOW = datetime.now(UTC)
SERVERS = {
    "good": (["localhost"], NOW, True),
    "of another name": (["elsewhere.example"], NOW, True),
    "expired": (["localhost"], NOW - timedelta(days=60), True),
    "of tomorrow": (["localhost"], NOW + timedelta(days=2), True),
    "of another authority": (["localhost"], NOW, False),
}


@pytest.mark.row("S25", kind="R")
def test_a_model_server_with_a_bad_certificate_is_asked_nothing(rig: Rig, tmp_path: Path) -> None:
    ours, theirs = (open_authority(FileSigner("ca"), tmp_path / f"{name}.pem") for name in ("ours", "theirs"))
    witness = Upstream()
    servers: list[asyncio.Server] = []

    async def listen(name: str) -> str:
        dns, now, is_ours = SERVERS[name]
        authority = ours if is_ours else theirs
        issued = issue_server(authority.certificate, authority.signer, "m", dns=dns, ips=[], now=now)
        server = await asyncio.start_server(witness._serve, "127.0.0.1", 0, ssl=server_context(issued))
        servers.append(server)
        return f"https://localhost:{server.sockets[0].getsockname()[1]}"

    def route(address: str) -> None:
        rig.published(routes=[{**rig.routes[0], "address": address}])

    addresses = {name: rig.run(listen(name)) for name in SERVERS}
    before = rig.plane.pool
    try:
        route(addresses["good"])
        assert rig.ask(chat()).code == "GW-UPSTREAM", "a private authority is not believed unless it is given"
        assert not witness.asked
        pem = (tmp_path / "ours.pem").read_text()
        rig.plane.pool = Pool(UpstreamLimits(), rig.loop, rig.plane.outbox, lambda: _authorities(pem))
        for name, address in addresses.items():
            asked = len(witness.asked)
            route(address)
            answer = rig.ask(chat())
            assert (answer.status == 200) == (name == "good"), (name, answer.body)
            assert (len(witness.asked) > asked) == (name == "good"), name
            if name != "good":
                assert answer.code == "GW-UPSTREAM"
                assert answer.json["error"]["next"]
        route(addresses["good"])
        assert rig.ask(chat()).status == 200
    finally:
        rig.loop.call_soon_threadsafe(rig.plane.pool.close)
        rig.plane.pool = before
        for server in servers:
            rig.loop.call_soon_threadsafe(server.close)
