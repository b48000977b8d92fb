"""Attacks on the database and the folders beside it: rows removed, planted and rewritten, alone and together."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.app.household import Household, opened

from garrison.artifacts import layout
from garrison.core.digest import canonical_json
from garrison.core.errors import GarrisonError, Refused
from garrison.evidence.merkle import leaf_hash


@pytest.fixture
def people(home: Household) -> Household:
    for name in ("dana", "erin", "zoe"):
        home.ask("user.add", name=name, roles=["approver"])
    return home


def code(ask: Any) -> str:
    with pytest.raises(GarrisonError) as refused:
        ask()
    return refused.value.code


@pytest.mark.row("A17", kind="R")
def test_a_version_whose_row_is_removed_is_named_kept_and_never_becomes_other_bytes(
    tmp_path: Path, plain: Path
) -> None:
    data = tmp_path / "data"
    with opened(data) as home:
        tree = Path(home.publish(plain, "m@1")["path"])
        home.edit("DELETE FROM releases")
        for verb in ("model.show", "model.verify", "model.approve", "deploy.apply", "model.retire"):
            assert code(lambda verb=verb: home.ask(verb, ref="m@1")) in {
                "DB-EDITED",
                "APP-SELF",
                "ART-UNKNOWN",
            }
    with opened(data) as home:
        assert any("DB-EDITED" in line and "m@1" in line for line in layout.repair_all(home.house.registry))
        assert (tree / "config.json").is_file()
        (plain / "config.json").write_text("{}")
        assert code(lambda: home.publish(plain, "m@1")) == "ART-IMMUTABLE"
        assert (tree / "config.json").read_text() == '{"hidden_size": 8}'
        (plain / "config.json").write_text('{"hidden_size": 8}')
        home.publish(plain, "m@1")  # the same bytes again are the way back
        assert home.ask("model.verify", ref="m@1")["digest"]


@pytest.mark.row("A17", kind="R")
def test_a_signed_directory_that_was_never_published_cannot_be_planted_as_a_version(
    people: Household, plain: Path
) -> None:
    signed = people.ask("artifact.sign", source=str(plain), ref="m@2")
    people.publish(plain, "m@1")
    people.edit(
        "INSERT INTO releases SELECT name, 2, digest, tier, 'root', publisher, source, size, manifest, scan,"
        " ?, ?, created, retired, 0, x'' FROM releases",
        signed["bundle"].encode(),
        signed["statement"].encode(),
    )
    for verb, who in (("model.show", "root"), ("model.approve", "dana"), ("deploy.apply", "root")):
        assert code(lambda verb=verb, who=who: people.ask(verb, who, ref="m@2")) == "DB-EDITED"


def forge(home: Household, over: str, **changes: Any) -> None:
    """Write another record over the last one of an action, its columns and its leaf with it."""
    with closing(sqlite3.connect(home.house.settings.data / "garrison.db")) as database, database:
        found = "SELECT seq, body FROM ledger_event WHERE action = ? ORDER BY seq DESC"
        seq, body = database.execute(found, (over,)).fetchone()
        fields = json.loads(body)
        fields["data"].update(changes.pop("data", {}))
        fields.update(changes)
        forged = canonical_json(fields)
        columns = {name: fields[name] for name in ("action", "actor", "resource", "outcome", "digest")}
        sets = ", ".join(f"{name} = ?" for name in columns)
        database.execute(
            f"UPDATE ledger_event SET body = ?, leaf = ?, {sets} WHERE seq = ?",
            (forged, leaf_hash(forged), *columns.values(), seq),
        )


@pytest.mark.row("A24", kind="R")
def test_an_approval_forged_into_the_ledger_is_nobodys(people: Household, plain: Path) -> None:
    digest = people.publish(plain, "m@1", tier="secret")["digest"]
    with pytest.raises(Refused):
        people.ask("model.retire", "zoe", ref="m@1")
    forge(
        people, "artifact.retire", action="artifact.approve", actor="user:erin", resource="m@1",
        outcome="allowed", code="", digest=digest,
        data={"environment": "production", "human": "erin", "policy_version": people.house.policy.version,
              "expires": "2999-01-01T00:00:00.000000Z"},
    )  # fmt: skip
    assert code(lambda: people.ask("model.approve", "dana", ref="m@1")) == "AUD-EDITED"


@pytest.mark.row("A24", kind="R")
def test_an_approval_row_says_nothing_about_who_that_is_or_until_when(people: Household, plain: Path) -> None:
    people.ask("user.add", name="ann", roles=["approver"], email="ann@x.org")
    people.ask("user.add", name="ann-2", roles=["approver"], email="ann@x.org")
    people.publish(plain, "m@1", tier="secret")
    people.ask("model.approve", "ann", ref="m@1")
    people.edit("UPDATE approvals SET human = 'somebody else', expires = '2999-01-01T00:00:00.000000Z'")
    assert code(lambda: people.ask("model.approve", "ann-2", ref="m@1")) == "APP-SAME"
    people.clock.move(days=400)
    assert people.ask("model.approve", "dana", ref="m@1")["given"] == ["dana"]
