"""A scan policy: what refuses at which tier, and whose findings are let pass, by whom and until when.

The file is TOML, `garrison.scan-policy/1`; docs/scanning.md shows one. It can make a scan stricter for
everyone and laxer for named files only: a rule may be made to refuse, and one finding of one digest may be
suppressed, by an owner, until a day. A suppressed finding stays in the report. What a policy says that is
not understood is refused, since a misspelt key would change nothing without a word.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from garrison.artifacts.scan_report import FileReport, ScanReport, Suppression
from garrison.artifacts.scanners.judge import MAX_FINDINGS
from garrison.artifacts.scanners.rules import RULES
from garrison.core.decision import Tier
from garrison.core.digest import sha256_bytes
from garrison.core.errors import Usage
from garrison.core.finding import Finding, Severity, Verdict

SCHEMA = "garrison.scan-policy/1"
NAME = "scan-policy.toml"  # in a data directory, for what is published there
RULE_UNCONFINED = "artifact.scanner.unconfined"
MAX_SIZE = 1 << 20
MAX_SUPPRESSIONS = 10_000
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})\Z")
_LEVEL_KEYS = {"refuse", "accept-incomplete"}
_SUPPRESS_KEYS = {"digest", "rule", "owner", "until", "reason"}


@dataclass(frozen=True, slots=True)
class Level:
    """What refuses at one tier, beyond what always does.

    `refuse`: rules that refuse at any severity. `accept_incomplete`: rules whose gaps do not count.
    """

    refuse: frozenset[str] = frozenset()
    accept_incomplete: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Exemption:
    """One `[[suppress]]`: findings of `rule` in the file of this SHA-256, up to and on the day `until`."""

    digest: str
    rule: str
    until: date
    suppression: Suppression


@dataclass(frozen=True, slots=True)
class ScanPolicy:
    """`name` and `digest` say which file it was, in every result that it touched."""

    default: Level = Level()
    tiers: Mapping[Tier, Level] = field(default_factory=dict)
    exemptions: tuple[Exemption, ...] = ()
    name: str = "built-in"
    digest: str = ""
    require_confinement: bool = False


def load_policy(path: Path) -> ScanPolicy:
    """Raises `Usage` SCAN-POLICY for a file that cannot be read or says something that is not understood."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_SIZE + 1)
        if len(data) > MAX_SIZE:
            raise _wrong(path.name, f"is larger than {MAX_SIZE} bytes")
        table = tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise _wrong(path.name, f"cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _wrong(path.name, f"is not TOML: {error}") from error
    return parse_policy(table, path.name, sha256_bytes(data))


def parse_policy(table: Mapping[str, Any], name: str, digest: str) -> ScanPolicy:
    """A policy from its parsed TOML. Raises `Usage` SCAN-POLICY."""
    _known(name, "the policy", table, {"schema", "require-confinement", "default", "tier", "suppress"})
    if table.get("schema") != SCHEMA:
        raise _wrong(name, f'does not begin with schema = "{SCHEMA}"')
    tiers = _table(name, "tier", table.get("tier", {}))
    unknown = sorted(set(tiers) - {tier.value for tier in Tier})
    if unknown:
        raise _wrong(name, f"names the tier {unknown[0]!r}; tiers are {', '.join(Tier)}")
    rows = table.get("suppress", [])
    if not isinstance(rows, list) or len(rows) > MAX_SUPPRESSIONS:
        raise _wrong(name, f"[[suppress]] is not a list of at most {MAX_SUPPRESSIONS} tables")
    return ScanPolicy(
        _level(name, "[default]", table.get("default", {})),
        {Tier(tier): _level(name, f"[tier.{tier}]", level) for tier, level in tiers.items()},
        tuple(_exemption(name, number, row) for number, row in enumerate(rows, 1)),
        name,
        digest,
        _switch(name, "require-confinement", table.get("require-confinement", False)),
    )


def apply(policy: ScanPolicy, report: ScanReport, *, today: date, tier: Tier | None = None) -> ScanReport:
    """The report with what the policy makes of it: verdicts by the findings that count, and every exemption's state.

    Nothing is removed. An exemption is `used`, `expired` (its findings count again) or `unmatched`.
    """
    levels = [policy.default, *([policy.tiers[tier]] if tier is not None and tier in policy.tiers else [])]
    level = Level(
        frozenset().union(*(each.refuse for each in levels)),
        frozenset().union(*(each.accept_incomplete for each in levels)),
    )
    matched: set[Exemption] = set()
    files = tuple(_judged(file, policy.exemptions, level, today, matched) for file in report.files)
    if policy.require_confinement and report.unconfined:
        files = tuple(_unconfined(file, report.unconfined) for file in files)
    states = [
        {
            "digest": each.digest,
            "rule": each.rule,
            **each.suppression.as_json(),
            "state": "expired" if each.until < today else "used" if each in matched else "unmatched",
        }
        for each in policy.exemptions
    ]
    summary = {
        "name": policy.name,
        "digest": policy.digest,
        "tier": tier.value if tier else None,
        "refuse": sorted(level.refuse),
        "accept_incomplete": sorted(level.accept_incomplete),
        "suppressions": states,
    }
    return replace(report, files=files, policy=summary)


def _unconfined(file: FileReport, missing: Sequence[str]) -> FileReport:
    message = f"it was read without {missing[0]}"
    fix = RULES[RULE_UNCONFINED].fix
    finding = Finding(RULE_UNCONFINED, Severity.LOW, message, file.path, fix)
    verdict = Verdict.INCOMPLETE if file.verdict is Verdict.CLEAN else file.verdict
    return replace(
        file, verdict=verdict, findings=(*file.findings, finding), gaps=file.gaps | {RULE_UNCONFINED}
    )


def _judged(
    file: FileReport,
    exemptions: Sequence[Exemption],
    level: Level,
    today: date,
    matched: set[Exemption],
) -> FileReport:
    suppressed: dict[int, Suppression] = {}
    for each in exemptions:
        if not file.sha256 or each.digest != file.sha256 or each.until < today:
            continue
        for index, finding in enumerate(file.findings):
            if finding.rule_id == each.rule:
                suppressed[index] = each.suppression
                matched.add(each)
    counting = [finding for index, finding in enumerate(file.findings) if index not in suppressed]
    touched = suppressed or any(
        finding.rule_id in level.refuse or finding.rule_id in level.accept_incomplete for finding in counting
    )
    if not touched:
        return file
    verdict = _verdict(file, counting, level)
    if len(file.findings) >= MAX_FINDINGS and verdict is Verdict.CLEAN:
        verdict = file.verdict  # more was found than is listed, so nobody can have agreed to all of it
    return replace(file, verdict=verdict, suppressed=suppressed)


def _verdict(file: FileReport, counting: Sequence[Finding], level: Level) -> Verdict:
    if any(
        finding.severity.rank >= Severity.MEDIUM.rank or finding.rule_id in level.refuse
        for finding in counting
    ):
        return Verdict.REFUSED
    is_gap = any(
        finding.severity is Severity.LOW
        and finding.rule_id in file.gaps
        and finding.rule_id not in level.accept_incomplete
        for finding in counting
    )
    return Verdict.INCOMPLETE if is_gap else Verdict.CLEAN


def _level(name: str, place: str, value: Any) -> Level:
    table = _table(name, place, value)
    _known(name, place, table, _LEVEL_KEYS)
    return Level(
        _rules(name, place, table.get("refuse", [])), _rules(name, place, table.get("accept-incomplete", []))
    )


def _rules(name: str, place: str, value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _wrong(name, f"{place} has something other than a list of rules")
    for each in value:
        _rule(name, place, each)
    return frozenset(value)


def _rule(name: str, place: str, rule: str) -> None:
    if rule.startswith("artifact.") and rule not in RULES:
        raise _wrong(name, f"{place} names {rule!r}, which is not a rule; garrison explain lists them")


def _exemption(name: str, number: int, value: Any) -> Exemption:
    place = f"[[suppress]] number {number}"
    row = _table(name, place, value)
    _known(name, place, row, _SUPPRESS_KEYS)
    for key in sorted(_SUPPRESS_KEYS - {"until"}):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise _wrong(name, f"{place} has no {key}")
    digest = _DIGEST.match(row["digest"])
    if digest is None:
        raise _wrong(name, f"{place}: the digest is not sha256: and 64 hex digits")
    _rule(name, place, row["rule"])
    until = row.get("until")
    if type(until) is not date:
        raise _wrong(name, f"{place} has no day until which it holds, such as until = 2030-01-31")
    suppression = Suppression(row["owner"], until.isoformat(), row["reason"])
    return Exemption(digest[1], row["rule"], until, suppression)


def _table(name: str, place: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(name, f"{place} is not a table")
    return value


def _switch(name: str, place: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, f"{place} is neither true nor false")
    return value


def _known(name: str, place: str, table: Mapping[str, Any], keys: set[str]) -> None:
    unknown = sorted(set(table) - keys)
    if unknown:
        raise _wrong(
            name, f"{place} has the unknown key {unknown[0]!r}; it may have {', '.join(sorted(keys))}"
        )


def _wrong(name: str, what: str) -> Usage:
    return Usage("SCAN-POLICY", f"{name} {what}", fix="docs/scanning.md shows a policy with every key")
