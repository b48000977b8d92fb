"""Each isolation level against the contract, the probe against no isolation, and the names of levels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.contracts.sandbox import SandboxContract
from tests.runtime.stage import need

from garrison.core.errors import Undecided, Usage
from garrison.runtime.probe import ATTACKS, CONTROL_MINIMUM, control, probe
from garrison.runtime.sandboxes import features, start
from garrison.runtime.sandboxes.base import Launch, Sandbox
from garrison.runtime.sandboxes.bwrap import Bubblewrap
from garrison.runtime.sandboxes.gvisor import Gvisor
from garrison.runtime.sandboxes.ladder import LEVELS, sandbox_for
from garrison.runtime.sandboxes.microvm import MicroVM
from garrison.runtime.sandboxes.runc import Runc
from garrison.runtime.sandboxes.users import free_uid

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can show what an unconfined root could do"
)


class TestBubblewrap(SandboxContract):
    @pytest.fixture(scope="class")
    @classmethod
    def sandbox(cls) -> Sandbox:
        return sandbox_for(need("bwrap"))


class TestLandlock(SandboxContract):
    @pytest.fixture(scope="class")
    @classmethod
    def sandbox(cls) -> Sandbox:
        return sandbox_for(need("landlock"))


class TestRunc(SandboxContract):
    @pytest.fixture(scope="class")
    @classmethod
    def sandbox(cls) -> Sandbox:
        return sandbox_for(need("runc"))


class TestGvisor(SandboxContract):
    @pytest.fixture(scope="class")
    @classmethod
    def sandbox(cls) -> Sandbox:
        return sandbox_for(need("gvisor"))


@pytest.mark.row("B02", kind="R")
def test_the_kernel_that_answers_inside_is_gvisors_own(short_path: Path) -> None:
    sandbox = sandbox_for(need("gvisor"))
    uid = free_uid(())
    short_path.chmod(0o755)
    program, sockets = short_path / "kernel.py", short_path / "run"
    program.write_text(
        "import json, os; print(json.dumps([os.uname().release, os.listdir('/proc/self/fd')]))"
    )
    sockets.mkdir(0o700)
    os.chown(sockets, uid, uid)
    readable, writable = os.pipe()
    with os.fdopen(readable) as told:
        process = sandbox.launch(Launch("kernel", program, sockets, uid, writable))
        os.close(writable)
        release, descriptors = json.loads(told.read())
        assert process.wait(20) == 0
    assert release != os.uname().release
    assert release.startswith("4.4.0")  # what gVisor says it is, whatever the host runs
    assert len(descriptors) <= 4


@pytest.mark.row("B02", kind="R")
@pytest.mark.parametrize("made", [Gvisor, Runc])
def test_a_machine_without_the_runtime_refuses_the_level(made: type[Gvisor | Runc], tmp_path: Path) -> None:
    absent = made(binary=str(tmp_path / "runtime"))
    assert not absent.available().ok
    with pytest.raises(Undecided, match="cannot be had"):
        absent.launch(Launch("x", tmp_path / "x.py", tmp_path, 70_900, 2))


@needs_root
@pytest.mark.row("B05", kind="R")
def test_the_probe_can_see_what_is_open_without_a_sandbox() -> None:
    found = control()
    assert len(found.open) >= CONTROL_MINIMUM
    assert "kernel.core-pattern" in found.open


@pytest.mark.row("B01", kind="R")
@pytest.mark.row("B04", kind="R")
@pytest.mark.row("B05", kind="R")
@pytest.mark.row("S22", kind="R")
def test_a_guest_keeps_the_same_contract(tmp_path: Path) -> None:
    """All of it in one test, since each start of a guest takes seconds where there is no KVM."""
    sandbox, contract = sandbox_for(need("microvm")), SandboxContract()
    matrix = probe(sandbox)
    assert matrix.level == "microvm"
    contract.test_nothing_is_open_but_what_is_given(matrix)
    for attack in ATTACKS:
        contract.test_a_hostile_model_server_cannot(matrix, attack)
    contract.test_it_runs_as_an_unprivileged_user(matrix)
    contract.test_user_0_is_refused_before_anything_is_started(sandbox, tmp_path)
    if "GARRISON_MICROVM" in os.environ:
        contract.test_a_program_that_is_not_there_ends_with_a_status(sandbox, tmp_path)


@pytest.mark.row("B04", kind="R")
def test_without_qemu_or_a_kernel_the_level_is_refused_with_the_reason_and_never_lowered(
    tmp_path: Path,
) -> None:
    for absent, reason in (
        (MicroVM(binary=str(tmp_path / "qemu")), "QEMU is not installed"),
        (MicroVM(roots=(tmp_path,)), "no kernel for a guest"),
    ):
        assert not absent.available().ok
        with pytest.raises(Undecided, match=reason) as refusal:
            absent.launch(Launch("x", tmp_path / "x.py", tmp_path, 70_900, 2))
        assert refusal.value.exit_status == 3


@pytest.mark.row("S23", kind="R")
@pytest.mark.parametrize("level", ["pod"])
def test_a_level_that_cannot_be_had_is_refused_and_never_lowered(level: str) -> None:
    with pytest.raises(Undecided) as refusal:
        sandbox_for(level)
    assert refusal.value.code == "ISO-UNAVAILABLE"
    assert refusal.value.exit_status == 3


def test_an_unknown_level_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(Usage) as refusal:
        sandbox_for("bwarp")
    assert refusal.value.code == "ISO-UNKNOWN"
    assert "bwrap" in refusal.value.fix


def test_a_machine_without_bubblewrap_says_what_to_install(tmp_path: Path) -> None:
    absent = Bubblewrap(binary=str(tmp_path / "bwrap"))
    found = absent.available()
    assert not found.ok
    assert any("bubblewrap" in sentence for sentence in found.missing)


def test_the_levels_are_named_weakest_first() -> None:
    assert LEVELS.index("landlock") < LEVELS.index("bwrap") < LEVELS.index("microvm")


@pytest.mark.parametrize(("kind", "answer"), [("computer", "asked"), ("device", "EACCES")])
def test_a_declared_device_takes_requests_and_the_devices_of_all_do_not(kind: str, answer: str) -> None:
    """What computes is used by nothing but requests (ioctl); of /dev/random none is needed."""
    if features.landlock_abi() < 5:
        pytest.skip("NOT PROVED HERE: this kernel's Landlock does not judge requests to devices")
    program = f"""
import errno, fcntl, runpy
confine = runpy.run_path({str(start.CONFINE)!r})
confine["no_new_privileges"]()
confine["restrict_files"](["/usr", "/lib", {sys.base_prefix!r}], [({kind!r}, "/dev/random")], 5)
with open("/dev/random", "rb") as device:
    try:
        fcntl.ioctl(device, 0x80045200, bytes(4))
        print("asked")
    except OSError as error:
        print(errno.errorcode[error.errno])
"""
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, timeout=60, check=False)
    assert done.stdout.decode().strip() == answer, done.stderr
