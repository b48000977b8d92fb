"""A verified copy of a version in a directory of the caller's choice, signatures beside it, all or nothing.

The copy grows in a private directory beside its place. A pull that was killed leaves that behind, and the
next one of the same version goes on with it: files that are whole are hashed again and kept. At the end
everything is hashed once more from the disk, whoever wrote it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from garrison.artifacts.at_rest import record_verified, verify
from garrison.artifacts.attachments import check
from garrison.artifacts.registry import Registry, get, record
from garrison.artifacts.store import Release
from garrison.artifacts.stored import named
from garrison.core.actions import Action
from garrison.core.decision import Subject
from garrison.core.digest import FileEntry, Ref
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.storage.local import is_full, remove_tree, write_atomically
from garrison.trust.tree import read_tree
from garrison.trust.verify import Verified, verify_release


def pull(registry: Registry, ref: Ref, destination: Path, subject: Subject) -> dict[str, Any]:
    """Write a verified copy with its signatures beside it, all or nothing.

    Raises `Usage` PULL-EXISTS when something is there already and PULL-PATH when nothing can be written
    there, `Undecided` DISK-FULL, STO-UNREACHABLE (then the next pull goes on), and what a damaged version
    raises.
    """
    release = get(registry, ref)
    if registry.objects.is_linkable:
        verify(registry, ref)  # a tree that was changed is refused, although its objects are what is copied
    beside = {
        destination.with_name(destination.name + ".sig"): release.bundle,
        destination.with_name(destination.name + ".release.json"): release.statement,
    }
    for one in check(registry, release):
        name = f"{destination.name}.{one.attachment.label}.json"
        beside[destination.with_name(name)] = one.attachment.envelope
    partial = destination.with_name(f".{destination.name}.{release.digest.removeprefix('sha256:')[:16]}")
    with _destination_explained(destination):
        _refuse_taken(destination, beside, is_resumed=partial.is_dir())
    with _destination_explained(destination), _own(partial):
        try:
            verified = _copy_out(registry, release, partial)
            record_verified(registry, subject, verified, "pull")
            for path, data in beside.items():
                write_atomically(path, data, mode=0o644)
            audit_id = record(registry, subject, Action.ARTIFACT_PULL, ref, verified.digest, {})
            partial.chmod(0o755)
            partial.rename(destination)  # last: no copy without its event
        except BaseException as error:
            if not (isinstance(error, GarrisonError) and error.code == "STO-UNREACHABLE"):
                remove_tree(partial)
            for path in beside:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            raise
    return {"ref": str(ref), "digest": verified.digest, "path": str(destination), "audit_id": audit_id}


def _refuse_taken(destination: Path, beside: Mapping[Path, bytes], *, is_resumed: bool) -> None:
    """Raises `Usage` PULL-EXISTS. The same signatures beside an unfinished copy are its own."""
    for path in (destination, *beside):
        if not os.path.lexists(path):
            continue
        if is_resumed and path in beside and not path.is_symlink() and path.read_bytes() == beside[path]:
            continue
        raise Usage("PULL-EXISTS", f"{path} exists already", fix="name a directory that does not exist yet")


@contextmanager
def _own(partial: Path) -> Iterator[None]:
    """The private directory of one pull, for this process alone. One that somebody else made is not gone on with."""
    with contextlib.suppress(FileExistsError):
        partial.mkdir(mode=0o700)
    descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise Usage("PULL-EXISTS", f"{partial} exists already", fix=f"remove it: rm -r {partial}")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Usage(
                "PULL-EXISTS", f"another pull is writing {partial}", fix="wait for it, or name another place"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _copy_out(registry: Registry, release: Release, partial: Path) -> Verified:
    expected = {entry.path for entry in release.manifest}
    for path in sorted(partial.rglob("*"), reverse=True):
        if path.is_symlink() or (path.is_file() and str(path.relative_to(partial)) not in expected):
            path.unlink()
    for entry in release.manifest:
        target = partial / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not _is_whole(target, entry):
            target.unlink(missing_ok=True)
            try:
                with registry.objects.open(entry.digest) as source, target.open("xb") as copy:
                    shutil.copyfileobj(source, copy, 1024 * 1024)
            except Refused as error:
                raise named(error, entry) from error
        target.chmod(entry.mode & 0o777)
    return verify_release(
        manifest=read_tree(partial),
        bundle=release.bundle,
        statement=release.statement,
        keys=registry.keys,
        expect=release.ref,
    )


def _is_whole(path: Path, entry: FileEntry) -> bool:
    """Whether an earlier pull wrote this file to its end."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != entry.size:
                return False
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest() == entry.digest
    except OSError:
        return False


@contextmanager
def _destination_explained(destination: Path) -> Iterator[None]:
    """What the system says about a place that the caller chose, as a sentence."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise Undecided(
                "DISK-FULL",
                f"there is no room for the files in {destination}",
                fix=f"free space on the disk that holds {destination.parent}, or name another place",
            ) from error
        raise Usage(
            "PULL-PATH",
            f"cannot write {destination}: {error.strerror}",
            fix="name a new directory in a place that the user who runs the server may write to",
        ) from error
