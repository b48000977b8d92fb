"""Verifying a directory against hashing it: the rate as a ratio to bare SHA-256, and the peak of memory.

Each measurement is a process of its own. Bare SHA-256 reads the same files from the same page cache with
`hashlib.file_digest`, on as many threads as the verification may use; the runs alternate and the best of
each counts, so that a busy machine disturbs both alike.

    python benchmarks/verify.py [--megabytes 1000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from garrison.client import verify_model
from garrison.core.decision import Tier
from garrison.core.digest import Ref, sha256_bytes
from garrison.trust import oms, statement
from garrison.trust.keys.file import FileSigner
from garrison.trust.tree import read_tree
from garrison.trust.tree_hash import MAX_THREADS

RATE_TARGET = 0.9  # of bare SHA-256
MEMORY_TARGET_MIB = 96.0  # above a process that has only imported the SDK
SHARDS = 4


def make_model(root: Path, megabytes: int) -> Path:
    """Shards of random bytes and fifty small files, signed; returns the directory."""
    model = root / "model"
    model.mkdir()
    shard = megabytes * 1_000_000 // SHARDS
    for number in range(SHARDS):
        with (model / f"model-{number + 1:05}-of-{SHARDS:05}.safetensors").open("wb") as stream:
            for start in range(0, shard, 1 << 24):
                stream.write(os.urandom(min(1 << 24, shard - start)))
    for number in range(50):
        (model / f"tokenizer-{number}.json").write_bytes(os.urandom(4096))
    signer = FileSigner("release")
    (root / "release.pem").write_bytes(signer.public_pem())
    manifest, ref = read_tree(model), Ref("bench", 1)
    release = statement.ReleaseStatement(
        ref=ref,
        manifest=manifest,
        tier=Tier.INTERNAL,
        owner="bench",
        publisher="bench",
        created=datetime.now(UTC),
        verdict="clean",
        scanner="bench",
        report=sha256_bytes(b""),
        source=str(model),
    )
    (root / "model.sig").write_bytes(oms.bundle(manifest, str(ref), signer))
    (root / "model.release.json").write_bytes(statement.sign(release, signer))
    return model


def bare(model: Path) -> None:
    threads = min(MAX_THREADS, len(os.sched_getaffinity(0)))

    def digest(path: Path) -> bytes:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()

    files = sorted(
        (path for path in model.rglob("*") if path.is_file()), key=lambda path: -path.stat().st_size
    )
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(digest, files))


def measure(kind: str, model: Path) -> None:
    """In a process of its own: do it once, print seconds of wall time, of processor time, and the peak in KiB."""
    begun, used = time.perf_counter(), time.process_time()
    if kind == "bare":
        bare(model)
    elif kind == "verify":
        verify_model(model, name="bench@1", trust=model.parent / "release.pem")
    wall, processor = time.perf_counter() - begun, time.process_time() - used
    # Not ru_maxrss: that one carries over the peak of the process that started this one.
    status = Path("/proc/self/status").read_text()
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    print(wall, processor, peak)


def run(kind: str, model: Path) -> tuple[float, float, float]:
    command = [sys.executable, __file__, "--measure", kind, str(model)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    wall, processor, peak = map(float, done.stdout.split())
    return wall, processor, peak / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", nargs=2, metavar=("KIND", "DIR"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure[0], Path(args.measure[1]))
        return 0
    with tempfile.TemporaryDirectory(prefix="garrison-bench-") as folder:
        model = make_model(Path(folder), args.megabytes)
        runs: dict[str, list[tuple[float, float, float]]] = {"nothing": [run("nothing", model)]}
        run("bare", model)  # warms the page cache
        for _ in range(args.rounds):
            for kind in ("bare", "verify"):
                runs.setdefault(kind, []).append(run(kind, model))
    best = {kind: min(rows) for kind, rows in runs.items()}
    processor = {kind: min(row[1] for row in rows) for kind, rows in runs.items()}
    peak = max(row[2] for row in runs["verify"]) - best["nothing"][2]
    ratio = best["bare"][0] / best["verify"][0]
    print(
        f"verify of {args.megabytes:,} MB in {SHARDS} shards and 50 small files, {len(os.sched_getaffinity(0))} cores"
    )
    print(f"  {'':14}{'MB/s':>8}{'cpu s':>8}")
    for kind in ("bare", "verify"):
        print(f"  {kind:14}{args.megabytes / best[kind][0]:8,.0f}{processor[kind]:8.2f}")
    print(f"  rate against bare SHA-256   {ratio:6.2f}x   target >= {RATE_TARGET}")
    print(f"  processor time against bare {processor['verify'] / processor['bare']:6.2f}x")
    print(f"  peak memory above baseline  {peak:6.1f} MiB target <= {MEMORY_TARGET_MIB:.0f}")
    return 0 if ratio >= RATE_TARGET and peak <= MEMORY_TARGET_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
