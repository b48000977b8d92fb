"""Attacks on the database and the folders beside it: rows removed, planted and rewritten, alone and together."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.app.household import Household, opened

from garrison.app.cli.main import main
from garrison.artifacts import layout
from garrison.core.digest import canonical_json
from garrison.core.errors import GarrisonError, Refused
from garrison.evidence.merkle import leaf_hash


@pytest.fixture
def people(home: Household) -> Household:
    for name in ("dana", "erin", "zoe"):
        home.ask("user.add", name=name, roles=["approver"])
    return home


def code(ask: Any) -> str:
    with pytest.raises(GarrisonError) as refused:
        ask()
    return refused.value.code


@pytest.mark.row("A17", kind="R")
def test_a_version_whose_row_is_removed_is_named_kept_and_never_becomes_other_bytes(
    tmp_path: Path, plain: Path
) -> None:
    data = tmp_path / "data"
    with opened(data) as home:
        tree = Path(home.publish(plain, "m@1")["path"])
        home.edit("DELETE FROM releases")
        for verb in ("model.show", "model.verify", "model.approve", "deploy.apply", "model.retire"):
            assert code(lambda verb=verb: home.ask(verb, ref="m@1")) in {
                "DB-EDITED",
                "APP-SELF",
                "ART-UNKNOWN",
            }
    with opened(data) as home:
        assert any("DB-EDITED" in line and "m@1" in line for line in layout.repair_all(home.house.registry))
        assert (tree / "config.json").is_file()
        (plain / "config.json").write_text("{}")
        assert code(lambda: home.publish(plain, "m@1")) == "ART-IMMUTABLE"
        assert (tree / "config.json").read_text() == '{"hidden_size": 8}'
        (plain / "config.json").write_text('{"hidden_size": 8}')
        home.publish(plain, "m@1")  # the same bytes again are the way back
        assert home.ask("model.verify", ref="m@1")["digest"]


@pytest.mark.row("A17", kind="R")
def test_a_signed_directory_that_was_never_published_cannot_be_planted_as_a_version(
    people: Household, plain: Path
) -> None:
    signed = people.ask("artifact.sign", source=str(plain), ref="m@2")
    people.publish(plain, "m@1")
    people.edit(
        "INSERT INTO releases SELECT name, 2, digest, tier, 'root', publisher, source, size, manifest, scan,"
        " ?, ?, created, retired, 0, x'' FROM releases",
        signed["bundle"].encode(),
        signed["statement"].encode(),
    )
    for verb, who in (("model.show", "root"), ("model.approve", "dana"), ("deploy.apply", "root")):
        assert code(lambda verb=verb, who=who: people.ask(verb, who, ref="m@2")) == "DB-EDITED"


def forge(home: Household, over: str, **changes: Any) -> None:
    """Write another record over the last one of an action, its columns and its leaf with it."""
    with closing(sqlite3.connect(home.house.settings.data / "garrison.db")) as database, database:
        found = "SELECT seq, body FROM ledger_event WHERE action = ? ORDER BY seq DESC"
        seq, body = database.execute(found, (over,)).fetchone()
        fields = json.loads(body)
        fields["data"].update(changes.pop("data", {}))
        fields.update(changes)
        forged = canonical_json(fields)
        columns = {name: fields[name] for name in ("action", "actor", "resource", "outcome", "digest")}
        sets = ", ".join(f"{name} = ?" for name in columns)
        database.execute(
            f"UPDATE ledger_event SET body = ?, leaf = ?, {sets} WHERE seq = ?",
            (forged, leaf_hash(forged), *columns.values(), seq),
        )


@pytest.mark.row("A24", kind="R")
def test_an_approval_forged_into_the_ledger_is_nobodys(people: Household, plain: Path) -> None:
    digest = people.publish(plain, "m@1", tier="secret")["digest"]
    with pytest.raises(Refused):
        people.ask("model.retire", "zoe", ref="m@1")
    forge(
        people, "artifact.retire", action="artifact.approve", actor="user:erin", resource="m@1",
        outcome="allowed", code="", digest=digest,
        data={"environment": "production", "human": "erin", "policy_version": people.house.policy.version,
              "expires": "2999-01-01T00:00:00.000000Z"},
    )  # fmt: skip
    assert code(lambda: people.ask("model.approve", "dana", ref="m@1")) == "AUD-EDITED"


@pytest.mark.row("A24", kind="R")
def test_a_yes_that_was_not_needed_is_none_later(people: Household, plain: Path) -> None:
    """Approving what is approved changes nothing, so nobody's right to it was asked: not that of an alias either."""
    people.ask("user.add", name="pat", roles=["admin"], email="pat@x.org")
    people.ask("user.add", name="pat-2", roles=["approver"], email="pat@x.org")
    people.ask("model.publish", "pat", source=str(plain), ref="m@1", owner="pat", tier="secret")
    for name in ("dana", "erin", "pat-2"):
        people.ask("model.approve", name, ref="m@1")
    assert [row["approver"] for row in people.ask("model.show", ref="m@1")["approvals"]] == ["dana", "erin"]
    people.clock.move(days=400)
    assert people.ask("model.approve", "zoe", ref="m@1")["given"] == ["zoe"]
    for name in ("\uff44ana", "da\u3164na", "dan\u1d43"):  # shown as dana, or nearly
        assert code(lambda name=name: people.ask("user.add", name=name, roles=["approver"])) == "ID-SYNTAX"


