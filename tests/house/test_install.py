"""What an installation needs: the core stays light, and the locks are complete and name no place."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib

import pytest

from .sources import ROOT, package_sources

LIGHT = """
import importlib.abc, importlib.metadata, pkgutil, sys

allowed = {allowed!r}
top_levels = importlib.metadata.packages_distributions()
names = {{name.lower().replace("_", "-") for name in allowed}}
present = {{
    top for top, owners in top_levels.items()
    if any(owner.lower().replace("_", "-") in names for owner in owners)
}}

class OnlyTheCore(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        top = fullname.partition(".")[0]
        if top in top_levels and top not in present and top not in sys.stdlib_module_names and top != "garrison":
            raise ModuleNotFoundError(f"{{fullname}} is not in the core install", name=fullname)
        return None

sys.meta_path.insert(0, OnlyTheCore())
for module in {modules!r}:
    loaded = importlib.import_module(module)
    for child in pkgutil.iter_modules(getattr(loaded, "__path__", [])):
        importlib.import_module(f"{{module}}.{{child.name}}")
"""
CORE_MODULES = [
    "garrison.core",
    "garrison.client",
    "garrison.artifacts.scanners",
    "garrison.trust.keys",
    "garrison.trust.dsse",
    "garrison.trust.oms",
    "garrison.trust.statement",
    "garrison.trust.verify",
    "garrison.trust.tree",
]


def _locked(name: str) -> dict[str, int]:
    """Package -> number of hashes, of one lock."""
    found: dict[str, int] = {}
    current = ""
    for line in (ROOT / "requirements" / name).read_text().splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)==\S+ \\$", line):
            current = match.group(1).lower()
            found[current] = 0
        elif re.match(r"    --hash=sha256:[0-9a-f]{64}( \\)?$", line):
            found[current] += 1
        elif line and not line.lstrip().startswith("#"):
            pytest.fail(f"{name}: not a pinned, hashed requirement: {line}")
    return found


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~! ]", requirement)[0].lower() for requirement in requirements} - {"garrison"}


@pytest.mark.parametrize("lock", ["core.txt", "all.txt", "dev.txt", "models.txt"])
def test_every_locked_package_is_pinned_and_hashed(lock: str) -> None:
    locked = _locked(lock)
    assert locked
    assert [name for name, hashes in locked.items() if not hashes] == []


def test_the_locks_hold_every_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    core = _names(project["dependencies"])
    everything = core | _names(extras["server"]) | _names(extras["runtime"])
    for lock, wanted in {
        "core.txt": core,
        "all.txt": everything,
        "dev.txt": everything | _names(extras["dev"]),
    }.items():
        assert sorted(wanted - set(_locked(lock))) == [], f"run `make lock`: {lock} lacks these"


def test_what_is_declared_is_imported() -> None:
    """A dependency that nothing imports is attack surface for nothing."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = _names(extras["dependencies"])
    for extra in ("server", "runtime"):
        declared |= _names(extras["optional-dependencies"][extra])
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name).partition(".")[0]
        for _, _, tree in package_sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and node.module)
        for alias in node.names
    }
    owners = importlib.metadata.packages_distributions()
    used = {owner.lower() for top in imported for owner in owners.get(top, [])}
    assert sorted(declared - used) == []


def test_scanning_signing_and_verifying_need_only_the_core_install() -> None:
    allowed = set(_locked("core.txt"))
    code = LIGHT.format(allowed=allowed, modules=CORE_MODULES)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
