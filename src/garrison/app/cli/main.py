"""The `garrison` command: parse, run one command, turn any failure into a sentence and a status."""

from __future__ import annotations

import argparse
import difflib
import errno
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from garrison import __version__
from garrison.app.cli import commands, completion, output
from garrison.app.cli.parser import COMMON, TAKES_VALUE, Parser, describe, leaves, unknown
from garrison.core.errors import GarrisonError, Undecided, Usage

_INTERRUPTED_EXIT = 130  # 128 + SIGINT, as shells expect
_PIPE_EXIT = 141  # 128 + SIGPIPE: who closed the pipe did not see the answer, so it is not 0
_ENDS_HERE = frozenset({"-h", "--help", "--version"})


class _Root(Parser):
    """`garrison` itself: its help is the screen with both lists of commands."""

    def format_help(self) -> str:
        return commands.screen()


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The tree of one command and its siblings in the same module; without a name, the whole tree.

    Raises ModuleNotFoundError when a module on the way is of an extra that is not installed.
    """
    parser = _root()
    subparsers = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=Parser, title="commands"
    )
    modules = [commands.load(name) for name in (commands.names() if command is None else (command,))]
    for module in dict.fromkeys(modules):
        _add(module, subparsers)
    describe(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Never lets a traceback reach a user by default."""
    _open_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words[: words.index("--") if "--" in words else None]
    try:
        status = _run(words, is_process=argv is None)
        sys.stdout.flush()
    except SystemExit as end:  # --help and --version end this way
        return _flushed(int(end.code or 0))
    except GarrisonError as error:
        return _fail(error, as_json=as_json)
    except BrokenPipeError:
        return _without_stdout(_PIPE_EXIT)
    except KeyboardInterrupt:
        return _without_stdout(_INTERRUPTED_EXIT)
    except Exception as error:  # noqa: BLE001 - the process boundary: a defect ends in a sentence and status 4
        if os.environ.get("GARRISON_DEBUG"):
            traceback.print_exc()
        return _fail(_explained(error), as_json=as_json)
    return status


def _open_streams() -> None:
    """A stream that was closed goes nowhere; what an encoding cannot say is escaped, as on standard error."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - open as long as the process lives
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(words: list[str], *, is_process: bool) -> int:
    """`is_process`: this process is the command and nothing else, so that it may do as it likes with itself."""
    if words[:1] == ["--complete"]:
        return _complete(words[1:])
    command = _command(words)
    if command is None:
        if not _ENDS_HERE.intersection(words):
            raise Usage("CLI-USAGE", "no command was given", fix="garrison --help lists the commands")
        _root().parse_args(words)
    args, rest = build_parser(command).parse_known_args(words)
    if rest:
        raise unknown(args.parser, rest[0])
    args.is_process = is_process
    return int(args.run(args))


def _root() -> _Root:
    parser = _Root(prog="garrison", description=commands.PROMISE, epilog=commands.EXITS)
    parser.add_argument("--version", action="version", version=f"garrison {__version__}")
    for option, settings in COMMON:
        parser.add_argument(option, **settings)
    return parser


def _command(words: Sequence[str]) -> str | None:
    """The first word that is neither an option of every command nor its value. Raises `Usage` CLI-USAGE."""
    rest = iter(words)
    for word in rest:
        if word in TAKES_VALUE:
            next(rest, None)
        elif not word.startswith("-"):
            if word not in commands.names():
                near = difflib.get_close_matches(word, commands.names(), n=1)
                fix = f"did you mean garrison {near[0]}?" if near else "garrison --help lists the commands"
                raise Usage("CLI-USAGE", f"there is no command {word!r}", fix=fix)
            return word
        elif word in _ENDS_HERE:
            return None
        elif word.partition("=")[0] not in dict(COMMON):
            raise unknown(_root(), word)
    return None


def _complete(words: Sequence[str]) -> int:
    """What may follow the words of a command line; the last word is the one being typed."""
    try:
        command = _command(words[:-1])
        parser = _root() if command is None else build_parser(command)
    except (Usage, ModuleNotFoundError):
        return 0
    for candidate in completion.candidates(parser, commands.names(), words):
        output.print_line(candidate)
    return 0


def _add(module: ModuleType, subparsers: Any) -> None:
    known = set(subparsers.choices)
    module.add(subparsers)
    run: Callable[[argparse.Namespace], int] | None = getattr(module, "run", None)
    for name in subparsers.choices.keys() - known:
        for leaf in leaves(subparsers.choices[name]):
            if leaf.get_default("run") is None and run is not None:
                leaf.set_defaults(run=run)
            leaf.set_defaults(parser=leaf)
            leaf.add_common()


def _explained(error: Exception) -> GarrisonError:
    """What an exception that no command expected means to the person who typed it."""
    if isinstance(error, ModuleNotFoundError) and (extra := _extra_of(error.name or "")):
        return Undecided(
            "SRV-EXTRA",
            f"this command needs {error.name}, which is not in the core install",
            fix=f"pip install 'garrison[{extra}]'",
            evidence={"extra": extra},
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Undecided(
            "DISK-FULL", f"cannot write the result: {error.strerror}", fix="make room, try again"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return Undecided(
            "HOST-IO",
            f"the system refused {error.filename or 'a file or a connection'}: {error.strerror}",
            fix="see what the system's log says about that path or limit, then try again",
        )
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(frame.filename)}:{frame.lineno}"
    return GarrisonError(
        "INTERNAL",
        f"a defect in Garrison: {type(error).__name__} at {where}",
        fix="report it with the words above",
    )


def _extra_of(module: str) -> str | None:
    """The extra that brings a missing module, by this package's own metadata."""
    import importlib.metadata  # 12 ms, and wanted on this failure alone

    wanted = module.partition(".")[0].lower()
    try:
        requirements = importlib.metadata.requires("garrison") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for requirement in requirements:
        match = re.match(r"([A-Za-z0-9._-]+).*\bextra == ['\"]([a-z0-9-]+)['\"]", requirement)
        if match and match[1].lower().replace("-", "_") == wanted and match[2] not in ("all", "dev"):
            return match[2]
    return None


def _fail(error: GarrisonError, *, as_json: bool) -> int:
    try:
        output.print_error(error, as_json=as_json)
    except OSError:  # nowhere to say it; the status still tells
        return _without_stdout(error.exit_status)
    return _flushed(error.exit_status)


def _flushed(status: int) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        return _without_stdout(status)
    return status


def _without_stdout(status: int) -> int:
    """Let the interpreter's last flush go nowhere, so that it has nothing to complain about."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


if __name__ == "__main__":
    sys.exit(main())
