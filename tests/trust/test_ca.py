"""The local CA: signed by a key that stays in the token, used by real TLS handshakes in memory."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from garrison.core.errors import Refused, Usage
from garrison.trust.ca import (
    CA_LIFETIME,
    CA_RENEWAL,
    Issued,
    TokenPrivateKey,
    ensure_ca,
    fingerprint,
    issue_server,
    memory_file,
    open_authority,
    server_context,
)
from garrison.trust.keys.base import Signer
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.softhsm import open_software_token

NOW = datetime.now(UTC).replace(microsecond=0)  # OpenSSL compares certificates with the machine's own clock


@pytest.fixture(scope="module", params=["token", "memory"])
def signer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    if request.param == "memory":
        yield FileSigner("ca")
        return
    token = open_software_token(tmp_path_factory.mktemp("data") / "keys" / "token")
    yield token.create("ca")
    token.close()


@pytest.fixture
def authority(signer: Signer, tmp_path: Path) -> x509.Certificate:
    return ensure_ca(tmp_path / "ca.pem", signer, NOW)


def leaf(authority: x509.Certificate, signer: Signer, now: datetime = NOW) -> Issued:
    return issue_server(authority, signer, "garrison", dns=["localhost"], ips=["127.0.0.1", "::1"], now=now)


def trusting(authority: x509.Certificate, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.public_bytes(Encoding.PEM).decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.minimum_version = context.maximum_version = version
    return context


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str | None:
    """Both ends in this process, over memory buffers. Returns the TLS version agreed on."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    done: set[int] = set()
    for _ in range(10):
        for number, end in enumerate(ends):
            try:
                end.do_handshake()
                done.add(number)
            except ssl.SSLWantReadError:
                continue
        if len(done) == 2:
            return ends[0].version()
    raise AssertionError("the handshake did not end")


@pytest.mark.row("B07", kind="R")
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_a_client_that_trusts_the_ca_agrees_on_tls_1_3(
    signer: Signer, authority: x509.Certificate, name: str
) -> None:
    server = server_context(leaf(authority, signer))
    assert handshake(server, trusting(authority), name) == "TLSv1.3"


@pytest.mark.row("S25", kind="R")
@pytest.mark.row("B07", kind="R")
def test_tls_1_2_is_refused(signer: Signer, authority: x509.Certificate) -> None:
    with pytest.raises(ssl.SSLError):
        handshake(
            server_context(leaf(authority, signer)), trusting(authority, ssl.TLSVersion.TLSv1_2), "localhost"
        )


def test_another_name_another_ca_and_an_expired_leaf_are_refused_by_clients(
    signer: Signer, authority: x509.Certificate, tmp_path: Path
) -> None:
    server = server_context(leaf(authority, signer))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, trusting(authority), "example.com")
    other = ensure_ca(tmp_path / "other.pem", FileSigner("ca"), NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, trusting(other), "localhost")
    old = server_context(leaf(authority, signer, NOW - timedelta(days=8)))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(old, trusting(authority), "localhost")


def test_the_ca_signs_leaves_only(authority: x509.Certificate) -> None:
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.path_length == 0
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature


def test_a_leaf_of_a_leaf_is_not_trusted(signer: Signer, authority: x509.Certificate) -> None:
    chain = x509.load_pem_x509_certificates(leaf(authority, signer).chain)
    assert not chain[0].extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_ca_file_stays_the_same_over_restarts(signer: Signer, tmp_path: Path) -> None:
    first = ensure_ca(tmp_path / "ca.pem", signer, NOW)
    content = (tmp_path / "ca.pem").read_bytes()
    again = ensure_ca(tmp_path / "ca.pem", signer, NOW + timedelta(days=300))
    assert fingerprint(again) == fingerprint(first)
    assert (tmp_path / "ca.pem").read_bytes() == content
    assert b"PRIVATE" not in content


