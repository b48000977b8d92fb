"""What the levels with an OCI runtime share: the order for `contain.py`, which fills the bundle and stays beside it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from garrison.runtime.sandboxes import oci, start
from garrison.runtime.sandboxes.base import MIB, Launch
from garrison.runtime.sandboxes.places import HERE, Places

CONTAIN = HERE / "contain.py"
PREFIX = "garrison-oci-"
SLACK = 4 * MIB  # of the bundle's own files


@dataclass(frozen=True, slots=True)
class Bundle:
    """`command` is the runtime's, `texts` and `files` what the bundle holds, `keep` descriptors passed on."""

    place: Path
    command: Sequence[str]
    texts: Mapping[str, str]
    cgroup: Sequence[str]
    files: Mapping[str, int] = field(default_factory=dict)
    keep: Sequence[int] = ()
    descend: Mapping[str, Any] | None = None
    end: Sequence[str] = ()


def new_place() -> Path:
    """An empty directory that a tmpfs will cover; `contain.py` removes it, or the next Garrison if that was killed."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        maker = left.name.removeprefix(PREFIX).partition("-")[0]
        if not Path("/proc", maker).exists():
            with contextlib.suppress(OSError):
                left.rmdir()
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))


def places_of(order: Launch, places: Places) -> Places:
    """`places` with the program, when it lies nowhere in them."""
    if any(order.program.is_relative_to(place) for place in places.directories):
        return places
    return Places((*places.directories, order.program), places.links)


def launch(order: Launch, places: Places, bundle: Bundle) -> subprocess.Popen[bytes]:
    """Start `contain.py` with it."""
    size = SLACK + sum(os.fstat(descriptor).st_size for descriptor in bundle.files.values())
    contained = {
        "parent": os.getpid(),
        "place": str(bundle.place),
        "size": size,
        "directories": [*(f"rootfs/{name}" for name in oci.SKELETON), "state", "model"],
        "links": oci.links(places),
        "texts": dict(bundle.texts),
        "files": dict(bundle.files),
        "cgroup": list(bundle.cgroup),
        "keep": list(bundle.keep),
        "command": list(bundle.command),
        "descend": bundle.descend,
        "end": list(bundle.end),
    }
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, bundle.place, ignore_errors=True)
        descriptor = start.memory_file("container", json.dumps(contained).encode())
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", str(CONTAIN), str(descriptor)],
                stdin=subprocess.DEVNULL,
                stdout=order.output,
                stderr=order.output,
                env={},
                cwd="/",
                close_fds=True,
                pass_fds=(descriptor, *bundle.keep, *bundle.files.values()),
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        undo.pop_all()
        return process