@pytest.mark.row("A24", kind="R")
def test_an_approval_row_says_nothing_about_who_that_is_or_until_when(people: Household, plain: Path) -> None:
    people.ask("user.add", name="ann", roles=["approver"], email="ann@x.org")
    people.ask("user.add", name="ann-2", roles=["approver"], email="ann@x.org")
    people.publish(plain, "m@1", tier="secret")
    people.ask("model.approve", "ann", ref="m@1")
    people.edit("UPDATE approvals SET human = 'somebody else', expires = '2999-01-01T00:00:00.000000Z'")
    assert code(lambda: people.ask("model.approve", "ann-2", ref="m@1")) == "APP-SAME"
    people.clock.move(days=400)
    assert people.ask("model.approve", "dana", ref="m@1")["given"] == ["dana"]


@pytest.mark.row("A25", kind="R")
def test_a_lost_keyring_is_found_again_or_begun_anew_by_command_and_no_revoked_key_comes_back(
    tmp_path: Path, plain: Path
) -> None:
    data, old = tmp_path / "data", tmp_path / "old"
    with opened(data) as home:
        home.publish(plain, "fraud@1")
    shutil.copytree(data, old, symlinks=True)
    with opened(data) as home:
        home.ask("key.revoke", label="release", reason="compromise")

    def put_back(*names: str) -> None:
        for name in names:
            for path in (*data.glob(f"{name}-*"), data / name):
                path.unlink(missing_ok=True)
            shutil.copyfile(old / name, data / name)
        assert main(["--data", str(data), "audit", "accept-loss", "--reason", "the disk was replaced"]) == 0

    put_back("garrison.db", "witness/checkpoint")
    with opened(data) as home:  # the copy for verifiers is the one that the token saw
        assert code(lambda: home.ask("model.verify", ref="fraud@1")) == "KEY-REVOKED"
        assert home.events("system.repair")[-1]["code"] == "KEY-ROLLBACK"
    put_back("garrison.db", "witness/checkpoint", "keys/keyring.json")
    with pytest.raises(Refused, match="KEY-ROLLBACK"), opened(data):
        pass
    assert (
        main(["--data", str(data), "--json", "key", "accept-loss", "--reason", "no backup of that day"]) == 0
    )
    with opened(data) as home:
        states = {
            key["label"]: key["state"] for key in home.ask("key.list")["keys"] if "release" in key["label"]
        }
        assert states == {"release": "revoked", "release-2": "revoked", "release-3": "active"}
        assert home.ask("model.verify", ref="fraud@1")["digest"]  # it was on record
        (plain / "config.json").write_text("{}")
        assert home.publish(plain, "fraud@2")["key"] == "release-3"
    put_back("garrison.db", "witness/checkpoint", "keys/keyring.json")
    with pytest.raises(Refused, match="KEY-ROLLBACK"), opened(data):  # accepted was another loss
        pass


