"""Whether a path or reference written in a file stays inside the directory that the file belongs to."""

from __future__ import annotations

import re

MAX_NAME = 255  # of one component, as file systems have it
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def unsafe_path(path: str) -> str:
    """Why this path must not be used, or "" when it is a plain relative POSIX path."""
    if not path or "\0" in path:
        return "has no usable name"
    if any(ord(char) < 32 or ord(char) == 127 for char in path):
        return "has control characters in its name"
    if _SCHEME.match(path):
        return "names a scheme or a drive"
    if path.startswith(("/", "~")) or "\\" in path:
        return "is absolute or uses backslashes"
    if any(part == ".." for part in path.split("/")):
        return "leaves the directory"
    if any(len(part.encode("utf-8", "surrogatepass")) > MAX_NAME for part in path.split("/")):
        return f"has a name of more than {MAX_NAME} bytes"
    return ""
