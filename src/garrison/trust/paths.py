"""Which file names may stand in a manifest. Pure rules, the same for a directory and for a signed list.

A name that two file systems read differently, that a terminal shows as something else or that points
out of its directory is refused: the file verified here has to be the file loaded elsewhere.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from garrison.core.errors import Refused

MAX_NAME_BYTES = 255  # the limit of every common file system
MAX_PATH_BYTES = 4096  # PATH_MAX on Linux
MAX_DEPTH = 64  # no published model nests a tenth as deep; recursion stays shallow
MAX_FILES = 50_000  # the largest sharded releases have a few thousand; a bundle of these is about 16 MiB

# Control, format (bidirectional overrides, zero width), surrogate, line and paragraph separators.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Shown as nothing although they are letters or marks (Unicode, Default_Ignorable_Code_Point): joiners, Hangul and
# Khmer fillers, Mongolian and other variation selectors. Two names would look like one.
_INVISIBLE = frozenset(
    [
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0),
        *range(0xFE00, 0xFE10),
        *range(0xE0100, 0xE01F0),
    ]
)


def check_name(name: str, where: str = "") -> str:
    """One component of a path. Raises `Refused` ART-NAME-UNSAFE; `where` is the directory it stands in."""
    why = _unsafe(name)
    if why:
        shown = ascii(f"{where}/{name}" if where else name)
        raise Refused(
            "ART-NAME-UNSAFE",
            f"the file name {shown[:300]} {why}",
            fix="rename the file in the source directory, then repeat the command",
            evidence={"path": shown},
        )
    return name


def check_path(path: str) -> str:
    """A relative POSIX path as it stands in a manifest. Raises `Refused` ART-NAME-UNSAFE."""
    parts = path.split("/")
    for part in parts:
        check_name(part, path.rpartition("/")[0] if part == parts[-1] else "")
    if len(parts) > MAX_DEPTH or len(path.encode()) > MAX_PATH_BYTES:
        raise Refused(
            "ART-NAME-UNSAFE",
            f"a path is deeper than {MAX_DEPTH} directories or longer than {MAX_PATH_BYTES} bytes",
            fix="use shorter paths in the source directory, then repeat the command",
            evidence={"path": ascii(path[:300])},
        )
    return path


def check_paths(paths: Iterable[str]) -> None:
    """A whole list: each path safe, none equal to another (or to its directory) after case folding and NFC.

    Raises `Refused` ART-NAME-UNSAFE or ART-COLLISION.
    """
    seen: dict[str, str] = {}
    files: set[str] = set()
    directories: set[str] = set()
    for path in paths:
        check_path(path)
        prefix = ""
        for part in path.split("/"):
            parent, prefix = prefix, f"{prefix}/{part}" if prefix else part
            if parent:
                directories.add(parent)
            other = seen.setdefault(folded(prefix), prefix)
            if other != prefix:
                raise collision(other, prefix)
        if path in files:
            raise collision(path, path)
        files.add(path)
    for path in sorted(files & directories):
        raise collision(path, path + "/")


def folded(path: str) -> str:
    """Equal for names that a case-insensitive or normalising file system takes for one.

    Canonical caseless matching (Unicode standard, section 3.13, D145).
    """
    decomposed = unicodedata.normalize("NFD", path)
    return unicodedata.normalize("NFD", decomposed.casefold())


def collision(one: str, other: str) -> Refused:
    return Refused(
        "ART-COLLISION",
        f"{one!a} and {other!a} are one name on a file system that folds case or Unicode",
        fix="rename one of the two in the source directory, then repeat the command",
        evidence={"paths": [ascii(one), ascii(other)]},
    )


def _unsafe(name: str) -> str:
    """Why a name is refused; empty when it is not."""
    if name in ("", ".", ".."):
        return "does not name a file inside the directory"
    if "/" in name or "\\" in name:
        return "holds a path separator"
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError:
        return "is not UTF-8"
    if len(encoded) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    if not name.isascii() and any(ord(character) in _INVISIBLE for character in name):
        return "holds invisible characters"
    if any(unicodedata.category(character) in _UNSAFE_CATEGORIES for character in name):
        return "holds control or invisible characters"
    return ""
