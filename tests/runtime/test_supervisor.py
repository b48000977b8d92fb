"""Servers that crash, hang, lose their bytes or their parent, and what the supervisor does about it."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.runtime.stage import Served, SignedModel, need, sign_model

from garrison.core.actions import Action
from garrison.core.digest import Ref
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.core.event import Event
from garrison.runtime.running import family, innermost
from garrison.runtime.sandboxes.users import FIRST_UID, UIDS, free_uid
from garrison.runtime.supervisor import ServerState, Supervisor, Timing


def only(served: Served) -> ServerState:
    (state,) = served.supervisor.states()
    return state


def is_alive(pid: int) -> bool:
    """Running, that is neither gone nor waiting to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_server_that_is_started_while_it_ends_keeps_its_socket(
    served: Served, embedding_model: SignedModel
) -> None:
    async def story() -> None:
        spec = served.spec(embedding_model, need("bwrap"))
        await served.supervisor.start(spec)
        ending = asyncio.create_task(served.supervisor.stop(spec.ref))
        await served.until(lambda: only(served).state == "stopped")
        endpoint = await served.supervisor.start(spec)
        await ending
        await served.supervisor.stop(Ref("another", 1))
        assert Path(endpoint.address.removeprefix("unix:")).is_socket()
        assert only(served).state == "ready"
        await served.supervisor.close()

    asyncio.run(story())


