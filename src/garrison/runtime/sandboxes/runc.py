"""The level of containers: an OCI bundle run by runc, without a root user, with the Landlock level stacked inside.

Needs root, as runc does; the server itself runs as the model's own user, without capabilities. What bounds
memory, processes and processor time is a cgroup, which is why a machine without writable ones has no such level.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

from garrison.runtime.sandboxes import bundled, cgroup, features, oci, start
from garrison.runtime.sandboxes.base import Availability, Launch
from garrison.runtime.sandboxes.places import python_places

FIRST_KEPT = 3  # runc passes descriptors on from here
RUNTIME_THREADS = 16  # runc's own while it starts, counted in the same group


@dataclass(frozen=True, slots=True)
class Runc:
    """`binary` is found in the system's own directories when empty; tests point it elsewhere."""

    binary: str = ""
    level: str = "runc"
    forwards_signals: bool = True

    def available(self) -> Availability:
        missing = list(features.confinement_missing(start.MINIMUM_ABI))
        if find(self.binary) is None:
            missing.append("runc is not installed (Debian: apt-get install runc)")
        if os.geteuid() != 0:
            missing.append("runc needs Garrison to run as root")
        elif cgroup.hierarchy() is None:
            missing.append("cgroups for memory and processes cannot be written here")
        notes = ("a cgroup of its own bounds each server's memory, processes and processor time",)
        return Availability(self.level, not missing, tuple(missing), notes)

    def launch(self, order: Launch) -> subprocess.Popen[bytes]:
        start.refuse_root(order)
        binary = find(self.binary)
        entries = cgroup.enter(order.uid, order.limits, threads=RUNTIME_THREADS)
        if binary is None or not entries:
            raise start.unavailable(self.level, self.available().missing or ("cgroups cannot be written",))
        places = bundled.places_of(order, python_places())
        files = list(order.files.items())
        numbers = {name: FIRST_KEPT + 1 + index for index, (name, _) in enumerate(files)}
        inner = start.confinement(
            order,
            read=(*places.directories, *start.model_place(order)),
            directory=oci.SOCKET_DIRECTORY,
            threads=order.limits.threads,
        )
        inner["settings"] = {**start.program_settings(order), "files": numbers}
        place = bundled.new_place()
        name = f"{order.uid}-{place.name.rpartition('-')[2]}"
        config = oci.config(
            order,
            places,
            [sys.executable, "-I", "-S", "-B", str(start.CONFINE), str(FIRST_KEPT)],
            start.environment(order),
            uid=order.uid,
            model=place / "model" if order.tree else None,
            cgroup=f"/{cgroup.NAME}/{order.uid}/{name}",
        )
        common = [binary, "--root", str(place / "state")]
        kept = start.memory_file("confinement", json.dumps(inner).encode())
        try:
            bundle = bundled.Bundle(
                place,
                [*common, "run", "--bundle", str(place), "--preserve-fds", str(1 + len(files)), name],
                {"config.json": json.dumps(config)},
                entries,
                files={f"model/{path}": descriptor for path, descriptor in order.tree.items()},
                keep=[kept, *(descriptor for _, descriptor in files)],
                end=[*common, "delete", "--force", name],
            )
            return bundled.launch(order, places, bundle)
        finally:
            os.close(kept)


def find(binary: str = "") -> str | None:
    if binary:
        return shutil.which(binary)
    return shutil.which("runc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
