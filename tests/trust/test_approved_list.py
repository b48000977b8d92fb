"""The approved list as a client sees it: what is refused and why, by our reader and by python-tuf's own client."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.releases import public_of
from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.ngclient import FetcherInterface, Updater

from garrison.core.digest import Ref, canonical_json
from garrison.core.errors import GarrisonError, Refused
from garrison.trust.approved import ApprovedEntry
from garrison.trust.keys.file import FileSigner
from garrison.trust.tuf import entries, shape
from garrison.trust.tuf.build import Draft, ServerKeys, build, empty, is_refresh_due
from garrison.trust.tuf.check import ApprovedList, check
from garrison.trust.tuf.pins import Pins, parse

NOW = datetime.now(UTC).replace(microsecond=0)
STATEMENT = b'{"a signed release":"statement"}'


@dataclass(slots=True)
class Repository:
    """A list on paper: every file that was ever published, and the one that is in force."""

    root: FileSigner = field(default_factory=lambda: FileSigner("root"))
    timestamp: FileSigner = field(default_factory=lambda: FileSigner("timestamp"))
    dana: FileSigner = field(default_factory=lambda: FileSigner("approver.dana"))
    erin: FileSigner = field(default_factory=lambda: FileSigner("approver.erin"))
    files: dict[str, bytes] = field(default_factory=dict)
    pins: Pins = field(default_factory=Pins)
    now: datetime = NOW

    @property
    def keys(self) -> ServerKeys:
        return ServerKeys(self.root, self.timestamp)

    def current(self, pins: Pins | None = None) -> ApprovedList:
        if not self.files:
            return empty(self.pins, ("production",), self.now)
        return check(self.read, [public_of(self.root)], self.pins if pins is None else pins)

    def read(self, name: str, limit: int) -> bytes:
        data = self.files.get(name)
        if data is None:
            raise Refused("TUF-MISSING", name, fix="")
        if len(data) > limit:
            raise Refused("TUF-LENGTH", name, fix="")
        return data

    def publish(self, draft: Draft) -> None:
        built = build(self.current(), draft, self.keys, self.now)
        self.files |= built.files
        self.pins = built.pins

    def approve(self, version: int, *signers: FileSigner, threshold: int | None = None) -> None:
        signers = signers or (self.dana, self.erin)
        known = self.current()
        ref = Ref("fraud", version)
        entry = ApprovedEntry(
            ref,
            "sha256:" + "ab" * 32,
            entries.place_for(known, "production", ref),
            tuple(signer.label.removeprefix("approver.") for signer in signers),
            "sha256:" + "cd" * 32,
            self.now,
            self.now + timedelta(days=30),
        )
        path = shape.path_of("production", ref)
        taken = {path: (entry, STATEMENT)}
        self.publish(entries.entering(known, "production", taken, threshold or len(signers), signers))

    def withdraw(self, version: int) -> None:
        path = shape.path_of("production", Ref("fraud", version))
        self.publish(entries.withdrawing(self.current(), [path]))

    def versions(self) -> list[int]:
        return [one.entry.ref.version for one in entries.listed(self.current())]


@pytest.fixture
def repository() -> Repository:
    made = Repository()
    made.approve(1)
    made.approve(2)
    return made


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(Refused) as refused:
        act()
    assert refused.value.fix or refused.value.code in ("TUF-MISSING", "TUF-LENGTH")
    return refused.value.code


def resigned(data: bytes, *signers: FileSigner, **changes: object) -> bytes:
    """The same metadata with changes, properly signed by somebody."""
    signed = {**json.loads(data)["signed"], **changes}
    payload = shape.payload_of(signed)
    signatures = [{"keyid": signer.key_id, "sig": signer.sign(payload).hex()} for signer in signers]
    return canonical_json({"signatures": signatures, "signed": signed})


def relisted(made: Repository, name: str, data: bytes) -> None:
    """Put a file in place of the one in force, as somebody who has the timestamp key could."""
    version = made.pins.files[name]
    made.files[f"{version}.{name}.json"] = data
    snapshot = json.loads(made.files[f"{made.pins.snapshot}.snapshot.json"])["signed"]
    snapshot["meta"][f"{name}.json"] |= {
        "length": len(data),
        "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
    }
    signed = resigned(
        made.files[f"{made.pins.snapshot}.snapshot.json"], made.timestamp, meta=snapshot["meta"]
    )
    made.files[f"{made.pins.snapshot}.snapshot.json"] = signed
    meta = {"version": made.pins.snapshot, "length": len(signed)}
    listed = {**meta, "hashes": {"sha256": hashlib.sha256(signed).hexdigest()}}
    made.files["timestamp.json"] = resigned(
        made.files["timestamp.json"], made.timestamp, meta={"snapshot.json": listed}
    )
    made.pins = replace(made.pins, timestamp_sha256="")


# What is accepted


@pytest.mark.row("A07", kind="R")
def test_a_normal_upgrade_is_accepted_and_places_count_up(repository: Repository) -> None:
    seen = repository.pins
    repository.approve(3)
    found = list(entries.listed(repository.current(seen)))
    assert [(one.entry.ref.version, one.entry.counter) for one in found] == [(1, 1), (2, 2), (3, 3)]
    assert found[-1].statement == hashlib.sha256(STATEMENT).hexdigest()
    assert found[-1].threshold == 2


def test_what_is_approved_again_keeps_its_place_and_what_was_withdrawn_gets_a_new_one(
    repository: Repository,
) -> None:
    repository.approve(1)
    assert [one.entry.counter for one in entries.listed(repository.current())] == [1, 2]
    repository.withdraw(1)
    assert repository.versions() == [2]
    repository.approve(1)
    assert [one.entry.counter for one in entries.listed(repository.current())] == [2, 3]


def test_the_place_of_a_withdrawn_version_is_not_given_again(repository: Repository) -> None:
    repository.withdraw(2)
    repository.approve(3)
    found = entries.find(repository.current(), "production", Ref("fraud", 3))
    assert found is not None
    assert found.entry.counter == 3


def test_what_was_withdrawn_leaves_the_environments_file_at_the_next_approval(repository: Repository) -> None:
    repository.withdraw(1)
    assert repository.current().withdrawn == {"production/fraud/1.release.json"}
    repository.approve(3)
    assert repository.current().withdrawn == frozenset()
    assert repository.versions() == [2, 3]


def test_versions_of_two_tiers_share_the_places_of_their_name() -> None:
    made = Repository()
    made.approve(1, made.dana)
    made.approve(2)
    made.approve(3, made.erin)
    assert [one.entry.counter for one in entries.listed(made.current())] == [1, 2, 3]


def test_a_refresh_changes_the_age_alone(repository: Repository) -> None:
    before = repository.current()
    assert not is_refresh_due(before, NOW)
    repository.now = NOW + timedelta(hours=7)
    assert is_refresh_due(before, repository.now)
    repository.publish(Draft())
    after = repository.current()
    assert after.pins.files == before.pins.files
    assert after.pins.snapshot == before.pins.snapshot
    assert after.fresh_until == repository.now + timedelta(hours=24)
    repository.now = NOW + timedelta(days=4)
    repository.publish(Draft())
    assert repository.current().pins.snapshot == before.pins.snapshot + 1
    assert repository.versions() == [1, 2]


def test_a_new_timestamp_key_comes_with_a_new_root(repository: Repository) -> None:
    repository.timestamp = FileSigner("timestamp")
    repository.publish(Draft())
    assert repository.current().pins.root == 2
    assert repository.versions() == [1, 2]


# What is refused, each with its own reason


def test_a_stale_list_admits_nothing_new(repository: Repository) -> None:
    known = repository.current()
    known.check_fresh(NOW + timedelta(hours=23))
    assert refusal(lambda: known.check_fresh(NOW + timedelta(hours=24))) == "TUF-EXPIRED"


@pytest.mark.row("A07", kind="R")
def test_an_older_list_put_back_is_refused(repository: Repository) -> None:
    old = dict(repository.files)
    repository.withdraw(2)
    assert refusal(lambda: check_with(repository, old)) == "TUF-ROLLBACK"


def check_with(made: Repository, files: Mapping[str, bytes]) -> ApprovedList:
    return check(replace(made, files=dict(files)).read, [public_of(made.root)], made.pins)


def test_an_older_file_in_a_newer_list_is_refused(repository: Repository) -> None:
    """Somebody with the timestamp key alone lists the file from before a withdrawal again."""
    before = repository.pins
    repository.withdraw(2)
    snapshot = json.loads(repository.files[f"{repository.pins.snapshot}.snapshot.json"])["signed"]
    data = repository.files[f"{before.files['targets']}.targets.json"]
    snapshot["meta"]["targets.json"] = {
        "version": before.files["targets"],
        "length": len(data),
        "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
    }
    forged = resigned(
        repository.files[f"{repository.pins.snapshot}.snapshot.json"],
        repository.timestamp,
        meta=snapshot["meta"],
        version=repository.pins.snapshot + 1,
    )
    repository.files[f"{repository.pins.snapshot + 1}.snapshot.json"] = forged
    listed = {
        "version": repository.pins.snapshot + 1,
        "length": len(forged),
        "hashes": {"sha256": hashlib.sha256(forged).hexdigest()},
    }
    repository.files["timestamp.json"] = resigned(
        repository.files["timestamp.json"],
        repository.timestamp,
        meta={"snapshot.json": listed},
        version=repository.pins.timestamp + 1,
    )
    assert refusal(repository.current) == "TUF-ROLLBACK"


def test_files_of_two_lists_are_not_mixed(repository: Repository) -> None:
    name = f"{repository.pins.files['production-2']}.production-2.json"
    repository.files[name] = repository.files[name].replace(b"fraud/2", b"fraud/9")
    assert refusal(repository.current) == "TUF-MIXED"


def test_another_list_under_the_number_that_was_seen_is_refused(repository: Repository) -> None:
    repository.files["timestamp.json"] = resigned(
        repository.files["timestamp.json"],
        repository.timestamp,
        expires=shape.format_expiry(NOW + timedelta(days=900)),
    )
    assert refusal(repository.current) == "TUF-MIXED"


def test_one_approver_of_two_is_not_enough(repository: Repository) -> None:
    name = f"{repository.pins.files['production-2']}.production-2.json"
    relisted(repository, "production-2", resigned(repository.files[name], repository.dana))
    assert refusal(repository.current) == "TUF-THRESHOLD"


def test_one_approver_twice_is_one_approver(repository: Repository) -> None:
    name = f"{repository.pins.files['production-2']}.production-2.json"
    forged = resigned(repository.files[name], repository.dana, repository.dana)
    relisted(repository, "production-2", forged)
    assert refusal(repository.current) == "TUF-THRESHOLD"


def test_one_key_under_two_names_is_one_approver(repository: Repository) -> None:
    name = f"{repository.pins.files['targets']}.targets.json"
    signed = json.loads(repository.files[name])["signed"]
    first = repository.dana.key_id
    delegations = signed["delegations"]
    delegations["keys"]["ff" * 32] = {**delegations["keys"][first], "x-label": "approver.zoe"}
    delegations["roles"][0]["keyids"].append("ff" * 32)
    relisted(
        repository, "targets", resigned(repository.files[name], repository.root, delegations=delegations)
    )
    assert refusal(repository.current) == "TUF-THRESHOLD"


def test_the_signature_of_a_stranger_does_not_count(repository: Repository) -> None:
    name = f"{repository.pins.files['production-2']}.production-2.json"
    stranger = FileSigner("approver.zoe")
    relisted(repository, "production-2", resigned(repository.files[name], repository.dana, stranger))
    with pytest.raises(Refused, match="not an approver's key") as refused:
        repository.current()
    assert refused.value.code == "TUF-THRESHOLD"


def test_the_server_s_own_keys_approve_nothing(repository: Repository) -> None:
    name = f"{repository.pins.files['production-2']}.production-2.json"
    forged = resigned(repository.files[name], repository.root, repository.timestamp)
    relisted(repository, "production-2", forged)
    assert refusal(repository.current) == "TUF-THRESHOLD"


def test_a_root_of_somebody_else_is_refused(repository: Repository) -> None:
    other = Repository()
    other.approve(1)
    repository.files = other.files
    assert refusal(repository.current) == "TUF-SIGNATURE"


def test_a_timestamp_of_another_key_is_refused(repository: Repository) -> None:
    repository.files["timestamp.json"] = resigned(
        repository.files["timestamp.json"], FileSigner("timestamp"), version=99
    )
    assert refusal(repository.current) == "TUF-SIGNATURE"


def test_endless_data_is_not_read(repository: Repository) -> None:
    for name in ("root.json", "timestamp.json", f"{repository.pins.snapshot}.snapshot.json"):
        kept = repository.files[name]
        repository.files[name] = kept + b" " * shape.MAX_TARGETS
        assert refusal(repository.current) == "TUF-LENGTH"
        repository.files[name] = kept


def test_a_missing_file_is_named(repository: Repository) -> None:
    del repository.files[f"{repository.pins.files['production-2']}.production-2.json"]
    assert refusal(repository.current) == "TUF-MISSING"


@given(data=st.data())
def test_any_changed_byte_of_any_file_is_refused(data: st.DataObject) -> None:
    made = _mutated_repository()
    in_force = [
        "root.json",
        "timestamp.json",
        f"{made.pins.snapshot}.snapshot.json",
        *(f"{version}.{name}.json" for name, version in made.pins.files.items() if name != "withdrawn"),
    ]
    name = data.draw(st.sampled_from(in_force))
    position = data.draw(st.integers(0, len(made.files[name]) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != made.files[name][position]))
    changed = bytearray(made.files[name])
    changed[position] = value
    with pytest.raises(GarrisonError):
        check_with(made, {**made.files, name: bytes(changed)})


@given(data=st.data())
def test_a_client_that_saw_nothing_before_takes_no_changed_timestamp_either(data: st.DataObject) -> None:
    made = _mutated_repository()
    name = data.draw(st.sampled_from(["root.json", "timestamp.json"]))
    changed = bytearray(made.files[name])
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    fresh = replace(made, files={**made.files, name: bytes(changed)})
    with pytest.raises(GarrisonError):
        fresh.current(Pins())


_MADE: list[Repository] = []


def _mutated_repository() -> Repository:
    """Made once: the signatures of an example are not what is varied."""
    if not _MADE:
        made = Repository()
        made.approve(1)
        made.approve(2, made.dana)
        made.withdraw(1)
        _MADE.append(made)
    return _MADE[0]


@given(st.binary(max_size=300))
def test_a_note_of_the_token_is_read_or_refused(note: bytes) -> None:
    try:
        parse(note)
    except Refused as error:
        assert error.code == "TUF-PINS"  # noqa: PT017 - most examples raise, some may not


def test_a_note_comes_back_as_it_was_written(repository: Repository) -> None:
    assert parse(repository.pins.as_bytes()) == repository.pins


# The same list in the eyes of python-tuf's own client


class Folder(FetcherInterface):
    """Hands the repository's files to the client as a web server would."""

    def __init__(self, made: Repository) -> None:
        self.made = made

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix("https://list.example/")
        if path.startswith("targets/"):
            yield STATEMENT
        elif (data := self.made.files.get(path)) is not None:
            yield data
        else:
            raise DownloadHTTPError("not there", 404)


