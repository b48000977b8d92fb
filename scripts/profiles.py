"""Which system calls the servers make: their own tests run under strace, and `confine/observed.py` is written again.

`python scripts/profiles.py [--check]` as root, with strace. A server counts from the moment at which its filter is on.
What a call is refused is seen as well, so a profile that is too narrow shows here; `--check` writes nothing and exits 1
when a server made a harmless call that its profile lacks. Calls that are refused to every server are left out.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from garrison.confine.allowed import X86_64
from garrison.confine.profiles import SERVERS

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "src" / "garrison" / "confine" / "observed.py"
TESTS = (
    "tests/runtime/test_serving.py",
    "tests/runtime/test_inference.py",
    "tests/runtime/test_supervisor.py",
)
TESTS_OF_CLASSIFIER = ("tests/detect/test_tier2.py",)
SECONDS = 1800
_LINE = re.compile(r"^(\d+) +(\w+)\(")
_CHILD = re.compile(
    r"^(\d+) .*\b(?:clone3?|fork|vfork)(?:\(| resumed>).* = (\d+)(?: /\* (\d+) in strace.s PID NS \*/)?$"
)
_ENDED = re.compile(r"^(\d+) \+\+\+ ")
_PROGRAM = re.compile(r'openat\(AT_FDCWD, "[^"]*/runtime/servers/(\w+)\.py"')


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as work:
        trace = Path(work, "trace")
        done = subprocess.run(
            ["strace", "-f", "-qq", "--decode-pids=pidns", "-o", str(trace), sys.executable, "-m", "pytest", "-q",
             "-n", "0", *TESTS, *TESTS_OF_CLASSIFIER, "-k", "not gvisor"],
            cwd=ROOT,
            timeout=SECONDS,
            check=False,
        )  # fmt: skip
        if done.returncode != 0:
            print("the servers' tests do not pass, so what they call is not known", file=sys.stderr)
            return 1
        with trace.open(errors="replace") as lines:
            seen = calls_of(lines)
    if "--check" in arguments:
        lacking = {
            name: sorted(calls - (SERVERS[f"{name}.py"].calls or frozenset())) for name, calls in seen.items()
        }
        for name, calls in lacking.items():
            print(f"{name}: {', '.join(calls) or 'nothing lacks'}")
        return 1 if any(lacking.values()) else 0
    TARGET.write_text(text(seen), "utf-8")
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(TARGET)], check=True, timeout=60)
    return 0


def calls_of(lines: Iterable[str]) -> dict[str, set[str]]:
    """Harmless calls by server: of a process from its filter on, with all threads, named by the program it opens."""
    leader: dict[str, str] = {}
    made: dict[str, set[str]] = defaultdict(set)
    program: dict[str, str] = {}
    is_filtered: set[str] = set()
    is_ours: set[str] = set()
    for line in lines:
        if child := _CHILD.match(line):
            leader[child[3] or child[2]] = leader.get(child[1], child[1])
        found = _LINE.match(line)
        if found is None:
            if ended := _ENDED.match(line):
                leader.pop(ended[1], None)  # the number may be another thread's soon
            continue
        process, name = leader.get(found[1], found[1]), found[2]
        if name in ("execve", "seccomp"):
            if name == "execve":  # another program; a child that was a copy is on its own now
                leader.pop(found[1], None)
                made.pop(found[1], None)
                program.pop(found[1], None)
                is_filtered.discard(found[1])
                is_ours.discard(found[1])
            elif "SECCOMP_SET_MODE_FILTER" in line and process in is_ours:
                is_filtered.add(process)
            continue
        if process not in is_filtered:
            if name in ("open", "openat") and '/confine.py"' in line:
                is_ours.add(process)
            continue
        if (
            (opened := _PROGRAM.search(line))
            and process not in program
            and opened[1] not in ("web", "tensors")
        ):
            program[process] = opened[1]
        made[process].add(name)
    result: dict[str, set[str]] = defaultdict(set)
    for process, name in program.items():
        result[name] |= made[process] & X86_64.keys()
    return dict(result)


def text(seen: dict[str, set[str]]) -> str:
    rows = "".join(f"    {name!r}: {tuple(sorted(calls))!r},\n" for name, calls in sorted(seen.items()))
    before = TARGET.read_text("utf-8").partition("OBSERVED:")[0]
    return f"{before}OBSERVED: Mapping[str, tuple[str, ...]] = {{\n{rows}}}\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
