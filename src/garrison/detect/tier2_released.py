"""The second tier that comes with Garrison: folders below `weights`, each with the digest that was released."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

RELEASED = (  # (folder below `weights`, digest of its manifest)
    ("tier2", "sha256:1af9c62cafa3ad2e7f10d25dda9c3792093950cb6d688097fd05c9b5d6caa89e"),
)


@dataclass(frozen=True, slots=True)
class Released:
    folder: Path
    digest: str


def released() -> tuple[Released, ...]:
    """Those that can run here: none without the extra `runtime`."""
    if any(find_spec(name) is None for name in ("onnxruntime", "tokenizers")):
        return ()
    weights = Path(str(files("garrison.detect"))) / "weights"
    return tuple(Released(weights / name, digest) for name, digest in RELEASED)
