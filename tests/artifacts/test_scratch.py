"""Directories for the moment: gone when they are let go, and after a kill when the next one is made."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from garrison.confine.scratch import scratch

HOLDER = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from garrison.confine.scratch import scratch
with scratch("test") as place:
    (place / "file").write_text("left")
    print(place, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_holds_is_not(there: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(there)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            held = Path(holder.stdout.readline().strip())
            os.utime(held, (0, 0))
            with scratch("test") as mine:
                assert held.is_dir()
                assert list(mine.iterdir()) == []
            assert not mine.exists()
        finally:
            holder.kill()
    assert (held / "file").read_text() == "left"
    with scratch("other"):
        assert held.is_dir()
    with scratch("test"):
        assert not held.exists()


def test_one_that_was_made_just_now_and_a_link_are_left_alone(there: Path) -> None:
    (there / "garrison-test-new").mkdir()
    (there / "elsewhere").mkdir()
    os.utime(there / "elsewhere", (0, 0))
    (there / "garrison-test-link").symlink_to(there / "elsewhere")
    with scratch("test"):
        assert (there / "garrison-test-new").is_dir()
        assert (there / "elsewhere").is_dir()