def client(made: Repository, directory: Path, bootstrap: bytes | None = None) -> Updater:
    (directory / "targets").mkdir(parents=True, exist_ok=True)
    return Updater(
        str(directory),
        "https://list.example/",
        str(directory / "targets"),
        "https://list.example/targets/",
        fetcher=Folder(made),
        bootstrap=bootstrap or made.files["1.root.json"],
    )


def sees(updater: Updater, version: int) -> bool:
    info = updater.get_targetinfo(f"production/fraud/{version}.release.json")
    if info is None:
        return False
    updater.download_target(info)
    return True


@pytest.mark.row("A07", kind="R")
def test_the_client_of_python_tuf_takes_what_is_approved_and_sees_a_withdrawal_in_one_refresh(
    repository: Repository, tmp_path: Path
) -> None:
    repository.approve(4, repository.dana)
    assert [sees(client(repository, tmp_path), version) for version in (1, 2, 3, 4)] == [
        True,
        True,
        False,
        True,
    ]
    repository.withdraw(2)
    assert not sees(client(repository, tmp_path), 2)
    assert sees(client(repository, tmp_path), 1)
    repository.approve(2)
    assert sees(client(repository, tmp_path), 2)
    repository.timestamp = FileSigner("timestamp")
    repository.publish(Draft())
    assert sees(client(repository, tmp_path), 2)


