"""A small HTTP client for other people's servers: one origin, bounded answers, no redirects, no proxies.

An address is looked up once and judged before it is connected to, so a name cannot point somewhere else
between the check and the connection. Link-local addresses (where clouds keep their credentials), multicast
and unspecified ones are refused. A credential never travels unencrypted beyond this host: the connection that
was made is asked where it leads.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import ipaddress
import json
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from garrison.artifacts.lineage.sources import Access, Origin
from garrison.artifacts.patience import Patience, patience
from garrison.core.errors import GarrisonError, Refused, Undecided

MAX_ANSWER_BYTES = 8 * 1024 * 1024  # a listing of thousands of files; a run has a few hundred kilobytes
MAX_ANSWER_DEPTH = 24  # MLflow's answers stay under 8
CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0  # between two bytes: a server that fetches from a slow store is silent for a while
ANSWER_SECONDS = 120.0  # for a whole JSON answer, and for each megabyte of a file
_BLOCK = 1 << 20

Write = Callable[[bytes], object]


class Remote:
    """One origin. Each request is one connection; nothing is kept between them."""

    def __init__(self, origin: Origin, access: Access, headers: Mapping[str, str] | None = None) -> None:
        self.origin = origin
        self._access = access
        self._headers = dict(headers or {})

    def get(self, path: str, query: Mapping[str, str]) -> Any:
        """A JSON answer. Raises `Refused` LIN-GONE (404), LIN-DENIED and LIN-PLACE, `Undecided` otherwise."""
        return self._document("GET", f"{path}?{urlencode(query, quote_via=quote)}", None)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._document("POST", path, json.dumps(body).encode())

    def fetch(self, path: str, query: Mapping[str, str], write: Write, limit: int) -> int:
        """Stream a file into `write`; returns its size. Raises as `get`, and LIN-LIMIT beyond `limit` bytes."""
        done = 0
        with self._asked("GET", f"{path}?{urlencode(query, quote_via=quote)}", None) as (answer, waiting):
            expected = answer.length
            while chunk := answer.read(_BLOCK):
                done += len(chunk)
                if done > limit:
                    raise too_much(f"{self.origin} sent a file of more than {limit:,} bytes")
                write(chunk)
                waiting.more()
        if expected is not None and done != expected:
            raise unreachable(self.origin, "the answer ended early")
        return done

    def _document(self, method: str, target: str, body: bytes | None) -> Any:
        text = b""
        with self._asked(method, target, body) as (answer, _):
            while chunk := answer.read1(_BLOCK):
                text += chunk
                if len(text) > MAX_ANSWER_BYTES:
                    raise too_much(f"{self.origin} answered with more than {MAX_ANSWER_BYTES:,} bytes")
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise not_understood(self.origin, "it is not JSON") from error
        if not isinstance(document, dict) or not _is_shallow(document, MAX_ANSWER_DEPTH):
            raise not_understood(self.origin, "it is not an object of a few levels")
        return document

    @contextlib.contextmanager
    def _asked(
        self, method: str, target: str, body: bytes | None
    ) -> Iterator[tuple[http.client.HTTPResponse, Patience]]:
        connection = self._connection()
        headers = {"Accept": "*/*", "User-Agent": "garrison", "Connection": "close", **self._headers}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if secret := self._access.secret():
            self._only_encrypted(connection)
            kind, value = (
                ("Basic", base64.b64encode(secret.encode()).decode())
                if self._access.auth == "basic"
                else ("Bearer", secret)
            )
            headers["Authorization"] = f"{kind} {value}"
        try:
            with patience(connection.sock, ANSWER_SECONDS) as waiting:
                connection.request(method, self.origin.prefix + target, body=body, headers=headers)
                with contextlib.closing(connection.getresponse()) as answer:
                    _check_status(self.origin, answer.status)
                    yield answer, waiting
        except GarrisonError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(self.origin, type(error).__name__) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self.origin.host, self.origin.port, timeout=READ_SECONDS)
        try:
            plain = socket.create_connection(self._address(), timeout=CONNECT_SECONDS)
            plain.settimeout(READ_SECONDS)
            if self.origin.scheme == "https":
                context = ssl.create_default_context(cafile=self._access.ca_file)
                connection.sock = context.wrap_socket(plain, server_hostname=self.origin.host)
            else:
                connection.sock = plain
        except OSError as error:  # includes every failure of TLS
            raise unreachable(self.origin, error.strerror or type(error).__name__) from error
        return connection

    def _address(self) -> tuple[str, int]:
        found = socket.getaddrinfo(self.origin.host, self.origin.port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        for text in addresses:
            address = ipaddress.ip_address(text.partition("%")[0])
            mapped = getattr(address, "ipv4_mapped", None) or address
            if mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified:
                raise Refused(
                    "LIN-PLACE",
                    f"{self.origin} is at {text}, an address that no tracking server has",
                    evidence={"address": text},
                    fix="name the tracking server by an address of its own",
                )
        return addresses[0], self.origin.port

    def _only_encrypted(self, connection: http.client.HTTPConnection) -> None:
        if self.origin.scheme == "https" or _is_loopback(connection.sock.getpeername()[0]):
            return
        connection.close()
        raise Refused(
            "LIN-PLACE",
            f"{self.origin} would get its credential unencrypted",
            fix="use the server's https address in sources.toml and in --tracking-uri",
        )


def _check_status(origin: Origin, status: int) -> None:
    if status == 200:
        return
    if status == 404:
        raise Refused(
            "LIN-GONE", f"{origin} has no such thing (404)", fix="check the name and version at the source"
        )
    if status in (401, 403):
        raise Refused(
            "LIN-DENIED",
            f"{origin} wants another credential ({status})",
            fix="name a token file for this address in sources.toml; docs/lineage.md shows one",
        )
    if 300 <= status < 400:
        raise Refused(
            "LIN-PLACE",
            f"{origin} sends this client somewhere else ({status}), and it does not follow",
            fix="give the address that answers by itself",
        )
    raise unreachable(origin, f"it answered {status}")


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _is_shallow(value: Any, depth: int) -> bool:
    if depth == 0:
        return False
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(_is_shallow(item, depth - 1) for item in inner)


def unreachable(origin: Origin, why: str) -> Undecided:
    return Undecided(
        "LIN-UNREACHABLE",
        f"{origin} could not be asked: {why}",
        evidence={"source": str(origin)},
        fix="start the server or mend the way to it, then repeat the command",
    )


def not_understood(origin: Origin | str, why: str) -> Undecided:
    return Undecided(
        "LIN-FORMAT",
        f"what {origin} says is not understood: {why}",
        evidence={"source": str(origin)},
        fix="docs/lineage.md lists the versions and files that are understood",
    )


def too_much(what: str) -> Undecided:
    return Undecided("LIN-LIMIT", what, fix="import a smaller model, or publish its directory by hand")
