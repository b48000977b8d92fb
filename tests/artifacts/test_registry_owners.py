"""Who answers for a model, what a search and a comparison find, and what is checked again and again."""

from __future__ import annotations

import json
import pickle
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.app.household import Household, opened
from tests.flows.server import run

from garrison.core.errors import GarrisonError, Refused, Usage


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Household]:
    with opened(tmp_path / "data") as household:
        yield household


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    directory = tmp_path / "plain"
    directory.mkdir()
    (directory / "config.json").write_text('{"hidden_size": 8}')
    return directory


@pytest.fixture
def staffed(home: Household) -> Household:
    for name in ("dana", "erin"):
        home.ask("user.add", name=name, roles=["approver"])
    return home


def stages(home: Household, ref: str) -> list[tuple[str, str]]:
    """What `garrison audit list --kind artifact.verify --model REF` shows: one row a stage."""
    data = home.house.settings.data
    answer = run(
        ["--data", str(data), "--json", "audit", "list", "--kind", "artifact.verify", "--model", ref]
    )
    return [(row["data"]["stage"], row["outcome"]) for row in answer.json["records"]]


@pytest.mark.row("E06", kind="R")
def test_a_version_needs_an_owner_that_is_somebody(staffed: Household, plain: Path) -> None:
    staffed.ask("user.add", name="ci", roles=["engineer"])
    body: dict[str, Any] = {"source": str(plain), "ref": "fraud@1", "tier": "internal"}
    with pytest.raises(Refused) as refused:
        staffed.ask("model.publish", "ci", owner="nobody-knows", **body)
    assert refused.value.code == "GOV-OWNER"
    assert staffed.ask("model.list")["models"] == []
    staffed.ask("owner.group", name="risk", members=["dana"])
    assert staffed.ask("model.publish", "ci", owner="risk", **body)["owner"] == "risk"
    with pytest.raises(Refused):  # a slip of the pen makes no new team once a model has an owner
        staffed.ask("model.publish", source=str(plain), ref="fraud@2", tier="internal", owner="rsik")


@pytest.mark.row("E06", kind="R")
def test_on_a_fresh_server_the_first_team_begins_with_whoever_publishes(home: Household, plain: Path) -> None:
    home.publish(plain, "smollm2@1")
    row = home.ask("owner.raci", model="smollm2")["models"][0]
    assert (row["owner"], row["accountable"]) == ("ml-team", "root")


@pytest.mark.row("S12", kind="R")
@pytest.mark.row("E06", kind="R")
def test_a_model_whose_owner_left_goes_no_further_until_another_is_named(
    staffed: Household, plain: Path
) -> None:
    staffed.publish(plain, "fraud@1", owner="dana")
    staffed.ask("owner.set", model="fraud", responsible=["erin"])
    staffed.ask("model.approve", "erin", ref="fraud@1")
    left = staffed.ask("user.disable", name="dana")["without_owner"]
    assert left == [
        {"model": "fraud", "escalate_to": ["erin"], "next": "garrison owner set fraud --accountable PERSON"}
    ]
    assert staffed.events("owner.escalate")[-1]["resource"] == "fraud"
    for ask in (
        lambda: staffed.ask("deploy.apply", ref="fraud@1"),
        lambda: staffed.publish(plain, "fraud@2", owner="dana"),
    ):
        with pytest.raises(Refused) as refused:
            ask()
        assert refused.value.code == "GOV-OWNER"
        assert "garrison owner set fraud" in refused.value.fix
    listed = staffed.ask("owner.list")["models"][0]
    assert (listed["level"], listed["escalate_to"]) == ("bad", ["erin"])
    answer = run(["--data", str(staffed.house.settings.data), "--json", "posture"])
    assert any("nobody answers for fraud" in json.dumps(layer) for layer in answer.json["layers"])
    staffed.ask("owner.set", model="fraud", accountable="erin")
    with pytest.raises(GarrisonError) as later:
        staffed.ask("deploy.apply", ref="fraud@1")
    assert later.value.code != "GOV-OWNER"  # the files are no model that anything serves


@pytest.mark.row("E05", kind="R")
def test_the_table_has_one_accountable_and_shows_every_gap(staffed: Household, plain: Path) -> None:
    staffed.ask("owner.group", name="ml-team", members=["dana", "erin"])
    staffed.publish(plain, "fraud@1")
    row = staffed.ask("owner.raci", model="fraud")["models"][0]
    assert row["gaps"] == [
        "ml-team is a group of 2: name the one who is accountable",
        "nobody is responsible for the work",
    ]
    assert row["level"] == "bad"
    staffed.ask("owner.set", model="fraud", accountable="dana", responsible=["erin"], informed=["ml-team"])
    row = staffed.ask("owner.raci", model="fraud")["models"][0]
    assert (row["accountable"], row["responsible"], row["informed"], row["gaps"]) == (
        "dana",
        ["erin"],
        ["ml-team"],
        [],
    )
    staffed.ask("user.disable", name="erin")
    assert staffed.ask("owner.raci", model="fraud")["models"][0]["gaps"] == [
        "erin left",
        "responsible erin left",
    ]
    with pytest.raises(Refused):
        staffed.ask("owner.set", model="fraud", responsible=["nobody-knows"])


