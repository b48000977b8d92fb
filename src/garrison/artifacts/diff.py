"""What is different between two versions: files, what the scan saw, papers, people. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from garrison.artifacts import scan_diff
from garrison.artifacts.store import Release
from garrison.core.digest import FileEntry, Manifest

MAX_DEPTH = 12  # levels of a paper that are compared; a deeper one is compared as a whole
MAX_LINES = 500  # differences of one paper; more are counted


@dataclass(frozen=True, slots=True)
class FileDifference:
    """One path that is not the same. `kind`: added, removed, content, mode or renamed (then `was` is set)."""

    path: str
    kind: str
    before: FileEntry | None
    after: FileEntry | None
    was: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "kind": self.kind,
            "was": self.was,
            "before": self.before.as_json() if self.before else None,
            "after": self.after.as_json() if self.after else None,
        }


def files(old: Manifest, new: Manifest) -> list[FileDifference]:
    """Every path that came, went or changed. The same bytes under another name are one renamed file."""
    before, after = ({entry.path: entry for entry in manifest} for manifest in (old, new))
    gone = {path: before[path] for path in sorted(before.keys() - after.keys())}
    come = {path: after[path] for path in sorted(after.keys() - before.keys())}
    found = []
    for path, entry in list(come.items()):
        was = next((name for name, old_entry in gone.items() if old_entry.digest == entry.digest), "")
        if was and entry.size:
            found.append(FileDifference(path, "renamed", gone.pop(was), come.pop(path), was))
    found += [FileDifference(path, "removed", entry, None) for path, entry in gone.items()]
    found += [FileDifference(path, "added", None, entry) for path, entry in come.items()]
    for path in before.keys() & after.keys():
        one, other = before[path], after[path]
        if one.digest != other.digest:
            found.append(FileDifference(path, "content", one, other))
        elif one.mode != other.mode:
            found.append(FileDifference(path, "mode", one, other))
    return sorted(found, key=lambda change: change.path)


def versions(
    old: Release, new: Release, papers: Mapping[str, tuple[Any, Any]], facts: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    """The whole answer. `papers` are two documents of each kind (None: not there), `facts` two texts."""
    changed = files(old.manifest, new.manifest)
    scans = scan_diff.explain(old.scan, new.scan)
    return {
        "schema": "garrison.model-diff/1",
        "before": {**old.summary(), "publisher": old.publisher},
        "after": {**new.summary(), "publisher": new.publisher},
        "same_bytes": old.digest == new.digest,
        "files": [change.as_json() for change in changed],
        "bytes": new.manifest.size - old.manifest.size,
        "scan": scans.as_json(),
        "seen": _seen(old.scan.get("seen", ()), new.scan.get("seen", ())),
        "facts": [
            {"name": name, "before": pair[0], "after": pair[1]}
            for name, pair in facts.items()
            if pair[0] != pair[1]
        ],
        "papers": {kind: paper(*pair) for kind, pair in sorted(papers.items())},
    }


def _seen(old: Sequence[str], new: Sequence[str]) -> dict[str, list[str]]:
    """What the files ask for (globals, operators, layers) that came and that went."""
    return {"come": sorted({*new} - {*old}), "gone": sorted({*old} - {*new})}


def paper(old: Any, new: Any) -> list[dict[str, str]]:
    """Two JSON documents, leaf by leaf: what is at which place now and was before."""
    if old is None or new is None:
        place = "" if old is None and new is None else "added" if old is None else "removed"
        return [{"at": "", "before": "", "after": place}] if place else []
    found: list[dict[str, str]] = []
    _compare("", old, new, found, 0)
    return found[:MAX_LINES]


def _compare(at: str, old: Any, new: Any, found: list[dict[str, str]], depth: int) -> None:
    if len(found) > MAX_LINES or old == new:
        return
    if depth < MAX_DEPTH and isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            _compare(f"{at}.{key}" if at else str(key), old.get(key), new.get(key), found, depth + 1)
    elif depth < MAX_DEPTH and isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            _compare(f"{at}[{index}]", one, other, found, depth + 1)
    else:
        found.append({"at": at, "before": _shown(old), "after": _shown(new)})


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return f"{len(value)} fields"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"{len(value)} entries"
    return str(value)[:200]
