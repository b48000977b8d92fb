"""Lineage as its publisher declares it: `lineage.toml`, every local path hashed here and now.

A digest that the file gives is compared with the bytes that lie there; one that differs is refused, so a
declaration cannot drift away from its data. What only has an address and no digest stays a gap. The file is
described in docs/provenance.md, and `garrison lineage template` prints one with comments.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from garrison.artifacts.lineage.base import MAX_FACTS, MAX_MATERIALS, Fact, Kind, Lineage, Material
from garrison.core.digest import Ref, canonical_json, short
from garrison.core.errors import GarrisonError, Refused, Usage
from garrison.core.event import format_time
from garrison.trust.tree import read_tree

MAX_FILE_BYTES = 1024 * 1024  # thousands of entries; longer lists belong into a registered data set
_CHUNK = 1 << 20
_DIGESTS = {"sha256": 64, "sha512": 128, "md5": 32, "gitCommit": 40}

_COMMON = ("name", "path", "uri", "sha256", "sha512", "md5", "facts")
_KEYS: Mapping[str, tuple[Kind, frozenset[str]]] = {
    "data": ("data", frozenset({*_COMMON, "dataset"})),
    "preprocessing": ("preprocessing", frozenset(_COMMON)),
    "run": ("run", frozenset({*_COMMON, "parameters", "metrics", "started", "finished"})),
    "evaluation": ("evaluation", frozenset({*_COMMON, "metrics"})),
    "base_model": ("base_model", frozenset({*_COMMON, "model"})),
    "code": ("code", frozenset({*_COMMON, "commit"})),
}
_TOP = frozenset({"builder", "started", "finished", "parameters", "metrics", *_KEYS})

# The digest of a registered data set or a published version. Raises what the registry refuses.
Lookup = Callable[[Ref], str]


@dataclass(frozen=True, slots=True)
class Lookups:
    """How names in the file are turned into digests."""

    dataset: Lookup
    model: Lookup


def read_declared(path: Path, lookups: Lookups) -> Lineage:
    """Parse a lineage file and hash what it names.

    Raises `Usage` PROV-LINEAGE with the line that is wrong, `Refused` PROV-DIGEST, and what the registry
    says of a data set or a base model.
    """
    text = _read(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _wrong(path, str(error)) from error
    file = _File(path, text, lookups)
    file.known(document, _TOP, "", 0)
    materials = []
    for table, (kind, keys) in _KEYS.items():
        entries = document.get(table, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise file.wrong(f"write [[{table}]], with two brackets", table, 0)
        for index, entry in enumerate(entries):
            file.known(entry, keys, table, index)
            materials.append(file.material(kind, table, index, entry))
    if not materials:
        raise _wrong(path, "it names nothing: no data, no preprocessing, no run, no evaluation")
    if len(materials) > MAX_MATERIALS:
        raise _wrong(path, f"it names more than {MAX_MATERIALS:,} things")
    try:
        return Lineage(
            source=path.name,
            builder=file.string(document, "builder", "", 0),
            started=file.moment(document, "started", "", 0),
            finished=file.moment(document, "finished", "", 0),
            parameters={
                name: str(value) for name, value in file.facts(document, "parameters", "", 0).items()
            },
            metrics=file.metrics(document, "", 0),
            materials=tuple(materials),
        )
    except ValueError as error:
        raise _wrong(path, str(error)) from error


@dataclass(frozen=True, slots=True)
class _File:
    """A parsed file together with its text, so that a complaint can name the line."""

    path: Path
    text: str
    lookups: Lookups
    hashed: dict[Path, tuple[str, dict[str, Fact]]] = field(default_factory=dict)

    def material(self, kind: Kind, table: str, index: int, entry: Mapping[str, Any]) -> Material:
        digests = {
            "gitCommit" if name == "commit" else name: self.digest(entry, name, table, index)
            for name in ("sha256", "sha512", "md5", "commit")
            if name in entry
        }
        facts: dict[str, Fact] = dict(self.facts(entry, "facts", table, index))
        name, uri = self.string(entry, "name", table, index), self.string(entry, "uri", table, index)
        found, default_name, default_uri = self._found(table, index, entry, facts)
        if found:
            given = digests.setdefault("sha256", found)
            if given != found:
                raise self._differs(table, index, default_name, given, found)
        for group in ("parameters", "metrics"):
            values = self.facts(entry, group, table, index) if group in entry else {}
            facts |= {f"{group}.{key}": value for key, value in values.items()}
        for key in ("started", "finished"):
            if moment := self.moment(entry, key, table, index):
                facts[key] = format_time(moment)
        if kind == "run" and not digests:
            # A run is a record: what is declared of it is what there is to fix by a digest.
            digests["sha256"] = hashlib.sha256(canonical_json(facts)).hexdigest()
            facts["digest_of"] = "what is declared here"
        name = name or default_name or uri
        if not name:
            raise self.wrong(f"this {table} has neither name nor path nor uri", table, index)
        try:
            return Material(kind, name, uri or default_uri, digests, facts)
        except ValueError as error:
            raise self.wrong(str(error), table, index) from error

    def _found(
        self, table: str, index: int, entry: Mapping[str, Any], facts: dict[str, Fact]
    ) -> tuple[str, str, str]:
        """The SHA-256, name and address of what an entry points to here; empty when it points nowhere."""
        sources = [key for key in ("path", "dataset", "model") if key in entry]
        if len(sources) > 1:
            raise self.wrong(f"give one of {' and '.join(sources)}, not both", table, index, sources[1])
        if not sources:
            return "", "", ""
        key = sources[0]
        value = self.string(entry, key, table, index)
        if key == "path":
            place = self.path.parent / value
            if place not in self.hashed:
                try:
                    self.hashed[place] = _hash(place)
                except OSError as error:
                    raise self.wrong(f"cannot read {place}: {error.strerror}", table, index, key) from error
            digest, known = self.hashed[place]
            for name, fact in known.items():
                facts.setdefault(name, fact)
            return digest, value, ""
        try:
            ref = Ref.parse(value)
            digest = (self.lookups.dataset if key == "dataset" else self.lookups.model)(ref)
        except Usage as error:
            raise self.wrong(error.what, table, index, key) from error
        except GarrisonError as error:
            error.evidence.setdefault("line", self.line(table, index, key))
            raise
        facts[key] = str(ref)
        facts["digest_of"] = "the manifest"
        return digest.removeprefix("sha256:"), str(ref), f"garrison:{key}/{ref}"

    def known(self, found: Mapping[str, Any], keys: frozenset[str], table: str, index: int) -> None:
        for key in found:
            if key not in keys:
                near = difflib.get_close_matches(key, keys, n=1)
                meant = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(keys))}"
                raise self.wrong(f"{key!a} is not known here{meant}", table, index, key)

    def string(self, found: Mapping[str, Any], key: str, table: str, index: int) -> str:
        value = found.get(key, "")
        if not isinstance(value, str) or not value.isprintable() or (key in found and not value):
            raise self.wrong(f"{key} is not a text", table, index, key)
        return value

    def digest(self, found: Mapping[str, Any], key: str, table: str, index: int) -> str:
        value = self.string(found, key, table, index).lower().removeprefix(f"{key}:")
        length = _DIGESTS["gitCommit" if key == "commit" else key]
        if not re.fullmatch(r"[0-9a-f]+", value) or len(value) not in (
            length,
            64 if key == "commit" else length,
        ):
            raise self.wrong(f"{key} has {length} hexadecimal digits", table, index, key)
        return value

    def moment(self, found: Mapping[str, Any], key: str, table: str, index: int) -> datetime | None:
        value = found.get(key)
        if value is None:
            return None
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise self.wrong(
                f"{key} is not a time with its zone, such as 2026-11-20T09:00:00Z", table, index, key
            )
        return value.astimezone(UTC)

    def facts(self, found: Mapping[str, Any], key: str, table: str, index: int) -> dict[str, Fact]:
        value = found.get(key, {})
        if not isinstance(value, dict) or len(value) > MAX_FACTS:
            raise self.wrong(f"{key} is not a table of at most {MAX_FACTS:,} values", table, index, key)
        for name, fact in value.items():
            if (
                not isinstance(fact, (str, int, float, bool))
                or fact != fact
                or fact in (float("inf"), -float("inf"))
            ):
                raise self.wrong(f"{key}.{name} is not a text, a number or true or false", table, index, name)
        return value

    def metrics(self, found: Mapping[str, Any], table: str, index: int) -> dict[str, float]:
        values = self.facts(found, "metrics", table, index)
        for name, value in values.items():
            if isinstance(value, (bool, str)):
                raise self.wrong(f"metrics.{name} is not a number", table, index, name)
        return {name: float(value) for name, value in values.items()}

    def line(self, table: str, index: int, key: str = "") -> int:
        """The line of a key in the n-th `[[table]]`, or of its head; 1 when it cannot be told."""
        head = re.compile(rf"\s*\[\[\s*{re.escape(table)}\s*\]\]")
        assignment = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]|.*[{{,]\s*{re.escape(key)}\s*=")
        count, start = -1, 0 if not table else None
        lines = self.text.splitlines()
        for number, line in enumerate(lines):
            if table and head.match(line):
                count += 1
                if count == index:
                    start = number
            elif start is not None and count == (index if table else -1) and key and assignment.match(line):
                return number + 1
        return (start or 0) + 1

    def wrong(self, why: str, table: str, index: int, key: str = "") -> Usage:
        return _wrong(self.path, why, self.line(table, index, key))

    def _differs(self, table: str, index: int, name: str, given: str, found: str) -> Refused:
        line = self.line(table, index, "sha256")
        return Refused(
            "PROV-DIGEST",
            f"{self.path.name} line {line}: {name} is {short(found)}, and the file says {short(given)}",
            fix="find out which of the two is right: the data changed after the file was written, or the file "
            "names other data",
            evidence={"path": name, "line": line, "expected": f"sha256:{given}", "found": f"sha256:{found}"},
        )


def _hash(place: Path) -> tuple[str, dict[str, Fact]]:
    """SHA-256 of a file, or of the manifest of a directory. Raises OSError and what `read_tree` refuses."""
    if place.is_dir():
        manifest = read_tree(place)
        digest = manifest.digest.removeprefix("sha256:")
        return digest, {"files": len(manifest.files), "bytes": manifest.size, "digest_of": "the manifest"}
    # Not blocking: a named pipe in the place of a file must not hang the publication.
    descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is neither a file nor a directory")
        hasher, size = hashlib.sha256(), 0
        while chunk := stream.read(_CHUNK):
            hasher.update(chunk)
            size += len(chunk)
    return hasher.hexdigest(), {"bytes": size}


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise _wrong(path, f"it is longer than {MAX_FILE_BYTES:,} bytes")
        return data.decode()
    except OSError as error:
        raise _wrong(path, error.strerror or "cannot be read") from error
    except UnicodeDecodeError as error:
        raise _wrong(path, "it is not UTF-8") from error


def _wrong(path: Path, why: str, line: int = 0) -> Usage:
    where = f"{path.name} line {line}" if line else path.name
    return Usage(
        "PROV-LINEAGE",
        f"{where}: {why}",
        fix="garrison lineage template prints a file with every key explained",
        evidence={"path": str(path), **({"line": line} if line else {})},
    )
