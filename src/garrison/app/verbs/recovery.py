"""The verb for when no administrator can be reached: whoever owns the data directory lends the role, for a while.

That owner could read every file below it, so this gives nothing that was out of reach; what it adds is that
the way in is one, ends by itself, and is told: in the ledger, in the posture, and to the receivers of events.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise, event_of, identity_name
from garrison.core.actions import Action
from garrison.core.errors import Refused, Usage
from garrison.core.event import format_time
from garrison.trust.people import RECOVERED_FOR

DEFAULT = timedelta(minutes=15)
HOST_DOORS = (
    "socket uid ",
    "no server",
)  # how `Subject.via` begins for who was let in by the system's own user


def admin_recover(house: House, call: Call) -> dict[str, Any]:
    """Raises `Refused` ID-RECOVER for whoever came with a token, and `Usage` ID-RECOVER for a longer time."""
    name = identity_name(call.text("name"))
    door = "host" if call.subject.via.startswith(HOST_DOORS) else "token"
    authorise(house, call.subject, Action.ADMIN_RECOVER, name, door=door)
    if name in house.people().groups:
        raise Refused("ID-TAKEN", f"{name} is a group", fix="name the person who is to be administrator")
    longest = int(RECOVERED_FOR.total_seconds())
    seconds = call.body.get("seconds", int(DEFAULT.total_seconds()))
    if type(seconds) is not int or not 1 <= seconds <= longest:  # True is an int to isinstance
        raise Usage(
            "ID-RECOVER",
            f"an administrator is recovered for 1 s to {longest // 60} min",
            fix="ask for --for 15m, and add a lasting one in that time: garrison user add NAME --role admin",
        )
    with house.ledger.transaction() as transaction:
        event = event_of(house, call, Action.ADMIN_RECOVER, name, seconds=seconds)
        audit_id = transaction.append(event)
    until = format_time(event.time + timedelta(seconds=seconds))
    return {"name": name, "role": "admin", "until": until, "via": call.subject.via, "audit_id": audit_id}


RECOVERY_VERBS = (Verb("admin.recover", Action.ADMIN_RECOVER, admin_recover),)
