"""What a verb is, and the one place where its failure becomes an event and an answer."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import traceback
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.app.house import House
from garrison.core.actions import Action
from garrison.core.decision import Request, Subject, Tier
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.core.event import Event, Outcome
from garrison.storage.local import explained
from garrison.trust.roles import READS

Progress = Callable[[str], None]

# Fields of calls that name a place on the server's machine.
_PATHS = frozenset(
    {"source", "destination", "path", "model", "report", "copy", "provenance", "lineage", "auth", "ca"}
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a verb: who, with what, and where progress goes."""

    subject: Subject
    body: dict[str, Any]
    progress: Progress = lambda _text: None

    def text(self, key: str) -> str:
        """A required string field. Raises `Usage` ARG-MISSING."""
        value = self.body.get(key)
        if not isinstance(value, str) or not value:
            raise Usage("ARG-MISSING", f"{key} is missing", fix=f"give {key}; --help shows an example")
        return _without_nul(key, value)

    def optional(self, key: str) -> str | None:
        value = self.body.get(key)
        return _without_nul(key, value) if isinstance(value, str) and value else None

    def flag(self, key: str) -> bool:
        return self.body.get(key) is True

    def facts(self, key: str) -> dict[str, Any]:
        """An object of the body; an empty one when it is left out."""
        value = self.body.get(key) or {}
        if not isinstance(value, dict):
            raise Usage("ARG-MISSING", f"{key} is not an object", fix=f"give {key} as names and values")
        return value

    def texts(self, key: str) -> list[str]:
        value = self.body.get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise Usage("ARG-MISSING", f"{key} is not a list of words", fix=f"give {key} as words")
        return [_without_nul(key, item) for item in value]

    def tier(self, default: Tier | None = None) -> Tier:
        """The field `tier`. Raises `Usage` PAT-TIER when it is none, and ARG-MISSING without one or a default."""
        text = self.text("tier") if default is None else self.optional("tier") or default.value
        try:
            return Tier(text)
        except ValueError:
            raise Usage(
                "PAT-TIER",
                f"{text[:40]!r} is not a sensitivity tier",
                fix=f"choose one of {', '.join(tier.value for tier in Tier)}",
            ) from None


def _without_nul(key: str, value: str) -> str:
    """No path, name or address holds a zero byte, and the system takes none."""
    if "\0" in value:
        raise Usage("ARG-MISSING", f"{key} holds a zero byte", fix=f"give {key} as text")
    return value


@dataclass(frozen=True, slots=True)
class Verb:
    """A name that the API knows, the action it is recorded under when it fails, and what does it."""

    name: str
    action: Action
    handler: Callable[[House, Call], dict[str, Any]]


def event_of(
    house: House, call: Call, action: Action, resource: str, digest: str = "", **facts: Any
) -> Event:
    """The event that says a caller did this, now."""
    return Event(
        time=house.now(),
        action=action,
        actor=call.subject.actor,
        resource=resource,
        outcome=Outcome.ALLOWED,
        digest=digest,
        data={**facts, "via": call.subject.via},
    )


def identity_name(name: str) -> str:
    """Names of people and services: printable, at most 128 characters, no spaces, colons, slashes or bars.

    A bar is for subjects of other issuers: nobody here can be called like one of them.
    """
    is_plain = name.isascii() or unicodedata.normalize("NFKC", name) == name  # else two names look like one
    if len(name) > 128 or not name.isprintable() or not is_plain or any(each in " :/|" for each in name):
        raise Usage(
            "ID-SYNTAX",
            f"{name[:40]!a} is not a name for an identity",
            fix="use letters, digits and . _ - @, at most 128 characters",
        )
    return name


def authorise(house: House, subject: Subject, action: Action, resource: str, **context: Any) -> None:
    """Ask the policy; anything but yes is `Refused` with the rule that decided.

    Who changes something has to be who the ledger says, also in the database: an edited row is found here.
    """
    if action not in READS and subject.via.startswith("socket"):
        house.user(subject.name)
    decision = house.policy.decide(Request(subject, action, resource, context))
    if decision.allowed:
        return
    fix = _FIXES.get(decision.code, "ask an administrator for a role that may do this")
    if subject.kind == "user" and not subject.roles:
        fix = f"an administrator can add this identity: garrison user add {subject.name} --role ROLE"
    raise Refused(
        decision.code or "RBAC-403",
        decision.reason,
        fix=fix,
        evidence={
            "subject": subject.actor,
            "roles": sorted(subject.roles),
            "action": action.value,
            "resource": resource,
            "rule": decision.rule_id,
            "policy": decision.policy_version,
        },
    )


