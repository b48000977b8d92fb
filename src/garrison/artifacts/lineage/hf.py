"""A model in the Hugging Face cache: one snapshot, every file hashed again and compared with the name of its blob.

The cache is resolved as `garrison scan hf-cache:` does (scan_walk.cached): links lead from a snapshot to a
blob of the same repository and nowhere else. A large file's blob is named by its SHA-256, so its name is a
promise that is checked; a small file's is named by its Git object, SHA-1, which is checked as well.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

from garrison.artifacts.lineage.base import Lineage, Material
from garrison.artifacts.lineage.files import Save, Tally, pour
from garrison.artifacts.lineage.imported import Imported, Locator, State
from garrison.artifacts.lineage.local import folder
from garrison.artifacts.lineage.remote import not_understood
from garrison.artifacts.scan_walk import Entry, cached
from garrison.core.digest import canonical_json, sha256_bytes
from garrison.core.errors import Refused, Usage
from garrison.trust.paths import check_path

_HOME = re.compile(r"models--([A-Za-z0-9][\w.-]{0,95})--([A-Za-z0-9][\w.-]{0,95})\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_GIT_BLOB = re.compile(r"[0-9a-f]{40}\Z")
_SKIPPED = frozenset({".gitattributes"})  # says how Git stores the files; no loader reads it


def read(home: Path, revision: str, save: Save) -> Imported:
    """The snapshot of a revision (`main`, or a commit) in `…/models--ORG--NAME`.

    Raises `Usage` LIN-SOURCE, `Refused` LIN-DIGEST for bytes that are not their blob's name, LIN-GONE and
    LIN-PLACE, `Undecided` LIN-FORMAT and LIN-LIMIT.
    """
    home = folder(
        home,
        "a model in the Hugging Face cache (models--ORG--NAME)",
        "download it with the hub's own client first, or set HF_HOME to where its cache is",
    )
    match = _HOME.match(home.name)
    if match is None:
        raise Usage("LIN-SOURCE", f"{home} is not named models--ORG--NAME", fix="give its ORG/NAME")
    repository, tally = f"{match[1]}/{match[2]}", Tally(save)
    try:
        entries = list(cached(f"{repository}@{revision}", {"HF_HUB_CACHE": str(home.parent)}))
    except Usage as error:
        raise Refused("LIN-GONE", error.what, fix="download it again, or name another revision") from error
    for entry in entries:
        if entry.shown not in _SKIPPED:
            _take(entry, tally)
    commit = _commit(home, revision)
    record = sha256_bytes(canonical_json(tally.files)).removeprefix("sha256:")
    origin = Material(
        "base_model",
        repository,
        f"https://huggingface.co/{repository}/tree/{commit}",
        {"sha1": commit, "sha256": record},
        {"revision": revision, "commit": commit, "model_card": "README.md" in tally.files},
    )
    place = {"path": str(home), "revision": revision, "uri": f"hf:{repository}@{commit}"}
    facts = {"source.commit": commit}
    return Imported(
        Locator("hf", place), State(tally.files, facts), Lineage("huggingface", materials=(origin,))
    )


def _take(entry: Entry, tally: Tally) -> None:
    if entry.problem:
        raise not_understood(entry.shown, entry.problem)
    check_path(entry.shown)
    try:
        descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise Refused(
            "LIN-PLACE",
            f"{entry.shown} leads out of the cache, or to nothing ({error.strerror})",
            evidence={"path": entry.shown},
            fix="download the model again into a cache of its own",
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise not_understood(entry.shown, "it is no regular file")
        git = hashlib.sha1(b"blob %d\0" % status.st_size, usedforsecurity=False)
        with tally.file(entry.shown, git.update) as write:
            pour(descriptor, write)
    finally:
        os.close(descriptor)
    found = tally.files[entry.shown].removeprefix("sha256:")
    if entry.expected and found != entry.expected:
        raise _differs(entry, entry.expected, found)
    is_git_blob = entry.path.parent.name == "blobs" and _GIT_BLOB.match(entry.path.name)
    if is_git_blob and git.hexdigest() != entry.path.name:
        raise _differs(entry, entry.path.name, git.hexdigest())


def _differs(entry: Entry, expected: str, found: str) -> Refused:
    return Refused(
        "LIN-DIGEST",
        f"{entry.shown} is not what was downloaded: its blob is named {expected}, and its content is {found}",
        evidence={"path": entry.shown, "expected": expected, "found": found},
        fix="delete that model from the cache and download it again; find out what wrote to the cache",
    )


def _commit(home: Path, revision: str) -> str:
    if _COMMIT.match(revision):
        return revision
    commit = (home / "refs" / revision).read_text("ascii")[:41].strip()
    if not _COMMIT.match(commit):
        raise not_understood(str(home), f"refs/{revision} is no commit")
    return commit
