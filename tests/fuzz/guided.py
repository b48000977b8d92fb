"""One target under atheris: `python -m tests.fuzz.guided TARGET CORPUS [libFuzzer options]`."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["garrison.artifacts.scanners", "garrison.gateway"]):
    from tests.fuzz.targets import targets


def main() -> None:
    target = targets()[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
