"""Process 1 of the guest: finds its disks, checks them, starts one program confined. A script; standard library only.

The kernel's first program. It has no network device, the model's files as read-only disks, and one channel to the
host (`relay.py`), over which come its orders (JSON): `disks` [{`serial`, `size`, `sha256`, and `name` or `path`}],
`inner` (the order of `confine.py`), `temporary` (bytes of /tmp), `user`. Each disk is copied into sealed memory, or to
/model, while it is hashed; one that differs from its digest ends the machine before anything of it was used.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.util
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
HERE = "/garrison"
PORT = "garrison"
SCRATCH = "/tmp"  # noqa: S108 - of the guest
PIECE = 1 << 20
SECONDS = 30.0  # for the channel and the disks to appear
DEVICES = (("null", 3), ("zero", 5), ("random", 8), ("urandom", 9))
DIFFERS = 71
SETTINGS = (
    ("kernel/dmesg_restrict", "1"),
    ("kernel/kptr_restrict", "2"),
    ("kernel/yama/ptrace_scope", "2"),
    ("kernel/modules_disabled", "1"),
    ("kernel/kexec_load_disabled", "1"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("user/max_user_namespaces", "0"),
)

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> NoReturn:
    prepare()
    link = os.open(port(), os.O_RDWR | os.O_CLOEXEC)
    relay = given("relay")
    orders: list[bytes] = []
    end = relay.Relay(link, lambda _kind, data: orders.append(data), reach="/run/garrison/s.sock")
    while not orders:
        end.step()
    order = json.loads(orders[0])
    give_scratch(order["temporary"])
    files, wrong = take_disks(order["disks"])
    if wrong:
        end.send(relay.EXIT, 0, relay.STATUS.pack(DIFFERS))
        finish(end, wrong)
    close_doors(order["user"])
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    output, child = start(order, files)
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    end.selector.register(wake, 1, lambda _events: os.read(wake, 64))
    end.take_output(output)
    end.send(relay.ORDER, 0, b"ready")
    status: int | None = None
    while status is None or not end.channels[relay.OUTPUT].is_read:
        end.step()  # a child that ends wakes it
        status = ended(child) if status is None else status
    end.send(relay.EXIT, 0, relay.STATUS.pack(status))
    finish(end, "")


def prepare() -> None:
    for place in ("/proc", "/sys", "/dev", SCRATCH, "/run", "/model"):
        os.makedirs(place, exist_ok=True)
    mount("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=2")
    mount("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("devtmpfs", "/dev", MS_NOSUID)
    waiting = sorted(os.listdir(f"{HERE}/modules"))
    while waiting:  # one that needs another comes later
        left = [name for name in waiting if not loaded(f"{HERE}/modules/{name}")]
        if left == waiting:
            break
        waiting = left


def loaded(path: str) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        number = {"x86_64": 313, "aarch64": 273}[os.uname().machine]  # finit_module
        return _libc.syscall(ctypes.c_long(number), descriptor, b"", 0) == 0 or ctypes.get_errno() == 17
    finally:
        os.close(descriptor)


def port() -> str:
    """The device of the channel, found by its name."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        root = "/sys/class/virtio-ports"
        for name in os.listdir(root) if os.path.isdir(root) else ():
            with open(f"{root}/{name}/name") as file:
                if file.read().strip() == PORT:
                    return f"/dev/{name}"
        time.sleep(0.02)
    raise SystemExit("no channel to the host appeared")


def give_scratch(size: int) -> None:
    """An empty /tmp, but for what the archive has below it: a Python that is installed there, for one."""
    kept = [(name, os.open(f"{SCRATCH}/{name}", os.O_PATH | os.O_CLOEXEC)) for name in os.listdir(SCRATCH)]
    mount("tmpfs", SCRATCH, MS_NOSUID | MS_NODEV | MS_NOEXEC, f"mode=1777,size={size}")
    for name, descriptor in kept:
        place, source = f"{SCRATCH}/{name}", f"/proc/self/fd/{descriptor}"
        if os.path.isdir(source):
            os.mkdir(place)
        else:
            os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o444))
        if _libc.mount(source.encode(), place.encode(), None, ctypes.c_ulong(MS_BIND), None) != 0:
            raise OSError(ctypes.get_errno(), "bind", place)
        os.close(descriptor)


