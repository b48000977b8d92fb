"""A directory of this machine as a store: may others than its owner read or write it?"""

from __future__ import annotations

import stat
from pathlib import Path

from garrison.artifacts.storage_check.report import Found, Report
from garrison.core.errors import Usage

_OTHERS_READ = stat.S_IROTH | stat.S_IXOTH


def inspect_directory(path: Path) -> Report:
    """Raises `Usage` STO-URL when it is not a directory."""
    path = path.absolute()
    if not path.is_dir():
        raise Usage("STO-URL", f"{path} is not a directory", fix="name a directory, s3://bucket or https://")
    mode, found = stat.S_IMODE(path.stat().st_mode), []
    quote = f"{path} mode {mode:04o}"
    reachable = all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
    if reachable and mode & _OTHERS_READ == _OTHERS_READ:
        found.append(
            Found("STO-PUBLIC", "every user of this machine may read it", f"chmod o-rwx {path}", quote)
        )
    if mode & stat.S_IWOTH or mode & stat.S_IWGRP:
        found.append(Found("STO-WIDE", "others than its owner may write it", f"chmod go-w {path}", quote))
    return Report(str(path), () if found else ("owner-only=yes ok",), tuple(found))