def test_what_the_system_refuses_at_a_start_is_a_sentence(
    served: Served, embedding_model: SignedModel, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    spec = replace(served.spec(embedding_model, need("bwrap")), run_directory=tmp_path / "file")
    with pytest.raises(Undecided) as refused:
        asyncio.run(served.supervisor.start(spec))
    assert refused.value.code == "HOST-IO"
    assert [event.code for event in served.events] == ["HOST-IO"]


@pytest.mark.row("B09", kind="R")
def test_a_crashed_server_is_noticed_at_once_and_comes_back_verified(
    served: Served, embedding_model: SignedModel, level: str
) -> None:
    async def story() -> None:
        await served.supervisor.start(served.spec(embedding_model, level))
        first = only(served)
        assert first.state == "ready"
        judged = len(embedding_model.judged)
        os.kill(innermost(first.pid), signal.SIGKILL)
        await served.until(lambda: only(served).state != "ready")
        await served.until(lambda: only(served).state == "ready")
        assert only(served).restarts == 1
        assert only(served).pid != first.pid
        assert len(embedding_model.judged) == judged + 1
        await served.supervisor.close()

    asyncio.run(story())
    assert [(event.action, event.code) for event in served.events] == [
        (Action.RUNTIME_LOAD, ""),
        (Action.RUNTIME_CRASH, "RUN-CRASHED"),
        (Action.RUNTIME_LOAD, ""),
    ]
    crash = served.events[1]
    assert crash.data["status"] in (-9, 137)
    assert crash.data["verified_digest"] == crash.data["loaded_digest"] == embedding_model.manifest.digest


@pytest.mark.row("B05", kind="R")
@pytest.mark.parametrize("isolation", ["runc", "gvisor"])
def test_a_killed_container_runtime_takes_its_server_with_it(
    served: Served, embedding_model: SignedModel, isolation: str
) -> None:
    need(isolation)

    async def story() -> None:
        await served.supervisor.start(served.spec(embedding_model, isolation))
        first = only(served)
        everybody = family(first.pid)
        assert len(everybody) >= 3
        os.kill(first.pid, signal.SIGKILL)
        await served.until(lambda: only(served).restarts == 1 and only(served).state == "ready")
        await served.until(lambda: not any(is_alive(pid) for pid in everybody))
        await served.supervisor.close()

    asyncio.run(story())


@pytest.mark.parametrize("isolation", ["bwrap", "gvisor"])
def test_a_hung_server_is_noticed_and_replaced(
    served: Served, embedding_model: SignedModel, isolation: str
) -> None:
    need(isolation)

    async def story() -> None:
        await served.supervisor.start(served.spec(embedding_model, isolation))
        stopped = innermost(only(served).pid)
        for pid in family(only(served).pid)[1:] if isolation == "gvisor" else [stopped]:
            os.kill(pid, signal.SIGSTOP)
        await served.until(lambda: any(event.action is Action.RUNTIME_CRASH for event in served.events))
        await served.until(lambda: only(served).state == "ready")
        assert not is_alive(stopped)
        await served.supervisor.close()

    assert Timing().interval + Timing().deadline < 2  # seconds until a silent server counts as hung
    asyncio.run(story())
    assert [event.code for event in served.events] == ["", "RUN-HUNG", ""]


@pytest.mark.row("A08", kind="R")
def test_a_server_whose_bytes_changed_meanwhile_does_not_come_back(
    served: Served, minilm_dir: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "model"
    subprocess.run(["cp", "-r", str(minilm_dir), str(directory)], check=True)
    model = sign_model(directory, "minilm")

    async def story() -> None:
        await served.supervisor.start(served.spec(model, need("bwrap")))
        with (directory / "config.json").open("a") as file:
            file.write(" ")
        os.kill(innermost(only(served).pid), signal.SIGKILL)
        await served.until(lambda: only(served).state == "failed")
        assert only(served).reason == "ART-TAMPER"
        await served.supervisor.close()

    asyncio.run(story())
    assert [(event.outcome, event.code) for event in served.events][1:] == [
        ("error", "RUN-CRASHED"),
        ("denied", "ART-TAMPER"),
    ]


@pytest.mark.row("B01", kind="R")
def test_stopping_leaves_no_process_and_no_socket(
    served: Served, embedding_model: SignedModel, level: str
) -> None:
    async def story() -> list[int]:
        endpoint = await served.supervisor.start(served.spec(embedding_model, level))
        pids = [only(served).pid, innermost(only(served).pid)]
        assert Path(endpoint.address.removeprefix("unix:")).is_socket()
        await served.supervisor.stop(embedding_model.ref)
        await served.supervisor.stop(embedding_model.ref)
        assert only(served).state == "stopped"
        return pids

    assert not any(is_alive(pid) for pid in asyncio.run(story()))
    assert list(served.run_directory.iterdir()) == []


@pytest.mark.row("B05", kind="R")
def test_two_models_run_side_by_side_as_different_users(
    served: Served, chat_model: SignedModel, embedding_model: SignedModel
) -> None:
    async def story() -> tuple[ServerState, ...]:
        await asyncio.gather(
            served.supervisor.start(served.spec(chat_model, need("bwrap"))),
            served.supervisor.start(served.spec(embedding_model, need("bwrap"))),
        )
        states = served.supervisor.states()
        for state in states:
            directory = served.run_directory / f"{state.ref.name}-{state.ref.version}"
            assert directory.stat().st_uid == state.uid
            assert directory.stat().st_mode & 0o777 == 0o700
        await served.supervisor.close()
        return states

    one, other = asyncio.run(story())
    if os.geteuid() == 0:
        assert one.uid != other.uid
        assert 0 not in (one.uid, other.uid)


def test_a_version_that_is_served_is_not_started_twice(served: Served, embedding_model: SignedModel) -> None:
    async def story() -> None:
        await served.supervisor.start(served.spec(embedding_model, need("landlock")))
        with pytest.raises(Refused) as refusal:
            await served.supervisor.start(served.spec(embedding_model, need("landlock")))
        assert refusal.value.code == "RUN-RUNNING"
        await served.supervisor.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"notes.txt": b"nothing to serve"}, "RUN-UNSERVABLE"),
        ({"a.gguf": b"GGUF", "b.gguf": b"GGUF"}, "RUN-UNSERVABLE"),
        ({"model.gguf": b"GGUF" + b"\xff" * 4096}, "RUN-NOT-READY"),
        ({"config.json": b"[", "tokenizer.json": b"{}", "model.safetensors": b""}, "RUN-UNSERVABLE"),
        (
            {"config.json": b'{"model_type": "t5"}', "tokenizer.json": b"{}", "model.safetensors": b""},
            "RUN-UNSERVABLE",
        ),
        (
            {
                "config.json": b'{"model_type": "bert", "hidden_act": "gelu"}',
                "tokenizer.json": b"{}",
                "model.safetensors": b"\xff" * 64,
            },
            "RUN-NOT-READY",
        ),
    ],
)
def test_a_model_that_cannot_be_served_ends_in_a_sentence(
    served: Served, tmp_path: Path, files: dict[str, bytes], code: str
) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    model = sign_model(directory, "odd")
    with pytest.raises(GarrisonError) as refusal:
        asyncio.run(served.supervisor.start(served.spec(model, need("bwrap"))))
    assert refusal.value.code == code
    assert refusal.value.fix
    assert isinstance(refusal.value, Undecided if code == "RUN-NOT-READY" else Refused)
    assert only(served).state == "failed"
    assert list(served.run_directory.iterdir()) == []