def test_an_opened_authority_issues_for_names_as_people_write_them(signer: Signer, tmp_path: Path) -> None:
    authority = open_authority(signer, tmp_path / "ca.pem")
    server = server_context(authority.issue_server(["localhost", "127.0.0.1"], hours=24))
    for name in ("localhost", "127.0.0.1"):
        assert handshake(server, trusting(authority.certificate), name) == "TLSv1.3"


def test_the_ca_is_renewed_in_time_and_old_clients_keep_working(signer: Signer, tmp_path: Path) -> None:
    begun = NOW - CA_LIFETIME + CA_RENEWAL - timedelta(days=1)
    old = ensure_ca(tmp_path / "ca.pem", signer, begun)
    new = ensure_ca(tmp_path / "ca.pem", signer, NOW)
    assert fingerprint(new) != fingerprint(old)
    assert handshake(server_context(leaf(new, signer)), trusting(old), "localhost") == "TLSv1.3"


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_ca_file_that_is_not_ours_is_never_replaced(
    signer: Signer, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "ca.pem"
    if content is None:
        ensure_ca(path, FileSigner("ca"), NOW)
        content = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(Refused) as refusal:
        ensure_ca(path, signer, NOW)
    assert refusal.value.code == "CA-MISMATCH"
    assert path.read_bytes() == content


def test_the_leaf_key_never_touches_a_disk_and_shows_in_no_repr(
    signer: Signer, authority: x509.Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    issued = leaf(authority, signer)
    server_context(issued)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert "PRIVATE" not in repr(issued)


def test_no_descriptor_is_left_open(signer: Signer, authority: x509.Certificate) -> None:
    issued = leaf(authority, signer)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        server_context(issued)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_child_that_inherits_the_descriptor_can_serve(signer: Signer, authority: x509.Certificate) -> None:
    descriptor = memory_file(leaf(authority, signer))
    try:
        code = (
            "import sys; from garrison.trust.ca import server_context_from as f; n = int(sys.argv[1]); f(n); "
            "print(f(n).minimum_version.name)"
        )
        child = subprocess.run(
            [sys.executable, "-c", code, str(descriptor)],
            pass_fds=[descriptor],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        os.close(descriptor)
    assert child.stdout.strip() == "TLSv1_3"


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(days=-1), timedelta(days=31)])
def test_a_leaf_lives_shortly(signer: Signer, authority: x509.Certificate, ttl: timedelta) -> None:
    with pytest.raises(Refused) as refusal:
        issue_server(authority, signer, "garrison", dns=["localhost"], now=NOW, ttl=ttl)
    assert refusal.value.code == "CA-TTL"


def test_a_leaf_ends_no_later_than_its_ca(signer: Signer, tmp_path: Path) -> None:
    authority = ensure_ca(tmp_path / "ca.pem", signer, NOW)
    late = authority.not_valid_after_utc - timedelta(days=1)
    assert leaf(authority, signer, late).not_after == authority.not_valid_after_utc


@pytest.mark.parametrize(
    ("name", "dns", "ips"),
    [
        ("x" * 65, ["a"], []),
        ("", ["a"], []),
        ("a", [], []),
        ("a", [], ["999.1.1.1"]),
        ("a", ["bücher.example"], []),
    ],
)
def test_a_leaf_needs_names_that_mean_something(
    signer: Signer, authority: x509.Certificate, name: str, dns: list[str], ips: list[str]
) -> None:
    with pytest.raises(Usage) as refusal:
        issue_server(authority, signer, name, dns=dns, ips=ips, now=NOW)
    assert refusal.value.code == "CA-NAME"


def test_the_ca_key_signs_and_shows_nothing(signer: Signer) -> None:
    key = TokenPrivateKey(signer)
    with pytest.raises(TypeError):
        key.private_numbers()
    with pytest.raises(TypeError):
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(TypeError):
        key.exchange(ec.ECDH(), key.public_key())
    with pytest.raises(TypeError):
        key.sign(b"", ec.ECDSA(SHA384()))
