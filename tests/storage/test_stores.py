"""A data directory and its store: chosen once, sealed on request, read through by everything that loads."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.app.household import Household, opened
from tests.fakes.bucket import Cloud, Proxy

from garrison.app.settings import Settings
from garrison.artifacts import layout
from garrison.artifacts.registry import get
from garrison.artifacts.store import Release
from garrison.core.digest import Ref
from garrison.core.errors import GarrisonError, Refused, Undecided
from garrison.runtime.loader import LoadedModel, load
from garrison.storage import s3_blobs
from garrison.storage.objects import holds
from garrison.storage.spooled import SpooledObjects
from garrison.trust.approved import ApprovedEntry
from garrison.trust.verify import verify_release

MARKER = "the-weights-that-nobody-may-find-on-this-disk"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    (directory / "nested").mkdir(parents=True)
    (directory / "config.json").write_text('{"hidden_size": 8}')
    (directory / "vocab.txt").write_text(f"{MARKER}\n" * 50_000)
    (directory / "nested" / "vocab.txt").write_text(f"{MARKER}\n" * 50_000)
    (directory / "special_tokens_map.json").write_text("{}")
    return directory


@contextmanager
def house(data: Path, **settings: str | int) -> Iterator[Household]:
    with opened(data, Settings(data=data, **settings)) as home:  # type: ignore[arg-type]  # a test's own words
        yield home


def found_in(data: Path, needle: str = MARKER) -> list[str]:
    """Every file of a directory that holds the text, as grep sees it."""
    done = subprocess.run(["grep", "-rlaF", needle, str(data)], capture_output=True, text=True, check=False)
    return done.stdout.split()


def signed_again(home: Household, ref: str, source: Path) -> None:
    """The release key is stolen: nothing by it counts until somebody else has signed the same bytes anew."""
    home.ask("user.add", name="alex", roles=["admin"])
    home.ask("key.revoke", label="release", reason="compromise")
    with pytest.raises(Refused, match="KEY-REVOKED"):
        home.ask("model.verify", ref=ref)
    again = home.ask("model.resign", who="alex", ref=ref, source=str(source))
    assert (again["key"], again["papers"]) == ("release-2", ["bom", "provenance"])
    assert home.ask("model.verify", ref=ref)["key_id"] == again["key_id"]


@pytest.mark.row("A14", kind="R")
def test_a_sealed_store_publishes_verifies_loads_and_pulls_with_nothing_plain_on_its_disk(
    tmp_path: Path, model: Path
) -> None:
    with house(tmp_path / "data", store_encryption="aes-256-gcm") as home:
        published = home.publish(model, "sealed@1")
        home.ask("model.verify", ref="sealed@1")
        registry = home.house.registry
        release = layout_release(home, "sealed@1")
        with closing_model(home, "sealed@1") as loaded:
            assert loaded.where == "sealed memory"
            text = os.pread(loaded.kept["vocab.txt"], 100, 0)
        assert text.startswith(MARKER.encode())
        assert found_in(tmp_path / "data") == []
        home.ask("model.pull", ref="sealed@1", destination=str(tmp_path / "pulled"))
        assert (tmp_path / "pulled" / "nested" / "vocab.txt").read_text().startswith(MARKER)
        assert not layout.tree_of(registry, release.ref).exists()
        assert published["unchanged"] is False
        assert home.publish(model, "sealed@1")["unchanged"] is True
        signed_again(home, "sealed@1", model)
    assert found_in(tmp_path / "data") == []
    assert not list(Path("/dev/shm").glob("garrison-*"))


def publish_from(home: Household, url: str, ref: str) -> None:
    home.ask("model.publish", source=url, ref=ref, owner="ml-team", tier="internal")


def layout_release(home: Household, ref: str) -> Release:
    return get(home.house.registry, Ref.parse(ref))


@contextmanager
def closing_model(home: Household, ref: str) -> Iterator[LoadedModel]:
    """The model of a version, loaded as one that is approved."""
    registry, release = home.house.registry, layout_release(home, ref)
    now = registry.now()
    entry = ApprovedEntry(release.ref, release.digest, 1, ("dana",), "sha256:" + "0" * 64, now, now)
    loaded = load(
        layout.files_of(registry, release),
        lambda found: verify_release(
            manifest=found,
            bundle=release.bundle,
            statement=release.statement,
            keys=registry.keys,
            approved=entry,
        ),
    )
    try:
        yield loaded
    finally:
        loaded.close()


def test_a_changed_sealed_object_is_found_named_and_mended_by_the_same_files(
    tmp_path: Path, model: Path
) -> None:
    with house(tmp_path / "data", store_encryption="aes-256-gcm") as home:
        home.publish(model, "sealed@1")
        victim = max(
            (tmp_path / "data" / "objects" / "sealed").glob("??/*"), key=lambda path: path.stat().st_size
        )
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 1
        victim.chmod(0o600)
        victim.write_bytes(data)
        with pytest.raises(Refused, match="ART-TAMPER") as refused:
            home.ask("model.verify", ref="sealed@1")
        assert "vocab.txt" in refused.value.what
        with pytest.raises(Refused, match="ART-TAMPER"), closing_model(home, "sealed@1"):
            pass
        with pytest.raises(Refused, match="ART-TAMPER") as listed:
            home.ask("store.verify")
        assert [item["ref"] for item in listed.value.evidence["damaged"]] == ["sealed@1"]
        with pytest.raises(Refused, match="ART-TAMPER"):
            home.ask("model.pull", ref="sealed@1", destination=str(tmp_path / "pulled"))
        assert not (tmp_path / "pulled").exists()
        home.publish(model, "sealed@1")
        assert home.ask("store.verify")["versions"] == ["sealed@1"]


def test_a_data_directory_never_changes_its_store_silently(tmp_path: Path, model: Path) -> None:
    with house(tmp_path / "data") as home:
        home.publish(model, "plain@1")
    for wrong in ({"store": "s3://elsewhere"}, {"store_encryption": "aes-256-gcm"}):
        with pytest.raises(Refused, match="STO-CHANGED") as refused, house(tmp_path / "data", **wrong):
            pass
        assert refused.value.evidence["setting"] in wrong
    (tmp_path / "data" / "store.json").write_text("{}")
    with pytest.raises(Undecided, match="STO-RECORD"), house(tmp_path / "data"):
        pass


def test_encrypting_a_plain_store_leaves_nothing_plain_and_every_version_whole(
    tmp_path: Path, model: Path
) -> None:
    data = tmp_path / "data"
    with house(data) as home:
        home.publish(model, "m@1")
        (model / "config.json").write_text('{"hidden_size": 9}')
        home.publish(model, "m@2")
        with pytest.raises(Refused, match="SRV-RUNNING"):
            home.ask("store.encrypt")
    assert found_in(data)
    assert alone(data, "store.encrypt")["objects"] == 4
    assert found_in(data) == []
    assert alone(data, "store.encrypt")["unchanged"] is True
    with house(data) as home:
        assert home.ask("store.verify")["versions"] == ["m@1", "m@2"]
        assert home.publish(model, "m@2")["unchanged"] is True


def alone(data: Path, verb: str) -> dict[str, object]:
    from garrison.app.alone import perform_alone

    return perform_alone(Settings(data=data), verb, {}, identity="root", token=None)


def test_encrypting_that_is_killed_at_any_object_goes_on_at_the_next_start(
    tmp_path: Path, model: Path
) -> None:
    data = tmp_path / "data"
    with house(data) as home:
        home.publish(model, "m@1")
    for cut in range(3):
        copy = tmp_path / f"copy{cut}"
        subprocess.run(["cp", "-a", str(data), str(copy)], check=True)
        child = os.fork()
        if child == 0:  # a process that is killed while it seals
            _die_after(copy, cut)
        assert os.waitpid(child, 0)[1] == 9
        with house(copy) as home:
            assert home.house.registry.objects.is_sealed
            assert home.ask("store.verify")["versions"] == ["m@1"]
        assert found_in(copy) == []


def _die_after(data: Path, count: int) -> None:
    """Seals `count` objects, begins the next one, and is gone as by kill -9."""
    import signal

    from garrison.storage.spooled import IncomingSpooled

    whole, seen = IncomingSpooled.commit, [0]

    def commit(self: IncomingSpooled, digest: str, /) -> None:
        if seen[0] == count:
            os.kill(os.getpid(), signal.SIGKILL)
        seen[0] += 1
        whole(self, digest)

    IncomingSpooled.commit = commit  # type: ignore[method-assign]  # where the kill strikes
    alone(data, "store.encrypt")
    os._exit(1)


def test_rekeying_destroys_the_old_key_and_everything_opens_with_the_new_one(
    tmp_path: Path, model: Path
) -> None:
    with house(tmp_path / "data", store_encryption="aes-256-gcm") as home:
        home.publish(model, "m@1")
        done = home.ask("store.rekey")
        assert (done["key"], done["wrapped"], done["destroyed"]) == ("storage-2", 3, ["storage"])
        assert home.ask("store.verify")["versions"] == ["m@1"]
        (model / "config.json").write_text("{}")
        home.publish(model, "m@2")
        home.ask("user.add", name="dana", roles=["operator"])
        with pytest.raises(Refused, match="RBAC-403"):
            home.ask("store.rekey", who="dana")
    with house(tmp_path / "data") as home:
        assert home.ask("store.verify")["versions"] == ["m@1", "m@2"]


@pytest.mark.row("A14", kind="E")
@pytest.mark.parametrize("encryption", ["none", "aes-256-gcm"])
def test_versions_in_a_bucket_are_published_verified_loaded_and_pulled(
    s3: Cloud, bucket: str, tmp_path: Path, model: Path, encryption: str
) -> None:
    chosen = {"store": f"s3://{bucket}/prod", "s3_endpoint": s3.url, "store_encryption": encryption}
    with house(tmp_path / "data", **chosen) as home:
        home.publish(model, "cloud@1")
        assert found_in(tmp_path / "data") == []
        assert home.ask("store.verify")["versions"] == ["cloud@1"]
        with closing_model(home, "cloud@1") as loaded:
            assert os.pread(loaded.kept["vocab.txt"], 10, 0) == MARKER[:10].encode()
        home.ask("model.pull", ref="cloud@1", destination=str(tmp_path / "pulled"))
        assert "sse=AES256 ok" in home.ask("store.check")["passed"]
        signed_again(home, "cloud@1", model)
        assert found_in(tmp_path / "data") == []
        objects = home.house.registry.objects
        assert isinstance(objects, SpooledObjects)
        keys = [item["Key"] for item in s3.client().list_objects_v2(Bucket=bucket)["Contents"]]
        victim = next(key for key in keys if len(key.rpartition("/")[2]) == 64)
        client = s3.client()
        body = client.get_object(Bucket=bucket, Key=victim)["Body"].read() + b"!"
        client.put_object(Bucket=bucket, Key=victim, Body=body, ServerSideEncryption="AES256")
        digest = f"sha256:{victim.rpartition('/')[2]}"
        assert not holds(objects, digest)
        with pytest.raises(Refused, match="ART-TAMPER"):
            home.ask("model.verify", ref="cloud@1")
        home.publish(model, "cloud@1")
        assert holds(objects, digest)
        client.put_bucket_acl(Bucket=bucket, ACL="public-read")
        (model / "config.json").write_text("{}")
        with pytest.raises(Refused, match="STO-PUBLIC"):
            home.publish(model, "cloud@2")
        assert home.ask("model.list")["models"][-1]["ref"] == "cloud@1"
        with pytest.raises(Refused, match="STO-PUBLIC"):
            home.ask("store.check")


def test_two_data_directories_never_share_a_prefix(s3: Cloud, bucket: str, tmp_path: Path) -> None:
    chosen = {"store": f"s3://{bucket}/prod", "s3_endpoint": s3.url}
    with house(tmp_path / "one", **chosen):
        pass
    with pytest.raises(Refused, match="STO-TAKEN"), house(tmp_path / "two", **chosen):
        pass
    with house(tmp_path / "one"):
        pass


@pytest.mark.row("S21", kind="E")
@pytest.mark.row("A16", kind="E")
def test_a_model_in_a_bucket_is_published_and_one_in_a_public_bucket_is_refused(
    s3: Cloud, bucket: str, tmp_path: Path, model: Path
) -> None:
    client = s3.client()
    for path in model.rglob("*"):
        if path.is_file():
            key = f"team/m/{path.relative_to(model)}"
            client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes(), ServerSideEncryption="AES256")
    for encryption in ("none", "aes-256-gcm"):
        with house(tmp_path / encryption, s3_endpoint=s3.url, store_encryption=encryption) as home:
            publish_from(home, f"s3://{bucket}/team/m", "m@1")
            shown = home.ask("model.show", ref="m@1")
            assert shown["source"] == f"s3://{bucket}/team/m"
            assert {entry["path"] for entry in shown["manifest"]} == {
                "config.json", "vocab.txt", "nested/vocab.txt", "special_tokens_map.json"
            }  # fmt: skip
            if encryption != "none":
                assert found_in(tmp_path / encryption) == []
    client.put_bucket_acl(Bucket=bucket, ACL="public-read")
    with house(tmp_path / "none", s3_endpoint=s3.url) as home:
        with pytest.raises(Refused, match="STO-PUBLIC") as refused:
            publish_from(home, f"s3://{bucket}/team/m", "m@2")
        assert "AllUsers" in refused.value.what
        assert len(home.ask("model.list")["models"]) == 1


def test_a_pull_that_is_killed_is_gone_on_with_and_what_it_left_is_hashed_again(
    tmp_path: Path, model: Path
) -> None:
    data, place = tmp_path / "data", tmp_path / "pulled"
    with house(data) as home:
        home.publish(model, "m@1")
    for cut in range(4):
        child = os.fork()
        if child == 0:
            _die_while_pulling(data, place, cut)
        assert os.waitpid(child, 0)[1] == 9
        assert not place.exists()
    partial = next(tmp_path.glob(".pulled.*"))
    assert partial.stat().st_mode & 0o077 == 0
    kept = {path: path.stat().st_ino for path in partial.rglob("*") if path.is_file() and path.stat().st_size}
    assert len(kept) == 3
    changed = partial / "config.json"
    changed.write_text(changed.read_text().replace("8", "9"))
    (partial / "planted.py").write_text("import os")
    (partial / "planted-link").symlink_to("/etc/passwd")
    with house(data) as home:
        home.ask("model.pull", ref="m@1", destination=str(place))
    for path in kept.keys() - {changed}:
        assert (place / path.relative_to(partial)).stat().st_ino == kept[path], "it was not copied again"
    assert sorted(path.name for path in place.rglob("*") if path.is_file()) == sorted(
        path.name for path in model.rglob("*") if path.is_file()
    )
    assert (place / "config.json").read_bytes() == (model / "config.json").read_bytes()
    assert not list(tmp_path.glob(".pulled.*"))


def _die_while_pulling(data: Path, place: Path, count: int) -> None:
    """Opens `count` + 1 objects to copy them, and is gone before the next one."""
    import signal

    from garrison.app.alone import perform_alone
    from garrison.artifacts import pull as pulling

    seen, copy = [0], pulling.shutil.copyfileobj

    def copyfileobj(source: object, target: object, length: int = 0) -> None:
        if seen[0] == 1 or count == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        seen[0] += 1
        copy(source, target, length)  # type: ignore[arg-type]  # passed through

    pulling.shutil.copyfileobj = copyfileobj  # type: ignore[assignment]  # where the kill strikes
    perform_alone(
        Settings(data=data),
        "model.pull",
        {"ref": "m@1", "destination": str(place)},
        identity="root",
        token=None,
    )
    os._exit(1)


def test_a_partial_copy_that_somebody_else_may_have_made_is_not_gone_on_with(
    tmp_path: Path, model: Path
) -> None:
    with house(tmp_path / "data") as home:
        digest = home.publish(model, "m@1")["digest"].removeprefix("sha256:")
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        for kind in ("link", "shared", "file"):
            place, partial = tmp_path / kind, tmp_path / f".{kind}.{digest[:16]}"
            if kind == "link":
                partial.symlink_to(tmp_path / "elsewhere")
            elif kind == "shared":
                partial.mkdir()
                partial.chmod(0o777)
            else:
                partial.write_text("x")
            with pytest.raises(GarrisonError, match="PULL-"):
                home.ask("model.pull", ref="m@1", destination=str(place))
            assert not place.exists()
        assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.row("S16", kind="R")
def test_a_token_that_goes_away_while_publishing_leaves_nothing_half_done(
    tmp_path: Path, model: Path
) -> None:
    data = tmp_path / "data"
    with house(data, store_encryption="aes-256-gcm") as home:
        (data / "keys" / "token").rename(tmp_path / "unplugged")
        with pytest.raises(Undecided, match="KEY-"):
            home.publish(model, "m@1")
        (tmp_path / "unplugged").rename(data / "keys" / "token")
        assert home.ask("model.list")["models"] == []
        assert list((data / "objects" / "incoming").iterdir()) == []
        assert not list((data / "objects" / "sealed").glob("??/*"))
        home.publish(model, "m@1")
        assert home.ask("store.verify")["versions"] == ["m@1"]


@pytest.mark.row("S17", kind="R")
@pytest.mark.row("A14", kind="E")
def test_a_publication_whose_upload_is_cut_lists_nothing_and_goes_on_when_repeated(
    s3: Cloud, bucket: str, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        s3_blobs, "PART_BYTES", 5 << 20
    )  # the service's smallest, so that the file can be small
    (model / "vocab.txt").write_text("".join(f"{number:07}\n" for number in range(5_000_000)))
    data, proxy = tmp_path / "data", Proxy(s3.url)
    with house(data, store=f"s3://{bucket}/prod", s3_endpoint=proxy.url) as home:
        proxy.room = proxy.sent + 36_000_000  # of the 40 MB of the one large file
        with pytest.raises(Undecided, match="STO-UNREACHABLE"):
            home.publish(model, "m@1")
        assert home.ask("model.list")["models"] == []
        assert list((data / "objects" / "incoming").iterdir()) == []
        proxy.room, before = None, proxy.sent
        home.publish(model, "m@1")
        assert proxy.sent - before < 30_000_000, "everything was sent again"
        assert home.ask("store.verify")["versions"] == ["m@1"]
    proxy.close()
