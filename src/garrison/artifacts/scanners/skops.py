"""skops files: a zip with `schema.json`, whose nodes name the types and functions that are restored.

Source: `skops.io` (protocols 0 to 2). A node's loader decides what is done with the name: objects are made
empty and filled, functions and methods are looked up, partials and operators are calls to come.
"""

from __future__ import annotations

import re
from typing import Any

from garrison.artifacts.scanners.base import shown
from garrison.artifacts.scanners.paths import unsafe_path
from garrison.artifacts.scanners.pickle_allowed import ALLOWED
from garrison.artifacts.scanners.skops_allowed import FUNCTIONS, TYPES

_DATA = frozenset(
    """
    JsonNode DictNode DefaultDictNode ListNode TupleNode SetNode BytesNode BytearrayNode SliceNode NdArrayNode
    MaskedArrayNode SparseMatrixNode RandomStateNode RandomGeneratorNode DatetimeTimedeltaNode CachedNode
    ObjectNode TypeNode TreeNode SGDNode LossNode DTypeNode EnumNode
    _DictWithDeprecatedKeysNode DictWithDeprecatedKeysNode
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
_PLAIN = frozenset(
    """
    str int float bool complex bytes bytearray list tuple dict set frozenset slice NoneType type object range
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
_NUMPY = re.compile(
    r"(?:u?int(?:8|16|32|64)|float(?:16|32|64|128)?|complex(?:64|128)|bool_?|str_|bytes_|ndarray|dtype)\Z"
)
_SPECIAL = re.compile(r"scipy\.special(?:\._(?:special_)?ufuncs|\._basic|\._orthogonal)?\Z")
_NAME = re.compile(r"[A-Za-z]\w*\Z")


def judge_node(value: Any, table: dict[str, Any]) -> str:
    """Why a table with `__loader__` must not be restored, or ""."""
    module, name = table.get("__module__"), table.get("__class__")
    if not (isinstance(value, str) and isinstance(module, str) and isinstance(name, str)):
        return "a node without a loader, a module or a class"
    if value in ("FunctionNode", "UfuncNode") and _is_function(module, name, table):
        return ""
    if value not in _DATA:
        return f"{shown(value)} restores a callable: {shown(f'{module}.{name}')}"
    file = table.get("file")
    if isinstance(file, str) and unsafe_path(file):
        return f"reads {shown(file)}, which {unsafe_path(file)}"
    if value == "JsonNode" or (module, name) in ALLOWED or (module, name) in TYPES:
        return ""
    if (module == "builtins" and name in _PLAIN) or (module == "numpy" and _NUMPY.match(name)):
        return ""
    return f"restores an object of {shown(module)}.{shown(name)}, which is not on the allow-list"


def _is_function(module: str, name: str, table: dict[str, Any]) -> bool:
    """Functions of numbers only; older files name them in their content instead."""
    content = table.get("content")
    if isinstance(content, dict) and "function" in content:
        module, name = str(content.get("module_path", "")), str(content["function"])
    if module == "numpy":
        return name in FUNCTIONS
    if module.startswith(("sklearn.", "scipy.")) and (module, name) in ALLOWED:
        return True  # what pickles of the same estimators hold: metrics, scores, kernels
    return _SPECIAL.match(module) is not None and _NAME.match(name) is not None
