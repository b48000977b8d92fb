"""The approved list through the verbs: who puts a version on it, who takes it off, and what an old copy is worth."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.app.household import Household, opened
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from garrison.app.cli.main import main
from garrison.app.settings import Settings
from garrison.artifacts import approval
from garrison.artifacts.approved_carry import carry_over
from garrison.artifacts.registry import get
from garrison.core.digest import Ref
from garrison.core.errors import GarrisonError, Refused
from garrison.trust import approved as envelopes

Opened = Callable[[Path], AbstractContextManager[Household]]


@pytest.fixture
def people(home: Household) -> Household:
    invite(home)
    return home


def invite(home: Household) -> None:
    home.ask("user.add", name="dana", roles=["approver"], email="dana@example.com")
    home.ask("user.add", name="erin", roles=["approver"], email="erin@example.com")
    home.ask("user.add", name="olaf", roles=["operator"])


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(GarrisonError) as refused:
        act()
    return refused.value.code


def entry_of(home: Household, text: str) -> Any:
    return approval.approved_entry(home.house.registry, get(home.house.registry, Ref.parse(text)))


def state(home: Household, ref: str) -> str:
    (row,) = [row for row in home.ask("model.list")["models"] if row["ref"] == ref]
    return str(row["state"])


@pytest.mark.row("A23", kind="R")
def test_the_list_tells_what_by_whom_until_when_and_at_which_place(people: Household, plain: Path) -> None:
    people.publish(plain, "m@1", tier="secret")
    assert people.ask("model.approve", "dana", ref="m@1")["state"] == "pending"
    assert people.ask("approvals.list")["approvals"] == []
    assert people.ask("model.approve", "erin", ref="m@1")["state"] == "approved"
    (row,) = people.ask("approvals.list", name="m")["approvals"]
    assert (row["ref"], row["approvers"], row["place"], row["needed"]) == ("m@1", ["dana", "erin"], 1, 2)
    assert row["environment"] == "production"
    assert row["deployable"]
    keys = people.ask("approvals.list")["list"]["approver_keys"]
    assert set(keys) == {"approver.dana", "approver.erin"}
    assert entry_of(people, "m@1").approvers == ("dana", "erin")


def test_each_approver_signs_with_a_key_of_their_own_in_the_token(people: Household, plain: Path) -> None:
    people.publish(plain, "m@1", tier="secret")
    people.ask("model.approve", "dana", ref="m@1")
    people.ask("model.approve", "erin", ref="m@1")
    labels = {key.label for key in people.house.token.list()}
    assert {"approver.dana", "approver.erin"} <= labels
    known = people.house.registry.approved.current()
    signers = {key.label for key in known.keys.values() if key.key_id in known.signers["production-2"]}
    assert signers == {"approver.dana", "approver.erin"}


def test_a_version_taken_off_the_list_is_refused_and_can_be_approved_again(
    people: Household, plain: Path
) -> None:
    people.publish(plain, "m@1")
    people.ask("model.approve", "dana", ref="m@1")
    with pytest.raises(GarrisonError, match="reason"):
        people.ask("model.unapprove", "olaf", ref="m@1")
    done = people.ask("model.unapprove", "olaf", ref="m@1", reason="leaked training data")
    assert done["environments"] == ["production"]
    assert people.events("artifact.unapprove")[-1]["outcome"] == "allowed"
    assert refusal(lambda: people.ask("deploy.apply", ref="m@1")) == "ART-NOT-APPROVED"
    assert state(people, "m@1") == "pending"
    assert refusal(lambda: people.ask("model.unapprove", "dana", ref="m@1", reason="again")) == (
        "ART-NOT-APPROVED"
    )
    assert people.ask("model.approve", "erin", ref="m@1")["given"] == ["erin"]
    assert entry_of(people, "m@1").counter == 2


def test_an_approval_from_before_a_withdrawal_does_not_count_towards_the_next(
    people: Household, plain: Path
) -> None:
    people.publish(plain, "m@1", tier="secret")
    people.ask("model.approve", "dana", ref="m@1")
    people.ask("model.approve", "erin", ref="m@1")
    people.ask("model.unapprove", "dana", ref="m@1", reason="not so sure any more")
    people.clock.move(seconds=1)
    assert people.ask("model.approve", "dana", ref="m@1")["state"] == "pending"


def test_who_neither_approves_nor_operates_takes_nothing_off(people: Household, plain: Path) -> None:
    people.ask("user.add", name="paul", roles=["publisher"])
    people.publish(plain, "m@1")
    people.ask("model.approve", "dana", ref="m@1")
    assert refusal(lambda: people.ask("model.unapprove", "paul", ref="m@1", reason="mine")) == "RBAC-403"
    assert entry_of(people, "m@1").counter == 1


def test_a_retired_version_leaves_every_list(people: Household, plain: Path) -> None:
    people.ask("environment.add", name="staging")
    people.publish(plain, "m@1")
    for environment in ("staging", "production"):
        people.ask("model.approve", "dana", ref="m@1", environment=environment)
        people.clock.move(seconds=1)
    people.ask("model.retire", ref="m@1")
    assert people.ask("approvals.list")["approvals"] == []
    assert refusal(lambda: people.ask("model.approve", "erin", ref="m@1")) == "ART-RETIRED"


def test_an_approval_for_one_environment_is_none_for_another(people: Household, plain: Path) -> None:
    assert refusal(lambda: people.ask("environment.add", name="Not A Name")) == "ENV-NAME"
    people.ask("environment.add", name="staging")
    assert refusal(lambda: people.ask("environment.add", name="staging")) == "ENV-TAKEN"
    people.publish(plain, "m@1", tier="secret")
    people.ask("model.approve", "dana", ref="m@1", environment="staging")
    assert people.ask("model.approve", "erin", ref="m@1")["state"] == "pending"
    people.clock.move(seconds=1)
    people.ask("model.approve", "erin", ref="m@1", environment="staging")
    assert refusal(lambda: people.ask("deploy.apply", ref="m@1")) == "ART-NOT-APPROVED"
    assert (
        refusal(lambda: people.ask("model.approve", "dana", ref="m@1", environment="moon")) == "ENV-UNKNOWN"
    )
    rows = people.ask("environment.list")["environments"]
    assert [(row["name"], row["approved"], row["deploys_here"]) for row in rows] == [
        ("production", 0, True),
        ("staging", 1, False),
    ]


def _listed(home: Household) -> set[str]:
    return {row["ref"] for row in home.ask("approvals.list")["approvals"]}


@pytest.mark.row("A25", kind="R")
@pytest.mark.row("A23", kind="R")
def test_what_an_approver_whose_key_is_stolen_approved_stops_counting_and_the_rest_stays(
    people: Household, plain: Path, tmp_path: Path
) -> None:
    """dana's key is stolen after m@1; m@2 needed her, m@3 did not, and m@4 waits for a second person."""
    people.ask("user.add", name="fred", roles=["approver"], email="fred@example.com")
    begun = people.clock()
    for ref, who in (("m@1", ("erin", "dana")), ("m@2", ("erin", "dana")), ("m@3", ("erin", "fred"))):
        people.clock.move(hours=1)
        people.publish(plain, ref, tier="secret")
        for name in who:
            people.clock.move(seconds=1)
            people.ask("model.approve", name, ref=ref)
    people.publish(plain, "m@4", tier="secret")
    people.publish(plain, "open@1")
    for ref in ("m@4", "open@1"):
        people.ask("model.approve", "dana", ref=ref)
    stolen = people.house.token.signer("approver.dana").key_id
    assert refusal(lambda: people.ask("key.revoke", "dana", label="approver.dana")) == "RBAC-403"
    since = (begun + timedelta(minutes=90)).isoformat()
    done = people.ask("key.revoke", label="approver.dana", reason="compromise", since=since)
    assert [row["ref"] for row in done["affected"]] == ["m@2", "open@1"]
    people.clock.move(seconds=1)
    assert any("m@4" in effect for effect in done["effects"])
    assert _listed(people) == {"m@1", "m@3"}
    known = people.house.registry.approved.current()
    assert stolen not in {key.key_id for key in known.keys.values()}
    for ref in ("m@2", "open@1"):
        with pytest.raises(GarrisonError, match="ART-NOT-APPROVED"):
            people.ask("deploy.apply", ref=ref)
        assert state(people, ref) == "pending"
    assert people.ask("model.approve", "fred", ref="m@4")["state"] == "pending"
    again = people.ask("model.approve", "fred", ref="m@2")  # erin's yes still counts
    assert (again["given"], again["state"]) == (["erin", "fred"], "approved")
    people.ask("model.approve", "dana", ref="open@1")  # by a key of her own that is new
    assert "approver-2.dana" in people.ask("approvals.list")["list"]["approver_keys"]
    assert people.ask("key.revoke", label="approver.dana", reason="compromise")["affected_count"] == 1
    assert _listed(people) == {"m@2", "m@3", "open@1"}


