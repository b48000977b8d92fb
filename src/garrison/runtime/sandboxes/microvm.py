"""The level with a machine of its own: a kernel started by QEMU, which is itself confined as the level bwrap confines.

The guest has no network device: the model's files as read-only disks, the descriptors that were verified, and one
channel. In it the program runs as in every other level: another user, Landlock, the system call filter, limits.
Outside, QEMU and the keeper of its channel (`guest/keeper.py`) run as the model's own user.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from garrison.confine.profiles import GUEST as GUEST_PROFILE
from garrison.core.errors import Refused, Undecided
from garrison.runtime.guest import image, kernel
from garrison.runtime.held import SEALS
from garrison.runtime.sandboxes import features, start
from garrison.runtime.sandboxes.base import MIB, Availability, Launch, Limits
from garrison.runtime.sandboxes.bwrap import INSIDE_UID, SOCKET_DIRECTORY, Bubblewrap
from garrison.runtime.sandboxes.places import python_places
from garrison.runtime.sandboxes.users import free_uid

GUEST = Path(image.__file__).resolve().parent
FIRMWARE = (Path("/usr/share/qemu"), Path("/usr/share/seabios"))
OWN_MEMORY = 256 * MIB  # of the guest's kernel and of process 1
QEMU_MEMORY = 1024 * MIB  # of address space; about 100 MiB are touched
QEMU_THREADS = 64
TRANSLATED = 128  # MiB of translated code, when there is no KVM
MAX_DISKS = 24  # a bus has 32 places
TRY_SECONDS = 20.0
LOOK_SECONDS = 120.0
LOOK_LIMITS = Limits(memory=3072 * MIB)
MAX_TOLD = 8 * MIB
GUEST_ABI = 1  # the guest has no network to keep from it
COMMAND_LINE = "console=ttyS0 quiet loglevel=3 panic=-1 random.trust_cpu=on"


@dataclass(frozen=True, slots=True)
class MicroVM:
    """`binary` is found in the system's own directories when empty; tests point it and `roots` elsewhere."""

    binary: str = ""
    roots: tuple[Path, ...] = kernel.ROOTS
    level: str = "microvm"
    forwards_signals: bool = False

    def available(self) -> Availability:
        missing = list(kernel.missing(self.roots))
        binary = find(self.binary)
        if binary is None:
            missing.append("QEMU is not installed (Debian: apt-get install qemu-system-x86)")
        missing += Bubblewrap().available().missing
        if missing or binary is None:
            return Availability(self.level, False, tuple(missing))
        told = f"QEMU {version(binary)}, kernel {found.release}" if (found := kernel.find(self.roots)) else ""
        note = (
            "with KVM" if has_kvm(binary) else "WITHOUT KVM: emulated, some 50 times slower, see isolation.md"
        )
        return Availability(self.level, True, (), (told, note))

    def launch(self, order: Launch) -> subprocess.Popen[bytes]:
        start.refuse_root(order)
        binary, found = find(self.binary), kernel.find(self.roots)
        if binary is None or found is None:
            raise start.unavailable(self.level, self.available().missing)
        if len(order.files) + len(order.tree) > MAX_DISKS:
            raise Refused(
                "RUN-UNSERVABLE",
                f"{order.name} has more than {MAX_DISKS} files, and a guest has that many disks at most",
                fix="join its files into fewer, or serve it with --isolation gvisor",
            )
        with ExitStack() as open_files:
            guest = _guest(found, order.program, tuple(sorted(order.modules.items())))
            disks = _disks(order, open_files)
            accelerator = "kvm" if has_kvm(binary) else "tcg"
            memory = order.limits.memory + OWN_MEMORY + 2 * guest.size + sum(disk.size for disk in disks)
            words = machine(binary, accelerator, memory, math.ceil(order.limits.cpus))
            words += ["-kernel", f"/proc/self/fd/{guest.kernel}", "-initrd", f"/proc/self/fd/{guest.initial}"]
            words += ["-append", COMMAND_LINE]
            for number, disk in enumerate(disks, 1):
                words += disk.words(number)
            kept = (guest.kernel, guest.initial, *(disk.descriptor for disk in disks))
            keeper = start.memory_file(
                "keeper",
                json.dumps(
                    {
                        "library": str(GUEST / "relay.py"),
                        "command": words,
                        "keep": kept,
                        "order": _inside(order, disks),  # which notes the digest of the program's own filter
                        "socket": start.SOCKET_NAME,
                    }
                ).encode(),
            )
            open_files.callback(os.close, keeper)
            order.facts.update(
                kernel=f"sha256:{guest.kernel_digest}",
                initial=f"sha256:{guest.initial_digest}",
                acceleration=accelerator,
            )
            return Bubblewrap().launch(_outer(order, binary, accelerator, memory, (keeper, *kept)))

    def prepare(self, order: Launch) -> None:
        """Make the guest's file system, which `launch` finds made then."""
        found = kernel.find(self.roots)
        if found is not None:
            _guest(found, order.program, tuple(sorted(order.modules.items())))


