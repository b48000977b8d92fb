"""`python -m tests.fuzz.run --seconds 600 [TARGET ...]`: every target for its share of the time.

With atheris installed each target runs under libFuzzer, guided by coverage; without it, with random mutants.
An input that fails is written to `tests/fuzz/found/` and printed; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.mutate import mutants
from tests.fuzz.targets import MAX_INPUT, Target, targets

FOUND = Path(__file__).with_name("found")
BATCH = 2_000


def main() -> int:
    known = targets()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--keep", type=Path, help="copy what covers new code to DIR/TARGET")
    parser.add_argument("targets", nargs="*", choices=[*known, []], help="all of them when none is named")
    options = parser.parse_args()
    guided = importlib.util.find_spec("atheris") is not None
    failed = 0
    for name in options.targets or known:
        started = time.monotonic()
        if guided:
            ok, inputs = _guided(known[name], options.seconds, options.keep)
        else:
            ok, inputs = _random(known[name], options.seconds)
        failed += not ok
        how, took = "guided" if guided else "random", time.monotonic() - started
        print(f"{name:20} {inputs:>9} {how} inputs in {took:5.0f} s  {'ok' if ok else 'FAILED'}", flush=True)
    return 1 if failed else 0


def _random(target: Target, seconds: float) -> tuple[bool, int]:
    end, count = time.monotonic() + seconds, 0
    seeds = target.seeds or (b"",)
    while time.monotonic() < end:
        for data in mutants(seeds, BATCH, seed=count):
            count += 1
            try:
                target.run(data[:MAX_INPUT])
            except Exception as error:  # noqa: BLE001 - whatever a parser lets out is what we look for
                _keep(target.name, data, error)
                return False, count
    return True, count


def _keep(name: str, data: bytes, error: Exception) -> None:
    FOUND.mkdir(exist_ok=True)
    path = FOUND / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    print(f"{path}: {type(error).__name__}: {error}", file=sys.stderr)


def _guided(target: Target, seconds: float, keep: Path | None) -> tuple[bool, int]:
    """libFuzzer in a process of its own, since it ends the process that it runs in."""
    FOUND.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(scratch) / "corpus"
        corpus.mkdir()
        for index, data in enumerate(target.seeds):
            (corpus / f"seed-{index}").write_bytes(data)
        argv = [sys.executable, "-m", "tests.fuzz.guided", target.name, str(corpus)]
        argv += [
            f"-max_total_time={int(seconds)}",
            f"-max_len={MAX_INPUT}",
            "-timeout=20",
            "-rss_limit_mb=2048",
        ]
        argv += [f"-artifact_prefix={FOUND}/{target.name}-", "-print_final_stats=1", "-verbosity=0"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, errors="replace")
        if done.returncode:
            print(done.stderr[-4_000:], file=sys.stderr)
        if keep is not None:
            _copy_new(corpus, keep / target.name)
    executed = [line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    return done.returncode == 0, int(executed[0]) if executed else 0


def _copy_new(corpus: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in corpus.iterdir():
        if not path.name.startswith("seed-"):
            (folder / path.name[:16]).write_bytes(path.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
