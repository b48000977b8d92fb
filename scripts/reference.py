"""Writes docs/reference/ from the code: actions, refusal codes, rules of the scanner, commands and settings.

python scripts/reference.py          write the pages
python scripts/reference.py --check  exit 1 when a page is not what it would be written as
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from garrison.app.cli.main import build_parser
from garrison.app.settings import Settings
from garrison.artifacts.other_rules import OTHER_RULES
from garrison.artifacts.scanners import SCANNERS
from garrison.artifacts.scanners.judge import judge
from garrison.artifacts.scanners.rules import RULES as SCANNER_RULES
from garrison.artifacts.scanners.sources import BytesSource
from garrison.core.actions import DESCRIPTIONS
from garrison.core.codes import CODES
from garrison.trust.roles import FOR, ROLES, roles_that_may

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "reference"
RULES = {**SCANNER_RULES, **OTHER_RULES}
NOTE = "Written by `make docs` from the code; a test fails when it is out of date."
PREFIXES = {
    "ANO": "Anomalies",
    "APP": "Approvals",
    "ART": "Artifacts and the registry",
    "AUD": "The ledger",
    "CODE": "Refusal codes",
    "CTL": "The control socket",
    "DATA": "The data directory",
    "DB": "The database",
    "DISK": "The disk",
    "DLP": "Data loss prevention",
    "GATE": "Gates",
    "GOV": "Governance",
    "GW": "The gateway",
    "HTTP": "HTTP",
    "ID": "Identities",
    "IMG": "Container images and OCI registries",
    "ISO": "Isolation",
    "KEY": "Keys",
    "LIM": "Limits",
    "OBJ": "Stored objects",
    "PRM": "Prompts",
    "RBAC": "Roles and rights",
    "REF": "Names of versions",
    "RUN": "Running models",
    "SCAN": "Scanning",
    "SCHED": "Periodic jobs",
    "SET": "Settings",
    "SIG": "Signatures",
    "SRV": "The server",
    "TOK": "Access tokens",
    "TOKEN": "The PKCS#11 token",
}


def main(arguments: list[str]) -> int:
    pages = {
        "actions.md": actions_page(),
        "roles.md": roles_page(),
        "codes.md": codes_page(),
        "cli.md": cli_page(build_parser()),
        "settings.md": settings_page(),
        "rules.md": rules_page(),
    }
    stale = [
        name
        for name, text in pages.items()
        if not (PAGES / name).exists() or (PAGES / name).read_text() != text
    ]
    if "--check" in arguments:
        for name in stale:
            print(f"docs/reference/{name} is not what the code says; run `make docs`", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (PAGES / name).write_text(pages[name])
    return 0


def actions_page() -> str:
    lines = [
        "# Actions",
        "",
        NOTE,
        "",
        "The same word is the permission, the policy action, the name of the event and the metric label.",
        "",
        "| Action | Leaves an event when | Roles that may |",
        "|---|---|---|",
    ]
    for action, description in DESCRIPTIONS.items():
        roles = ", ".join(roles_that_may(action))
        lines.append(f"| `{action.value}` | {description} | {roles} |")
    return _page(lines)


def roles_page() -> str:
    lines = [
        "# Roles",
        "",
        NOTE,
        "",
        "What stands in no row is denied, for every name, also for one that does not exist yet. The rules of",
        "the policy bind every role, the administrator too: nobody approves what they published, a model needs",
        "somebody who answers for it, a machine reads its own models only.",
        "",
        "| Role | For |",
        "|---|---|",
        *(f"| `{role}` | {FOR[role]} |" for role in ROLES),
        "",
        "`garrison user add NAME --role ROLE` gives one; with `--model MODEL` it holds for these models only.",
        "The roles `service` and `serving` have to name their models.",
        "",
        "## Who may do what",
        "",
        f"| Action | {' | '.join(ROLES)} |",
        f"|---|{'---|' * len(ROLES)}",
    ]
    for action in DESCRIPTIONS:
        cells = " | ".join("yes" if action in actions else "" for actions in ROLES.values())
        lines.append(f"| `{action.value}` | {cells} |")
    return _page(lines)


def codes_page() -> str:
    lines = [
        "# Refusal codes",
        "",
        NOTE,
        "",
        "Every refusal has one of these codes; `garrison explain CODE` prints the same page. A code is never",
        "renamed and never given another meaning.",
    ]
    sections: dict[str, list[str]] = {}
    for code in CODES:
        sections.setdefault(code.partition("-")[0], []).append(code)
    for prefix, codes in sorted(sections.items()):
        lines += ["", f"## {PREFIXES.get(prefix, prefix)}"]
        for code in sorted(codes):
            lines += [
                "",
                f"### {code}",
                "",
                f"*{CODES[code].title}*",
                "",
                "```text",
                CODES[code].page.strip("\n"),
                "```",
            ]
    return _page(lines)


def rules_page() -> str:
    """A heading a rule, so that a SARIF result can link to it; an example where the vectors have one."""
    examples = rule_examples()
    lines = [
        "# Rules of the scanner",
        "",
        NOTE,
        "",
        "What `garrison scan` can find in a file; `garrison explain artifact.pickle.call` prints one of them. A",
        "rule is never renamed and never given another meaning. A finding of severity `medium` or above refuses",
        "the file; one of severity `low` that stands for something not understood makes it `incomplete`. The",
        "examples are what the scanner says of the test vectors.",
    ]
    areas: dict[str, list[str]] = {}
    for rule in RULES:
        areas.setdefault(rule.split(".")[1] if rule.count(".") > 1 else "any file", []).append(rule)
    for area, rules in sorted(areas.items()):
        lines += ["", f"## {area}"]
        for rule in sorted(rules):
            entry = RULES[rule]
            lines += ["", f"### {rule}", "", f"*{entry.title[0].upper()}{entry.title[1:]}.* {entry.why}", ""]
            lines.append(f"What to do: {entry.fix}.")
            if rule in examples:
                where, message = examples[rule]
                lines += ["", "```text", where, f"  {message}", "```"]
    return _page(lines)


def rule_examples() -> dict[str, tuple[str, str]]:
    """Rule -> (where, message) of the first test vector that brings it up."""
    sys.path.insert(0, str(ROOT))
    try:
        from tests.vectors.artifacts import formats, make  # of the repository, not of the package
    finally:
        sys.path.remove(str(ROOT))
    found: dict[str, tuple[str, str]] = {}
    for vectors in (make, formats):
        for name, data in {**vectors.REFUSED, **vectors.INCOMPLETE, **vectors.CLEAN}.items():
            for finding in judge(BytesSource(name, data), SCANNERS).findings:
                found.setdefault(finding.rule_id, (finding.where, finding.message))
    # The sizes of compressed vectors differ from one version of zlib to the next.
    return {rule: example for rule, example in found.items() if not rule.endswith("bomb")}


def settings_page() -> str:
    lines = [
        "# Settings",
        "",
        NOTE,
        "",
        "A setting comes from `garrison.toml` in the data directory, then the environment, then the command",
        "line; the last one that speaks wins. A key that does not exist is refused. Secrets are not settings.",
        "",
        "| Setting | Default | Environment | Meaning |",
        "|---|---|---|---|",
    ]
    meanings = _docstrings_of_fields(Settings)
    for field in fields(Settings):
        default = str(field.default)
        lines.append(
            f"| `{field.name}` | `{default}` | `GARRISON_{field.name.upper()}` | {meanings[field.name]} |"
        )
    return _page(lines)


def _docstrings_of_fields(cls: type) -> dict[str, str]:
    """The string below each field of a dataclass. Raises KeyError later for a field that has none."""
    body = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def cli_page(parser: argparse.ArgumentParser) -> str:
    lines = ["# Commands", "", NOTE, ""]
    lines += [
        "Results go to standard output, everything else to standard error. Exit status: **0** done, allowed or",
        "clean; **1** refused by a control; **2** usage; **3** cannot tell; **4** internal error. The options of",
        "`garrison` itself may stand before or after the name of a command.",
        "",
    ]
    for command, help_text, each in commands(parser):
        common = set() if each is parser else set(parser._option_string_actions)
        lines += [f"## {command}", ""]
        if text := each.description or help_text:
            lines += [_sentence(text.strip()), ""]
        if table := list(_arguments(each, common)):
            lines += ["| Argument | Meaning |", "|---|---|", *table, ""]
        if each.epilog:
            lines += ["```text", each.epilog.strip("\n"), "```", ""]
    return _page(lines)


def commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Every command and group in order: its full name, its help line, its parser."""
    yield from _walk(parser, "garrison", "")


