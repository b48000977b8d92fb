"""Somebody can write to the database: what was signed, and what the ledger tells, decides nevertheless."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.app.household import Household

from garrison.app import serving
from garrison.core.errors import GarrisonError, Refused


@pytest.fixture
def people(home: Household) -> Household:
    home.ask("user.add", name="dana", roles=["approver"])
    home.ask("user.add", name="erin", roles=["approver"])
    return home


@pytest.mark.parametrize(
    ("column", "value"),
    [("tier", "internal"), ("publisher", "erin"), ("owner", "dana"), ("digest", "sha256:0")],
)
def test_a_row_that_contradicts_its_signed_statement_is_refused(
    people: Household, plain: Path, column: str, value: str
) -> None:
    people.publish(plain, "m@1", tier="secret")
    people.edit(f"UPDATE releases SET {column} = ?", value)
    for verb in ("model.approve", "model.show", "model.verify", "deploy.apply"):
        with pytest.raises(Refused) as refused:
            people.ask(verb, "dana" if verb == "model.approve" else "root", ref="m@1")
        assert refused.value.code == "ART-SIGNATURE"


def test_an_approval_that_only_a_row_tells_of_does_not_count(people: Household, plain: Path) -> None:
    people.publish(plain, "m@1", tier="secret")
    assert people.ask("model.approve", "dana", ref="m@1")["state"] == "pending"
    people.edit(
        "INSERT INTO approvals (name, version, digest, approver, human, policy_version, time, expires)"
        " SELECT name, version, digest, 'zoe', 'zoe', policy_version, time, expires FROM approvals"
    )
    with pytest.raises(Refused, match="has approved this already"):
        people.ask("model.approve", "dana", ref="m@1")
    people.edit("DELETE FROM approvals WHERE approver = 'dana'")  # nor is one undone by removing its row
    assert people.ask("model.approve", "erin", ref="m@1")["given"] == ["dana", "erin"]


def test_paths_of_an_edited_manifest_lead_nowhere(people: Household, plain: Path, tmp_path: Path) -> None:
    path = Path(people.publish(plain, "m@1")["path"])
    people.edit("UPDATE releases SET manifest = replace(manifest, 'config.json', '../../../../escaped')")
    shutil.rmtree(path)
    pull: list[Callable[[], object]] = [
        lambda: people.ask("model.pull", ref="m@1", repair=True),
        lambda: people.ask("model.pull", ref="m@1", destination=str(tmp_path / "a" / "b" / "c")),
        lambda: people.publish(plain, "m@1"),
    ]
    for call in pull:
        with pytest.raises(GarrisonError):
            call()
    assert not list(tmp_path.rglob("escaped"))
    assert not list(tmp_path.parent.glob("escaped"))


def test_a_deployment_that_only_a_row_tells_of_is_not_brought_back(people: Household, plain: Path) -> None:
    people.publish(plain, "m@1")
    people.ask("model.approve", "dana", ref="m@1")
    people.edit(
        "INSERT INTO deployments SELECT name, version, digest, 1, 'bwrap', 'serving', created, 'user:root'"
        " FROM releases"
    )
    (line,) = serving.restore(people.house)
    assert "NOT serving: DEP-UNTOLD" in line


def test_a_version_stays_retired_when_the_mark_is_wiped_off(people: Household, plain: Path) -> None:
    people.publish(plain, "m@1")
    people.ask("model.approve", "dana", ref="m@1")
    people.ask("model.retire", ref="m@1")
    people.edit("UPDATE releases SET retired = ''")
    with pytest.raises(Refused) as refused:
        people.ask("deploy.apply", ref="m@1")
    assert refused.value.code == "ART-RETIRED"
