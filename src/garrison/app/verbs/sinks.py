"""Verbs about receivers of events: add, list, test, remove, and where delivery goes on. Told by events alone."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from garrison.app.house import House
from garrison.app.sinks import configured, make_wire
from garrison.app.verbs.base import Call, Verb, authorise, event_of
from garrison.core.actions import Action
from garrison.core.errors import Refused, Usage
from garrison.core.event import format_time
from garrison.evidence import store as events
from garrison.evidence.record import audit_id, parse_audit_id
from garrison.evidence.sinks import deliver, store
from garrison.evidence.sinks.base import context_of, token_of
from garrison.evidence.sinks.sink import MAX_SINKS, Sink, parse_sink, place_of

_OUR_LINES = (b"{", b"C")  # how a line of JSON and a line of CEF begin


def sink_add(house: House, call: Call) -> dict[str, Any]:
    """Send events there from now on, or with `from_start` from the first one. A known name is changed."""
    sink = parse_sink(call.facts("sink"))
    authorise(house, call.subject, Action.SINK_WRITE, sink.name)
    known = configured(house)
    if len(known) >= MAX_SINKS and sink.name not in known:
        raise Refused("SINK-SYNTAX", f"there are {MAX_SINKS} sinks", fix="garrison sink remove NAME")
    _check_files(house, sink)
    with house.ledger.transaction() as transaction:
        before = 0 if call.flag("from_start") else transaction.frontier.size
        cursor = store.find(transaction.connection, sink.name)
        if cursor is None or call.flag("from_start"):
            deliver.start_at(transaction.connection, sink.name, before)
        event = event_of(house, call, Action.SINK_WRITE, sink.name, sink=sink.as_json())
        told = transaction.append(event)
    house.follow_sinks()
    return {**_shown(sink), "audit_id": told}


def sink_remove(house: House, call: Call) -> dict[str, Any]:
    sink = _known(house, call)
    with house.ledger.transaction() as transaction:
        store.remove(transaction.connection, sink.name)
        event = event_of(house, call, Action.SINK_WRITE, sink.name, sink={"name": sink.name}, removed=True)
        told = transaction.append(event)
    house.follow_sinks()
    return {"name": sink.name, "audit_id": told}


def sink_seek(house: House, call: Call) -> dict[str, Any]:
    """Go on behind a record, earlier or later than now; what is passed over is in the event."""
    sink = _known(house, call)
    seq, reason = parse_audit_id(call.text("id")), call.text("reason")
    with house.ledger.transaction() as transaction:
        size = transaction.frontier.size
        if seq > size:
            raise Usage("AUD-ID", f"the ledger ends at {audit_id(size)}", fix="garrison audit list")
        cursor = store.find(transaction.connection, sink.name)
        facts = {
            "behind": audit_id(seq),
            "was": audit_id(cursor.seq if cursor else 0),
            "reason": reason[:500],
        }
        deliver.start_at(transaction.connection, sink.name, seq)
        told = transaction.append(event_of(house, call, Action.SINK_WRITE, sink.name, seek=facts))
    house.follow_sinks()
    return {"name": sink.name, **facts, "audit_id": told}


def sink_list(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.POSTURE_READ, "sinks")
    known = configured(house)
    with house.ledger.read() as connection:
        size = house.ledger.state().size
        rows = [_state(connection, known[name], size) for name in sorted(known)]
    return {"schema": "garrison.sinks/1", "sinks": rows}


def sink_test(house: House, call: Call) -> dict[str, Any]:
    """Send the newest record once, now. Whoever drops doubles by their uid keeps one of it."""
    sink = _known(house, call)
    _check_files(house, sink)
    with house.ledger.read() as connection:
        records = events.latest(connection, events.Filter(limit=1))
    began = time.monotonic()
    make_wire(house, sink).send(records)
    return {
        "name": sink.name,
        "took": records[-1].audit_id,
        "milliseconds": round((time.monotonic() - began) * 1_000, 1),
    }


def _known(house: House, call: Call) -> Sink:
    name = call.text("name")
    authorise(house, call.subject, Action.SINK_WRITE, name[:64])
    sink = configured(house).get(name)
    if sink is None:
        raise Usage("SINK-UNKNOWN", "there is no such sink", fix="garrison sink list shows those there are")
    return sink


def _check_files(house: House, sink: Sink) -> None:
    """The files that a sink names are usable now, and none of them is the server's own.

    Raises `Refused` PATH-DATA, SINK-KEY, SINK-FILE.
    """
    target = place_of(sink.url).path if sink.kind == "file" else ""
    data = Path(os.path.realpath(house.settings.data))
    for path in (sink.token_file, sink.client_file, target):
        if path and (not path.startswith("/") or Path(os.path.realpath(path)).is_relative_to(data)):
            raise Refused(
                "PATH-DATA",
                "a sink's file is named by its whole path, and does not lie in the data directory",
                fix="put it elsewhere, such as /etc/garrison or /var/log/garrison",
            )
    token_of(sink)
    if place_of(sink.url).is_secure:
        context_of(sink)
    if target:
        _check_target(Path(target))


def _check_target(path: Path) -> None:
    """Nothing but a file of events is written to: the server's rights are larger than its caller's."""
    try:
        is_ours = not path.exists() or (path.is_file() and _first_byte(path) in (b"", *_OUR_LINES))
        if not path.parent.is_dir() or path.is_symlink() or not is_ours:
            raise Refused(
                "SINK-FILE",
                f"{path} is not a place for events: its directory is not there, or it holds something else",
                fix="name a new file in a directory that is there",
            )
    except OSError as error:
        raise Refused(
            "SINK-FILE", f"{path} cannot be read: {error.strerror}", fix="look at its rights"
        ) from None


def _first_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1)


def _shown(sink: Sink) -> dict[str, Any]:
    return {**sink.as_json(), "ca": bool(sink.ca)}


def _state(connection: Any, sink: Sink, size: int) -> dict[str, Any]:
    cursor = store.find(connection, sink.name) or store.Cursor(sink.name, 0)
    waiting = max(0, size - cursor.seq) if sink.takes_events else 0
    oldest = events.get(connection, cursor.seq + 1) if waiting else None
    return {
        **_shown(sink),
        "sent_to": audit_id(cursor.seq) if cursor.seq else None,
        "last_sent": cursor.moved or None,
        "waiting": waiting,
        "waiting_since": format_time(oldest.event.time) if oldest else None,
        "state": "failing" if cursor.code else "ok",
        "code": cursor.code,
        "reason": cursor.reason,
        "failing_since": cursor.since or None,
    }


SINK_VERBS = (
    Verb("sink.add", Action.SINK_WRITE, sink_add),
    Verb("sink.remove", Action.SINK_WRITE, sink_remove),
    Verb("sink.seek", Action.SINK_WRITE, sink_seek),
    Verb("sink.list", Action.POSTURE_READ, sink_list),
    Verb("sink.test", Action.SINK_WRITE, sink_test),
)
