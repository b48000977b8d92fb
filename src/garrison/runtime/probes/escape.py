"""Tries every way out that it knows and prints one JSON line for each try. A script; standard library only.

SETTINGS holds what to look for: `canary` (a secret that must not be found), `canary_file`, `socket_path`,
`abstract`, `tcp`, `tcp6`, `udp` (listeners of the host), `host_pid` (a process of the host whose argv and
environment hold the canary), `calls` (system call numbers), `program`, `block_devices`, `files` with `model`.
A try is `open` when it succeeded. Each is harmless where it does succeed: values are written back as they
were, filled space is freed, children end at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

SETTINGS: dict[str, Any] = globals().get("SETTINGS", {})  # handed over by confine.py

SECONDS = 10  # for one try
FORKS, THREADS, OPEN_FILES = 300, 200, 2000
MEMORY, FILL, PIECE = 1 << 30, 600 << 20, 50 << 20
AF_VSOCK, AF_ALG, AF_PACKET = 40, 38, 17
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
TIOCSTI = 0x5412
PR_GET_NO_NEW_PRIVS = 39
DENIALS = (errno.EPERM, errno.EACCES, errno.ENOSYS)

_libc = ctypes.CDLL(None, use_errno=True)
Try = Callable[[], bool]


def call(name: str, *arguments: object) -> int:
    """A raw system call by name. Raises OSError."""
    if name not in SETTINGS["calls"]:
        raise OSError(errno.ENOSYS, "not on this machine")
    result = _libc.syscall(ctypes.c_long(SETTINGS["calls"][name]), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)


def allowed(
    name: str, *arguments: object, denials: tuple[int, ...] = (errno.EPERM, errno.ENOSYS, errno.EACCES)
) -> bool:
    """True when the kernel got past its permission checks, whatever it thought of the arguments."""
    try:
        call(name, *arguments)
    except OSError as error:
        if error.errno in denials:
            raise
    return True


def in_child(attempt: Try) -> bool:
    """Run it in a child if there can be one, so that its success does not change us."""
    try:
        child = os.fork()
    except OSError:
        return attempt()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            code = 0 if attempt() else 1
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def readable(path: str) -> bool:
    with open(path, "rb") as file:
        return bool(file.read(64))


def opened(path: str, flags: int) -> bool:
    os.close(os.open(path, flags))
    return True


def writable(path: str) -> bool:
    return opened(path, os.O_WRONLY)


def descriptor_from(name: str, *arguments: object) -> bool:
    """True when a system call gave a descriptor, which is closed again."""
    os.close(call(name, *arguments))
    return True


def done(action: Callable[..., object], *arguments: object) -> bool:
    """True when it did not raise."""
    action(*arguments)
    return True


def rewritten(path: str) -> bool:
    """Write back what is there."""
    value = Path(path).read_bytes()
    Path(path).write_bytes(value)
    return True


def created(path: str) -> bool:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    os.unlink(path)
    return True


def any_process_holds(name: str) -> bool:
    canary = SETTINGS["canary"].encode()
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/{name}", "rb") as file:
                if canary in file.read():
                    return True
    return False


def created_socket(family: int, kind: int, protocol: int = 0) -> bool:
    socket.socket(family, kind, protocol).close()
    return True


def connected(family: int, address: Any) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        client.connect(address)
    return True


def sent_datagram() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        return client.sendto(b"x", ("127.0.0.1", SETTINGS["udp"])) == 1


def routed_to_metadata() -> bool:
    """Is there a way to the address where clouds hand out credentials? A datagram socket sends nothing yet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("169.254.169.254", 80))
    return True


def listening() -> bool:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
    return True


def attached() -> bool:
    """PTRACE_ATTACH to the host's process, judged by the attach alone, then let go properly."""
    pid = SETTINGS["host_pid"]
    call("ptrace", ctypes.c_long(16), ctypes.c_long(pid), None, None)
    os.waitpid(pid, 0x40000000)
    call("ptrace", ctypes.c_long(17), ctypes.c_long(pid), None, None)
    return True


def read_memory() -> bool:
    """process_vm_readv of an address that nobody has: EFAULT means that only the address was wrong."""
    local = ctypes.create_string_buffer(8)
    ours = struct.pack("PN", ctypes.addressof(local), 8)
    theirs = struct.pack("PN", 8, 8)
    pid = ctypes.c_long(SETTINGS["host_pid"])
    denials = (errno.EPERM, errno.ENOSYS, errno.ESRCH)
    return allowed(
        "process_vm_readv",
        pid,
        ours,
        ctypes.c_ulong(1),
        theirs,
        ctypes.c_ulong(1),
        ctypes.c_ulong(0),
        denials=denials,
    )


