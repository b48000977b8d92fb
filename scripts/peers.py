"""Peers: environments of their own for programs that Garrison works beside, made on demand and kept.

    python scripts/peers.py mlflow dvc wandb     # prints the path of each environment's python

They lie below $GARRISON_PEERS, else the user's cache directory, never in the checkout or in `.venv`. Each is
made once from pins with hashes (`requirements/peers-NAME.txt`) under a lock, and named by the digest of its pins, so
that a changed pin makes a new one. Nothing but the standard library is needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("mlflow", "dvc", "wandb", "oidc", "envoy", "kubectl", "checkov")
NODE_NAMES = ("oidc-provider",)
SECONDS = 600


class Unavailable(Exception):
    """The packages could not be installed: no index, or no such version there."""


def environment(name: str) -> Path:
    """The python of a peer's environment, made when it is missing. Raises `Unavailable`."""
    pins = ROOT / "requirements" / f"peers-{name}.txt"
    digest = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:12]
    home = _home()
    home.mkdir(parents=True, exist_ok=True)
    place = home / f"{name}-{digest}"
    with (home / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "done").exists():
            shutil.rmtree(place, ignore_errors=True)
            _make(place, pins)
            (place / "done").touch()
    return place / "bin" / "python"


def node_environment(name: str) -> Path:
    """The folder whose `node_modules` holds a peer from npm, made from its lock. Raises `Unavailable`."""
    pins = ROOT / "requirements" / f"peers-{name}"
    lock_file = pins / "package-lock.json"
    digest = hashlib.sha256(lock_file.read_bytes()).hexdigest()[:12]
    home = _home()
    home.mkdir(parents=True, exist_ok=True)
    place = home / f"{name}-{digest}"
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise Unavailable(f"{name}: node and npm are not installed")
    with (home / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "done").exists():
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(pins, place)
            _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(place)], name)
            (place / "done").touch()
    return place


def _make(place: Path, pins: Path) -> None:
    venv.create(place, with_pip=True)
    install = [
        str(place / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "-qq",
        "--no-input",
        "--no-deps",
        "--require-hashes",
    ]
    install += ["--prefer-binary", "--disable-pip-version-check", "-r", str(pins)]
    _run(install, pins.name)


def _run(command: list[str], name: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{name}: not installed within {SECONDS} s") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["the installer said nothing"])[-1]
        raise Unavailable(f"{name}: {last}")


def _home() -> Path:
    given = os.environ.get("GARRISON_PEERS")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(cache) / "garrison" / "peers"


def main(names: list[str]) -> int:
    known = (*NAMES, *NODE_NAMES)
    for name in names or known:
        if name not in known:
            print(f"peers: {name} is not one of {', '.join(known)}", file=sys.stderr)
            return 2
        try:
            print(environment(name) if name in NAMES else node_environment(name))
        except Unavailable as error:
            print(f"peers: {error}", file=sys.stderr)
            return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
