"""A PostgreSQL of the test's own: a cluster on a Unix socket and on loopback with TLS."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SECONDS = 120
MEMORY_BYTES = 1 << 30  # free; a run with forty databases takes a third of it
PASSWORD = "not-a-secret-of-anybody"
USER = "garrison"
_HBA = """\
local all all trust
hostssl all all 127.0.0.1/32 scram-sha-256
"""
_CONFIGURATION = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{socket}'
ssl = on
ssl_cert_file = 'server.pem'
ssl_key_file = 'server.key'
max_connections = 60
shared_buffers = '16MB'
"""


class Cluster:
    """Runs as the user postgres when the tests are root's: PostgreSQL refuses to be root."""

    def __init__(self, root: Path, bin: Path) -> None:
        self.root, self.bin = root, bin
        self.data, self.socket = root / "data", root / "s"
        self.port = 0
        self._names = itertools.count(1)
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            found = pwd.getpwnam("postgres")
            self._as = {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
            os.chown(root, found.pw_uid, found.pw_gid)
        self._run(
            "initdb", "-D", str(self.data), "-U", "postgres", "--locale=C.UTF-8", "-E", "UTF8", "--no-sync"
        )
        self.socket.mkdir()
        self._own(self.socket)
        self._certificates()
        (self.data / "pg_hba.conf").write_text(_HBA)
        self.start()
        self.sql(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")

    def _own(self, path: Path) -> None:
        if self._as:
            os.chown(path, self._as["user"], self._as["group"])

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [str(self.bin / program), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a server inherits it: with a pipe this would wait for the server's end
            stderr=subprocess.STDOUT,
            cwd=self.root,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            timeout=SECONDS,
            check=False,
            **self._as,
        )
        assert done.returncode == 0, f"{program}: {self.log()}"

    def log(self) -> str:
        path = self.root / "log"
        return path.read_text()[-2000:] if path.exists() else ""

    def start(self) -> None:
        """Again on the same port, so that whoever was connected finds it."""
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = int(probe.getsockname()[1])
            configuration = _CONFIGURATION.format(port=self.port, socket=self.socket)
            with (self.data / "postgresql.conf").open("a") as file:
                file.write(configuration)
        self._run("pg_ctl", "-D", str(self.data), "-l", str(self.root / "log"), "-w", "-t", "100", "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "-t", "100", "stop")

    def connect(self, name: str = "postgres", user: str = "postgres") -> Any:
        psycopg = pytest.importorskip("psycopg")
        return psycopg.connect(
            host=str(self.socket), port=self.port, user=user, dbname=name, autocommit=True, connect_timeout=30
        )

    def sql(self, statement: str, name: str = "postgres", user: str = "postgres") -> list[tuple[Any, ...]]:
        with self.connect(name, user) as connection:
            cursor = connection.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    @contextlib.contextmanager
    def setting(self, name: str, value: str) -> Iterator[None]:
        """The whole server runs so meanwhile; new connections show when it does."""
        self.sql(f"ALTER SYSTEM SET {name} = '{value}'")
        try:
            self._reloaded(name, value)
            yield
        finally:
            self.sql(f"ALTER SYSTEM RESET {name}")
            self.sql("SELECT pg_reload_conf()")

    def _reloaded(self, name: str, value: str) -> None:
        self.sql("SELECT pg_reload_conf()")
        until = time.monotonic() + SECONDS
        while self.sql(f"SHOW {name}") != [(value,)]:
            assert time.monotonic() < until, f"{name} is never {value}"

    def make(self, *, locale: str = "en-x-icu") -> str:
        """A new database of the user garrison, in an order of text that is not ours. Returns its name."""
        name = f"g{next(self._names)}"
        order = f"LOCALE_PROVIDER icu ICU_LOCALE '{locale}'"
        self.sql(f"CREATE DATABASE {name} OWNER {USER} TEMPLATE template0 ENCODING 'UTF8' {order}")
        return name

    def dump(self, name: str) -> None:
        self._run("pg_dump", "-h", str(self.socket), "-p", str(self.port), "-Fc", "-f", "dump", name)

    def restore(self, name: str) -> None:
        where = ("-h", str(self.socket), "-p", str(self.port))
        self._run("pg_restore", *where, "--no-owner", "--role", USER, "-d", name, "dump")

    def address(self, name: str | None = None, user: str = USER) -> str:
        return f"postgresql://{user}@/{name or self.make()}?host={self.socket}&port={self.port}"

    def tls_address(self, name: str) -> str:
        return f"postgresql://{USER}@localhost:{self.port}/{name}?sslrootcert={self.root / 'ca.pem'}"

    def _certificates(self) -> None:
        secret, pem = certificate()
        (self.root / "ca.pem").write_bytes(pem)
        (self.root / "stranger.pem").write_bytes(certificate()[1])
        (self.data / "server.pem").write_bytes(pem)
        key = self.data / "server.key"
        key.touch(mode=0o600)
        key.write_bytes(secret)
        self._own(key)


def certificate() -> tuple[bytes, bytes]:
    """Of localhost, signed by itself."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return secret, made.public_bytes(serialization.Encoding.PEM)


def find_binaries() -> Path | None:
    """Debian keeps the server's programs off the path, by version; the newest that is there."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    newest = sorted(found, key=lambda path: int(path.parent.name))
    return newest[-1] if newest else Path(on_path).parent if on_path else None


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Skips, loudly, where PostgreSQL or its client is not installed."""
    found = find_binaries()
    if found is None:
        pytest.skip("NOT PROVED HERE: PostgreSQL is not installed (apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="NOT PROVED HERE: psycopg is not installed (garrison[postgres])")
    root = Path(tempfile.mkdtemp(prefix="tests-pg-", dir=_place()))
    try:
        yield Cluster(root, found)
    finally:
        _end(root / "data")
        shutil.rmtree(root, ignore_errors=True)


def _place() -> str:
    """In memory where there is room: a disk that others use too makes fsync take seconds."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or not os.access(memory, os.W_OK):
        return "/tmp"
    found = os.statvfs(memory)
    return str(memory) if found.f_bavail * found.f_frsize > MEMORY_BYTES else "/tmp"


def _end(data: Path) -> None:
    """The server is nobody's child any more, so it is waited for by its descriptor."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
        descriptor = os.pidfd_open(int((data / "postmaster.pid").read_text().split()[0]))
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGQUIT)
            select.select([descriptor], [], [], SECONDS)
        finally:
            os.close(descriptor)
