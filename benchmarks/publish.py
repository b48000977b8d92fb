"""Publishing one gigabyte against hashing and copying the same files; plain and sealed.

The bare side reads every file once, hashes it with SHA-256 and writes a synced copy, on as many threads as
publishing may use. Publishing does that, lays the files out, scans them, signs twice, writes provenance and
bill of materials, and records every step. `sealed` encrypts each object with AES-256-GCM as well. All run in
turn in one run on the same disk, and the best of each counts. Sealing alone is compared with the cipher.

    python benchmarks/publish.py [--megabytes 1000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from garrison.app import wiring
from garrison.app.settings import Settings
from garrison.app.verbs import VERBS
from garrison.app.verbs.base import Call, perform
from garrison.core.decision import Subject
from garrison.storage.sealing import SEGMENT_BITS, Sealer, new_header

TARGET = 1.5  # of hashing and copying
SEAL_TARGET = 0.7  # of the cipher's own rate
SHARDS = 4
BLOCK = 1 << 20
MAX_THREADS = 4


def make_model(root: Path, megabytes: int) -> Path:
    model = root / "model"
    model.mkdir()
    size = megabytes * 1_000_000 // SHARDS
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    for number in range(SHARDS):
        with (model / f"model-{number + 1:05}-of-{SHARDS:05}.safetensors").open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for start in range(0, size, 1 << 24):
                file.write(os.urandom(min(1 << 24, size - start)))
    return model


def bare(model: Path, target: Path) -> None:
    target.mkdir()

    def copy(path: Path) -> str:
        hasher, buffer = hashlib.sha256(), memoryview(bytearray(BLOCK))
        with path.open("rb", buffering=0) as source, (target / path.name).open("xb", buffering=0) as sink:
            while count := source.readinto(buffer):
                hasher.update(buffer[:count])
                sink.write(buffer[:count])
            os.fsync(sink.fileno())
        return hasher.hexdigest()

    with ThreadPoolExecutor(min(MAX_THREADS, len(os.sched_getaffinity(0)))) as pool:
        list(pool.map(copy, model.iterdir()))


def publish(model: Path, data: Path, encryption: str) -> float:
    """Seconds of one publication in a data directory of its own, made before the clock starts."""
    wiring.make_data_directory(data)
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    house = wiring.build(Settings(data=data, store_encryption=encryption), loop)
    subject = Subject("user", "bench", frozenset({"admin"}), via="benchmark")

    def ask(verb: str, **body: object) -> None:
        answer = perform(house, VERBS[verb], Call(subject, body))
        if "error" in answer:
            sys.exit(str(answer["error"]))

    ask("user.add", name="owner", roles=["publisher"])
    return timed(
        lambda: ask("model.publish", source=str(model), ref="bench@1", owner="owner", tier="internal")
    )


def published(model: Path, data: Path, encryption: str) -> float:
    """The same in a process of its own: a token belongs to one process."""
    words = [sys.executable, __file__, "--measure", encryption, str(model), str(data)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    shutil.rmtree(data)
    return float(done.stdout)


def timed(work: Callable[[], None]) -> float:
    os.sync()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def sealing_ratio() -> float:
    """Sealing a stream into memory against the cipher alone on the same segments; bytes a second."""
    data, count = os.urandom(1 << SEGMENT_BITS), 400
    cipher = AESGCM(os.urandom(32))

    class Nowhere:
        def write(self, chunk: bytes) -> None: ...

    def alone() -> None:
        for _ in range(count):
            cipher.encrypt(bytes(12), data, None)

    def sealed() -> None:
        sealer = Sealer(Nowhere(), os.urandom(32), new_header())
        for _ in range(count):
            sealer.write(data)
        sealer.finish()

    return min(timed(alone) for _ in range(5)) / min(timed(sealed) for _ in range(5))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=3, metavar=("ENCRYPTION", "MODEL", "DATA"), help="internal")
    args = parser.parse_args()
    if args.measure:
        encryption, model, data = args.measure
        print(publish(Path(model), Path(data), encryption))
        return 0
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="garrison-bench-") as temporary:
        root = Path(temporary)
        model = make_model(root, args.megabytes)
        kinds = {"plain": "none", "sealed": "aes-256-gcm"}
        for _ in range(args.rounds):
            took = timed(lambda: bare(model, root / "copy"))
            best["bare"] = min(took, best.get("bare", took))
            shutil.rmtree(root / "copy")
            for kind, encryption in kinds.items():
                took = published(model, root / kind, encryption)
                best[kind] = min(took, best.get(kind, took))
    seal = sealing_ratio()
    print(f"hash and copy   {args.megabytes / best['bare']:8.0f} MB/s")
    for kind in kinds:
        print(
            f"publish {kind:<7} {args.megabytes / best[kind]:8.0f} MB/s   {best[kind] / best['bare']:.2f}x of it"
        )
    print(f"sealing         {seal:.2f} of AES-256-GCM alone (target {SEAL_TARGET})")
    worst = max(best[kind] / best["bare"] for kind in kinds)
    print(f"worst ratio     {worst:.2f} (target {TARGET})")
    return 0 if worst <= TARGET and seal >= SEAL_TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
