"""What is shipped for receivers: Sigma rules over OCSF events, a Grafana dashboard, configurations to begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_HERE = Path(__file__).parent


def files() -> Iterator[tuple[str, bytes]]:
    """Name and content of each, such as `sigma/failed-logins.yml`."""
    for path in sorted(_HERE.rglob("*")):
        if path.is_file() and path.suffix in (".yml", ".yaml", ".json", ".conf"):
            yield str(path.relative_to(_HERE)), path.read_bytes()
