"""What stands out in the rows of a data set: duplicates, labels that flipped, new shards, orders to a model.

None of these proves poison, and clean data has some of each; they are counted, signed with the data set and
shown, so that a person sees them before a model learns them. Bounded: of a huge data set the first rows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from garrison.artifacts.dataset_files import TEXT_FORMATS, BadTable, Row, format_of, frame_rows, rows
from garrison.core.digest import Manifest
from garrison.core.finding import Finding, Severity
from garrison.detect.base import Direction, Outcome
from garrison.detect.inspect import Inspector

MAX_COUNTED = 500_000  # rows looked at for duplicates: 64 bits of each are held in memory
MAX_SKETCH = 200_000  # rows whose key and label are kept for the next version, 12 bytes each
MAX_INSPECTED = 20_000  # rows whose text is read for orders; 0.1 to 0.4 ms each
MAX_CHARACTERS = 4_000  # of one row
MAX_LABELS = 1_000  # distinct labels that are counted
MAX_NAMED = 20  # rows or files that a finding names
MANY_DUPLICATES = 0.2  # a share of repeated rows above which a model weighs them
BATCH = 64
_ENTRY = struct.Struct(">QI")


@dataclass(slots=True)
class Judged:
    """Counts over all files. `bad` holds files that are not the table that their name promises."""

    rows: int = 0
    files: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    counted: int = 0
    inspected: int = 0
    flipped: int = 0
    compared: int = 0
    sketch: bytearray = field(default_factory=bytearray)
    findings: list[Finding] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "files": self.files,
            "labels": dict(sorted(self.labels.items(), key=lambda item: -item[1])[:50]),
            "duplicates": self.duplicates,
            "duplicate_share": round(self.duplicates / self.counted, 4) if self.counted else 0.0,
            "flipped_labels": self.flipped,
            "compared_with_previous": self.compared,
            "rows_counted": self.counted,
            "rows_inspected": self.inspected,
            "findings": [finding.as_json() for finding in self.findings],
        }


@dataclass(frozen=True, slots=True)
class Before:
    """The previous version, to tell what changed."""

    name: str
    manifest: Manifest
    sketch: Mapping[int, int]


def judge(root: Path, manifest: Manifest, before: Before | None, cache: Path | None = None) -> Judged:
    """Read every table of the data set once. `root` is the directory, or the one file itself.

    `cache` is a private directory for compiled patterns: with it the second data set starts at once.
    """
    judged, reading = Judged(), _Reading(before, cache)
    for entry in manifest:
        path = root / entry.path if root.is_dir() else root
        form = format_of(path)
        if not form:
            continue
        try:
            if form in TEXT_FORMATS.values():
                count = sum(reading.read(judged, entry.path, row) for row in rows(path))
            else:
                count = frame_rows(path) or 0
        except BadTable as error:
            judged.bad[entry.path] = str(error)
            continue
        judged.rows += count
        judged.files.append({"path": entry.path, "format": form, "rows": count})
    reading.inspect(judged)
    judged.findings += _findings(judged, manifest, before, reading)
    return judged


class _Reading:
    """What is remembered while rows go by."""

    def __init__(self, before: Before | None, cache: Path | None) -> None:
        self.before = before
        self._cache = cache
        self.flips: list[str] = []
        self.orders: list[str] = []
        self._seen: set[bytes] = set()
        self._waiting: list[tuple[str, Row]] = []
        self._inspector: Inspector | None = None  # made when the first text row is met: it takes a second

    def read(self, judged: Judged, path: str, row: Row) -> int:
        """Weigh one row; returns 1, so that rows can be summed."""
        _count(judged, self._seen, row)
        is_flipped = self.before is not None and _is_flipped(judged, self.before, row)
        if is_flipped and len(self.flips) < MAX_NAMED:
            self.flips.append(f"{path}:{row.number}")
        if judged.inspected + len(self._waiting) < MAX_INSPECTED:
            self._waiting.append((path, row))
            if len(self._waiting) >= BATCH:
                self.inspect(judged)
        return 1

    def inspect(self, judged: Judged) -> None:
        """Look for orders in the rows that wait."""
        if not self._waiting:
            return
        if self._inspector is None:
            self._inspector = Inspector(cache=self._cache, directions=(Direction.DOCUMENT,))
        texts = [row.text[:MAX_CHARACTERS] for _, row in self._waiting]
        judged.inspected += len(texts)
        if not self._inspector.is_clean(texts, Direction.DOCUMENT):
            for (path, row), text in zip(self._waiting, texts, strict=True):
                if self._inspector.inspect(text, Direction.DOCUMENT).verdict is Outcome.BLOCK:
                    self.orders.append(f"{path}:{row.number}")
        self._waiting.clear()


def read_sketch(data: bytes) -> dict[int, int]:
    """Label by row key; a key that had two labels is left out, because nothing can flip there."""
    found: dict[int, int] = {}
    twice: set[int] = set()
    for key, label in _ENTRY.iter_unpack(data[: len(data) // _ENTRY.size * _ENTRY.size]):
        if found.setdefault(key, label) != label:
            twice.add(key)
    return {key: label for key, label in found.items() if key not in twice}


def unknown_rows(path: Path, sketch: bytes) -> list[int]:
    """Numbers of rows that the registered data did not have, or had with another label; empty for other formats."""
    known = {(key, label) for key, label in _ENTRY.iter_unpack(sketch)}
    if format_of(path) not in TEXT_FORMATS.values() or len(known) * _ENTRY.size >= MAX_SKETCH * _ENTRY.size:
        return []
    found = []
    try:
        for row in rows(path):
            if (row.key, _label_hash(row.label)) not in known:
                found.append(row.number)
            if len(found) >= MAX_NAMED or row.number > MAX_COUNTED:
                break
    except (BadTable, OSError):
        return []
    return found


def _count(judged: Judged, seen: set[bytes], row: Row) -> None:
    label = row.label[:80]
    if label and (label in judged.labels or len(judged.labels) < MAX_LABELS):
        judged.labels[label] = judged.labels.get(label, 0) + 1
    if judged.counted >= MAX_COUNTED:
        return
    judged.counted += 1
    entry = _ENTRY.pack(row.key, _label_hash(row.label))
    if entry in seen:
        judged.duplicates += 1
    seen.add(entry)
    if len(judged.sketch) < MAX_SKETCH * _ENTRY.size:
        judged.sketch += entry


def _is_flipped(judged: Judged, before: Before, row: Row) -> bool:
    label = before.sketch.get(row.key)
    if label is None:
        return False
    judged.compared += 1
    if label == _label_hash(row.label):
        return False
    judged.flipped += 1
    return True


def _findings(
    judged: Judged, manifest: Manifest, before: Before | None, reading: _Reading
) -> Iterable[Finding]:
    if judged.counted and judged.duplicates / judged.counted > MANY_DUPLICATES:
        yield Finding(
            "dataset.rows.duplicates",
            Severity.MEDIUM,
            f"{judged.duplicates:,} of {judged.counted:,} rows are repetitions",
            fix="leave repeated rows out, or say in the model card why they are there",
        )
    if reading.orders:
        yield Finding(
            "dataset.rows.instructions",
            Severity.HIGH,
            f"{len(reading.orders)} rows give orders to a model that reads them",
            ", ".join(reading.orders[:MAX_NAMED]),
            "look at these rows; keep them only in data that is meant to teach refusing them",
        )
    if before is None:
        return
    if judged.flipped:
        yield Finding(
            "dataset.rows.flipped-labels",
            Severity.HIGH,
            f"{judged.flipped:,} of {judged.compared:,} rows that {before.name} had as well have another label now",
            ", ".join(reading.flips),
            "find out who changed these labels, and why",
        )
    old = {entry.path for entry in before.manifest}
    if added := [entry.path for entry in manifest if entry.path not in old]:
        yield Finding(
            "dataset.files.added",
            Severity.INFO,
            f"{len(added)} files are not in {before.name}",
            ", ".join(added[:MAX_NAMED]),
        )


def _label_hash(label: str) -> int:
    return int.from_bytes(blake2b(label.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")
