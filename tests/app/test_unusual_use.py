"""From requests in the ledger to an alert, to what it leads to, and back: by the verbs that an operator has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from tests.app.household import Household

from garrison.app import jobs, watching
from garrison.app.detection import folder_of, restrictions, watched
from garrison.app.schedule import run as run_job
from garrison.app.watch_state import FILE
from garrison.core.actions import Action
from garrison.core.errors import GarrisonError
from garrison.core.event import Event, Outcome
from garrison.detect.anomaly.sketch import Sketcher
from garrison.detect.simulation.requests import Words
from garrison.evidence import store


def requests(home: Household, count: int, actor: str = "user:mallory", **use: Any) -> Iterator[Event]:
    """As the gateway's spool brings them: a script's requests, each with another text."""
    sketcher, words = Sketcher(home.house.sketch_key), Words(Random(actor))
    for _ in range(count):
        home.clock.move(seconds=2)
        sketch = sketcher.sketch(words.text(25))
        data = {
            "operation": "chat",
            "prompt_tokens": 12,
            "completion_tokens": 2,
            "use": {"tenant": "t", "network": "192.0.2.0/24", "client": "curl", "sketch": sketch, **use},
        }
        yield Event(home.clock(), Action.MODEL_INVOKE, actor, "open", Outcome.ALLOWED, data=data)


def asked(home: Household, count: int, **more: Any) -> int:
    """How many alerts that many requests raise."""
    home.house.ledger.append_many(list(requests(home, count, **more)))
    return watching.look(home.house)


def refusal(home: Household, verb: str, who: str = "root", **body: Any) -> str:
    with pytest.raises(GarrisonError) as error:
        home.ask(verb, who, **body)
    return error.value.code


def restricted(home: Household) -> list[dict[str, Any]]:
    return restrictions(home.house.people().access, home.clock())


def alerts(home: Household, **body: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = home.ask("alerts.list", **body)["alerts"]
    return found


@pytest.mark.row("C21", kind="R")
@pytest.mark.row("C22", kind="R")
def test_an_alert_slows_its_subject_down_until_somebody_else_releases_it(home: Household) -> None:
    home.ask("user.add", name="olga", roles=["operator"])
    home.ask("user.add", name="mallory", roles=["operator"])
    assert asked(home, 20, actor="user:dana") == 0
    assert asked(home, 400) >= 1
    (alert,) = [one for one in alerts(home) if one["code"] == "ANO-EXTRACT"]
    assert (alert["subject"], alert["state"], alert["led_to"]["action"]) == (
        "user:mallory",
        "open",
        "throttle",
    )
    assert "AML.T0024.002" in alert["atlas"]
    assert alert["led_to"]["undo"] == f"garrison alerts release {alert['id']} --note WHY"
    assert {one["identity"] for one in restricted(home)} == {"user:mallory"}

    assert refusal(home, "alerts.change", "mallory", id=alert["id"], change="release", note="x") == "ANO-SELF"
    assert refusal(home, "alerts.change", "olga", id=alert["id"], change="release") == "ARG-MISSING"
    assert (
        refusal(home, "alerts.change", "olga", id=alert["id"], change="take", owner="nobody") == "GOV-OWNER"
    )
    assert refusal(home, "alerts.change", "olga", id="al-none", change="take") == "ANO-UNKNOWN"
    assert refusal(home, "alerts.change", "olga", id=alert["id"], change="delete") == "ANO-POLICY"
    home.ask("alerts.change", "olga", id=alert["id"], change="take", owner="olga")
    assert restricted(home)
    home.ask("alerts.change", "olga", id=alert["id"], change="release", note="an evaluation, announced")
    assert not [one for one in restricted(home) if one["alert"] == alert["id"]]
    shown = home.ask("alerts.show", id=alert["id"])
    assert (shown["state"], shown["owner"], shown["note"]) == ("released", "olga", "an evaluation, announced")
    home.ask("alerts.change", "olga", id=alert["id"], change="close", note="done")
    assert alert["id"] not in {one["id"] for one in alerts(home)}
    assert alert["id"] in {one["id"] for one in alerts(home, all=True)}
    assert (
        refusal(home, "alerts.change", "olga", id=alert["id"], change="close", note="again") == "ANO-POLICY"
    )

    home.clock.move(hours=5)
    asked(home, 700)
    again = [one for one in alerts(home) if one["code"] == "ANO-EXTRACT"]
    assert {one["led_to"]["action"] for one in again} <= {"observe"}  # it was let go within the last day
    with home.house.ledger.read() as connection:
        kinds = {record.event.action for record in store.find(connection, store.Filter())}
    assert {Action.ALERT_RAISE, Action.ALERT_CLOSE} <= kinds


@pytest.mark.row("C21", kind="R")
def test_the_policy_says_what_follows_and_from_where_on(home: Household) -> None:
    for action, code in (("block", "ANO-EXTRACT"), ("approval", "ANO-LOGPROB")):
        home.ask("detect.respond", code=code, action=action, seconds=1_800)
    asked(home, 400, logprobs=5)
    found = {one["code"]: one["led_to"] for one in alerts(home)}
    assert (found["ANO-EXTRACT"]["action"], found["ANO-LOGPROB"]["action"]) == ("block", "approval")
    assert {one["action"] for one in restricted(home)} == {"block", "approval"}
    home.clock.move(minutes=31)
    assert restricted(home) == []

    home.ask("detect.respond", code="ANO-EXTRACT", score=40.0)
    home.ask("detect.respond", code="ANO-LOGPROB", action="observe")
    asked(home, 400, actor="user:erin", logprobs=5)
    erin = [one for one in alerts(home) if one["subject"] == "user:erin"]
    assert {one["code"] for one in erin} == {"ANO-LOGPROB"}
    assert erin[0]["led_to"] == {"action": "observe"}
    rows = {row["code"]: row for row in home.ask("detect.status")["responses"]}
    assert (rows["ANO-EXTRACT"]["from_score"], rows["ANO-LOGPROB"]["action"]) == (40.0, "observe")
    home.ask("detect.respond", code="ANO-EXTRACT", remove=True)
    watching.look(home.house)
    rows = {row["code"]: row for row in home.ask("detect.status")["responses"]}
    assert (rows["ANO-EXTRACT"]["action"], rows["ANO-EXTRACT"]["from_score"] < 5) == ("throttle", True)


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("detect.respond", {"code": "ANO-NONE"}),
        ("detect.respond", {"code": "ANO-PROBE", "action": "shoot"}),
        ("detect.respond", {"code": "ANO-PROBE", "per_minute": 0}),
        ("detect.respond", {"code": "ANO-PROBE", "seconds": 10**9}),
        ("detect.respond", {"code": "ANO-PROBE", "score": True}),
        ("detect.respond", {"code": "ANO-PROBE", "score": -1}),
        ("detect.network", {"network": "10.0.0.1/8", "name": "x"}),
        ("detect.network", {"network": "10.0.0.0/8", "name": "a b"}),
        ("detect.network", {"network": "10.0.0.0/8", "remove": True}),
    ],
    ids=["code", "action", "amount", "time", "flag", "score", "range", "name", "unknown"],
)
def test_what_is_no_policy_is_refused_and_who_may_not_is_too(
    home: Household, verb: str, body: dict[str, Any]
) -> None:
    assert refusal(home, verb, **body) == "ANO-POLICY"
    home.ask("user.add", name="ann", roles=["auditor"])
    good = {"code": "ANO-PROBE"} if verb == "detect.respond" else {"network": "10.0.0.0/8", "name": "x"}
    assert refusal(home, verb, "ann", **good) == "RBAC-403"


def test_a_network_has_the_name_that_the_ledger_tells(home: Household) -> None:
    home.ask("detect.network", network="10.20.0.0/16", name="office-east")
    facts = watched(home.house.people().access, home.house.sketch_key)
    assert facts["networks"] == [{"network": "10.20.0.0/16", "name": "office-east"}]
    snapshot = json.loads((home.house.settings.run / "snapshot.json").read_text())
    assert snapshot["payload"]
    home.ask("detect.network", network="10.20.0.0/16", remove=True)
    assert watched(home.house.people().access, home.house.sketch_key)["networks"] == []


@pytest.mark.row("C21", kind="R")
@pytest.mark.parametrize("file", ["kept", "gone", "damaged", "of another version"])
def test_a_restart_goes_on_where_the_last_one_ended_and_raises_nothing_twice(
    home: Household, file: str
) -> None:
    asked(home, 400)
    before = [one["id"] for one in alerts(home)]
    known = len(home.house.watching.watch.profiles)
    run_job(home.house, jobs.find("watch-use"))
    kept = folder_of(home.house.settings) / FILE
    if file == "gone":
        kept.unlink()
    elif file == "damaged":
        kept.write_bytes(kept.read_bytes()[:-40])
    elif file == "of another version":
        kept.write_bytes(b"x")
    home.house.watching = type(home.house.watching)()
    assert watching.look(home.house) == 0
    assert [one["id"] for one in alerts(home)] == before
    assert len(home.house.watching.watch.profiles) == known
    status = home.ask("detect.status")
    assert (status["requests"], status["waiting"]) == (400, 0)


def test_detectors_that_stopped_are_told_by_their_job(home: Household) -> None:
    home.house.watching.problem = "a defect: KeyError"
    with pytest.raises(GarrisonError) as error:
        run_job(home.house, jobs.find("watch-use"))
    assert error.value.code == "ANO-BEHIND"
    watching._look_safely(home.house)
    assert run_job(home.house, jobs.find("watch-use"))["facts"]["requests"] == 0
