"""The SDK: check a model before you load it, and ask one through the gateway.

Needs the core install alone: no server, no database, the standard library's HTTP.

    from garrison.client import Client, verify_model

    verified = verify_model("models/fraud", name="fraud@3", trust="release.pem")
    client = Client("https://127.0.0.1:8443", ca="garrison-data/ca.pem", token_provider=read_token)
    print(client.chat("fraud", "Is this invoice plausible?").text)
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, overload
from urllib.parse import urlsplit

from garrison.core.errors import GarrisonError, Refused, Undecided, Usage, from_json
from garrison.trust.directory import verify_model
from garrison.trust.verify import Verified

__all__ = [
    "Answer",
    "Client",
    "GarrisonError",
    "Refused",
    "Stream",
    "Undecided",
    "Usage",
    "Verified",
    "verify_model",
]

MAX_ANSWER_BYTES = 64 * 1024 * 1024  # a batch of embeddings; a chat answer is a thousandth of it
MAX_EVENT_BYTES = 1024 * 1024  # one line of a stream
TIMEOUT_SECONDS = 120.0  # between two bytes; a model on a small machine thinks for a while
_GATEWAY_PORT = 8443


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `raw` is the gateway's JSON as it came."""

    text: str
    model: str
    finish_reason: str
    usage: Mapping[str, Any]
    audit_id: str
    raw: Mapping[str, Any] = field(repr=False)


