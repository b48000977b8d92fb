"""Pickle, whatever the file is called: every stream is run symbolically and judged by an exact allow-list.

Nothing is unpickled. A stream that breaks after it has imported or called something is judged by what it
did before: real unpickling would have done that too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from garrison.artifacts.scanners.base import FIX_CODE, Fact, Gap, Inner, Seen, Source, critical, high, shown
from garrison.artifacts.scanners.pickle_arrays import (
    TORCH_MAGIC,
    Twofold,
    Unsized,
    is_joblib_array,
    legacy_storages,
    skip_joblib_array,
)
from garrison.artifacts.scanners.pickle_machine import EMBEDDED, Broken, Machine
from garrison.artifacts.scanners.pickle_opcodes import is_opcode, run
from garrison.artifacts.scanners.pickle_values import Made
from garrison.artifacts.scanners.sources import Reader, Window, all_zero
from garrison.artifacts.scanners.torch_tensors import tensor_findings

TRIAL_OPCODES = 2_000  # whoever gets this far without an error is a pickle
MAX_STREAMS = 1_000
SEARCHED = 1 << 20  # bytes behind a pickle that are searched for another one
MAX_HIDDEN = 8
PLAIN_OPCODES = 2_000  # the bytes of an array are never this many opcodes by chance
# Modules of the standard library that reach out of the interpreter, as far as an import alone tells.
_REACHES = frozenset(
    """
    asyncio atexit bdb builtins cProfile cgitb code codeop compileall concurrent ctypes dbm distutils doctest
    ensurepip fileinput ftplib getopt glob http idlelib imaplib imp importlib inspect io lib2to3 linecache logging
    marshal multiprocessing nntplib nt operator os pathlib pdb pickle pip pipes pkgutil platform poplib posix
    profile pty py_compile pyclbr pydoc runpy sched shelve shutil signal site smtplib socket socketserver sqlite3
    ssl subprocess sys tarfile telnetlib tempfile test threading timeit tkinter trace traceback types unittest
    urllib uu venv webbrowser wsgiref xml xmlrpc zipapp zipfile zipimport _io _posixsubprocess _pickle
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
SAVE_AGAIN = "save the model again, with one pickle stream, or as safetensors"

_COMPUTED = "calls a computed value"
_RULES = {
    "call": ("artifact.pickle.call", "unpickling would call "),
    "import": ("artifact.pickle.import", ""),
    "build": ("artifact.pickle.build", "unpickling "),
    "array": ("artifact.pickle.array", ""),
    "bomb": ("artifact.pickle.bomb", ""),
}


@dataclass(frozen=True, slots=True)
class Pickle:
    """`compiled`: the pickle of a TorchScript archive, whose `__torch__` classes stand beside it as source."""

    format: str = "pickle"
    compiled: bool = False

    def recognises(self, head: bytes, source: Source) -> bool:
        """A pickle is what an unpickler would get somewhere with; protocols 0 and 1 have no magic number."""
        if self.compiled or not head or head[0] not in _FIRST:
            return False
        machine = Machine(Reader(source), trial=True)
        reason = run(machine, TRIAL_OPCODES)
        # A call or a stop is a pickle; so is whatever has a protocol header, cut or damaged as it may be.
        if machine.called or machine.stopped or machine.opcodes >= TRIAL_OPCODES or not reason:
            return True
        return head[0] == 0x80 and len(head) > 1 and head[1] <= 5

    def scan(self, source: Source) -> Iterator[Seen]:
        reader = Reader(source)
        finished: list[Machine] = []
        while len(finished) < MAX_STREAMS:
            machine = Machine(reader)
            machine.after_build = _after_build
            reason = run(machine)
            yield from _judge(machine, self.compiled)
            if machine.odd:
                yield Gap("artifact.pickle.broken", f"readers disagree {machine.odd}", fix=SAVE_AGAIN)
            if reason:
                message = f"the pickle cannot be read to its end: {reason}"
                yield Gap("artifact.pickle.broken", message, fix=SAVE_AGAIN)
                if reader.left:
                    yield _rest(source, reader.offset)
                return
            finished.append(machine)
            if len(finished) == 5 and finished[0].result == TORCH_MAGIC:
                yield from legacy_storages(reader, finished[3], finished[4].result)
                if reader.left:
                    yield Gap(
                        "artifact.pickle.trailing", f"{reader.left} bytes follow the storages", fix=SAVE_AGAIN
                    )
                    yield _rest(source, reader.offset)
                return
            if not reader.left or all_zero(source, reader.offset, source.size):
                return
            rest = _rest(source, reader.offset)
            if not Pickle().recognises(rest.source.read_at(0, 2), rest.source):
                message = f"{reader.left} bytes follow the pickle and are not one"
                yield Gap("artifact.pickle.trailing", message, fix=SAVE_AGAIN)
                yield rest
                yield from _hidden(source, reader.offset)
                return
        yield Gap(
            "artifact.limit.count", f"more than {MAX_STREAMS} pickle streams in one file", fix=SAVE_AGAIN
        )


