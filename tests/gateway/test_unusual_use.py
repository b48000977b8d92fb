"""What the gateway tells of how a model is used, and what an alert means for whoever it is about."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.gateway.rig import Rig, chat

from garrison.core.event import format_time

WATCH = {"key": "5a" * 16, "networks": [{"network": "127.0.0.0/8", "name": "here"}]}
CANARY = "zanzibar-parchment-7781"


def restriction(
    action: str, identity: str = "user:mallory", minutes: float = 10, **more: Any
) -> dict[str, Any]:
    until = format_time(datetime.now(UTC) + timedelta(minutes=minutes))
    facts = {"alert": "al-0001", "identity": identity, "model": "", "action": action, "per_minute": 2}
    return {**facts, "until": until, **more}


@pytest.mark.row("C21", kind="R")
@pytest.mark.row("C18", kind="R")
def test_an_event_tells_from_where_with_what_and_a_sketch_but_no_text(rig: Rig) -> None:
    rig.published(watch=WATCH)
    agent = {"user_agent": "OpenAI/Python 1.70"}
    token = rig.token(tenant="acme")
    first = rig.event_of(
        rig.ask(chat(f"my word is {CANARY}, my number is 54", logprobs=True), token=token, **agent)
    )
    near = rig.event_of(rig.ask(chat(f"my word is {CANARY}, my number is 55"), token=token, **agent))
    use = first["data"]["use"]
    assert (use["network"], use["client"], use["tenant"], use["logprobs"]) == ("here", "OpenAI", "acme", 1)
    sketches = [bytes.fromhex(event["data"]["use"]["sketch"]) for event in (first, near)]
    assert sum(a == b for a, b in zip(sketches[0][:8], sketches[1], strict=False)) >= 4
    assert sketches[0] != sketches[1]
    assert CANARY not in str(rig.events())
    many = rig.ask(
        {"model": "minilm", "input": ["a", "b", "c"]}, path="/v1/embeddings", user_agent="<b>x</b>"
    )
    assert rig.event_of(many)["data"]["use"]["inputs"] == 3
    assert rig.event_of(many)["data"]["use"]["client"] == "other"
    refused = rig.event_of(rig.ask(chat("hello", model="none")))
    assert refused["data"]["use"]["network"] == "here"


def test_nothing_is_told_when_nobody_looks(rig: Rig) -> None:
    assert "use" not in rig.event_of(rig.ask(chat("hello")))["data"]


@pytest.mark.row("C22", kind="R")
@pytest.mark.parametrize(
    ("action", "status", "code"), [("block", 403, "ANO-BLOCKED"), ("approval", 403, "ANO-APPROVAL")]
)
def test_who_is_blocked_is_told_why_and_until_when_and_nobody_else_is(
    rig: Rig, action: str, status: int, code: str
) -> None:
    rig.published(restrictions=[restriction(action)])
    answer = rig.ask(chat("hello"), token=rig.token("mallory"))
    assert (answer.status, answer.code) == (status, code)
    assert "al-0001" in answer.json["error"]["message"]
    assert answer.json["error"]["evidence"]["alert"] == "al-0001"
    assert rig.event_of(answer)["code"] == code
    assert rig.ask(chat("hello"), token=rig.token("dana")).status == 200
    rig.published(restrictions=[])
    assert rig.ask(chat("hello"), token=rig.token("mallory")).status == 200


@pytest.mark.row("C22", kind="R")
def test_who_is_slowed_down_may_ask_so_often_and_is_told_when_to_try_again(rig: Rig) -> None:
    rig.published(restrictions=[restriction("throttle")])
    token = rig.token("mallory")
    answers = [rig.ask(chat("hello"), token=token) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 429, 429]
    assert answers[2].code == "ANO-SLOWED"
    assert int(answers[2].headers["retry-after"]) >= 1
    assert "2 times a minute" in answers[2].json["error"]["message"]
    assert all(rig.ask(chat("hello"), token=rig.token("dana")).status == 200 for _ in range(4))


def test_what_has_ended_or_is_about_another_model_restricts_nothing(rig: Rig) -> None:
    ended = restriction("block", minutes=-1)
    elsewhere = restriction("block", model="other", alert="al-0002")
    rig.published(restrictions=[ended, elsewhere])
    token = rig.token("mallory")
    assert rig.ask(chat("hello"), token=token).status == 200
    assert rig.ask(chat("hello", model="other"), token=token).code == "ANO-BLOCKED"


def test_a_restriction_ends_by_itself_without_another_snapshot(rig: Rig) -> None:
    rig.published(restrictions=[restriction("block", minutes=10)])
    token = rig.token("mallory", ttl=3_000)
    assert rig.ask(chat("hello"), token=token).code == "ANO-BLOCKED"
    rig.wall_offset = 660.0
    assert rig.ask(chat("hello"), token=token).status == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"watch": {"key": "zz", "networks": []}},
        {"watch": {"key": "5a" * 16, "networks": [{"network": "10.0.0.1/8", "name": "x"}]}},
        {"restrictions": [{"alert": "a"}]},
        {"restrictions": [restriction("destroy")]},
        {"restrictions": {}},
        {"restrictions": [{**restriction("throttle"), "per_minute": True}]},
    ],
    ids=["key", "network", "incomplete", "unknown", "no-list", "no-number"],
)
def test_a_snapshot_with_a_restriction_that_cannot_be_read_is_refused_whole(
    make_rig: Callable[..., Rig], changes: dict[str, Any]
) -> None:
    rig = make_rig()
    rig.publish(**changes)
    rig.until(lambda: rig.plane.snapshots.rejected == 1)
    assert rig.ask(chat("hello")).status == 200
