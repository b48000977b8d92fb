"""Which files a scan sees: everything below a path, a model in the Hugging Face cache, standard input.

Nothing is followed but the links of the Hugging Face cache, and those only from a snapshot to a blob of
the same repository.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from garrison.core.errors import Usage

MAX_FILES = 200_000  # entries of one scan; the largest repositories have some thousands
MAX_DEPTH = 64
_REPOSITORY = re.compile(
    r"(?P<org>[A-Za-z0-9][\w.-]{0,95})/(?P<name>[A-Za-z0-9][\w.-]{0,95})(?:@(?P<revision>[\w.-]{1,100}))?\Z"
)
_REVISION = re.compile(r"[0-9a-f]{40}\Z")
_BLOB = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_HF_FIX = "hf-cache:ORG/NAME or hf-cache:ORG/NAME@REVISION names a model that was downloaded before"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the walk: what to open, how to show it, or why it cannot be opened.

    `expected` is the SHA-256 that the content must have, where the place of the file promises one. An entry
    with an `opener` is not on this machine; `size` is what its service says of it.
    """

    path: Path
    shown: str
    problem: str = ""
    expected: str = ""
    opener: Callable[[], BinaryIO] | None = None
    size: int = 0


def existing(path: Path) -> Path:
    """Raises `Usage` SCAN-PATH when there is nothing to look at."""
    try:
        path.lstat()
    except (OSError, ValueError) as error:
        raise Usage(
            "SCAN-PATH",
            f"{str(path)!r} cannot be scanned: {getattr(error, 'strerror', None) or 'not a path'}",
            fix="name a file or a directory that exists and that you may read",
        ) from error
    return path


def entries(root: Path) -> Iterator[Entry]:
    """Everything below one path; a path that is itself a link is an entry, not followed."""
    if not stat.S_ISDIR(root.lstat().st_mode):
        yield Entry(root, root.name)
        return
    yield from _bounded(root, _walk(root, root, 0, _as_it_is))


def cached(repository: str, environment: Mapping[str, str]) -> Iterator[Entry]:
    """The files of one snapshot in the Hugging Face cache: `ORG/NAME`, or `ORG/NAME@REVISION`.

    The layout is that of huggingface_hub: `models--ORG--NAME/snapshots/REVISION/` holds links to
    `blobs/`, whose names are the SHA-256 of large files. Raises `Usage` SCAN-PATH.
    """
    match = _REPOSITORY.match(repository)
    if match is None:
        raise Usage("SCAN-PATH", f"{repository!r} is not the name of a model", fix=_HF_FIX)
    home = _cache(environment) / f"models--{match['org']}--{match['name']}"
    revision = match["revision"] or "main"
    if not _REVISION.match(revision):
        try:
            revision = (home / "refs" / revision).read_text("ascii")[:41].strip()
        except (OSError, ValueError):
            revision = ""
    snapshot = home / "snapshots" / revision
    if not _REVISION.match(revision) or not snapshot.is_dir() or snapshot.is_symlink():
        raise Usage("SCAN-PATH", f"{repository} is not in the cache at {_cache(environment)}", fix=_HF_FIX)
    yield from _bounded(
        snapshot, _walk(snapshot, snapshot, 0, lambda entry: _blob(entry, home.resolve() / "blobs"))
    )


def _cache(environment: Mapping[str, str]) -> Path:
    if hub := environment.get("HF_HUB_CACHE"):
        return Path(hub)
    if home := environment.get("HF_HOME"):
        return Path(home) / "hub"
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface" / "hub"


def _blob(entry: Entry, blobs: Path) -> Entry:
    """A link of a snapshot leads to a blob by its name alone; anything else is shown as the link it is."""
    if not entry.path.is_symlink():
        return entry
    target = Path(os.path.normpath(entry.path.parent.resolve() / os.readlink(entry.path)))
    if target.parent != blobs or not _BLOB.match(target.name):
        return entry
    return Entry(target, entry.shown, expected=target.name if len(target.name) == 64 else "")


def _bounded(root: Path, walk: Iterator[Entry]) -> Iterator[Entry]:
    count = 0
    for entry in walk:
        count += 1
        if count > MAX_FILES:
            yield Entry(entry.path, entry.shown, f"more than {MAX_FILES} files in one scan")
            return
        yield entry
    if not count:
        yield Entry(root, ".", "the directory holds no files")


def _as_it_is(entry: Entry) -> Entry:
    return entry


def _walk(top: Path, directory: Path, depth: int, resolve: Callable[[Entry], Entry]) -> Iterator[Entry]:
    """Every entry that is not a directory, in a stable order; what cannot be listed is an entry too."""
    shown = _relative(top, directory)
    if depth > MAX_DEPTH:
        yield Entry(directory, shown, f"directories nested deeper than {MAX_DEPTH}")
        return
    try:
        with os.scandir(directory) as listing:
            found = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        yield Entry(directory, shown, f"the directory cannot be read: {error.strerror}")
        return
    for entry in found:
        path = directory / entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(top, path, depth + 1, resolve)
        else:
            yield resolve(Entry(path, _relative(top, path)))


def _relative(top: Path, path: Path) -> str:
    text = path.relative_to(top).as_posix()
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
