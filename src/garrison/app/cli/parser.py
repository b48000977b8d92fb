"""The parser of every command: complaints are our errors, help is an example first and fits 80 columns."""

from __future__ import annotations

import argparse
import difflib
import shlex
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from garrison.app.cli.output import WIDTH
from garrison.core.errors import Usage

MANY = 36  # columns that the choices of an option may take in a usage line
COMMON_TITLE = "everywhere, before or after the command"
COMMON: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--json", {"action": "store_true", "help": "one JSON document on stdout"}),
    ("--data", {"metavar": "DIR", "help": "data directory (default: GARRISON_DATA, else ./garrison-data)"}),
    (
        "--as",
        {"dest": "identity", "metavar": "IDENTITY", "help": "act as this identity (on the server's host)"},
    ),
    ("--token-file", {"metavar": "FILE", "help": "file with the access token that says who asks"}),
)
TAKES_VALUE = frozenset(option for option, settings in COMMON if "metavar" in settings)


class Layout(argparse.HelpFormatter):
    """Always 79 columns: the same page on every terminal and in the reference."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=WIDTH)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _metavar_formatter(
        self, action: argparse.Action, default_metavar: str
    ) -> Callable[[int], tuple[str, ...]]:
        """Many choices stand in the help text, not in the usage, where they could not be broken."""
        if not _has_many_choices(action):
            return super()._metavar_formatter(action, default_metavar)
        return lambda size: (default_metavar,) * size

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if not _has_many_choices(action):
            return action.help
        choices = ", ".join(str(choice) for choice in action.choices or ())
        return f"{action.help}: {choices}" if action.help else choices


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `Usage` CLI-USAGE and never guesses an abbreviated option."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**(settings | {"formatter_class": Layout, "allow_abbrev": False}))
        self._positionals.title = "arguments"

    def error(self, message: str) -> NoReturn:
        raise Usage("CLI-USAGE", message, fix=f"{self.prog} --help shows an example")

    def format_help(self) -> str:
        """The example, what the command does, its options, and what else there is to say."""
        layout = self._get_formatter()
        common = {action for group in self._common() for action in group._group_actions}
        layout.add_usage(
            self.usage,
            [action for action in self._actions if action not in common],
            self._mutually_exclusive_groups,
        )
        for group in self._action_groups:
            layout.start_section(group.title)
            layout.add_arguments(group._group_actions)
            layout.end_section()
        example, rest = split_epilog(self.epilog or first_example(self))
        parts = [example, _filled(self.description or ""), layout.format_help().rstrip(), rest]
        return "\n\n".join(part for part in parts if part) + "\n"

    def add_common(self) -> None:
        """Options that every command takes; a command's own option of that name wins after its name."""
        own = {option: action for action in self._actions for option in action.option_strings}
        group = self.add_argument_group(COMMON_TITLE)
        for option, settings in COMMON:
            if option not in own:
                group.add_argument(option, **settings, default=argparse.SUPPRESS)
            elif own[option].dest == settings.get("dest", option.lstrip("-").replace("-", "_")):
                own[option].default = argparse.SUPPRESS
            else:
                own[option].help = f"{own[option].help}; {option} before the command is who asks"

    def _common(self) -> Iterator[Any]:
        return (group for group in self._action_groups if group.title == COMMON_TITLE)


def leaves(parser: Parser) -> Iterator[Parser]:
    """The parsers below one that have no verbs of their own; each once."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield parser
    for group in groups:
        for child in {id(choice): choice for choice in group.choices.values()}.values():
            yield from leaves(child)


def describe(action: Any) -> None:
    """Give every command below the line of help that its group shows for it, where it has no description."""
    for choice in action._choices_actions:
        child = action.choices[choice.dest]
        if child.description is None and choice.help:
            child.description = choice.help[0].upper() + choice.help[1:] + "."
    for child in action.choices.values():
        for inner in child._actions:
            if isinstance(inner, argparse._SubParsersAction):
                describe(inner)


def first_example(parser: Parser) -> str:
    """A group shows the example of its first verb that has one."""
    for leaf in leaves(parser):
        if leaf.epilog:
            return split_epilog(leaf.epilog)[0]
    return ""


def split_epilog(epilog: str) -> tuple[str, str]:
    """The examples of an epilog, one a line and continued with backslashes, and the rest of its text."""
    examples, rest = [], []
    for paragraph in epilog.strip("\n").split("\n\n"):
        if not paragraph.startswith("example"):
            rest.append(_filled(paragraph))
            continue
        title, _, text = paragraph.partition(":")
        lines = [_continued(line.strip()) for line in text.replace("\\\n", " ").splitlines() if line.strip()]
        examples.append("\n".join([f"{title}:", *lines]))
    return "\n\n".join(examples), "\n\n".join(rest)


def unknown(parser: argparse.ArgumentParser, word: str) -> Usage:
    """The complaint about a word that a command does not take, with the option that was perhaps meant."""
    options = [option for action in parser._actions for option in action.option_strings]
    near = difflib.get_close_matches(word.partition("=")[0], options, n=1) if word.startswith("-") else []
    kind = "option" if word.startswith("-") else "argument"
    fix = f"did you mean {near[0]}? " if near else ""
    return Usage(
        "CLI-USAGE",
        f"{parser.prog} takes no {kind} {word}",
        fix=f"{fix}{parser.prog} --help shows an example",
    )


def _units(words: list[str]) -> Iterator[str]:
    """Words that stay on one line: an option together with its value."""
    rest = [*words, "--"]
    while len(rest) > 1:
        word = rest.pop(0)
        yield f"{word} {rest.pop(0)}" if word.startswith("--") and not rest[0].startswith("-") else word


def _has_many_choices(action: argparse.Action) -> bool:
    is_list = action.choices is not None and not isinstance(action, argparse._SubParsersAction)
    return (
        is_list and action.metavar is None and sum(len(str(one)) + 1 for one in action.choices or ()) > MANY
    )


def _filled(text: str) -> str:
    if "\n" in text:
        return text
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _continued(command: str) -> str:
    """One command, indented; a long one goes on after a backslash, never inside a quoted word."""
    if len(command) + 2 <= WIDTH:
        return f"  {command}"
    lines, line = [], " "
    for word in _units(shlex.split(command, posix=False)):
        if len(line) + 1 + len(word) + 2 > WIDTH:
            lines.append(line + " \\")
            line = "     "
        line += f" {word}"
    return "\n".join([*lines, line])
