"""How long a ruling of admission takes: the rules alone, with the registry, and recorded in the ledger.

An API server gives up after five seconds; a ruling is to take a hundredth of that.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.app.household import opened
from tests.runtime.cluster import HOME, known, pod, review

from garrison.runtime.kube.admission import judge
from garrison.runtime.kube.review import parse

ROUNDS = 60
TARGET_MS = 50.0


def milliseconds(once: Callable[[], object]) -> float:
    took = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        once()
        took.append((time.perf_counter() - started) * 1000)
    return statistics.median(took)


def main() -> int:
    asked = review(pod())
    alone = milliseconds(lambda: judge(parse(asked), known()))
    with tempfile.TemporaryDirectory() as place:
        model = Path(place) / "model"
        model.mkdir()
        (model / "config.json").write_text('{"hidden_size": 8}')
        with opened(Path(place) / "data") as home:
            home.ask("user.add", name="dana", roles=["approver"])
            digest = home.publish(model, "fraud@3")["digest"]
            home.ask("model.approve", "dana", ref="fraud@3")
            here = pod()
            here["metadata"]["annotations"]["garrison.dev/digest"] = digest
            here["metadata"]["namespace"] = HOME
            dry = milliseconds(lambda: home.ask("admission.review", review=review(here, dryRun=True)))
            recorded = milliseconds(lambda: home.ask("admission.review", review=review(here)))
    print(f"the rules alone            {alone:8.2f} ms")
    print(f"with the registry, dry run {dry:8.2f} ms")
    print(f"recorded                   {recorded:8.2f} ms   (target <= {TARGET_MS:g})")
    return 0 if recorded <= TARGET_MS else 1


if __name__ == "__main__":
    sys.exit(main())
