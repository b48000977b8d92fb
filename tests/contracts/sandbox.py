"""What every sandbox promises, proved from inside by the escape probe. A suite subclasses this."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from garrison.core.errors import Refused
from garrison.runtime.probe import ATTACKS, PROGRAM, WANTED, Matrix, probe
from garrison.runtime.sandboxes.base import Launch, Sandbox


class SandboxContract:
    """Subclasses give the fixtures `sandbox` (one that is available here) and `matrix` (its probe)."""

    @pytest.fixture(scope="class")
    @classmethod
    def matrix(cls, sandbox: Sandbox) -> Matrix:
        return probe(sandbox)

    @pytest.mark.row("B01", kind="R")
    def test_nothing_is_open_but_what_is_given(self, matrix: Matrix) -> None:
        assert len(matrix.attempts) >= 53
        assert matrix.unwanted == ()
        assert set(matrix.open) <= WANTED

    @pytest.mark.row("B05", kind="R")
    @pytest.mark.parametrize("attack", ATTACKS)
    def test_a_hostile_model_server_cannot(self, matrix: Matrix, attack: str) -> None:
        tried = {attempt.check for attempt in matrix.attempts}
        assert set(ATTACKS[attack]) <= tried
        assert matrix.succeeded()[attack] == ()

    @pytest.mark.row("B01", kind="R")
    def test_it_runs_as_an_unprivileged_user(self, matrix: Matrix) -> None:
        assert matrix.uid != 0
        assert os.geteuid() != 0 or matrix.uid != os.geteuid()

    @pytest.mark.row("B01", kind="R")
    def test_user_0_is_refused_before_anything_is_started(self, sandbox: Sandbox, tmp_path: Path) -> None:
        order = Launch("x", PROGRAM, tmp_path, 0, 2)
        with pytest.raises(Refused) as refusal:
            sandbox.launch(order)
        assert refusal.value.code == "ISO-ROOT"

    def test_a_program_that_is_not_there_ends_with_a_status(self, sandbox: Sandbox, tmp_path: Path) -> None:
        uid = 70_999 if os.geteuid() == 0 else os.getuid()
        tmp_path.chmod(0o700)
        if os.geteuid() == 0:
            os.chown(tmp_path, uid, uid)
        nothing = os.open("/dev/null", os.O_WRONLY)
        try:
            order = Launch("x", PROGRAM, tmp_path, uid, nothing)
            process = sandbox.launch(replace(order, program=PROGRAM.with_name("absent.py")))
            assert process.wait(20) != 0
        finally:
            os.close(nothing)