_FIRST = frozenset(b"\x80(]}).NIJKMLFGSTUVXcBCgh012lditpqr\x88\x89\x8a\x8c\x8d\x8e\x8f\x95\x96P")


def _after_build(machine: Machine, made: Made) -> None:
    if is_joblib_array(made):
        _read_plainly(machine)
        try:
            skip_joblib_array(machine, made)
        except Unsized as error:
            if isinstance(error, Twofold):
                machine.fault("array", str(error))
            raise Broken(str(error)) from error


def _read_plainly(machine: Machine) -> None:
    """What `pickle.load` would do here: it does not know joblib's arrays and reads their bytes as opcodes."""
    start = machine.reader.offset
    if not is_opcode(machine.reader.source.read_at(start, 1)):
        return  # joblib writes how many bytes of padding follow, and no opcode is as small as that
    plain = machine.fork(Reader(machine.reader.source, start))
    run(plain, PLAIN_OPCODES)
    for rule, message in plain.faults:
        if message.split(".")[0] in _REACHES:  # an array of objects, read with the wrong memo, makes up names
            machine.fault(rule, message)


def _judge(machine: Machine, has_source: bool) -> Iterator[Seen]:
    called = " ".join(message for rule, message in machine.faults if rule == "call")
    for rule, message in dict.fromkeys(machine.faults):
        if rule == "limit":
            yield Gap("artifact.limit.count", message)
        elif (
            rule == "extension"
        ):  # not critical: raw weights that look like a pickle hold such an opcode at times
            yield high("artifact.pickle.extension", f"unpickling {message}", fix=FIX_CODE)
        elif rule == "call" and not machine.imports and message.startswith(_COMPUTED):
            # Nothing was imported, so whatever it calls is plain data, and calling that fails.
            yield Gap("artifact.pickle.broken", f"unpickling would fail: it {message}", fix=SAVE_AGAIN)
        elif not (rule == "call" and message.startswith("__torch__.")):  # compiled classes: the gap below
            rule_id, prefix = _RULES[rule]
            prefix = "unpickling " if message.startswith(("calls ", "hands ")) else prefix
            yield critical(rule_id, prefix + message, f"byte {machine.start}" if machine.start else "")
    compiled = False
    for item in machine.imports:
        dotted = f"{item.module}.{item.name}"
        yield Fact("global", dotted)
        if item.ok or shown(dotted, 120) in called:
            continue
        if item.module.split(".")[0] == "__torch__":
            compiled = True
        else:
            message = f"unpickling would import {shown(dotted, 120)}, which is not on the allow-list"
            yield critical("artifact.pickle.import", message)
    if compiled and not has_source:
        yield Gap("artifact.torchscript.code", "a TorchScript program, which is not judged")
    yield from tensor_findings(machine)
    yield from machine.inner


def _hidden(source: Source, offset: int) -> Iterator[Inner]:
    """Pickles further back in bytes that follow one: a loader that seeks past the padding finds them."""
    window = source.read_at(offset, SEARCHED)
    for match in islice(EMBEDDED.finditer(window, 1), MAX_HIDDEN):
        yield _rest(source, offset + match.start())


def _rest(source: Source, offset: int) -> Inner:
    name = f"from byte {offset}"
    return Inner(name, Window(name, source, offset, source.size - offset), guess=True)
