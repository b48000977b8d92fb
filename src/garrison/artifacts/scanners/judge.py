"""One file to one verdict: every scanner that recognises it speaks, and every part inside is judged too."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from garrison.artifacts.scanners.base import (
    HEAD,
    Fact,
    Gap,
    Inner,
    Malformed,
    Reference,
    Scanner,
    Source,
    shown,
)
from garrison.core.finding import Finding, Severity, Verdict

MAX_DEPTH = 6  # containers in containers; real models need three (tar.gz of torch zips of pickles)
MAX_PARTS = 50_000  # members of one file, over all depths
MAX_REFERENCES = 10_000  # files that one file may claim as its data; large exports write one per tensor
MAX_FINDINGS = 200  # a person reads the first few; the verdict needs one
MAX_FACTS = 2_000  # different ones of one file; the largest pickles name some hundred globals
MAX_FACT = 200  # characters of one fact
MAX_TEMPLATE = 1 << 20  # templates above this are judged but not told apart by digest
UNDERSTAND = "convert it to a format in docs/scanning.md, or leave the file out of the artifact"
# Empty by custom: they keep a directory, or say that it is one of Python's packages.
_MARKER = re.compile(r"\.(?:git)?keep\Z|\.gitignore\Z|__init__\.py\Z|py\.typed\Z")

Ask = Callable[[Sequence[Scanner]], list[Scanner]]
Recognition = Callable[[Inner, str, Sequence[Scanner], Ask], list[Scanner]]


@dataclass(frozen=True, slots=True)
class Judgement:
    """`gaps` are the rules of severity `low` that made the file incomplete."""

    format: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    references: tuple[Reference, ...] = ()
    facts: tuple[Fact, ...] = ()
    gaps: tuple[str, ...] = ()


def asked(_part: Inner, _where: str, scanners: Sequence[Scanner], ask: Ask) -> list[Scanner]:
    """Every scanner is asked whether it recognises a part; `kept.py` has the ways that remember."""
    return ask(scanners)


@dataclass(slots=True)
class _Case:
    """What has been seen of one file so far."""

    scanners: Sequence[Scanner]
    recognition: Recognition
    refused: bool = False
    incomplete: bool = False
    parts: int = 0
    findings: list[Finding] = field(default_factory=list)
    references: dict[str, int] = field(default_factory=dict)
    facts: dict[Fact, None] = field(default_factory=dict)
    gaps: dict[str, None] = field(default_factory=dict)

    def note(self, kind: str, value: str) -> None:
        if len(self.facts) < MAX_FACTS:
            self.facts[Fact(kind, shown(value, MAX_FACT))] = None

    def add(self, finding: Finding, where: str) -> None:
        if finding.severity.rank >= Severity.MEDIUM.rank:
            self.refused = True
        if len(self.findings) < MAX_FINDINGS:
            place = _joined(where, finding.where)
            self.findings.append(
                Finding(finding.rule_id, finding.severity, finding.message, place, finding.fix)
            )

    def gap(self, gap: Gap, where: str) -> None:
        self.incomplete = True
        self.gaps[gap.rule_id] = None
        self.add(gap.as_finding(), where)


def judge(source: Source, scanners: Sequence[Scanner], recognition: Recognition = asked) -> Judgement:
    """Judge one file. A scanner that raises makes the file `incomplete`, never clean and never a traceback."""
    case = _Case(scanners, recognition)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the language's parsers warn about odd escapes in untrusted text
        found = _look(case, Inner("", source), source.name, 0)
    verdict = Verdict.REFUSED if case.refused else Verdict.INCOMPLETE if case.incomplete else Verdict.CLEAN
    findings = sorted(case.findings, key=lambda finding: -finding.severity.rank)
    references = tuple(Reference(path, size) for path, size in case.references.items())
    return Judgement(found, verdict, tuple(findings), references, tuple(case.facts), tuple(case.gaps))


def _look(case: _Case, part: Inner, where: str, depth: int) -> str:
    source = part.source
    case.parts += 1
    if depth > MAX_DEPTH or case.parts > MAX_PARTS:
        if not part.guess:
            limit = f"nested deeper than {MAX_DEPTH}" if depth > MAX_DEPTH else f"more than {MAX_PARTS} parts"
            case.gap(
                Gap("artifact.limit.nesting", limit, fix="unpack the archive and scan what is in it"), where
            )
        return "unknown"
    if source.size == 0 and not part.kind:
        if depth == 0 and not _MARKER.match(source.name.rsplit("/", 1)[-1]):
            gap = Gap("artifact.empty", "the file is empty", fix="get the file again, or leave it out")
            case.gap(gap, where)
        return "empty"

    def ask(scanners: Sequence[Scanner]) -> list[Scanner]:
        head = source.read_at(0, HEAD)
        return [scanner for scanner in scanners if _matches(case, scanner, part, head, where)]

    matching = case.recognition(part, where, case.scanners, ask)
    for scanner in matching:
        case.note("format", scanner.format)
        _scan(case, scanner, part, where, depth)
    if part.kind == "jinja" and source.size <= MAX_TEMPLATE:
        case.note("template", hashlib.sha256(source.read_at(0, source.size)).hexdigest())
    if not matching and not part.guess:
        message = "no scanner recognises this content"
        case.gap(Gap("artifact.unknown", message, fix=UNDERSTAND), where)
    return matching[0].format if matching else "unknown"


def _matches(case: _Case, scanner: Scanner, part: Inner, head: bytes, where: str) -> bool:
    if part.kind:
        return scanner.format == part.kind
    try:
        return scanner.recognises(head, part.source)
    except Exception as error:  # noqa: BLE001 - the boundary of a plugin: a failure becomes a gap
        case.gap(_failed(scanner, error), where)
        return False


def _scan(case: _Case, scanner: Scanner, part: Inner, where: str, depth: int) -> None:
    try:
        for seen in scanner.scan(part.source):
            if isinstance(seen, Inner):
                inner = replace(seen, guess=True) if part.guess and not seen.kind else seen
                _look(case, inner, f"{where}{seen.glue}{seen.name}", depth + 1)
            elif isinstance(seen, Reference):
                if depth == 0 and len(case.references) < MAX_REFERENCES:
                    case.references[seen.path] = max(seen.size, case.references.get(seen.path, 0))
            elif isinstance(seen, Fact):
                case.note(seen.kind, seen.value)
            elif isinstance(seen, Gap):
                if not part.guess:
                    case.gap(seen, where)
            elif not part.guess or seen.severity is Severity.CRITICAL:
                case.add(seen, where)
    except Malformed as malformed:
        if not part.guess:
            case.add(malformed.finding, where)
    except EOFError:
        if not part.guess:
            message = f"the file ends in the middle of its {scanner.format} structure"
            case.gap(Gap("artifact.truncated", message, fix="get the file again"), where)
    except Exception as error:  # noqa: BLE001 - the boundary of a plugin: a failure becomes a gap
        case.gap(_failed(scanner, error), where)


def _failed(scanner: Scanner, error: Exception) -> Gap:
    return Gap(
        "artifact.scanner.failed",
        f"the {scanner.format} scanner stopped with {type(error).__name__}",
        fix="report the file to the makers of Garrison; until then it is treated as not understood",
    )


def _joined(outer: str, inner: str) -> str:
    return f"{outer}{'' if inner.startswith((':', '!')) else ':'}{inner}" if inner else outer
