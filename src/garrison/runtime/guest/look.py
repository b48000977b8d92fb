"""Runs inside a sandbox: imports the packages that a server will, and says which files that took. A script.

The packages are nobody's model, but there is no reason either to run their start as the user who owns the keys.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

SETTINGS: dict[str, Any] = globals().get("SETTINGS", {})  # handed over by confine.py


def main() -> None:
    for name in SETTINGS["names"]:
        with contextlib.suppress(ImportError):  # the name of a function or class, mostly
            __import__(name)
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    with open("/proc/self/maps") as maps:
        mapped = {line.split(maxsplit=5)[5].strip() for line in maps if "/" in line}
    print(json.dumps([sorted(name for name in files if name), sorted(mapped)]), flush=True)


if __name__ == "__main__":
    main()
