"""One request as the detectors see it: counts, names and a sketch, taken from its event. Never any text."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from garrison.core.actions import Action
from garrison.detect.anomaly.sketch import BYTES, WHOLE

MAX_NAME = 256
_INJECTED = "PRM-INJECT"
_NOT_THEIRS = ("GW-", "HTTP-", "LIM-", "ANO-", "AUD-", "INTERNAL")  # refused for what the gateway is, or did
_THEIRS = ("GW-MODEL", "GW-TASK", "GW-ROUTE")


class Seen(NamedTuple):
    """`time` is seconds since 1970. `sketch` is ten bytes or none; `network` and `client` may be empty."""

    time: float
    actor: str
    tenant: str
    model: str  # as it was served: name@version
    task: str
    tokens: int
    answered: int  # tokens of the answer
    inputs: int
    logprobs: bool
    injected: bool
    refused: bool
    complete: bool
    sketch: bytes
    network: str
    client: str

    @property
    def is_service(self) -> bool:
        return self.actor.startswith("service:")

    @property
    def name(self) -> str:
        return self.model.partition("@")[0]


def read(event: Mapping[str, Any], time: float | None = None) -> Seen | None:
    """What an event (as `core.event.Event.as_json` has it) says; None for one that is not about a request.

    Raises nothing: a field of another kind than it should be counts as missing.
    """
    if event.get("action") != Action.MODEL_INVOKE:
        return None
    data = event.get("data")
    actor = event.get("actor")
    if not isinstance(data, dict) or not isinstance(actor, str) or not actor or actor.startswith("anonymous"):
        return None
    moment = _moment(event.get("time")) if time is None else time
    if moment is None:
        return None
    use = data.get("use")
    use = use if isinstance(use, dict) else {}
    code, outcome = _text(event.get("code")), event.get("outcome")
    injected = code == _INJECTED
    return Seen(
        moment,
        actor[:MAX_NAME],
        _text(use.get("tenant")),
        _text(event.get("resource")),
        _text(data.get("operation")),
        _count(data.get("prompt_tokens")) + _count(data.get("completion_tokens")),
        _count(data.get("completion_tokens")),
        max(1, _count(use.get("inputs"))),
        _count(use.get("logprobs")) > 0,
        injected,
        outcome == "denied" and not injected and _is_theirs(code),
        outcome == "allowed",
        _sketch(use.get("sketch")),
        _text(use.get("network")),
        _text(use.get("client")),
    )


def _is_theirs(code: str) -> bool:
    return code.startswith(_THEIRS) or not code.startswith(_NOT_THEIRS)


def _moment(value: object) -> float | None:
    try:
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def _text(value: object) -> str:
    return value[:MAX_NAME] if isinstance(value, str) else ""


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value < 1 << 40 else 0


def _sketch(value: object) -> bytes:
    try:
        raw = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        return b""
    return raw if len(raw) == BYTES + WHOLE else b""
