"""Real models in a guest of their own. Each boot takes some seconds without KVM: `make microvm-test` runs these."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.onnx_graph import external_data
from tests.runtime.stage import Served, SignedModel, need, sign_model
from tests.runtime.test_inference import answers, one_file, tensor, wheel_file
from tests.runtime.test_serving import ask

from garrison.core.event import Event
from garrison.runtime.guest.boot import DIFFERS
from garrison.runtime.running import family
from garrison.runtime.sandboxes.base import Launch
from garrison.runtime.sandboxes.ladder import sandbox_for
from garrison.runtime.sandboxes.users import free_uid
from garrison.runtime.supervisor import Supervisor, Timing

pytestmark = pytest.mark.skipif(
    "GARRISON_MICROVM" not in os.environ,
    reason="NOT PROVED HERE: models served in a guest; each boot takes 5 to 60 s: make microvm-test",
)


@pytest.fixture
def served(short_path: Path) -> Served:
    """With time for guests that are emulated on a busy machine."""
    events: list[Event] = []
    timing = Timing(ready=200, first_backoff=0.05, grace=1)
    supervisor = Supervisor(record=events.append, now=lambda: datetime.now(UTC), timing=timing)
    return Served(supervisor, events, short_path)


@pytest.mark.row("B04", kind="R")
def test_a_real_onnx_model_answers_from_inside_a_guest(served: Served, tmp_path: Path) -> None:
    model = one_file(tmp_path / "m", wheel_file("magika", "models/standard_v3_3/model.onnx"), "magika")
    right = {"inputs": [tensor("bytes", "INT32", [1, 2048], [256] * 2048)]}
    _, (status, answer) = answers(served, model, need("microvm"), right)
    assert status == 200
    (scores,) = answer["outputs"]
    assert sum(scores["data"]) == pytest.approx(1, abs=1e-3)
    (loaded,) = served.events
    assert loaded.data["verified_digest"] == loaded.data["loaded_digest"]
    assert loaded.data["kernel"].startswith("sha256:")
    assert loaded.data["initial"].startswith("sha256:")
    assert loaded.data["acceleration"] in ("kvm", "tcg")


@pytest.mark.row("A08", kind="R")
def test_files_beside_the_graph_come_as_read_only_disks(served: Served, tmp_path: Path) -> None:
    model = sign_model(external_data(tmp_path / "m"), "beside")
    body = {"inputs": [tensor("x", "FP32", [3], [1, 2, 3])]}
    _, (status, answer) = answers(served, model, need("microvm"), body)
    assert (status, answer["outputs"][0]["data"]) == (200, [11.0, 22.0, 33.0])


@pytest.mark.row("B04", kind="R")
def test_a_language_model_streams_from_a_guest_whose_machine_is_confined_and_comes_back_when_it_is_killed(
    served: Served, chat_model: SignedModel
) -> None:
    body = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 3}

    async def story() -> dict[str, Any]:
        endpoint = await served.supervisor.start(served.spec(chat_model, need("microvm")))
        try:
            (state,) = served.supervisor.states()
            (machine,) = (
                pid for pid in family(state.pid) if "qemu" in Path(f"/proc/{pid}/exe").readlink().name
            )
            told = {line.split(":")[0]: line.split()[1:] for line in status_of(machine)}
            words = Path(f"/proc/{machine}/cmdline").read_bytes().decode().split("\0")
            asked = [
                asyncio.to_thread(ask, endpoint.address, "/v1/chat/completions", body),
                *(asyncio.to_thread(ask, endpoint.address, "/health") for _ in range(8)),
            ]
            answered = await asyncio.gather(*asked)
            os.kill(machine, signal.SIGKILL)
            async with asyncio.timeout(200):
                while (
                    served.supervisor.states()[0].restarts == 0
                    or served.supervisor.states()[0].state != "ready"
                ):
                    await asyncio.sleep(0.05)
            again = await asyncio.to_thread(ask, endpoint.address, "/health")
            return {"status": told, "words": words, "answered": answered, "again": again, "uid": state.uid}
        finally:
            await served.supervisor.close()

    told = asyncio.run(story())
    assert [status for status, _ in told["answered"]] == [200] * 9
    assert told["answered"][0][1]["choices"][0]["message"]["content"]
    assert told["again"][0] == 200
    assert set(told["status"]["Uid"]) == {str(told["uid"])}
    assert told["status"]["NoNewPrivs"] == ["1"]
    assert told["status"]["Seccomp"] == ["2"]
    assert int(told["status"]["Seccomp_filters"][0]) >= 2  # ours and QEMU's own
    assert told["status"]["CapEff"] == ["0" * 16]
    assert "-nodefaults" in told["words"]
    assert not any(word.startswith(("-nic", "-net", "virtio-net", "e1000")) for word in told["words"])
    codes = [(event.action, event.code) for event in served.events]
    assert codes == [("runtime.load", ""), ("runtime.crash", "RUN-CRASHED"), ("runtime.load", "")]


@pytest.mark.row("A08", kind="R")
def test_a_disk_that_changes_before_the_guest_has_read_it_ends_the_machine(short_path: Path) -> None:
    """Models are sealed, so this one is not: whoever could write it would be found out inside."""
    sandbox, uid = sandbox_for(need("microvm")), free_uid(())
    short_path.chmod(0o755)
    program, sockets = short_path / "program.py", short_path / "run"
    program.write_text("print('served what was changed', flush=True)")
    sockets.mkdir(0o700)
    os.chown(sockets, uid, uid)
    model, output = os.memfd_create("model"), os.memfd_create("output")
    try:
        os.write(model, b"m" * 100_000)
        process = sandbox.launch(Launch("x", program, sockets, uid, output, files={"model": model}))
        os.pwrite(model, b"x", 99_999)
        assert process.wait(200) == DIFFERS
        assert b"served" not in os.pread(output, 65_536, 0)
    finally:
        os.close(model)
        os.close(output)


def status_of(process: int) -> list[str]:
    return Path(f"/proc/{process}/status").read_text().splitlines()