_FIXES = {
    "ANO-SELF": "ask somebody else who may close alerts",
    "APP-SELF": "ask somebody else who has the role approver",
    "RBAC-MODEL": "ask for a token that names this model",
    "GOV-OWNER": "name the person who answers for the model: --owner NAME",
}


def _check_paths(house: House, body: dict[str, Any]) -> None:
    """The server opens paths with its own rights, so none that a caller gives leads to its own keys and stores.

    Raises `Refused` PATH-DATA, and `Usage` PATH-FILE for a pipe, device or socket, which could hang a reader.
    """
    data = os.path.realpath(house.settings.data)
    for key in _PATHS & body.keys():
        value = body[key]
        if not isinstance(value, str) or not value or "\0" in value:
            continue
        path = value.removeprefix("oci:")
        with contextlib.suppress(OSError, ValueError):
            found = Path(os.path.realpath(path))
            is_version = key != "destination" and found.is_relative_to(f"{data}/models")
            if found.is_relative_to(data) and not is_version:
                raise Refused(
                    "PATH-DATA",
                    f"{key} leads into the data directory, which is the server's own",
                    fix="name a place outside of it; garrison model pull copies a version out",
                )
            mode = os.stat(path).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise Usage("PATH-FILE", f"{key} is neither a file nor a directory", fix="name a plain file")


def perform(house: House, verb: Verb, call: Call) -> dict[str, Any]:
    """Run a verb; the answer is `{"result": ...}` or `{"error": ..., "exit": status}`. Never raises.

    A refusal leaves its own event here, whatever verb it came from, and carries its audit id out.
    """
    try:
        house.go_on()
        _check_paths(house, call.body)
        return {"result": verb.handler(house, call)}
    except GarrisonError as error:
        error.audit_id = _record(house, verb, call, error)
        return {"error": error.as_json(), "exit": error.exit_status}
    except OSError as error:
        refused = explained(error)
        refused.audit_id = _record(house, verb, call, refused)
        return {"error": refused.as_json(), "exit": refused.exit_status}
    except Exception as error:  # noqa: BLE001 - the process boundary: a defect becomes an answer, not a hang
        defect = GarrisonError(
            "INTERNAL",
            f"a defect in Garrison: {type(error).__name__} in {_place(error)}",
            fix="nothing was changed; report it with the name and place above",
        )
        defect.audit_id = _record(house, verb, call, defect)
        # Places only, into the server's log: an exception's words might quote what must not be kept.
        sys.stderr.write("".join(traceback.format_tb(error.__traceback__)))
        return {"error": defect.as_json(), "exit": defect.exit_status}


def _record(house: House, verb: Verb, call: Call, error: GarrisonError) -> str | None:
    outcomes: dict[type, Outcome] = {
        Refused: Outcome.DENIED,
        Usage: Outcome.DENIED,
        Undecided: Outcome.UNKNOWN,
    }
    if error.audit_id is not None:
        return error.audit_id
    resource = next(
        (str(call.body[key]) for key in ("ref", "name", "model", "label") if call.body.get(key)), ""
    )
    event = Event(
        time=house.now(),
        action=verb.action,
        actor=call.subject.actor,
        resource=resource[:200],
        outcome=outcomes.get(type(error), Outcome.ERROR),
        code=error.code,
        digest=str(error.evidence.get("digest", "")),
        findings=error.findings[:20],
        data={"via": call.subject.via, "reason": error.what[:500]},
    )
    try:
        with house.ledger.transaction() as transaction:
            return transaction.append(event)
    except GarrisonError:
        return None  # the ledger itself is what is down; the answer says what the verb met first


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    return f"{last.filename.rsplit('/', 1)[-1]}:{last.lineno}"
