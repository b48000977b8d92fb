"""Runs the tests that failed last time once more, alone, when they are few: `make test-again`.

A test that fails only beside others is unsteady, and its name is printed so that somebody mends it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CACHE = Path(".pytest_cache/v/cache/lastfailed")
MOST = 5


def main() -> int:
    failed = sorted(json.loads(CACHE.read_text())) if CACHE.exists() else []
    if not 0 < len(failed) <= MOST:
        print(f"{len(failed)} tests failed last time; 1 to {MOST} would be run again")
        return 1
    print("Unsteady, if they pass now:", *failed, sep="\n  ", flush=True)
    return subprocess.call([sys.executable, "-m", "pytest", "-n", "0", *failed])


if __name__ == "__main__":
    sys.exit(main())
