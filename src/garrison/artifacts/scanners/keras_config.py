"""Keras configurations: what `from_config` would import, run or read, in `.keras`, HDF5 and SavedModel files.

Source: keras.saving `deserialize_keras_object` (3.x) and `deserialize_keras_object` of Keras 2. An object is a
table with `class_name` and `config`; `module` is imported, a class is looked up in it and built from `config`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from garrison.artifacts.scanners.base import Fact, Gap, Seen, critical, high, shown
from garrison.artifacts.scanners.keras_allowed import (
    CLASSES,
    FUNCTIONS,
    HARMFUL,
    LIBRARIES,
    MODULES,
    OPERATIONS,
    PACKAGES,
    SPECIAL,
    TF_SYMBOLS,
    UTILS,
    UTILS_ALLOWED,
)
from garrison.artifacts.scanners.strict_json import BadJson, parse

FIX = "ask the author for a model of standard layers, or rebuild it from code you have reviewed"
FIX_PATH = "put the vocabulary into the model, or beside it, and save it again"
KERAS_OBJECT = "artifact.config.keras"  # the rule for a Keras object in a configuration of another kind
MAX_VALUES = 2_000_000  # tables and lists of one configuration; the largest models have some ten thousand
_NAME = re.compile(r"[A-Za-z_]\w*\Z")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/|\\\\|//", re.IGNORECASE)
_OUTSIDE = re.compile(r"/|~|[A-Za-z]:[\\/]|(?:.*[/\\])?\.\.(?:[/\\]|\Z)")
_LOOKUPS = frozenset({"StringLookup", "IntegerLookup", "IndexLookup", "TextVectorization"})
# keys whose text names a function, looked up by name among those of Keras and of the loader
_CALLED = frozenset(
    """
    activation recurrent_activation kernel_initializer bias_initializer recurrent_initializer
    embeddings_initializer beta_initializer gamma_initializer kernel_regularizer bias_regularizer
    activity_regularizer kernel_constraint bias_constraint depthwise_initializer pointwise_initializer
    loss loss_fn
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
_TEXTS = frozenset({"standardize", "split"})
_STANDARD = frozenset(
    {
        "lower_and_strip_punctuation",
        "lower",
        "strip_punctuation",
        "whitespace",
        "character",
        "none",
        "None",
        "",
    }
)
_IMPORTED = frozenset(
    {"module", "function_module", "output_shape_module", "mask_module", "fn_module", "arguments_module"}
)


def judge_keras_text(data: bytes, where: str, *, is_model: bool) -> Iterator[Seen]:
    """A configuration that stands as text in another file. `is_model`: it has to be one."""
    try:
        value = parse(data)
    except BadJson as error:
        rule = "artifact.keras.syntax"
        if error.duplicate:
            yield high(rule, f"a configuration that says two things: {error}", where, FIX)
        else:
            yield Gap(rule, f"not strict JSON: {error}", where, "save the model again")
        return
    yield from judge_keras(value, where, is_model=is_model or is_document(value))


def is_document(value: Any) -> bool:
    """Whether a JSON value is a Keras model or another object that Keras restores."""
    return isinstance(value, dict) and isinstance(value.get("class_name"), str) and "config" in value


def judge_keras(value: Any, where: str = "", *, is_model: bool) -> Iterator[Seen]:
    """Every Keras object in a value. Unknown names are gaps in a model and nobody's business elsewhere."""
    level: list[tuple[str, Any, bool]] = [("", value, False)]
    seen = 0
    while level:
        deeper: list[tuple[str, Any, bool]] = []
        for path, item, raw in level:
            seen += 1
            if seen > MAX_VALUES:
                yield Gap("artifact.limit.count", f"more than {MAX_VALUES} values", where, FIX)
                return
            if isinstance(item, dict):
                place = f"{where}:{shown(path)}" if path else where
                if isinstance(item.get("class_name"), str) and ("config" in item or "module" in item):
                    yield from judge_object(item, place, is_model=is_model)
                    raw = item["class_name"] in ("__numpy__", "__tensor__", "__bytes__")
                if is_model:
                    yield from _entries(item, place)
                deeper.extend(
                    (f"{path}.{key}" if path else str(key), child, raw)
                    for key, child in item.items()
                    if isinstance(child, dict | list)
                )
            elif isinstance(item, list) and not raw:
                deeper.extend((path, child, False) for child in item if isinstance(child, dict | list))
        level = deeper


def judge_object(table: dict[str, Any], where: str, *, is_model: bool) -> Iterator[Seen]:
    """One table with a `class_name` that is text."""
    name, module, config = table["class_name"], table.get("module"), table.get("config")
    registered = table.get("registered_name")
    if is_model:
        yield Fact("layer", name)
    last = name.rsplit(">", 1)[-1].rsplit(".", 1)[-1]
    if last in HARMFUL:
        yield critical("artifact.keras.code", f"{shown(name)} {HARMFUL[last]}", where, FIX)
        return
    if isinstance(module, str) and not _module(module, name):
        message = f"{shown(name)} is imported from {shown(module)}"
        yield critical("artifact.keras.import", message, where, FIX)
        return
    if module is not None and not isinstance(module, str):
        yield high("artifact.keras.import", "a module that is not a name", where, FIX)
    for each in (name, registered):
        if isinstance(each, str) and ">" in each and each.split(">")[0] not in PACKAGES:
            yield high("artifact.keras.custom", f"{shown(each)} is code of the author's own", where, FIX)
            return
    if name == "function":
        yield from _function(config, where)
    elif name == "__typespec__":
        yield from _typespec(table, where)
    elif name.endswith("OpLambda") or name in ("ClassMethod", "InstanceMethod", "InstanceProperty"):
        yield from _operation(name, config, where)
    elif name == "TensorFlowOpLayer":
        yield high("artifact.keras.operation", "a TensorFlow operation from the file is run", where, FIX)
    elif isinstance(module, str) and MODULES.match(module) and "." in name.rsplit(">", 1)[-1]:
        yield high("artifact.keras.import", f"{shown(name)} is looked up step by step", where, FIX)
    elif is_model and not _known(name, module):
        message = f"the class {shown(name)} is not one of Keras; its code is not in the file"
        yield Gap("artifact.keras.class", message, where, FIX)
    if name in _LOOKUPS and isinstance(config, dict):
        yield from _vocabulary(config.get("vocabulary"), where)


