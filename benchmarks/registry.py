"""Listing and deciding on 10,000 versions against 100 of them, per version: the ratio has to stay below 2.

python benchmarks/registry.py [VERSIONS]

Rows are made by copying one published version under new names, signed anew, so that every row is genuine.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.app.household import Household, opened

from garrison.artifacts import store
from garrison.artifacts.registry import get
from garrison.core.digest import Ref
from garrison.trust import statement as statements

LIMIT = 2.0
SMALL = 100


def fill(home: Household, start: int, end: int) -> None:
    registry = home.house.registry
    release = get(registry, Ref("m0", 1))
    signed, _ = statements.open_statement(release.statement, registry.keys)
    with registry.database.write() as connection:
        for number in range(start, end):
            ref = Ref(f"m{number // 10}", number % 10 + 2)
            envelope = statements.sign(replace(signed, ref=ref), registry.signer)
            store.insert(connection, replace(release, ref=ref, statement=envelope))


def measure(home: Household, **question: str) -> float:
    """Seconds of processor time a version of one listing, best of three."""
    count = len(home.ask("model.list")["models"])
    best = float("inf")
    for _ in range(3):
        begun = time.process_time()
        home.ask("model.list", **question)
        best = min(best, time.process_time() - begun)
    return best / count


def main() -> int:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    questions = {"listed and decided": {}, "searched": {"search": "json hidden m0@1"}}
    with tempfile.TemporaryDirectory() as directory, opened(Path(directory) / "data") as home:
        source = Path(directory) / "plain"
        source.mkdir()
        (source / "config.json").write_text('{"hidden_size": 8}')
        home.publish(source, "m0@1")
        fill(home, 0, SMALL - 1)
        few = {name: measure(home, **question) for name, question in questions.items()}
        fill(home, SMALL - 1, wanted - 1)
        many = {name: measure(home, **question) for name, question in questions.items()}
    worst = 0.0
    for name in questions:
        ratio = many[name] / few[name]
        worst = max(worst, ratio)
        print(
            f"{name}: {few[name] * 1e6:,.0f} us CPU a version among {SMALL}, "
            f"{many[name] * 1e6:,.0f} us among {wanted:,}; ratio {ratio:.2f} (limit {LIMIT})"
        )
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