@pytest.mark.row("A25", kind="R")
def test_what_a_revoked_key_signed_before_stays_on_record_data_sets_images_and_imports_too(
    home: Household, plain: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("id,label\n" + "".join(f"{i},{i % 2}\n" for i in range(60)))
    home.publish(plain, "m@1")
    told = {"owner": "root", "tier": "internal"}
    home.ask("dataset.register", source=str(tmp_path / "rows.csv"), ref="rows@1", **told)
    cache = cached_model(tmp_path / "hub")
    home.ask("import.version", kind="hf", path=str(cache), ref="h@1", **told)
    layout_at = image_layout(tmp_path / "image")
    home.ask("image.sign", source=f"oci:{layout_at}", name="server")
    home.clock.move(seconds=2)
    home.ask("key.revoke", label="release", reason="superseded")
    assert home.ask("model.verify", ref="m@1")["key_id"] == home.ask("dataset.show", ref="rows@1")["key_id"]
    assert [row["ref"] for row in home.ask("import.list")["imports"]] == ["h@1"]
    assert home.ask("image.pin", source=f"oci:{layout_at}", name="server")["signed_by"]
    home.edit("DELETE FROM imports")
    assert code(lambda: home.ask("drift.check")) == "LIN-RECORD"  # nothing escapes by being forgotten


def cached_model(hub: Path) -> Path:
    """A model in a Hugging Face cache, of one small file named by its Git object."""
    data = b'{"hidden_size": 8}'
    blob, commit = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(), "c" * 40
    home = hub / "models--org--tiny"
    for name in ("blobs", "refs", f"snapshots/{commit}"):
        (home / name).mkdir(parents=True)
    (home / "blobs" / blob).write_bytes(data)
    (home / "refs" / "main").write_text(commit)
    (home / "snapshots" / commit / "config.json").symlink_to(f"../../blobs/{blob}")
    return home


def image_layout(root: Path) -> Path:
    """The smallest OCI layout: one image of one layer."""
    blobs = root / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, kind: str) -> dict[str, Any]:
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return {
            "mediaType": f"application/vnd.oci.image.{kind}",
            "digest": f"sha256:{name}",
            "size": len(data),
        }

    parts = put(b"{}", "config.v1+json"), put(b"layer", "layer.v1.tar")
    manifest = {"schemaVersion": 2, "config": parts[0], "layers": [parts[1]]}
    index = {"schemaVersion": 2, "manifests": [put(json.dumps(manifest).encode(), "manifest.v1+json")]}
    (root / "index.json").write_text(json.dumps(index))
    (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return root


@pytest.mark.row("A27", kind="R")
def test_no_path_of_a_call_leads_into_the_servers_own_directory_or_hangs_it(
    home: Household, plain: Path, tmp_path: Path
) -> None:
    data = home.house.settings.data
    home.publish(plain, "m@1")
    (tmp_path / "link").symlink_to(data / "keys")
    os.mkfifo(tmp_path / "pipe")
    secret = str(data / "keys" / "token" / "pin")
    inside: list[tuple[str, dict[str, Any]]] = [
        ("model.publish", {"source": str(data / "keys"), "ref": "k@1", "owner": "root", "tier": "internal"}),
        (
            "model.publish",
            {"source": str(tmp_path / "link"), "ref": "k@1", "owner": "root", "tier": "internal"},
        ),
        ("model.pull", {"ref": "m@1", "destination": str(data / "models" / "m" / "2")}),
        ("eval.attach", {"ref": "m@1", "report": secret}),
        (
            "model.fetch",
            {"source": "oci://127.0.0.1:9/m", "auth": secret, "destination": str(tmp_path / "x")},
        ),
        ("image.sign", {"source": f"oci:{data / 'objects'}"}),
    ]
    for verb, body in inside:
        assert code(lambda verb=verb, body=body: home.ask(verb, **body)) == "PATH-DATA"
    for verb, body in (
        ("eval.attach", {"report": str(tmp_path / "pipe")}),
        ("model.attach", {"lineage": "/dev/zero"}),
    ):
        assert code(lambda verb=verb, body=body: home.ask(verb, ref="m@1", **body)) == "PATH-FILE"


@pytest.mark.row("A28", kind="R")
def test_one_paper_under_the_name_of_another_is_none(home: Household, plain: Path, tmp_path: Path) -> None:
    home.publish(plain, "m@1")
    copy = tmp_path / "copy"
    home.ask("model.pull", ref="m@1", destination=str(copy))
    release = str(home.house.settings.data / "keys" / "public" / "release.pem")
    words = ["verify", str(copy), "--as", "m@1", "--key", release, "--json"]
    assert main(words) == 0
    paper = (tmp_path / "copy.provenance.json").read_bytes()
    (tmp_path / "copy.evaluation-safety.json").write_bytes(paper)
    assert main(words) == 1
    (tmp_path / "copy.evaluation-safety.json").rename(tmp_path / "copy.waiver.json")
    assert main(words) == 0  # no name that papers have: a file of somebody's own, which decides nothing


@pytest.mark.row("A09", kind="R")
def test_a_folder_that_would_fill_the_disk_or_shows_two_files_as_one_is_refused_at_once(
    home: Household, plain: Path
) -> None:
    with (plain / "weights.txt").open("wb") as sparse:
        sparse.truncate(1 << 42)
    assert code(lambda: home.publish(plain, "m@1")) == "DISK-FULL"
    (plain / "weights.txt").unlink()
    for name in ("config\ufe0f.json", "\u3164", "a\u034f.json", "a\U000e0101.json"):
        (plain / name).write_text("{}")
        assert code(lambda: home.publish(plain, "m@1")) == "ART-NAME-UNSAFE"
        (plain / name).unlink()
    assert home.publish(plain, "m@1")["state"] == "pending"


@pytest.mark.row("A28", kind="R")
def test_older_papers_do_not_become_the_newest_by_another_order_of_rows(
    home: Household, plain: Path, tmp_path: Path
) -> None:
    home.publish(plain, "m@1")
    (tmp_path / "report.json").write_text('{"metrics": {"recall": 0.2}}')
    home.ask("eval.attach", ref="m@1", report=str(tmp_path / "report.json"))
    before = home.ask("model.provenance", ref="m@1")["label"]
    home.edit("UPDATE attachments SET place = 100 - place")
    assert home.ask("model.provenance", ref="m@1")["label"] == before == "provenance-2"


@pytest.mark.row("C16", kind="R")
def test_a_record_hidden_from_the_questions_is_found_by_the_daily_look(
    people: Household, plain: Path
) -> None:
    """Its body and its place in the tree are as they were; only the columns that are asked say something else."""
    people.publish(plain, "m@1")
    people.ask("model.retire", ref="m@1")
    assert people.ask("schedule.run", job="verify-ledger")["facts"]["records"] > 5
    people.edit("UPDATE ledger_event SET action = 'model.invoke' WHERE action = 'artifact.retire'")
    assert code(lambda: people.ask("schedule.run", job="verify-ledger")) == "AUD-EDITED"


@pytest.mark.row("A24", kind="R")
def test_signing_again_beside_withdrawals_waits_for_nobody_for_ever(people: Household, plain: Path) -> None:
    """The list's lock is taken before the ledger's: the other way round both would wait."""
    people.publish(plain, "m@1")
    done = [0]

    def repeat(verb: str, **body: Any) -> None:
        for _ in range(4):
            with contextlib.suppress(GarrisonError):
                people.ask(verb, ref="m@1", **body)
            done[0] += 1

    words = [("model.resign", {}), ("model.unapprove", {"reason": "race"})]
    threads = [
        threading.Thread(target=repeat, args=(verb,), kwargs=body, daemon=True) for verb, body in words * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert done[0] == 16
