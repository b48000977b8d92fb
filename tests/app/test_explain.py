"""Whatever a finding can be called, `garrison explain` has a page on it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import garrison
from garrison.app.cli.main import main

PACKAGE = Path(garrison.__file__).parent
DATA_RULES = re.findall(r'"(dataset\.\w+\.[\w-]+)"', (PACKAGE / "artifacts" / "dataset_judge.py").read_text())
STRAY = (PACKAGE / "trust" / "stray_keys.py").read_text()
STRAY_RULES = [f"key.stray.{kind}" for kind in re.findall(r'_finding\(\s*"(\w+)"', STRAY)]


@pytest.mark.parametrize(
    "rule", sorted({*DATA_RULES, *STRAY_RULES, *re.findall(r'"(key\.stray\.\w+)"', STRAY)})
)
def test_every_rule_about_data_and_keys_is_explained(rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", rule]) == 0
    assert capsys.readouterr().out.startswith(f"{rule}: ")
