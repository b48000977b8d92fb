"""Every file of keys and of the approved list, damaged, removed, and put back from an older copy."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.app.household import opened

from garrison.app import wiring
from garrison.app.keyring_loss import open_or_repair
from garrison.app.settings import Settings
from garrison.artifacts import approved_files
from garrison.core.errors import GarrisonError, Refused
from garrison.storage.sql import open_database
from garrison.trust.tuf import entries

START = """\
import sys
from pathlib import Path
from tests.app.household import opened
from garrison.core.errors import GarrisonError
try:
    with opened(Path(sys.argv[1])) as home:
        rows = home.ask("approvals.list")["approvals"]
        home.ask("model.verify", ref="m@2")
        print("APPROVED", *sorted(row["ref"] for row in rows))
        print(*home.house.token.repaired, *home.house.registry.approved.repaired, sep="\\n")
except GarrisonError as error:
    print(error.code, error.what, "|", error.fix)
"""
IN_FORCE = "APPROVED m@2 n@1"


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An older and the newest copy of a data directory with keys that were rotated and revoked."""
    place = tmp_path_factory.mktemp("kept")
    data, plain = place / "data", place / "plain"
    plain.mkdir()
    (plain / "config.json").write_text('{"hidden_size": 8}')
    with opened(data) as home:
        for name in ("dana", "erin"):
            home.ask("user.add", name=name, roles=["approver"])
        home.publish(plain, "m@1")
        home.ask("model.approve", "dana", ref="m@1")
    shutil.copytree(data, place / "old")
    with opened(data) as home:
        home.ask("key.rotate", role="release")
        home.ask("key.rotate", role="timestamp")
        (plain / "config.json").write_text('{"hidden_size": 9}')
        for ref in ("m@2", "n@1"):
            home.publish(plain, ref)
            home.ask("model.approve", "erin", ref=ref)
        home.ask("key.revoke", label="approver.dana", reason="compromise")
    with opened(data):  # keys that were made since the last start are entered now
        pass
    return place / "old", data


def _attacks(copies: tuple[Path, Path], room: str) -> Iterator[tuple[str, Path, bytes | None]]:
    """Each file of a room: one bit flipped, gone, and as it was before."""
    old, new = copies
    for path in sorted((new / room).rglob("*")):
        name = path.relative_to(new)
        content = path.read_bytes() if path.is_file() else b""
        if not content:
            continue  # locks of the token are empty
        half = len(content) // 2
        yield "flipped", name, content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        yield "removed", name, None
        if (old / name).is_file() and (old / name).read_bytes() != content:
            yield "older", name, (old / name).read_bytes()


def _put(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
        return
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


@pytest.mark.row("A07", kind="R")
@pytest.mark.row("A23", kind="R")
def test_no_file_of_the_approved_list_can_be_changed_unseen(
    copies: tuple[Path, Path], tmp_path: Path
) -> None:
    data = Path(shutil.copytree(copies[1], tmp_path / "data"))
    with opened(data) as home:
        registry, seen = home.house.registry, 0
        known = registry.approved.current()
        in_force = {f"{number}.{name}.json" for name, number in known.pins.files.items()}
        in_force |= {f"{known.pins.snapshot}.snapshot.json", "timestamp.json"}
        in_force |= {f"{one.statement}.{one.entry.ref.version}.release.json" for one in entries.listed(known)}
        for attack, name, content in _attacks((copies[0], data), "tuf"):
            before = (data / name).read_bytes()
            _put(data / name, content)
            fresh = replace(registry, approved=replace(registry.approved, _known=None, repaired=[]))
            said = ""
            try:
                fresh.approved.open()
                listed = {str(one.entry.ref) for one in entries.listed(fresh.approved.current())}
                said = "; ".join([*fresh.approved.repaired, *approved_files.repair(fresh)])
                assert listed == {"m@2", "n@1"}, (attack, name)
            except Refused as error:
                said = f"{error.code} {error.what} {error.fix}"
            assert said.startswith("TUF-") or "again" in said or "completed" in said or not said, said
            is_read = name.name in in_force or name.name.endswith("root.json")
            assert said or not is_read, f"{attack} {name}: not a word"
            seen += bool(said)
            _put(data / name, before)
        assert seen >= 20
        assert home.ask("approvals.list")["approvals"]


@pytest.mark.row("A10", kind="R")
def test_no_public_key_and_no_keyring_can_be_changed_unseen(
    copies: tuple[Path, Path], tmp_path: Path
) -> None:
    data = Path(shutil.copytree(copies[1], tmp_path / "data"))
    settings, seen = Settings(data=data), 0
    attacks = [each for each in _attacks(copies, "keys") if each[1].parts[1] != "token"]
    for attack, name, content in attacks:
        before = (data / name).read_bytes()
        _put(data / name, content)
        said: list[str] = []
        try:
            token, _keys = wiring.open_keys(settings)
            database = open_database(data / "garrison.db")
            ledger = wiring.open_ledger(settings, database, token, wiring.utc_now)
            chain = open_or_repair(settings, database, ledger, token, wiring.utc_now)
            said = [*token.repaired, *chain.repaired]
            ledger.close()
            database.close()
            assert (data / name).read_bytes() == before, f"{attack} {name}: not as it was"
        except GarrisonError as error:
            said = [f"{error.code} {error.what} {error.fix}"]
        assert name.name in " ".join(said) or name.name.startswith("approver"), f"{attack} {name}: {said}"
        seen += 1
        _put(data / name, before)
    assert seen >= 20


@pytest.mark.parametrize("attack", ["flipped", "removed", "older"])
def test_a_token_that_was_changed_on_the_disk_signs_nothing_that_was_not_approved(
    attack: str, copies: tuple[Path, Path], tmp_path: Path
) -> None:
    """SoftHSM keeps its objects in memory, so each start is a process of its own: two files for each attack."""
    wanted = [each for each in _attacks(copies, "keys/token") if each[0] == attack]
    chance = random.Random(7)
    for _attack, name, content in chance.sample(wanted, min(2, len(wanted))):
        data = Path(shutil.copytree(copies[1], tmp_path / name.name))
        _put(data / name, content)
        done = subprocess.run(
            [sys.executable, "-c", START, str(data)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{attack} {name}: {done.stderr[-2000:]}"
        assert done.stdout.startswith((IN_FORCE, "KEY-", "AUD-", "TUF-")), f"{attack} {name}: {done.stdout}"