def test_the_yes_of_somebody_who_was_disabled_since_does_not_complete_an_approval(
    people: Household, plain: Path
) -> None:
    people.publish(plain, "m@1", tier="secret")
    people.ask("model.approve", "dana", ref="m@1")
    people.ask("user.disable", name="dana")
    assert people.ask("model.approve", "erin", ref="m@1")["given"] == ["erin"]


@pytest.mark.row("A23", kind="R")
def test_an_approver_whose_key_was_revoked_comes_back_as_such_after_a_restart(
    tmp_path: Path, plain: Path
) -> None:
    data = tmp_path / "data"
    with opened(data) as home:
        invite(home)
        for ref in ("m@1", "n@1"):
            home.publish(plain, ref)
            home.ask("model.approve", "erin" if ref == "n@1" else "dana", ref=ref)
        home.ask("key.revoke", label="approver.dana", reason="compromise")
        assert _listed(home) == {"n@1"}
        trusted = tmp_path / "client"
        trusted.mkdir()
    client = Updater(
        str(trusted),
        "https://list.example/metadata/",
        str(trusted),
        "https://list.example/targets/",
        fetcher=Folder(data / "tuf"),
        bootstrap=(data / "tuf" / "metadata" / "1.root.json").read_bytes(),
    )
    client.refresh()
    assert client.get_targetinfo("production/n/1.release.json") is not None
    assert client.get_targetinfo("production/m/1.release.json") is None
    with opened(data) as home:
        assert _listed(home) == {"n@1"}
        states = {key["label"]: key["state"] for key in home.ask("key.list")["keys"]}
        assert states["approver.dana"] == "revoked"
        home.ask("model.approve", "dana", ref="m@1")
        assert _listed(home) == {"m@1", "n@1"}


