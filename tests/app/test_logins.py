"""A flood of failed logins becomes one alert in the ledger, on the posture and in the figures."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.app.household import Household

from garrison.app.cli.posture import gather
from garrison.app.logins import LoginWatch
from garrison.core.actions import Action
from garrison.core.event import Event, Outcome
from garrison.detect.logins import LoginLimits, Logins
from garrison.governance import posture


def failed(home: Household, count: int, **authentication: str) -> None:
    for _ in range(count):
        home.clock.move(seconds=1)
        told = {"source": "10.0.0.9", "reason": "signature", "identity": "", **authentication}
        event = Event(
            home.clock(),
            Action.MODEL_INVOKE,
            "anonymous:",
            "unknown",
            Outcome.DENIED,
            "TOK-INVALID",
            data={"authentication": told},
        )
        home.house.record(event)


def items(home: Household) -> list[posture.Item]:
    state = posture.compute(gather(home.house.settings.data, datetime.now(UTC)))
    return [item for layer in state.layers for item in layer.items]


@pytest.mark.row("C24", kind="R")
def test_fifty_failed_logins_are_counted_and_raise_one_alert_that_a_restart_does_not_repeat(
    home: Household,
) -> None:
    (home.house.settings.run / "snapshot.json").write_text("{}")
    watch = LoginWatch(Logins(LoginLimits()))
    assert watch.look(home.house) == 0
    failed(home, 50)
    assert watch.look(home.house) == 1
    assert watch.look(home.house) == 0
    assert LoginWatch(Logins(LoginLimits())).look(home.house) == 0
    (alert,) = home.ask("alerts.list")["alerts"]
    assert (alert["code"], alert["subject"], alert["state"]) == ("AUTH-ALERT", "source:10.0.0.9", "open")
    assert alert["why"][0]["now"] == 20
    shown = [item for item in items(home) if "failed logins" in item.what]
    assert [item.level for item in shown] == ["ok", "warn"]
    assert shown[0].what == "50 failed logins, most by reason signature and source 10.0.0.9"
    assert shown[1].next == f"garrison alerts show {alert['id']}"
    home.ask("alerts.change", id=alert["id"], change="close", note="a load test")
    assert [item.level for item in items(home) if "failed logins" in item.what] == ["ok"]


@pytest.mark.row("C24", kind="R")
def test_an_identity_is_named_only_when_it_was_proved(home: Household) -> None:
    watch = LoginWatch(Logins(LoginLimits(failures=5)))
    watch.look(home.house)
    for number in range(6):
        failed(home, 1, source=f"10.0.1.{number}", reason="revoked", identity="dana")
        failed(home, 1, source=f"10.0.2.{number}")  # somebody who claimed to be her, and could not prove it
    assert watch.look(home.house) == 1
    (alert,) = home.ask("alerts.list")["alerts"]
    assert alert["subject"] == "identity:dana"
    assert alert["why"] == [{"sign": "revoked, within 5 min", "strength": 1.0, "now": 5, "usual": 5}]