def test_the_client_of_python_tuf_refuses_an_older_list_and_an_under_signed_one(
    repository: Repository, tmp_path: Path
) -> None:
    client(repository, tmp_path).refresh()
    old = dict(repository.files)
    repository.withdraw(2)
    client(repository, tmp_path).refresh()
    new, repository.files = repository.files, old
    updater = client(repository, tmp_path)
    with pytest.raises(RepositoryError):
        updater.refresh()
    repository.files = new
    name = f"{repository.pins.files['production-2']}.production-2.json"
    relisted(repository, "production-2", resigned(repository.files[name], repository.dana))
    fresh = client(repository, tmp_path / "fresh")
    with pytest.raises(RepositoryError):
        fresh.get_targetinfo("production/fraud/1.release.json")


def test_the_client_of_python_tuf_follows_a_list_that_was_begun_anew(
    repository: Repository, tmp_path: Path
) -> None:
    assert sees(client(repository, tmp_path), 1)
    built = build(empty(repository.pins, ("production",), NOW), Draft(), repository.keys, NOW)
    repository.files |= built.files
    repository.pins = built.pins
    assert repository.versions() == []
    assert not sees(client(repository, tmp_path), 1)
    repository.approve(5)
    assert sees(client(repository, tmp_path), 5)


def test_a_name_with_quotes_or_umlauts_is_signed_as_other_tools_read_it(tmp_path: Path) -> None:
    made = Repository()
    odd: dict[str, Any] = {"dana": FileSigner('approver.d"a\\nä')}
    made.dana = odd["dana"]
    made.approve(1)
    assert sees(client(made, tmp_path), 1)
    assert made.versions() == [1]
