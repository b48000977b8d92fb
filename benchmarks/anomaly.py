"""The detectors of unusual use: requests a second against parsing them, memory of 100,000 identities, a sketch's cost.

Parsing is `json.loads` of the same events, alternating in one process; the best of each counts, so that a busy
machine disturbs both alike. Memory is that of a process of its own, which fills every identity with a working day.

    python benchmarks/anomaly.py [--rounds 3] [--identities 100000]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace

from garrison.detect.anomaly.limits import Limits
from garrison.detect.anomaly.seen import Seen, read
from garrison.detect.anomaly.sketch import Sketcher
from garrison.detect.anomaly.watch import Watch
from garrison.detect.simulation.organisation import SHAPES
from garrison.detect.simulation.week import simulate

RATE_TARGET = 10_000  # requests a second and core: a gateway worker passes fewer
MEMORY_TARGET_MIB = 400.0
SKETCH_TARGET_US = 40.0
A_DAY = 86_400.0


def fill(identities: int) -> None:
    """Eight days of every identity, then print the peak of memory above an empty detector, in MiB."""
    watch = Watch(Limits(), most=identities)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for day in range(8):
        for number in range(identities):
            watch.feed(_request(number, day))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print((peak - base) / 1024, len(watch.profiles))


def _request(number: int, day: int) -> Seen:
    sketch = (number * 2_654_435_761 % (1 << 80)).to_bytes(10, "big")
    network = f"net-{number % 5_000}"
    time_of = 1.7e9 + day * A_DAY + number * 0.5
    return Seen(
        time_of,
        f"user:person-{number:06}",
        f"tenant-{number % 50}",
        f"model-{number % 7}@1",
        "chat",
        400,
        100,
        1,
        False,
        False,
        False,
        True,
        sketch,
        network,
        "OpenAI",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--identities", type=int, default=100_000)
    parser.add_argument("--fill", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fill:
        fill(args.identities)
        return 0
    shape = replace(SHAPES["first"], tenants=("one", "two"), people=20)
    lines = [json.dumps(event) for event in simulate(shape, 1).events()]
    events = [seen for line in lines if (seen := read(json.loads(line)))]
    detecting, parsing = [], []
    for _ in range(args.rounds):
        began = time.process_time()
        for line in lines:
            json.loads(line)
        parsing.append(time.process_time() - began)
        watch = Watch(Limits())
        began = time.process_time()
        watch.feed_all(events)
        detecting.append(time.process_time() - began)
    rate, ratio = len(events) / min(detecting), min(detecting) / min(parsing)
    sketcher, text = Sketcher(b"k" * 16), "what is asked here is as long as most of what people ask " * 8
    began = time.process_time()
    for _ in range(20_000):
        sketcher.sketch(text)
    sketch = (time.process_time() - began) / 20_000 * 1e6
    words = [sys.executable, __file__, "--fill", "--identities", str(args.identities)]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    memory = float(told[0])
    print(
        f"detecting   {rate:,.0f} requests a second and core, {ratio:.1f} times as long as json.loads of them"
    )
    print(
        f"memory      {memory:.0f} MiB for {int(told[1]):,} identities, {memory * 1024 / int(told[1]):.2f} kB each"
    )
    print(f"sketch      {sketch:.1f} us for a prompt of {len(text)} characters, in the gateway")
    good = rate >= RATE_TARGET and memory <= MEMORY_TARGET_MIB and sketch <= SKETCH_TARGET_US
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