def test_a_row_that_says_approved_is_shown_as_edited_and_decides_nothing(
    people: Household, plain: Path
) -> None:
    people.publish(plain, "m@1")
    people.edit("UPDATE releases SET approved_counter = 7, approved_entry = x'00'")
    assert state(people, "m@1") == "edited"
    assert refusal(lambda: people.ask("deploy.apply", ref="m@1")) == "ART-NOT-APPROVED"
    people.edit("UPDATE releases SET approved_counter = 0, approved_entry = x''")
    people.edit("UPDATE releases SET owner = 'mallory'")
    assert state(people, "m@1") == "edited"


def test_a_deployment_row_that_was_edited_is_shown_as_such(people: Household, plain: Path) -> None:
    people.publish(plain, "m@1")
    people.ask("model.approve", "dana", ref="m@1")
    people.edit(
        "INSERT INTO deployments SELECT name, version, digest, 1, 'bwrap', 'serving', created, 'user:root'"
        " FROM releases"
    )
    (row,) = people.ask("deploy.status")["deployments"]
    assert (row["state"], row["reason"], row["approval"]) == ("edited", "DEP-UNTOLD", "approved")


# What an old copy is worth


@pytest.fixture
def kept(tmp_path: Path, plain: Path) -> tuple[Path, Path]:
    """A data directory in which m@1 was approved and then withdrawn, and a copy from before the withdrawal."""
    data, old = tmp_path / "data", tmp_path / "old"
    with opened(data) as home:
        invite(home)
        home.publish(plain, "m@1")
        home.publish(plain, "m@2", owner="ml-team")
        home.ask("model.approve", "dana", ref="m@1")
    with opened(data):  # the keyring learns of dana's key
        pass
    shutil.copytree(data, old)
    with opened(data) as home:
        home.ask("model.unapprove", "dana", ref="m@1", reason="a backdoor was found")
        home.ask("model.approve", "dana", ref="m@2")
    return data, old


