"""Is the installed Garrison the one that was installed: every file against the installer's record of hashes.

The record (`RECORD`, Python packaging's "Recording installed projects") lies beside the files, so whoever can
write both can make them agree. A wheel that came another way vouches for more: `against` compares with its
record instead. What Python would run before any of this - `.pth` lines and `sitecustomize` - is looked for too.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import site
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from garrison.core.errors import Undecided, Usage
from garrison.core.finding import Finding, Severity

PACKAGE = "garrison"
MAX_RECORD = 16 << 20  # the largest that we have seen has 2 MB
MAX_LISTED = 64 << 10  # bytes of a .pth file that are read
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_FIX = "install again from a wheel you trust: pip install --force-reinstall --no-deps garrison"
_FIX_START = "find out who wrote it; remove it when no package you installed brings it"


@dataclass(frozen=True, slots=True)
class Examined:
    """`packages` and `files` that were hashed, the SHA-256 of Garrison's own record, and what was found."""

    packages: int
    files: int
    record: str
    findings: tuple[Finding, ...]


def examine(against: Path | None = None) -> Examined:
    """Garrison and every package it needs, as they are installed in this environment.

    Raises `Undecided` SELF-RECORD when there is no record to judge by, `Usage` SELF-WHEEL for a wheel that is none.
    """
    own = _distribution(PACKAGE)
    if own is None or _is_editable(own):
        raise Undecided(
            "SELF-RECORD",
            "Garrison runs from a source tree here, and no installer recorded its files",
            fix="ask git: git status --ignored says what was changed; or install a wheel and look there",
        )
    wanted = _recorded(own) if against is None else _of_wheel(against)
    found: list[Finding] = []
    needed = [own, *_needed(own)]
    files = _compare(own, wanted, found)
    for distribution in needed[1:]:
        files += _compare(distribution, _recorded(distribution), found)
    root = Path(str(own.locate_file(PACKAGE)))
    known = {Path(str(own.locate_file(name))).resolve() for name in wanted}
    found += [_finding("extra", f"{path} was not installed", str(path)) for path in _strangers(root, known)]
    found += _starters()
    text = own.read_text("RECORD") or ""
    return Examined(len(needed), files, f"sha256:{hashlib.sha256(text.encode()).hexdigest()}", tuple(found))


def _compare(distribution: metadata.Distribution, wanted: Mapping[str, str], found: list[Finding]) -> int:
    """Hash every recorded file of one package; returns how many."""
    for name, digest in wanted.items():
        path = Path(str(distribution.locate_file(name)))
        try:
            with path.open("rb") as stream:
                actual = hashlib.file_digest(stream, "sha256").digest()
        except OSError as error:
            found.append(
                _finding("missing", f"{path} was installed and cannot be read: {error.strerror}", str(path))
            )
            continue
        if actual != base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4)):
            found.append(_finding("changed", f"{path} is not what was installed", str(path)))
    return len(wanted)


def _strangers(root: Path, known: set[Path]) -> Iterator[Path]:
    """Files below the package that nobody recorded. Byte code that Python checks against its source is let be."""
    for path in sorted(root.rglob("*")):
        if path.is_dir() or path.resolve() in known:
            continue
        if path.suffix == ".pyc" and path.parent.name == "__pycache__" and _is_checked(path):
            continue
        yield path


def _is_checked(byte_code: Path) -> bool:
    """Whether Python compares it with its source before running it (PEP 552): by time, or by a checked hash."""
    with byte_code.open("rb") as stream:
        flags = int.from_bytes(stream.read(8)[4:], "little")
    source = byte_code.parent.parent / (byte_code.name.split(".")[0] + ".py")
    return flags in (0, 0b11) and source.is_file()


def _starters() -> Iterator[Finding]:
    """What Python runs at every start of this environment, and no installed package recorded."""
    places = dict.fromkeys(Path(place) for place in (*site.getsitepackages(), *sys.path) if place)
    recorded = {
        Path(str(distribution.locate_file(name))).resolve()
        for distribution in metadata.distributions()
        for name in _recorded(distribution, suffixes=(".pth", "customize.py"))
    }
    for place in places:
        for path in sorted([*place.glob("*.pth"), *place.glob("*customize.py")]):
            is_module = path.name in ("sitecustomize.py", "usercustomize.py")
            runs = is_module or (path.suffix == ".pth" and _runs_code(path))
            if runs and path.resolve() not in recorded and not _is_systems(path):
                yield Finding(
                    "self.start",
                    Severity.HIGH,
                    f"{path} runs at every start of Python, and no installed package brought it",
                    str(path),
                    _FIX_START,
                )


def _runs_code(path: Path) -> bool:
    """A line of a .pth file that begins with `import` is run; any other is a folder for `sys.path`."""
    try:
        with path.open("rb") as stream:
            lines = stream.read(MAX_LISTED).splitlines()
    except OSError:
        return True
    return any(line.startswith((b"import ", b"import\t")) for line in lines)


def _is_systems(path: Path) -> bool:
    """Below the interpreter's own library, which the operating system's packages vouch for."""
    return path.is_relative_to(Path(sys.base_prefix) / "lib") and sys.prefix != sys.base_prefix


def _distribution(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _is_editable(distribution: metadata.Distribution) -> bool:
    try:
        told = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return False
    return bool(told.get("dir_info", {}).get("editable")) or not _recorded(distribution)


def _needed(own: metadata.Distribution) -> Iterable[metadata.Distribution]:
    """Every installed package that this one needs, directly or not, extras included where they are installed."""
    seen, waiting = {PACKAGE: own}, [own]
    while waiting:
        for requirement in waiting.pop().requires or ():
            match = _NAME.match(requirement)
            name = re.sub(r"[-_.]+", "-", match.group()).lower() if match else ""
            if name and name not in seen and (distribution := _distribution(name)) is not None:
                seen[name] = distribution
                waiting.append(distribution)
    return [distribution for name, distribution in sorted(seen.items()) if name != PACKAGE]


def _recorded(distribution: metadata.Distribution, suffixes: tuple[str, ...] = ("",)) -> dict[str, str]:
    return _rows(distribution.read_text("RECORD") or "", suffixes)


def _of_wheel(wheel: Path) -> dict[str, str]:
    """The record of a wheel. Raises `Usage` SELF-WHEEL."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD")]
            if len(names) != 1 or not names[0].startswith(f"{PACKAGE}-"):
                raise ValueError("it is not a wheel of Garrison")
            with archive.open(names[0]) as stream:
                rows = _rows(stream.read(MAX_RECORD).decode(), ("",))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise Usage(
            "SELF-WHEEL", f"cannot judge by {wheel}: {error}", fix="give Garrison's own wheel"
        ) from error
    return {name: digest for name, digest in rows.items() if name.startswith(f"{PACKAGE}/")}


def _rows(text: str, suffixes: tuple[str, ...]) -> dict[str, str]:
    """Path -> SHA-256 in URL-safe base64, of the lines that have one."""
    return {
        row[0]: row[1].removeprefix("sha256=")
        for row in csv.reader(io.StringIO(text[:MAX_RECORD]))
        if len(row) == 3 and row[1].startswith("sha256=") and row[0].endswith(suffixes)
    }


def _finding(kind: str, message: str, where: str) -> Finding:
    return Finding(f"self.{kind}", Severity.HIGH, message, where, _FIX)
