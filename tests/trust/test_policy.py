"""Decisions: the whole matrix of roles and actions, and the ways a policy engine can be made to say yes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.core.actions import Action
from garrison.core.decision import ANONYMOUS, Decision, Request, Subject
from garrison.core.errors import Usage
from garrison.trust.policy import MAX_REMEMBERED, Policy, base_cedar, base_policy, base_schema, facts_of
from garrison.trust.roles import MODEL_SCOPED, READS, ROLES, kind_of

POLICY = base_policy()
FACTS = {"about": "mallory", "publisher": "ci", "approver": "dana", "owner": "ml-team", "state": "approved"}
LOOKS = {
    Action.AUDIT_READ,
    Action.AUDIT_EXPORT,
    Action.AUDIT_VERIFY,
    Action.ARTIFACT_DRIFT,
    Action.CLOUD_CHECK,
    Action.STORE_READ,
}
# Looking leaves an event, and changes nothing; the way back in hangs on the door, not on a role.
WRITES = sorted(set(Action) - READS - LOOKS - {Action.ADMIN_RECOVER})


def subject(role: str, *models: str) -> Subject:
    return Subject(kind_of({role}), "dana", frozenset({role}), frozenset(models), via="token")


def decide(who: Subject, action: Action, resource: str = "fraud", **facts: Any) -> Decision:
    return POLICY.decide(Request(who, action, resource, {**FACTS, **facts}))


@pytest.mark.row("A26", kind="R")
@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_exactly_what_its_row_says(role: str) -> None:
    who = subject(role, "fraud")
    allowed = {action for action in Action if decide(who, action).allowed}
    assert allowed == ROLES[role]


@pytest.mark.row("S47", kind="R")
def test_no_role_opens_the_way_back_in_and_the_host_does() -> None:
    for role in ROLES:
        for context in ({}, {"door": "token"}):
            decision = decide(subject(role), Action.ADMIN_RECOVER, **context)
            assert (decision.allowed, decision.code) == (False, "ID-RECOVER")
    assert decide(subject("user"), Action.ADMIN_RECOVER, door="host").allowed


@pytest.mark.row("A26", kind="R")
@pytest.mark.parametrize("action", WRITES)
def test_whoever_lacks_the_role_is_refused_each_write_by_name(action: Action) -> None:
    for role in ROLES:
        if action not in ROLES[role]:
            decision = decide(subject(role, "fraud"), action)
            assert not decision.allowed
            assert decision.code == "RBAC-403"
            assert "dana" in decision.reason
            assert "admin" in decision.reason
    assert not decide(ANONYMOUS, action).allowed
    assert not decide(Subject("user", "dana"), action).allowed
    assert not decide(Subject("user", "dana", frozenset({"root"})), action).allowed


@pytest.mark.row("A26", kind="R")
def test_an_auditor_changes_nothing() -> None:
    assert not [action for action in WRITES if decide(subject("auditor"), action).allowed]


@pytest.mark.row("A27", kind="R")
def test_a_service_account_reads_its_own_models_and_nothing_else() -> None:
    who = subject("service", "fraud")
    assert decide(who, Action.ARTIFACT_PULL, "fraud@3").allowed
    assert decide(who, Action.MODEL_INVOKE, "fraud").allowed
    for action, resource in itertools.product(
        Action, ["payroll", "payroll@1", "registry", "fraud2", "FRAUD", ""]
    ):
        assert not decide(who, action, resource).allowed, (action, resource)
    assert decide(who, Action.ARTIFACT_PULL, "payroll@1").code == "RBAC-403"
    assert decide(who, Action.MODEL_INVOKE, "payroll").code == "RBAC-MODEL"


@pytest.mark.row("A27", kind="R")
def test_a_service_account_without_models_has_none() -> None:
    who = subject("service")
    assert not [action for action in Action if decide(who, action).allowed]


def test_a_token_for_one_model_is_not_for_another() -> None:
    who = subject("user", "smollm2")
    assert decide(who, Action.MODEL_INVOKE, "smollm2").allowed
    decision = decide(who, Action.MODEL_INVOKE, "other")
    assert (decision.allowed, decision.code, decision.rule_id) == (False, "RBAC-MODEL", "model.scope")
    for action in MODEL_SCOPED:
        assert not decide(subject("admin", "smollm2"), action, "other").allowed


def test_nobody_approves_their_own_release_not_even_an_administrator() -> None:
    for role in ("approver", "admin"):
        decision = decide(subject(role), Action.ARTIFACT_APPROVE, publisher="dana")
        assert (decision.allowed, decision.code) == (False, "APP-SELF")
        assert not decide(subject(role), Action.ARTIFACT_APPROVE, approver="someone").allowed
        assert decide(subject(role), Action.ARTIFACT_APPROVE).allowed


@pytest.mark.parametrize("action", [Action.ARTIFACT_PUBLISH, Action.DEPLOY_APPLY])
def test_a_model_without_an_owner_is_neither_published_nor_deployed(action: Action) -> None:
    decision = decide(subject("admin"), action, owner="")
    assert (decision.allowed, decision.code) == (False, "GOV-OWNER")
    assert POLICY.decide(Request(subject("admin"), action, "fraud")).code == "GOV-OWNER"


@pytest.mark.parametrize(
    "facts",
    [
        {"owner": 3},
        {"owner": None},
        {"owner": ["x"]},
        {"unheard": "of"},
        {"owner": "\ud800"},
        {"version": 1 << 80},
    ],
)
def test_a_fact_of_the_wrong_kind_denies_and_says_so(facts: dict[str, Any]) -> None:
    decision = decide(subject("admin"), Action.ARTIFACT_PUBLISH, **facts)
    assert (decision.allowed, decision.code) == (False, "POL-ERROR")


def test_the_number_one_is_not_the_truth_even_from_memory() -> None:
    who = subject("admin")
    assert decide(who, Action.DEPLOY_APPLY, version=1).allowed
    assert not decide(who, Action.DEPLOY_APPLY, version=True).allowed


@pytest.mark.parametrize(
    "name", ['x"; permit(principal, action, resource); //', "a\nb\x00", 'Subject::"admin"', "é" * 300]
)
def test_a_hostile_name_is_only_a_name(name: str) -> None:
    who = Subject("user", name, frozenset({"user"}))
    assert decide(who, Action.MODEL_INVOKE, name[:80]).allowed
    assert not decide(who, Action.USER_WRITE, name).allowed


REQUESTS = st.builds(
    Request,
    st.builds(
        Subject,
        st.sampled_from(["user", "service", "anonymous", "robot"]),
        st.sampled_from(["dana", "ci", ""]),
        st.frozensets(st.sampled_from([*ROLES, "other"]), max_size=3),
        st.frozensets(st.sampled_from(["fraud", "payroll"]), max_size=2),
    ),
    st.sampled_from(list(Action)),
    st.sampled_from(["fraud", "payroll@2", "registry", ""]),
    st.fixed_dictionaries(
        {},
        optional={
            "publisher": st.sampled_from(["dana", "ci", "", 3]),
            "approver": st.sampled_from(["dana", "ci", ""]),
            "owner": st.sampled_from(["ml-team", "", None]),
            "tier": st.sampled_from(["public", "secret", 1]),
            "unheard": st.just("of"),
        },
    ),
)


@given(REQUESTS)
def test_removing_any_attribute_never_turns_a_no_into_a_yes(request: Request) -> None:
    principal, resource = facts_of(request)
    whole, _, _ = POLICY.evaluate(principal, request.action.value, resource, request.context)
    for holder, known in (("principal", principal), ("resource", resource), ("context", request.context)):
        for name in known:
            rest = {key: value for key, value in known.items() if key != name}
            parts = {"principal": principal, "resource": resource, "context": request.context, holder: rest}
            less, _, _ = POLICY.evaluate(
                parts["principal"], request.action.value, parts["resource"], parts["context"]
            )
            if name == "unheard" or known[name] in (3, 1, None):
                continue  # what is removed is itself what made the request unreadable
            assert whole or not less, (request, holder, name)


@given(REQUESTS)
def test_a_decision_always_has_a_rule_a_sentence_and_a_version(request: Request) -> None:
    decision = POLICY.decide(request)
    assert decision.rule_id
    assert decision.reason
    assert decision.policy_version == POLICY.version
    assert bool(decision.code) is not decision.allowed


@given(REQUESTS, st.randoms(use_true_random=False))
def test_a_forbid_beats_every_permit_in_any_order(request: Request, random: Any) -> None:
    rules = [
        '@id("yes") permit(principal, action, resource);',
        '@id("no") forbid(principal, action, resource);',
    ]
    extra = [rule + "\n" for rule in rules]
    random.shuffle(extra)
    at = random.choice([0, 1])
    text = extra[0] + base_cedar() + extra[1] if at else "".join(extra) + base_cedar()
    assert not Policy(text, base_schema()).decide(request).allowed


def test_a_rule_that_would_read_a_missing_fact_is_not_accepted() -> None:
    careless = '@id("x") forbid(principal, action, resource) when { context.owner == "" };'
    with pytest.raises(Usage) as refusal:
        Policy(base_cedar() + careless, base_schema())
    assert refusal.value.code == "POL-INVALID"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "forbid(principal, action, resource);",
        '@id("a") permit(principal, action, resource); @id("a") forbid(principal, action, resource);',
        '@id("a") permit(principal == ?principal, action, resource);',
        "not cedar at all",
        "// " + "x" * 300_000,
    ],
    ids=["empty", "nameless", "one name twice", "template", "nonsense", "too long"],
)
def test_a_text_that_is_no_policy_of_ours_is_refused_or_allows_nothing(text: str) -> None:
    if text == "":
        assert (
            not Policy(text, base_schema()).decide(Request(subject("admin"), Action.KEY_READ, "keys")).allowed
        )
        return
    with pytest.raises(Usage) as refusal:
        Policy(text, base_schema())
    assert refusal.value.code == "POL-INVALID"


def test_the_version_changes_with_either_text() -> None:
    versions = {
        POLICY.version,
        Policy(base_cedar() + "\n", base_schema()).version,
        Policy(base_cedar(), base_schema() + "\n").version,
    }
    assert len(versions) == 3
    assert base_policy().version == POLICY.version


def test_decisions_are_remembered_up_to_a_bound() -> None:
    policy = base_policy()
    policy._remembered = {number: Decision(False, "x", "x") for number in range(MAX_REMEMBERED)}
    policy.decide(Request(subject("user"), Action.MODEL_INVOKE, "fraud"))
    assert len(policy._remembered) == MAX_REMEMBERED
