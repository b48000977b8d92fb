"""Verify before load: holding a model in sealed memory while it is hashed, against hashing it alone.

    python benchmarks/hold.py MODEL.gguf [ROUNDS]

Both in turn, round by round, warm. Prints the median ratio and the spread.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from garrison.runtime.held import Holding
from garrison.trust.tree import read_tree


def seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def main(model: Path, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        (directory / model.name).write_bytes(model.read_bytes())
        plain, held = [], []
        for _ in range(rounds):
            plain.append(seconds(lambda: read_tree(directory)))
            holding = Holding(1 << 40)
            held.append(seconds(lambda into=holding: read_tree(directory, sink=into.writer)))  # type: ignore[misc]  # bound
            holding.close()
    ratios = sorted(two / one for one, two in zip(plain, held, strict=True))
    print(f"hash alone         {1e3 * statistics.median(plain):8.1f} ms")
    print(f"hash and hold      {1e3 * statistics.median(held):8.1f} ms")
    print(f"ratio (median)     {statistics.median(ratios):8.2f}x   from {ratios[0]:.2f} to {ratios[-1]:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 15)
