"""The `garrison` command: parse, run one command, turn any failure into a sentence and a status."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

from garrison import __version__
from garrison.app.cli import (
    ask,
    audit,
    demo,
    deploy,
    doctor,
    explain,
    identity,
    inspect,
    model,
    output,
    posture,
    runtime,
    scan,
    up,
    verify,
)
from garrison.core.errors import GarrisonError, Usage

COMMANDS: tuple[ModuleType, ...] = (
    *(up, demo, scan, verify, inspect, ask, posture, doctor, explain),
    *(model, deploy, identity, audit, runtime),
)
_DEFECT_EXIT = 4
_INTERRUPTED_EXIT = 130  # 128 + SIGINT, as shells expect


class _Parser(argparse.ArgumentParser):
    """argparse whose complaint is one of our errors instead of an exit."""

    def error(self, message: str) -> Any:
        raise Usage("CLI-USAGE", message, fix=f"{self.prog} --help shows an example")


def build_parser() -> argparse.ArgumentParser:
    """The whole command tree. A verb alone works on files; a noun with a verb talks to the server."""
    parser = _Parser(
        prog="garrison",
        description="Nothing unverified loads. Nothing unauthenticated asks. Nothing secret leaves.",
        epilog="exit: 0 done or allowed, 1 refused, 2 usage, 3 cannot decide, 4 defect",
    )
    parser.add_argument("--version", action="version", version=f"garrison {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        _add(module, subparsers)
    _add_common(parser, {})
    for leaf in _leaves(subparsers):
        _add_common(leaf, {"default": argparse.SUPPRESS})
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Never lets a traceback reach a user by default."""
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words
    try:
        args = build_parser().parse_args(words)
        return int(args.run(args))
    except GarrisonError as error:
        output.print_error(error, as_json=as_json)
        return error.exit_status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _INTERRUPTED_EXIT
    except Exception as error:  # noqa: BLE001 - the process boundary: a defect ends in a sentence and status 4
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(frame.filename)}:{frame.lineno}"
        defect = GarrisonError(
            "INTERNAL",
            f"a defect in Garrison: {type(error).__name__} at {where}",
            fix="report it with the words above",
        )
        if os.environ.get("GARRISON_DEBUG"):
            traceback.print_exc()
        output.print_error(defect, as_json=as_json)
        return _DEFECT_EXIT


def _add(module: ModuleType, subparsers: Any) -> None:
    known = set(subparsers.choices)
    module.add(subparsers)
    run: Callable[[argparse.Namespace], int] | None = getattr(module, "run", None)
    for name in set(subparsers.choices) - known:
        for leaf in _leaves_of(subparsers.choices[name]):
            if leaf.get_default("run") is None and run is not None:
                leaf.set_defaults(run=run)


def _add_common(parser: argparse.ArgumentParser, extra: dict[str, Any]) -> None:
    """Options that every command takes, before or after its name; a command's own option of that name wins."""
    own = {option: action for action in parser._actions for option in action.option_strings}
    options: tuple[tuple[str, dict[str, Any]], ...] = (
        ("--json", {"action": "store_true", "help": "one JSON document on stdout"}),
        (
            "--data",
            {"metavar": "DIR", "help": "data directory (default: GARRISON_DATA, else ./garrison-data)"},
        ),
        (
            "--as",
            {
                "dest": "identity",
                "metavar": "IDENTITY",
                "help": "act as this identity (on the server's host)",
            },
        ),
        ("--token-file", {"metavar": "FILE", "help": "file with the access token that says who asks"}),
    )
    for option, settings in options:
        if option not in own:
            parser.add_argument(option, **settings, **extra)
        elif option in ("--json", "--data") and extra:
            own[option].default = argparse.SUPPRESS


def _leaves(subparsers: Any) -> Iterator[argparse.ArgumentParser]:
    for parser in {id(choice): choice for choice in subparsers.choices.values()}.values():
        yield from _leaves_of(parser)


def _leaves_of(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield parser
    for group in groups:
        yield from _leaves(group)


if __name__ == "__main__":
    sys.exit(main())