def take_disks(wanted: Sequence[Mapping[str, Any]]) -> tuple[dict[str, int], str]:
    """Descriptors by name; and what differs from its digest."""
    until = time.monotonic() + SECONDS
    files: dict[str, int] = {}
    found: dict[str, str] = {}
    while len(found) < len(wanted) and time.monotonic() < until:
        for name in os.listdir("/sys/block"):
            if os.path.exists(f"/sys/block/{name}/serial"):
                with open(f"/sys/block/{name}/serial") as file:
                    found[file.read().strip()] = f"/dev/{name}"
        time.sleep(0.01)
    if any("path" in disk for disk in wanted):
        mount("tmpfs", "/model", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755")
    for disk in wanted:
        if disk["serial"] not in found:
            return {}, f"disk {disk['serial']} did not appear"
        if "path" in disk:
            place = os.path.join("/model", disk["path"])
            os.makedirs(os.path.dirname(place), exist_ok=True)
            target = os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o444)
        else:
            target = os.memfd_create(disk["name"], os.MFD_ALLOW_SEALING)
            files[disk["name"]] = target
        if copied(found[disk["serial"]], target, disk["size"]) != disk["sha256"]:
            return {}, f"disk {disk['serial']} is not what was verified"
        if "path" in disk:
            os.close(target)
        else:
            os.fchmod(target, 0o444)
            fcntl.fcntl(target, fcntl.F_ADD_SEALS, SEALS)
            os.lseek(target, 0, os.SEEK_SET)
    if any("path" in disk for disk in wanted):
        mount("none", "/model", MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    return files, ""


def copied(device: str, target: int, size: int) -> str:
    """Copy `size` bytes; their SHA-256."""
    digest = hashlib.sha256()
    with open(device, "rb", buffering=0) as source:
        while size:
            data = source.read(min(PIECE, size))
            if not data:
                break
            size -= len(data)
            digest.update(data)
            view = memoryview(data)
            while view:
                view = view[os.write(target, view) :]
    return digest.hexdigest()


def close_doors(user: int) -> None:
    """No disk, no channel and no console in /dev for the program; nothing of the root can be written any more."""
    _libc.umount2(b"/dev", 2)
    for name, minor in DEVICES:
        os.mknod(f"/dev/{name}", 0o020666, os.makedev(1, minor))
        os.chmod(f"/dev/{name}", 0o666)  # noqa: S103 - as on every machine
    mount("tmpfs", "/run", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755,size=1m")
    os.mkdir("/run/garrison", 0o700)
    os.chown("/run/garrison", user, user)
    for name, value in SETTINGS:
        if os.path.exists(f"/proc/sys/{name}"):
            with open(f"/proc/sys/{name}", "w") as file:
                file.write(value)
    _libc.sethostname(b"model", 5)
    mount("none", "/", MS_REMOUNT | MS_RDONLY)


def start(order: Mapping[str, Any], files: Mapping[str, int]) -> tuple[int, int]:
    """The program, by `confine.py`, as an unprivileged user; the end of its output and its process id."""
    order["inner"]["settings"]["files"] = files
    inner = os.memfd_create("inner")
    os.write(inner, json.dumps(order["inner"]).encode())
    os.lseek(inner, 0, os.SEEK_SET)
    readable, writable = os.pipe()
    child = os.fork()
    if child:
        os.close(writable)
        os.close(inner)
        for descriptor in files.values():
            os.close(descriptor)
        return readable, child
    try:
        os.setsid()
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(writable, 1)
        os.dup2(writable, 2)
        for descriptor in (inner, *files.values()):
            os.set_inheritable(descriptor, True)
        os.setgroups([])
        os.setresgid(order["user"], order["user"], order["user"])
        os.setresuid(order["user"], order["user"], order["user"])
        words = [sys.executable, "-I", "-S", "-B", f"{HERE}/confine.py", str(inner)]
        os.execve(words[0], words, order["environment"])  # noqa: S606 - that is its purpose
    except BaseException:  # noqa: BLE001 - the forked child ends here, whatever happened
        traceback.print_exc()
    finally:
        os._exit(127)


def ended(child: int) -> int | None:
    """Collect what ended; the status of the program when it did."""
    status: int | None = None
    while True:
        try:
            pid, code = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status if status is not None else 127
        if pid == 0:
            return status
        if pid == child:
            code = os.waitstatus_to_exitcode(code)
            status = code if code >= 0 else 128 - code


def finish(end: Any, words: str) -> NoReturn:
    """Nothing more to do: the host ends the machine."""
    if words:
        print(words, flush=True)
    while True:
        end.step()


def given(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, f"{HERE}/{name}.py")
    assert spec is not None  # the path is our own
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def mount(kind: str, place: str, flags: int, data: str = "") -> None:
    if _libc.mount(kind.encode(), place.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), place)


if __name__ == "__main__":
    main()
