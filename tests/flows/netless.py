"""What a site does that has no network: a script for `unshare -n`, run in a namespace where nothing is but itself.

    unshare -n python -m tests.flows.netless device DATA BUNDLE UNLOCK NOTICE EVENTS
    unshare -n python -m tests.flows.netless house DATA MODEL

It prints one JSON document about what it saw and did.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.flows.server import COMMAND, Answer, Server, environment

from garrison.app.edge_device import raise_loopback

PATIENCE = 60.0  # seconds; what is waited for happens within two
QUESTION = {"inputs": [{"name": "x", "shape": [3], "datatype": "FP32", "data": [1, 2, 3]}]}


class DeviceServer(Server):
    """`garrison edge run` on a device's data directory."""

    def __init__(self, data: Path, bundle: Path, unlock: Path) -> None:
        super().__init__(data, 18443)  # in a namespace of its own every port is free
        self.words = ["edge", "run", str(bundle), "--unlock", str(unlock)]

    def start(self) -> DeviceServer:
        words = [*COMMAND, "--data", str(self.data), *self.words, "--listen", f"{self.host}:{self.port}"]
        with self.data.with_suffix(".log").open("a") as log:
            self.process = subprocess.Popen(
                [*words, "--json"], stdout=subprocess.PIPE, stderr=log, text=True, env=environment()
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.ready = json.loads(line or "{}")
        return self


def infer(server: Server, token: str) -> list[float]:
    """The answer; an empty one when there is no such model any more."""
    context = ssl.create_default_context(cafile=str(server.data / "ca.pem"))
    connection = http.client.HTTPSConnection(server.host, server.port, context=context, timeout=60)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request("POST", "/v2/models/adder/infer", json.dumps(QUESTION), headers)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    if "outputs" not in answer and response.status != 404:
        raise AssertionError(answer)
    if response.status == 404:
        return []
    found: list[float] = answer["outputs"][0]["data"]
    return found


def outside() -> str:
    """How a try to leave ends; empty when it does not fail."""
    try:
        socket.create_connection(("192.0.2.1", 443), timeout=5).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def device(data: Path, bundle: Path, unlock: Path, notice: Path, events: Path) -> dict[str, Any]:
    server = DeviceServer(data, bundle, unlock).start()
    try:
        token = server.token(model="adder")
        answer = infer(server, token)
        checked = server.ok("edge", "verify", str(bundle))
        noticed = server.ok("edge", "accept", str(notice))
        ends = time.monotonic() + PATIENCE
        while infer(server, token) and time.monotonic() < ends:
            time.sleep(0.2)
        withdrawn = not infer(server, token)
        server.stop()
        # Without a server now: what was asked is in the ledger for certain.
        told = server.ok("edge", "forward", "--out", str(events))
        audit = server.ok("audit", "verify")
    finally:
        server.kill()
    return {
        "answer": answer,
        "verify": checked,
        "notice": noticed,
        "withdrawn": withdrawn,
        "forward": told,
        "audit": audit,
        "outside": outside(),
    }


def house(data: Path, model: Path) -> dict[str, Any]:
    """The whole way of a model, from its files to an answer and the audit, in a place without a network."""
    raise_loopback()
    server = Server(data, 18444).start()
    try:
        scanned: Answer = server.cli("scan", str(model))
        server.publish(model, "adder@1")
        server.ok("--as", "dana", "approve", "adder@1")
        server.ok("serve", "adder@1")
        answer = infer(server, server.token(model="adder"))
        server.ok("model", "pull", "adder@1", str(data.with_name("pulled")))
        found = {
            "scan": scanned.json["verdict"],
            "answer": answer,
            "verify": server.ok("verify", str(data.with_name("pulled")), "--as", "adder@1"),
            "posture": server.cli("posture").status,
            "doctor": server.cli("doctor").status,
        }
        server.stop()
        found["audit"] = server.ok("audit", "verify")
    finally:
        server.kill()
    return {**found, "outside": outside()}


if __name__ == "__main__":
    _, what, *places = sys.argv
    told = {"device": device, "house": house}[what](*map(Path, places))  # type: ignore[operator]  # by its name
    print(json.dumps(told))
