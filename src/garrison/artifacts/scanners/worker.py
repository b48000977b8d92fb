"""The process that reads untrusted files: resource-limited, without environment, one file at a time.

Once its scanners are imported it gives up every file but those handed to it, the network, other processes and
most system calls, as far as the kernel can take them away (`garrison.confine`); the limits hold everywhere.
The parent passes an open descriptor and a name over a Unix socket; the answer is one JSON line. A file
that makes this process hang, grow or crash costs one `incomplete` and a new process, nothing more.
"""

from __future__ import annotations

import codecs
import json
import os
import resource
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from garrison.artifacts.scanners import all_scanners
from garrison.artifacts.scanners.base import Later, Scanner, Source
from garrison.artifacts.scanners.judge import Judgement, judge
from garrison.artifacts.scanners.kept import MAX_PACKED, Kept, Recorder
from garrison.artifacts.scanners.rare import RARE
from garrison.artifacts.scanners.sources import FileSource
from garrison.confine.process import confine

MEMORY = 1 << 30  # address space: 35 MB of tokenizer JSON takes 400 MB as Python values
SPOOL = 4 << 30  # bytes in unnamed temporary files: what compressed members unpack to
CPU_SECONDS = 60  # for one file; the parent's clock usually ends it earlier
MESSAGE = 65_536
TEMPLATES, PLAIN = "templates", "plain"  # whether this process reads templates; without it, it starts faster
# Python loads these when they are first used, which is too late for a process that opens no files.
CODECS = (
    *("ascii", "base64", "cp437", "cp1252", "latin-1", "iso8859-15", "raw-unicode-escape", "unicode-escape"),
    *("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"),
)


def main() -> None:
    """As a program of its own: the arguments are those of `serve`."""
    serve(int(sys.argv[1]), sys.argv[2], sys.argv[3])


def opened(request: Mapping[str, str], descriptor: int) -> Source:
    return FileSource(request["name"], os.fstat(descriptor).st_size, descriptor)


def serve(
    descriptor: int,
    scratch: str,
    mode: str,
    source: Callable[[Mapping[str, str], int], Source] = opened,
) -> None:
    """Serve until the parent closes the socket behind `descriptor`. What is unpacked goes to `scratch`; `mode` says
    whether templates can be read (`TEMPLATES` or `PLAIN`). One that cannot and should answers `later`.
    `source` makes of a request and its first descriptor what the scanners read.

    The first line out is a JSON list of what could not be taken away.
    A request is one JSON object with `name` and `task`, and one or two descriptors: `judge` a file;
    `keep`: judge it and write what its scanners read into the second descriptor; `again`: judge what was
    kept, with the rules of now.
    """
    channel = socket.socket(fileno=descriptor)
    scanners = all_scanners()
    if mode == TEMPLATES:
        import zstandard  # noqa: F401 - 0.01 s, where a stream of its may come

        from garrison.artifacts.scanners import jinja_tree  # noqa: F401 - 0.06 s, where a template may come

        for scanner in RARE:
            scanner.load()
    missing = confined(scratch)
    channel.sendall(json.dumps(missing).encode() + b"\n")
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, MESSAGE, 2)
        if not message or not descriptors:
            return
        request = json.loads(message)
        used = resource.getrusage(resource.RUSAGE_SELF)
        budget = int(used.ru_utime + used.ru_stime) + CPU_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (budget, resource.RLIM_INFINITY))
        try:
            answer = _answer(request, source(request, descriptors[0]), descriptors, scanners)
        except Later:
            answer = {"later": True}
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        channel.sendall(json.dumps(answer).encode() + b"\n")


def _answer(
    request: Mapping[str, str], source: Source, descriptors: Sequence[int], scanners: Sequence[Scanner]
) -> dict[str, Any]:
    if request["task"] == "again":
        return _again(source.read_at(0, min(source.size, MAX_PACKED)), scanners)
    if request["task"] == "keep":
        recorder = Recorder(source)
        judged = judge(recorder, scanners, recorder.recognition)
        failed = any(finding.rule_id == "artifact.scanner.failed" for finding in judged.findings)
        _write(descriptors[1], b"" if failed else recorder.packed())
        return _as_json(judged)
    return _as_json(judge(source, scanners))


def _again(packed: bytes, scanners: Sequence[Scanner]) -> dict[str, Any]:
    """`stale` when the rules of now want to see bytes that were not kept."""
    try:
        kept = Kept(packed)
    except ValueError:
        return {"stale": True}
    judged = judge(kept, scanners, kept.recognition)
    return {"stale": True} if kept.missed else _as_json(judged)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def confined(scratch: str) -> tuple[str, ...]:
    with open(os.devnull, "wb") as nowhere:  # what it says about files goes over the socket alone
        os.dup2(nowhere.fileno(), 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which ends this process
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (SPOOL, SPOOL))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    tempfile.tempdir = scratch
    for name in CODECS:
        codecs.lookup(name)
    return confine(scratch)


def _as_json(judgement: Judgement) -> dict[str, Any]:
    return {
        "format": judgement.format,
        "verdict": judgement.verdict.value,
        "findings": [finding.as_json() for finding in judgement.findings],
        "references": {reference.path: reference.size for reference in judgement.references},
        "facts": [[fact.kind, fact.value] for fact in judgement.facts],
        "gaps": list(judgement.gaps),
    }


if __name__ == "__main__":
    main()
