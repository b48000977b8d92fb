"""What leaves for a SIEM: valid OCSF 1.8.0, no control characters, and nothing that was not in the event."""

from __future__ import annotations

import functools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
from tests.evidence.conftest import an_event
from tests.evidence.json_schema import errors

from garrison.core.actions import Action
from garrison.core.digest import canonical_json
from garrison.core.event import Outcome
from garrison.core.finding import Finding, Severity
from garrison.evidence.export import jsonl, ocsf, to_ocsf, visible
from garrison.evidence.merkle import leaf_hash
from garrison.evidence.record import make_record

HOSTILE = 'a\x1b[2J\x07\r\n{"forged":1}\u202e\u2028\u200b\x85<img onerror=alert(1)>\x00'  # S40


@functools.cache
def schema(class_name: str, *profiles: str) -> dict:
    return OcsfJsonSchemaEmbedded(get_ocsf_schema("1.8.0")).get_class_schema(class_name, list(profiles))


def problems(body: dict) -> list[str]:
    name = {6003: "api_activity", 2004: "detection_finding"}[body["class_uid"]]
    chosen = schema(name, *body["metadata"]["profiles"])
    return list(errors(body, chosen, chosen))


@pytest.mark.row("C23", kind="C")
@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_action_and_outcome_is_valid_ocsf(action, outcome) -> None:
    found = Finding("prompt.injection.override", Severity.HIGH, "asks to override", "input[0:5]", "")
    for findings in ((), (found,)):
        event = an_event(action=action, outcome=outcome, findings=findings, code="PRM-INJECT", trace_id="t1")
        assert problems(to_ocsf(make_record(7, event), "0.1.0")) == []


def test_the_check_itself_refuses_a_broken_event() -> None:
    body = to_ocsf(make_record(7, an_event()), "0.1.0")
    assert problems({**body, "activity_id": 77})
    assert problems({**body, "prompt": "x"})
    assert problems({key: value for key, value in body.items() if key != "actor"})
    assert problems({**body, "actor": {}})


def test_an_inference_names_its_model_digest_and_tokens() -> None:
    event = an_event(data={"prompt_tokens": 5, "completion_tokens": 9})
    body = to_ocsf(make_record(7, event), "0.1.0")
    assert body["class_uid"] == 6003
    assert body["ai_model"]["name"] == "fraud"
    assert body["ai_model"]["uid"] == event.digest
    assert body["message_context"]["completion_tokens"] == 9
    assert body["metadata"]["uid"] == make_record(7, event).leaf.hex()


def test_a_denial_by_a_detector_is_a_detection_finding() -> None:
    found = Finding("prompt.injection.override", Severity.HIGH, "asks to override", "input[0:5]")
    body = to_ocsf(make_record(7, an_event(outcome=Outcome.DENIED, findings=(found,))), "0.1.0")
    assert (body["class_uid"], body["severity"]) == (2004, "High")
    assert body["finding_info"]["types"] == ["prompt.injection.override"]
    assert body["evidences"][0]["actor"]["user"]["name"] == "dana"


def test_an_event_without_an_actor_or_resource_is_valid() -> None:
    assert problems(to_ocsf(make_record(7, an_event(actor="", resource="", digest="")), "0.1.0")) == []
    assert problems(to_ocsf(make_record(7, an_event(resource="@3")), "0.1.0")) == []


@pytest.mark.row("C23", kind="C")
def test_hostile_text_cannot_forge_a_line_or_reach_a_terminal() -> None:
    event = an_event(
        actor=f"user:{HOSTILE}", resource=HOSTILE, code=HOSTILE, data={HOSTILE: [HOSTILE]}, trace_id=HOSTILE
    )
    record = make_record(7, event)
    for line in (*jsonl([record]), *ocsf([record], "0.1.0")):
        assert line.isascii()
        assert line.isprintable()
        json.loads(line)
    shown = json.dumps(json.loads(next(ocsf([record], "0.1.0"))), ensure_ascii=False)
    assert all(character.isprintable() for character in shown)
    assert problems(to_ocsf(record, "0.1.0")) == []


@given(st.text())
def test_visible_text_is_printable_and_leaves_printable_text_alone(text: str) -> None:
    assert visible(text).isprintable()
    assert text.isprintable() == (visible(text) == text)


@pytest.mark.row("C16", kind="R")
def test_an_exported_line_carries_all_that_its_leaf_hash_covers() -> None:
    record = make_record(7, an_event(resource="modèle@1"))
    (line,) = jsonl([record])
    fields = json.loads(line)
    leaf = fields.pop("leaf")
    assert leaf_hash(canonical_json(fields)).hex() == leaf


@pytest.mark.row("C21", kind="C")
def test_an_alert_is_one_finding_from_its_beginning_to_its_end_with_its_atlas_techniques() -> None:
    found = Finding(
        "anomaly.extraction", Severity.HIGH, "distinct requests in an hour", "900 now, 40 usually"
    )
    alert = {
        "id": "al-1",
        "title": "systematic querying",
        "subject": "user:mallory",
        "atlas": ["AML.T0024.002"],
    }
    data = {"alert": alert, "led_to": {"action": "throttle"}}
    raised = an_event(
        action=Action.ALERT_RAISE, resource="user:mallory", code="ANO-EXTRACT", findings=(found,), data=data
    )
    first = to_ocsf(make_record(7, raised), "0.1.0")
    assert problems(first) == []
    assert (first["class_uid"], first["activity_name"], first["severity"]) == (2004, "Create", "High")
    assert first["finding_info"]["attacks"][0]["technique"]["uid"] == "AML.T0024.002"
    assert first["evidences"][0]["actor"]["user"]["name"] == "mallory"
    ended = an_event(action=Action.ALERT_CLOSE, resource="al-1", data={"state": "closed", "note": "a test"})
    last = to_ocsf(make_record(8, ended), "0.1.0")
    assert problems(last) == []
    assert (last["activity_name"], last["status"]) == ("Close", "Resolved")
    assert last["finding_info"]["uid"] == first["finding_info"]["uid"]