def _walk(
    parser: argparse.ArgumentParser, name: str, help_text: str
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    yield name, help_text, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for verb, child in action.choices.items():
                if helps.get(verb) != argparse.SUPPRESS:
                    yield from _walk(child, f"{name} {verb}", helps.get(verb, ""))


def _arguments(parser: argparse.ArgumentParser, common: set[str]) -> Iterator[str]:
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or isinstance(
            action, argparse._SubParsersAction | argparse._HelpAction | argparse._VersionAction
        ):
            continue
        own_option = action.option_strings and action.dest != "identity" and "--as" in action.option_strings
        if common.intersection(action.option_strings) and not own_option:
            continue
        value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        if action.choices is not None:
            value = "{" + ",".join(str(choice) for choice in action.choices) + "}"
        if not action.option_strings:
            shown = value
        elif action.nargs == 0:
            shown = ", ".join(action.option_strings)
        else:
            shown = f"{', '.join(action.option_strings)} {value}"
        required = " (required)" if action.option_strings and action.required else ""
        help_text = (action.help or "").replace("%%", "%").replace("%(default)s", str(action.default))
        yield f"| `{shown}` | {_escaped(help_text)}{required} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _page(lines: list[str]) -> str:
    return "\n".join(lines).rstrip("\n") + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
