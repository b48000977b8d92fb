"""The kernel of the level `microvm`: fetched from Debian by apt, which checks it, and unpacked, not installed.

`python scripts/guest.py [DIR]`; without DIR it goes where this virtual environment looks for it. Of the package, 27 MB,
only the kernel and the drivers of a guest's disks and channel are kept: 9 MB. Safe to repeat. Exit 3 when the package
cannot be had; what needs it then says so.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = "linux-image-cloud-amd64"  # a small kernel for guests; it depends on the newest one by its name
KEPT = frozenset(
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
SECONDS = 300


def main(arguments: list[str]) -> int:
    place = Path(arguments[0]) if arguments else Path(sys.prefix, "share/garrison/guest")
    if list(place.glob("boot/vmlinuz-*")):
        return 0
    try:
        fetch(place)
    except (OSError, subprocess.SubprocessError, LookupError) as error:
        print(f"no kernel for guests, so the level microvm is not there: {error}", file=sys.stderr)
        return 3
    return 0


def fetch(place: Path) -> None:
    """Raises OSError, SubprocessError or LookupError."""
    told = _run("apt-cache", "depends", PACKAGE)
    names = [
        line.split()[1] for line in told.splitlines() if line.strip().startswith("Depends: linux-image-")
    ]
    if not names:
        raise LookupError(f"apt knows no {PACKAGE}")
    with tempfile.TemporaryDirectory() as work:
        Path(work).chmod(0o755)
        _run("apt-get", "-qq", "download", names[0], folder=work)
        (package,) = Path(work).glob("*.deb")
        _run("dpkg-deb", "-x", str(package), f"{work}/root")
        root = Path(work, "root")
        for image in (root / "boot").glob("vmlinuz-*"):
            modules = root / "lib/modules" / image.name.removeprefix("vmlinuz-")
            for driver in modules.rglob("*.ko*"):
                if driver.name.partition(".ko")[0] in KEPT:
                    _copied(driver, place / driver.relative_to(root))
            _copied(image, place / image.relative_to(root))  # last: with it the place counts as complete


def _copied(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _run(*words: str, folder: str | None = None) -> str:
    return subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=True
    ).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
