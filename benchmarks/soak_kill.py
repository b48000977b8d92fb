"""kill -9 at seventy moments inside publish, import, approve, unapprove, rotate, revoke, resign and migrate.

Afterwards each version is whole or absent, every answer is kept, no object, tree or key is left over, and the
ledger verifies. What is checked is `check` in tests/flows/kills.py.

    python benchmarks/soak_kill.py [--instants 60] [--migrations 10] [--seed N]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the sweep is the one of the test suite

from tests.flows.kills import migrations, sweep
from tests.flows.server import Server

CONFIG = '{"model_type": "bert", "hidden_size": 384}'


def prepare(place: Path) -> tuple[Server, Path]:
    """A data directory with base@1 approved by dana, its server stopped, and a model to publish."""
    model = place / "k"
    model.mkdir()
    (model / "config.json").write_text(CONFIG)
    (model / "vocab.txt").write_text("\n".join(f"word{number}" for number in range(20_000)))
    server = Server(place / "data").start()
    try:
        server.ok("user", "add", "dana", "--role", "approver")
        server.publish(model, "base@1")
        server.ok("--as", "dana", "approve", "base@1")
    finally:
        server.stop()
    return server, model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--instants", type=int, default=60)
    parser.add_argument("--migrations", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    args = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="garrison-soak-") as folder:
        place = Path(folder)
        server, model = prepare(place)
        try:
            swept = sweep(server, model, args.instants, args.seed)
            migrated = migrations(place, args.migrations, args.seed)
        finally:
            server.kill()
    print(f"seed {args.seed}, {time.monotonic() - start:.0f} s")
    print(f"{args.instants + args.migrations} kills: {swept}, {migrated}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
