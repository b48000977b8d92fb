"""The positive and negative cases in the rule sources of gitleaks, as JSON lines: an outside judge of `garrison dlp`.

    python benchmarks/guards/gitleaks_cases.py CHECKOUT > cases.jsonl

CHECKOUT is a clone of gitleaks; nothing of it is kept here. Its rules are compiled against a stand-in for the
packages they import (`_gitleaks.go`), which prints the cases instead of testing them. Needs Go, and no module.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULE = "github.com/zricethezav/gitleaks/v8"
_CALL = re.compile(r"^\s*rules\.(\w+)\(\),", re.MULTILINE)
_ALIASES = {
    "config": "type (Rule = stub.Rule; Allowlist = stub.Allowlist; Required = stub.Required)\n"
    "const (AllowlistMatchOr = stub.AllowlistMatchOr; AllowlistMatchAnd = stub.AllowlistMatchAnd)\n",
    "cmd/generate/secrets": "var NewSecret = stub.NewSecret\n",
    "logging": "",
}


def cases(checkout: Path) -> str:
    """JSON lines. Raises `subprocess.CalledProcessError` when the sources do not compile."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _lay_out(checkout, folder)
        done = subprocess.run(
            ["go", "run", "."], cwd=folder, check=True, stdout=subprocess.PIPE, encoding="utf-8"
        )
    return done.stdout


def _lay_out(checkout: Path, folder: Path) -> None:
    source = checkout / "cmd/generate/config"
    (folder / "go.mod").write_text(f"module {MODULE}\n\ngo 1.19\n")
    (folder / "stub").mkdir()
    shutil.copy(HERE / "_gitleaks.go", folder / "stub/stub.go")
    shutil.copytree(
        checkout / "regexp", folder / "regexp", ignore=shutil.ignore_patterns("*wasi*", "*_test.go")
    )
    for path, words in _ALIASES.items():
        if words:
            (folder / path).mkdir(parents=True)
            name = path.rpartition("/")[2]
            (folder / path / "stub.go").write_text(f'package {name}\n\nimport "{MODULE}/stub"\n\n{words}')
    utils = folder / "cmd/generate/config/utils"
    utils.mkdir(parents=True)
    for one in ("generate.go", "patterns.go"):
        shutil.copy(source / "utils" / one, utils)
    (utils / "validate.go").write_text(
        f'package utils\n\nimport "{MODULE}/stub"\n\n'
        "var Validate = stub.Validate\nvar ValidateWithPaths = stub.ValidateWithPaths\n"
    )
    rules = folder / "cmd/generate/config/rules"
    rules.mkdir()
    for one in sorted((source / "rules").glob("*.go")):
        if not one.name.endswith("_test.go"):
            shutil.copy(one, rules)
    names = _CALL.findall((source / "main.go").read_text("utf-8"))
    calls = "".join(f"\trules.{name}()\n" for name in names)
    (folder / "main.go").write_text(
        f'package main\n\nimport "{MODULE}/cmd/generate/config/rules"\n\nfunc main() {{\n{calls}}}\n'
    )


def main() -> int:
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "cmd/generate/config/rules").is_dir():
        print(__doc__, file=sys.stderr)
        return 2
    if shutil.which("go") is None:
        print("SKIPPED: there is no go compiler here, so no case of gitleaks was read", file=sys.stderr)
        return 3
    sys.stdout.write(cases(Path(sys.argv[1])))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
