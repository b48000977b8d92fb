"""One verb without a server: open the data directory under the server's own lock, do it, close it again.

The verb is the same code with the same policy, and its event goes into the same ledger. The lock is what
keeps this honest: while it is held no server can start, and while a server runs it can't be taken.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import closing
from typing import Any

from garrison.app import wiring
from garrison.app.api.server import local_user
from garrison.app.house import House
from garrison.app.lock import only_server
from garrison.app.settings import Settings
from garrison.app.verbs import VERBS
from garrison.app.verbs.base import Call, identity_name, perform
from garrison.core.errors import from_json


def perform_alone(
    settings: Settings,
    verb: str,
    body: dict[str, Any],
    *,
    identity: str | None,
    token: str | None,
    begin: Callable[[House], object] = lambda _house: None,
) -> dict[str, Any]:
    """The verb's result; `begin` comes before it. Raises what the verb refuses, `Refused` SRV-RUNNING, and what a
    start refuses."""
    with only_server(settings), closing(asyncio.new_event_loop()) as loop:
        house = wiring.build(settings, loop)
        try:
            begin(house)
            if token is not None:
                subject = house.identify(token)
            else:
                subject = house.local_subject(
                    identity_name(identity or "") or local_user(os.geteuid()), via="no server"
                )
            answer = perform(house, VERBS[verb], Call(subject, body))
            house.ledger.close()
        finally:
            house.database.close()
    if "error" in answer:
        raise from_json(answer["error"], int(answer["exit"]))
    result: dict[str, Any] = answer["result"]
    return result
