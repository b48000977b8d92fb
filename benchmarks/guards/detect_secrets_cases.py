"""The parametrised cases of detect-secrets' own plugin tests, as JSON lines: an outside judge of `garrison dlp`.

    python -m pytest -p detect_secrets_cases --collect-only -q tests/plugins > cases.jsonl

Run in a checkout of detect-secrets with its package installed and this folder on PYTHONPATH. Nothing of the
checkout is kept here: the tests are collected, never run, and their parameters printed.
"""

from __future__ import annotations

import json
import sys
from typing import Any

_TEXT = ("payload", "line", "content", "token")
_WANTED = ("should_flag", "should_be_flagged", "expected_result")


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """One line for each case that has a text and a verdict."""
    for item in items:
        given = getattr(getattr(item, "callspec", None), "params", {})
        text = next((given[name] for name in _TEXT if isinstance(given.get(name), str)), None)
        verdict = next((given[name] for name in _WANTED if isinstance(given.get(name), bool)), None)
        if text is not None and verdict is not None:
            row = {"rule": item.path.stem.removesuffix("_test"), "text": text, "value": "", "secret": verdict}
            sys.__stdout__.write(json.dumps(row) + "\n")  # type: ignore[union-attr]  # a terminal is there
    items.clear()