def signalled() -> bool:
    os.kill(SETTINGS["host_pid"], signal.SIGCONT)
    return True


def process_descriptor() -> bool:
    os.close(os.pidfd_open(SETTINGS["host_pid"]))
    return True


def mounted() -> bool:
    with tempfile.TemporaryDirectory() as place:
        call("mount", b"none", place.encode(), b"tmpfs", ctypes.c_ulong(0), None)
        call("umount2", place.encode(), ctypes.c_int(0))
    return True


def joined_namespace() -> bool:
    descriptor = os.open("/proc/1/ns/mnt", os.O_RDONLY)
    call("setns", ctypes.c_int(descriptor), ctypes.c_int(0))
    return True


def opened_model() -> bool:
    os.close(os.open(f"/proc/self/fd/{SETTINGS['files']['model']}", os.O_RDWR))
    return True


def wrote_model() -> bool:
    os.pwrite(SETTINGS["files"]["model"], b"x", 0)
    return True


def truncated_model() -> bool:
    os.ftruncate(SETTINGS["files"]["model"], 1)
    return True


def mapped_model() -> bool:
    with mmap.mmap(SETTINGS["files"]["model"], 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE) as view:
        view[0] = view[0]
    return True


def widened_model() -> bool:
    os.fchmod(SETTINGS["files"]["model"], 0o666)
    return True


def unsealed_model() -> bool:
    seals = fcntl.fcntl(SETTINGS["files"]["model"], fcntl.F_GET_SEALS)
    return not seals & fcntl.F_SEAL_WRITE or not seals & fcntl.F_SEAL_SEAL


def executed_dropped() -> bool:
    with tempfile.TemporaryDirectory() as place:
        program = os.path.join(place, "dropped")
        Path(program).write_text("#!/bin/sh\nexit 0\n")
        os.chmod(program, 0o700)
        return executed(program)


def executed(program: str) -> bool:
    child = os.posix_spawn(program, [program, "--version"], {}, file_actions=[(os.POSIX_SPAWN_CLOSE, 1)])
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (0, 1, 2)


def linked() -> bool:
    os.symlink("/etc/passwd", "probe-link")
    os.unlink("probe-link")
    return True


def hard_linked() -> bool:
    os.link(SETTINGS["program"], "/tmp/probe-link")  # noqa: S108  # the attempt is the point
    os.unlink("/tmp/probe-link")  # noqa: S108 - of the sandbox
    return True


def made_device() -> bool:
    with tempfile.TemporaryDirectory() as place:
        os.mknod(os.path.join(place, "device"), 0o600 | 0o020000, os.makedev(1, 3))
    return True


def injected_terminal() -> bool:
    leader, follower = os.openpty()
    try:
        fcntl.ioctl(follower, TIOCSTI, b"x")
    finally:
        os.close(leader)
        os.close(follower)
    return True


def leaked_descriptors() -> bool:
    ours = {0, 1, 2, *SETTINGS["files"].values()}
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in ours:
            with contextlib.suppress(OSError):
                os.fstat(int(name))
                return True
    return False


OURS = frozenset(
    {
        "LANG",
        "MALLOC_ARENA_MAX",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "RAYON_NUM_THREADS",
        "HOME",  # runc adds it
        "LC_ALL",  # of a scanner's process
        "LC_CTYPE",
        "PWD",
    }
)


def foreign_environment() -> bool:
    return bool(os.environ.keys() - OURS)


def environment_of_process_1() -> bool:
    """Does it say anything that was not given to us? Process 1 may be this very program."""
    names = {entry.partition(b"=")[0].decode() for entry in Path("/proc/1/environ").read_bytes().split(b"\0")}
    return bool(names - OURS - {""})


def privileges_can_be_gained() -> bool:
    return call("prctl", ctypes.c_int(PR_GET_NO_NEW_PRIVS), *[ctypes.c_long(0)] * 4) != 1


def status(field: str) -> str:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return line.split()[1]
    return ""


def mounts_tell_host_paths() -> bool:
    """Does the list of mounts name the directory that our socket lies in on the host?"""
    return os.path.dirname(SETTINGS["socket_path"]) in Path("/proc/self/mountinfo").read_text()


def kernel_addresses() -> bool:
    with open("/proc/kallsyms") as file:
        return any(line.split()[0].strip("0") for _, line in zip(range(50), file, strict=False))


def cgroup_made() -> bool:
    for place in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup"):
        with contextlib.suppress(OSError):
            os.mkdir(f"{place}/probe")
            os.rmdir(f"{place}/probe")
            return True
    return False


