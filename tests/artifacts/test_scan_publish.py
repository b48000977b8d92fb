"""The data directory's `scan-policy.toml` decides what may be published, and its exemptions stay in what is signed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.app.household import Household, opened
from tests.vectors.artifacts import make

from garrison.artifacts.registry import get
from garrison.core.digest import Ref
from garrison.core.errors import GarrisonError, Refused, Usage

POLICY = """
schema = "garrison.scan-policy/1"

[tier.secret]
refuse = ["artifact.config.absolute_path"]

[[suppress]]
digest = "{digest}"
rule = "artifact.pickle.call"
owner = "ml-platform"
until = {until}
reason = "our own estimator, reviewed"
"""
NOTED = '{"vocab_file": "/home/author/vocab.txt"}'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Household]:
    with opened(tmp_path_factory.mktemp("publish") / "data") as household:
        yield household


@pytest.fixture
def home(shared: Household) -> Iterator[Household]:
    yield shared
    (shared.house.settings.data / "scan-policy.toml").unlink(missing_ok=True)


def _model(folder: Path, **files: bytes) -> Path:
    folder.mkdir()
    for name, data in files.items():
        (folder / name.replace("_", ".")).write_bytes(data)
    return folder


def _write(home: Household, until: object = "2099-01-01") -> None:
    text = POLICY.format(digest=hashlib.sha256(make.SYSTEM).hexdigest(), until=until)
    (home.house.settings.data / "scan-policy.toml").write_text(text)


@pytest.mark.row("A02", kind="R")
def test_an_exemption_lets_one_file_be_published_and_is_kept_with_it(home: Household, tmp_path: Path) -> None:
    model = _model(tmp_path / "model", evil_pkl=make.SYSTEM)
    with pytest.raises(Refused) as caught:
        home.publish(model, "fraud@1")
    assert caught.value.code == "ART-SCAN"
    _write(home)
    home.publish(model, "fraud@1")
    report = get(home.house.registry, Ref.parse("fraud@1")).scan
    assert report["files"][0]["findings"][0]["suppressed"]["owner"] == "ml-platform"
    assert [row["state"] for row in report["policy"]["suppressions"]] == ["used"]


def test_an_exemption_ends_with_its_last_day(home: Household, tmp_path: Path) -> None:
    model = _model(tmp_path / "model", evil_pkl=make.SYSTEM)
    _write(home, home.clock().date())
    home.publish(model, "passing@1")
    home.clock.move(days=1)
    with pytest.raises(Refused) as caught:
        home.publish(model, "passing@2")
    assert caught.value.code == "ART-SCAN"


def test_the_tier_of_the_version_chooses_the_section(home: Household, tmp_path: Path) -> None:
    model = _model(tmp_path / "model", config_json=NOTED.encode())
    _write(home)
    home.publish(model, "plain@1", tier="internal")
    with pytest.raises(Refused) as caught:
        home.publish(model, "plain@2", tier="secret")
    assert caught.value.code == "ART-SCAN"


def test_a_policy_that_is_not_understood_lets_nothing_be_published(home: Household, tmp_path: Path) -> None:
    model = _model(tmp_path / "model", config_json=b"{}")
    (home.house.settings.data / "scan-policy.toml").write_text('schema = "garrison.scan-policy/9"')
    with pytest.raises(GarrisonError) as caught:
        home.publish(model, "other@1")
    assert (type(caught.value), caught.value.code) == (Usage, "SCAN-POLICY")
