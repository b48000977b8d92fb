"""How a command reaches the server on this host: one POST over its Unix socket, progress as it comes.

The answer is JSON lines: any number of `{"progress": ...}` and then `{"result": ...}` or `{"error": ...}`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from garrison.core.errors import Undecided, Usage, from_json

MAX_LINE_BYTES = 64 * 1024 * 1024  # an exported manifest of 100,000 files fits; anything larger is a defect
CONNECT_SECONDS = 5.0
DEFAULT_DATA = "garrison-data"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("garrison", timeout=CONNECT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_SECONDS)
        self.sock.connect(str(self._path))
        self.sock.settimeout(None)  # verbs take as long as they take; the server bounds them


def data_directory(args: argparse.Namespace) -> Path:
    """`--data`, else GARRISON_DATA, else ./garrison-data."""
    given = getattr(args, "data", None)
    return Path(given or os.environ.get("GARRISON_DATA") or DEFAULT_DATA).absolute()


def absolute(path: str) -> str:
    """The path as the server has to know it. Raises `Usage` PATH-NOT-DIR for the empty one: an unset
    variable in a script must not mean the directory that the script happens to run in."""
    if not path:
        raise Usage("PATH-NOT-DIR", "the path is empty", fix="give the model's directory")
    return str(Path(path).absolute())


def call(args: argparse.Namespace, verb: str, **body: Any) -> dict[str, Any]:
    """Ask the server to do one verb; returns its result.

    Raises the server's own error as it was, `Undecided` SRV-STARTING or SRV-DOWN when nothing answers, and
    `Usage` when the token file cannot be read.
    """
    data = data_directory(args)
    path = data / "run" / "control.sock"
    headers = {"Content-Type": "application/json"}
    if getattr(args, "identity", None):
        headers["X-Garrison-As"] = quote(args.identity, errors="surrogateescape")
    token = read_token_file(args)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    progress = None if getattr(args, "json", False) or not sys.stderr.isatty() else _show_progress
    connection = _UnixConnection(path)
    try:
        connection.connect()
    except OSError as error:
        connection.close()
        if holder := _holder(data / "run" / "up.lock"):
            raise Undecided(
                "SRV-STARTING",
                f"process {holder} works on {data} and does not answer yet: a server that starts or ends",
                fix="repeat the command in a few seconds; garrison up prints `ready` when it answers",
                evidence={"pid": holder},
            ) from error
        raise Undecided(
            "SRV-DOWN",
            f"no server answers at {path}: {error.strerror or error}",
            fix=f"start it with garrison up --data {data}, or name another data directory with --data DIR",
            evidence={"socket": str(path)},
        ) from error
    try:
        connection.request("POST", f"/v1/{verb}", body=json.dumps(body).encode(), headers=headers)
        return _answer(connection.getresponse(), progress)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _cut() from error
    finally:
        connection.close()


def _holder(lock: Path) -> str:
    """The process that holds the data directory; "" when none does. Looks without taking the lock for a moment."""
    try:
        inode = str(lock.stat().st_ino)
        for line in Path("/proc/locks").read_text("ascii").splitlines():
            kind, *_, place, _, _ = line.split()[1:]
            if kind == "FLOCK" and place.rpartition(":")[2] == inode:
                return lock.read_text("ascii", "replace").strip()[:20] or "unknown"
    except (OSError, ValueError):
        pass  # where the kernel does not tell, nothing is said about it
    return ""


def call_or_alone(args: argparse.Namespace, verb: str, **body: Any) -> dict[str, Any]:
    """Through the server; without one, here, under the lock that a server takes."""
    try:
        return call(args, verb, **body)
    except Undecided as error:
        if error.code != "SRV-DOWN" or not (data_directory(args) / "keys" / "token").is_dir():
            raise
    return without_server(args, verb, **body)


def without_server(args: argparse.Namespace, verb: str, **body: Any) -> dict[str, Any]:
    """The verb under the server's own lock, in this process. Raises as `alone.perform_alone`."""
    from garrison.app import alone, settings  # the server's rooms: 1 s, and a running server spares them

    chosen = settings.load({"data": str(data_directory(args))})
    identity = getattr(args, "identity", None)
    return alone.perform_alone(chosen, verb, body, identity=identity, token=read_token_file(args))


def read_token_file(args: argparse.Namespace) -> str | None:
    """The access token in `--token-file` (or GARRISON_TOKEN_FILE); None when neither is given."""
    name = getattr(args, "token_file", None) or os.environ.get("GARRISON_TOKEN_FILE")
    if not name:
        return None
    try:
        token = Path(name).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(
            "TOK-FILE", f"cannot read the token file {name}: {error}", fix="check the path and its mode"
        ) from error
    if not token.isascii() or not token.isprintable() or not token or " " in token:
        raise Usage(
            "TOK-FILE", f"{name} does not hold an access token", fix="garrison token issue prints one"
        )
    return token


def _answer(response: http.client.HTTPResponse, progress: Callable[[Any], None] | None) -> dict[str, Any]:
    while line := response.readline(MAX_LINE_BYTES):
        message = json.loads(line)
        if "progress" in message:
            if progress is not None:
                progress(message["progress"])
            continue
        if progress is not None:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        if "error" in message:
            raise from_json(message["error"], int(message.get("exit", 4)))
        result: dict[str, Any] = message["result"]
        return result
    raise _cut()


def _cut() -> Undecided:
    return Undecided(
        "SRV-CUT",
        "the server ended before it answered: the change was made whole or not at all",
        fix="look at the server's log, start it again, and see with garrison model list or deploy status",
    )


def _show_progress(state: Any) -> None:
    print(f"\r\033[K{state}", end="", file=sys.stderr, flush=True)
