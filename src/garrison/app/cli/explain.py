"""`garrison explain CODE`: the page on a refusal code or on a rule of the scanner."""

from __future__ import annotations

import argparse
import difflib
import textwrap
from typing import Any

from garrison.app.cli import output
from garrison.artifacts.other_rules import OTHER_RULES
from garrison.artifacts.scanners.rules import RULES as SCANNER_RULES
from garrison.artifacts.scanners.rules import Rule
from garrison.core.codes import CODES
from garrison.core.errors import Usage

RULES = {**SCANNER_RULES, **OTHER_RULES}


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "explain",
        help="what a refusal code or a scanner's rule means and what to do",
        epilog="""\
examples:
  garrison explain ART-TAMPER
  garrison explain artifact.pickle.call""",
    )
    parser.add_argument(
        "code",
        nargs="?",
        help="such as ART-TAMPER, or a rule such as artifact.pickle.call; without it, the list",
    )


def run(args: argparse.Namespace) -> int:
    """Raises `Usage` CODE-UNKNOWN for what is neither a code nor a rule."""
    if args.code is None:
        return _list(as_json=args.json)
    rule = RULES.get(args.code.lower())
    if rule is not None:
        return _show(args.code.lower(), rule.title, _page(rule), as_json=args.json)
    entry = CODES.get(args.code.upper())
    if entry is not None:
        return _show(args.code.upper(), entry.title, entry.page.rstrip(), as_json=args.json)
    wanted, names = (args.code.lower(), list(RULES)) if "." in args.code else (args.code.upper(), list(CODES))
    near = difflib.get_close_matches(wanted, names, n=1)
    raise Usage(
        "CODE-UNKNOWN",
        f"{args.code!r} is not a code of Garrison",
        fix=f"did you mean garrison explain {near[0]}?" if near else "garrison explain lists every code",
    )


def _list(*, as_json: bool) -> int:
    titles = {name: entry.title for name, entry in sorted(CODES.items())}
    rules = {name: rule.title for name, rule in sorted(RULES.items())}
    if as_json:
        output.print_json({"codes": titles, "rules": rules})
    else:
        output.print_table(("CODE", "MEANS"), list(titles.items()), empty="no codes")
        output.print_line()
        output.print_table(("RULE", "SAYS THAT THERE IS"), list(rules.items()), empty="no rules")
    return 0


def _page(rule: Rule) -> str:
    return "\n\n".join(textwrap.fill(text, output.WIDTH) for text in (rule.why, _sentence(rule.fix)))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _show(name: str, title: str, page: str, *, as_json: bool) -> int:
    if as_json:
        output.print_json({"code": name, "title": title, "page": page})
    else:
        output.print_line(f"{name}: {title}\n\n{page}")
    return 0
