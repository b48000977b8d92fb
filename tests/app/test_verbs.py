"""Verbs at their edges: who may do them, what they refuse, and that what they did is recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.app.household import Household

from garrison.core.errors import GarrisonError, Refused, Usage


def test_a_version_with_its_owner_is_one_transaction(home: Household, plain: Path) -> None:
    home.script("CREATE TRIGGER no BEFORE INSERT ON owners BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(GarrisonError):
        home.publish(plain, "m@1")
    assert home.ask("model.list")["models"] == []
    home.script("DROP TRIGGER no")
    home.publish(plain, "m@1")
    assert home.ask("model.show", ref="m@1")["owner"] == "ml-team"


@pytest.mark.row("S47", kind="R")
def test_the_last_administrator_cannot_be_made_something_else(home: Household) -> None:
    with pytest.raises(Refused) as refused:
        home.ask("user.add", name="root", roles=["user"])
    assert refused.value.code == "ID-LAST-ADMIN"
    home.ask("user.add", name="dana", roles=["admin"])
    home.ask("user.add", name="root", roles=["user"])
    with pytest.raises(Refused, match="dana is the last administrator"):
        home.ask("user.disable", "dana", name="dana")


@pytest.mark.parametrize("seconds", [10**30, -(10**30), True, 86_401, 0])
def test_an_absurd_lifetime_is_a_sentence(home: Household, seconds: int) -> None:
    with pytest.raises(GarrisonError) as refused:
        home.ask("token.issue", subject="app", roles=["user"], ttl=seconds)
    assert refused.value.code in {"TOK-TTL", "ARG-MISSING"}


def test_a_rollback_to_what_is_no_version_goes_nowhere(home: Household) -> None:
    for odd in ("1", True, 1.0):
        with pytest.raises(Usage) as refused:
            home.ask("deploy.rollback", name="m", to=odd)
        assert refused.value.code == "ARG-MISSING"


def test_a_token_given_instead_of_its_id_is_written_nowhere(home: Household) -> None:
    token = home.ask("token.issue", subject="app", roles=["user"])["token"][:200]
    home.ask("user.add", name="uma", roles=["user"])
    for who in ("root", "uma"):
        with pytest.raises(GarrisonError):
            home.ask("token.revoke", who, token_id=token)
    home.house.ledger.close()
    for file in home.house.settings.data.glob("garrison.db*"):
        assert token.encode() not in file.read_bytes()
