"""The guest's first file system: this Python, what one program imports, and `boot.py`; a cpio archive made in memory.

Nothing but what is put in here exists in the guest. What a program needs is found by importing its packages once in a
process of its own and looking at what it mapped; the whole of each package goes in, without its tests. The digest is
of the archive as it was written, and changes when a file does.
"""

from __future__ import annotations

import ast
import hashlib
import os
import stat
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from garrison.core.errors import Undecided
from garrison.runtime.guest.kernel import Kernel, content

HERE = Path(__file__).resolve().parent
MAX_FILES = 60_000
LOADER = Path("/lib64/ld-linux-x86-64.so.2")
LEFT_OUT = frozenset(
    {
        "test",
        "tests",
        "idlelib",
        "ensurepip",
        "lib2to3",
        "tkinter",
        "turtledemo",
        "pydoc_data",
        "site-packages",
    }
)
ALWAYS = ("ctypes", "hashlib", "json", "lzma", "bz2", "zlib", "socketserver", "http.server", "tempfile")
# The files of the modules that are loaded, and of what is mapped, when these names are imported.
Look = Callable[[tuple[str, ...]], tuple[Sequence[str], Sequence[str]]]


@dataclass(slots=True)
class Archive:
    """A cpio archive of the kind that kernels unpack ("newc"), written once from front to back."""

    descriptor: int
    size: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    names: set[str] = field(default_factory=set)
    buffer: bytearray = field(default_factory=bytearray)

    def put(
        self, path: str, mode: int, data: bytes = b"", mtime: int = 0, device: tuple[int, int] = (0, 0)
    ) -> None:
        name = path.lstrip("/")
        if name in self.names:
            return
        parent = os.path.dirname(name)
        if parent:
            self.put(parent, stat.S_IFDIR | 0o755)
        self.names.add(name)
        if len(self.names) > MAX_FILES:
            raise ValueError("more files than a guest is given")
        self._member(name, mode, data, mtime, device)

    def _member(
        self, name: str, mode: int, data: bytes, mtime: int = 0, device: tuple[int, int] = (0, 0)
    ) -> None:
        raw = name.encode() + b"\0"
        numbers = (len(self.names), mode, 0, 0, 1, mtime, len(data), 0, 0, *device, len(raw), 0)
        self.buffer += b"070701" + b"".join(b"%08X" % number for number in numbers) + raw
        self.buffer += bytes(-(110 + len(raw)) % 4) + data + bytes(-len(data) % 4)
        if len(self.buffer) > 1 << 20:
            self._pour()

    def _pour(self) -> None:
        self.digest.update(self.buffer)
        self.size += len(self.buffer)
        view = memoryview(self.buffer)
        while view:
            view = view[os.write(self.descriptor, view) :]
        self.buffer = bytearray()

    def close(self) -> str:
        """The digest of the whole."""
        self._member("TRAILER!!!", 0, b"")
        self._pour()
        return self.digest.hexdigest()


def build(
    kernel: Kernel, confine: Path, program: Path, modules: Mapping[str, Path], look: Look
) -> tuple[int, str, int]:
    """A descriptor of the archive for one program, its SHA-256 and its size. Raises `Undecided` RUN-GUEST."""
    descriptor = os.memfd_create("initial", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    try:
        archive = Archive(descriptor)
        scripts = (HERE / "boot.py", HERE / "relay.py", confine)
        _fill(archive, kernel, scripts, (program, *modules.values()))
        _fill_python(archive, *look(_imports((program, *modules.values()))))
        digest = archive.close()
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor, digest, archive.size
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OSError | ValueError):
            raise Undecided(
                "RUN-GUEST",
                f"the guest's file system could not be made: {error}",
                fix="garrison doctor; serve it with --isolation gvisor or bwrap meanwhile",
            ) from error
        raise


def _fill(archive: Archive, kernel: Kernel, scripts: Sequence[Path], programs: Sequence[Path]) -> None:
    interpreter = os.path.realpath(sys.executable)
    archive.put("/init", stat.S_IFREG | 0o755, _started(interpreter))
    for name in ("proc", "sys", "dev", "tmp", "run", "model", "garrison/modules"):
        archive.put(name, stat.S_IFDIR | 0o755)
    archive.put("/dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    for path in kernel.drivers:
        name = path.name.partition(".ko")[0]
        archive.put(f"/garrison/modules/{name}.ko", stat.S_IFREG | 0o644, content(path))
    for path in scripts:
        archive.put(f"/garrison/{path.name}", stat.S_IFREG | 0o644, path.read_bytes())
    for path in (Path(interpreter), *programs):
        _put(archive, path)


def _fill_python(archive: Archive, loaded: Sequence[str], mapped: Sequence[str]) -> None:
    for path in _python(loaded):
        _put(archive, path)
    for library in {*map(Path, mapped), LOADER}:
        for path in _with_links(library):
            _put(archive, path)


def _started(interpreter: str) -> bytes:
    """The kernel hands one word on to an interpreter, so the options come in one."""
    return f"#!{interpreter} -ISB\nimport runpy\nrunpy.run_path('/garrison/boot.py', run_name='__main__')\n".encode()


def _imports(programs: Sequence[Path]) -> tuple[str, ...]:
    """The packages that these import, by their whole names; not our own."""
    found = set(ALWAYS)
    for path in programs:
        if not path.is_file():
            continue  # it will fail inside, as it does in every sandbox
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return tuple(sorted(name for name in found if not name.startswith(("garrison", "__future__"))))


def _python(loaded: Sequence[str]) -> Iterator[Path]:
    """The standard library, and each package that has a loaded module, whole."""
    standard = Path(sysconfig.get_path("stdlib"))
    yield from _files(standard)
    sites = [Path(path) for path in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}]
    for site in sites:
        inside = {Path(name).relative_to(site).parts[0] for name in loaded if Path(name).is_relative_to(site)}
        for top in sorted(inside):
            place = site / top
            yield from _files(place) if place.is_dir() else (place,)
            libraries = site / f"{top}.libs"
            yield from _files(libraries) if libraries.is_dir() else ()


def _files(root: Path) -> Iterator[Path]:
    for parent, directories, names in os.walk(root):
        directories[:] = sorted(name for name in directories if name not in LEFT_OUT)
        for name in sorted(names):
            if not name.endswith((".opt-1.pyc", ".opt-2.pyc", ".a", ".pyi", ".h", ".c")):
                yield Path(parent, name)


def _with_links(library: Path) -> Iterator[Path]:
    """A library, and the names in its directory under which it is looked for."""
    yield library
    real = os.path.realpath(library)
    for name in os.listdir(os.path.dirname(real)) if ".so" in library.name else ():
        place = Path(os.path.dirname(real), name)
        if ".so" in name and place.is_symlink() and os.path.realpath(place) == real:
            yield place


def _put(archive: Archive, path: Path) -> None:
    """A file at its own path, with the links that lead to it; what is neither file nor link is left out."""
    walked = Path("/")
    for part in path.parts[1:]:
        walked /= part
        if walked.is_symlink():
            target = os.readlink(walked)
            archive.put(str(walked), stat.S_IFLNK | 0o777, target.encode())
            rest = path.relative_to(walked)
            _put(archive, Path(os.path.normpath(walked.parent / target), rest))
            return
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    if stat.S_ISREG(status.st_mode):
        is_program = bool(status.st_mode & 0o111)
        mode = stat.S_IFREG | (0o755 if is_program else 0o644)
        # With its own time: compiled Python is only used beside a source of the same one.
        archive.put(str(path), mode, path.read_bytes(), int(status.st_mtime))
