"""Tokens and treatments through a whole gateway: what the model server sees, what the client gets, what is on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.upstream import Asked, completion, delta, stream, words
from tests.gateway.rig import Rig, chat
from tests.gateway.test_streams import assembled

from garrison.detect.base import Direction
from garrison.detect.inspect import Inspector
from garrison.detect.own import with_names

MAIL = "ana.o'neil@mail-firm.com"
KEY = "AKIA" + "QYLPMN5HHHFPZAM2"
ECHO = "Dear <EMAIL_1>, <EMAIL_2> is nobody. Write to eve@mail-firm.com or <EMAIL_1>"
SHOWN = f"Dear {MAIL}, <EMAIL_2> is nobody. Write to [REDACTED:pii.email] or {MAIL}"


def _actions(rig: Rig, *rows: tuple[str, str, str]) -> None:
    rig.published(
        detect={
            "actions": [
                {"tier": "internal", "direction": way, "class": kind, "action": action}
                for way, kind, action in rows
            ]
        }
    )


def _echo(asked: Asked) -> list[bytes]:
    return words(ECHO) if asked.body.get("stream") else completion(ECHO)


@pytest.mark.row("C10", kind="R")
@pytest.mark.row("C13", kind="R")
@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
def test_a_tokenised_value_is_not_seen_by_the_model_and_comes_back_in_the_answer(
    rig: Rig, streamed: bool
) -> None:
    _actions(rig, ("input", "pii", "tokenise"))
    rig.upstream.answer = _echo
    answer = rig.ask(chat(f"Write to {MAIL}, key {KEY}", stream=streamed))
    assert rig.upstream.asked[-1].body["messages"][0]["content"] == f"Write to <EMAIL_1>, key {KEY}"
    text = (
        assembled(answer.body)[0]["content"] if streamed else answer.json["choices"][0]["message"]["content"]
    )
    assert text == SHOWN
    assert rig.event_of(answer)["data"]["redacted"] is True
    other = rig.ask(chat("who is <EMAIL_1>?", stream=streamed))
    assert MAIL.encode() not in other.body, "a token of another request opens nothing"
    written = [path.read_bytes() for path in rig.directory.rglob("*") if path.is_file()]
    assert not any(MAIL.encode() in data or b"mail-firm" in data for data in written)


@pytest.mark.row("C10", kind="R")
def test_a_name_is_tokenised_when_names_are_looked_for_and_comes_back_to_who_wrote_it(
    patterns: Path, tmp_path: Path
) -> None:
    ways = (Direction.INPUT, Direction.OUTPUT)
    rig = Rig(
        tmp_path / "plane", Inspector(cache=patterns, directions=ways, own=with_names()), patterns=patterns
    )
    rig.start()
    try:
        _a_name_goes_round(rig)
    finally:
        rig.stop()


def _a_name_goes_round(rig: Rig) -> None:
    action = {"tier": "internal", "direction": "input", "class": "pii", "action": "tokenise"}
    rig.published(detect={"actions": [action]})
    rig.upstream.answer = lambda _: words("Dear <PERSON_1>, Mr. Ludwig Becker will call.")
    answer = rig.ask(chat("Write a letter to Anna Schmidt.", stream=True))
    assert rig.upstream.asked[-1].body["messages"][0]["content"] == "Write a letter to <PERSON_1>."
    assert assembled(answer.body)[0]["content"] == "Dear Anna Schmidt, Mr. [REDACTED:pii.person] will call."


def test_a_value_comes_back_inside_the_json_of_a_tool_call(rig: Rig) -> None:
    _actions(rig, ("input", "pii", "tokenise"))
    arguments = '{"to": "<EMAIL_1>", "cc": "\\u003cEMAIL_1>", "body": "eve@mail-firm.com"}'
    call = {"id": "c1", "type": "function", "function": {"name": "send", "arguments": arguments}}

    def answer(asked: Asked) -> list[bytes]:
        if not asked.body.get("stream"):
            return completion("", tool_calls=[call])
        pieces = [delta(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "send"}}])]
        pieces += [delta(tool_calls=[{"index": 0, "function": {"arguments": char}}]) for char in arguments]
        return stream([*pieces, delta(finish="tool_calls")])

    rig.upstream.answer = answer
    tools = [{"type": "function", "function": {"name": "send", "parameters": {}}}]
    wanted = {"to": MAIL, "cc": MAIL, "body": "[REDACTED:pii.email]"}
    streamed = rig.ask(chat(f"mail {MAIL}", stream=True, tools=tools))
    assert json.loads(assembled(streamed.body)[0]["tool_calls"]) == wanted
    whole = rig.ask(chat(f"mail {MAIL}", tools=tools)).json["choices"][0]["message"]
    assert json.loads(whole["tool_calls"][0]["function"]["arguments"]) == wanted


def test_each_treatment_of_answers_and_requests_holds_for_its_tier_alone(rig: Rig) -> None:
    rig.upstream.answer = lambda asked: completion("card 4111 1111 1111 1111")
    _actions(rig, ("output", "pii", "mask"))
    assert _content(rig.ask(chat())) == "card **** **** **** 1111"
    _actions(rig, ("output", "pii", "block"))
    blocked = rig.ask(chat())
    assert (blocked.status, blocked.code) == (403, "DLP-BLOCK")
    _actions(rig, ("output", "pii", "allow"))
    assert _content(rig.ask(chat())) == "card 4111 1111 1111 1111"
    _actions(rig, ("input", "secret", "block"))
    assert rig.ask(chat(f"key {KEY}")).code == "DLP-BLOCK"
    _actions(rig, ("input", "secret", "mask"))
    rig.ask(chat(f"key {KEY}"))
    assert rig.upstream.asked[-1].body["messages"][0]["content"] == f"key {'*' * 16}ZAM2"
    rig.published(
        detect={"actions": [{"tier": "secret", "direction": "output", "class": "pii", "action": "allow"}]}
    )
    assert _content(rig.ask(chat())) == "card [REDACTED:pii.card]"


def test_a_snapshot_that_would_tokenise_secrets_is_refused(rig: Rig) -> None:
    rows = [{"tier": "internal", "direction": "input", "class": "secret", "action": "tokenise"}]
    rig.publish(detect={"actions": rows})
    rig.until(lambda: rig.plane.snapshots.rejected == 1)


def _content(answer: Any) -> str:
    text: str = answer.json["choices"][0]["message"]["content"]
    return text


@pytest.mark.row("D05", kind="R")
@pytest.mark.parametrize("action", ["mask", "redact", "block"])
def test_sensitive_values_never_reach_an_embedding_model(rig: Rig, action: str) -> None:
    _actions(rig, ("input", "pii", action), ("input", "secret", "redact"))
    asked = {"model": "minilm", "input": [f"Write to {MAIL}", f"the key is {KEY}", "nothing"]}
    answer = rig.ask(asked, path="/v1/embeddings")
    if action == "block":
        assert answer.code == "DLP-BLOCK"
        assert not rig.upstream.asked
        return
    given = json.dumps(rig.upstream.asked[-1].body)
    assert MAIL not in given
    assert "mail-firm" not in given or action == "mask"
    assert KEY not in given
    assert "nothing" in given
