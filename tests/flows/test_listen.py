"""Listening beyond the loopback: allowed, because nothing answers without a token, under names that work."""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
import urllib.error
import urllib.request

import pytest
from tests.flows.server import Server

from garrison.app.addresses import certificate_names, is_loopback
from garrison.core.errors import Usage

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("restart")]


def test_on_every_address_the_certificate_has_the_names_of_this_machine(server: Server) -> None:
    (server.data / "garrison.toml").write_text('names = "ai.example.com, 203.0.113.7"\n')
    server.host = "0.0.0.0"
    server.start()
    context = ssl.create_default_context(cafile=server.ready["ca"])
    for name in ("127.0.0.1", "localhost", socket.gethostname(), "ai.example.com", "203.0.113.7"):
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=name) as wrapped,
        ):
            assert wrapped.version() == "TLSv1.3"
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(plain, server_hostname="another.example.com")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{server.url}/v1/models", context=context, timeout=10)
    with refused.value as answer:
        assert answer.code == 401
        assert json.loads(answer.read())["error"]["code"] == "TOK-MISSING"
    assert server.stop() == 0


def test_port_0_becomes_a_free_port_that_is_told(server: Server) -> None:
    server.port = 0
    server.start()
    port = int(server.ready["url"].rpartition(":")[2])
    assert port > 0
    socket.create_connection(("127.0.0.1", port), timeout=10).close()
    assert server.stop() == 0


def test_names_are_this_machines_and_those_that_were_given() -> None:
    dns, ips = certificate_names("127.0.0.1")
    assert (dns, ips) == (["localhost"], ["127.0.0.1", "::1"])
    dns, ips = certificate_names("0.0.0.0", "ai.example.com")
    assert "ai.example.com" in dns
    assert "0.0.0.0" not in ips
    assert all(ipaddress.ip_address(address) for address in ips)
    assert certificate_names("192.0.2.4")[1] == ["127.0.0.1", "192.0.2.4", "::1"]
    for wrong in ("a b", "-x", "x" * 64, "ümlaut", "*.example.com"):
        with pytest.raises(Usage):
            certificate_names("127.0.0.1", wrong)
    assert is_loopback("127.0.0.5")
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")
