"""TorchScript source (`code/*.py` of a torch archive): parsed, and its operators judged by an allow-list.

The TorchScript compiler knows no imports and no `open`; what is left to an attacker are operators that
touch files. Operators that are not on the list make the archive `incomplete`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from garrison.artifacts.scanners.base import Gap, Malformed, Seen, Source, critical, high, shown
from garrison.artifacts.scanners.torchscript_operators import OPERATORS

MAX_SOURCE = 4 << 20  # the largest traced models stay under 1 MB a file
FIX = "ask the author for the weights as safetensors, or read the program and rebuild it"

# `___torch_mangle_3` is a module of the compiler; any other name like this leads to the interpreter.
_DUNDER = re.compile(r"__(?!_torch_mangle_\d+\Z|annotations__\Z)")
MAX_NODES = 500_000  # of one file's syntax tree; the largest scripted models have some tens of thousands
_REFUSED = frozenset({"from_file", "save", "load", "fromfile", "tofile", "load_library", "import_ir_module"})
_NAMES = frozenset({"__torch__", "__parameters__", "__buffers__", "__annotations__"})
_FUNCTIONS = frozenset(
    """
    annotate bool float getattr int isinstance len list max min range sorted str sum tuple unchecked_cast
    uninitialized zip enumerate abs round ord chr dict Exception
    """.split()  # noqa: SIM905 - a list of this length is read as words
)


class TorchScript:
    format = "torchscript"

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        return False

    def scan(self, source: Source) -> Iterator[Seen]:
        if source.size > MAX_SOURCE:
            yield Gap("artifact.limit.size", f"more than {MAX_SOURCE} bytes of TorchScript")
            return
        try:
            tree = ast.parse(source.read_at(0, source.size))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            message = "TorchScript source that cannot be parsed"
            raise Malformed("artifact.torchscript.syntax", message, fix=FIX) from error
        local = _functions_of(tree)
        for count, node in enumerate(ast.walk(tree)):
            line = f"line {getattr(node, 'lineno', 0)}"
            if count > MAX_NODES:
                yield Gap("artifact.limit.count", f"more than {MAX_NODES} parts of TorchScript")
                return
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield critical(
                    "artifact.torchscript.import", "a Python import where TorchScript belongs", line, FIX
                )
            elif isinstance(node, ast.Attribute) and _DUNDER.match(node.attr) and not _is_operator(node):
                yield high("artifact.torchscript.attribute", f"reaches for {shown(node.attr)}", line, FIX)
            elif isinstance(node, ast.Name) and _DUNDER.match(node.id) and node.id not in _NAMES:
                yield high("artifact.torchscript.attribute", f"reaches for {shown(node.id)}", line, FIX)
            elif isinstance(node, ast.Call):
                yield from _call(node, local, line)


def _is_operator(node: ast.Attribute) -> bool:
    """`torch.__not__` and its like are operators of the language."""
    return isinstance(node.value, ast.Name) and node.value.id == "torch" and node.attr in OPERATORS


def _functions_of(tree: ast.Module) -> dict[str, str]:
    """Names that stand for functions of the archive itself: defined here, or `_0 = __torch__.module.name`."""
    found = {node.name: node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            path = _dotted(node.value)
            if path.startswith("__torch__."):
                found[node.targets[0].id] = path
    return found


def _call(node: ast.Call, local: dict[str, str], line: str) -> Iterator[Seen]:
    callee = node.func
    if isinstance(callee, ast.Name):
        if callee.id not in _FUNCTIONS and callee.id not in local:
            yield Gap("artifact.torchscript.call", f"calls the unknown {shown(callee.id)}", line, FIX)
    elif isinstance(callee, ast.Attribute):
        path = _dotted(callee)
        parts = path.split(".")
        if callee.attr in _REFUSED:
            yield critical("artifact.torchscript.file", f"calls {shown(path or callee.attr)}", line, FIX)
        elif parts[0] == "ops" and path.rpartition(".")[0] not in ("ops.prim", "ops.aten"):
            yield Gap("artifact.torchscript.call", f"calls the custom operator {shown(path)}", line, FIX)
        elif parts[0] in ("torch", "ops") and callee.attr not in OPERATORS and "prim" not in parts:
            yield Gap("artifact.torchscript.call", f"calls the unknown operator {shown(path)}", line, FIX)
    else:
        yield high("artifact.torchscript.call", "calls a computed value", line, FIX)


def _dotted(node: ast.expr) -> str:
    """`torch.nn.functional.relu` of an attribute chain; empty when it does not start at a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *parts[::-1]]) if isinstance(node, ast.Name) else ""
