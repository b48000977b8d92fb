"""A webhook of an MLflow server: is it signed, is it fresh, what does it say. Pure: bytes and a clock in.

MLflow signs `delivery-id.timestamp.body` with HMAC-SHA256 and sends `v1,<base64>`. An unsigned webhook is
refused; whether an id was taken before is asked of the registry, which remembers.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from garrison.core.errors import Refused, Usage

MAX_BODY_BYTES = 256 * 1024  # an announcement has one or two kilobytes
MAX_AGE_SECONDS = 300.0  # as the Standard Webhooks convention has it
_DELIVERY = re.compile(r"[A-Za-z0-9-]{8,64}\Z")
_TIME = re.compile(r"[0-9]{9,12}\Z")


@dataclass(frozen=True, slots=True)
class Announced:
    """What was announced: `model_version.created` of `fraud` version `3`."""

    delivery: str
    sent: str
    about: str
    name: str
    version: str


def check(headers: Mapping[str, str], body: bytes, secret: bytes, now: datetime) -> Announced:
    """Raises `Refused` HOOK-SIGNATURE and HOOK-STALE, `Usage` HOOK-BODY. Header names are lower case."""
    delivery = headers.get("x-mlflow-delivery-id", "")
    sent = headers.get("x-mlflow-timestamp", "")
    given = headers.get("x-mlflow-signature", "")
    if not _DELIVERY.match(delivery) or not _TIME.match(sent):
        raise Refused("HOOK-SIGNATURE", "the webhook has no delivery id or no time", fix=_SECRET)
    signed = f"{delivery}.{sent}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    if not hmac.compare_digest(expected.encode(), given.encode("latin-1", "replace")):
        raise Refused(
            "HOOK-SIGNATURE", "the webhook is not signed with the secret of this receiver", fix=_SECRET
        )
    age = now.timestamp() - int(sent)
    if abs(age) > MAX_AGE_SECONDS:
        raise Refused(
            "HOOK-STALE",
            f"the webhook is {age:.0f} s old, and at most {MAX_AGE_SECONDS:.0f} s are taken",
            fix="compare the clocks of the two machines; a recording that is played back stays refused",
        )
    return _announced(delivery, sent, body)


def _announced(delivery: str, sent: str, body: bytes) -> Announced:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(data, dict):
        raise Usage("HOOK-BODY", "the webhook is no JSON object with data", fix="send MLflow's own webhooks")
    words = [document.get("entity"), document.get("action"), data.get("name", "")]
    if not all(isinstance(word, str) and len(word) <= 256 for word in words):
        raise Usage("HOOK-BODY", "the webhook names no entity and action", fix="send MLflow's own webhooks")
    version = str(data.get("version", ""))
    return Announced(
        delivery, sent, f"{words[0]}.{words[1]}", str(words[2]), version if version.isdigit() else ""
    )


_SECRET = "set the same secret at the MLflow server (MlflowClient.create_webhook) and in --secret-file"