def test_a_data_directory_with_a_very_long_path_is_refused_with_advice(
    served: Served, embedding_model: SignedModel
) -> None:
    served.run_directory = served.run_directory / ("d" * 100)
    with pytest.raises(Usage) as refusal:
        asyncio.run(served.supervisor.start(served.spec(embedding_model, need("bwrap"))))
    assert refusal.value.code == "RUN-SOCKET-PATH"


def test_a_server_that_is_stopped_while_it_starts_does_not_stay(
    served: Served, embedding_model: SignedModel
) -> None:
    async def story() -> None:
        starting = asyncio.create_task(served.supervisor.start(served.spec(embedding_model, need("bwrap"))))
        await served.until(lambda: bool(served.supervisor.states()))
        await served.supervisor.close()
        with pytest.raises(Undecided) as refusal:
            await starting
        assert refusal.value.code == "RUN-NOT-READY"
        assert only(served).state == "stopped"

    asyncio.run(story())
    assert list(served.run_directory.iterdir()) == []


def test_without_a_ledger_to_write_to_a_server_is_ended(served: Served, embedding_model: SignedModel) -> None:
    def record(event: Event) -> None:
        if event.action is Action.RUNTIME_CRASH:
            raise Undecided("DB-UNAVAILABLE", "the database did not answer", fix="free the disk")
        served.events.append(event)

    served.supervisor = Supervisor(
        record=record, now=lambda: datetime.now(UTC), timing=Timing(first_backoff=0.05)
    )

    async def story() -> None:
        await served.supervisor.start(served.spec(embedding_model, need("bwrap")))
        os.kill(innermost(only(served).pid), signal.SIGKILL)
        await served.until(lambda: only(served).state == "failed")
        assert only(served).reason == "DB-UNAVAILABLE"
        await served.supervisor.close()

    asyncio.run(story())


PARENT = """
import sys
from pathlib import Path
from garrison.runtime.sandboxes.base import Launch
from garrison.runtime.sandboxes.ladder import sandbox_for
directory, uid, program, level = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
process = sandbox_for(level).launch(Launch("x", program, directory, uid, 1))
print(process.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.row("B01", kind="R")
def test_servers_die_with_the_process_that_answers_for_them(level: str, short_path: Path) -> None:
    uid = free_uid(())
    sockets = short_path / "run"
    sockets.mkdir(0o700)
    if os.geteuid() == 0:
        os.chown(sockets, uid, uid)
    program = short_path / "waits.py"
    program.write_text("import signal\nprint('started', flush=True)\nsignal.pause()\n")
    short_path.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(sockets), str(uid), str(program), level],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        said = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
        (pid,) = (int(word) for word in said - {"started"})
        descriptors = [os.pidfd_open(pid), os.pidfd_open(innermost(pid))]
        parent.kill()
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
        assert poll.poll(10_000), "it outlived its parent"
        poll.unregister(descriptor)
        os.close(descriptor)


def test_user_ids_come_from_their_range_and_are_not_shared() -> None:
    if os.geteuid() != 0:
        assert free_uid(()) == os.getuid()
        return
    first = free_uid(())
    second = free_uid((first,))
    assert FIRST_UID <= first < second < FIRST_UID + UIDS
    with pytest.raises(Undecided) as refusal:
        free_uid(range(FIRST_UID, FIRST_UID + UIDS))
    assert refusal.value.code == "RUN-USERS"
