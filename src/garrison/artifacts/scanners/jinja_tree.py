"""A chat template's syntax tree, judged by allow-lists; it is never rendered.

A template runs wherever the model is served, with whatever sandbox that server happens to have. So the
judgement does not rely on one: names, calls, filters, tests and attributes are allowed one by one
(`jinja_allowed.py`), computed attribute names and long loops are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import jinja2.debug  # noqa: F401 - jinja2 loads it when a template is wrong, and the worker opens no files then
from jinja2 import Environment, TemplateError, nodes
from jinja2.ext import Extension, do, loopcontrols
from jinja2.parser import Parser

from garrison.artifacts.scanners import jinja_allowed as allowed
from garrison.artifacts.scanners.base import Gap, Malformed, Seen, Source, critical, high, shown
from garrison.artifacts.scanners.jinja_orders import orders
from garrison.core.finding import Finding

MAX_RANGE = 10_000  # no template counts further than a conversation is long
MAX_REPEAT = 10_000
MAX_ROUNDS = 1_000_000  # of loops in loops over constant ranges; a conversation has some hundred messages
FIX = "ask the author for a template without it, or replace the template with one you have read"

# Statements and expressions that chat templates are made of. Anything else is not understood.
_PLAIN = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign, nodes.AssignBlock),
    *(
        nodes.Macro,
        nodes.CallBlock,
        nodes.FilterBlock,
        nodes.Scope,
        nodes.ExprStmt,
        nodes.Break,
        nodes.Continue,
    ),
    *(nodes.Name, nodes.NSRef, nodes.Const, nodes.Tuple, nodes.List, nodes.Dict, nodes.Pair, nodes.Keyword),
    *(
        nodes.CondExpr,
        nodes.Compare,
        nodes.Operand,
        nodes.Not,
        nodes.And,
        nodes.Or,
        nodes.Concat,
        nodes.Slice,
    ),
    *(nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Pos, nodes.Pow),
    *(nodes.Getattr, nodes.Getitem, nodes.Call, nodes.Filter, nodes.Test),
)
_DUNDER = re.compile(r"__[a-z]+(?:_[a-z]+)*__\Z")
_LOADS = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


class _Generation(Extension):
    """`{% generation %}` marks what the assistant wrote; trainers read it, servers skip it."""

    tags = {"generation"}  # noqa: RUF012 - the attribute that jinja2 looks for

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def judged(source: Source) -> Iterator[Seen]:
    """Findings of one template. The caller has bounded its size."""
    environment = Environment(extensions=[loopcontrols, do, _Generation])  # noqa: S701 - it never renders
    try:
        tree = environment.parse(source.read_at(0, source.size).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Malformed("artifact.template.text", "the template is not UTF-8") from error
    except RecursionError:
        yield Gap("artifact.limit.nesting", "the template is nested too deep")
        return
    except TemplateError as error:
        message = f"not a template that can be parsed: {shown(error.message or '')}"
        yield Gap("artifact.template.syntax", message, f"line {getattr(error, 'lineno', 0)}", FIX)
        return
    macros = {node.name for node in tree.find_all(nodes.Macro)}
    computed = _computed_names(tree)
    reported: set[tuple[str, str]] = set()
    for node in _walk(tree):
        for seen in _judge(node, macros, computed):
            if (seen.rule_id, seen.message) not in reported:
                reported.add((seen.rule_id, seen.message))
                yield seen
    yield from _work(tree)
    yield from orders(tree, FIX)


def _walk(tree: nodes.Node) -> Iterator[nodes.Node]:
    stack: list[nodes.Node] = [tree]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.iter_child_nodes())


def _judge(node: nodes.Node, macros: set[str], computed: set[str]) -> Iterator[Finding | Gap]:
    line = f"line {node.lineno}"
    if isinstance(node, _LOADS):
        yield critical("artifact.template.load", "the template loads another file", line, FIX)
    elif not isinstance(node, _PLAIN):
        yield Gap("artifact.template.unknown", f"{type(node).__name__} is not understood", line, FIX)
    elif isinstance(node, nodes.Name):
        if node.name in allowed.REFUSED or node.name.startswith("__"):
            yield critical("artifact.template.escape", f"the template uses {shown(node.name)}", line, FIX)
    elif isinstance(node, nodes.Const):
        if isinstance(node.value, str) and _DUNDER.match(node.value):
            yield critical("artifact.template.escape", f"the template names {shown(node.value)}", line, FIX)
    elif isinstance(node, nodes.Getattr):
        yield from _attribute(node.attr, line)
    elif isinstance(node, nodes.Getitem):
        yield from _item(node, computed, line)
    elif isinstance(node, nodes.Call):
        yield from _call(node, macros, line)
    elif isinstance(node, nodes.Filter):
        yield from _filter(node, line)
    elif isinstance(node, nodes.Test):
        if node.name not in allowed.TESTS:
            yield Gap("artifact.template.unknown", f"unknown test {shown(node.name)}", line, FIX)
    elif isinstance(node, nodes.Pow):
        yield high("artifact.template.work", "the template raises to a power", line, FIX)
    elif isinstance(node, nodes.Mul) and (_large(node.left) or _large(node.right)):
        yield high("artifact.template.work", "the template multiplies by a very large number", line, FIX)


def _work(tree: nodes.Template) -> Iterator[Finding]:
    """Loops in loops over constant ranges, and a text that doubles itself: small templates, endless work."""
    stack: list[tuple[nodes.Node, int]] = [(tree, 1)]
    while stack:
        node, times = stack.pop()
        if isinstance(node, nodes.For):
            times *= _rounds(node.iter)
            if times > MAX_ROUNDS:
                message = f"loops in loops that go round {shown(times)} times"
                yield high("artifact.template.work", message, f"line {node.lineno}", FIX)
                return
        elif isinstance(node, nodes.Assign) and times >= 1 and _doubles(node):
            message = "the template adds a text to itself again and again"
            yield high("artifact.template.work", message, f"line {node.lineno}", FIX)
        stack.extend((child, times) for child in node.iter_child_nodes())


def _rounds(node: nodes.Node) -> int:
    """How often a loop over this goes round, when a constant says so."""
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name == "range":
        numbers = [
            part.value for part in node.args if isinstance(part, nodes.Const) and isinstance(part.value, int)
        ]
        return max([1, *numbers])
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        return max(1, len(node.value))
    return 1


def _doubles(node: nodes.Assign) -> bool:
    """`set ns.x = ns.x ~ ns.x`: the target stands twice in what it is given."""
    target = node.target
    if not isinstance(target, nodes.NSRef) or not isinstance(
        node.node, nodes.Concat | nodes.Add | nodes.List
    ):
        return False
    same = [
        part
        for part in node.node.find_all(nodes.Getattr)
        if part.attr == target.attr and isinstance(part.node, nodes.Name) and part.node.name == target.name
    ]
    return len(same) >= 2


def _large(node: nodes.Node) -> bool:
    return (
        isinstance(node, nodes.Const) and isinstance(node.value, int | float) and abs(node.value) > MAX_REPEAT
    )


def _attribute(name: str, line: str) -> Iterator[Finding]:
    if name.startswith("_") or name in allowed.REFUSED_ATTRIBUTES:
        message = f"the template reaches for the attribute {shown(name)}"
        yield critical("artifact.template.escape", message, line, FIX)


def _item(node: nodes.Getitem, computed: set[str], line: str) -> Iterator[Finding]:
    key = node.arg
    if isinstance(key, nodes.Const) and isinstance(key.value, str):
        if key.value.startswith("__") or key.value in ("mro", "func_globals", "gi_frame"):
            message = f"the template reaches for the item {shown(key.value)}"
            yield critical("artifact.template.escape", message, line, FIX)
    elif _is_text(key) or (isinstance(key, nodes.Name) and key.name in computed):
        message = "the template reaches for an item whose name it computes from text"
        yield high("artifact.template.computed", message, line, FIX)


def _is_text(node: nodes.Node) -> bool:
    """Whether an expression builds a string at run time."""
    if isinstance(node, nodes.Concat):
        return True
    if isinstance(node, nodes.Filter):
        return node.name not in (
            "length",
            "count",
            "int",
            "abs",
            "round",
            "sum",
            "first",
            "last",
            "min",
            "max",
        )
    if isinstance(node, nodes.Add | nodes.Mod | nodes.Mul):
        return _has_text(node.left) or _has_text(node.right)
    if isinstance(node, nodes.Call):
        return not (
            isinstance(node.node, nodes.Getattr) and node.node.attr in ("index", "find", "count", "rfind")
        )
    if isinstance(node, nodes.CondExpr):
        return _is_text(node.expr1) or (node.expr2 is not None and _is_text(node.expr2))
    return False


def _has_text(node: nodes.Node) -> bool:
    return (isinstance(node, nodes.Const) and isinstance(node.value, str)) or _is_text(node)


def _computed_names(tree: nodes.Template) -> set[str]:
    """Variables that some assignment gives a text built at run time, or a text that is a dunder name."""
    names: set[str] = set()
    for assign in tree.find_all(nodes.Assign):
        dunder = isinstance(assign.node, nodes.Const) and str(assign.node.value).startswith("__")
        if isinstance(assign.target, nodes.Name) and (_is_text(assign.node) or dunder):
            names.add(assign.target.name)
    for block in tree.find_all(nodes.AssignBlock):
        if isinstance(block.target, nodes.Name):
            names.add(block.target.name)
    return names


def _call(node: nodes.Call, macros: set[str], line: str) -> Iterator[Finding | Gap]:
    callee = node.node
    if isinstance(callee, nodes.Name):
        name = callee.name
        if name == "range":
            yield from _range(node, line)
        if name not in allowed.FUNCTIONS and name not in macros and name not in allowed.REFUSED:
            yield Gap("artifact.template.call", f"the template calls the unknown {shown(name)}", line, FIX)
    elif isinstance(callee, nodes.Getattr):
        if callee.attr not in allowed.METHODS:
            yield high(
                "artifact.template.call", f"the template calls the method {shown(callee.attr)}", line, FIX
            )
    else:
        yield high("artifact.template.call", "the template calls a computed value", line, FIX)


def _range(node: nodes.Call, line: str) -> Iterator[Finding]:
    for argument in node.args:
        if any(isinstance(part, nodes.Mul | nodes.Pow) or _large(part) for part in _walk(argument)):
            yield high("artifact.template.work", "the template counts without a reasonable bound", line, FIX)


def _filter(node: nodes.Filter, line: str) -> Iterator[Finding | Gap]:
    if any(_large(argument) for argument in (*node.args, *(keyword.value for keyword in node.kwargs))):
        yield high(
            "artifact.template.work", f"a very large number for the filter {shown(node.name)}", line, FIX
        )
    if node.name in ("attr", "format", "xmlattr", "urlize", "random"):
        yield high("artifact.template.escape", f"the template uses the filter {node.name}", line, FIX)
    elif node.name not in allowed.FILTERS:
        yield Gap("artifact.template.unknown", f"unknown filter {shown(node.name)}", line, FIX)
    elif node.name in ("map", "selectattr", "rejectattr", "groupby", "sort", "sum", "unique", "min", "max"):
        for argument in (*node.args, *(keyword.value for keyword in node.kwargs)):
            text = argument.value if isinstance(argument, nodes.Const) else None
            if isinstance(text, str) and any(step.startswith("_") for step in text.split(".")):
                message = f"the template reaches for the attribute {shown(text)}"
                yield critical("artifact.template.escape", message, line, FIX)
            elif node.name == "map" and text in ("attr", "format"):
                yield critical("artifact.template.escape", f"the template maps the filter {text}", line, FIX)
            elif _is_text(argument):
                message = "the template computes the name of an attribute"
                yield high("artifact.template.computed", message, line, FIX)
