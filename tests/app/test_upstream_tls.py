"""Model servers with an authority of their own that want to see a certificate: through the broker, by file."""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.app.household import Household
from tests.fakes.upstream import Upstream, completion

from garrison.app.broker import BrokerKeeper, read_client
from garrison.core.errors import GarrisonError, Refused
from garrison.trust.ca import Issued, LocalAuthority, issue_server, open_authority, server_context
from garrison.trust.keys.file import FileSigner
from garrison.trust.mtls import issue_client

NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=60)


@pytest.fixture
def ours(tmp_path: Path) -> LocalAuthority:
    return open_authority(FileSigner("ca"), tmp_path / "ours.pem")


@pytest.fixture
def theirs(tmp_path: Path) -> LocalAuthority:
    return open_authority(FileSigner("ca"), tmp_path / "theirs.pem")


def client(authority: LocalAuthority, now: datetime = NOW) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, SHA256())
    leaf = issue_client(
        authority.certificate,
        authority.signer,
        request.public_bytes(Encoding.PEM),
        "gateway",
        now,
        timedelta(hours=2),
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Issued(leaf.public_bytes(Encoding.PEM), private, leaf.not_valid_after_utc)


def written(path: Path, pem: bytes, mode: int = 0o600) -> str:
    path.write_bytes(pem)
    path.chmod(mode)
    return str(path)


def server(authority: LocalAuthority, name: str = "localhost", now: datetime = NOW) -> ssl.SSLContext:
    """It speaks TLS 1.3 and demands a certificate of the same authority."""
    issued = issue_server(authority.certificate, authority.signer, "m", dns=[name], now=now)
    context = server_context(issued)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def older(authority: LocalAuthority) -> ssl.SSLContext:
    context = server(authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


@pytest.mark.row("S25", kind="R")
def test_a_client_certificate_is_shown_to_the_right_server_alone_and_renewed_under_load(
    tmp_path: Path, ours: LocalAuthority, theirs: LocalAuthority
) -> None:
    good = client(ours)
    file = written(tmp_path / "client.pem", good.key + good.chain)
    stranger = client(theirs)
    other = written(tmp_path / "other.pem", stranger.key + stranger.chain)
    ca, wrong = ((tmp_path / f"{name}.pem").read_text() for name in ("ours", "theirs"))
    witness = Upstream(answer=lambda asked: completion("hello"))

    async def story() -> None:
        servers: list[asyncio.Server] = []

        async def listen(context: ssl.SSLContext) -> str:
            servers.append(await asyncio.start_server(witness._serve, "127.0.0.1", 0, ssl=context))
            return f"https://localhost:{servers[-1].sockets[0].getsockname()[1]}"

        there = await listen(server(ours))
        facts = {"kind": "openai", "models": ["m"], "address": there, "ca": ca, "client_file": file}
        wanted: dict[str, Any] = {
            "good": facts,
            "no certificate": {**facts, "client_file": ""},
            "certificate of another authority": {**facts, "client_file": other},
            "server of another authority": {**facts, "ca": wrong},
            "server of the system's authorities": {**facts, "ca": ""},
            "other name": {**facts, "address": await listen(server(ours, "elsewhere.example"))},
            "expired": {**facts, "address": await listen(server(ours, now=OLD))},
            "of tomorrow": {**facts, "address": await listen(server(ours, now=NOW + timedelta(days=2)))},
            "TLS 1.2": {**facts, "address": await listen(older(ours))},
        }
        keeper = BrokerKeeper(tmp_path, asyncio.get_running_loop(), lambda _name, _status: None)
        try:
            first = await asyncio.to_thread(keeper.address, wanted)
            for name in wanted:
                asked = len(witness.asked)
                assert (await ask(first, name) == 200) == (name == "good"), name
                assert (len(witness.asked) > asked) == (name == "good"), name
            renewed = client(ours)
            written(tmp_path / "client.pem", renewed.key + renewed.chain)
            renewing = asyncio.create_task(asyncio.to_thread(keeper.address, wanted))
            while not renewing.done():
                assert await ask(first, "good") == 200
            second = renewing.result()
            assert second != first
            # A worker that has not read the new snapshot yet asks the one before.
            assert [await ask(address, "good") for address in (first, second, first)] == [200] * 3
        finally:
            await keeper.stop()
            for each in servers:
                each.close()

    asyncio.run(asyncio.wait_for(story(), 120))


async def ask(address: str, key: str) -> int:
    reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-garrison-key: {key}\r\n"
    writer.write(f"{head}connection: close\r\ncontent-length: 2\r\n\r\n{{}}".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer.split(b" ")[1])


@pytest.mark.row("S25", kind="R")
def test_a_file_that_holds_no_usable_certificate_is_refused_and_its_key_is_not_told(
    tmp_path: Path, ours: LocalAuthority
) -> None:
    one, two, old = client(ours), client(ours), client(ours, OLD)
    bad = {
        "not PEM": (b"certificate", 0o600, "private key that fits"),
        "no key": (one.chain, 0o600, "private key that fits"),
        "key of another": (two.key + one.chain, 0o600, "private key that fits"),
        "expired": (old.key + old.chain, 0o600, "expired"),
        "read by others": (one.key + one.chain, 0o644, "only this user"),
        "too long": (one.key + one.chain + b"\n" * 70_000, 0o600, "at most"),
        "under a password": (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", 0o600, "password"),
    }
    for name, (pem, mode, why) in bad.items():
        with pytest.raises(Refused, match=why) as caught:
            read_client(written(tmp_path / "bad.pem", pem, mode))
        assert caught.value.code == "ROUTE-KEY", name
        assert "BEGIN" not in str(caught.value.as_json())


@pytest.mark.row("S25", kind="E")
def test_a_route_with_certificates_keeps_no_private_key(
    home: Household, tmp_path: Path, ours: LocalAuthority
) -> None:
    told: list[Any] = []
    home.house.broker = lambda wanted: told.append(wanted) or "unix:/run/broker.sock"  # type: ignore[func-returns-value]  # it is for its effect
    one = client(ours)
    file = written(tmp_path / "client.pem", one.key + one.chain)
    ca = (tmp_path / "ours.pem").read_text()
    route = {"name": "own", "upstream": "https://models.example.org", "tier": "internal"}
    home.ask("route.add", **route, options={"ca": ca, "client_file": file})
    assert (told[-1]["own.main"]["ca"], told[-1]["own.main"]["client_file"]) == (ca, file)
    assert "client" not in json.dumps(told[-1]["own.main"]["models"])
    secret = one.key.splitlines()[1]
    for path in home.house.settings.data.rglob("*"):
        assert not path.is_file() or secret not in path.read_bytes(), path
    with pytest.raises(GarrisonError, match="private key"):
        home.ask("route.add", **{**route, "name": "b"}, options={"ca": (one.key + one.chain).decode()})
