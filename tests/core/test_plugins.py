"""Plugins of installed packages are found, and looking for them is cheap when there are none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from garrison.core.plugins import with_installed


def test_an_object_that_an_installed_package_offers_follows_the_built_ins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / "acme-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[garrison.oddities]\nodd = acme_odd:ODD\n")
    (tmp_path / "acme_odd.py").write_text("ODD = 'odd'\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert with_installed(("even",), "oddities") == ("even", "odd")


def test_without_a_package_that_offers_any_there_are_the_built_ins() -> None:
    assert with_installed(("even",), "nobody-has-these") == ("even",)
