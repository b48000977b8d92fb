"""The feature index: what scans saw of each file, by its digest, so that new rules judge without the file.

One SQLite file. An entry holds the last verdict and its ruleset, the facts (globals, operators, templates)
to search in, and the bytes that the scanners read (`scanners/kept.py`), which `judge_again` gives to the
scanners of now. A file whose structure was too large to keep, or of which new rules want to see more, is
`incomplete` until it is read again; it is never left at an old `clean`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from garrison.artifacts.scan_report import FileReport, ScanReport
from garrison.artifacts.worker_pool import Judged, Limits, Pool, Worker
from garrison.core.errors import Usage
from garrison.core.finding import Finding, Severity, Verdict

SCHEMA_VERSION = 1
BUSY_SECONDS = 30.0
_TABLES = """
CREATE TABLE file (
    sha256 TEXT NOT NULL, name TEXT NOT NULL, format TEXT NOT NULL, size INTEGER NOT NULL,
    ruleset TEXT NOT NULL, verdict TEXT NOT NULL, report TEXT NOT NULL, kept BLOB NOT NULL,
    PRIMARY KEY (sha256, name) -- a name may break a tie between formats
);
CREATE TABLE fact (
    kind TEXT NOT NULL, value TEXT NOT NULL, sha256 TEXT NOT NULL,
    PRIMARY KEY (kind, value, sha256)
) WITHOUT ROWID;
CREATE INDEX fact_of_file ON fact (sha256);
"""


class FeatureIndex:
    """Opened once, closed by the caller. Raises `Usage` SCAN-INDEX when the file is something else."""

    def __init__(self, path: Path) -> None:
        try:
            self._database = sqlite3.connect(path, timeout=BUSY_SECONDS)
            version = self._database.execute("PRAGMA user_version").fetchone()[0]
            if version == 0 and not self._database.execute("SELECT 1 FROM sqlite_master").fetchone():
                self._database.executescript(
                    f"BEGIN IMMEDIATE;{_TABLES}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;"
                )
                version = SCHEMA_VERSION
        except sqlite3.Error as error:
            raise _not_one(path, str(error)) from error
        if version != SCHEMA_VERSION:
            self._database.close()
            raise _not_one(path, f"it is of version {version}")

    def __enter__(self) -> FeatureIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def store(self, report: ScanReport) -> int:
        """Every file that was hashed, over what was known of it; how many that were."""
        files = [file for file in report.files if file.sha256]
        with self._database:
            for file in files:
                self._database.execute(
                    "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(file.sha256, file.path, file.format, file.size, report.ruleset),
                        *(file.verdict.value, _packed(file), file.kept),
                    ),
                )
                self._facts(file)
        return len(files)

    def files(self) -> Iterator[FileReport]:
        """What is known, in the order of names; `kept` included."""
        rows = self._database.execute("SELECT name, sha256, report, kept FROM file ORDER BY name, sha256")
        for name, sha256, report, kept in rows:
            yield replace(_unpacked(name, sha256, report), kept=kept)

    def find(self, text: str) -> list[tuple[str, str, str, str, str]]:
        """(kind, value, sha256, name, verdict) of every fact with `text` in its value, in stable order."""
        pattern = "%" + "".join("\\" + letter if letter in "%_\\" else letter for letter in text) + "%"
        return self._database.execute(
            "SELECT kind, value, sha256, name, verdict FROM fact JOIN file USING (sha256) "
            "WHERE value LIKE ? ESCAPE '\\' ORDER BY kind, value, name",
            (pattern,),
        ).fetchall()

    def judge_again(self, ruleset: str, *, jobs: int = 1, limits: Limits | None = None) -> ScanReport:
        """Every entry by the rules of now, without the files; the index then holds the new verdicts."""
        with closing(Pool(jobs, limits)) as pool:
            again = pool.each(self.files(), _again)
            files = [replace(file, kept=b"") for file in again]
        with self._database:
            for file in files:
                self._database.execute(
                    "UPDATE file SET ruleset = ?, verdict = ?, report = ?, format = ? "
                    "WHERE sha256 = ? AND name = ?",
                    (ruleset, file.verdict.value, _packed(file), file.format, file.sha256, file.path),
                )
                if file.facts:
                    self._facts(file)
        return ScanReport(tuple(files), ruleset)

    def _facts(self, file: FileReport) -> None:
        self._database.execute("DELETE FROM fact WHERE sha256 = ?", (file.sha256,))
        self._database.executemany(
            "INSERT OR IGNORE INTO fact VALUES (?, ?, ?)",
            [(kind, value, file.sha256) for kind, value in file.facts],
        )


def _again(file: FileReport, worker: Worker) -> FileReport:
    if not file.kept:
        return _stale(file, "its structure was too large to keep")
    judged = worker.again(file.kept)
    if judged.is_stale:
        return _stale(file, "the rules want to see bytes that were not kept")
    return _with(file, judged)


def _with(file: FileReport, judged: Judged) -> FileReport:
    """The new judgement, with what only a scan of the file itself or of its directory can say."""
    outside = tuple(
        finding
        for finding in file.findings
        if finding.rule_id.startswith(("artifact.file.", "artifact.data.", "artifact.cache."))
    )
    is_refused = any(finding.severity.rank >= Severity.MEDIUM.rank for finding in outside)
    verdict = Verdict.REFUSED if is_refused else judged.verdict
    if file.format == "data" and {finding.rule_id for finding in judged.findings} == {"artifact.unknown"}:
        return file  # the model beside it says what it is, and still does
    return replace(
        file,
        format=judged.format,
        verdict=verdict,
        findings=(*judged.findings, *outside),
        references=tuple(judged.references.items()),
        gaps=judged.gaps,
        facts=judged.facts,
    )


def _stale(file: FileReport, reason: str) -> FileReport:
    message = f"it has to be read again to be judged by the rules of now: {reason}"
    finding = Finding("artifact.index.stale", Severity.LOW, message, file.path, "scan the file again")
    verdict = Verdict.REFUSED if file.verdict is Verdict.REFUSED else Verdict.INCOMPLETE
    kept = tuple(each for each in file.findings if each.rule_id != finding.rule_id)
    return replace(
        file, verdict=verdict, findings=(*kept, finding), gaps=file.gaps | {finding.rule_id}, facts=()
    )


def _packed(file: FileReport) -> str:
    report = {
        "size": file.size,
        "format": file.format,
        "verdict": file.verdict.value,
        "findings": [finding.as_json() for finding in file.findings],
        "references": [list(reference) for reference in file.references],
        "gaps": sorted(file.gaps),
    }
    return json.dumps(report, separators=(",", ":"), ensure_ascii=False)


def _unpacked(name: str, sha256: str, text: str) -> FileReport:
    report = json.loads(text)
    findings = tuple(
        Finding(row["rule_id"], Severity(row["severity"]), row["message"], row["where"], row["fix"])
        for row in report["findings"]
    )
    return FileReport(
        name,
        report["format"],
        Verdict(report["verdict"]),
        sha256,
        report["size"],
        findings,
        tuple((path, size) for path, size in report["references"]),
        frozenset(report["gaps"]),
    )


def _not_one(path: Path, why: str) -> Usage:
    return Usage(
        "SCAN-INDEX",
        f"{str(path)!r} is not a feature index: {why}",
        fix="garrison scan DIR --index FILE makes one in a directory that you may write to",
    )
