"""Another configuration while requests run: only a newer, whole one of ours is taken, and nothing waits for it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable

import pytest
from tests.gateway.rig import Rig, chat, parse_answer, read_answer
from tests.gateway.test_worker import launch

from garrison.core.digest import canonical_json
from garrison.gateway.snapshot import MAX_BYTES, PAYLOAD_TYPE
from garrison.trust import dsse
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import PublicKey

LONG = 60.0  # seconds


def test_nothing_but_a_newer_whole_one_of_our_own_is_taken(rig: Rig) -> None:
    """The older one, the other installation's, the cut one: each is refused, and the next good one is served by."""
    path = rig.snapshot_path
    older = path.read_bytes()
    rig.published()
    good = path.read_bytes()
    body = dsse.open_envelope(good, [_pinned(rig)], payload_type=PAYLOAD_TYPE)[0]
    foreign = FileSigner("snapshot")
    bad: dict[str, bytes] = {
        "older": older,
        "of another installation": canonical_json(dsse.sign(body, PAYLOAD_TYPE, foreign)),
        "signed for something else": canonical_json(dsse.sign(body, "application/json", rig.snapshot_key)),
        "unsigned": canonical_json({"payload": "", "payloadType": PAYLOAD_TYPE, "signatures": []}),
        "bare": body,
        "empty": b"",
        "too large": b"{" + b" " * (2 * MAX_BYTES),
        **{f"cut at {part}": good[: len(good) * part // 8] for part in (1, 4, 7)},
        "cut by a byte": good[:-2],
    }
    for name, data in bad.items():
        before = rig.plane.snapshots.rejected
        _replace(rig, data)
        rig.until(lambda before=before: rig.plane.snapshots.rejected > before, seconds=LONG)
        assert rig.plane.snapshots.version == rig.version, name
        assert rig.ask(chat()).status == 200, name
        assert rig.plane.snapshots.problem is not None
        assert rig.plane.snapshots.problem.fix, name
    path.unlink()
    path.mkdir()
    rig.until(lambda: rig.plane.snapshots.problem is not None, seconds=LONG)
    assert rig.ask(chat()).status == 200
    path.rmdir()
    rig.published(routes=[])
    assert rig.ask(chat()).code == "GW-MODEL"
    assert rig.plane.snapshots.problem is None


@pytest.mark.row("C12", kind="R")
def test_patterns_are_compiled_beside_what_is_served_and_no_request_fails(
    make_rig: Callable[..., Rig],
) -> None:
    """They take seconds, in which a worker that compiled them itself would answer nobody."""
    rig = make_rig()
    made = launch(rig, None)
    harmless, forbidden = rig.request(chat("hello")), rig.request(chat("about PROJECT-77123 please"))
    statuses: list[int] = []
    stop = threading.Event()

    def load() -> None:
        with contextlib.suppress(OSError), _dial(made.port) as client:
            while not stop.is_set():
                client.sendall(harmless)
                statuses.append(parse_answer(read_answer(client)).status)

    clients = [threading.Thread(target=load) for _ in range(2)]
    try:
        with _dial(made.port) as client:
            client.sendall(forbidden)
            assert parse_answer(read_answer(client)).status == 200
            for thread in clients:
                thread.start()
            pattern = {"name": "project", "regex": "PROJECT-[0-9]{5}", "effect": "block"}
            rig.publish(detect={"patterns": [pattern]})
            before, told = len(statuses), []
            ends = time.monotonic() + 2 * LONG
            while not told or (told[-1] == "" and time.monotonic() < ends):
                client.sendall(forbidden)
                answer = parse_answer(read_answer(client))
                told.append(answer.code if answer.status != 200 else "")
        assert told[-1] == "DLP-BLOCK"
        assert len(told) > 5, "nobody was answered while it was compiled"
        assert len(statuses) - before > 5
    finally:
        stop.set()
        for thread in clients:
            thread.join(LONG)
        made.process.kill()
        made.process.wait(LONG)
        os.close(made.parent)
        assert made.process.stdout is not None
        made.process.stdout.close()
    assert set(statuses) == {200}


def _pinned(rig: Rig) -> PublicKey:
    return PublicKey(rig.snapshot_key.key_id, "snapshot", rig.snapshot_key.public_pem())


def _replace(rig: Rig, data: bytes) -> None:
    draft = rig.snapshot_path.with_suffix(".new")
    draft.write_bytes(data)
    draft.replace(rig.snapshot_path)


def _dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=LONG)
