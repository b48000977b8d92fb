"""What in a data directory belongs to nothing, and what belongs to something and is not there. Changes nothing.

Looks at names and rows, and for private keys at the head of each file; whether bytes are what was signed is
asked by `store verify`.
A server that is running may be in the middle of a publication, which then is among what belongs to nothing yet.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from garrison.artifacts import store
from garrison.core.errors import GarrisonError
from garrison.storage.database import open_kept
from garrison.trust.keyring import KEYRING_FILE, ROOT, ROOT_FILE, open_keyring
from garrison.trust.keys.public import load_public
from garrison.trust.stray_keys import scan_directory

MAX_NAMED = 20  # of one kind; the count is always whole
_START = "restart the server: a start removes it"
_STRAY = {
    "key.stray.file": "private keys in plain files",
    "key.stray.incomplete": "folders with too many files to look for private keys in all",
}
_TARGET = re.compile(r"[0-9a-f]{64}\.(\d{1,9})\.release\.json")


@dataclass(frozen=True, slots=True)
class LeftOver:
    """One kind of thing: how many, the first of them by name, and what to do."""

    kind: str
    count: int
    names: tuple[str, ...]
    fix: str

    def as_json(self) -> dict[str, object]:
        return {"kind": self.kind, "count": self.count, "names": list(self.names), "next": self.fix}


def look(data: Path) -> list[LeftOver]:
    """Every kind that was found. Raises `Undecided` DB-UNAVAILABLE for a database that cannot be read."""
    database = open_kept(data)
    try:
        with database.read() as connection:
            refs, digests = store.every_ref(connection), store.digests(connection)
    finally:
        database.close()
    found = [
        *_objects(data, digests),
        *_staged(data),
        *_trees(data, refs),
        *_targets(data, refs),
        *_keys(data),
        *_stray_keys(data),
    ]
    return [left for left in found if left.count]


def _objects(data: Path, wanted: set[str]) -> Iterator[LeftOver]:
    """Of a store on this machine; a bucket is asked by `store verify`."""
    plain, sealed = data / "objects" / "sha256", data / "objects" / "sealed"
    if not plain.is_dir() and not sealed.is_dir():
        return
    there = {f"sha256:{path.name}" for path in plain.glob("??/*")}
    there |= {f"sha256:{path.stem}" for path in sealed.glob("??/*.key")}  # written last: the object is whole
    yield _found("objects that no version has", there - wanted, _START)
    yield _found(
        "objects that a version has and that are not there",
        wanted - there,
        "garrison store verify names the versions; publish the same files under the same name and version again",
    )


def _staged(data: Path) -> Iterator[LeftOver]:
    places = (data / "objects" / "incoming", data / "run" / "imports")
    staged = [path for place in places for path in _entries(place)]
    staged += (data / "models").glob(".incoming-*")
    yield _found("unfinished uploads and publications", _below(data, staged), _START)


def _trees(data: Path, refs: set[str]) -> Iterator[LeftOver]:
    there: dict[str, Path] = {}
    for path in (data / "models").glob("[!.]*/*"):
        version = path.name.partition(".")[0]
        if version.isascii() and version.isdecimal():
            there[f"{path.parent.name}@{version}"] = path
    planted = {ref for ref in there if ref not in refs}
    yield _found(
        "files of versions that the database does not have",
        planted,
        "restart the server: a start removes what was cut short, and keeps and names what the ledger tells of",
    )


def _targets(data: Path, refs: set[str]) -> Iterator[LeftOver]:
    """Statements that clients of the approved list may fetch."""
    lost = set()
    for path in (data / "tuf" / "targets").glob("*/*/*"):
        match = _TARGET.fullmatch(path.name)
        if match is None or f"{path.parent.name}@{match[1]}" not in refs:
            lost.add(str(path.relative_to(data)))
    yield _found(
        "statements in the approved list's folder of versions that the database does not have",
        lost,
        "garrison audit verify says whether a row was removed; the list itself names what is approved: "
        "garrison approvals",
    )


def _keys(data: Path) -> Iterator[LeftOver]:
    """Public keys beside the keyring, and keys of the keyring without their file."""
    with contextlib.suppress(
        OSError, GarrisonError
    ):  # posture and key list say what is wrong with the keyring
        ring = open_keyring((data / KEYRING_FILE).read_bytes(), load_public(data / ROOT_FILE))
        files = {path.stem for path in (data / "keys" / "public").glob("*.pem")}
        labels = {key.label for key in ring.keys}
        yield _found(
            "public keys that are in no keyring",
            files - labels - {ROOT},
            "restart the server: keys that are in its token are entered; remove the file of one that is not",
        )
        yield _found(
            "keys of the keyring whose public file is gone",
            labels - files,
            "garrison key export LABEL --public > keys/public/LABEL.pem",
        )


def _stray_keys(data: Path) -> Iterator[LeftOver]:
    for rule_id, kind in _STRAY.items():
        found = [finding for finding in scan_directory(data) if finding.rule_id == rule_id]
        if found:
            yield _found(kind, {finding.where for finding in found}, found[0].fix)


def _entries(place: Path) -> Iterable[Path]:
    with contextlib.suppress(OSError):
        return [place / name for name in os.listdir(place)]
    return ()


def _below(data: Path, paths: Iterable[Path]) -> set[str]:
    return {str(path.relative_to(data)) for path in paths}


def _found(kind: str, names: set[str], fix: str) -> LeftOver:
    return LeftOver(kind, len(names), tuple(sorted(names)[:MAX_NAMED]), fix)
