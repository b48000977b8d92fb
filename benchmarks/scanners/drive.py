"""Runs one scanner over many files inside one process, one JSON line a file. Started by compare.py.

Each tool runs with the interpreter of its own environment, through the function that its own command
line calls, so that the cost is that of scanning and not of starting. A file has a time limit; what stops
with an exception, an error of the tool's own, a skipped file or the limit is `unfinished`.

    PYTHON drive.py TOOL SECONDS < list-of-files
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import sys
import time
import warnings
import zipfile
from collections.abc import Callable

Answer = str  # "flagged", "passed" or "unfinished"


def _picklescan() -> Callable[[str], Answer]:
    from picklescan.scanner import scan_file_path

    def scan(path: str) -> Answer:
        result = scan_file_path(path)
        if result.issues_count:
            return "flagged"
        return "unfinished" if result.scan_err or not result.scanned_files else "passed"

    return scan


def _modelscan() -> Callable[[str], Answer]:
    from modelscan.modelscan import ModelScan

    def scan(path: str) -> Answer:
        scanner = ModelScan()
        scanner.scan(path)
        if scanner.issues.all_issues:
            return "flagged"
        return "unfinished" if scanner.errors or not scanner.scanned else "passed"

    return scan


def _fickling() -> Callable[[str], Answer]:
    from fickling.loader import scan_file, scan_zip_archive

    def scan(path: str) -> Answer:
        if zipfile.is_zipfile(path):
            results = list(scan_zip_archive(path, graceful=True).values())
        else:
            results = [scan_file(path, graceful=True)]
        if not results:
            return "unfinished"
        return "passed" if all(result.is_safe for result in results) else "flagged"

    return scan


def _modelaudit() -> Callable[[str], Answer]:
    from modelaudit.core import scan_model_directory_or_file
    from modelaudit.core_results import determine_exit_code

    def scan(path: str) -> Answer:
        status = determine_exit_code(scan_model_directory_or_file(path, skip_file_types=False))
        return {0: "passed", 1: "flagged"}.get(status, "unfinished")

    return scan


TOOLS = {
    "picklescan": _picklescan,
    "modelscan": _modelscan,
    "fickling": _fickling,
    "modelaudit": _modelaudit,
}


class _TimeIsUp(BaseException):
    """Not an Exception, so that a tool which catches everything does not catch it."""


def _stop(_number: int, _frame: object) -> None:
    raise _TimeIsUp


def main() -> None:
    tool, seconds = sys.argv[1], float(sys.argv[2])
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    scan = TOOLS[tool]()
    signal.signal(signal.SIGALRM, _stop)
    for line in sys.stdin:
        path = line.rstrip("\n")
        begun = time.process_time()
        answer = "unfinished"
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                answer = scan(path)
        except (_TimeIsUp, SystemExit, Exception):  # noqa: BLE001 - whatever a peer does with a hostile file
            answer = "unfinished"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        out.write(json.dumps({"path": path, "answer": answer, "cpu": time.process_time() - begun}) + "\n")


if __name__ == "__main__":
    main()
