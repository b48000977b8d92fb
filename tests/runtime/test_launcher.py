"""The four ways in which a launcher of bubblewrap goes wrong: shown as they are, and not so here.

It is started by root; it is started with the host's environment or tells host paths in its arguments; descriptors are
left open; and its network namespace is taken for a wall against every kind of socket.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.stage import need

from garrison.runtime.running import family, innermost
from garrison.runtime.sandboxes import start
from garrison.runtime.sandboxes.base import Launch
from garrison.runtime.sandboxes.ladder import sandbox_for
from garrison.runtime.sandboxes.users import free_uid

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can start it as root, and look into its processes"
)
PYTHON = os.path.realpath(sys.executable)
SECRET = "of-the-host-alone"
FAMILIES = {
    "inet": socket.AF_INET,
    "inet6": socket.AF_INET6,
    "netlink": socket.AF_NETLINK,
    "vsock": socket.AF_VSOCK,
}
LOOK = """
import json, os, socket, time
made = []
for name, family in {families}.items():
    try:
        socket.socket(family, socket.SOCK_RAW if name == "netlink" else socket.SOCK_STREAM).close()
        made.append(name)
    except OSError:
        pass
fds = []
for fd in range(3, 1024):
    try:
        os.fstat(fd)
        fds.append(fd)
    except OSError:
        pass
print(json.dumps([made, fds]), flush=True)
{after}
"""


def looked(*options: str, environment: dict[str, str] | None = None, keep: tuple[int, ...] = ()) -> Any:
    """What the program sees in a bubblewrap that is started in another way than ours."""
    need("bwrap")
    program = LOOK.format(families={name: int(family) for name, family in FAMILIES.items()}, after="")
    words = [
        "bwrap",
        "--ro-bind",
        "/",
        "/",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        *options,
        PYTHON,
        "-I",
        "-S",
        "-c",
    ]
    done = subprocess.run(
        [*words, program], env=environment or {}, pass_fds=keep, capture_output=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


@contextmanager
def launched(directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], Any]]:
    """The same program in the level bwrap, started while a descriptor is open and a secret in the environment."""
    need("bwrap")
    directory.chmod(0o755)
    program, sockets = directory / "look.py", directory / "run"
    families = {name: int(family) for name, family in FAMILIES.items()}
    program.write_text(LOOK.format(families=families, after="time.sleep(600)"))
    sockets.mkdir(0o700)
    uid = free_uid(())
    os.chown(sockets, uid, uid)
    with ExitStack() as stack:
        leaked = stack.enter_context((directory / "leaked").open("w"))
        os.set_inheritable(leaked.fileno(), True)
        os.environ["LAUNCHER_SECRET"] = SECRET
        stack.callback(os.environ.pop, "LAUNCHER_SECRET")
        readable, writable = os.pipe()
        told = stack.enter_context(os.fdopen(readable))
        process = sandbox_for("bwrap").launch(Launch("look", program, sockets, uid, writable))
        os.close(writable)
        try:
            yield process, json.loads(told.readline())
        finally:
            if process.poll() is None:
                os.kill(innermost(process.pid), 9)
            process.wait(30)


@needs_root
@pytest.mark.row("B01", kind="R")
def test_the_script_that_becomes_another_user_refuses_to_execute_as_user_0() -> None:
    """Bubblewrap started by root stays root outside and could write core_pattern: it is never started so."""
    order = {"uid": 0, "parent": os.getpid(), "reach": [], "command": ["/bin/true"], "environment": {}}
    descriptor = start.memory_file("order", json.dumps(order).encode())
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(start.DESCEND), str(descriptor)],
            pass_fds=(descriptor,),
            capture_output=True,
            check=False,
            timeout=60,
        )
    finally:
        os.close(descriptor)
    assert done.returncode != 0
    assert b"user 0" in done.stderr


@needs_root
@pytest.mark.row("B01", kind="R")
def test_bubblewrap_as_root_would_leave_core_pattern_writable_which_is_why_it_is_refused() -> None:
    need("bwrap")
    attempt = "p = open('/proc/sys/kernel/core_pattern').read(); open('/proc/sys/kernel/core_pattern', 'w').write(p)"
    options = ["--unshare-all", "--uid", "10001", "--ro-bind", "/", "/", "--proc", "/proc"]
    done = subprocess.run(
        ["bwrap", *options, os.path.realpath(sys.executable), "-I", "-S", "-c", attempt],
        capture_output=True,
        check=False,
        env={},
        timeout=60,
    )
    if done.returncode != 0:
        pytest.skip("this bubblewrap or kernel stops it by itself")


@needs_root
@pytest.mark.row("B01", kind="R")
def test_nothing_of_the_host_is_in_the_environment_or_the_arguments_of_any_process_of_it(
    short_path: Path,
) -> None:
    """`--clearenv` clears the program's environment alone: process 1 in there is bubblewrap itself."""
    with launched(short_path) as (process, _):
        for pid in family(process.pid):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            names = {entry.partition(b"=")[0].decode() for entry in environment.split(b"\0")} - {""}
            assert SECRET.encode() not in environment
            assert names <= {"LANG", "MALLOC_ARENA_MAX", "PWD"} | {
                name for name in names if name.endswith("_THREADS")
            }
            assert str(short_path).encode() not in words


@needs_root
@pytest.mark.row("B01", kind="R")
def test_a_descriptor_that_was_left_open_is_not_passed_on(short_path: Path) -> None:
    with (short_path / "open").open("w") as file:
        _, passed = looked(keep=(file.fileno(),))
        assert file.fileno() in passed  # bubblewrap closes nothing by itself
    with launched(short_path) as (process, (_, own)):
        targets = {
            os.readlink(f"/proc/{pid}/fd/{number}")
            for pid in family(process.pid)
            for number in os.listdir(f"/proc/{pid}/fd")
        }
    assert own == []
    assert not any(str(short_path) in target for target in targets)


@needs_root
@pytest.mark.row("B01", kind="R")
def test_a_network_namespace_alone_lets_sockets_be_made_and_the_filter_does_not(short_path: Path) -> None:
    without, _ = looked("--unshare-all")
    assert {"inet", "netlink"} <= set(without)
    with launched(short_path) as (_, (made, _)):
        assert made == []
