"""One changed byte anywhere in a real model is found and its file is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.flips import flip

TRIES = 1000


@pytest.mark.row("A05", kind="R")
def test_a_thousand_flipped_bytes_of_a_real_model_are_a_thousand_refusals(
    minilm_dir: Path, tmp_path: Path
) -> None:
    answers = flip(minilm_dir, tmp_path, TRIES, seed=5, whole=False)
    assert answers == {"named": TRIES}


@pytest.mark.row("A05", kind="R")
def test_flipped_bytes_are_found_by_verifying_the_directory_as_a_user_does(
    minilm_dir: Path, tmp_path: Path
) -> None:
    assert flip(minilm_dir, tmp_path, 20, seed=6, whole=True) == {"named": 20}
