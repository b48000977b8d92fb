"""`garrison completion SHELL`: a few lines that let a shell ask `garrison --complete` what may follow."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from garrison.app.cli import output
from garrison.app.cli.parser import TAKES_VALUE

SCRIPTS = {
    "bash": """\
_garrison() {
    local IFS=$'\\n'
    COMPREPLY=( $(garrison --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null) )
}
complete -o default -F _garrison garrison
""",
    "zsh": """\
_garrison() {
    local -a found
    found=( ${(f)"$(garrison --complete "${(@)words[2,CURRENT]}" 2>/dev/null)"} )
    if (( $#found )); then compadd -a found; else _files; fi
}
compdef _garrison garrison
""",
    "fish": """\
complete -c garrison -a '(garrison --complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
""",
}


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "completion",
        help="print the lines that let a shell complete commands",
        epilog="""\
examples:
  garrison completion bash > ~/.local/share/bash-completion/completions/garrison
  garrison completion fish > ~/.config/fish/completions/garrison.fish

For zsh, put eval "$(garrison completion zsh)" after compinit into ~/.zshrc.""",
    )
    parser.add_argument("shell", choices=tuple(SCRIPTS), help="the shell that will read the lines")


def run(args: argparse.Namespace) -> int:
    if args.json:
        output.print_json({"shell": args.shell, "script": SCRIPTS[args.shell]})
    else:
        output.print_line(SCRIPTS[args.shell].rstrip())
    return 0


def candidates(parser: argparse.ArgumentParser, names: Iterable[str], words: Sequence[str]) -> list[str]:
    """What may stand in place of the last word: commands and verbs, options, or the choices of an option.

    `parser` is the tree of the command that the words name, or the root when they name none yet.
    """
    *typed, last = words or [""]
    here, expecting = parser, None
    for word in typed:
        expecting = None
        verbs = _verbs(here)
        option = here._option_string_actions.get(word)
        if word in verbs:
            here = verbs[word]
        elif word in TAKES_VALUE or (option is not None and option.nargs != 0):
            expecting = option
    if expecting is not None:
        found = [str(choice) for choice in expecting.choices or ()]
    elif last.startswith("-"):
        found = [option for option in here._option_string_actions if option.startswith("--")]
    elif here is parser:
        found = list(names)
    else:
        choices = [action.choices for action in here._actions if action.choices and not action.option_strings]
        found = [*_verbs(here), *(str(choice) for choice in choices[0] or ())] if choices else []
    return sorted(dict.fromkeys(word for word in found if word.startswith(last)))


def _verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}
