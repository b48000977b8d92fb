"""A verified copy of a version in a directory of the caller's choice, signatures beside it, all or nothing."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from garrison.artifacts.at_rest import verify
from garrison.artifacts.attachments import check
from garrison.artifacts.registry import Registry, get, record
from garrison.artifacts.store import Release
from garrison.core.actions import Action
from garrison.core.decision import Subject
from garrison.core.digest import Ref
from garrison.core.errors import Undecided, Usage
from garrison.storage.local import is_full, remove_tree, write_atomically
from garrison.trust.tree import read_tree
from garrison.trust.verify import verify_release


def pull(registry: Registry, ref: Ref, destination: Path, subject: Subject) -> dict[str, Any]:
    """Write a verified copy with its signatures beside it, all or nothing.

    Raises `Usage` PULL-EXISTS when something is there already and PULL-PATH when nothing can be written
    there, `Undecided` DISK-FULL, and what a damaged version raises.
    """
    release = get(registry, ref)
    beside = {
        destination.with_name(destination.name + ".sig"): release.bundle,
        destination.with_name(destination.name + ".release.json"): release.statement,
    }
    for one in check(registry, release):
        name = f"{destination.name}.{one.attachment.label}.json"
        beside[destination.with_name(name)] = one.attachment.envelope
    with _destination_explained(destination):
        for path in (destination, *beside):
            if path.exists():
                raise Usage(
                    "PULL-EXISTS", f"{path} exists already", fix="name a directory that does not exist yet"
                )
    verified = verify(registry, ref)
    partial = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}")
    try:
        with _destination_explained(destination):
            _copy_out(registry, release, partial)
            for path, data in beside.items():
                write_atomically(path, data, mode=0o644)
            audit_id = record(registry, subject, Action.ARTIFACT_PULL, ref, verified.digest, {})
            partial.rename(destination)  # last: no copy without its event
    except BaseException:
        remove_tree(partial)
        for path in beside:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        raise
    return {"ref": str(ref), "digest": verified.digest, "path": str(destination), "audit_id": audit_id}


def _copy_out(registry: Registry, release: Release, partial: Path) -> None:
    for entry in release.manifest:
        target = partial / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with registry.objects.open(entry.digest) as source, target.open("xb") as copy:
            shutil.copyfileobj(source, copy, 1024 * 1024)
        target.chmod(entry.mode & 0o777)
    verify_release(
        manifest=read_tree(partial),
        bundle=release.bundle,
        statement=release.statement,
        keys=registry.keys,
        expect=release.ref,
    )


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
