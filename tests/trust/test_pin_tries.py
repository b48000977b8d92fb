"""How often a PIN is tried, counted between Garrison and the module by OpenSC's pkcs11-spy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pkcs11 as p11
import pytest

from garrison.core.errors import Undecided
from garrison.trust.keys.pkcs11 import Token
from garrison.trust.keys.softhsm import find_module, open_software_token

SPY = next(iter(Path("/usr/lib").glob("*/pkcs11-spy.so")), None)
COMMAND = """\
import sys
from pathlib import Path
from garrison.core.errors import Undecided
from garrison.trust.keys.pkcs11 import Token
token = Token(Path(sys.argv[1]), "garrison", Path(sys.argv[2]))
for work in (token.list, lambda: token.signer("release"), lambda: token.create("new"), token.list):
    try:
        work()
    except Undecided as error:
        print(error.code)
"""


@pytest.mark.row("S16", kind="R")
@pytest.mark.row("A10", kind="R")
@pytest.mark.skipif(SPY is None, reason="NOT PROVED HERE: pkcs11-spy needs Debian's opensc")
def test_a_wrong_pin_reaches_the_token_once_and_neither_a_second_use_nor_a_restart_tries_it_again(
    tmp_path: Path,
) -> None:
    open_software_token(tmp_path / "token").close()
    wrong, log = tmp_path / "pin", tmp_path / "calls"
    wrong.write_text("0000000000")
    wrong.chmod(0o600)
    environment = {
        **os.environ,
        "SOFTHSM2_CONF": str(tmp_path / "token" / "softhsm2.conf"),
        "PKCS11SPY": str(find_module()),
        "PKCS11SPY_OUTPUT": str(log),
    }
    for _restart in range(3):
        words = [sys.executable, "-c", COMMAND, str(SPY), str(wrong)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["KEY-PIN"] * 4
        assert "0000000000" not in done.stdout + done.stderr
    assert log.read_text().count("C_Login\n") == 1


@dataclass
class Slot:
    """What a module answers about a token: no module here can be brought to its last try and back."""

    flags: p11.TokenFlag
    tried: int = 0

    def open(self, **_pin: object) -> object:
        self.tried += 1
        return self


@pytest.mark.parametrize(
    ("flag", "may_lock", "tried"),
    [
        (p11.TokenFlag.USER_PIN_FINAL_TRY, False, 0),
        (p11.TokenFlag.USER_PIN_FINAL_TRY, True, 1),
        (p11.TokenFlag.USER_PIN_LOCKED, False, 0),
        (p11.TokenFlag.USER_PIN_LOCKED, True, 0),
        (p11.TokenFlag.USER_PIN_COUNT_LOW, False, 1),
    ],
)
def test_the_last_try_of_a_token_is_used_only_by_somebody_who_named_the_risk(
    flag: p11.TokenFlag, may_lock: bool, tried: int, tmp_path: Path
) -> None:
    pin = tmp_path / "pin"
    pin.write_text("1234567890")
    pin.chmod(0o600)
    slot = Slot(flag)
    token = Token(find_module(), "partition", pin, may_lock=may_lock)
    log_in: Callable[[Any], object] = token._log_in
    if tried:
        log_in(slot)
    else:
        with pytest.raises(Undecided, match=r"one PIN try left|locked"):
            log_in(slot)
    assert slot.tried == tried
