"""The data directory is this user's alone, also when somebody was there first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from garrison.app.wiring import make_data_directory
from garrison.core.errors import Refused


def test_a_new_one_is_private_whatever_the_mask(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        assert make_data_directory(tmp_path / "data")
    finally:
        os.umask(mask)
    places = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
    assert {place.stat().st_mode & 0o777 for place in places} == {0o700}
    assert not make_data_directory(tmp_path / "data")


@pytest.mark.parametrize("room", [".", "keys", "run"])
@pytest.mark.parametrize("mode", [0o770, 0o777, 0o1777])
def test_one_that_others_may_write_to_is_refused(tmp_path: Path, room: str, mode: int) -> None:
    make_data_directory(tmp_path / "data")
    (tmp_path / "data" / room).chmod(mode)
    with pytest.raises(Refused) as refused:
        make_data_directory(tmp_path / "data")
    assert refused.value.code == "DATA-SHARED"


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a directory to another user needs root")
def test_one_of_another_user_is_refused_even_for_root(tmp_path: Path) -> None:
    make_data_directory(tmp_path / "data")
    os.chown(tmp_path / "data" / "keys", 65_534, 65_534)
    with pytest.raises(Refused) as refused:
        make_data_directory(tmp_path / "data")
    assert refused.value.code == "DATA-SHARED"