def put_back(old: Path, data: Path, *names: str) -> None:
    for name in names:
        for path in data.glob(name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in old.glob(name):
            target = data / path.relative_to(old)
            shutil.copytree(path, target) if path.is_dir() else shutil.copyfile(path, target)


@pytest.mark.row("A07", kind="R")
def test_an_old_list_put_back_brings_no_approval_back(kept: tuple[Path, Path]) -> None:
    data, old = kept
    put_back(old, data, "tuf")
    with opened(data) as home:
        for ref in ("m@1", "m@2"):
            assert refusal(lambda ref=ref: home.ask("deploy.apply", ref=ref)) == "TUF-ROLLBACK"  # type: ignore[misc]  # the default binds the name
        assert refusal(lambda: home.ask("model.approve", "erin", ref="m@2")) == "TUF-ROLLBACK"
        assert state(home, "m@1") == "TUF-ROLLBACK"


@pytest.mark.row("A07", kind="R")
def test_an_old_database_put_back_brings_no_approval_back(kept: tuple[Path, Path]) -> None:
    data, old = kept
    put_back(old, data, "garrison.db*")
    with pytest.raises(Refused, match="AUD-"), opened(data):
        pass
    put_back(old, data, "witness")
    with pytest.raises(Refused, match="AUD-"), opened(data):
        pass


@pytest.mark.row("A07", kind="R")
def test_old_database_old_list_and_an_accepted_loss_bring_no_approval_back(kept: tuple[Path, Path]) -> None:
    """Everything but the token is from before: the loss is accepted, and the token's note still stands."""
    data, old = kept
    put_back(old, data, "garrison.db*", "tuf", "witness")
    (data / "witness" / "accepted-loss").write_text("a file that anybody could put there\n")
    with pytest.raises(Refused, match="AUD-"), opened(data):
        pass
    assert main(["--data", str(data), "audit", "accept-loss", "--reason", "the disk was replaced"]) == 0
    with opened(data) as home:
        assert refusal(lambda: home.ask("deploy.apply", ref="m@1")) == "TUF-ROLLBACK"
        assert refusal(lambda: home.ask("approvals.reset", "dana", reason="me too")) == "RBAC-403"
        home.ask("approvals.reset", reason="the newest copy is lost")
        assert home.ask("approvals.list")["approvals"] == []
        assert refusal(lambda: home.ask("deploy.apply", ref="m@1")) == "ART-NOT-APPROVED"
        home.ask("model.approve", "erin", ref="m@1")
        assert entry_of(home, "m@1").approvers == ("erin",)
    with opened(data) as home:
        assert entry_of(home, "m@1").approvers == ("erin",)


def test_a_lost_list_is_refused_and_begun_anew(kept: tuple[Path, Path]) -> None:
    data, _ = kept
    shutil.rmtree(data / "tuf")
    with opened(data) as home:
        assert refusal(lambda: home.ask("deploy.apply", ref="m@2")) == "TUF-MISSING"
        home.ask("model.retire", ref="m@1")
        home.ask("approvals.reset", reason="no copy of it is left")
        home.clock.move(seconds=1)
        home.ask("model.approve", "dana", ref="m@2")
        assert entry_of(home, "m@2").approvers == ("dana",)


def test_a_change_that_a_kill_cut_short_is_completed_or_never_was(kept: tuple[Path, Path]) -> None:
    data, _ = kept
    metadata = data / "tuf" / "metadata"
    newest = max(metadata.glob("*.timestamp.json"), key=lambda path: int(path.name.partition(".")[0]))
    before = metadata / f"{int(newest.name.partition('.')[0]) - 1}.timestamp.json"
    shutil.copyfile(before, metadata / "timestamp.json")
    shutil.copyfile(newest, metadata / "99.timestamp.json")
    with opened(data) as home:
        assert home.house.registry.approved.repaired
        assert entry_of(home, "m@2").counter == 2
    assert (metadata / "timestamp.json").read_bytes() == newest.read_bytes()


def test_a_stale_list_admits_nothing_new_until_it_is_refreshed(people: Household, plain: Path) -> None:
    people.publish(plain, "m@1")
    people.ask("model.approve", "dana", ref="m@1")
    people.clock.move(hours=25)
    assert refusal(lambda: people.ask("deploy.apply", ref="m@1")) == "TUF-EXPIRED"
    assert entry_of(people, "m@1").counter == 1, "what serves is verified against it all the same"
    assert people.house.registry.approved.refresh()
    assert not people.house.registry.approved.refresh()
    assert refusal(lambda: people.ask("deploy.apply", ref="m@1")) != "TUF-EXPIRED"


# From the directories of before


def test_entries_that_the_release_key_signed_are_carried_over_once(tmp_path: Path, plain: Path) -> None:
    data = tmp_path / "data"
    with opened(data) as home:
        invite(home)
        home.publish(plain, "m@1", tier="secret")
        home.publish(plain, "m@2", owner="ml-team")
        home.publish(plain, "m@3", owner="ml-team")
        home.ask("model.approve", "dana", ref="m@1")
        home.ask("model.approve", "erin", ref="m@1")
        home.ask("model.approve", "dana", ref="m@2")
        make_old(home)
        forged = envelopes.sign(
            envelopes.ApprovedEntry(
                Ref("m", 3),
                get(home.house.registry, Ref("m", 3)).digest,
                3,
                ("dana",),
                home.house.policy.version,
                home.clock(),
                home.clock(),
            ),
            home.house.release_key,
        )
        home.edit("UPDATE releases SET approved_counter = 3, approved_entry = ? WHERE version = 3", forged)
        directory = home.house.settings.data / "tuf"
        fresh = home.house.registry.approved
        shutil.rmtree(directory)
        forget(home)
        fresh.open()
        lines = carry_over(home.house.registry)
        assert "did not carry over the approval of m@3: APP-SIGNATURE" in lines
        assert any(line.startswith("carried over the approvals of 2 versions") for line in lines)
        assert entry_of(home, "m@1").approvers == ("dana", "erin")
        assert entry_of(home, "m@2").counter == 2
        assert state(home, "m@3") == "pending"
        assert carry_over(home.house.registry) == []


def make_old(home: Household) -> None:
    """Put the approvals where they were before the list: into rows, signed by the release key."""
    for ref in ("m@1", "m@2"):
        entry = entry_of(home, ref)
        envelope = envelopes.sign(entry, home.house.release_key)
        home.edit(
            "UPDATE releases SET approved_counter = ?, approved_entry = ? WHERE version = ?",
            entry.counter,
            envelope,
            entry.ref.version,
        )


def forget(home: Household) -> None:
    """As if there never had been a list: no note in the token, none in the ledger."""
    home.house.token.put_data(
        "garrison-approved-list", b'{"files":{},"root":0,"snapshot":0,"timestamp":0,"timestamp_sha256":""}'
    )
    home.edit("UPDATE ledger_event SET action = 'audit.read' WHERE action = 'approvals.publish'")


# In the eyes of another tool


class Folder(FetcherInterface):
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self.directory / url.removeprefix("https://list.example/")
        if not path.is_file():
            raise DownloadHTTPError("not there", 404)
        yield path.read_bytes()


@pytest.mark.row("A23", kind="R")
def test_the_directory_is_a_repository_for_any_tuf_client(
    people: Household, plain: Path, tmp_path: Path
) -> None:
    people.publish(plain, "m@1", tier="secret")
    people.ask("model.approve", "dana", ref="m@1")
    people.ask("model.approve", "erin", ref="m@1")
    served = people.house.settings.data / "tuf"
    root = (served / "metadata" / "1.root.json").read_bytes()
    (tmp_path / "client" / "targets").mkdir(parents=True)

    def client() -> Updater:
        return Updater(
            str(tmp_path / "client"),
            "https://list.example/metadata/",
            str(tmp_path / "client" / "targets"),
            "https://list.example/targets/",
            fetcher=Folder(served),
            bootstrap=root,
        )

    updater = client()
    info = updater.get_targetinfo("production/m/1.release.json")
    assert info is not None
    statement = Path(updater.download_target(info)).read_bytes()
    assert statement == get(people.house.registry, Ref("m", 1)).statement
    assert info.hashes["sha256"] == hashlib.sha256(statement).hexdigest()
    assert json.loads(statement)["payloadType"] == "application/vnd.in-toto+json"
    people.ask("model.unapprove", "dana", ref="m@1", reason="seen in one refresh")
    assert client().get_targetinfo("production/m/1.release.json") is None


def test_a_setting_names_the_environment_that_decides_here() -> None:
    assert Settings().environment == "production"