def forked_many() -> bool:
    children: list[int] = []
    try:
        for _ in range(FORKS):
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            children.append(child)
        return True
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def threaded_many() -> bool:
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait, daemon=True) for _ in range(THREADS)]
    started = 0
    try:
        for thread in threads:
            thread.start()
            started += 1
        return True
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, "no more threads") from error
    finally:
        stop.set()
        for thread in threads[:started]:
            thread.join()


def took_memory() -> bool:
    try:
        return bool(len(b"\1" * MEMORY))
    except MemoryError as error:
        raise OSError(errno.ENOMEM, "no memory") from error


def filled() -> bool:
    with tempfile.TemporaryDirectory() as place:
        for index in range(FILL // PIECE):
            descriptor = os.open(os.path.join(place, str(index)), os.O_CREAT | os.O_WRONLY, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, PIECE)
            finally:
                os.close(descriptor)
    return True


def opened_many() -> bool:
    descriptors: list[int] = []
    try:
        for _ in range(OPEN_FILES):
            descriptors.append(os.open("/dev/null", os.O_RDONLY))  # noqa: PERF401  # the ones before must be closed
        return True
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def unnamed_memory() -> bool:
    os.close(os.memfd_create("probe"))
    return True


def shared_memory() -> bool:
    identifier = call("shmget", ctypes.c_int(0), ctypes.c_size_t(4096), ctypes.c_int(0o600))
    call("shmctl", ctypes.c_int(identifier), ctypes.c_int(0), None)
    return True


def tries() -> list[tuple[str, Try]]:
    """Every check by name: what it looks for, then how."""
    zero, none = ctypes.c_long(0), None
    canary = SETTINGS["canary_file"]
    return [
        # what can be read
        ("read.shadow", lambda: readable("/etc/shadow")),
        ("read.canary", lambda: readable(canary)),
        ("read.canary-through-process-1", lambda: readable("/proc/1/root" + canary)),
        ("read.own-environment", foreign_environment),
        ("read.environment-of-others", lambda: any_process_holds("environ")),
        ("read.arguments-of-others", lambda: any_process_holds("cmdline")),
        ("read.environment-of-process-1", environment_of_process_1),
        ("read.host-process", lambda: bool(os.stat(f"/proc/{SETTINGS['host_pid']}/cwd"))),
        ("read.host-paths", mounts_tell_host_paths),
        ("read.block-device", lambda: any(readable(f"/dev/{name}") for name in SETTINGS["block_devices"])),
        ("read.kernel-memory", lambda: readable("/proc/kcore")),
        ("read.kernel-log", lambda: bool(call("syslog", ctypes.c_int(10), none, ctypes.c_int(0)) + 1)),
        ("read.kernel-messages", lambda: opened("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)),
        ("read.kernel-addresses", kernel_addresses),
        ("read.sysfs", lambda: bool(os.listdir("/sys/kernel"))),
        ("read.home-directories", lambda: bool(os.listdir("/home") or os.listdir("/root"))),
        ("read.descriptors-left-open", leaked_descriptors),
        # the network and other ways to talk
        ("net.tcp", lambda: connected(socket.AF_INET, ("127.0.0.1", SETTINGS["tcp"]))),
        ("net.tcp6", lambda: connected(socket.AF_INET6, ("::1", SETTINGS["tcp6"]))),
        ("net.udp", sent_datagram),
        ("net.listen", listening),
        ("net.metadata-address", routed_to_metadata),
        ("net.raw", lambda: created_socket(socket.AF_INET, socket.SOCK_RAW, 1)),
        ("net.packet", lambda: created_socket(AF_PACKET, socket.SOCK_RAW)),
        ("net.netlink", lambda: created_socket(socket.AF_NETLINK, socket.SOCK_RAW)),
        ("net.vsock", lambda: created_socket(AF_VSOCK, socket.SOCK_STREAM)),
        ("net.kernel-crypto", lambda: created_socket(AF_ALG, socket.SOCK_SEQPACKET)),
        ("net.unix-abstract", lambda: connected(socket.AF_UNIX, "\0" + SETTINGS["abstract"])),
        ("net.unix-path", lambda: connected(socket.AF_UNIX, SETTINGS["socket_path"])),
        ("net.unix-datagram", lambda: created_socket(socket.AF_UNIX, socket.SOCK_DGRAM)),
        # other processes
        ("process.trace", attached),
        ("process.trace-me", lambda: in_child(lambda: call("ptrace", zero, zero, none, none) == 0)),
        ("process.read-memory", read_memory),
        ("process.signal", signalled),
        ("process.descriptor", process_descriptor),
        ("process.execute-program", lambda: executed(sys.executable)),
        ("process.execute-dropped-file", executed_dropped),
        # what can be written
        ("write.root", lambda: created("/probe")),
        ("write.system-library", lambda: created("/usr/lib/probe")),
        ("write.python", lambda: created(os.path.join(sys.prefix, "probe"))),
        ("write.own-program", lambda: writable(SETTINGS["program"])),
        ("write.etc", lambda: created("/etc/probe")),
        ("write.shared-memory-directory", lambda: created("/dev/shm/probe")),  # noqa: S108 - of the sandbox
        ("write.tmp", lambda: created("/tmp/probe")),  # noqa: S108 - of the sandbox
        ("write.file-beside-socket", lambda: created("probe")),
        ("write.link-beside-socket", linked),
        ("write.hard-link", hard_linked),
        ("write.device", made_device),
        ("model.open-for-writing", opened_model),
        ("model.write", wrote_model),
        ("model.truncate", truncated_model),
        ("model.map-writable", mapped_model),
        ("model.change-mode", widened_model),
        ("model.seals-missing", unsealed_model),
        # the kernel's settings and rare doors
        ("kernel.core-pattern", lambda: rewritten("/proc/sys/kernel/core_pattern")),
        ("kernel.hostname", lambda: rewritten("/proc/sys/kernel/hostname")),
        ("kernel.sysrq", lambda: writable("/proc/sysrq-trigger")),
        ("kernel.cgroup", cgroup_made),
        ("kernel.kvm", lambda: opened("/dev/kvm", os.O_RDWR)),
        ("kernel.bpf", lambda: allowed("bpf", ctypes.c_int(0), none, ctypes.c_uint(0))),
        ("kernel.perf", lambda: allowed("perf_event_open", none, zero, zero, zero, zero)),
        ("kernel.io-uring", lambda: allowed("io_uring_setup", ctypes.c_uint(1), none)),
        ("kernel.userfaultfd", lambda: descriptor_from("userfaultfd", ctypes.c_int(1))),
        ("kernel.keyring", lambda: bool(call("keyctl", zero, ctypes.c_long(-3), ctypes.c_long(1)))),
        ("kernel.clock", lambda: call("settimeofday", none, none) == 0),
        ("kernel.module", lambda: allowed("init_module", none, zero, none)),
        ("kernel.kexec", lambda: call("kexec_load", zero, zero, none, zero) == 0),
        (
            "kernel.file-handle",
            lambda: allowed("open_by_handle_at", ctypes.c_int(-100), none, ctypes.c_int(0)),
        ),
        ("kernel.terminal-injection", injected_terminal),
        # becoming somebody else
        ("become.root", lambda: in_child(lambda: done(os.setuid, 0))),
        ("become.groups", lambda: in_child(lambda: done(os.setgroups, [0]))),
        ("become.capabilities", lambda: int(status("CapEff"), 16) != 0),
        ("become.new-privileges", privileges_can_be_gained),
        ("become.unfiltered", lambda: status("Seccomp") != "2"),
        (
            "become.user-namespace",
            lambda: in_child(lambda: call("unshare", ctypes.c_int(CLONE_NEWUSER)) == 0),
        ),
        ("become.mount-namespace", lambda: in_child(lambda: call("unshare", ctypes.c_int(CLONE_NEWNS)) == 0)),
        ("become.other-namespace", lambda: in_child(joined_namespace)),
        ("become.chroot", lambda: in_child(lambda: done(os.chroot, "/"))),
        ("become.mount", mounted),
        ("become.new-mount", lambda: descriptor_from("fsopen", b"tmpfs", ctypes.c_uint(0))),
        (
            "become.mount-tree",
            lambda: descriptor_from("open_tree", ctypes.c_int(-100), b"/", ctypes.c_uint(1)),
        ),
        ("become.core-dump", lambda: resource.getrlimit(resource.RLIMIT_CORE)[1] != 0),
        # using everything up
        ("exhaust.open-files", opened_many),
        ("exhaust.unnamed-memory", unnamed_memory),
        ("exhaust.shared-memory", shared_memory),
        ("exhaust.processes", forked_many),
        ("exhaust.threads", threaded_many),
        ("exhaust.memory", took_memory),
        ("exhaust.temporary-space", filled),
    ]


def _expired(_number: int, _frame: object) -> None:
    raise OSError(errno.ETIMEDOUT, "no answer")


def main() -> None:
    signal.signal(signal.SIGALRM, _expired)
    for name, attempt in tries():
        why = ""
        signal.alarm(SECONDS)
        try:
            is_open = attempt()
        except OSError as error:
            is_open, why = False, errno.errorcode.get(error.errno or 0, str(error))
        except Exception as error:  # noqa: BLE001 - one try that breaks must not hide the others
            is_open, why = False, type(error).__name__
        signal.alarm(0)
        print(json.dumps({"check": name, "open": is_open, "why": why}), flush=True)


if __name__ == "__main__":
    main()