def _module(module: str, name: str) -> bool:
    if LIBRARIES.match(module):
        return True
    if module == "builtins":
        return name in ("function", "NoneType") or name in SPECIAL
    if module.startswith("tensorflow") and ".keras" not in module:
        return module in ("tensorflow", "tensorflow.python.framework.tensor_shape") and name in SPECIAL
    if UTILS.search(module) and name not in UTILS_ALLOWED and name not in CLASSES:
        return False
    return bool(MODULES.match(module)) and all(not step.startswith("__") for step in module.split("."))


def _known(name: str, module: Any) -> bool:
    if name in CLASSES or name in OPERATIONS or name in SPECIAL or name.split(">")[0] in PACKAGES:
        return True
    if isinstance(module, str) and (
        LIBRARIES.match(module) or ".ops" in module or module.startswith("keras.ops")
    ):
        return _NAME.match(name) is not None  # an operation of keras.ops: its own class by its own name
    # A class of a Keras module that is newer than the list: only looked up there, and built from numbers.
    return (
        isinstance(module, str)
        and re.search(
            r"\.(?:layers|losses|metrics|optimizers|initializers|regularizers|constraints)(?:\.|\Z)", module
        )
        is not None
        and re.match(r"[A-Z][A-Za-z0-9]*\Z", name) is not None
    )


def _function(config: Any, where: str) -> Iterator[Seen]:
    """`config` is the function's name; a dotted one is imported, an unknown one has to be given by the loader."""
    if isinstance(config, dict):
        config = config.get("name", config.get("fn_name", config))
    if not isinstance(config, str) or not _NAME.match(config):
        yield critical("artifact.keras.import", f"the function {shown(config)} is imported", where, FIX)
    elif config not in FUNCTIONS:
        message = f"the function {shown(config)} is not one of Keras; its code is not in the file"
        yield Gap("artifact.keras.class", message, where, FIX)


def _typespec(table: dict[str, Any], where: str) -> Iterator[Seen]:
    spec = table.get("spec_name")
    if spec is not None and spec not in SPECIAL and not re.match(r"(?:tf\.)?\w+Spec\Z", str(spec)):
        yield high("artifact.keras.import", f"the type {shown(spec)} is imported", where, FIX)


def _operation(name: str, config: Any, where: str) -> Iterator[Seen]:
    """TFOpLambda calls the TensorFlow symbol that `function` names when the model is built."""
    if name == "SlicingOpLambda":
        name = "TFOpLambda"
    symbol = config.get("function", config.get("method_name", "")) if isinstance(config, dict) else ""
    if name == "TFOpLambda" and not (isinstance(symbol, str) and TF_SYMBOLS.match(symbol)):
        yield high("artifact.keras.operation", f"building the model calls tf.{shown(symbol)}", where, FIX)
    elif name != "TFOpLambda":
        yield Gap("artifact.keras.class", f"{shown(name)} calls a method by its name", where, FIX)


def _vocabulary(value: Any, where: str) -> Iterator[Seen]:
    if not isinstance(value, str):
        return
    if _URL.match(value) or _OUTSIDE.match(value):
        yield high("artifact.keras.path", f"the vocabulary is read from {shown(value)}", where, FIX_PATH)
    else:
        yield Gap("artifact.keras.path", f"the vocabulary is read from {shown(value)}", where, FIX_PATH)


def _entries(table: dict[str, Any], where: str) -> Iterator[Seen]:
    """Keys of a model's tables that a loader obeys, wherever they stand."""
    for key, value in table.items():
        if key in ("safe_mode", "allow_pickle", "enable_unsafe_deserialization", "custom_objects"):
            if (value is False) if key == "safe_mode" else bool(value):
                yield high("artifact.keras.unsafe", f"{key} asks for unsafe loading", where, FIX)
        elif not isinstance(value, str):
            continue
        elif key in _IMPORTED:
            if "class_name" not in table and not (MODULES.match(value) or LIBRARIES.match(value)):
                yield high("artifact.keras.import", f"{shown(key)} names {shown(value)}", where, FIX)
        elif key == "function_type" and value in ("lambda", "raw"):
            yield high("artifact.keras.code", "a function that the file carries is run", where, FIX)
        elif key in _CALLED or key in _TEXTS:
            yield from _called(key, value, where)
        elif key != "name" and (_URL.match(value) or (key != "equation" and _OUTSIDE.match(value))):
            if key == "vocabulary" and table.get("class_name") in _LOOKUPS:
                continue
            yield high("artifact.keras.path", f"{shown(key)} refers to {shown(value)}", where, FIX_PATH)


def _called(key: str, value: str, where: str) -> Iterator[Seen]:
    if value in FUNCTIONS or value in CLASSES or value in _STANDARD or not value:
        return
    package, _, rest = value.rpartition(">")
    if not _NAME.match(rest) or (package and package not in PACKAGES):
        yield high("artifact.keras.import", f"{key} names {shown(value)}", where, FIX)
    else:
        message = f"{key} names {shown(value)}, which is not a function of Keras; its code is not in the file"
        yield Gap("artifact.keras.class", message, where, FIX)
