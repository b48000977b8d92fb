"""A server that makes a call outside its profile: refused by the kernel, and told by the call's name."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from tests.runtime.stage import need

from garrison.confine.profiles import SERVERS
from garrison.runtime.refused import KernelLog, RefusedCall, RefusedCalls, parsed
from garrison.runtime.running import innermost
from garrison.runtime.sandboxes import features
from garrison.runtime.sandboxes.base import Launch
from garrison.runtime.sandboxes.ladder import sandbox_for
from garrison.runtime.sandboxes.users import free_uid

SECONDS = 60.0
NUMBERS = {"x86_64": (109, "setpgid"), "aarch64": (154, "setpgid")}
PROGRAM = """
import ctypes, errno, time
libc = ctypes.CDLL(None, use_errno=True)
while True:  # again and again: the kernel leaves lines out of its log when there are many
    print(libc.syscall({number}, 0, 0), errno.errorcode[ctypes.get_errno()], flush=True)
    time.sleep(0.3)
"""
LINE = (
    b"5,922,78484276978,-;audit: type=1326 audit(1795459941.507:49): auid=4294967295 uid=70994 gid=70994"
    b' ses=4294967295 pid=16741 comm="python" exe="/usr/bin/python3.11" sig=0 arch=c000003e syscall=101'
    b" compat=0 ip=0x7f9b9e515d57 code=0x50001\n SUBSYSTEM=x\n"
)


def need_the_log() -> KernelLog:
    log = KernelLog()
    has_auditd = subprocess.run(["pgrep", "-x", "auditd"], check=False, capture_output=True).returncode == 0
    if not log.is_open or has_auditd or not features.logs_refusals():
        log.close()
        pytest.skip(
            "NOT PROVED HERE: this kernel's log does not tell what filters refuse, or may not be read"
        )
    return log


@pytest.mark.row("B05", kind="R")
@pytest.mark.parametrize("kind", sorted(SERVERS))
def test_a_call_outside_the_profile_is_refused_and_told_by_its_name(short_path: Path, kind: str) -> None:
    log = RefusedCalls(need_the_log())
    number, name = NUMBERS[os.uname().machine]
    uid = free_uid(())
    short_path.chmod(0o755)
    program, sockets = short_path / kind, short_path / "run"
    program.write_text(PROGRAM.format(number=number))
    sockets.mkdir(0o700)
    os.chown(sockets, uid, uid)
    readable, writable = os.pipe()
    order = Launch("x", program, sockets, uid, writable)
    process = sandbox_for(need("bwrap")).launch(order)
    os.close(writable)
    told: list[RefusedCall] = []
    try:
        assert os.read(readable, 100).startswith(b"-1 ENOSYS")
        until = time.monotonic() + SECONDS
        while not told and time.monotonic() < until:
            told += [call for call in log.fresh(uid) if call.name == name]
            os.read(readable, 100)  # one more try was made
    finally:
        if process.poll() is None:
            os.kill(innermost(process.pid), 9)
        process.wait(10)
        os.close(readable)
        log.log.close()
    assert told == [RefusedCall(uid, name, False)]
    assert order.facts["profile"] == kind.removesuffix(".py").replace("_", "-")
    assert order.facts["filter"].startswith("sha256:")


def test_a_line_of_the_kernel_names_the_call_and_nobody_else_can_write_one() -> None:
    assert parsed(LINE) == RefusedCall(70994, "ptrace", False)
    assert parsed(b"13" + LINE[1:]) is None  # a program's
    assert parsed(LINE.replace(b"sig=0", b"sig=31")) == RefusedCall(70994, "ptrace", True)
    assert parsed(b"12,5,1,-;a program says: " + LINE) is None  # what user space writes begins otherwise
    assert parsed(b"") is None
