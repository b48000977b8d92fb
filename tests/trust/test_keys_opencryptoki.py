"""A second PKCS#11 implementation, openCryptoki's soft token, under the same contract as SoftHSM.

Its state is the machine's: the token is only touched when it is new or was made here before.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pkcs11 as p11
import pytest
from tests.contracts.signer import SignerContract

from garrison.core.errors import GarrisonError, Refused, Undecided
from garrison.trust.keys.algorithm import Algorithm
from garrison.trust.keys.base import Signer
from garrison.trust.keys.pkcs11 import Token, load_module
from garrison.trust.keys.profiles import PROFILES

pytestmark = [pytest.mark.xdist_group("opencryptoki"), pytest.mark.row("A11", kind="E")]

PROFILE = PROFILES["opencryptoki"]
LABEL, OFFICER, PIN = "garrison-test", "12345678", "44332211"
SECONDS = 20
TRIES = 40  # of asking the daemon; each is a process
WHY = "NOT PROVED HERE: the second PKCS#11 implementation needs Debian's opencryptoki, and root: "


def _pkcsconf(*words: str, **more: str) -> None:
    subprocess.run(["pkcsconf", *words], check=True, capture_output=True, timeout=SECONDS, text=True, **more)


def _daemon_runs() -> bool:
    """Whether the daemon's mark is that of a living process; one that was killed leaves it behind."""
    try:
        return Path("/proc", Path("/var/run/pkcsslotd.pid").read_text().strip(), "stat").exists()
    except OSError:
        return False


def _answers() -> bool:
    return (
        subprocess.run(["pkcsconf", "-t"], check=False, capture_output=True, timeout=SECONDS).returncode == 0
    )


def _slot() -> int:
    """The slot of the soft token, whose daemon is started when it does not run. Skips where there is none."""
    module = next((path for path in PROFILE.modules if path.is_file()), None)
    if os.geteuid() != 0 or shutil.which("pkcsslotd") is None or module is None:
        pytest.skip(WHY + "apt-get install opencryptoki")
    if not _daemon_runs():
        subprocess.run(["pkcsslotd"], check=False, timeout=SECONDS, capture_output=True)
    # Asked from a process of its own until it answers: each try that fails costs that process a descriptor.
    if any(_answers() for _ in range(TRIES)):
        with contextlib.suppress(GarrisonError, p11.PKCS11Error):
            for slot in load_module(module).get_slots():
                if "SoftTok" in slot.get_token().model:
                    return int(slot.slot_id)
    pytest.skip(WHY + "its daemon pkcsslotd offers no soft token here")


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    slot = _slot()
    found = next(s for s in load_module(PROFILE.modules[0]).get_slots() if s.slot_id == slot).get_token()
    if not found.flags & p11.TokenFlag.TOKEN_INITIALIZED:
        number = str(slot)
        _pkcsconf("-I", "-c", number, "-S", "87654321", input=LABEL + "\n")
        _pkcsconf("-P", "-c", number, "-S", "87654321", "-n", OFFICER)
        _pkcsconf("-u", "-c", number, "-S", OFFICER, "-n", "11223344")
        _pkcsconf("-p", "-c", number, "-U", "11223344", "-n", PIN)
    elif found.label != LABEL:
        pytest.skip(WHY + "the soft token of this machine belongs to somebody")
    pin = tmp_path_factory.mktemp("ock") / "pin"
    pin.write_text(PIN)
    pin.chmod(0o600)
    made = Token(PROFILE.modules[0], LABEL, pin, PROFILE)
    for label in ("one", "other"):
        if label not in {key.label for key in made.list()}:
            made.create(label, Algorithm.RSA_PSS_3072)
    yield made
    made.close()


class TestOpenCryptoki(SignerContract):
    @pytest.fixture
    def signer(self, token: Token) -> Signer:
        return token.signer("one")

    @pytest.fixture
    def other(self, token: Token) -> Signer:
        return token.signer("other")


def test_it_is_another_implementation_than_softhsm(token: Token) -> None:
    assert token.list()
    assert token.is_software
    assert "softhsm" not in str(token.module)
    with pytest.raises(Undecided, match="AttributeSensitive"):
        token.use(lambda session: token._private_key(session, "one")[p11.Attribute.PRIVATE_EXPONENT])


def test_a_mechanism_that_this_token_lacks_is_refused_by_name(token: Token) -> None:
    with pytest.raises(Refused) as refusal:
        token.create("curve", Algorithm.ED25519)
    assert refusal.value.code == "KEY-MECHANISM"
