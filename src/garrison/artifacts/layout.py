"""Where the files of a version lie under their own names: hard links to the objects, signatures beside them.

A store that seals its objects, or keeps them elsewhere, has no trees: its files are read through `stored.py`.

    models/<name>/<version>/            the release's files
    models/<name>/<version>.sig         the bundle that other tools verify
    models/<name>/<version>.release.json
    models/<name>/<version>.<label>.json   its attachments: provenance, bill of materials, evaluations

The database says which versions there are. What lies here without a row was left by an interruption and is
removed; what a row has and is missing here is laid out again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from garrison.artifacts import attachment_store, store
from garrison.artifacts.attachment_store import Attachment
from garrison.artifacts.registry import Registry, genuine, without_row
from garrison.artifacts.store import Release
from garrison.artifacts.stored import StoredFiles
from garrison.core.digest import Manifest, Ref
from garrison.core.errors import GarrisonError, Refused, Undecided
from garrison.storage.local import (
    LocalObjects,
    full_disk_explained,
    remove_tree,
    sync_directory,
    write_atomically,
)
from garrison.trust.attestation import is_label
from garrison.trust.hash_cache import Recall
from garrison.trust.tree import Progress, Sink, read_tree

MEMORY = Path("/dev/shm")  # noqa: S108 - a tmpfs, which is the point; what is made in it is private


def tree_of(registry: Registry, ref: Ref) -> Path:
    """Where the files of a version lie under their real names."""
    return registry.models / ref.name / str(ref.version)


def staged(registry: Registry) -> Path:
    """A name for a tree that is being made; whatever has such a name at a start is removed."""
    return registry.models / f".incoming-{secrets.token_hex(8)}"


def refuse_without_room(registry: Registry, file: Path) -> None:
    """A file that does not fit is refused before it fills the disk: a sparse one has any size and costs nothing.

    Raises `Undecided` DISK-FULL.
    """
    if not registry.objects.is_linkable:
        return
    with contextlib.suppress(OSError):  # whoever reads it tells what is wrong with it
        size, free = file.lstat().st_size, shutil.disk_usage(registry.models).free
        if size > free:
            raise Undecided(
                "DISK-FULL",
                f"{file.name} has {size / 1e9:,.1f} GB, and there is room for {free / 1e9:,.1f} GB",
                fix="free space on the disk of the data directory, or leave the file out",
            )


def lay_out(registry: Registry, manifest: Manifest, tree: Path) -> None:
    """Hard links to the objects under the files' own names: one copy of the bytes, findable by name.

    Raises `Refused` OBJ-MISSING, `Undecided` DISK-FULL or DATA-READONLY.
    """
    if not isinstance(registry.objects, LocalObjects):
        return
    with full_disk_explained():
        tree.mkdir(parents=True, exist_ok=True)
        for entry in manifest:
            target = tree / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if not registry.objects.has(entry.digest):
                registry.objects.open(entry.digest)
            os.link(registry.objects.path(entry.digest), target)


def files_of(registry: Registry, release: Release) -> Path | StoredFiles:
    """What the loader reads: the version's directory, or its objects."""
    if registry.objects.is_linkable:
        return tree_of(registry, release.ref)
    return StoredFiles(registry.objects, release.manifest)


def read_back(
    registry: Registry,
    release: Release,
    *,
    sink: Sink | None = None,
    progress: Progress | None = None,
    recall: Recall | None = None,
    roots: dict[str, str] | None = None,
) -> Manifest:
    """Hash the stored files of a version; `recall` recognises what this machine hashed before, `roots` is filled
    with the chunk-tree roots that a signer keeps.

    Raises `Refused` OBJ-MISSING, ART-TAMPER, and as `read_tree`.
    """
    files = files_of(registry, release)
    if isinstance(files, StoredFiles):
        return files.read(sink, progress, roots)
    if not files.is_dir():
        raise Refused(
            "OBJ-MISSING",
            f"the files of {release.ref} are not in {files}",
            evidence={"digest": release.digest},
            fix=f"garrison model pull {release.ref} --repair lays them out again, or says which bytes are gone",
        )
    return read_tree(
        files,
        sink=sink,
        progress=progress,
        allow_hard_links=True,
        list_empty=True,
        recall=recall,
        roots=roots,
    )


