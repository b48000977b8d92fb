"""Who may do what in the registry: every role against every verb, and accounts that see their own models only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.app.household import Household, opened

from garrison.app.people import settle
from garrison.app.verbs import VERBS
from garrison.app.verbs.base import Call, perform
from garrison.core.errors import GarrisonError, Refused, Usage
from garrison.trust.roles import MODEL_SCOPED, READS, ROLES, kind_of

# What each verb is called with, so that it gets as far as the question of who may. {} needs nothing.
BODIES: dict[str, dict[str, Any]] = {
    "model.publish": {"ref": "new@1", "owner": "ml-team", "tier": "internal"},
    "artifact.sign": {"ref": "new@1", "owner": "ml-team", "tier": "internal"},
    "model.approve": {"ref": "fraud@1"},
    "model.retire": {"ref": "fraud@1"},
    "model.list": {},
    "model.show": {"ref": "fraud@1"},
    "model.verify": {"ref": "fraud@1"},
    "model.pull": {"ref": "fraud@1", "destination": "/nonexistent/x"},
    "model.diff": {"ref": "fraud@1", "to": "fraud@1"},
    "model.push": {"ref": "fraud@1", "target": "oci://127.0.0.1:9/m"},
    "model.fetch": {"source": "oci://127.0.0.1:9/m", "destination": "/nonexistent/x"},
    "deploy.apply": {"ref": "fraud@1"},
    "deploy.rollback": {"name": "fraud"},
    "deploy.stop": {"name": "fraud"},
    "route.add": {"name": "other", "upstream": "http://127.0.0.1:9", "tier": "internal"},
    "route.remove": {"name": "other"},
    "user.add": {"name": "zoe", "roles": ["user"]},
    "user.disable": {"name": "erin"},
    "user.enable": {"name": "erin"},
    "token.api-key": {"subject": "zoe", "models": ["fraud"]},
    "user.certificate": {"name": "erin", "request": "x"},
    "gateway.selftest": {},
    "mesh.check": {},
    "mesh.rotate": {},
    "limit.set": {"name": "x", "concurrency": 1},
    "limit.remove": {"name": "x"},
    "limit.price": {"model": "x", "input": 1, "output": 1},
    "issuer.add": {"issuer": {"url": "https://127.0.0.1:9", "audience": "a", "name": "b", "roles": ["user"]}},
    "issuer.remove": {"url": "https://127.0.0.1:9"},
    "token.issue": {"subject": "zoe", "roles": ["user"]},
    "token.revoke": {"token_id": "0" * 32},
    "owner.set": {"model": "fraud", "owner": "root"},
    "owner.group": {"name": "some-team", "members": ["root"]},
    "image.pin": {"source": "oci:/nonexistent", "name": "app"},
    "schedule.run": {"job": "check-rows"},
}
WRITES = sorted(name for name in BODIES if VERBS[name].action not in READS)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Household, Path]]:
    """One house for the whole matrix: what is refused changes nothing, and what is allowed fails later on."""
    plain = tmp_path_factory.mktemp("plain")
    (plain / "config.json").write_text('{"hidden_size": 8}')
    with opened(tmp_path_factory.mktemp("home") / "data") as home:
        home.ask("user.add", name="erin", roles=["approver"])
        home.publish(plain, "fraud@1")
        home.publish(plain, "payroll@1")
        for role in ROLES:
            models = ["fraud"] if kind_of({role}) == "service" else []
            home.ask("user.add", name=f"a-{role}", roles=[role], models=models)
        yield home, plain


def attempt(home: Household, verb: str, who: str, plain: Path) -> str:
    """The code that the verb answers with; the empty text when it did its work."""
    body = dict(BODIES[verb])
    if verb in ("model.publish", "artifact.sign"):
        body["source"] = str(plain)
    call = Call(home.house.local_subject(who, via="socket uid 0"), body)
    answer = perform(home.house, VERBS[verb], call)
    return "" if "result" in answer else str(answer["error"]["code"])


@pytest.mark.row("A26", kind="R")
@pytest.mark.parametrize("verb", WRITES)
def test_each_write_is_refused_to_each_role_that_does_not_have_it(
    house: tuple[Household, Path], verb: str
) -> None:
    home, plain = house
    action = VERBS[verb].action
    for role in ROLES:
        if action in ROLES[role]:
            continue
        before = len(home.events(action.value))
        assert attempt(home, verb, f"a-{role}", plain) == "RBAC-403", role
        told = home.events(action.value)
        assert len(told) == before + 1
        assert told[-1]["code"] == "RBAC-403"
        assert told[-1]["actor"] == f"{kind_of({role})}:a-{role}"


@pytest.mark.row("A26", kind="R")
def test_a_name_that_does_not_exist_yet_is_denied_like_any_other(house: tuple[Household, Path]) -> None:
    home, plain = house
    for role in sorted(set(ROLES) - {"admin", "ci", "engineer", "publisher"}):
        assert attempt(home, "model.publish", f"a-{role}", plain) == "RBAC-403", role
    assert attempt(home, "model.publish", "nobody-knows", plain) == "RBAC-403"
    assert attempt(home, "model.publish", "", plain) == "RBAC-403"
    names = {row["name"] for row in home.ask("model.list")["models"]}
    assert names == {"fraud", "payroll"}


@pytest.mark.row("A26", kind="R")
def test_a_pipeline_that_is_limited_to_one_model_publishes_no_other(
    house: tuple[Household, Path],
) -> None:
    home, plain = house
    home.ask("user.add", name="ci-fraud", roles=["ci"], models=["fraud"])
    with pytest.raises(Refused) as refused:
        home.ask(
            "model.publish", "ci-fraud", source=str(plain), ref="payroll@2", owner="ml-team", tier="internal"
        )
    assert refused.value.code == "RBAC-403"
    made = home.ask(
        "model.publish", "ci-fraud", source=str(plain), ref="fraud@2", owner="ml-team", tier="internal"
    )
    assert made["ref"] == "fraud@2"
    for verb in ("model.approve", "model.retire", "deploy.apply"):
        assert attempt(home, verb, "ci-fraud", plain) == "RBAC-403"


def _tokened(home: Household, verb: str, token: str, **body: Any) -> dict[str, Any]:
    return perform(home.house, VERBS[verb], Call(home.house.identify(token), body))


@pytest.mark.row("A27", kind="R")
def test_a_serving_account_reads_the_approved_versions_of_its_models_and_nothing_else(
    house: tuple[Household, Path], tmp_path: Path
) -> None:
    home, plain = house
    token = home.ask("token.issue", subject="sa-fraud", roles=["serving"], models=["fraud"])["token"]
    home.ask("user.add", name="sa-fraud", roles=["serving"], models=["fraud"])

    def ask(verb: str, **body: Any) -> list[str]:
        """The same by name and by token."""
        named = perform(
            home.house, VERBS[verb], Call(home.house.local_subject("sa-fraud", via="socket uid 0"), body)
        )
        return [
            answer["error"]["code"] if "error" in answer else ""
            for answer in (named, _tokened(home, verb, token, **body))
        ]

    refused = ["RBAC-403", "RBAC-403"]
    assert ask("model.show", ref="fraud@1") == refused  # not approved yet
    home.ask("model.approve", "erin", ref="fraud@1")
    assert ask("model.show", ref="fraud@1") == ["", ""]
    assert ask("model.verify", ref="fraud@1") == ["", ""]
    for place in ("a", "b"):
        body = {"ref": "fraud@1", "destination": str(tmp_path / place)}
        assert "path" in _tokened(home, "model.pull", token, **body)["result"]
    # a version that exists, one that does not, another model, one that nobody has: the same answer
    seen = set()
    for ref in ("fraud@77", "payroll@1", "nothing@1"):
        body = {"ref": ref, "destination": str(tmp_path / "x")}
        error = _tokened(home, "model.pull", token, **body)["error"]
        seen.add((error["code"], error["message"].replace(ref.partition("@")[0], "NAME")))
    assert {code for code, _ in seen} == {"RBAC-403"}
    other = {message for code, message in seen}
    assert len({message for message in other if "serving" not in message}) <= 1
    listed = _tokened(home, "model.list", token)["result"]["models"]
    assert [row["ref"] for row in listed] == ["fraud@1"]
    assert ask("model.list", name="payroll") == refused
    assert ask("model.list", search="payroll") == ["", ""]
    assert _tokened(home, "model.list", token, search="payroll")["result"]["models"] == []
    for verb in sorted(set(WRITES) - {"model.pull"}):
        assert attempt(home, verb, "sa-fraud", plain) == "RBAC-403", verb
    assert ask("model.pull", ref="fraud@1", repair=True) == refused
    assert ask("user.list") == refused


def test_a_service_account_has_to_name_its_models(house: tuple[Household, Path]) -> None:
    with pytest.raises(Usage) as refused:
        house[0].ask("user.add", name="sa-all", roles=["serving"])
    assert refused.value.code == "ARG-MISSING"


def test_every_verb_about_a_model_is_limited_by_the_models_of_who_asks() -> None:
    for name in BODIES:
        if name.startswith(("model.", "deploy.", "owner.set", "route.")):
            assert VERBS[name].action in MODEL_SCOPED, name


@pytest.mark.row("S11", kind="R")
def test_a_role_that_was_given_just_now_is_told_with_the_approval(
    house: tuple[Household, Path],
) -> None:
    home, plain = house
    home.publish(plain, "fresh@1")
    home.ask("user.add", name="new-one", roles=["approver"])
    told = home.ask("model.approve", "new-one", ref="fresh@1")["fresh_role"]
    assert told.startswith("approver since ")
    assert told.endswith("given by user:root")
    home.publish(plain, "fresh@2")
    home.clock.move(hours=2)
    assert home.ask("model.approve", "new-one", ref="fresh@2")["fresh_role"] == ""


def test_roles_that_were_given_again_are_not_fresh(house: tuple[Household, Path]) -> None:
    home, _ = house
    home.ask("user.add", name="old-one", roles=["approver"])
    home.clock.move(hours=3)
    home.ask("user.add", name="old-one", roles=["approver", "auditor"])
    person = home.house.people().persons["old-one"]
    assert person.fresh_role(["approver"], home.clock()) is None
    assert person.fresh_role(["auditor"], home.clock()) is not None


EDITS = {
    "a role": ("UPDATE users SET roles = '[\"admin\"]' WHERE name = 'uma'", "user uma"),
    "an identity": (
        "INSERT INTO users SELECT 'eve', '', '[\"admin\"]', 0, created, created_by FROM users WHERE name='uma'",
        "user eve",
    ),
    "an identity that is gone": ("DELETE FROM users WHERE name = 'uma'", "user uma"),
    "a disabled one": ("UPDATE users SET disabled = 0 WHERE name = 'gone'", "user gone"),
    "an e-mail": ("UPDATE users SET email = 'else@example.com' WHERE name = 'uma'", "user uma"),
    "an owner": ("UPDATE owners SET owner = 'uma' WHERE model = 'fraud'", "owner of fraud"),
    "a revocation": ("DELETE FROM revoked_tokens", "revocation " + "0" * 32),
    "a route": ("UPDATE routes SET upstream = 'http://evil:80'", "route vllm"),
}


@pytest.mark.row("A17", kind="R")
@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_row_is_named_decides_nothing_and_is_put_back(
    home: Household, plain: Path, edit: str
) -> None:
    home.ask("user.add", name="uma", roles=["auditor"], email="uma@example.com")
    home.ask("user.add", name="gone", roles=["admin"])
    home.ask("user.disable", name="gone")
    home.ask("token.revoke", token_id="0" * 32)
    home.ask("route.add", name="vllm", upstream="http://127.0.0.1:9", tier="internal")
    home.publish(plain, "fraud@1")
    statement, what = EDITS[edit]
    home.edit(statement)

    with pytest.raises(Refused) as found:
        home.ask("schedule.run", job="check-rows")
    assert found.value.code == "DB-EDITED"
    assert what in found.value.what
    who = what.removeprefix("user ") if what.startswith("user ") else "uma"
    with pytest.raises(GarrisonError) as refused:
        home.ask("user.add", who, name="mallory", roles=["admin"])
    assert refused.value.code in {"DB-EDITED", "RBAC-403"}

    house = home.house
    done = settle(house.ledger, house.people, house.now)
    assert any("DB-EDITED" in line and what in line for line in done)
    assert home.ask("schedule.run", job="check-rows")["job"] == "check-rows"
    assert home.events("system.repair")[-1]["code"] == "DB-EDITED"
    assert settle(house.ledger, house.people, house.now) == []


@pytest.mark.row("A17", kind="R")
def test_a_record_forged_into_the_ledger_makes_nobody_an_administrator(home: Household) -> None:
    home.ask("user.add", name="uma", roles=["auditor"])
    home.edit(
        "UPDATE ledger_event SET body = CAST(replace(CAST(body AS TEXT), '[\"auditor\"]', '[\"admin\"]') AS BLOB)"
        " WHERE action = 'user.write' AND resource = 'uma'"
    )
    home.house.told = type(home.house.told)()  # as after a start: nothing is remembered
    with pytest.raises(Refused) as refused:
        home.house.local_subject("uma", via="socket uid 0")
    assert refused.value.code == "AUD-EDITED"
