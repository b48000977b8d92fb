"""Checking the fields of a request: a closed list of names, and refusals that say which field and why.

A field that is not listed is refused by name rather than dropped, because dropping changes the answer silently.
Fields that would choose where a request goes have a code of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from garrison.core.errors import Usage

MAX_NAME = 128
STEERING = re.compile(
    r"(^|_)(api_?(base|key|type|version)|base_?(url|model)|url|uri|host|endpoint|upstream|provider|headers?|"
    r"proxy|fallbacks?|router?|route|deployment|extra_(body|query)|model_list|organization|region|timeout|"
    r"metadata_url|aws_[a-z_]+|vertex_[a-z_]+|azure_[a-z_]+|credentials?|command|mock_response|num_retries|"
    r"max_retries|litellm_[a-z_]+|custom_llm_provider|x_portkey_[a-z_]+|mcp_servers|callbacks?)($|_)",
    re.IGNORECASE,
)


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def only(value: Any, allowed: frozenset[str], where: str) -> dict[str, Any]:
    """`value`, which is an object with no other keys. Raises `Usage` GW-FIELD or GW-STEER."""
    if not isinstance(value, dict):
        raise wrong(where, "an object")
    if not allowed.issuperset(value):
        raise unknown(min(value.keys() - allowed), where)
    return value


def drop(body: dict[str, Any], allowed: frozenset[str], dropped: frozenset[str], where: str) -> None:
    """Remove what speaks to a vendor's account, refuse what is not known."""
    for name in body.keys() - allowed:
        if name not in dropped:
            raise unknown(name, where)
        del body[name]


def text_of(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise wrong(name, "a string")
    return value


def list_of(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise wrong(name, "a list of at least one item")
    return value


def count(body: dict[str, Any], name: str, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise wrong(name, f"a whole number from 1 to {most}")
    return value


def flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise wrong(name, "true or false")
    return value


def model_of(body: dict[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= MAX_NAME:
        raise wrong("model", "the name of a model")
    return model


def absent(body: dict[str, Any], names: Iterable[str], why: str) -> None:
    """Fields that may be there as long as they say nothing: null, false or empty."""
    for name in names:
        if body.pop(name, None):
            raise wrong(name, why)


def wrong(name: str, expected: str) -> Usage:
    return Usage(
        "GW-FIELD",
        f"{name} has to be {expected}",
        fix="change the request as the API describes it",
        evidence={"param": name},
    )


def unknown(name: str, where: str) -> Usage:
    shown = name[:64] if re.fullmatch(r"[A-Za-z0-9_.-]+", name) else "with an unusual name"
    if STEERING.search(name.replace("-", "_")):
        return Usage(
            "GW-STEER",
            f"the field {shown} would choose where the request goes; only the signed configuration does that",
            fix=f"remove {shown}; ask an operator to add a route if a model is missing",
            evidence={"param": shown},
        )
    return Usage(
        "GW-FIELD",
        f"the field {shown} is not one that {where} passes on",
        fix=f"remove {shown}",
        evidence={"param": shown},
    )


def unreadable(what: str, fix: str = "send text parts only") -> Usage:
    return Usage("GW-PART", f"{what} cannot be inspected and is not passed on", fix=fix)
