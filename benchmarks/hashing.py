"""Every way of hashing a model against bare SHA-256: all ratios in one run.

Bare SHA-256 is `hashlib` over the same files from the same page cache in blocks of the same size; on two cores
it is two threads with half of the files each. One core is measured in processor time, two in wall time, each
the best of several rounds, the kinds taking turns. Two "cores" that share one (hyper-threads, a busy host) do
not make bare SHA-256 twice as fast either: its own gain is printed, and ours is judged against it.

    python benchmarks/hashing.py [--megabytes 1024] [--rounds 5]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from garrison.client import verify_model
from garrison.core.decision import Tier
from garrison.core.digest import Manifest, Ref, sha256_bytes
from garrison.trust import oms, statement
from garrison.trust.hash_cache import HashCache, KeyedHash, Recall
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import PublicKey, public_from_pem
from garrison.trust.tree import read_tree
from garrison.trust.tree_hash import BLOCK_BYTES

SHARDS = 8
SMALL = 50
TARGETS = {
    "many files, one core: ours / bare": (">=", 0.95),
    "one file, one core: ours / bare": (">=", 0.95),
    "many files, two cores: ours / bare": (">=", 0.9),
    "one file by tree, two cores: ours / bare": (">=", 0.9),
    "verify / sign, time, many files": ("<=", 1.05),
    "verify / sign, time, one file": ("<=", 1.05),
    "keyed BLAKE3 / SHA-256, hash alone": (">=", 3.0),
}
SIGNER = FileSigner("release")


def write(path: Path, megabytes: int) -> None:
    with path.open("wb") as stream:
        for start in range(0, megabytes << 20, 1 << 24):
            stream.write(os.urandom(min(1 << 24, (megabytes << 20) - start)))


def bare(model: Path) -> None:
    """One core, one buffer, one hash a file."""
    buffer = memoryview(bytearray(BLOCK_BYTES))
    for path in sorted(model.iterdir()):
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as stream:
            while count := stream.readinto(buffer):
                digest.update(buffer[:count])


def bare_in_two(model: Path) -> None:
    """Raw hashing on two cores: every second block of the bytes a thread."""

    def half(number: int) -> None:
        buffer = memoryview(bytearray(BLOCK_BYTES))
        digest = hashlib.sha256()
        for path in sorted(model.iterdir()):
            with path.open("rb", buffering=0) as stream:
                for at in range(number * BLOCK_BYTES, path.stat().st_size, 2 * BLOCK_BYTES):
                    count = os.preadv(stream.fileno(), [buffer], at)
                    digest.update(buffer[:count])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(half, (0, 1)))


def hash_alone(new: Callable[[], KeyedHash]) -> float:
    """MiB a second of processor time, from one block in the processor's cache."""
    block, digest = memoryview(os.urandom(BLOCK_BYTES)), new()
    start = time.process_time()
    for _ in range(400):
        digest.update(block)
    return 400 / (time.process_time() - start)


def sign(model: Path) -> Manifest:
    roots: dict[str, str] = {}
    manifest, ref = read_tree(model, roots=roots), Ref("bench", 1)
    stated = statement.ReleaseStatement(
        ref=ref,
        manifest=manifest,
        tier=Tier.INTERNAL,
        owner="bench",
        publisher="bench",
        created=datetime.now(UTC),
        verdict="clean",
        scanner="bench",
        report=sha256_bytes(b""),
        source="bench",
    )
    stated = replace(stated, roots=roots)
    model.with_name(model.name + ".sig").write_bytes(oms.bundle(manifest, str(ref), SIGNER))
    model.with_name(model.name + ".release.json").write_bytes(statement.sign(stated, SIGNER))
    return manifest


def timed(work: Callable[[], object], cores: set[int]) -> float:
    os.sched_setaffinity(0, cores)
    clock = time.perf_counter if len(cores) > 1 else time.process_time
    start = clock()
    work()
    return clock() - start


def best(kinds: dict[str, tuple[Callable[[], object], set[int]]], rounds: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, (work, cores) in kinds.items():
            taken.setdefault(name, []).append(timed(work, cores))
    return {name: min(times) for name, times in taken.items()}


def measure(root: Path, megabytes: int, rounds: int) -> dict[str, float]:
    many, one = root / "many", root / "one"
    many.mkdir()
    one.mkdir()
    for number in range(SHARDS):
        write(many / f"model-{number + 1:05}-of-{SHARDS:05}.safetensors", megabytes // SHARDS)
    for number in range(SMALL):
        (many / f"tokenizer-{number}.json").write_bytes(os.urandom(4096))
    write(one / "model.safetensors", megabytes)
    keys: list[PublicKey] = [public_from_pem(SIGNER.public_pem())]
    cores = os.sched_getaffinity(0)
    single, pair = set(sorted(cores)[:1]), set(sorted(cores)[:2])
    signed = {model: sign(model) for model in (many, one)}
    cache = HashCache.open(root / "cache")
    assert cache is not None, "this benchmark needs blake3: pip install 'garrison[fast]'"
    recall = Recall(cache, {entry.path: entry.digest for entry in signed[many]})
    read_tree(many, recall=recall)
    times = best(
        {
            "bare many": (lambda: bare(many), single),
            "many, one core": (lambda: read_tree(many), single),
            "bare many, two cores": (lambda: bare_in_two(many), pair),
            "many, two cores": (lambda: read_tree(many), pair),
            "sign many": (lambda: sign(many), pair),
            "verify many": (lambda: verify_model(many, trust=keys), pair),
            "again": (lambda: read_tree(many, recall=recall), single),
            "bare one": (lambda: bare(one), single),
            "one, one core": (lambda: read_tree(one), single),
            "sign one": (lambda: sign(one), pair),
            "bare one, two cores": (lambda: bare_in_two(one), pair),
            "verify one, two cores": (lambda: verify_model(one, trust=keys), pair),
        },
        rounds,
    )
    os.sched_setaffinity(0, cores)
    print(f"{megabytes:,} MiB as {SHARDS} shards and {SMALL} small files, and as one file; MiB/s")
    for name, seconds in times.items():
        print(f"  {name:24}{megabytes / seconds:8,.0f}")
    fast = max(hash_alone(cache.hasher) for _ in range(rounds))
    slow = max(hash_alone(hashlib.sha256) for _ in range(rounds))
    print(
        f"  two cores make bare SHA-256 {times['bare many'] / times['bare many, two cores']:.2f}x as fast here"
    )
    print(f"  re-verify with reading      {times['many, one core'] / times['again']:.2f}x as fast as SHA-256")
    return {
        "many files, one core: ours / bare": times["bare many"] / times["many, one core"],
        "one file, one core: ours / bare": times["bare one"] / times["one, one core"],
        "many files, two cores: ours / bare": times["bare many, two cores"] / times["many, two cores"],
        "one file by tree, two cores: ours / bare": times["bare one, two cores"]
        / times["verify one, two cores"],
        "verify / sign, time, many files": times["verify many"] / times["sign many"],
        "verify / sign, time, one file": times["verify one, two cores"] / times["sign one"],
        "keyed BLAKE3 / SHA-256, hash alone": fast / slow,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="garrison-bench-") as folder:
        ratios = measure(Path(folder), args.megabytes, args.rounds)
    missed = 0
    for name, ratio in ratios.items():
        sense, target = TARGETS[name]
        needs_two = "two cores" in name and len(os.sched_getaffinity(0)) < 2
        held = needs_two or (ratio >= target if sense == ">=" else ratio <= target)
        missed += not held
        print(f"  {name:42}{ratio:6.2f}x   target {sense} {target}{'' if held else '   MISSED'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
