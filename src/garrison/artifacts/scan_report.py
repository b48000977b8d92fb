"""What a scan says, in the public shape `garrison.scan/1`, and how files explain one another."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from garrison.core.finding import Finding, Severity, Verdict, worst

SCHEMA = "garrison.scan/1"
FIX_DATA = "get the model again with all of its data files"
# As in scanners/oci.py, which is not imported here: with it come all scanners, 0.1 s of every start.
RULE_BLOB = "artifact.oci.digest"
FIX_BLOB = "fetch the image again; a blob that is not what its name says was changed"
_BLOB = re.compile(r"(?:\A|/)blobs/sha256/([0-9a-f]{64})\Z")


@dataclass(frozen=True, slots=True)
class Suppression:
    """Who answers for letting a finding pass, until which day (ISO 8601), and why."""

    owner: str
    until: str
    reason: str

    def as_json(self) -> dict[str, str]:
        return {"owner": self.owner, "until": self.until, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class FileReport:
    """One regular file. `sha256` is 64 hex digits, empty when the file could not be read or was not hashed.

    `references` are the files beside it that it reads as raw data, with the bytes they need to have.
    `gaps` are the rules whose findings of severity `low` make the file incomplete. `suppressed` holds,
    by the position of a finding, why it does not count. `facts` and `kept` are for the feature index.
    """

    path: str
    format: str
    verdict: Verdict
    sha256: str
    size: int
    findings: tuple[Finding, ...]
    references: tuple[tuple[str, int], ...] = ()
    gaps: frozenset[str] = frozenset()
    facts: tuple[tuple[str, str], ...] = ()
    kept: bytes = b""
    suppressed: Mapping[int, Suppression] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "format": self.format,
            "verdict": self.verdict.value,
            "sha256": self.sha256,
            "size": self.size,
            "findings": [self._finding(index) for index in range(len(self.findings))],
        }

    def _finding(self, index: int) -> dict[str, Any]:
        row = self.findings[index].as_json()
        if index in self.suppressed:
            row["suppressed"] = self.suppressed[index].as_json()
        return row


MAX_SEEN = 1_000  # of one report; a model of one kind has a few dozen globals or operators


@dataclass(frozen=True, slots=True)
class ScanReport:
    """Every file, and the verdict of the whole: refused beats incomplete beats clean.

    `ruleset` names the rules it was judged by; `policy` is what a policy file made of it, when there was one.
    `unconfined` is what this kernel could not take away from the processes that read the files.
    """

    files: tuple[FileReport, ...]
    ruleset: str
    policy: Mapping[str, Any] | None = None
    unconfined: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        return worst(file.verdict for file in self.files)

    def seen(self) -> list[str]:
        """What the files ask for (globals, operators, layers), as "kind value": for searches and comparisons."""
        found = {f"{kind} {value}" for file in self.files for kind, value in file.facts}
        return sorted(found)[:MAX_SEEN]

    def as_json(self) -> dict[str, Any]:
        """The public shape, `garrison.scan/1`."""
        report: dict[str, Any] = {
            "schema": SCHEMA,
            "verdict": self.verdict.value,
            "ruleset": self.ruleset,
            "files": [file.as_json() for file in self.files],
        }
        if self.unconfined:
            report["unconfined"] = list(self.unconfined)
        if self.policy is not None:
            report["policy"] = dict(self.policy)
        return report


def resolve(files: Sequence[FileReport]) -> list[FileReport]:
    """The files of one directory, judged together.

    Raw data that no scanner recognises is understood when a file beside it says that it is its data and
    it is long enough. Data that is too short is a finding of the file that refers to it; data that is
    not there is named but harmless: the model will not load.
    """
    known = {file.path: file for file in files}
    for file in files:
        promised = _named_digest(file.path)
        if promised and file.sha256 and file.sha256 != promised:
            message = "the blob is not what its name says"
            _note(known, file.path, Severity.HIGH, RULE_BLOB, message, FIX_BLOB)
        for path, size in file.references:
            target = known.get(posixpath.join(posixpath.dirname(file.path), path))
            if target is None:
                _note(
                    known, file.path, Severity.INFO, "artifact.data.missing", f"its data {path} is not here"
                )
            elif target.size < size:
                message = f"its data {path} has {target.size} bytes; the model reads {size}"
                _note(known, file.path, Severity.HIGH, "artifact.data.short", message)
            elif {finding.rule_id for finding in target.findings} == {"artifact.unknown"}:
                known[target.path] = replace(target, format="data", verdict=Verdict.CLEAN, findings=())
    return [known[file.path] for file in files]


def _note(
    known: dict[str, FileReport],
    path: str,
    severity: Severity,
    rule_id: str,
    message: str,
    fix: str = FIX_DATA,
) -> None:
    file = known[path]
    finding = Finding(rule_id, severity, message, path, fix)
    verdict = Verdict.REFUSED if severity.rank >= Severity.MEDIUM.rank else file.verdict
    known[path] = replace(file, verdict=verdict, findings=(*file.findings, finding))


def _named_digest(path: str) -> str:
    """The SHA-256 that a path in an OCI image layout promises, as 64 hex digits, or ""."""
    match = _BLOB.search(path)
    return match[1] if match else ""
