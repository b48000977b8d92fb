"""A view rebuilt equals the view kept, and says what happened."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from tests.evidence.conftest import START, an_event

from garrison.core.actions import Action
from garrison.core.event import Outcome
from garrison.evidence.record import make_record
from garrison.evidence.views import MAX_NAMES, MINUTES, OTHER, Facts, fold

DATA = st.fixed_dictionaries(
    {},
    optional={
        "latency_ms": st.floats(0, 1e4) | st.text(max_size=3) | st.none(),
        "complete": st.booleans(),
        "owner": st.text(max_size=3),
        "seconds": st.integers(0, 99_999) | st.just("soon"),
        "isolation": st.sampled_from(["bwrap", "gvisor"]),
        "denied": st.integers(0, 12),
        "tried": st.integers(0, 12),
    },
)
EVENTS = st.builds(
    an_event,
    st.integers(0, 9_000),
    action=st.sampled_from(list(Action)),
    outcome=st.sampled_from(list(Outcome)),
    resource=st.sampled_from(["fraud@1", "fraud@2", "fraud", "chat@1", "", "@"]),
    code=st.sampled_from(["", "TOK-EXPIRED", "ID-UNKNOWN", "ART-TAMPER"]),
    data=DATA,
)


def records_of(events):
    return [make_record(number, event) for number, event in enumerate(events, 1)]


@given(st.lists(EVENTS, max_size=40), st.data())
def test_a_view_kept_equals_the_view_rebuilt(events, data) -> None:
    records = records_of(events)
    rebuilt = fold(Facts(), records)
    kept, position = Facts(), 0
    while position < len(records):
        step = data.draw(st.integers(1, 10))
        # The last record is given again, as after a restart: the cursor passes it over.
        fold(kept, records[max(0, position - 1) : position + step])
        position += step
    assert kept == rebuilt
    assert rebuilt.cursor == len(records)


def test_a_model_has_its_requests_errors_latency_and_last_verification() -> None:
    events = [
        an_event(0, action=Action.RUNTIME_LOAD, data={"isolation": "bwrap"}),
        an_event(1, data={"latency_ms": 10}, resource="fraud@1"),
        an_event(2, data={"latency_ms": 30}, resource="fraud"),
        an_event(3, outcome=Outcome.ERROR, resource="fraud", data={}),
        an_event(4, outcome=Outcome.DENIED, resource="fraud", code="TOK-EXPIRED", data={}),
    ]
    facts = fold(Facts(), records_of(events))
    fraud = facts.models["fraud"]
    assert (fraud.requests, fraud.allowed, fraud.errors, fraud.denied) == (4, 2, 1, 1)
    assert (fraud.latency_ms_mean, fraud.latency_ms_max, fraud.error_rate) == (20.0, 30.0, 0.25)
    version = facts.versions["fraud@1"]
    assert (version.isolation, version.last_verify_ok, version.verify_id) == ("bwrap", True, "a-000001")
    assert version.last_verify.startswith("2026-11-22T14:03:00")
    assert facts.failed_authentication == {"TOK-EXPIRED": 1}
    assert facts.counts["model.invoke error"] == 1


def test_a_version_is_published_approved_deployed_and_retired() -> None:
    ref = {"resource": "fraud@1"}
    events = [
        an_event(0, action=Action.ARTIFACT_PUBLISH, data={"owner": "ml", "tier": "internal"}, **ref),
        an_event(1, action=Action.ARTIFACT_APPROVE, data={"complete": False}, **ref),
    ]
    assert fold(Facts(), records_of(events)).releases["fraud@1"].state == "published"
    events += [
        an_event(2, action=Action.ARTIFACT_APPROVE, data={"complete": True}, **ref),
        an_event(3, action=Action.DEPLOY_APPLY, **ref),
        an_event(4, action=Action.DEPLOY_APPLY, outcome=Outcome.DENIED, resource="fraud@2"),
    ]
    facts = fold(Facts(), records_of(events))
    assert (facts.releases["fraud@1"].state, facts.releases["fraud@1"].owner) == ("approved", "ml")
    assert facts.deployments == {"fraud": "fraud@1"}
    events += [
        an_event(5, action=Action.DEPLOY_STOP, **ref),
        an_event(6, action=Action.ARTIFACT_RETIRE, **ref),
    ]
    facts = fold(Facts(), records_of(events))
    assert (facts.releases["fraud@1"].state, facts.deployments) == ("retired", {})


def test_a_check_of_one_version_says_nothing_of_another_and_a_caller_who_may_not_ask_nothing_at_all() -> None:
    check = {"action": Action.ARTIFACT_VERIFY}
    denied = {**check, "outcome": Outcome.DENIED}
    events = [
        an_event(0, resource="fraud@1", **check),
        an_event(1, resource="fraud@2", **check),
        an_event(2, resource="fraud@2", code="ART-TAMPER", **denied),
        an_event(3, resource="fraud@1", code="RBAC-403", **denied),
        an_event(4, resource="fraud@1", code="PROV-BUILDER", **denied),
        an_event(5, resource="nobody@1", code="ART-UNKNOWN", **denied),
        an_event(6, action=Action.RUNTIME_CRASH, outcome=Outcome.ERROR, resource="fraud@2"),
    ]
    found = fold(Facts(), records_of(events)).versions
    assert (found["fraud@1"].last_verify_ok, found["fraud@1"].verify_id) == (True, "a-000001")
    assert (found["fraud@2"].last_verify_ok, found["fraud@2"].verify_id) == (False, "a-000003")
    assert (found["fraud@1"].crashes, found["fraud@2"].crashes) == (0, 1)
    assert "nobody@1" not in found


def test_what_is_asked_again_and_again_is_told_by_its_last_answer() -> None:
    job = {"action": Action.SCHEDULE_RUN, "resource": "verify-at-rest"}
    events = [
        an_event(0, data={"every_seconds": 3600}, **job),
        an_event(1, outcome=Outcome.DENIED, code="ART-REST", data={"reason": "one is not"}, **job),
        an_event(2, outcome=Outcome.DENIED, code="RBAC-403", **job),
        an_event(3, action=Action.ARTIFACT_DRIFT, outcome=Outcome.DENIED, code="DRIFT-RUN", resource="m@1"),
        an_event(4, action=Action.ARTIFACT_DRIFT, outcome=Outcome.DENIED, code="DRIFT-RUN", resource="m@2"),
        an_event(5, action=Action.ARTIFACT_RETIRE, resource="m@2"),
    ]
    facts = fold(Facts(), records_of([an_event(0, action=Action.ARTIFACT_PUBLISH, resource="m@2"), *events]))
    told = facts.jobs["verify-at-rest"]
    assert (told.outcome, told.code, told.reason, told.audit_id) == (
        "denied",
        "ART-REST",
        "one is not",
        "a-000003",
    )
    assert list(facts.drift) == ["m@1"]


def test_names_that_anyone_can_choose_are_bounded() -> None:
    events = [an_event(resource=f"m{number}") for number in range(MAX_NAMES + 50)]
    models = fold(Facts(), records_of(events)).models
    assert len(models) == MAX_NAMES + 1
    assert models[OTHER].requests == 50


def test_the_rate_keeps_an_hour_of_minutes() -> None:
    events = [an_event(time=START + timedelta(minutes=number), resource="m") for number in range(MINUTES + 9)]
    assert len(fold(Facts(), records_of(events)).models["m"].per_minute) == MINUTES
