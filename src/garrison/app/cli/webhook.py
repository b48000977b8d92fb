"""`garrison webhook mlflow`: a small listener that imports what an MLflow server announces, and tags it there.

It holds no key and no database: each announcement that is signed, fresh and new goes through the control
socket like any other command. The answer is given at once; the import follows, one at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import signal
import ssl
import sys
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from garrison.app.cli import link, output, webhook_admission
from garrison.artifacts.lineage import mlflow, webhook
from garrison.artifacts.lineage.remote import Remote
from garrison.artifacts.lineage.sources import Origin, access_to, read_secret
from garrison.core.decision import Tier
from garrison.core.errors import GarrisonError, Undecided, Usage
from garrison.trust.ca import load_leaf

MAX_WAITING = 256  # announcements that wait for their import; further ones are asked to come again
REQUEST_SECONDS = 10.0  # for one request: an announcement is one packet
_TAKEN = frozenset({"model_version.created", "model_version_alias.created"})


def add(subparsers: Any) -> None:
    group = subparsers.add_parser("webhook", help="listeners that others send to")
    verbs = group.add_subparsers(dest="verb", required=True, metavar="VERB")
    parser = verbs.add_parser(
        "mlflow",
        help="import every version that an MLflow server announces",
        epilog="example: garrison webhook mlflow --listen 127.0.0.1:8600 --secret-file hook.secret "
        "--tracking-uri https://mlflow.example.org --owner dana --tier internal",
    )
    parser.add_argument(
        "--listen", default="127.0.0.1:8600", metavar="HOST:PORT", help="where to listen (TLS)"
    )
    parser.add_argument("--secret-file", required=True, metavar="FILE", help="the webhook's secret, mode 600")
    parser.add_argument(
        "--tracking-uri", required=True, metavar="URL", help="the MLflow server, and no other"
    )
    parser.add_argument("--owner", required=True, help="who answers for what is imported")
    parser.add_argument(
        "--tier", required=True, choices=[tier.value for tier in Tier], help="its sensitivity"
    )
    parser.set_defaults(run=run)
    webhook_admission.add(verbs)


def run(args: argparse.Namespace) -> int:
    secret = read_secret(Path(args.secret_file)).encode()
    host, _, port = args.listen.rpartition(":")
    if not host or not port.isdigit():
        raise Usage("LIN-SOURCE", f"{args.listen!a} is not HOST:PORT", fix="use --listen 127.0.0.1:8600")
    remote = Remote(
        Origin.parse(args.tracking_uri), access_to(Origin.parse(args.tracking_uri), link.data_directory(args))
    )
    # Asked by whoever starts the listener; what comes in later is done as --as says, with fewer rights.
    starter = argparse.Namespace(**{**vars(args), "identity": None})
    leaf = link.call(starter, "webhook.certificate", host=host.strip("[]"))
    work: queue.Queue[webhook.Announced] = queue.Queue(MAX_WAITING)
    server = ThreadingHTTPServer((host.strip("[]"), int(port)), _handler(args, secret, work))
    server.daemon_threads = True
    server.socket = _context(leaf["chain"] + leaf["key"]).wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    threading.Thread(target=_work, args=(args, remote, work), daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    ready = {"event": "ready", "url": f"https://{host}:{server.server_port}/mlflow", "pid": os.getpid()}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    with server:
        server.serve_forever(poll_interval=0.2)
    return 0


def _handler(args: argparse.Namespace, secret: bytes, work: queue.Queue[webhook.Announced]) -> Any:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS
        server_version, sys_version = "garrison", ""

        def do_POST(self) -> None:
            try:
                self._answer(202, self._take())
            except GarrisonError as error:
                if error.code.startswith("HOOK-") and error.audit_id is None:
                    _leave_event(args, error)
                self._answer(_STATUS.get(error.code, error.http_status), {"error": error.as_json()})

        def _take(self) -> dict[str, Any]:
            length = self.headers.get("Content-Length", "")
            if self.path != "/mlflow" or not re.fullmatch(r"[0-9]{1,9}", length):
                raise Usage(
                    "HOOK-BODY",
                    "webhooks are posted to /mlflow with a length",
                    fix="use the ready line's url",
                )
            if int(length) > webhook.MAX_BODY_BYTES:
                raise Usage("HOOK-BODY", "the webhook is too large", fix="send MLflow's own webhooks")
            headers = {name.lower(): value for name, value in self.headers.items()}
            announced = webhook.check(headers, self.rfile.read(int(length)), secret, datetime.now(UTC))
            if work.full():
                raise Undecided("HOOK-BUSY", "too many announcements wait", fix="send it again later")
            taken = link.call(
                args,
                "webhook.take",
                name=announced.name or "webhook",
                delivery=announced.delivery,
                sent=announced.sent,
                about=announced.about,
            )
            if announced.about in _TAKEN and announced.name and announced.version:
                work.put(announced)
            return taken

        def _answer(self, status: int, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: what happened is in the ledger."""

    return Handler


_STATUS = {"HOOK-SIGNATURE": 401, "HOOK-STALE": 401, "HOOK-REPLAY": 409, "HOOK-BODY": 400}


def _leave_event(args: argparse.Namespace, error: GarrisonError) -> None:
    try:
        link.call(args, "webhook.refused", code=error.code, why=error.what)
    except GarrisonError as recorded:  # it always answers with the refusal itself, and its audit id
        error.audit_id = recorded.audit_id


def _work(args: argparse.Namespace, remote: Remote, work: queue.Queue[webhook.Announced]) -> None:
    while True:
        announced = work.get()
        try:
            mlflow.set_tags(remote, announced.name, announced.version, _tags(args, announced))
        except GarrisonError as error:
            output.print_error(error, as_json=False)


def _tags(args: argparse.Namespace, announced: webhook.Announced) -> dict[str, str]:
    """Import the version, and say in MLflow what came of it."""
    ref = f"{announced.name}@{announced.version}"
    try:
        result = link.call(
            args,
            "import.version",
            kind="mlflow",
            uri=f"models:/{announced.name}/{announced.version}",
            server=args.tracking_uri,
            ref=ref,
            owner=args.owner,
            tier=args.tier,
        )
    except GarrisonError as error:
        return {"garrison.verdict": error.code, "garrison.approved": "false"}
    shown = link.call(args, "model.show", ref=result["ref"])
    return {
        "garrison.digest": str(result["digest"]),
        "garrison.verdict": str(shown["verdict"]),
        "garrison.approved": "true" if shown["state"] == "approved" else "false",
    }


def _context(pem: str) -> ssl.SSLContext:
    """TLS 1.3 with a key that lies in memory alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    load_leaf(context, pem.encode())
    return context
