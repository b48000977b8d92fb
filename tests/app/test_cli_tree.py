"""Every command of the tree: its help, its examples, its complaints, and the names on the first screen."""

from __future__ import annotations

import json
import shlex

import pytest

from garrison.app.cli import commands
from garrison.app.cli.main import build_parser, main
from garrison.app.cli.parser import Parser, leaves, split_epilog
from garrison.core.errors import Usage

TREE = build_parser()
LEAVES = {leaf.prog.removeprefix("garrison "): leaf for leaf in leaves(TREE) if isinstance(leaf, Parser)}
GROUPS = sorted({name.split()[0] for name in LEAVES if " " in name})


def _examples(leaf: Parser) -> list[list[str]]:
    text = split_epilog(leaf.epilog or "")[0].replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if "garrison " in line]
    return [shlex.split(line.split(" < ")[0].split(" > ")[0].rpartition("| ")[2])[1:] for line in lines]


def test_the_first_screen_lists_every_command_and_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {name.split()[0] for name in LEAVES} == set(commands.names())
    assert [name for name in commands.names() if not any(f"  {name} " in line for line in lines)] == []
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 40


@pytest.mark.parametrize("name", [*LEAVES, *GROUPS])
def test_help_begins_with_an_example_and_fits_eighty_columns(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*name.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("example")
    assert "garrison " in lines[1]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", LEAVES)
def test_the_examples_are_commands_that_parse(name: str) -> None:
    examples = _examples(LEAVES[name])
    assert examples
    for words in examples:
        args = build_parser().parse_args(words)
        assert callable(args.run), words


@pytest.mark.parametrize("name", LEAVES)
def test_every_argument_says_what_it_is(name: str) -> None:
    assert [action.dest for action in LEAVES[name]._actions if not action.help] == []
    assert LEAVES[name].description


@pytest.mark.parametrize("name", [*LEAVES, ""])
def test_an_unknown_option_is_a_usage_error_in_both_forms(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*_example(name), "--frobnicate"]
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("USAGE  CLI-USAGE  ")
    assert "--frobnicate" in said.err.replace("\n ", "")
    assert main([*words, "--json"]) == 2
    said = capsys.readouterr()
    assert said.err == ""
    assert json.loads(said.out)["error"]["code"] == "CLI-USAGE"


def _example(name: str) -> list[str]:
    """The first example of a command, without the options that every command takes."""
    words = iter(_examples(LEAVES[name])[0] if name else [])
    return [word for word in words if word != "--json" and not (word == "--data" and next(words))]


@pytest.mark.parametrize("name", LEAVES)
def test_the_common_options_work_before_and_after(name: str) -> None:
    words = _example(name)
    before = build_parser().parse_args(["--json", "--data", "D", "--as", "dana", "--token-file", "T", *words])
    assert (before.json, before.data, before.token_file) == (True, "D", "T")
    assert before.identity == "dana"
    own = {option: action for action in LEAVES[name]._actions for option in action.option_strings}
    after = build_parser().parse_args([*words, "--json", "--data", "D", "--token-file", "T"])
    assert (after.json, after.data, after.token_file) == (True, "D", "T")
    if own["--as"].dest == "identity":
        assert build_parser().parse_args([*words, "--as", "dana"]).identity == "dana"
    else:
        assert "--as before the command is who asks" in str(own["--as"].help)


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_without_a_verb_is_a_usage_error(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name]) == 2
    assert "CLI-USAGE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ([], "garrison --help"),
        (["scna", "x"], "garrison scan"),
        (["scan", "x", "--jsno"], "--json"),
        (["scan", "x", "--js"], "--json"),
        (["--dta", "x", "scan"], "--data"),
        (["model", "lsit"], "garrison model --help"),
    ],
)
def test_a_slip_is_met_with_the_right_word(
    words: list[str], advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert advice in capsys.readouterr().err


def test_an_abbreviated_option_is_refused_not_guessed() -> None:
    with pytest.raises(Usage):
        build_parser().parse_args(["scan", "x", "--jso"])


def test_json_after_two_dashes_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--", "--json"]) == 2
    assert capsys.readouterr().err.startswith("USAGE  CODE-UNKNOWN")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_few_lines_that_ask_the_command(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    assert "garrison --complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["sc"], ["scan", "schedule"]),
        (["--data", "model", "mod"], ["model"]),
        (["deploy", ""], ["apply", "rollback", "status", "stop"]),
        (["deploy", "r"], ["rollback"]),
        (["model", "publish", "DIR", "--ti"], ["--tier"]),
        (["model", "publish", "DIR", "--tier", "p"], ["personal", "public"]),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["scan", "--to"], ["--token-file"]),
        (["scan", ""], []),
        (["nothing", ""], []),
        (["--to"], ["--token-file"]),
    ],
)
def test_completion_offers_what_may_follow(
    words: list[str], found: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--complete", *words]) == 0
    assert capsys.readouterr().out.split() == found
