"""The scanner protocol: recognise a file by its content, then say what is in it. Never run, load or write.

A scanner is two functions over a `Source` (bounded random access to one file's bytes). It yields

    Finding   something is wrong (medium and above refuses the file) or worth saying (info, low);
    Gap       a part could not be read or understood: the file can at best be `incomplete`;
    Inner     bytes inside this file that have to be judged by themselves (an archive member, a chat
              template in a header, a pickle behind an array header);
    Reference another file of the directory that this one reads as raw data;
    Fact      something that is there and is neither good nor bad: a global, an operator, a layer.
              Facts judge nothing; they answer "which of our models use this?" later.

Scanners do not know one another: `judge.py` hands every `Inner` to the scanners that recognise it, so
a pickle in a tar in a gzip is found without any of the three formats knowing of the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from garrison.core.finding import Finding, Severity

HEAD = 4096  # enough for every magic number we know, a tar header and the first words of a text


class Source(Protocol):
    """One file's bytes. `name` is its relative POSIX path, a hint that may break a tie and never decides."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    def read_at(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`; fewer only at the end. Never raises for a range past it."""
        ...


@dataclass(frozen=True, slots=True)
class Gap:
    """Not understood, over a limit, encrypted, damaged: `incomplete`, with the reason and what to do."""

    rule_id: str
    message: str
    where: str = ""
    fix: str = ""

    def as_finding(self) -> Finding:
        return Finding(self.rule_id, Severity.LOW, self.message, self.where, self.fix)


@dataclass(frozen=True, slots=True)
class Inner:
    """A part to be judged by itself, reported as `outer!name` (or `outer<glue>name`).

    `guess` marks bytes that only might be a file (a bytes constant in a pickle): what is found in them
    refuses, but not understanding them is not a gap, since nothing claimed that they are a file.
    `kind` names a format that the outer one fixes (`jinja` for a template); empty means by content.
    """

    name: str
    source: Source
    guess: bool = False
    kind: str = ""
    glue: str = "!"


@dataclass(frozen=True, slots=True)
class Reference:
    """Another file that this one reads as raw data: a path beside it, and how many bytes it must have.

    A file that no scanner recognises and that another refers to is understood: it is that one's data.
    """

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Fact:
    """What is there, for the feature index: `kind` such as `global` or `operator`, and a short `value`."""

    kind: str
    value: str


Seen = Finding | Gap | Inner | Reference | Fact


class Scanner(Protocol):
    """One format. Stateless; the same object serves every file."""

    @property
    def format(self) -> str: ...

    def recognises(self, head: bytes, source: Source) -> bool:
        """Whether these bytes are, or claim to be, this format. `head` is the first `HEAD` bytes."""
        ...

    def scan(self, source: Source) -> Iterator[Seen]:
        """Read the whole structure; every length, offset and count is checked against the file before use.

        Yielding nothing means: every byte was accounted for and nothing is wrong. `Malformed` ends the
        scan as one refusal; whatever else it raises becomes a `Gap`.
        """
        ...


class Later(BaseException):
    """This process lacks a library that it needs here and that is loaded on demand; a process that reads
    untrusted files can open none, so its parent starts it again with it. Not an `Exception`: no verdict comes of it."""


class Malformed(Exception):
    """The structure contradicts itself or its specification, so two readers may see two files."""

    def __init__(self, rule_id: str, message: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(message)
        self.finding = Finding(rule_id, Severity.HIGH, message, where, fix or FIX_STRUCTURE)


FIX_STRUCTURE = "get the file again from its author; a file that is written like this is not loaded"
FIX_CODE = "ask the author for the weights as safetensors, which cannot carry code"


def high(rule_id: str, message: str, where: str = "", fix: str = FIX_STRUCTURE) -> Finding:
    return Finding(rule_id, Severity.HIGH, message, where, fix)


def critical(rule_id: str, message: str, where: str = "", fix: str = FIX_CODE) -> Finding:
    return Finding(rule_id, Severity.CRITICAL, message, where, fix)


def shown(value: object, limit: int = 80) -> str:
    """A value from an untrusted file as one short printable ASCII line."""
    text = value if isinstance(value, str) else repr(value)
    text = text[: limit * 2].encode("unicode_escape").decode("ascii")
    return text if len(text) <= limit else text[: limit - 3] + "..."
