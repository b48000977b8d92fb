"""What a sandbox promises, and the order that describes one server to be started in it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from garrison.confine.profiles import Profile

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Availability:
    """Can this level run here? `missing` says what it lacks, one sentence each; `notes` what to know."""

    level: str
    ok: bool
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server may use. `memory` bounds address space in bytes, so it includes the model itself."""

    memory: int = 1024 * MIB
    threads: int = 64  # per uid; a model server has about a dozen
    open_files: int = 256
    file_size: int = 64 * MIB  # of one file written; only /tmp takes any
    temporary: int = 64 * MIB  # all of /tmp
    cpus: float = 2.0  # processors' worth of time, where a cgroup can bound it


@dataclass(frozen=True, slots=True)
class Launch:
    """One server to start. `program` is a single Python file that runs with `settings` (JSON) and `files`.

    `files` are open descriptors by name; the program finds their numbers in its settings under `files`.
    `modules` are files beside the program that it imports, by their full names, in the order of their needs.
    `tree` are descriptors by relative path: files that have to stand beside one another, shown read-only
    below `/model` from a private copy that the launch makes.
    `socket_directory` exists, is 0700 and belongs to `uid`: the only place the program may write.
    `output` receives what the program prints. `uid` 0 is refused (ISO-ROOT).

    A declared command (`runtime/declared.py`, level bwrap alone) is executed in the program's place: `command` are its
    words, `shows` the host's directories that hold it, `devices` what it computes with, `variables` its environment.
    `profile` is the system call filter's, by the program's name where there is none.
    `digests` are the verified ones of `files` and `tree`, SHA-256 by descriptor, for a level that copies and checks.
    `facts` is filled by `launch`: what of these walls belongs into the event, such as digests.
    """

    name: str
    program: Path
    socket_directory: Path
    uid: int
    output: int
    settings: Mapping[str, object] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    compute_threads: int = 1
    tree: Mapping[str, int] = field(default_factory=dict)
    modules: Mapping[str, Path] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    shows: tuple[Path, ...] = ()
    devices: tuple[Path, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    profile: Profile | None = None
    facts: dict[str, str] = field(default_factory=dict)
    digests: Mapping[int, str] = field(default_factory=dict)


@runtime_checkable
class Prepares(Protocol):
    """A level whose start has parts that take seconds; they are done in a thread, before `launch`."""

    def prepare(self, order: Launch) -> None: ...


class Sandbox(Protocol):
    """One level of isolation."""

    @property
    def level(self) -> str: ...

    @property
    def forwards_signals(self) -> bool:
        """Whether the started process passes SIGTERM on to the server; else it goes to the innermost one."""
        ...

    def available(self) -> Availability:
        """Looks, starts nothing that stays."""
        ...

    def launch(self, order: Launch) -> subprocess.Popen[bytes]:
        """Start it. The process dies with the calling thread's process, by the kernel's hand.

        Raises `Refused` ISO-ROOT for uid 0 and `Undecided` ISO-UNAVAILABLE when the level cannot be had here.
        """
        ...