def test_a_search_finds_by_what_is_inside_and_not_by_what_is_not(staffed: Household, tmp_path: Path) -> None:
    for name, text in (("fraud", '{"hidden_size": 8}'), ("payroll", '{"layers": 2}')):
        directory = tmp_path / name
        directory.mkdir()
        (directory / f"{name}.json").write_text(text)
        staffed.publish(directory, f"{name}@1", tier="public" if name == "payroll" else "internal")
    staffed.ask("model.approve", "dana", ref="fraud@1")

    def found(**body: Any) -> list[str]:
        return [row["ref"] for row in staffed.ask("model.list", **body)["models"]]

    assert found() == ["fraud@1", "payroll@1"]
    assert found(states=["approved"]) == ["fraud@1"]
    assert found(states=["pending"], tiers=["public"]) == ["payroll@1"]
    assert found(search="PAYROLL.json json") == ["payroll@1"]
    assert found(search="fraud payroll") == []
    assert found(owner="ml-team") == ["fraud@1", "payroll@1"]
    assert found(owner="dana") == []
    with pytest.raises(GarrisonError):
        found(search="x" * 1000)


def test_two_versions_are_compared_file_by_file(staffed: Household, tmp_path: Path) -> None:
    directory = tmp_path / "m"
    directory.mkdir()
    for name in ("same.json", "changed.json", "gone.json", "old-name.json"):
        (directory / name).write_text(json.dumps({"file": name}))
    staffed.publish(directory, "m@1")
    (directory / "changed.json").write_text('{"file": "other", "more": 1}')
    (directory / "gone.json").unlink()
    (directory / "old-name.json").rename(directory / "new-name.json")
    (directory / "new.json").write_text("{}")
    staffed.publish(directory, "m@2", tier="secret")
    answer = staffed.ask("model.diff", ref="m@1", to="m@2")
    assert {row["path"]: row["kind"] for row in answer["files"]} == {
        "changed.json": "content",
        "gone.json": "removed",
        "new-name.json": "renamed",
        "new.json": "added",
    }
    assert {"name": "tier", "before": "internal", "after": "secret"} in answer["facts"]
    assert answer["papers"]
    assert staffed.ask("model.diff", ref="m@1", to="m@1")["files"] == []


def test_a_search_finds_globals_and_licences_and_a_comparison_tells_what_the_files_ask_for(
    staffed: Household, tmp_path: Path
) -> None:
    directory = tmp_path / "m"
    directory.mkdir()
    (directory / "config.json").write_text('{"hidden_size": 8}')
    staffed.publish(directory, "m@1")
    (directory / "weights.pkl").write_bytes(pickle.dumps(OrderedDict(a=1)))
    (directory / "README.md").write_text("---\nlicense: apache-2.0\n---\n# M\n")
    staffed.publish(directory, "m@2")

    def found(text: str) -> list[str]:
        return [row["ref"] for row in staffed.ask("model.list", search=text)["models"]]

    assert found("collections.OrderedDict") == ["m@2"]
    assert found("apache-2.0 ordereddict pickle") == ["m@2"]
    assert found("hidden_size") == [], "what a file contains is not searched"
    answer = staffed.ask("model.diff", ref="m@1", to="m@2")
    assert [line for line in answer["seen"]["come"] if "OrderedDict" in line]
    assert answer["seen"]["gone"] == []
    assert {"bom", "provenance"} <= answer["papers"].keys()
    shown = staffed.ask("model.show", ref="m@2")
    assert shown["gaps"] == ["data", "preprocessing", "run", "evaluation"]
    assert (shown["images"], shown["waivers"]) == ([], [])


@pytest.mark.row("A13", kind="R")
def test_every_stage_verifies_and_leaves_a_row(staffed: Household, plain: Path, tmp_path: Path) -> None:
    staffed.publish(plain, "fraud@1")
    staffed.ask("model.approve", "dana", ref="fraud@1")
    staffed.ask("model.pull", ref="fraud@1", destination=str(tmp_path / "copy"))
    with pytest.raises(GarrisonError):
        staffed.ask("deploy.apply", ref="fraud@1")
    staffed.ask("schedule.run", job="verify-at-rest")
    found = stages(staffed, "fraud@1")
    for stage in ("publish", "approve", "pull", "deploy", "at rest"):
        assert (stage, "allowed") in found


