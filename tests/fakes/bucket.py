"""S3 on loopback: moto's server in a thread, credentials for it, and a proxy that counts and cuts."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class Cloud:
    url: str

    def client(self, service: str = "s3") -> Any:
        return boto3.client(service, endpoint_url=self.url)

    def bucket(self, *, guarded: bool = True) -> str:
        """A new bucket, with everything that `store check` asks for unless it is not to be guarded."""
        name, s3 = f"models-{uuid.uuid4().hex[:12]}", self.client()
        s3.create_bucket(Bucket=name)
        if guarded:
            guard(s3, name)
        return name


def guard(s3: Any, name: str) -> None:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    block = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=dict.fromkeys(block, True))


@contextmanager
def cloud() -> Iterator[Cloud]:
    before = {key: os.environ.get(key) for key in CREDENTIALS}
    os.environ.update(CREDENTIALS)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield Cloud(f"http://{host}:{port}")
    finally:
        server.stop()
        for key, value in before.items():
            os.environ.pop(key, None) if value is None else os.environ.update({key: value})


class Proxy:
    """Passes bytes on to the service; `room` is how many it takes towards it before it cuts everything off.

    `cut_answers_at` are counts of bytes from the service: at each of them one connection is cut.
    """

    def __init__(self, url: str, room: int | None = None, cut_answers_at: tuple[int, ...] = ()) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self.room = room
        self.sent = 0
        self.answered = 0
        self.cuts = list(cut_answers_at)
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._socket.accept()
                if self.room is not None and self.sent >= self.room:
                    near.close()
                    continue
                far = socket.create_connection(self._target)
                for source, sink, counted in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pass, args=(source, sink, counted), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if counted:
                    with self._lock:
                        self.sent += len(data)
                    if self.room is not None and self.sent > self.room:
                        source.close()
                        sink.close()
                        return
                if not counted and self._is_cut(len(data)):
                    break
                sink.sendall(data)
        for side in (source, sink):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()

    def _is_cut(self, count: int) -> bool:
        with self._lock:
            self.answered += count
            if self.cuts and self.answered > self.cuts[0]:
                self.cuts.pop(0)
                return True
        return False
