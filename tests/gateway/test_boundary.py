"""A tagged request stays within its tier: no model, no retry, no fallback and no listing leads around it."""

from __future__ import annotations

import pytest
from tests.gateway.rig import Rig, chat, route

from garrison.core.decision import Tier


@pytest.fixture
def tiers(rig: Rig) -> Rig:
    """One model server for each tier, each of them able to answer."""
    address = rig.routes[0]["address"]
    rig.routes = [{**route(tier.value, 1, address, ["chat"]), "tier": tier.value} for tier in Tier]
    rig.published()
    return rig


@pytest.mark.row("B15", kind="R")
@pytest.mark.parametrize("tag", list(Tier), ids=str)
def test_a_tagged_request_reaches_its_tier_and_higher_ones_only(tiers: Rig, tag: Tier) -> None:
    for tier in Tier:
        before = len(tiers.upstream.asked)
        answer = tiers.ask(chat() | {"model": tier.value}, x_garrison_tier=tag.value)
        if tier.rank >= tag.rank:
            assert answer.status == 200
        else:
            assert (answer.status, answer.code) == (403, "PAT-BOUNDARY")
            assert answer.json["error"]["evidence"]["rule_id"] == "tier.boundary"
            assert len(tiers.upstream.asked) == before
            assert tiers.event_of(answer)["code"] == "PAT-BOUNDARY"


@pytest.mark.row("B15", kind="R")
def test_what_was_decided_without_a_tag_is_not_remembered_for_one(tiers: Rig) -> None:
    token = tiers.token()
    for tag, status in ((None, 200), ("secret", 403), (None, 200), ("public", 200), ("secret", 403)):
        headers = {"x_garrison_tier": tag} if tag else {}
        assert tiers.ask(chat() | {"model": "public"}, token=token, **headers).status == status


@pytest.mark.row("B15", kind="R")
@pytest.mark.parametrize("tag", ["restricted", "", "public,secret", "0", "SECRET ; q=1", "*"])
def test_a_tag_that_is_no_tier_is_refused_rather_than_ignored(tiers: Rig, tag: str) -> None:
    answer = tiers.ask(chat() | {"model": "secret"}, x_garrison_tier=tag)
    assert (answer.status, answer.code) == (400, "PAT-TIER")
    assert tiers.upstream.asked == []


@pytest.mark.row("B15", kind="R")
def test_a_tag_said_twice_is_refused(tiers: Rig) -> None:
    request = tiers.request(chat() | {"model": "public"}, x_garrison_tier="secret")
    twice = request.replace(b"x-garrison-tier", b"x-garrison-tier: public\r\nx-garrison-tier", 1)
    assert b" 200 " not in tiers.raw(twice).split(b"\r\n")[0]
    assert tiers.upstream.asked == []


@pytest.mark.row("B15", kind="R")
def test_a_server_of_a_lower_tier_never_gets_into_a_route(tiers: Rig) -> None:
    address = tiers.routes[0]["address"]
    mixed = [
        {"id": "own", "kind": "openai", "address": address, "model": "m", "tier": "secret"},
        {"id": "cloud", "kind": "openai", "address": address, "model": "m", "tier": "public", "order": 1},
    ]
    tiers.publish(routes=[{**route("secret", 1, address, ["chat"]), "tier": "secret", "upstreams": mixed}])
    tiers.until(lambda: tiers.plane.snapshots.rejected == 1)
