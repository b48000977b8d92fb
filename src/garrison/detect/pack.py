"""Rule packs: rules as data, with a version that only rises. `app` seals and opens the signed form of one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from garrison.core.digest import canonical_json
from garrison.core.errors import Refused, Usage
from garrison.detect.custom import NAME
from garrison.detect.rulepack import Rule, parse_pack

PAYLOAD_TYPE = "application/vnd.garrison.rules+json"
SCHEMA = "garrison.rules/1"
MAX_BYTES = 4 << 20
MAX_PACKS = 16
MAX_VERSION = 2**31


@dataclass(frozen=True, slots=True)
class Pack:
    name: str
    version: int
    rules: tuple[Rule, ...]


def write_pack(text: str, name: str, version: int) -> bytes:
    """The payload that is signed. Raises `Usage` DLP-RULE or DLP-PACK."""
    _check_names(name, version)
    parse_pack(text, name)
    return canonical_json({"schema": SCHEMA, "name": name, "version": version, "toml": text})


def read_pack(payload: bytes) -> Pack:
    """Raises `Refused` DLP-PACK or `Usage` DLP-RULE."""
    if len(payload) > MAX_BYTES:
        raise _refused(f"it has more than {MAX_BYTES} bytes")
    try:
        body: Any = json.loads(payload)
        name, version, text = body["name"], body["version"], body["toml"]
        if body["schema"] != SCHEMA or not isinstance(text, str):
            raise ValueError("schema")
    except (KeyError, TypeError, ValueError, RecursionError) as cause:
        raise _refused("it is not a pack that this version reads") from cause
    _check_names(name, version)
    return Pack(name, version, parse_pack(text, name))


def _check_names(name: Any, version: Any) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Usage(
            "DLP-PACK", "the name of a pack is of a-z, 0-9 and dashes", fix="garrison guard pack --help"
        )
    if type(version) is not int or not 0 < version < MAX_VERSION:
        raise Usage(
            "DLP-PACK", "the version of a pack is a whole number from 1", fix="garrison guard pack --help"
        )


def _refused(why: str) -> Refused:
    return Refused(
        "DLP-PACK", f"the pack is refused: {why}", fix="garrison guard pack verify FILE --key KEY.pem"
    )
