"""The JSON Schema keywords that the OCSF schemas use, and no others: an unknown keyword is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}
_NOTES = {"title", "description", "$schema", "$id", "$defs", "deprecated", "$comment", "default"}
_KNOWN = _NOTES | {
    "type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "allOf", "oneOf",
    "$ref", "pattern", "minimum", "maximum", "maxLength", "minLength", "format", "not"
}  # fmt: skip


def errors(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "$") -> Iterator[str]:
    unknown = set(schema) - _KNOWN
    if unknown:
        raise NotImplementedError(f"{at}: {sorted(unknown)}")
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]
        yield from errors(value, target, root, at)
    if "type" in schema and not _has_type(value, schema["type"]):
        yield f"{at}: {value!r} is no {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is not one of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{at}: {value!r} is not {schema['const']!r}"
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{at}: {value!r} does not match {schema['pattern']}"
        if len(value) > schema.get("maxLength", len(value)):
            yield f"{at}: too long"
    if isinstance(value, dict):
        yield from _object_errors(value, schema, root, at)
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from errors(item, schema["items"], root, f"{at}[{index}]")
    for sub in schema.get("allOf", []):
        yield from errors(value, sub, root, at)
    if "not" in schema and not list(errors(value, schema["not"], root, at)):
        yield f"{at}: is what it must not be"
    for keyword in ("anyOf", "oneOf"):
        fitting = [not list(errors(value, sub, root, at)) for sub in schema.get(keyword, [])]
        if fitting and (sum(fitting) < 1 or (keyword == "oneOf" and sum(fitting) > 1)):
            yield f"{at}: {sum(fitting)} of {keyword} fit"


def _object_errors(
    value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], at: str
) -> Iterator[str]:
    known = schema.get("properties", {})
    yield from (f"{at}: lacks {name}" for name in schema.get("required", []) if name not in value)
    for name, item in value.items():
        if name in known:
            yield from errors(item, known[name], root, f"{at}.{name}")
        elif schema.get("additionalProperties", True) is False:
            yield f"{at}: {name} is not in the schema"


def _has_type(value: Any, wanted: str | list[str]) -> bool:
    names = [wanted] if isinstance(wanted, str) else wanted
    is_flag = isinstance(value, bool)
    return any(isinstance(value, _TYPES[name]) and (not is_flag or name == "boolean") for name in names)
