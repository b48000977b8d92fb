"""Ten thousand loads beside a process that keeps changing the files: the loaded digest is the signed one, always.

python benchmarks/soak_race.py [--tries 10000] [--seed N]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the race is the one of the test suite

from tests.flows.races import race


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tries", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    args = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="garrison-soak-") as folder:
        outcomes = race(Path(folder), args.tries, args.seed)
    told = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common())
    print(f"{args.tries:,} tries with seed {args.seed} in {time.monotonic() - start:.0f} s: {told}")
    print("never a wrong byte")
    return 0 if outcomes["loaded"] and outcomes.total() == args.tries else 1


if __name__ == "__main__":
    sys.exit(main())