@pytest.mark.row("A05", kind="R")
@pytest.mark.row("A13", kind="R")
@pytest.mark.parametrize("before", ["approve", "pull", "deploy", "at rest", "verify"])
def test_what_is_changed_between_two_stages_is_found_by_the_next(
    staffed: Household, plain: Path, tmp_path: Path, before: str
) -> None:
    path = Path(staffed.publish(plain, "fraud@1")["path"]) / "config.json"
    if before != "approve":
        staffed.ask("model.approve", "dana", ref="fraud@1")
    path.chmod(0o644)
    path.write_text('{"hidden_size": 9}')
    asks: dict[str, tuple[str, str, dict[str, Any]]] = {
        "approve": ("model.approve", "dana", {"ref": "fraud@1"}),
        "pull": ("model.pull", "root", {"ref": "fraud@1", "destination": str(tmp_path / "copy")}),
        "deploy": ("deploy.apply", "root", {"ref": "fraud@1"}),
        "at rest": ("schedule.run", "root", {"job": "verify-at-rest"}),
        "verify": ("model.verify", "root", {"ref": "fraud@1"}),
    }
    verb, who, body = asks[before]
    with pytest.raises(Refused) as refused:
        staffed.ask(verb, who, **body)
    assert refused.value.code in {"ART-TAMPER", "ART-REST"}
    if before == "at rest":
        assert ("at rest", "denied") in stages(staffed, "fraud@1")
        assert staffed.events("schedule.run")[-1]["code"] == "ART-REST"
    assert not (tmp_path / "copy").exists()


@pytest.mark.row("A17", kind="R")
@pytest.mark.parametrize("column", ["tier", "owner", "publisher", "digest"])
def test_an_edited_row_of_a_version_is_named_by_audit_verify_and_at_rest(
    staffed: Household, plain: Path, column: str
) -> None:
    staffed.publish(plain, "fraud@1", tier="secret")
    command = ["--data", str(staffed.house.settings.data), "--json", "audit", "verify"]
    assert run(command).status == 0
    values = {"tier": "public", "digest": "sha256:" + "0" * 64}
    staffed.edit(f"UPDATE releases SET {column} = ?", values.get(column, "erin"))
    answer = run(command)
    assert (answer.status, answer.json["error"]["code"]) == (1, "DB-EDITED")
    assert "version fraud@1" in answer.json["error"]["message"]
    with pytest.raises(Refused) as refused:
        staffed.ask("schedule.run", job="verify-at-rest")
    assert refused.value.evidence["versions"] == ["fraud@1 ART-SIGNATURE"]


@pytest.mark.row("A17", kind="R")
def test_audit_verify_names_an_edited_role(staffed: Household) -> None:
    staffed.edit("UPDATE users SET roles = '[\"admin\"]' WHERE name = 'dana'")
    answer = run(["--data", str(staffed.house.settings.data), "--json", "audit", "verify"])
    assert (answer.status, answer.json["error"]["code"]) == (1, "DB-EDITED")
    assert "user dana" in answer.json["error"]["message"]


@pytest.mark.row("A17", kind="R")
def test_two_publishers_of_one_name_and_version_are_one_version(staffed: Household, tmp_path: Path) -> None:
    sources = []
    for number in range(4):
        directory = tmp_path / f"m{number}"
        directory.mkdir()
        (directory / "config.json").write_text(f'{{"n": {number}}}')
        sources.append(directory)
    staffed.publish(sources[0], "other@1")  # the team exists: nobody waits for its beginning
    outcomes: list[str] = []

    def publish(source: Path) -> None:
        try:
            staffed.publish(source, "race@1")
            outcomes.append("published")
        except GarrisonError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=publish, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["ART-IMMUTABLE"] * 3 + ["published"]
    assert staffed.ask("model.verify", ref="race@1")["ref"] == "race@1"


def test_the_fold_is_the_same_after_a_restart(tmp_path: Path, plain: Path) -> None:
    data = tmp_path / "again"
    with opened(data) as home:
        home.ask("user.add", name="dana", roles=["approver"], email="dana@example.com")
        home.ask("user.add", name="sa", roles=["serving"], models=["fraud"])
        home.publish(plain, "fraud@1")
        home.ask("owner.set", model="fraud", responsible=["dana"])
        kept = home.house.people()
    with opened(data) as home:
        rebuilt = home.house.people()
        assert (rebuilt.owners, rebuilt.raci, rebuilt.groups) == (kept.owners, kept.raci, kept.groups)
        assert {n: p.roles for n, p in rebuilt.persons.items()} == {
            n: p.roles for n, p in kept.persons.items()
        }
        assert home.house.local_subject("sa", via="x").models == {"fraud"}


def test_a_later_version_keeps_owner_and_tier_unless_others_are_given(home: Household, plain: Path) -> None:
    with pytest.raises(Usage) as missing:
        home.ask("model.publish", source=str(plain), ref="fraud@1", owner="ml-team")
    assert missing.value.code == "ARG-MISSING"
    assert "--owner NAME --tier TIER" in missing.value.fix
    home.publish(plain, "fraud@1", tier="confidential")
    (plain / "README.md").write_text("another")
    kept = home.ask("model.publish", source=str(plain), ref="fraud")
    assert (kept["ref"], kept["owner"], kept["tier"]) == ("fraud@2", "ml-team", "confidential")
    (plain / "README.md").write_text("a third")
    with pytest.raises(Refused) as taken:
        home.ask("model.publish", source=str(plain), ref="fraud@1")
    assert taken.value.code == "ART-IMMUTABLE"
