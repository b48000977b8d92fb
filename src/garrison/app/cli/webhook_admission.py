"""`garrison webhook admission`: the listener that an API server asks before anything starts.

It holds no key and no database: each review goes through the control socket to `admission.review`. What it
cannot have judged in time, it denies; what cannot be read is denied with the uid that could be found.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from garrison.app.cli import link
from garrison.core.errors import GarrisonError, Refused, Usage
from garrison.runtime.kube import review
from garrison.runtime.kube.policy import SERVICE
from garrison.runtime.kube.review import Denial, Ruling
from garrison.runtime.kube.words import SYSTEM_NAMESPACE
from garrison.trust import ca

REQUEST_SECONDS = 10.0  # for one request to arrive; an API server gives up after five
MAX_AT_ONCE = 64  # reviews being judged; further ones are told to come again
MAX_DISCARDED = 16 << 20  # bytes of a review that is too large
RENEW_SECONDS = 24 * 3600.0  # the certificate lives for seven days
PATHS = {"/validate": False, "/mutate": True}
NAMES = (SERVICE, f"{SERVICE}.{SYSTEM_NAMESPACE}", f"{SERVICE}.{SYSTEM_NAMESPACE}.svc")


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "admission",
        help="answer a Kubernetes API server: may it enter?",
        epilog="example: garrison webhook admission --listen 0.0.0.0:9443",
    )
    parser.add_argument(
        "--listen", default="127.0.0.1:9443", metavar="HOST:PORT", help="where to listen (TLS)"
    )
    parser.add_argument(
        "--tls", type=Path, metavar="DIR", help="tls.crt and tls.key (default: the local CA's)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    host, _, port = args.listen.rpartition(":")
    if not host or not port.isdigit():
        raise Usage("SET-VALUE", f"{args.listen!a} is not HOST:PORT", fix="use --listen 127.0.0.1:9443")
    server = ThreadingHTTPServer((host.strip("[]"), int(port)), _handler(args))
    server.daemon_threads = True
    context = _context(args, host)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    ending = threading.Event()
    threading.Thread(target=_renew, args=(args, host, context, ending), daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    ready = {"event": "ready", "url": f"https://{host}:{server.server_port}", "pid": os.getpid()}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    with server:
        server.serve_forever(poll_interval=0.2)
    ending.set()
    return 0


def _handler(args: argparse.Namespace) -> Any:
    free = threading.BoundedSemaphore(MAX_AT_ONCE)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # an API server keeps its connections
        timeout = REQUEST_SECONDS
        server_version, sys_version = "garrison", ""

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if self.path.partition("?")[0] not in PATHS or not re.fullmatch(r"[0-9]{1,9}", length):
                self.close_connection = True
                self._answer(
                    404, {"error": "POST an AdmissionReview, with a length, to /validate or /mutate"}
                )
                return
            if int(length) > review.MAX_REVIEW_BYTES:
                self._discard(int(length))
                self._answer(200, _denied(args, "", review.unreadable(f"{int(length):,} bytes are too many")))
                return
            data = self.rfile.read(int(length))
            if len(data) < int(length):
                self.close_connection = True
                return
            if not free.acquire(blocking=False):
                self._answer(503, {"error": "too many reviews at once"})
                return
            try:
                self._answer(200, judged(args, data, mutate=PATHS[self.path.partition("?")[0]]))
            finally:
                free.release()

        def _discard(self, length: int) -> None:
            """Read it away, so that the answer arrives; more than that is not waited for."""
            self.close_connection = True
            left = min(length, MAX_DISCARDED)
            while left and (chunk := self.rfile.read(min(left, 65_536))):
                left -= len(chunk)

        def do_GET(self) -> None:
            self._answer(200 if self.path == "/livez" else 404, {})

        def _answer(self, status: int, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: what happened is in the ledger."""

    return Handler


def judged(args: argparse.Namespace, data: bytes, *, mutate: bool) -> dict[str, Any]:
    """The AdmissionReview that goes back, whatever came."""
    try:
        asked = review.read(data)
        if not asked.uid:
            raise review.unreadable("it is an object and not a review")
    except Refused as error:
        return _denied(args, review.uid_of(data), error)
    try:
        answer: dict[str, Any] = link.call(
            args, "admission.review", review=review.document_of(data), mutate=mutate
        )["review"]
    except GarrisonError as error:  # no server, no rights, no list: nobody said yes
        return review.answer(asked.uid, Ruling((Denial(error.code, error.what, "admission", error.fix),)))
    return answer


def _denied(args: argparse.Namespace, uid: str, error: GarrisonError) -> dict[str, Any]:
    # It always answers with the refusal itself; without a server there is no record.
    with contextlib.suppress(GarrisonError):
        link.call(args, "admission.refused", why=error.what)
    return review.answer(uid, Ruling((Denial(error.code, error.what, "request", error.fix),)))


def _context(args: argparse.Namespace, host: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _load(args, host, context)
    return context


def _load(args: argparse.Namespace, host: str, context: ssl.SSLContext) -> None:
    if args.tls is not None:
        try:
            context.load_cert_chain(args.tls / "tls.crt", args.tls / "tls.key")
        except (OSError, ssl.SSLError) as error:
            raise Usage(
                "K8S-FILE", f"{args.tls} holds no certificate: {error}", fix="give tls.crt and tls.key"
            ) from None
        return
    # Asked by whoever starts the listener; what comes in later is done as --as says, with fewer rights.
    starter = argparse.Namespace(**{**vars(args), "identity": None})
    leaf = link.call(starter, "webhook.certificate", host=host.strip("[]"), names=",".join(NAMES))
    ca.load_leaf(context, (leaf["key"] + leaf["chain"]).encode())


def _renew(args: argparse.Namespace, host: str, context: ssl.SSLContext, ending: threading.Event) -> None:
    """New connections get the new certificate; a day without a server costs nothing."""
    while not ending.wait(RENEW_SECONDS):
        try:
            _load(args, host, context)
        except GarrisonError as error:
            sys.stderr.write(f"the certificate was not renewed: {error.code}\n")
