"""The second tier that comes with Garrison: folders below `weights`, each with the digest that was released."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

RELEASED = (  # (folder below `weights`, digest of its manifest)
    ("tier2", "sha256:898a2113ee092d6681c292a1e181aadff9e0161686100717218fb04a8030276d"),
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
