"""Verify before load, without a gap: the bytes that are judged are the bytes that are served.

Every file is copied once into a place that nobody can write (`held.py`) while the copy is hashed; the
manifest of those hashes is verified; the server gets the held copies as descriptors. Whatever happens to
the directory before, during or after makes the load fail or changes nothing: no path is opened twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from garrison.core.digest import Manifest
from garrison.core.errors import Refused
from garrison.runtime.held import HeldWriter, Holding, Passed
from garrison.trust.tree import Progress, Sink, read_tree
from garrison.trust.verify import Verified

MAX_KEPT = 64  # descriptors a server may be given; more shards than this nothing here serves
MAX_LISTED = 100_000  # entries looked at for the size of a directory

Verify = Callable[[Manifest], Verified]
Keep = Callable[[str], bool]


class Files(Protocol):
    """The files of a version in a store that has no directory of them."""

    @property
    def size(self) -> int: ...

    def read(self, sink: Sink | None = None, progress: Progress | None = None) -> Manifest:
        """As `trust.tree.read_tree`."""
        ...


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Verified bytes, held. `loaded` is the digest of what is held, equal to `verified.digest`.

    `kept` are the descriptors by path; `where` is `sealed memory` or `private copy`. Close it once the
    server has its own descriptors.
    """

    verified: Verified
    loaded: str
    holding: Holding

    @property
    def kept(self) -> dict[str, int]:
        return dict(self.holding.files)

    @property
    def where(self) -> str:
        return "sealed memory" if self.holding.scratch is None else "private copy"

    def close(self) -> None:
        self.holding.close()


def load(
    files: Path | Files,
    verify: Verify,
    *,
    keep: Keep = lambda _path: True,
    memory_share: float = 0.5,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> LoadedModel:
    """Copy, hash and verify the model in `files`: a directory, or what a store gives.

    `verify` is `trust.verify.verify_release` with everything but the manifest bound; it judges exactly the
    copied bytes. Only files that `keep` names stay held. A model above `memory_share` of this machine's
    memory is held as an unnamed copy in `scratch` instead of sealed memory.

    Raises what `read_tree` and `verify` raise (nothing stays held then), `Refused` RUN-MEMORY when the
    model is larger than memory allows and there is no `scratch`, `Refused` RUN-UNSERVABLE for too many files,
    `Refused` ART-NOT-APPROVED when `verify` did not judge the approval too.
    """
    size = _size(files) if isinstance(files, Path) else files.size
    holding = _holding(size, memory_share, scratch)

    def sink(path: str) -> HeldWriter | Passed:
        if not keep(path):
            return Passed()
        if len(holding.files) >= MAX_KEPT:
            raise Refused(
                "RUN-UNSERVABLE",
                f"the model has more than {MAX_KEPT} files of weights",
                fix="join its shards into fewer files and publish that as a new version",
            )
        return holding.writer(path)

    try:
        if isinstance(files, Path):
            manifest = read_tree(files, sink=sink, progress=progress, allow_hard_links=True, list_empty=True)
        else:
            manifest = files.read(sink, progress)
        verified = verify(manifest)
        return LoadedModel(verified, _agreed(manifest, verified), holding)
    except BaseException:
        holding.close()
        raise


def _agreed(manifest: Manifest, verified: Verified) -> str:
    """The digest of what is held: of the signed entries with the hashes that were measured.

    The store keeps every object 0444, so modes are the signed ones; `verify` has judged them already.
    """
    if verified.approved is None:
        raise Refused(
            "ART-NOT-APPROVED",
            f"nobody asked whether {verified.ref} is approved: its signatures alone do not load it",
            fix=f"another person approves it: garrison approve {verified.ref}",
            evidence={"digest": verified.digest},
        )
    measured = {entry.path: (entry.size, entry.digest) for entry in manifest}
    signed = {entry.path: (entry.size, entry.digest) for entry in verified.manifest}
    if measured != signed:
        raise Refused(
            "ART-TAMPER",
            f"what was read is not what was verified for {verified.ref}",
            fix=f"fetch the signed files again: garrison model pull {verified.ref}",
            evidence={"verified": verified.digest, "found": manifest.digest},
        )
    return verified.digest


def _holding(size: int, memory_share: float, scratch: Path | None) -> Holding:
    limit = int(memory_share * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    if size <= limit:
        return Holding(limit)
    if scratch is None:
        raise Refused(
            "RUN-MEMORY",
            f"the model takes {size:,} bytes, and {limit:,} may be held in memory",
            fix="raise memory_share, or serve the model on a machine with more memory",
            evidence={"size": size, "limit": limit},
        )
    return Holding(2 * size, scratch)


def _size(directory: Path) -> int:
    """A first estimate, to choose the kind of holding; what is held is bounded by its budget."""
    total = listed = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            listed += 1
            if listed > MAX_LISTED:
                return total
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except OSError:
                continue  # it is gone: reading it will say so
    return total
