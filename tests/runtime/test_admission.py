"""What may enter a cluster: pure rulings over reviews, every known bypass among them."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.cluster import (
    BYPASSES,
    DIGEST,
    HOME,
    OLDER,
    OLDER_DIGEST,
    UID,
    Bypass,
    deployment,
    known,
    plain,
    plan,
    pod,
    raw_bypasses,
    review,
)

from garrison.core.decision import Tier
from garrison.core.errors import Refused
from garrison.runtime.kube import mutation, policy
from garrison.runtime.kube.admission import Known, judge
from garrison.runtime.kube.manifests import Plan, render
from garrison.runtime.kube.review import answer, parse, read, uid_of

GOOD = pod()


def ruling(document: dict[str, Any], **changes: Any) -> Any:
    return judge(parse(review(document, **changes)), known())


def reasons(asked: dict[str, Any]) -> list[tuple[str, str]]:
    """(code, what to do) of everything that keeps it out."""
    try:
        return [(one.code, one.fix) for one in judge(parse(asked), known()).denials]
    except Refused as error:
        return [(error.code, error.fix)]


@pytest.mark.row("B09", kind="R")
def test_a_rendered_pod_and_everything_that_starts_it_may_enter() -> None:
    assert ruling(GOOD).denials == ()
    assert ruling(deployment()).denials == ()
    for made in (plan(kserve=True), plan(isolation="kata"), plan(identity="spiffe", registry_secret="pull")):
        found = [one for one in map(plain, render(made)) if one["kind"] in ("Deployment", "InferenceService")]
        assert [ruling(one).denials for one in found] == [()]


def started_by(kind: str, made: Plan) -> dict[str, Any]:
    """The pod of a plan in an object of that kind."""
    template = deployment(made)["spec"]["template"]
    spec: dict[str, Any] = {"template": template}
    if kind == "CronJob":
        spec = {"schedule": "@hourly", "jobTemplate": {"spec": spec}}
    version = "batch/v1" if "Job" in kind else "apps/v1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "f", "namespace": HOME}, "spec": spec}


NEW, OLD = plan(), plan(ref=OLDER, digest=OLDER_DIGEST)
KINDS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob")


@pytest.mark.row("A07", kind="C")
@pytest.mark.row("B09", kind="R")
@pytest.mark.parametrize("kind", [*KINDS, "Pod"])
def test_an_older_version_that_is_still_approved_does_not_follow_a_newer_one(kind: str) -> None:
    older, newer = (pod(one) if kind == "Pod" else started_by(kind, one) for one in (OLD, NEW))
    had = known(floor=lambda namespace, name: 5 if (namespace, name) == (HOME, "fraud") else 0)

    def codes(document: dict[str, Any], knows: Known, **changes: Any) -> list[str]:
        return [one.code for one in judge(parse(review(document, **changes)), knows).denials]

    assert codes(older, known()) == []  # the first that this namespace gets
    assert codes(older, had) == ["ADM-ROLLBACK"]
    assert codes(newer, had) == []
    # Without any memory the object itself says what it held.
    assert codes(older, known(), operation="UPDATE", oldObject=newer) == ["ADM-ROLLBACK"]
    assert codes(newer, known(), operation="UPDATE", oldObject=older) == []
    assert codes(older, had, operation="UPDATE", oldObject=older) == []  # scaled, labelled
    for user, expected in (
        ("system:serviceaccount:kube-system:replicaset-controller", []),
        ("system:serviceaccount:kube-system:cronjob-controller", []),
        ("system:serviceaccount:models-internal:replicaset-controller", ["ADM-ROLLBACK"]),
        ("system:serviceaccount:kube-system:replicaset-controller ", ["ADM-ROLLBACK"]),
        ("system:admin", ["ADM-ROLLBACK"]),
    ):
        assert codes(older, had, userInfo={"username": user}) == expected, user
    owned = {
        **older,
        "metadata": {**older["metadata"], "ownerReferences": [{"kind": "ReplicaSet", "name": "f"}]},
    }
    assert codes(owned, had) == ["ADM-ROLLBACK"]  # anybody may write that
    withdrawn = copy.deepcopy(newer)
    text = json.dumps(withdrawn).replace("fraud@3", "fraud@4")  # what it held is not approved any more
    assert codes(older, known(), operation="UPDATE", oldObject=json.loads(text)) == []


@pytest.mark.row("B09", kind="R")
@pytest.mark.row("A03", kind="R")
@pytest.mark.parametrize("bypass", BYPASSES, ids=lambda one: one.name)
def test_a_bypass_is_denied_with_a_reason_to_act_on(bypass: Bypass) -> None:
    found = reasons(bypass.made(GOOD))
    assert bypass.code in [code for code, _fix in found]
    assert all(fix for _code, fix in found)


def test_the_bypasses_are_at_least_sixty_and_all_different() -> None:
    assert len({one.name for one in BYPASSES}) == len(BYPASSES) >= 60
    asked = {json.dumps(one.made(GOOD), sort_keys=True) for one in BYPASSES}
    assert len(asked) == len(BYPASSES)


@pytest.mark.parametrize("name", raw_bypasses(GOOD))
def test_bytes_with_no_single_reading_are_refused(name: str) -> None:
    with pytest.raises(Refused) as refused:
        read(raw_bypasses(GOOD)[name])
    assert refused.value.code == "ADM-REVIEW"


def test_the_uid_is_echoed_also_when_the_rest_cannot_be_read() -> None:
    assert uid_of(json.dumps({**review(GOOD), "apiVersion": "v0"}).encode()) == UID
    assert uid_of(b"{") == uid_of(b"[]") == uid_of(b'{"request": {"uid": 5}}') == ""
    assert answer(UID, ruling(GOOD))["response"]["uid"] == UID


def test_what_only_counts_labels_or_takes_away_goes_on() -> None:
    moved = copy.deepcopy(GOOD)
    moved["metadata"]["finalizers"] = ["x/y"]
    moved["metadata"]["annotations"]["cni.projectcalico.org/podIP"] = "10.0.0.7"
    stale = known(version=lambda _ref: pytest.fail("nobody asks about what runs already"))
    changed = parse(review(moved, operation="UPDATE", oldObject=GOOD))
    assert judge(changed, stale).allowed
    assert judge(
        parse(review(moved, operation="UPDATE", oldObject=GOOD, subResource="status")), stale
    ).allowed
    scale = {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {"namespace": HOME, "name": "fraud"},
    }
    assert ruling(scale, operation="UPDATE", oldObject=scale, subResource="scale").allowed
    assert ruling(GOOD, operation="DELETE", object=None, oldObject=GOOD).allowed


def test_an_exemption_is_the_servers_and_not_a_labels() -> None:
    bad = copy.deepcopy(GOOD)
    bad["metadata"]["namespace"] = "kube-system"
    bad["spec"]["hostNetwork"] = True
    assert ruling(bad).allowed
    bad["metadata"]["namespace"] = "tools"
    bad["metadata"]["labels"]["garrison.dev/admission"] = "off"
    assert not ruling(bad).allowed
    asked = parse(review(bad))
    assert judge(asked, known(exempt=frozenset({"tools"}))).allowed


def test_a_tier_can_be_given_to_a_namespace_of_another_name() -> None:
    here = copy.deepcopy(GOOD)
    here["metadata"]["namespace"] = "team-a"
    assert [one.code for one in ruling(here).denials] == ["ADM-NAMESPACE"]
    asked = parse(review(here))
    assert judge(asked, known(tiers={"team-a": Tier.INTERNAL})).allowed
    assert [one.code for one in judge(asked, known(tiers={"team-a": Tier.PUBLIC})).denials] == ["ADM-TIER"]


def applied(document: Any, patch: list[dict[str, Any]]) -> Any:
    """RFC 6902, the one operation that is used."""
    made = copy.deepcopy(document)
    for step in patch:
        assert step["op"] == "add"
        *way, last = step["path"].split("/")[1:]
        place = made
        for part in way:
            place = place[int(part)] if isinstance(place, list) else place[part]
        place[last] = step["value"]
    return made


def test_what_a_pod_left_out_is_filled_in_and_then_judged() -> None:
    bare = copy.deepcopy(GOOD)
    for name in ("automountServiceAccountToken", "enableServiceLinks"):
        del bare["spec"][name]
    del bare["spec"]["containers"][0]["securityContext"]
    del bare["spec"]["initContainers"][0]["imagePullPolicy"]
    assert not ruling(bare).allowed
    found = mutation.completed(parse(review(bare)), known())
    assert found.allowed
    response = answer(UID, found)["response"]
    assert response["patchType"] == "JSONPatch"
    after = applied(bare, json.loads(base64.b64decode(response["patch"])))
    assert ruling(after).allowed


@pytest.mark.parametrize("bypass", BYPASSES, ids=lambda one: one.name)
def test_no_mutation_makes_a_bypass_pass(bypass: Bypass) -> None:
    """But for what was merely left out, which is then as it should be."""
    asked = bypass.made(GOOD)
    try:
        parsed = parse(asked)
    except Refused:
        return
    found = mutation.completed(parsed, known())
    assert not found.allowed or bypass.name == "a token by default"
    assert found.allowed or not found.patch


def test_a_denial_reads_on_one_line_and_is_bounded() -> None:
    awful = copy.deepcopy(GOOD)
    awful["spec"]["containers"] = [{"name": "x\n\x1b[31m", "image": "y\n\x1b[31m" * 50}] * 60
    message = answer(UID, ruling(awful))["response"]["status"]["message"]
    assert message.isprintable()
    assert len(message) <= 3_000


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from([*sorted(GOOD["spec"]), "ephemeralContainers", "hostAliases", "tolerations"])


@given(field=fields, value=values)
def test_no_shape_of_a_field_raises_or_slips_in_a_container(field: str, value: Any) -> None:
    strange = copy.deepcopy(GOOD)
    strange["spec"][field] = value
    found = ruling(strange)
    if found.allowed:
        assert field not in ("containers", "ephemeralContainers") or not value
    mutation.completed(parse(review(strange)), known())


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(Refused):
        read(data)


# --- the policy that holds when the webhook is away ---


def evaluated(document: dict[str, Any]) -> dict[str, bool]:
    cel = pytest.importorskip("cel", reason="NOT PROVED HERE: common-expression-language is not installed")
    found = {"object": document, "variables": {}}
    found["variables"] = {name: cel.evaluate(text, found) for name, text in policy.VARIABLES}
    result = {}
    for name, text, _why in policy.pod_rules(["sha256:" + "b" * 64]):
        try:
            result[name] = cel.evaluate(text, found) is True
        except (RuntimeError, ValueError, TypeError):
            result[name] = False  # an error is a failure, and failurePolicy is Fail
    return result


def test_the_policy_lets_the_rendered_pod_in() -> None:
    assert [name for name, holds in evaluated(GOOD).items() if not holds] == []


# What CEL does not see: names of versions, tiers, arguments, and what the restricted standard forbids anyway.
HELD_WITHOUT_THE_WEBHOOK = (
    ("no model named", "model"),
    ("no digest", "model"),
    ("a tag", "image-digest"),
    ("two digests", "image-digest"),
    ("a digest in the name", "image-digest"),
    ("a line break after the digest", "image-digest"),
    ("an unknown digest", "launcher"),
    ("another pinned image in its place", "launcher"),
    ("a shell", "launcher"),
    ("no command", "launcher"),
    ("its path changed", "launcher-environment"),
    ("an environment of a ConfigMap", "launcher-environment"),
    ("an ephemeral container at creation", "ephemeral-containers"),
    ("a debugger in a running pod", "ephemeral-containers"),
    ("no sandbox", "runtime-class"),
    ("another runtime", "runtime-class"),
    ("a token", "account-token"),
    ("a token by default", "account-token"),
    ("service links", "service-links"),
    ("the node's network", "host-namespaces"),
    ("the node's processes", "host-namespaces"),
    ("shared processes", "host-namespaces"),
    ("the node's disk", "volumes"),
    ("privileged", "security-context"),
    ("rights to gain", "security-context"),
    ("a writable root", "security-context"),
    ("an added capability", "security-context"),
    ("a hook", "hooks"),
    ("a probe that runs a program", "hooks"),
)


@pytest.mark.row("B09", kind="C")
@pytest.mark.parametrize(("name", "rule"), HELD_WITHOUT_THE_WEBHOOK)
def test_the_policy_holds_when_the_webhook_is_away(name: str, rule: str) -> None:
    bypass = next(one for one in BYPASSES if one.name == name)
    document = bypass.made(GOOD)["request"]["object"]
    document = {key: value for key, value in document.items() if value is not None}
    for part in ("containers", "initContainers"):
        document["spec"][part] = [
            {key: value for key, value in one.items() if value is not None} for one in document["spec"][part]
        ]
    document["spec"] = {key: value for key, value in document["spec"].items() if value is not None}
    assert not evaluated(document)[rule]


def test_everything_that_asks_fails_closed_and_quickly() -> None:
    made = list(policy.webhooks(b"ca", [DIGEST], {"kube-system"}))
    hooks = [hook for one in made for hook in one.get("webhooks", ())]
    assert {hook["failurePolicy"] for hook in hooks} == {"Fail"}
    assert {hook["sideEffects"] for hook in hooks} == {"NoneOnDryRun"}
    assert {hook["timeoutSeconds"] for hook in hooks} == {5}
    assert all(one["spec"]["failurePolicy"] == "Fail" for one in made if one["kind"].endswith("Policy"))
    guarded = [hook for hook in hooks if "namespaceSelector" in hook]
    assert {json.dumps(hook["namespaceSelector"]) for hook in guarded} == {
        json.dumps(
            {
                "matchExpressions": [
                    {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]}
                ]
            }
        )
    }
    asked = {name for hook in hooks for rule in hook["rules"] for name in rule["resources"]}
    assert {"pods", "pods/ephemeralcontainers", "cronjobs", "inferenceservices", "pods/exec"} <= asked
