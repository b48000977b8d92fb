"""The approved list with many versions: verify and parse it, decide on one, list them all; ratios in one run.

    python benchmarks/approved.py [--versions 10000]

Prints CPU time of reading and verifying the whole list against parsing the same bytes as JSON and verifying as
many signatures, and the time of one decision with 100 and with that many versions.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from garrison.core.digest import Ref
from garrison.core.errors import Refused
from garrison.trust.approved import ApprovedEntry
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import PublicKey, public_from_pem
from garrison.trust.tuf import entries, shape
from garrison.trust.tuf.build import ServerKeys, build, empty
from garrison.trust.tuf.check import ApprovedList, check
from garrison.trust.tuf.pins import Pins

NOW = datetime.now(UTC).replace(microsecond=0)
ROUNDS = 7
LOOKS = 2_000


def made(count: int, root: FileSigner, timestamp: FileSigner) -> dict[str, bytes]:
    """A list with so many versions of a tenth as many models, signed by two approvers."""
    statement = b"{}"
    taken = {}
    for number in range(count):
        ref = Ref(f"model-{number // 10}", number % 10 + 1)
        entry = ApprovedEntry(
            ref,
            f"sha256:{number:064x}",
            ref.version,
            ("dana", "erin"),
            "sha256:" + "cd" * 32,
            NOW,
            NOW + timedelta(days=30),
        )
        taken[shape.path_of("production", ref)] = (entry, statement)
    people = [FileSigner("approver.dana"), FileSigner("approver.erin")]
    known = empty(Pins(), ("production",), NOW)
    draft = entries.entering(known, "production", taken, 2, people)
    return dict(build(known, draft, ServerKeys(root, timestamp), NOW).files)


def best(work: Callable[[], object]) -> float:
    """The least CPU time of several rounds, in milliseconds."""
    times = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times) * 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--versions", type=int, default=10_000)
    count = parser.parse_args().versions
    root, timestamp = FileSigner("root"), FileSigner("timestamp")
    anchor = public_from_pem(root.public_pem(), "root")

    def verify(files: dict[str, bytes]) -> ApprovedList:
        def read(name: str, limit: int) -> bytes:
            if len(files[name]) > limit:
                raise Refused("TUF-LENGTH", name, fix="")
            return files[name]

        return check(read, [anchor], Pins())

    many, few = made(count, root, timestamp), made(100, root, timestamp)
    in_force = [data for name, data in many.items() if name != "1.root.json"]
    signatures = sum(len(json.loads(data)["signatures"]) for data in in_force)
    whole = best(lambda: verify(many))
    bare = best(lambda: _bare(in_force, anchor, root.sign(b"x"), signatures))
    print(
        f"verify and parse {count:,} approved versions ({sum(map(len, in_force)) / 1e6:.1f} MB): "
        f"{whole:.0f} ms CPU = {whole / bare:.1f} x parsing JSON and {signatures} signatures ({bare:.0f} ms)"
    )
    lists = (verify(many), verify(few))
    for name, use, parts in (
        ("decide on one", _decide, (LOOKS, LOOKS)),
        ("list all, each", _list, (count, 100)),
    ):
        slow, fast = (
            best(partial(use, known)) / part * 1000 for known, part in zip(lists, parts, strict=True)
        )
        print(f"{name}: {slow:.1f} us of {count:,}, {fast:.1f} us of 100 = {slow / fast:.2f} x")
    return 0


def _bare(files: list[bytes], key: PublicKey, signature: bytes, count: int) -> None:
    for data in files:
        json.loads(data)
    for _ in range(count):
        key.verify(b"x", signature)


def _decide(known: ApprovedList) -> None:
    for _ in range(LOOKS):
        assert entries.find(known, "production", Ref("model-7", 3)) is not None


def _list(known: ApprovedList) -> None:
    assert len(list(entries.listed(known))) >= 100


if __name__ == "__main__":
    raise SystemExit(main())
