"""Reads folders of harmless files and writes which names their pickles import: `collect.py VERSION=FOLDER ...`.

With `--add` the versions come behind those that are there.

The result, `seen.json`, is what the tests hold against the allow-list. To make it again: one environment per
set of versions, `python statements.py make_sklearn.py FOLDER` in each, then this script with Garrison installed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from garrison.artifacts.scanners import SCANNERS
from garrison.artifacts.scanners.judge import judge
from garrison.artifacts.scanners.sources import BytesSource


def seen_in(folder: Path) -> set[str]:
    """`module name` of every import of every pickle below a folder."""
    found: set[str] = set()
    for path in sorted(folder.iterdir()):
        judged = judge(BytesSource(path.name, path.read_bytes()), SCANNERS)
        found |= {fact.value for fact in judged.facts if fact.kind == "global"}
    return found


def main() -> None:
    target = Path(__file__).with_name("seen.json")
    is_more = sys.argv[1] == "--add"
    folders = dict(argument.split("=", 1) for argument in sys.argv[1 + is_more :])
    before = json.loads(target.read_text()) if is_more else {"versions": [], "names": {}}
    names: dict[str, list[str]] = {name: list(rows) for name, rows in before["names"].items()}
    for index, folder in enumerate(folders.values(), len(before["versions"])):
        for name in seen_in(Path(folder)):
            names.setdefault(name, []).append(str(index))
    rows = {name: "".join(indices) for name, indices in sorted(names.items())}
    versions = before["versions"] + list(folders)
    target.write_text(json.dumps({"versions": versions, "names": rows}, indent=0) + "\n")


if __name__ == "__main__":
    main()
