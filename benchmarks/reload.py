"""Reload: how late the loop of a worker is while snapshots with other patterns and policies are taken, and without.

    python benchmarks/reload.py [SECONDS]

Four phases in turn, each with a ticker of a millisecond on the loop: quiet, another policy four times a second,
patterns that are compiled anew, quiet again. Prints p99 and worst lateness of each and the ratio to the quiet ones.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop

from garrison.core.digest import canonical_json
from garrison.core.event import format_time
from garrison.gateway.detection import Detection
from garrison.gateway.snapshot import PAYLOAD_TYPE, SnapshotFile
from garrison.trust import dsse
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import PublicKey
from garrison.trust.policy import base_cedar, base_schema

TICK = 0.001
EVERY = 0.25  # seconds between two snapshots


class Bench:
    """One snapshot file, who signs it and who serves by it."""

    def __init__(self, room: Path) -> None:
        self.signer = FileSigner("snapshot")
        self.path, self.version, self.taken = room / "snapshot.json", 0, 0
        self.detection = Detection(room / "patterns")
        pinned = PublicKey(self.signer.key_id, "snapshot", self.signer.public_pem())
        self.publish()
        self.snapshots = SnapshotFile(
            self.path,
            pinned,
            audience="garrison",
            issuer="garrison",
            background=ThreadPoolExecutor(1),
            prepare=lambda snapshot: self.detection.renew(snapshot.detect),
        )
        self.snapshots.refresh()

    def publish(self, cedar: str = "", patterns: tuple[dict[str, Any], ...] = ()) -> None:
        self.version += 1
        now = datetime.now(UTC)
        body = {
            "version": self.version,
            "issued": format_time(now),
            "expires": format_time(now + timedelta(hours=1)),
            "policy_version": "bench",
            "policy": {"cedar": base_cedar() + cedar, "schema": base_schema()},
            "token_keys": [],
            "revoked": {"tokens": [], "subjects": []},
            "routes": [],
            "limits": {"requests_per_minute": 1, "tokens_per_minute": 1, "concurrency": 1},
            "max_token_lifetime": 900,
            "detect": {"patterns": list(patterns)},
        }
        draft = self.path.with_suffix(".new")
        draft.write_bytes(canonical_json(dsse.sign(canonical_json(body), PAYLOAD_TYPE, self.signer)))
        draft.replace(self.path)

    async def lateness(self, seconds: float, kind: str) -> list[float]:
        """Of each tick; snapshots are signed in another thread, as another process does it."""
        late, due = [], time.perf_counter()
        ends, number = due + seconds, 0
        while (now := time.perf_counter()) < ends:
            if kind != "quiet" and now >= due:
                number, due = number + 1, now + EVERY
                cedar = "\n" * number if kind == "policy" else ""
                pattern = {"name": "a", "regex": f"CODE{self.version}-[0-9]{{4}}", "effect": "block"}
                await asyncio.to_thread(self.publish, cedar, (pattern,) if kind == "patterns" else ())
            before = time.perf_counter()
            fresh = self.snapshots.refresh()
            if fresh is not None:
                self.detection.renew(fresh.detect)
                self.taken += 1
            await asyncio.sleep(TICK)
            late.append(time.perf_counter() - before - TICK)
        return late


async def run(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(Path(place))
        quiet: list[float] = []
        for kind in ("quiet", "policy", "patterns", "quiet"):
            bench.taken = 0
            late = sorted(await bench.lateness(seconds, kind))
            p99 = statistics.quantiles(late, n=100)[-1]
            told = f"p99 {1e3 * p99:7.2f} ms   worst {1e3 * late[-1]:7.2f} ms   {bench.taken:3d} taken"
            if kind == "quiet":
                quiet.append(p99)
            print(f"{kind:10s} {told}   ratio {p99 / quiet[0]:6.2f}x")


if __name__ == "__main__":
    uvloop.run(run(float(sys.argv[1]) if len(sys.argv) > 1 else 4.0))
