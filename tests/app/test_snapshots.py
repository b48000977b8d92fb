"""What gateway workers are told: always newer than before, and one meaning for each name."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.app.household import Household

from garrison.core.errors import Refused
from garrison.gateway.snapshot import SnapshotFile
from garrison.trust.identity import AUDIENCE, ISSUER


@pytest.fixture
def file(home: Household) -> SnapshotFile:
    key = next(key for key in home.house.public_keys if key.label == "snapshot")
    path = home.house.settings.run / "snapshot.json"
    return SnapshotFile(path, key, audience=AUDIENCE, issuer=ISSUER)


def test_a_clock_that_goes_back_does_not_hold_up_a_revocation(home: Household, file: SnapshotFile) -> None:
    home.ask("user.add", name="uma", roles=["user"])
    before = file.refresh()
    home.clock.move(hours=-2)
    home.ask("user.disable", name="uma")
    after = file.refresh()
    assert before is not None
    assert after is not None, file.problem
    assert after.version > before.version
    assert after.revoked_subjects == {"uma"}


def test_a_route_and_a_model_never_have_one_name(home: Household, plain: Path) -> None:
    home.ask("route.add", name="fraud", upstream="http://127.0.0.1:9", tier="internal")
    with pytest.raises(Refused) as refused:
        home.publish(plain, "fraud@1")
    assert refused.value.code == "ROUTE-TAKEN"
    home.publish(plain, "other@1")
    with pytest.raises(Refused) as refused:
        home.ask("route.add", name="other", upstream="http://127.0.0.1:9", tier="internal")
    assert refused.value.code == "ROUTE-TAKEN"


def test_a_route_that_was_removed_is_unknown_to_workers_and_its_name_is_free(
    home: Household, file: SnapshotFile, plain: Path
) -> None:
    home.ask("route.add", name="fraud", upstream="http://127.0.0.1:9", tier="internal")
    assert [route["name"] for route in home.ask("route.list")["routes"]] == ["fraud"]
    before = file.refresh()
    home.ask("route.remove", name="fraud")
    after = file.refresh()
    assert before is not None
    assert after is not None, file.problem
    assert "fraud" in before.routes
    assert "fraud" not in after.routes
    assert home.ask("route.list")["routes"] == []
    assert home.house.people().routes == {}
    with pytest.raises(Refused) as refused:
        home.ask("route.remove", name="fraud")
    assert refused.value.code == "ROUTE-NONE"
    home.publish(plain, "fraud@1")
