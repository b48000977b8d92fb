"""Runs outside, confined, as the model's own user: starts QEMU and is the host's end of its channel. A script.

Started as `python -I -S keeper.py FD`; FD holds JSON: `library` (the path of `relay.py`), `command` (QEMU's words,
with `{link}` for the descriptor of its end), `keep` (descriptors for it), `order` (for `boot.py`), `socket` (where to
listen). It ends with the status of the program in the guest; with 70 and the last words of the console when the guest
ended without one. The console is kept in memory, its last few kilobytes only.
"""

from __future__ import annotations

import importlib.util
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from typing import Any

MAX_CONSOLE = 8 * 1024
ENDED_EARLY = 70
TOLD_TO_END = 143
BACKLOG = 64
END_SECONDS = 10.0


def main() -> int:
    with open(int(sys.argv[1]), "rb") as file:
        order: dict[str, Any] = json.load(file)
    spec = importlib.util.spec_from_file_location("relay", order["library"])
    assert spec is not None  # the path is our own
    assert spec.loader is not None
    relay = importlib.util.module_from_spec(spec)
    sys.modules["relay"] = relay  # dataclasses look their module up
    spec.loader.exec_module(relay)
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(TOLD_TO_END))  # and so ends the machine
    ours, theirs = socket.socketpair()
    command = [word.replace("{link}", str(theirs.fileno())) for word in order["command"]]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={},
        pass_fds=(theirs.fileno(), *order["keep"]),
    ) as machine:
        theirs.close()
        try:
            return watch(relay, ours.fileno(), machine, order)
        finally:
            machine.kill()
            machine.wait(END_SECONDS)


def watch(relay: Any, link: int, machine: subprocess.Popen[bytes], order: dict[str, Any]) -> int:
    console = bytearray()
    status: list[int] = []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def frame(kind: int, data: bytes) -> None:
        if kind == relay.DATA:
            os.write(1, data)
        elif kind == relay.EXIT and len(data) == relay.STATUS.size:
            status.append(relay.STATUS.unpack(data)[0])
        elif kind == relay.ORDER and data == b"ready" and listener.getsockname() == "":
            listener.bind(order["socket"])
            listener.listen(BACKLOG)
            end.listen(listener)
        else:
            raise relay.Broken(f"a frame of kind {kind}")

    def printed(_events: int) -> None:
        assert machine.stdout is not None  # it is a pipe
        data = os.read(machine.stdout.fileno(), 4096)
        console.extend(data)
        del console[:-MAX_CONSOLE]
        if not data:
            raise relay.Broken("the machine ended")

    end = relay.Relay(link, frame, accept=True)
    end.selector.register(machine.stdout, selectors.EVENT_READ, printed)
    try:
        end.send(relay.ORDER, 0, json.dumps(order["order"]).encode())
        while not status:
            end.step()
    except relay.Broken as error:
        words = "".join(
            c if c.isprintable() or c == "\n" else "?" for c in console.decode("ascii", "replace")
        )
        os.write(1, f"{words}\n{error}\n".encode())
        return ENDED_EARLY
    finally:
        listener.close()
    return status[0]


if __name__ == "__main__":
    sys.exit(main())
