"""The documents are true: what they list exists, what exists is listed, and every example parses."""

from __future__ import annotations

import ast
import functools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from garrison.app.cli.main import build_parser
from garrison.core.actions import DESCRIPTIONS, Action
from garrison.core.codes import CODES, merged
from garrison.core.errors import Usage

from .sources import ROOT, markdown_files, package_sources, tracked_files

CODE = re.compile(r"[A-Z]{2,7}(-[A-Z0-9]+)+")
# Words that look like a refusal code and are none.
NOT_CODES = {"AES-256", "AES-256-GCM", "SHA-1", "SHA-256", "SHA-512", "UTF-8", "TLS-1", "ECDSA-P256"}


@pytest.mark.parametrize("script", ["status.py", "reference.py"])
def test_the_generated_pages_are_what_the_code_and_the_tests_say(script: str) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), "--check"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_every_action_is_described() -> None:
    assert set(DESCRIPTIONS) == set(Action)
    page = (ROOT / "docs" / "reference" / "actions.md").read_text()
    assert [action.value for action in Action if f"`{action.value}`" not in page] == []


def test_every_code_that_is_used_has_a_page_and_every_page_a_use() -> None:
    used = {
        node.value
        for path, _, tree in package_sources()
        if not path.startswith("src/garrison/core/codes/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and (CODE.fullmatch(node.value) or node.value in CODES)
    } - NOT_CODES
    without_page, without_use = sorted(used - set(CODES)), sorted(set(CODES) - used)
    assert not without_page, f"no page in core/codes/: {' '.join(without_page)}"
    assert not without_use, f"a page in core/codes/, and nothing that says it: {' '.join(without_use)}"


def test_a_code_with_two_pages_is_an_error() -> None:
    page = {"ART-TAMPER": CODES["ART-TAMPER"]}
    with pytest.raises(ValueError, match="two pages: ART-TAMPER"):
        merged(CODES, page)


def test_code_pages_fit_a_terminal() -> None:
    wide = [code for code, entry in CODES.items() for line in entry.page.splitlines() if len(line) > 80]
    assert not wide, "\n" + "\n".join(wide)
    assert [code for code, entry in CODES.items() if not entry.page.strip() or not entry.title] == []


def test_every_command_in_the_documents_is_one_that_exists() -> None:
    wrong = []
    for path in markdown_files():
        if path.name == "codes.md":  # the same pages as below, with their prose
            continue
        wrong += [f"{path.relative_to(ROOT)}: {line}" for line in _commands_in(path) if not _parses(line)]
    wrong += [
        f"garrison explain {code}: {line}"
        for code, entry in CODES.items()
        for line in _commands([line for line in entry.page.splitlines() if line.startswith("    ")])
        if not _parses(line)
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def _commands_in(path: Path) -> list[str]:
    inside, lines = False, []
    for line in path.read_text().splitlines():
        if line.startswith("```"):
            inside = not inside
        elif inside:
            lines.append(line)
    return _commands(lines)


def _commands(lines: list[str]) -> list[str]:
    """Lines that someone would type: `garrison ...`, perhaps after a prompt, continued with a backslash.

    What follows a `#`, a pipe, a redirection or a wide gap is not part of the command.
    """
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    pattern = re.compile(
        r"^\s*(?:\$ )?(?:\.venv/bin/)?garrison ([a-z-].*?)(?:\s+#.*|\s+[|<>].*| {2,}\S.*)?$", re.MULTILINE
    )
    return [match.group(1).replace(" TIER", " internal") for match in pattern.finditer(joined)]


_parser = functools.cache(build_parser)  # of all commands: half a second, and as good for every line


def _parses(line: str) -> bool:
    try:
        _parser().parse_args(shlex.split(line))
    except (Usage, ValueError):
        return False
    except SystemExit as end:  # --help and --version end this way
        return end.code == 0
    return True


def test_every_relative_link_leads_somewhere() -> None:
    broken = []
    for path in markdown_files():
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
            file, _, anchor = target.partition("#")
            if "://" in target or target.startswith("mailto:"):
                continue
            goal = (path.parent / file).resolve() if file else path
            if not goal.exists() or (anchor and anchor not in _anchors(goal)):
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert not broken, "\n" + "\n".join(broken)


def _anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_nothing_tracked_names_a_machine_or_a_package_index() -> None:
    """Locks and scripts must work wherever someone clones them."""
    index_hosts = [
        "pypi" + ".org",
        "files.python" + "hosted",
        "registry." + "npmjs",
        "deb." + "debian",
        " --index" + "-url",
    ]
    # Where this copy lies, whose it is and what lies around it are the places that a stray path would name.
    neighbours = () if ROOT.parent.parts[:2] == ("/", "usr") else ROOT.parent.iterdir()
    around = [ROOT, Path.home(), *(place for place in neighbours if place.is_dir())]
    places = [f"{place}/" for place in around if len(place.parts) > 2] + ["file:" + "///"]
    named = []
    for path in tracked_files():
        if path == Path(__file__) or path.suffix not in {".md", ".txt", ".in", ".toml", ".py", ".sh", ""}:
            continue
        text = path.read_text(errors="replace")
        named += [f"{path.relative_to(ROOT)}: {word}" for word in index_hosts + places if word in text]
    assert not named, "\n" + "\n".join(named)
