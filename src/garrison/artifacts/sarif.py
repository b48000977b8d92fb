"""A scan as SARIF 2.1.0, the form that code hosts and security dashboards read.

Source: OASIS SARIF 2.1.0. One result a finding, one artifact a file with its SHA-256, suppressed findings
as suppressed results. A gap is a `warning`, since it makes the file incomplete, whatever its severity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from garrison.artifacts.scan_report import FileReport, ScanReport
from garrison.artifacts.scanners.rules import RULES
from garrison.core.finding import Finding, Severity, Verdict

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
HELP = "https://github.com/garrison-ai/garrison/blob/main/docs/reference/rules.md"
_LEVELS = {
    Severity.INFO: "note",
    Severity.LOW: "note",
    Severity.MEDIUM: "warning",
    Severity.HIGH: "error",
    Severity.CRITICAL: "error",
}
_SCORES = {Severity.INFO: "0.0", Severity.LOW: "2.0", Severity.MEDIUM: "5.0", Severity.HIGH: "8.0"}


def as_sarif(report: ScanReport, version: str) -> dict[str, Any]:
    """One run. `version` is Garrison's own. The run is successful when every file was understood."""
    rules = sorted({finding.rule_id for file in report.files for finding in file.findings})
    numbers = {rule_id: number for number, rule_id in enumerate(rules)}
    run = {
        "tool": {
            "driver": {
                "name": "Garrison",
                "semanticVersion": version,
                "informationUri": "https://github.com/garrison-ai/garrison",
                "rules": [_rule(rule_id) for rule_id in rules],
            }
        },
        "automationDetails": {"id": f"garrison-scan/{report.ruleset}/"},
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": list(_notifications(report)),
                "properties": {"verdict": report.verdict.value},
            }
        ],
        "artifacts": [_artifact(file) for file in report.files],
        "results": [
            result for number, file in enumerate(report.files) for result in _results(file, number, numbers)
        ],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(rule_id: str) -> dict[str, Any]:
    rule = RULES.get(rule_id)
    if rule is None:  # of a scanner that another package brings
        return {"id": rule_id, "shortDescription": {"text": rule_id}}
    return {
        "id": rule_id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {"text": f"{rule.why}\n\nWhat to do: {rule.fix}."},
        "helpUri": f"{HELP}#{rule_id.replace('.', '')}",
        "properties": {"tags": ["security", "model"]},
    }


def _notifications(report: ScanReport) -> Iterator[dict[str, Any]]:
    for file in report.files:
        if file.verdict is Verdict.INCOMPLETE:
            text = f"{file.path} was not understood completely; it is not clean"
            yield {
                "level": "warning",
                "message": {"text": text},
                "locations": [_location(file.path, file.path)],
            }


def _artifact(file: FileReport) -> dict[str, Any]:
    artifact: dict[str, Any] = {
        "location": {"uri": _uri(file.path)},
        "length": file.size,
        "properties": {"format": file.format, "verdict": file.verdict.value},
    }
    if file.sha256:
        artifact["hashes"] = {"sha-256": file.sha256}
    return artifact


def _results(file: FileReport, number: int, rules: dict[str, int]) -> Iterator[dict[str, Any]]:
    seen: dict[str, int] = {}
    for index, finding in enumerate(file.findings):
        key = f"{finding.rule_id}\0{file.path}\0{finding.where}\0{finding.message}"
        seen[key] = seen.get(key, 0) + 1
        result = {
            "ruleId": finding.rule_id,
            "ruleIndex": rules[finding.rule_id],
            "level": _level(file, finding),
            "message": {"text": f"{finding.message}. {finding.fix}".strip() or finding.rule_id},
            "locations": [_location(file.path, finding.where or file.path, number)],
            "partialFingerprints": {
                "garrisonFinding/v1": hashlib.sha256(f"{key}\0{seen[key]}".encode()).hexdigest()
            },
            "properties": {
                "severity": finding.severity.value,
                "security-severity": _SCORES.get(finding.severity, "9.5"),
            },
        }
        if index in file.suppressed:
            why = file.suppressed[index]
            result["suppressions"] = [
                {
                    "kind": "external",
                    "status": "accepted",
                    "justification": f"{why.owner}, until {why.until}: {why.reason}",
                }
            ]
        yield result


def _level(file: FileReport, finding: Finding) -> str:
    if finding.severity is Severity.LOW and finding.rule_id in file.gaps:
        return "warning"
    return _LEVELS[finding.severity]


def _location(path: str, where: str, number: int | None = None) -> dict[str, Any]:
    place: dict[str, Any] = {"uri": _uri(path)}
    if number is not None:
        place["index"] = number
    return {
        # A binary file has no lines; the first is what viewers that want one are given (3.30.1).
        "physicalLocation": {"artifactLocation": place, "region": {"startLine": 1}},
        "logicalLocations": [{"fullyQualifiedName": where}],
    }


def _uri(path: str) -> str:
    """A relative reference (RFC 3986): a colon in its first segment would read as a scheme."""
    uri = quote(path, safe="/!$&'()*+,;=@~")
    return uri.replace(":", "%3A")
