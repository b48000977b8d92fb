"""The scanner's cost, as ratios in one run: against bare SHA-256, against the size, against its targets.

Every measurement is a process of its own, and processor seconds are those of the process and of its
workers together. What is compared is measured in turns, and the medians count, so that a busy machine
disturbs all alike. benchmarks/scanners/compare.py measures what other scanners find.

    python benchmarks/scanners.py [--megabytes 503] [--rounds 3] [--peers DIR] [--corpus DIR]

`--peers` is the cache in which compare.py has installed the peers; then the scan without hashes is compared
with picklescan, and the whole scan with modelaudit. `--corpus` is a folder of which each file is scanned alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from garrison.artifacts.scan import RULESET, Options, scan_path
from garrison.artifacts.scan_features import FeatureIndex
from garrison.core.finding import Verdict

TENSORS = 60
SMALL_FILES = 2_000
QUIET = {"NO_ANALYTICS": "1", "PROMPTFOO_DISABLE_TELEMETRY": "1"}
FEW = 4_000  # members, opcodes or tensors; ten times as many take long enough to be told from noise
ENTRIES = 10_000
COMMAND = (sys.executable, "-I", "-m", "garrison.app.cli.main", "scan")


@dataclass(frozen=True, slots=True)
class Used:
    """Processor and wall seconds, and the peak of memory in MiB of the process and of its largest child."""

    cpu: float
    wall: float
    memory: float


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    value: float
    unit: str
    target: float
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        return self.value >= self.target if self.at_least else self.value <= self.target


def main() -> int:
    parser = argparse.ArgumentParser(description="what scanning costs")
    parser.add_argument("--megabytes", type=int, default=503)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--measure", nargs="+", metavar="KIND", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(*args.measure)
        return 0
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="garrison-bench-") as folder:
        place = Path(folder)
        figures += large_files(place, args.megabytes, args.rounds, args.peers)
        figures += small_files(place, args.rounds)
        figures += growth(place, args.rounds)
        if args.corpus is not None:
            figures += each_file(args.corpus)
        figures.append(judging_again(place))
    for figure in figures:
        sign = ">=" if figure.at_least else "<="
        missed = "" if figure.is_met else "   MISSED"
        print(f"{figure.name:58}{figure.value:10.2f} {figure.unit:8} target {sign} {figure.target:g}{missed}")
    return 0 if all(figure.is_met for figure in figures) else 1


def large_files(place: Path, megabytes: int, rounds: int, peers: Path | None) -> list[Figure]:
    tiny = place / "tiny.safetensors"
    write_safetensors(tiny, 1, 64)
    figures = []
    for name, write in (("torch zip", write_torch_zip), ("safetensors", write_safetensors)):
        path = place / f"large.{'pt' if name == 'torch zip' else 'safetensors'}"
        write(path, TENSORS, megabytes * 1_000_000 // TENSORS)
        best = alternate(
            rounds,
            start=("scan", str(tiny)),
            scan=("scan", str(tiny), str(path)),
            nothing=("bare", str(tiny)),
            bare=("bare", str(path)),
        )
        ratio = (best["scan"].cpu - best["start"].cpu) / (best["bare"].cpu - best["nothing"].cpu)
        figures.append(Figure(f"{name}, {megabytes} MB: hash + scan against SHA-256", ratio, "x", 1.25))
        memory = best["scan"].memory - 2 * best["nothing"].memory
        figures.append(Figure(f"{name}: memory of both processes above two bare ones", memory, "MiB", 96))
        if peers is not None:
            picklescan = str(next(peers.glob("picklescan-*")) / "bin" / "picklescan")
            quick, theirs = in_turns(
                rounds * 5, [*COMMAND, "--no-hash", str(path)], [picklescan, "-p", str(path)]
            )
            figures.append(
                Figure(f"{name}: command without hashes against picklescan", quick / theirs, "x", 2)
            )
        if peers is not None and name == "torch zip":
            modelaudit = str(next(peers.glob("modelaudit-*")) / "bin" / "modelaudit")
            whole, theirs = in_turns(rounds, [*COMMAND, str(path)], [modelaudit, "scan", str(path)])
            figures.append(Figure(f"{name}: modelaudit against ours", theirs / whole, "x", 8, at_least=True))
        path.unlink()
    return figures


def small_files(place: Path, rounds: int) -> list[Figure]:
    folder = place / "small"
    folder.mkdir()
    for number in range(SMALL_FILES):
        value = {"name": f"model {number}", "weights": [number * 0.5, 2.5] * 10, "layers": {"a": [1, 2, 3]}}
        (folder / f"{number:05}.pkl").write_bytes(pickle.dumps(value, protocol=number % 6))
    one = folder / "00000.pkl"
    text = place / "config.json"
    text.write_text(json.dumps({"model_type": "llama", "chat_template": TEMPLATE}))
    pickled, configured = in_turns(rounds * 3, [*COMMAND, str(one)], [*COMMAND, str(text)])
    best = alternate(rounds, start=("scan", str(one)), scan=("scan", str(folder)))
    rate = (SMALL_FILES - 1) / (best["scan"].cpu - best["start"].cpu)
    return [
        Figure("garrison scan of one small pickle, start to end", pickled, "CPU s", 0.25),
        Figure("garrison scan of one configuration with a template", configured, "CPU s", 0.25),
        Figure(f"{SMALL_FILES} small pickles in a batch, per core", rate, "/CPU s", 500, at_least=True),
    ]


def each_file(corpus: Path) -> list[Figure]:
    """The dearest file of a folder, each scanned by a process of its own."""
    files = sorted(path for path in corpus.rglob("*") if path.is_file() and not path.is_symlink())
    used = [run("look", str(path)) for path in files]
    return [
        Figure(f"the dearest of {len(files)} files, start to end", max(u.cpu for u in used), "CPU s", 1),
        Figure(f"the largest of {len(files)}, both processes", max(u.memory for u in used), "MiB", 256),
    ]


def growth(place: Path, rounds: int) -> list[Figure]:
    """Ten times the work costs about ten times the time; with the square of it, it would be a hundred."""
    figures = []
    shapes: dict[str, Callable[[Path, int], None]] = {
        "members of a zip": lambda path, count: write_torch_zip(path, count, 64),
        "opcodes of a pickle": _long_pickle,
        "tensors of a safetensors": lambda path, count: write_safetensors(path, count, 64),
    }
    for name, write in shapes.items():
        paths = {}
        for count in (1, FEW, 10 * FEW):
            paths[count] = place / f"{name.replace(' ', '-')}-{count}.bin"
            write(paths[count], count)
        best = alternate(
            rounds,
            none=("quick", str(paths[1])),
            some=("quick", str(paths[FEW])),
            many=("quick", str(paths[10 * FEW])),
        )
        some, many = (max(best[key].cpu - best["none"].cpu, 1e-3) for key in ("some", "many"))
        figures.append(Figure(f"{name}: {10 * FEW:,} against {FEW:,}", many / some, "x", 15))
    return figures


def judging_again(place: Path) -> Figure:
    """Entries of distinct files: adapters' torch zips, safetensors headers and configurations, in thirds."""
    folder, index_path = place / "entries", place / "index.db"
    folder.mkdir()
    for number in range(ENTRIES):
        path = folder / f"{number:05}"
        if number % 3 == 0:
            write_torch_zip(path, 24, 32, note=str(number))
        elif number % 3 == 1:
            write_safetensors(path, 200, 32, note=str(number))
        else:
            path.write_text(json.dumps({"id": number, "model_type": "llama", "chat_template": TEMPLATE}))
    jobs = len(os.sched_getaffinity(0))
    with FeatureIndex(index_path) as index:
        index.store(scan_path([folder], options=Options(jobs=jobs, keep=True)))
        begun = time.perf_counter()
        report = index.judge_again(RULESET, jobs=jobs)
        passed = time.perf_counter() - begun
    assert len(report.files) == ENTRIES
    wrong = [file for file in report.files if file.verdict is not Verdict.CLEAN]
    assert not wrong, wrong[0]
    return Figure(f"{ENTRIES} stored entries judged again, {jobs} cores", passed, "s", 60)


TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)


def write_safetensors(path: Path, tensors: int, size: int, note: str = "") -> None:
    size -= size % 4
    entries: dict[str, object] = {"__metadata__": {"note": note}}
    for number in range(tensors):
        span = [number * size, (number + 1) * size]
        entries[f"layer.{number}.weight"] = {"dtype": "F32", "shape": [size // 4], "data_offsets": span}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        _fill(stream.write, tensors * size)


def write_torch_zip(path: Path, tensors: int, size: int, note: str = "") -> None:
    """The archive that `torch.save` writes for a dictionary of float tensors, made by hand."""
    size -= size % 4
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("model/data.pkl", _state_dict(tensors, size // 4, note))
        archive.writestr("model/byteorder", b"little")
        for number in range(tensors):
            with archive.open(f"model/data/{number}", "w") as member:
                _fill(member.write, size)
        archive.writestr("model/version", b"3\n")


def _state_dict(tensors: int, count: int, note: str) -> bytes:
    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    empty = b"ccollections\nOrderedDict\n)R"
    parts = [b"\x80\x02", empty, b"(", text("note" + note), number(1)]
    for index in range(tensors):
        storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(str(index)) + text("cpu")
        parts.append(text(f"layer.{index}.weight") + b"ctorch._utils\n_rebuild_tensor_v2\n((")
        parts.append(storage[1:] + number(count) + b"tQ" + number(0) + number(count) + b"\x85")
        parts.append(number(1) + b"\x85\x89" + empty + b"tR")
    return b"".join([*parts, b"u."])


def _long_pickle(path: Path, count: int) -> None:
    rows = [{"index": number, "value": number / 3, "name": f"n{number}"} for number in range(count)]
    path.write_bytes(pickle.dumps(rows, protocol=4))


def _fill(write: Callable[[bytes], object], size: int) -> None:
    block = os.urandom(max(1, min(size, 1 << 20)))
    for start in range(0, size, len(block)):
        write(block[: min(len(block), size - start)])


def alternate(rounds: int, **kinds: tuple[str, ...]) -> dict[str, Used]:
    runs: dict[str, list[Used]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, arguments in kinds.items():
            runs[name].append(run(*arguments))
    return {
        name: Used(median(r.cpu for r in rows), median(r.wall for r in rows), max(r.memory for r in rows))
        for name, rows in runs.items()
    }


def run(*arguments: str) -> Used:
    done = subprocess.run(
        [sys.executable, __file__, "--measure", *arguments], check=True, capture_output=True, text=True
    )
    return Used(*map(float, done.stdout.split()))


def measure(kind: str, *paths: str) -> None:
    """In a process of its own: do it once, print processor and wall seconds and MiB."""
    begun = time.perf_counter()
    if kind == "bare":
        for path in paths:
            with open(path, "rb") as stream:
                hashlib.file_digest(stream, "sha256")
    else:
        report = scan_path(paths, options=Options(hash_files=kind != "quick", fork=True))
        assert report.verdict is Verdict.CLEAN or kind == "look", report.as_json()
    wall = time.perf_counter() - begun
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    # Not ru_maxrss for this process: that one carries over the peak of the process that started it.
    status = Path("/proc/self/status").read_text()
    peak = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))
    print(cpu, wall, (peak + children.ru_maxrss) / 1024)


def in_turns(rounds: int, ours: list[str], theirs: list[str]) -> tuple[float, float]:
    """Medians of the processor seconds of two commands."""
    pairs = [(_cpu_of(ours), _cpu_of(theirs)) for _ in range(rounds)]
    return median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)


def _cpu_of(command: list[str]) -> float:
    """Processor seconds of a command, which may find something."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=False, capture_output=True, env=os.environ | QUIET)
    assert done.returncode in (0, 1), done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())
