"""Approvals are counted: distinct people, never the publisher, these bytes, this policy, in time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.core.decision import Tier
from garrison.core.errors import Refused
from garrison.trust import approvals
from garrison.trust.approvals import Approval

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
DANA = Approval("dana", "dana@example.com", DIGEST, "p1", NOW, NOW + timedelta(days=30))
LEE = replace(DANA, approver="lee", human="lee@example.com")


def state(*given: Approval, tier: Tier = Tier.HEALTH, publisher: str = "ci") -> approvals.ApprovalState:
    return approvals.state(given, digest=DIGEST, tier=tier, policy_version="p1", publisher=publisher, now=NOW)


@pytest.mark.parametrize("tier", list(Tier))
def test_sensitive_data_takes_two_people(tier: Tier) -> None:
    assert approvals.required(tier) == (1 if tier in (Tier.PUBLIC, Tier.INTERNAL) else 2)


def test_two_people_complete_a_sensitive_release_and_one_does_not() -> None:
    assert not state(DANA).is_complete
    assert state(DANA, LEE).is_complete
    assert state(DANA, tier=Tier.INTERNAL).is_complete
    assert not state(tier=Tier.PUBLIC).is_complete


@pytest.mark.row("S11", kind="R")
@pytest.mark.row("A23", kind="R")
def test_the_publisher_does_not_count_under_any_account() -> None:
    with pytest.raises(Refused) as refusal:
        approvals.check(DANA, [], publisher="dana")
    assert refusal.value.code == "APP-SELF"
    with pytest.raises(Refused) as refusal:
        approvals.check(DANA, [], publisher="dana-ci", publisher_human="Dana@Example.com ")
    assert refusal.value.code == "APP-SELF"
    assert state(DANA, LEE, publisher="dana").not_counting == ((DANA, "APP-SELF"),)
    assert not state(DANA, LEE, publisher="dana").is_complete


@pytest.mark.row("S11", kind="R")
@pytest.mark.row("A23", kind="R")
def test_two_accounts_of_one_human_count_once() -> None:
    twin = replace(DANA, approver="dana2", human=" DANA@example.com")
    with pytest.raises(Refused) as refusal:
        approvals.check(twin, [DANA], publisher="ci")
    assert refusal.value.code == "APP-SAME"
    assert state(DANA, twin).not_counting == ((twin, "APP-SAME"),)
    assert approvals.counting([DANA, twin], DIGEST, "p1", NOW) == [DANA]


@pytest.mark.row("S10", kind="R")
@pytest.mark.row("A23", kind="R")
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"digest": OTHER}, "APP-DIGEST"),
        ({"policy_version": "p0"}, "APP-POLICY"),
        ({"expires": NOW}, "APP-EXPIRED"),
        ({"time": NOW + timedelta(seconds=1)}, "APP-EXPIRED"),
    ],
)
def test_an_approval_of_something_else_does_not_count_and_says_why(
    changes: dict[str, object], code: str
) -> None:
    wrong = replace(DANA, **changes)  # type: ignore[arg-type]  # the table above has the right types
    assert state(wrong, LEE).not_counting == ((wrong, code),)
    assert approvals.counting([wrong], DIGEST, "p1", NOW) == []
    assert approvals.refused(code, wrong, DIGEST).code == code


def test_an_approval_that_would_never_be_valid_is_refused() -> None:
    with pytest.raises(Refused) as refusal:
        approvals.check(replace(DANA, expires=NOW), [], publisher="ci")
    assert refusal.value.code == "APP-EXPIRED"


APPROVALS = st.lists(
    st.builds(
        Approval,
        st.sampled_from(["dana", "lee", "kim", "ci"]),
        st.sampled_from(["", "dana@example.com", "lee@example.com", "kim@example.com"]),
        st.sampled_from([DIGEST, OTHER]),
        st.sampled_from(["p0", "p1"]),
        st.sampled_from([NOW, NOW + timedelta(hours=1)]),
        st.sampled_from([NOW - timedelta(hours=1), NOW + timedelta(hours=2)]),
    ),
    max_size=6,
)


@given(APPROVALS, st.sampled_from(list(Tier)))
def test_no_list_of_approvals_completes_with_fewer_people_than_needed(
    given_: list[Approval], tier: Tier
) -> None:
    result = state(*given_, tier=tier)
    people = {approval.human or approval.approver for approval in result.counting}
    assert result.is_complete == (len(people) >= approvals.required(tier))
    assert "ci" not in {approval.approver for approval in result.counting}
    assert len(result.counting) + len(result.not_counting) == len(given_)
