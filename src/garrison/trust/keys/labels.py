"""What a key in a token may be called; labels become file names and certificate names."""

from __future__ import annotations

import re

from garrison.core.errors import Usage

MAX_LABEL = 64  # characters; labels become file names and certificate names
_LABEL = re.compile(rf"[a-z0-9](?:[a-z0-9@_-]|\.(?!\.)){{0,{MAX_LABEL - 1}}}")


def is_label(text: str) -> bool:
    return _LABEL.fullmatch(text) is not None


def check_label(label: str) -> str:
    """Raises `Usage` KEY-LABEL."""
    if is_label(label):
        return label
    raise Usage(
        "KEY-LABEL",
        f"{label[:MAX_LABEL]!a} cannot name a key",
        fix=f"use lower-case letters, digits and . _ @ -, at most {MAX_LABEL} characters",
    )
