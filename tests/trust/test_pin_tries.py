"""How often a PIN is tried, counted between Garrison and the module by OpenSC's pkcs11-spy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