@contextlib.contextmanager
def opened_tree(registry: Registry, release: Release) -> Iterator[Path]:
    """The version's files under their names, for what needs paths.

    A sealed store has none on a disk: a copy in memory (tmpfs) stands in while it is needed.
    """
    if registry.objects.is_linkable:
        yield tree_of(registry, release.ref)
        return
    with memory_directory() as directory:
        for entry in release.manifest:
            target = directory / entry.path
            with full_disk_explained():
                target.parent.mkdir(parents=True, exist_ok=True)
                with registry.objects.open(entry.digest) as source, target.open("xb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
        yield directory


@contextlib.contextmanager
def memory_directory() -> Iterator[Path]:
    """A private directory in memory, removed at the end. Raises `Undecided` DISK-FULL when there is no tmpfs."""
    if not MEMORY.is_dir():
        raise Undecided(
            "DISK-FULL",
            f"there is no {MEMORY} on this machine, and sealed models may not touch a disk in the clear",
            fix=f"mount a tmpfs there: mount -t tmpfs -o mode=1777 tmpfs {MEMORY}",
        )
    directory = MEMORY / f"garrison-{secrets.token_hex(8)}"
    with full_disk_explained():
        directory.mkdir(mode=0o700)
    try:
        yield directory
    finally:
        remove_tree(directory)


def place(registry: Registry, release: Release, tree: Path, attachments: Iterable[Attachment] = ()) -> None:
    """Give a new version its place, from the tree that was judged. Called while its row is being written.

    The row is not committed yet, so that a kill leaves files without a row, which nobody lists and the
    next start removes; never a row without files.
    """
    final = tree_of(registry, release.ref)
    with full_disk_explained():
        final.parent.mkdir(parents=True, exist_ok=True)
        remove_tree(final)  # of an interrupted publication: there is no row of that name
        if registry.objects.is_linkable:
            tree.rename(final)
        sync_directory(final.parent)
    _write_sidecars(registry, release, attachments)


def displace(registry: Registry, ref: Ref) -> None:
    """Take the files of a version away again whose row was not committed after all."""
    with contextlib.suppress(GarrisonError), registry.database.write() as connection:
        if store.find(connection, ref) is None:
            _remove_version(tree_of(registry, ref))


def materialise(registry: Registry, release: Release, *, replace_tree: bool = False) -> bool:
    """Put a version's files and signatures in their place; True when something had to be done.

    Raises as `genuine`: the paths of a row that nobody signed lead anywhere.
    """
    release = genuine(registry, release)
    tree = tree_of(registry, release.ref)
    is_missing = registry.objects.is_linkable and (replace_tree or not tree.is_dir())
    if is_missing:
        draft = staged(registry)
        try:
            lay_out(registry, release.manifest, draft)
            with full_disk_explained():
                tree.parent.mkdir(parents=True, exist_ok=True)
                remove_tree(tree)
                draft.rename(tree)
        finally:
            remove_tree(draft)
    with registry.database.read() as connection:
        attachments = attachment_store.attachments_of(connection, release.ref)
    return _write_sidecars(registry, release, attachments) or is_missing


def with_modes_of(found: Manifest, recorded: Manifest) -> Manifest:
    """Objects are shared and read-only, so the store cannot show a file's own mode: take the recorded one."""
    modes = {entry.path: entry.mode for entry in recorded}
    return Manifest.of(replace(entry, mode=modes.get(entry.path, entry.mode)) for entry in found)


def collect(registry: Registry) -> int:
    """Give back the space of objects that no version has, unless somebody is publishing; returns how many.

    While a row is missing, nobody can say which objects its version has: then none is given back.
    """
    with registry.database.read() as connection:
        if without_row(connection):
            return 0

    def wanted() -> set[str]:
        with registry.database.read() as connection:
            return store.digests(connection)

    return registry.objects.discard_all_but(wanted)


def repair_all(registry: Registry) -> list[str]:
    """At start: remove what was interrupted, give every version its files. Returns what was done."""
    done = []
    if swept := registry.objects.sweep():
        done.append(f"removed {swept} unfinished uploads")
    with full_disk_explained():
        registry.models.mkdir(parents=True, exist_ok=True)
    for leftover in registry.models.glob(".incoming-*"):
        remove_tree(leftover)
        done.append("removed an unfinished publication")
    with registry.database.read() as connection:
        recorded = store.releases(connection)
        gone = without_row(connection)
    done += [f"DB-EDITED: the row of {ref} was removed from the database; its files are kept" for ref in gone]
    for orphan in _without_row(registry, {*(release.ref for release in recorded), *gone}):
        _remove_version(orphan)
        done.append(
            f"removed the files of {orphan.parent.name}@{orphan.name}, whose publication was cut short"
        )
    for release in recorded:
        try:
            if materialise(registry, release):
                done.append(f"laid out the files of {release.ref} again")
        except GarrisonError as error:
            done.append(f"could not lay out {release.ref}: {error.what}")
    try:
        if collected := collect(registry):
            done.append(f"removed {collected} objects that no version has")
    except GarrisonError as error:  # a store elsewhere that does not answer must not keep the server down
        done.append(f"could not look for objects that no version has: {error.code}")
    return done


def attachment_path(registry: Registry, attachment: Attachment) -> Path:
    """Where an attachment lies beside its version. The label was checked when it was attached."""
    tree = tree_of(registry, attachment.ref)
    return tree.with_name(f"{tree.name}.{attachment.label}.json")


def _write_sidecars(registry: Registry, release: Release, attachments: Iterable[Attachment]) -> bool:
    """The signatures beside the tree; True when one had to be written."""
    tree = tree_of(registry, release.ref)
    sidecars = {".sig": release.bundle, ".release.json": release.statement}
    for attachment in attachments:
        if is_label(attachment.label):  # a row that nobody signed leads nowhere
            sidecars[f".{attachment.label}.json"] = attachment.envelope
    changed = False
    for suffix, data in sidecars.items():
        path = tree.with_name(tree.name + suffix)
        if not path.is_file() or path.read_bytes() != data:
            write_atomically(path, data, mode=0o644)
            changed = True
    return changed


def _without_row(registry: Registry, refs: Iterable[Ref]) -> list[Path]:
    """The trees of versions that the database does not have, by the numbers that stand in the file names."""
    expected = {tree_of(registry, ref) for ref in refs}
    found = set()
    for entry in registry.models.glob("*/*"):
        version = entry.name.lstrip(".").partition(".")[0]
        if version.isascii() and version.isdecimal() and not entry.parent.name.startswith("."):
            found.add(entry.with_name(version))
    return sorted(found - expected)


def _remove_version(tree: Path) -> None:
    remove_tree(tree)
    for path in (*tree.parent.glob(f"{tree.name}.*"), *tree.parent.glob(f".{tree.name}.*")):
        with contextlib.suppress(OSError):
            path.unlink()
    with contextlib.suppress(OSError):  # other versions of that name are there
        tree.parent.rmdir()
