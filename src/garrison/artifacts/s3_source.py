"""A model that lies in a bucket: looked at, then fetched into a private directory to be judged and published."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from garrison.artifacts.storage_check import bucket
from garrison.core.errors import Refused
from garrison.storage.local import full_disk_explained
from garrison.storage.s3 import Place, client, listing, opening
from garrison.trust.paths import MAX_FILES, check_path

Progress = Callable[[str], None]


def refuse_public(place: Place) -> None:
    """Raises `Refused` STO-PUBLIC with the statement, `Undecided` STO-DENIED when that cannot be known."""
    report = bucket.public_findings(place)
    if report.is_public or report.unknown:
        error = report.error()
        if error is not None and (report.is_public or error.code == "STO-DENIED"):
            raise error


def fetch(place: Place, directory: Path, progress: Progress) -> None:
    """Every object below a place as a file of that path. Raises `Refused` ART-EMPTY, ART-TOO-MANY,
    ART-NAME-UNSAFE, `Undecided` DISK-FULL, and STO-*."""
    connected = client(place)
    found = listing(place, connected)
    if not found:
        raise Refused("ART-EMPTY", f"there is nothing below {place.url}", fix="name the prefix of the model")
    if len(found) > MAX_FILES:
        raise Refused(
            "ART-TOO-MANY",
            f"{place.url} holds more than {MAX_FILES:,} objects",
            fix="name the prefix of one model",
        )
    total = sum(item.size for item in found)
    done = 0
    for item in found:
        target = directory / check_path(item.path)
        with full_disk_explained():
            target.parent.mkdir(parents=True, exist_ok=True)
            with (
                opening(place, item.path, connected, any_encryption=True) as source,
                target.open("xb") as copy,
            ):
                shutil.copyfileobj(source, copy, 1 << 20)
        done += item.size
        progress(f"fetched {done / 1e6:,.0f} of {total / 1e6:,.0f} MB")
