"""The control API's door: who is on the other end of the socket, then one verb, then one answer.

The Unix socket admits the user that runs the server and root; the kernel says who connects
(SO_PEERCRED). That user may speak for another identity with `X-Garrison-As`, because whoever owns the
data directory can do anything to it anyway; the event says so (`via`). An access token, where given,
decides the identity instead.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import socket
import struct
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import unquote

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from garrison.app.house import House
from garrison.app.verbs import VERBS
from garrison.app.verbs.base import Call, Progress, Verb, identity_name, perform
from garrison.core.decision import Subject
from garrison.core.errors import GarrisonError, Refused, Usage

MAX_BODY_BYTES = 1024 * 1024  # verbs carry names and paths, never model bytes
VERBS_AT_ONCE = 8  # further ones wait for their turn; the database has more connections than that


class PeerCheckedProtocol(HttpToolsProtocol):
    """HTTP on a Unix socket whose peer must be the server's own user or root."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        raw = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        _pid, uid, _gid = struct.unpack("3i", raw)
        if uid not in (0, os.geteuid()):
            transport.abort()
            return
        self.client = (f"uid:{uid}", 0)


def build(house: House) -> uvicorn.Server:
    """The server object; the caller runs it on its own event loop, with the control socket."""
    # Threads of their own: a verb waits for work that the loop does in the threads of its default pool.
    threads = ThreadPoolExecutor(VERBS_AT_ONCE, thread_name_prefix="verb")
    application = Starlette(
        routes=[Route("/v1/{verb}", _endpoint(house, threads), methods=["POST"])],
    )
    config = uvicorn.Config(
        application,
        http=PeerCheckedProtocol,
        ws="none",
        lifespan="off",
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    return uvicorn.Server(config)


def _endpoint(house: House, threads: Executor) -> Any:
    async def endpoint(request: Request) -> Response:
        verb = VERBS.get(request.path_params["verb"])
        if verb is None:
            error = Usage(
                "SRV-VERB", "the server does not know this verb", fix="use the command line of this release"
            )
            return _single(error)
        try:
            body = await _body(request)
            subject = _subject(house, request)
        except GarrisonError as error:
            return _single(error)
        call = partial(Call, subject, body)
        return StreamingResponse(_lines(house, threads, verb, call), media_type="application/jsonl")

    return endpoint


async def _lines(
    house: House, threads: Executor, verb: Verb, call: Callable[[Progress], Call]
) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str | None] = asyncio.Queue(maxsize=0)

    def progress(text: str) -> None:
        house.go_on()
        loop.call_soon_threadsafe(queue.put_nowait, text)

    def work() -> dict[str, Any]:
        try:
            with house.busy:
                return perform(house, verb, call(progress))
        finally:
            loop.call_soon_threadsafe(queue.put_nowait, None)

    task = loop.run_in_executor(threads, work)
    while (state := await queue.get()) is not None:
        yield _line({"progress": state})
    yield _line(await task)


async def _body(request: Request) -> dict[str, Any]:
    collected = b""
    async for chunk in request.stream():
        collected += chunk
        if len(collected) > MAX_BODY_BYTES:
            raise Usage(
                "SRV-BODY", "the request is larger than 1 MiB", fix="use the command line of this release"
            )
    try:
        body = json.loads(collected or b"{}")
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Usage(
            "SRV-BODY", "the request is not a JSON object", fix="use the command line of this release"
        )
    return body


def _subject(house: House, request: Request) -> Subject:
    header = request.headers.get("authorization", "")
    if header:
        kind, _, token = header.partition(" ")
        if kind.lower() != "bearer":
            raise Refused(
                "TOK-INVALID", "the Authorization header is not a bearer token", fix="send Bearer TOKEN"
            )
        return house.identify(token)
    uid = int(request.scope["client"][0].removeprefix("uid:"))
    named = identity_name(unquote(request.headers.get("x-garrison-as", "")))
    return house.local_subject(named or local_user(uid), via=f"socket uid {uid}")


def local_user(uid: int) -> str:
    """The name of a local account; its number when it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"


def _single(error: GarrisonError) -> Response:
    return Response(
        _line({"error": error.as_json(), "exit": error.exit_status}),
        media_type="application/jsonl",
        status_code=error.http_status,
    )


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
