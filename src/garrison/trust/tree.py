"""Read a directory into a manifest: every path, every byte once, nothing followed out of it.

Rules it keeps: components are opened one by one without following links; a file is judged and hashed
from one descriptor; the listing is taken again at the end and has to be the same, so a directory that
changes while it is read is refused. What a manifest cannot say (links, devices, empty directories) is
refused rather than left out, because whatever is left out travels unsigned.

    manifest = read_tree(Path("./minilm"))
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from garrison.core.digest import FileEntry, Manifest
from garrison.core.errors import GarrisonError, Refused, Usage
from garrison.trust.chunks import ChunkTree
from garrison.trust.hash_cache import Recall
from garrison.trust.paths import MAX_DEPTH, MAX_FILES, check_name, check_path, collision, folded
from garrison.trust.tree_hash import Progress, Reading, Sink, Writer, hash_all
from garrison.trust.tree_open import Seen, changed, opened, readable

__all__ = ["Progress", "Sink", "Writer", "read_tree"]

_EMPTY_DIGEST = "sha256:" + hashlib.sha256().hexdigest()


def read_tree(
    root: Path | str,
    *,
    sink: Sink | None = None,
    progress: Progress | None = None,
    allow_hard_links: bool = False,
    list_empty: bool = False,
    roots: dict[str, str] | None = None,
    trees: Mapping[str, ChunkTree] | None = None,
    recall: Recall | None = None,
) -> Manifest:
    """Hash every file below `root` (or the one file that `root` names) in one pass and bounded memory.

    `sink(path)` gives a writer that receives the file's bytes as they are hashed. `allow_hard_links` is
    for a caller that owns the tree, such as the store whose files are links to its objects. Modes are
    recorded as 0644 or 0755: only whether a file is executable counts. With `list_empty` an empty
    directory is listed as `name/` and an empty tree is an empty manifest, so that a comparison with a
    signed manifest names them.

    For speed: `roots` is filled with the chunk-tree root of each file that is worth one (a signer keeps
    it). `trees` are such roots out of a *verified* statement: a file that has its signed tree has its
    signed digest (`chunks.py`), and all cores work on it. `recall` has what this machine hashed before
    (`hash_cache.py`). Both are left aside when there is a `sink`, which takes bytes in their order.

    Raises `Usage` ART-UNREADABLE when the root is not there, `Undecided` ART-UNREADABLE for what cannot
    be read below it, and `Refused` ART-LINK, ART-SPECIAL, ART-NAME-UNSAFE, ART-COLLISION, ART-CHANGED,
    ART-EMPTY or ART-TOO-MANY.
    """
    with _opened_root(root) as (descriptor, only):
        before = _listing(descriptor, only, allow_hard_links)
        files = [seen for seen in before if stat.S_ISREG(seen.mode)]
        empty = [seen.path for seen in before if stat.S_ISDIR(seen.mode)]
        if not list_empty and (empty or not files):
            raise _empty(empty)
        reading = Reading(
            descriptor,
            allow_hard_links,
            sink,
            progress,
            total=sum(seen.size for seen in files),
            roots=roots,
            trees=trees or {},
            recall=recall,
        )
        entries = hash_all(reading, files)
        if _listing(descriptor, only, allow_hard_links) != before:
            raise changed("the directory")
    return Manifest.of(
        [*entries, *(FileEntry(f"{path}/", 0, 0o755, _EMPTY_DIGEST) for path in empty)],
    )


@contextlib.contextmanager
def _opened_root(root: Path | str) -> Iterator[tuple[int, str | None]]:
    """A descriptor of the directory, and the one name to read when `root` is a file."""
    path = Path(os.path.realpath(root))
    only = None if path.is_dir() else path.name
    if only is not None and not path.exists():
        raise Usage("ART-UNREADABLE", f"there is nothing at {root}", fix="check the path and its permissions")
    try:
        descriptor = os.open(
            path if only is None else path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        )
    except OSError as error:
        raise Usage(
            "ART-UNREADABLE",
            f"cannot open {root}: {error.strerror}",
            fix="check the path and its permissions",
        ) from error
    try:
        yield descriptor, only
    finally:
        os.close(descriptor)


def _listing(root: int, only: str | None, allow_hard_links: bool) -> list[Seen]:
    """Every regular file and every empty directory, in the order of their paths."""
    if only is not None:
        status = os.stat(only, dir_fd=root, follow_symlinks=False)
        _check_kind(check_name(only), status, allow_hard_links)
        return [Seen.of(only, status, allow_hard_links)]
    found: list[Seen] = []
    _walk(root, "", 1, allow_hard_links, found)
    return sorted(found, key=lambda seen: seen.path)


def _walk(directory: int, prefix: str, depth: int, allow_hard_links: bool, found: list[Seen]) -> None:
    if depth > MAX_DEPTH:
        raise Refused(
            "ART-NAME-UNSAFE",
            f"{ascii(prefix)[:300]} is nested deeper than {MAX_DEPTH} directories",
            fix="flatten the source directory, then repeat the command",
        )
    names: dict[str, str] = {}
    for name in _names(directory, prefix, len(found)):
        check_name(name, prefix.rstrip("/"))
        path = check_path(prefix + name)
        other = names.setdefault(folded(name), name)
        if other != name:
            raise collision(prefix + other, path)
        with readable(path):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            _check_kind(path, status, allow_hard_links)
            found.append(Seen.of(path, status, allow_hard_links))
            continue
        count = len(found)
        with opened(name, directory, path, os.O_DIRECTORY) as inner:
            _walk(inner, f"{path}/", depth + 1, allow_hard_links, found)
        if len(found) == count:
            found.append(Seen.of(path, status, allow_hard_links))


def _names(directory: int, prefix: str, so_far: int) -> list[str]:
    with readable(prefix or "the directory"), os.scandir(directory) as entries:
        names = []
        for entry in entries:
            names.append(entry.name)
            if so_far + len(names) > MAX_FILES:
                raise Refused(
                    "ART-TOO-MANY",
                    f"the directory holds more than {MAX_FILES:,} files",
                    fix="pack small files into an archive format that the scanners know, or split the artifact",
                )
    return sorted(names)


def _check_kind(path: str, status: os.stat_result, allow_hard_links: bool) -> None:
    """Only regular files with one name; anything else could be changed or read from outside the tree."""
    if stat.S_ISLNK(status.st_mode) or (status.st_nlink > 1 and not allow_hard_links):
        kind = (
            "a symbolic link"
            if stat.S_ISLNK(status.st_mode)
            else f"a hard link (it has {status.st_nlink} names)"
        )
        raise Refused(
            "ART-LINK",
            f"{path} is {kind}, so its bytes could change from outside the directory",
            fix=f'replace it by a copy of the file: cp --remove-destination "$(realpath {path})" {path}'
            if stat.S_ISLNK(status.st_mode)
            else "copy the directory without links: cp -r --no-preserve=links SOURCE COPY",
            evidence={"path": path},
        )
    if not stat.S_ISREG(status.st_mode) or status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        raise Refused(
            "ART-SPECIAL",
            f"{path} is a device, socket, pipe or set-uid file, not plain data",
            fix="remove it from the directory, then repeat the command",
            evidence={"path": path},
        )


def _empty(directories: list[str]) -> GarrisonError:
    if not directories:
        return Refused(
            "ART-EMPTY", "there is not one file to read", fix="name the directory that holds the model"
        )
    return Refused(
        "ART-EMPTY",
        f"{directories[0]}/ is an empty directory, which no signature can cover",
        fix="remove empty directories from the source: find DIR -type d -empty -delete",
        evidence={"paths": [f"{path}/" for path in directories[:100]]},
    )
