"""The shape of the code, held by figures: sizes, late imports, silenced checks, forbidden names."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

from .sources import package_sources

LONGEST_FUNCTION = 100
LONGEST_FILE = 500
# Long tables that are easier to read whole than in pieces.
TABLES = {
    "src/garrison/runtime/probes/escape.py": "one self-contained script that a sandbox is given; its list of tries",
}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "models", "misc"}


def test_no_function_is_longer_than_a_hundred_lines() -> None:
    # A migration is one list of tables and columns.
    long = [
        f"{path}:{node.lineno} {node.name}"
        for path, _, tree in package_sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and path not in TABLES
        and "/migrations/" not in path
        and (node.end_lineno or node.lineno) - node.lineno >= LONGEST_FUNCTION
    ]
    assert not long, "\n" + "\n".join(long)


def test_no_file_is_longer_than_five_hundred_lines() -> None:
    long = [
        path for path, text, _ in package_sources() if text.count("\n") > LONGEST_FILE and path not in TABLES
    ]
    assert not long, "\n" + "\n".join(long)


def test_every_module_says_what_it_is() -> None:
    assert [path for path, _, tree in package_sources() if not ast.get_docstring(tree)] == []


def test_imports_inside_functions_say_why() -> None:
    silent = []
    for path, text, tree in package_sources():
        lines = text.splitlines()
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                silent += [
                    f"{path}:{node.lineno}"
                    for node in ast.walk(function)
                    if isinstance(node, ast.Import | ast.ImportFrom)
                    and "#" not in lines[node.lineno - 1]
                    and not lines[node.lineno - 2].lstrip().startswith("#")
                ]
    assert not silent, "\n" + "\n".join(silent)


def test_every_silenced_check_names_its_rule_and_its_reason() -> None:
    silent = [
        f"{path}:{line}"
        for path, text, _ in package_sources()
        for line, comment in _comments(text)
        if re.search(r"noqa|type: ignore", comment)
        and not re.search(r"(noqa: [A-Z]+\d+(, ?[A-Z]+\d+)*|type: ignore\[[\w, -]+\])\s*(#|-|:).*\w", comment)
    ]
    assert not silent, "\n" + "\n".join(silent)


def test_no_drawer_for_everything() -> None:
    drawers = [
        path
        for path, _, _ in package_sources()
        if FORBIDDEN_NAMES & set(path.removeprefix("src/garrison/").removesuffix(".py").split("/"))
    ]
    assert not drawers, "\n" + "\n".join(drawers)


def _comments(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
