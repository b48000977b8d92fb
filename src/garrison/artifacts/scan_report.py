"""What a scan says, in the public shape `garrison.scan/1`, and how files explain one another."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from garrison.core.finding import Finding, Severity, Verdict, worst

SCHEMA = "garrison.scan/1"
FIX_DATA = "get the model again with all of its data files"


@dataclass(frozen=True, slots=True)
class FileReport:
    """One regular file. `sha256` is 64 hex digits, empty when the file could not be read.

    `references` are the files beside it that it reads as raw data, with the bytes they need to have.
    """

    path: str
    format: str
    verdict: Verdict
    sha256: str
    size: int
    findings: tuple[Finding, ...]
    references: tuple[tuple[str, int], ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "format": self.format,
            "verdict": self.verdict.value,
            "sha256": self.sha256,
            "size": self.size,
            "findings": [finding.as_json() for finding in self.findings],
        }


@dataclass(frozen=True, slots=True)
class ScanReport:
    """Every file, and the verdict of the whole: refused beats incomplete beats clean."""

    files: tuple[FileReport, ...]

    @property
    def verdict(self) -> Verdict:
        return worst(file.verdict for file in self.files)

    def as_json(self) -> dict[str, Any]:
        """The public shape, `garrison.scan/1`."""
        files = [file.as_json() for file in self.files]
        return {"schema": SCHEMA, "verdict": self.verdict.value, "files": files}


def resolve(files: Sequence[FileReport]) -> list[FileReport]:
    """The files of one directory, judged together.

    Raw data that no scanner recognises is understood when a file beside it says that it is its data and
    it is long enough. Data that is too short is a finding of the file that refers to it; data that is
    not there is named but harmless: the model will not load.
    """
    known = {file.path: file for file in files}
    for file in files:
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


def _note(known: dict[str, FileReport], path: str, severity: Severity, rule_id: str, message: str) -> None:
    file = known[path]
    finding = Finding(rule_id, severity, message, path, FIX_DATA)
    verdict = Verdict.REFUSED if severity.rank >= Severity.MEDIUM.rank else file.verdict
    known[path] = replace(file, verdict=verdict, findings=(*file.findings, finding))
