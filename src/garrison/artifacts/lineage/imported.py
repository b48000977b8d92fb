"""What another system said about a model at one moment: its files by SHA-256, and facts that may not change.

Two of these, taken at import and now, are compared by `differences`: that is all that drift is. The values
are plain text on both sides, so that the comparison knows no system.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from garrison.artifacts.lineage.base import Lineage
from garrison.core.digest import is_digest
from garrison.core.finding import Finding, Severity

MAX_RECORD_BYTES = 16 * 1024 * 1024  # 50,000 files and a thousand facts, as JSON
MAX_FACTS = 20_000  # a run's parameters and metrics, the hashes of a pipeline
MAX_FINDINGS = 200  # of one version; an overwritten release of shards needs no more to be believed

# What a fact is about, by the first word of its key, and the rule of a finding about it.
RULES: Mapping[str, str] = MappingProxyType(
    {
        "alias": "DRIFT-ALIAS",
        "source": "DRIFT-SOURCE",
        "run": "DRIFT-RUN",
        "param": "DRIFT-RUN",
        "metric": "DRIFT-RUN",
        "data": "DRIFT-DATA",
        "stage": "DRIFT-DATA",
    }
)


@dataclass(frozen=True, slots=True)
class Locator:
    """Where a version came from: the system (`mlflow`, `dvc`, ...) and what finds it there again."""

    kind: str
    place: Mapping[str, str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", MappingProxyType(dict(self.place)))

    def __str__(self) -> str:
        return str(self.place.get("uri") or self.place.get("path") or self.kind)


@dataclass(frozen=True, slots=True)
class State:
    """`files`: path -> `sha256:<hex>`. `facts`: key -> text, the key's first word is one of `RULES`."""

    files: Mapping[str, str]
    facts: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        return {"files": dict(self.files), "facts": dict(self.facts)}

    @staticmethod
    def from_json(value: Any) -> State:
        """Raises ValueError, KeyError or TypeError for anything but `as_json()`."""
        files, facts = value["files"], value["facts"]
        if not all(isinstance(path, str) and is_digest(digest) for path, digest in files.items()):
            raise ValueError("the files of an import are paths and SHA-256 digests")
        if not all(isinstance(key, str) and isinstance(text, str) for key, text in facts.items()):
            raise ValueError("the facts of an import are text")
        return State(dict(files), dict(facts))


@dataclass(frozen=True, slots=True)
class Imported:
    """One reading of a source: where, what it held, and the lineage that it tells."""

    locator: Locator
    state: State
    lineage: Lineage


def differences(then: State, now: State, since: str) -> tuple[Finding, ...]:
    """What changed at the source. Facts that are new there are no drift; a new file is."""
    found = [*_files(then, now, since), *_facts(then, now, since)]
    return tuple(found[:MAX_FINDINGS])


def _files(then: State, now: State, since: str) -> list[Finding]:
    found = []
    for path in sorted(then.files.keys() | now.files.keys()):
        before, after = then.files.get(path), now.files.get(path)
        if before == after:
            continue
        if after is None:
            what = f"{path} is gone at the source: {before} when it was imported, {since}"
        elif before is None:
            what = f"{path} was added at the source: {after}; it was not there when imported, {since}"
        else:
            what = f"{path} was overwritten at the source: expected {before}, found {after}; imported {since}"
        found.append(Finding("DRIFT-CONTENT", Severity.CRITICAL, what, path, _FIX))
    return found


def _facts(then: State, now: State, since: str) -> list[Finding]:
    found = []
    for key in sorted(then.facts):
        before, after = then.facts[key], now.facts.get(key)
        if before == after:
            continue
        rule = RULES.get(key.partition(".")[0], "DRIFT-RUN")
        shown = "nothing" if after is None else repr(after[:200])
        what = (
            f"{key[:200]} changed at the source: expected {before[:200]!r}, found {shown}; imported {since}"
        )
        found.append(Finding(rule, Severity.HIGH, what, key[:200], _FIX))
    return found


_FIX = (
    "ask who changed the source; what Garrison serves is still the imported bytes. Import the new state as "
    "the next version if it is wanted"
)
