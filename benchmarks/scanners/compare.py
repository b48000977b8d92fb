"""Garrison's scanner beside picklescan, modelscan, fickling and modelaudit on one labelled folder.

Each peer is installed, at the version below, into an environment of its own in a cache directory outside
the repository, and scans the same files one by one with a time limit each. Printed for each tool: harmful
files flagged (recall), harmful files not finished, harmless files flagged (false alarms), harmless files
not finished, and processor seconds. For Garrison, `refused` counts as flagged and `incomplete` as not
finished; both block.

    python benchmarks/scanners/compare.py FOLDER [--labels labels.csv] [--markdown] [--classes]

`labels.csv` has the columns file,label,class with the label `malicious` or `benign`. Only scan what you
are ready to have parsed by these tools; nothing is loaded by this script.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import garrison
from garrison.artifacts.scan import RULESET, Options, scan_path
from garrison.core.finding import Verdict

PEERS = {  # name: what pip installs
    "picklescan": ["picklescan[7z]==1.0.5", "numpy"],
    "modelscan": ["modelscan==0.8.8", "numpy"],
    "fickling": ["fickling==0.1.12", "typing_extensions"],
    "modelaudit": ["modelaudit==0.2.54", "numpy"],
}
DRIVER = Path(__file__).with_name("drive.py")
WHOLE_SECONDS = 1800.0
ANSWERS = {Verdict.CLEAN: "passed", Verdict.REFUSED: "flagged", Verdict.INCOMPLETE: "unfinished"}


@dataclass(frozen=True, slots=True)
class Label:
    is_harmful: bool
    kind: str


@dataclass(frozen=True, slots=True)
class Run:
    tool: str
    version: str
    answers: Mapping[str, str]
    cpu: float


def main() -> int:
    parser = argparse.ArgumentParser(description="scanners side by side on a labelled folder")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=Path, help="default: labels.csv in the folder, or the one beside it")
    parser.add_argument("--cache", type=Path, default=_cache(), help="where the peers are installed")
    parser.add_argument("--seconds", type=float, default=30.0, help="time limit of one file")
    parser.add_argument("--only", nargs="+", choices=["garrison", *PEERS], default=["garrison", *PEERS])
    parser.add_argument("--classes", action="store_true", help="a row for each class of files, too")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    labels = read_labels(args.labels or _labels_of(args.folder))
    names = sorted(name for name in labels if (args.folder / name).is_file())
    runs = [
        _garrison(args.folder, names)
        if tool == "garrison"
        else _peer(tool, args.folder, names, args.cache, args.seconds)
        for tool in args.only
    ]
    print_table(runs, labels, names, markdown=args.markdown)
    if args.classes:
        print_classes(runs, labels, names)
    return 0


def read_labels(path: Path) -> dict[str, Label]:
    with path.open(newline="") as stream:
        return {
            row["file"]: Label(row["label"] == "malicious", row["class"]) for row in csv.DictReader(stream)
        }


def _labels_of(folder: Path) -> Path:
    inside = folder / "labels.csv"
    return inside if inside.exists() else folder.parent / "labels.csv"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "garrison-peers"


def _garrison(folder: Path, names: Sequence[str]) -> Run:
    before = _used()
    report = scan_path([folder], options=Options(jobs=1))
    found = {file.path: ANSWERS[file.verdict] for file in report.files}
    answers = {name: found.get(name, "unfinished") for name in names}
    return Run("garrison", f"{garrison.__version__} ({RULESET})", answers, _used() - before)


def _peer(tool: str, folder: Path, names: Sequence[str], cache: Path, seconds: float) -> Run:
    python = install(tool, cache)
    answers, cpu, left = {}, 0.0, list(names)
    deadline = time.monotonic() + WHOLE_SECONDS
    while left and time.monotonic() < deadline:
        done = subprocess.run(
            [python, "-I", DRIVER, tool, str(seconds)],
            input="".join(f"{folder / name}\n" for name in left),
            capture_output=True,
            text=True,
            check=False,
            timeout=WHOLE_SECONDS,
            env={
                "PATH": os.defpath,
                "HOME": str(cache),
                "NO_ANALYTICS": "1",
                "PROMPTFOO_DISABLE_TELEMETRY": "1",
            },
        )
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        for row in rows:
            answers[str(Path(row["path"]).relative_to(folder))] = row["answer"]
            cpu += row["cpu"]
        stopped = left[len(rows) : len(rows) + 1]
        answers |= dict.fromkeys(stopped, "unfinished")  # it took the tool's process with it
        left = left[len(rows) + 1 :]
    answers |= dict.fromkeys(left, "unfinished")
    return Run(tool, PEERS[tool][0].partition("==")[2], answers, cpu)


def install(tool: str, cache: Path) -> Path:
    """The interpreter of the tool's environment, made on first use."""
    place = cache / f"{tool}-{PEERS[tool][0].partition('==')[2]}"
    python = place / "bin" / "python"
    if not (place / "installed").exists():
        print(f"installing {tool} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS[tool]], check=True)
        (place / "installed").touch()
    return python


def print_table(
    runs: Sequence[Run], labels: Mapping[str, Label], names: Sequence[str], *, markdown: bool
) -> None:
    harmful = [name for name in names if labels[name].is_harmful]
    harmless = [name for name in names if not labels[name].is_harmful]
    columns = ("tool", "version", "harmful flagged", "not finished", "passed")
    columns += ("harmless flagged", "not finished", "CPU s")
    rows = [
        (
            *(run.tool, run.version),
            *(_share(run, harmful, answer) for answer in ("flagged", "unfinished", "passed")),
            *(_share(run, harmless, answer) for answer in ("flagged", "unfinished")),
            f"{run.cpu:.1f}",
        )
        for run in runs
    ]
    print(f"{len(harmful)} harmful and {len(harmless)} harmless files, {datetime.now(UTC):%Y-%m-%d}\n")
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    for number, row in enumerate((columns, *rows)):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("| " + " | ".join(cells) + " |" if markdown else "  ".join(cells).rstrip())
        if number == 0 and markdown:
            print("|" + "|".join("---" for _ in columns) + "|")


def _share(run: Run, names: Sequence[str], answer: str) -> str:
    count = sum(run.answers.get(name) == answer for name in names)
    return f"{count} ({count / max(1, len(names)):.0%})"


def print_classes(runs: Sequence[Run], labels: Mapping[str, Label], names: Sequence[str]) -> None:
    """Files of each class that were flagged, with those not finished behind a plus."""
    members: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for name in names:
        members[labels[name].kind, labels[name].is_harmful].append(name)
    print(f"\n{'class':30}{'':9}{'n':>4}" + "".join(f"{run.tool:>13}" for run in runs))
    for (kind, is_harmful), files in sorted(members.items()):
        cells = []
        for run in runs:
            flagged, unfinished = (
                sum(run.answers.get(name) == answer for name in files) for answer in ("flagged", "unfinished")
            )
            cells.append(f"{flagged}+{unfinished}" if unfinished else str(flagged))
        label = "harmful" if is_harmful else "harmless"
        print(f"{kind:30}{label:9}{len(files):>4}" + "".join(f"{cell:>13}" for cell in cells))


def _used() -> float:
    """Processor seconds of this process and of the children that ended."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    sys.exit(main())