@dataclass(frozen=True, slots=True)
class _Guest:
    """Sealed, and kept as long as this process lives: a server is started again with the same."""

    kernel: int
    kernel_digest: str
    initial: int
    initial_digest: str
    size: int


@dataclass(frozen=True, slots=True)
class _Disk:
    """`shown` says what the guest does with it; `descriptor` can only be read."""

    serial: str
    shown: Mapping[str, str]
    descriptor: int
    size: int
    sha256: str

    def words(self, number: int) -> list[str]:
        """QEMU's, for a read-only disk that is the descriptor itself."""
        options = f"file.locking=off,if=none,id={self.serial},format=raw,readonly=on,snapshot=off"
        return [
            *("-add-fd", f"fd={self.descriptor},set={number}"),
            *("-drive", f"file=/dev/fdset/{number},{options}"),
            *("-device", f"virtio-blk-pci,drive={self.serial},serial={self.serial}"),
        ]


@lru_cache(maxsize=8)
def _guest(found: kernel.Kernel, program: Path, modules: tuple[tuple[str, Path], ...]) -> _Guest:
    booted = kernel.content(found.image)
    initial, digest, size = image.build(found, start.CONFINE, program, dict(modules), _look)
    system = os.memfd_create("kernel", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.write(system, booted)
    for descriptor in (system, initial):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    return _Guest(system, hashlib.sha256(booted).hexdigest(), initial, digest, size)


def _disks(order: Launch, open_files: ExitStack) -> list[_Disk]:
    wanted = [(f"f{i}", d, {"name": name}) for i, (name, d) in enumerate(order.files.items())]
    wanted += [(f"t{i}", d, {"path": path}) for i, (path, d) in enumerate(order.tree.items())]
    disks = []
    for serial, given, shown in wanted:
        descriptor = os.open(f"/proc/self/fd/{given}", os.O_RDONLY | os.O_CLOEXEC)
        open_files.callback(os.close, descriptor)
        digest = order.digests.get(given) or _sha256(given)
        disks.append(
            _Disk(serial, shown, descriptor, os.fstat(given).st_size, digest.removeprefix("sha256:"))
        )
    return disks


def _inside(order: Launch, disks: Sequence[_Disk]) -> dict[str, object]:
    """What `boot.py` is told."""
    inner = start.confinement(
        replace(order, command=()),
        read=(*python_places().directories, order.program, *start.model_place(order)),
        directory=SOCKET_DIRECTORY,
        threads=order.limits.threads,
        minimum_abi=GUEST_ABI,
    )
    return {
        "disks": [
            {"serial": disk.serial, "size": disk.size, "sha256": disk.sha256, **disk.shown} for disk in disks
        ],
        "inner": inner,
        "temporary": order.limits.temporary,
        "user": INSIDE_UID,
        "environment": start.environment(order),
    }


def _outer(order: Launch, binary: str, accelerator: str, memory: int, descriptors: Sequence[int]) -> Launch:
    """The keeper of the channel and its QEMU, as a command in the level bwrap; the first descriptor is its order."""
    python = Path(os.path.realpath(sys.executable))
    return replace(
        order,
        files={f"kept{number}": number for number in descriptors},
        tree={},
        modules={},
        facts={},
        profile=GUEST_PROFILE,
        command=(sys.executable, "-I", "-S", "-B", str(GUEST / "keeper.py"), str(descriptors[0])),
        shows=(python, Path(binary), GUEST, *filter(Path.exists, FIRMWARE)),
        devices=(Path("/dev/kvm"),) if accelerator == "kvm" else (),
        limits=Limits(
            memory=memory + QEMU_MEMORY,
            threads=QEMU_THREADS,
            cpus=order.limits.cpus,
            open_files=order.limits.open_files,
        ),
    )


def machine(binary: str, accelerator: str, memory: int, processors: int) -> list[str]:
    """QEMU's words for a machine with nothing in it but its channel."""
    translated = f",tb-size={TRANSLATED}" if accelerator == "tcg" else ""
    return [
        binary,
        *("-machine", "q35,usb=off,vmport=off,smbus=off,sata=off", "-accel", accelerator + translated),
        *("-cpu", "max" if accelerator == "tcg" else "host"),
        *("-m", f"{-(-memory // MIB)}", "-smp", str(processors)),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none"),
        *("-serial", "stdio", "-name", "model"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        *("-device", "virtio-serial-pci,max_ports=2", "-chardev", "socket,id=link,fd={link}"),
        *("-device", "virtserialport,chardev=link,name=garrison"),
    ]


def find(binary: str = "") -> str | None:
    if binary:
        return shutil.which(binary)
    return shutil.which("qemu-system-x86_64", path="/usr/bin:/usr/local/bin")


@lru_cache(maxsize=4)
def version(binary: str) -> str:
    """Such as 7.2.22; empty when it does not say."""
    try:
        told = subprocess.run([binary, "--version"], capture_output=True, timeout=TRY_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    words = told.stdout.decode("ascii", "replace").split()
    return words[words.index("version") + 1] if "version" in words[:-1] else ""


@lru_cache(maxsize=4)
def has_kvm(binary: str) -> bool:
    """Whether an unprivileged QEMU can run code with KVM: its firmware has to get as far as ending the machine."""
    if not os.path.exists("/dev/kvm"):
        return False
    found = kernel.find()
    if found is None:
        return False
    words = machine(binary, "kvm", 256 * MIB, 1)
    words = [*words[: words.index("-sandbox")], "-kernel", str(found.image), "-append", COMMAND_LINE]
    return features.runs_unprivileged(words, TRY_SECONDS)  # without a root it panics, which ends the machine


@lru_cache(maxsize=16)
def _look(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """`guest/look.py` in the level bwrap. Raises `Undecided` RUN-GUEST."""
    uid, output = free_uid(()), os.memfd_create("look")
    with tempfile.TemporaryDirectory(prefix="garrison-look-") as directory:
        try:
            place = Path(directory, "run")
            place.mkdir(0o700)
            if os.geteuid() == 0:
                Path(directory).chmod(0o755)
                os.chown(place, uid, uid)
            settings = {"names": names}
            order = Launch("look", GUEST / "look.py", place, uid, output, settings, limits=LOOK_LIMITS)
            with Bubblewrap().launch(order) as process:
                try:
                    process.wait(LOOK_SECONDS)
                finally:
                    process.kill()
            told = os.pread(output, MAX_TOLD, 0)
            loaded, mapped = json.loads(told.splitlines()[-1])
        except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
            raise Undecided(
                "RUN-GUEST",
                "what the server's packages need could not be found out by importing them",
                fix="garrison doctor; serve it with --isolation gvisor or bwrap meanwhile",
            ) from error
        finally:
            os.close(output)
    return loaded, mapped


def _sha256(descriptor: int) -> str:
    digest, place = hashlib.sha256(), 0
    while data := os.pread(descriptor, 1 << 20, place):
        digest.update(data)
        place += len(data)
    return digest.hexdigest()
