"""What differs between a registered data set and the files at hand, file by file and row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from garrison.artifacts.dataset_judge import unknown_rows
from garrison.artifacts.dataset_store import Dataset
from garrison.core.digest import FileEntry, Manifest, Ref
from garrison.core.errors import Refused

MAX_NAMED = 100  # files that a refusal lists


def changes_between(wanted: Manifest, found: Manifest) -> list[dict[str, Any]]:
    """What differs, file by file; two files that changed places are swapped, not changed."""
    signed = {entry.path: entry for entry in wanted}
    present = {entry.path: entry for entry in found}
    owner = {entry.digest: entry.path for entry in wanted}
    changes = []
    for path in sorted(signed.keys() | present.keys()):
        one, other = signed.get(path), present.get(path)
        if one is not None and other is not None and one.digest == other.digest:
            continue
        change = "added" if one is None else "missing" if other is None else "changed"
        row: dict[str, Any] = {
            "path": path,
            "change": change,
            "expected": _facts(one),
            "found": _facts(other),
        }
        source = owner.get(other.digest) if other is not None else None
        if source is not None:
            row["change"] = "swapped" if change == "changed" else change
            row["holds"] = source
        changes.append(row)
    return changes


def add_rows(changes: list[dict[str, Any]], place: Path, dataset: Dataset) -> None:
    """For a changed table, the first rows that the registered data did not have."""
    for row in changes[:MAX_NAMED]:
        if row["change"] in ("changed", "added"):
            path = place / row["path"] if place.is_dir() else place
            if numbers := unknown_rows(path, dataset.sketch):
                row["rows"] = numbers


def _facts(entry: FileEntry | None) -> dict[str, Any] | None:
    return None if entry is None else {"digest": entry.digest, "size": entry.size}


def tampered(ref: Ref, place: Path, changes: list[dict[str, Any]], dataset: Dataset) -> Refused:
    named = []
    for row in changes[:5]:
        of = f" with {row['holds']}" if row["change"] == "swapped" else ""
        rows = f", row {row['rows'][0]}" if "rows" in row else ""
        named.append(f"{row['path']} ({row['change']}{of}{rows})")
    more = f" and {len(changes) - 5} more" if len(changes) > 5 else ""
    return Refused(
        "DATA-TAMPER",
        f"{place} is not {ref} as it was registered: {', '.join(named)}{more}",
        fix="put the registered files back, or register these as the next version: "
        f"garrison dataset register {place} --as {ref.name}@{ref.version + 1} --owner {dataset.owner} "
        f"--tier {dataset.tier}",
        evidence={"digest": dataset.digest, "changes": len(changes), "paths": changes[:MAX_NAMED]},
    )
