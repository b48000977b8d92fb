"""The kernel that a guest starts with: where it is on this machine, and its bytes as they are handed over.

Looked for where `make guest` puts it, then where a distribution does: an image below `boot`, and below `lib/modules`
the drivers of a guest's disks and channel that belong to it.
"""

from __future__ import annotations

import hashlib
import lzma
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

ROOTS = (Path(sys.prefix, "share/garrison/guest"), Path("/var/lib/garrison/guest"), Path("/"))
DRIVERS = ("virtio", "block", "char")
WANTED = frozenset(
    {
        "virtio",
        "virtio_ring",
        "virtio_pci",
        "virtio_pci_modern_dev",
        "virtio_pci_legacy_dev",
        "virtio_blk",
        "virtio_console",
    }
)
MAX_BYTES = 64 << 20  # of a kernel or a driver


@dataclass(frozen=True, slots=True)
class Kernel:
    """`drivers` are loaded by the guest itself, in whatever order they work."""

    release: str
    image: Path
    drivers: tuple[Path, ...]


def find(roots: tuple[Path, ...] = ROOTS) -> Kernel | None:
    """The newest kernel of the first place that has one."""
    for root in roots:
        images = sorted((root / "boot").glob("vmlinuz-*"), key=lambda path: _natural(path.name), reverse=True)
        for image in images:
            release = image.name.removeprefix("vmlinuz-")
            drivers = root / "lib/modules" / release / "kernel/drivers"
            paths = (path for place in DRIVERS for path in (drivers / place).glob("*.ko*"))
            found = tuple(sorted(path for path in paths if path.name.partition(".ko")[0] in WANTED))
            if found:
                return Kernel(release, image, found)
    return None


def missing(roots: tuple[Path, ...] = ROOTS) -> tuple[str, ...]:
    if platform.machine() != "x86_64":
        return (f"guests are started on x86-64 only, and this is {platform.machine()}",)
    if find(roots) is not None:
        return ()
    return ("there is no kernel for a guest (make guest)",)


def content(path: Path) -> bytes:
    """The bytes of a kernel, or of a driver as the kernel takes it: unpacked."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES)
    return lzma.decompress(data) if path.suffix == ".xz" else data


def digest(kernel: Kernel) -> str:
    return hashlib.sha256(content(kernel.image)).hexdigest()


def _natural(name: str) -> list[tuple[int, str]]:
    """6.1.0-9 before 6.1.0-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.replace("-", ".").split(".")]
