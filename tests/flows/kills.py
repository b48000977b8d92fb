"""kill -9 in the middle of every verb that changes the supply chain, and what has to be true afterwards.

The moments are found by watching the data directory change, so that they lie inside the work and not
before or after it; the seeds are fixed, the scheduling is not.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.flows.server import COMMAND, Server, environment, free_port

from garrison.artifacts.left_over import look
from garrison.core.errors import GarrisonError

OLD = (
    Path(__file__).parents[1] / "vectors" / "storage" / "spine.tar.gz"
)  # base@1, approved, by the release before schema 0002
LONGEST = 60.0  # seconds any one step may take
CUT = {"SRV-CUT", "SRV-DOWN", "SRV-STARTING"}  # how a client sees the kill


def state(data: Path) -> tuple[object, ...]:
    """Changes with every step of a publication or an approval."""
    found: list[object] = []
    for path in (data / "witness" / "checkpoint", data / "garrison.db-wal", data / "garrison.db"):
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((status.st_mtime_ns, status.st_size))
    for directory in (
        data / "objects" / "incoming",
        data / "models",
        data / "models" / "k",
        data / "run" / "imports",
        data / "keys",
        data / "run",
        data / "tuf",
    ):
        with contextlib.suppress(OSError):
            found.append(sorted(os.listdir(directory)))
    return tuple(found)


def kill_after(process: subprocess.Popen[str], data: Path, changes: int, done: Callable[[], bool]) -> None:
    """SIGKILL when the directory changed so many times, or when the work is done."""
    last, end = state(data), time.monotonic() + LONGEST
    while changes > 0 and not done() and time.monotonic() < end:
        now = state(data)
        changes -= now != last
        last = now
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGKILL)


def leftovers(data: Path) -> list[Path]:
    return [*(data / "objects" / "incoming").iterdir(), *(data / "models").glob(".incoming-*")]


def trees(data: Path) -> set[str]:
    return {
        f"{path.parent.name}@{path.name}"
        for path in (data / "models").glob("*/*")
        if path.is_dir() and not path.parent.name.startswith(".")
    }


@dataclass
class Told:
    """What the server answered before it was killed: all of it has to be there afterwards."""

    published: dict[str, str] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)
    approved: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)  # asked to change, not answered: either is right
    rotated: str = ""
    revoked: set[str] = field(default_factory=set)
    timestamp: str = ""  # the key that vouches for the list's age; empty while that is not known
    disowned: set[str] = field(default_factory=set)  # approved by somebody whose key was revoked


@dataclass
class Swept:
    """Per verb: how many kills there were, and how many came before its answer."""

    kills: Counter[str] = field(default_factory=Counter)
    inside: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return ", ".join(
            f"{verb} {self.kills[verb]} ({self.inside[verb]} inside)" for verb in sorted(self.kills)
        )


def sweep(server: Server, model: Path, instants: int, seed: int) -> Swept:
    """Kill the server `instants` times inside publish, import, approve, unapprove, rotate, revoke and resign.

    AssertionError for a version that is neither whole nor absent, an answer that was lost, a left-over or a
    ledger that does not verify.
    """
    chance, told, swept = random.Random(seed), Told(), Swept()
    turn = itertools.cycle(VERBS.items())
    for number in range(1, instants + 1):
        server.start()
        check(server, told)
        (model / "README.md").write_text(f"edition {number}\n")
        verb, steps = next(turn)
        work = verb(server, model, told, f"k@{number}")
        problems: list[GarrisonError] = []
        answered: list[bool] = []

        def ask(work: Callable[[], None] = work, problems: list[GarrisonError] = problems) -> None:
            try:
                work()
                answered.append(True)  # noqa: B023  # the thread ends within this turn
            except GarrisonError as problem:
                problems.append(problem)

        worker = threading.Thread(target=ask)
        worker.start()
        assert server.process is not None
        kill_after(server.process, server.data, chance.randint(1, steps), lambda w=worker: not w.is_alive())  # type: ignore[misc]  # the default binds the thread
        worker.join(LONGEST)
        server.kill()
        assert {error.code for error in problems} <= CUT, problems
        name = verb.__name__.strip("_")
        swept.kills[name] += 1
        swept.inside[name] += not answered
    server.start()
    check(server, told)
    assert server.cli("audit", "verify").status == 0
    assert server.stop() == 0
    return swept


def migrations(place: Path, instants: int, seed: int) -> Swept:
    """Kill the first start on a data directory of the schema before this one, each time on a fresh copy.

    Afterwards a start completes it: the version is whole and approved, nothing is left over.
    """
    chance, swept = random.Random(seed), Swept()
    for number in range(instants):
        data = place / f"old{number}"
        with tarfile.open(OLD) as archive:
            archive.extractall(data, filter="tar")
        swept.kills["migrate"] += 1
        swept.inside["migrate"] += killed_start(data, chance.randint(1, 10))
        server = Server(data).start()
        try:
            check(server, Told(approved={"base@1"}))
            assert server.cli("audit", "verify").status == 0
            assert server.stop() == 0
        finally:
            server.kill()
    return swept


def _publish(server: Server, model: Path, told: Told, ref: str) -> Callable[[], None]:
    told.tried.add(ref)

    def work() -> None:
        made = server.ask("model.publish", source=str(model), ref=ref, owner="o", tier="public")
        told.published[ref] = made["digest"]

    return work


def _import(server: Server, model: Path, told: Told, ref: str) -> Callable[[], None]:
    """A version from a Hugging Face cache: one file, found by the link of a snapshot."""
    told.tried.add(ref)
    home, commit = model.parent / f"models--k--{ref.partition('@')[2]}", "a" * 40
    content = (model / "README.md").read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    for folder in ("blobs", "refs", f"snapshots/{commit}"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    (home / "blobs" / blob).write_bytes(content)
    (home / "refs" / "main").write_text(commit)
    with contextlib.suppress(FileExistsError):
        (home / "snapshots" / commit / "README.md").symlink_to(f"../../blobs/{blob}")

    def work() -> None:
        source = {"kind": "hf", "path": str(home)}
        made = server.ask("import.version", ref=ref, owner="o", tier="public", **source)
        told.published[ref] = made["digest"]

    return work


def _approve(server: Server, model: Path, told: Told, ref: str) -> Callable[[], None]:
    _publish(server, model, told, ref)()

    def work() -> None:
        told.unsure.add(ref)
        server.ask("model.approve", identity="dana", ref=ref)
        told.unsure.discard(ref)
        told.approved.add(ref)

    return work


def _unapprove(server: Server, model: Path, told: Told, ref: str) -> Callable[[], None]:
    _approve(server, model, told, ref)()

    def work() -> None:
        told.approved.discard(ref)
        told.unsure.add(ref)
        server.ask("model.unapprove", ref=ref, reason="the sweep")

    return work


def _rotate(server: Server, _model: Path, told: Told, _ref: str) -> Callable[[], None]:
    def work() -> None:
        told.rotated = ""
        told.rotated = server.ask("key.rotate", role="release")["label"]

    return work


def _revoke(server: Server, model: Path, told: Told, ref: str) -> Callable[[], None]:
    _rotate(server, model, told, ref)()
    keys = server.ask("key.list")["keys"]
    retired = [key["label"] for key in keys if (key["role"], key["state"]) == ("release", "retired")]

    def work() -> None:
        server.ask("key.revoke", label=retired[0], reason="superseded")
        told.revoked.add(retired[0])

    return work


def _resign(server: Server, model: Path, told: Told, ref: str) -> Callable[[], None]:
    _publish(server, model, told, ref)()

    def work() -> None:
        server.ask("model.resign", ref=ref)

    return work


def _rotate_timestamp(server: Server, _model: Path, told: Told, _ref: str) -> Callable[[], None]:
    def work() -> None:
        told.timestamp = ""
        told.timestamp = server.ask("key.rotate", role="timestamp")["label"]

    return work


def _revoke_approver(server: Server, model: Path, told: Told, ref: str) -> Callable[[], None]:
    """Of a person of their own each time, so that what others approved has to stay."""
    who = f"kim-{ref.partition('@')[2]}"
    server.ask("user.add", name=who, roles=["approver"])
    _publish(server, model, told, ref)()
    server.ask("model.approve", identity=who, ref=ref)

    def work() -> None:
        told.unsure.add(ref)
        server.ask("key.revoke", label=f"approver.{who}", reason="compromise")
        told.disowned.add(ref)

    return work


# In about how many changes of the directory each is done: a kill after more of them proves nothing.
VERBS: dict[Callable[[Server, Path, Told, str], Callable[[], None]], int] = {
    _publish: 16,
    _import: 18,
    _approve: 4,
    _rotate: 3,
    _revoke: 3,
    _resign: 4,
    _unapprove: 4,
    _rotate_timestamp: 6,
    _revoke_approver: 5,
}


def check(server: Server, told: Told) -> None:
    """Every answer is there and whole; nothing is there that is not whole; nothing is left over."""
    listed: dict[str, dict[str, Any]] = {model["ref"]: model for model in server.ask("model.list")["models"]}
    assert told.published.keys() <= listed.keys()
    assert listed.keys() <= told.tried | {"base@1"}
    approved = {ref for ref, model in listed.items() if model["state"] == "approved"}
    assert told.approved - told.unsure <= approved
    assert not told.disowned & approved
    for ref, model in listed.items():
        verified = server.ask("model.verify", ref=ref)
        assert verified["digest"] == model["digest"] == told.published.get(ref, model["digest"])
    assert leftovers(server.data) == []
    assert not (left := look(server.data)), left
    assert trees(server.data) == set(listed)
    objects = [path for path in (server.data / "objects" / "sha256").rglob("*") if path.is_file()]
    assert not [path for path in objects if path.stat().st_nlink < 2], "an object that no version has"
    keys = {key["label"]: key for key in server.ask("key.list")["keys"]}
    for role, answered in (("release", told.rotated), ("timestamp", told.timestamp)):
        active = [label for label, key in keys.items() if key["role"] == role and key["state"] == "active"]
        assert len(active) == 1, f"not one key signs as {role}: {active}"
        assert answered in ("", *active)
        if role == "timestamp" and (newest := server.data / "tuf" / "metadata" / "timestamp.json").is_file():
            (signature,) = json.loads(newest.read_bytes())["signatures"]
            assert signature["keyid"] == keys[active[0]]["key_id"]
    assert all(keys[label]["state"] == "revoked" for label in told.revoked)


def killed_start(data: Path, changes: int) -> bool:
    """Kill a start after so many changes of the directory; whether it was killed before it was ready."""
    process = subprocess.Popen(
        [*COMMAND, "--data", str(data), "--json", "up", "--listen", f"127.0.0.1:{free_port()}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    kill_after(process, data, changes, lambda: (data / "run" / "ready.json").exists())
    out, err = process.communicate(timeout=LONGEST)
    assert "error" not in out, out
    assert "Traceback" not in err
    was_ready = (data / "run" / "ready.json").exists()
    (data / "run" / "ready.json").unlink(missing_ok=True)
    return not was_ready