class Client:
    """One gateway. Each call is one connection, TLS 1.3, without proxies from the environment.

    `ca` is the CA file to trust (`garrison-data/ca.pem`); the system's CAs without it. A token is given as
    text, or by a function that is asked before each call, so that short-lived tokens can be renewed.
    Every failure is a `GarrisonError` with the code, words and next step that the gateway gave.
    """

    def __init__(
        self,
        url: str,
        *,
        ca: Path | str | None = None,
        token: str | None = None,
        token_provider: Callable[[], str] | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        """Raises `Usage` SRV-PLAINTEXT for an address that is not https (but on this host), SRV-CERT for a bad `ca`."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Usage("SRV-UNREACHABLE", f"{url!a} is not an address", fix="use https://HOST:PORT")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise Usage(
                "SRV-PLAINTEXT",
                f"{url} would carry the token unencrypted",
                fix="use the https address that garrison up prints",
            )
        self._host = parts.hostname
        self._port = parts.port or _GATEWAY_PORT
        self._prefix = parts.path.rstrip("/").removesuffix("/v1")
        self._tls = _tls(ca) if parts.scheme == "https" else None
        self._token = token_provider or (lambda: token or "")
        self._timeout = timeout

    def models(self) -> list[str]:
        """The names that this token may ask."""
        answer = _document(self._send("GET", "/v1/models", None))
        rows = answer.get("data")
        if not isinstance(rows, list):
            raise _not_understood("the list of models has no data")
        return [str(row.get("id", "")) for row in rows if isinstance(row, dict)]

    @overload
    def chat(
        self,
        model: str,
        messages: str | Sequence[Mapping[str, Any]],
        *,
        stream: Literal[False] = False,
        **options: object,
    ) -> Answer: ...

    @overload
    def chat(
        self,
        model: str,
        messages: str | Sequence[Mapping[str, Any]],
        *,
        stream: Literal[True],
        **options: object,
    ) -> Stream: ...

    def chat(
        self,
        model: str,
        messages: str | Sequence[Mapping[str, Any]],
        *,
        stream: bool = False,
        **options: object,
    ) -> Answer | Stream:
        """Ask. `messages` is one user's text or the list that the OpenAI API takes; `options` go along as they are.

        With `stream` the answer is a `Stream` of pieces of text as they come.
        """
        turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        body = {**options, "model": model, "messages": turns, "stream": stream}
        exchange = self._send("POST", "/v1/chat/completions", body)
        if stream:
            return Stream(exchange)
        raw = _document(exchange)
        choice = _choice(raw)
        return Answer(
            text=str((choice.get("message") or {}).get("content") or ""),
            model=str(raw.get("model", "")),
            finish_reason=str(choice.get("finish_reason") or ""),
            usage=raw.get("usage") or {},
            audit_id=exchange.audit_id,
            raw=raw,
        )

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> _Exchange:
        """One request; an error answer is raised as the error that it carries."""
        headers = {"Accept": "application/json, text/event-stream", "Connection": "close"}
        token = self._token()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        payload = None if body is None else json.dumps(body).encode()
        if payload is not None:
            headers["Content-Type"] = "application/json"
        connection = (
            http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
            if self._tls is None
            else http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)
        )
        try:
            connection.request(method, self._prefix + path, body=payload, headers=headers)
            response = connection.getresponse()
        except ssl.SSLError as error:
            connection.close()
            raise Refused(
                "SRV-CERT",
                f"{self._host}:{self._port} did not prove who it is: {error.reason or type(error).__name__}",
                fix="give the gateway's CA with --ca garrison-data/ca.pem, and use a name that its certificate has",
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise _unreachable(self._host, self._port, error) from error
        exchange = _Exchange(connection, response)
        if response.status != http.HTTPStatus.OK:
            raise _refusal(exchange)
        return exchange


@dataclass(frozen=True, slots=True)
class _Exchange:
    """A response and the connection that it is still read from."""

    connection: http.client.HTTPConnection
    response: http.client.HTTPResponse

    @property
    def audit_id(self) -> str:
        return self.response.headers.get("x-garrison-audit-id", "")

    def close(self) -> None:
        self.response.close()
        self.connection.close()


class Stream:
    """Pieces of text as they come. Iterate it once; leaving early (or `close`) tells the gateway to stop.

    After the last piece `finish_reason` and `usage` are known. Raises the gateway's error when one ends
    the answer, `Undecided` SRV-UNREACHABLE when it breaks off.
    """

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange
        self.audit_id = exchange.audit_id
        self.finish_reason = ""
        self.usage: Mapping[str, Any] = {}

    def __iter__(self) -> Iterator[str]:
        try:
            for event in self._events():
                if isinstance(event.get("error"), dict):
                    # The status line has long been sent; the type says whether a control or a failure ended it.
                    failed = event["error"].get("type") == "server_error"
                    raise from_json(event["error"], _exit_status(503 if failed else 403))
                self.usage = event.get("usage") or self.usage
                for choice in event.get("choices") or []:
                    self.finish_reason = str(choice.get("finish_reason") or self.finish_reason)
                    piece = (choice.get("delta") or {}).get("content")
                    if piece:
                        yield str(piece)
        finally:
            self.close()

    def _events(self) -> Iterator[dict[str, Any]]:
        """The data of each server-sent event up to `[DONE]` (WHATWG HTML, section 9.2, one line an event)."""
        while True:
            try:
                line = self._exchange.response.readline(MAX_EVENT_BYTES + 1)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise _broken_off() from error
            if not line:
                raise _broken_off()
            if len(line) > MAX_EVENT_BYTES:
                raise _not_understood("one event of the stream is too large")
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            yield _object(data)

    def close(self) -> None:
        self._exchange.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _tls(ca: Path | str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    except OSError as error:
        raise Usage(
            "SRV-CERT",
            f"cannot use {ca} as a CA: {error.strerror or type(error).__name__}",
            fix="give the CA file of the gateway, such as garrison-data/ca.pem",
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _document(exchange: _Exchange) -> dict[str, Any]:
    with contextlib.closing(exchange):
        try:
            data = exchange.response.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise _broken_off() from error
    if len(data) > MAX_ANSWER_BYTES:
        raise _not_understood("the answer is too large")
    return _object(data)


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _not_understood("the answer is not JSON") from error
    if not isinstance(value, dict):
        raise _not_understood("the answer is not a JSON object")
    return value


def _choice(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = raw.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _not_understood("the answer has no choices")
    return choices[0]


def _refusal(exchange: _Exchange) -> GarrisonError:
    status = exchange.response.status
    error = _document(exchange).get("error")
    if not isinstance(error, dict):
        return _not_understood(f"status {status} without an error")
    rebuilt = from_json(error, _exit_status(status))
    after = exchange.response.headers.get("retry-after", "")
    rebuilt.retry_after = float(after) if after.isdecimal() else None
    return rebuilt


def _exit_status(http_status: int) -> int:
    """Whose move it is, by the HTTP status: a control refused, the request is wrong, or nobody could tell."""
    if http_status in (401, 403, 409, 429, 451):
        return 1
    if http_status < 500:
        return 2
    return 3 if http_status in (502, 503, 504) else 4


def _unreachable(host: str, port: int, error: BaseException) -> Undecided:
    why = getattr(error, "strerror", None) or type(error).__name__
    return Undecided(
        "SRV-UNREACHABLE",
        f"no answer from {host}:{port}: {why}",
        fix="check the address, and that garrison up runs there",
    )


def _broken_off() -> Undecided:
    return Undecided(
        "SRV-UNREACHABLE",
        "the answer broke off before its end",
        fix="ask again; the audit log says how it ended on the other side",
    )


def _not_understood(why: str) -> Undecided:
    return Undecided("SRV-ANSWER", why, fix="check that the address is a Garrison gateway")
