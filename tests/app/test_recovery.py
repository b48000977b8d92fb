"""The way back in when no administrator is left: from the host alone, for a short time, and told."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from tests.app.household import Household, opened

from garrison.app.cli.main import main
from garrison.app.verbs import VERBS
from garrison.app.verbs.base import Call, perform
from garrison.core.errors import GarrisonError, Refused


@pytest.mark.row("S47", kind="R")
def test_the_owner_of_the_host_is_administrator_for_a_short_time(home: Household) -> None:
    with pytest.raises(Refused, match="root is the last administrator"):
        home.ask("user.disable", name="root")
    made = home.ask("admin.recover", "somebody", name="dana", seconds=600)
    assert (made["role"], made["via"]) == ("admin", "socket uid 0")
    assert home.ask("user.add", "dana", name="erin", roles=["admin"])["roles"] == ["admin"]
    assert home.events("admin.recover")[-1] == {
        "actor": "user:somebody",
        "resource": "dana",
        "outcome": "allowed",
        "code": "",
    }
    home.clock.move(seconds=601)
    with pytest.raises(Refused) as refused:
        home.ask("user.add", "dana", name="finn", roles=["user"])
    assert refused.value.code == "RBAC-403"
    assert "dana" not in {one["name"] for one in home.ask("user.list")["users"]}  # no row, no lasting role
    home.ask("user.disable", "erin", name="root")


@pytest.mark.row("S47", kind="R")
def test_no_token_recovers_anybody_not_even_an_administrator_s(home: Household) -> None:
    token = home.ask("token.issue", subject="root", roles=["admin"])["token"]
    call = Call(home.house.identify(token), {"name": "dana"})
    answer = perform(home.house, VERBS["admin.recover"], call)
    assert answer["error"]["code"] == "ID-RECOVER"
    assert home.events("admin.recover")[-1]["code"] == "ID-RECOVER"
    with pytest.raises(Refused):
        home.ask("user.add", "dana", name="erin", roles=["user"])


@pytest.mark.parametrize("seconds", [0, -1, True, 3_601, 10**30, "600"])
def test_it_is_never_for_long(home: Household, seconds: Any) -> None:
    with pytest.raises(GarrisonError) as refused:
        home.ask("admin.recover", name="dana", seconds=seconds)
    assert refused.value.code == "ID-RECOVER"


@pytest.mark.row("S47", kind="R")
def test_the_command_needs_no_server_and_the_posture_tells_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    with opened(data):
        pass
    assert main(["--data", str(data), "--json", "admin", "recover", "dana", "--for", "15m"]) == 0
    assert json.loads(capsys.readouterr().out)["via"] == "no server"
    assert main(["--data", str(data), "--json", "posture"]) == 0
    layers = {layer["name"]: layer for layer in json.loads(capsys.readouterr().out)["layers"]}
    told = [item for item in layers["governance"]["items"] if item["code"] == "ID-RECOVER"]
    assert len(told) == 1
    assert told[0]["evidence"].startswith("a-")
    assert "dana" in told[0]["what"]
    assert pwd.getpwuid(os.geteuid()).pw_name in told[0]["what"]
