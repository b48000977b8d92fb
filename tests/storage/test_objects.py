"""Every store of objects keeps one contract: plain, sealed, in a bucket, and sealed in a bucket."""

from __future__ import annotations

import base64
import hashlib
import os
import random
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.objects import Damage, ObjectsContract
from tests.fakes.bucket import Cloud, Proxy, guard
from tests.fakes.wrap import MemoryWrap

from garrison.artifacts.storage_check.bucket import inspect
from garrison.core.errors import Refused, Undecided, Usage
from garrison.storage import s3_blobs, sealing
from garrison.storage.local import LocalBlobs, LocalObjects, write_atomically
from garrison.storage.objects import ObjectStore, holds, put
from garrison.storage.s3 import Place, client, listing, opening, parse
from garrison.storage.s3_blobs import S3Blobs
from garrison.storage.spooled import SpooledObjects


class TestLocalPlain(ObjectsContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return LocalObjects(tmp_path / "objects")

    @pytest.fixture
    def damage(self, tmp_path: Path) -> Damage:
        def change(store: ObjectStore, digest: str, edit: Callable[[bytes], bytes]) -> None:
            digits = digest.removeprefix("sha256:")
            _edit(tmp_path / "objects" / "sha256" / digits[:2] / digits, edit)

        return change


class TestLocalSealed(ObjectsContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return SpooledObjects(LocalBlobs(tmp_path), tmp_path / "incoming", MemoryWrap())

    @pytest.fixture
    def damage(self, tmp_path: Path) -> Damage:
        def change(store: ObjectStore, digest: str, edit: Callable[[bytes], bytes]) -> None:
            digits = digest.removeprefix("sha256:")
            _edit(tmp_path / "sealed" / digits[:2] / digits, edit)

        return change


@pytest.mark.row("A14", kind="E")
class TestS3(ObjectsContract):
    @pytest.fixture(params=["SSE-S3", "SSE-KMS"])
    def place(self, s3: Cloud, bucket: str, request: pytest.FixtureRequest) -> Place:
        key = s3.client("kms").create_key()["KeyMetadata"]["KeyId"] if request.param == "SSE-KMS" else ""
        return parse(f"s3://{bucket}/models/prod", endpoint=s3.url, kms_key=key)

    @pytest.fixture
    def store(self, place: Place, tmp_path: Path) -> ObjectStore:
        return SpooledObjects(S3Blobs(place), tmp_path / "incoming")

    @pytest.fixture
    def damage(self, place: Place) -> Damage:
        return _in_bucket(place, "sha256")


@pytest.mark.row("A14", kind="E")
class TestS3Sealed(ObjectsContract):
    @pytest.fixture
    def place(self, s3: Cloud, bucket: str) -> Place:
        return parse(f"s3://{bucket}", endpoint=s3.url)

    @pytest.fixture
    def store(self, place: Place, tmp_path: Path) -> ObjectStore:
        return SpooledObjects(S3Blobs(place), tmp_path / "incoming", MemoryWrap())

    @pytest.fixture
    def damage(self, place: Place) -> Damage:
        return _in_bucket(place, "sealed")


def _edit(path: Path, edit: Callable[[bytes], bytes]) -> None:
    found = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(edit(found))


def _in_bucket(place: Place, folder: str) -> Damage:
    """Overwrites the object with the service's own client, as somebody with write access to the bucket would."""

    def change(store: ObjectStore, digest: str, edit: Callable[[bytes], bytes]) -> None:
        digits = digest.removeprefix("sha256:")
        s3, key = client(place), place.key(f"{folder}/{digits[:2]}/{digits}")
        found = s3.get_object(Bucket=place.bucket, Key=key)["Body"].read()
        more = {"ServerSideEncryption": "aws:kms"} if place.kms_key else {"ServerSideEncryption": "AES256"}
        s3.put_object(Bucket=place.bucket, Key=key, Body=edit(found), **more)

    return change


def test_objects_are_read_only_on_the_disk(tmp_path: Path) -> None:
    store = LocalObjects(tmp_path)
    digest, _ = put(store, [b"weights"])
    assert store.path(digest).stat().st_mode & 0o777 == 0o444


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    store = LocalObjects(tmp_path)
    (store.incoming / "left-by-a-killed-process").write_bytes(b"half")
    assert store.sweep() == 1


def test_a_small_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "note"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert [item.name for item in tmp_path.iterdir()] == ["note"]


SEGMENT = (1 << 20) + 16


def _drain(store: ObjectStore, digest: str, seen: list[int] | None = None) -> None:
    with store.open(digest) as stream:
        while chunk := stream.read(1000):
            if seen is not None:
                seen.append(len(chunk))


def _sealed(tmp_path: Path, size: int = (4 << 20) + 100) -> tuple[SpooledObjects, str, Path]:
    store = SpooledObjects(LocalBlobs(tmp_path), tmp_path / "incoming", MemoryWrap())
    digest, _ = put(store, [random.Random(5).randbytes(size)])
    return store, digest, tmp_path / store.name(digest)


@pytest.mark.parametrize(
    "attack",
    [
        lambda data: data[: 16 + SEGMENT],  # cut at a segment's end
        lambda data: data[: 16 + 3 * SEGMENT],
        lambda data: data[:16],
        lambda data: (
            data[:16]
            + data[16 + SEGMENT : 16 + 2 * SEGMENT]
            + data[16 : 16 + SEGMENT]
            + data[16 + 2 * SEGMENT :]
        ),
        lambda data: data[: 16 + SEGMENT] + data[16 : 16 + SEGMENT] + data[16 + SEGMENT :],  # repeated
        lambda data: data[:16] + data[16 + SEGMENT :],  # the first one missing
        lambda data: data + data[-116:],  # the last one twice
        lambda data: data + b"\0",
        lambda data: data[:8] + b"\x0f" + data[9:],  # another segment size
        lambda data: data[:9] + bytes(7) + data[16:],  # other nonces
    ],
    ids=[
        "cut-1",
        "cut-3",
        "header-only",
        "swapped",
        "repeated",
        "first-missing",
        "last-twice",
        "longer",
        "size",
        "nonces",
    ],
)
@pytest.mark.row("A14", kind="R")
def test_segments_cannot_be_moved_cut_or_repeated(tmp_path: Path, attack: Callable[[bytes], bytes]) -> None:
    store, digest, path = _sealed(tmp_path)
    assert holds(store, digest)
    _edit(path, attack)
    with pytest.raises(Refused, match="OBJ-DAMAGED"):
        _drain(store, digest)


def test_nothing_of_a_broken_segment_is_given_out(tmp_path: Path) -> None:
    store, digest, path = _sealed(tmp_path)
    _edit(path, lambda data: data[: 16 + SEGMENT + 5] + b"\0" + data[16 + SEGMENT + 6 :])
    seen: list[int] = []
    with pytest.raises(Refused, match="OBJ-DAMAGED"):
        _drain(store, digest, seen)
    assert sum(seen) <= 1 << 20


def test_the_key_of_another_object_does_not_open_this_one(tmp_path: Path) -> None:
    store, digest, path = _sealed(tmp_path)
    other, _ = put(store, [b"other"])
    for suffix in ("", ".key"):  # both files of the other object under this one's name
        found = (tmp_path / f"{store.name(other)}{suffix}").read_bytes()
        _edit(path.with_name(path.name + suffix), lambda _data, found=found: found)  # type: ignore[misc]  # binds it
    with pytest.raises(Refused, match="OBJ-DAMAGED"):
        store.open(digest)
    forged = (tmp_path / f"{store.name(other)}.key").read_bytes().replace(other.encode(), digest.encode())
    _edit(path.with_name(path.name + ".key"), lambda _data: forged)
    with pytest.raises(Refused, match="OBJ-DAMAGED"):
        store.open(digest)


def test_nothing_plain_is_on_the_disk_and_sealing_takes_constant_memory(tmp_path: Path) -> None:
    import tracemalloc  # this test alone measures

    store = SpooledObjects(LocalBlobs(tmp_path), tmp_path / "incoming", MemoryWrap())
    line = b"weights that nobody may find on the disk;" * 100
    tracemalloc.start()
    digest, size = put(store, (line for _ in range(16_000)))
    with store.open(digest) as stream:
        while stream.read(1 << 20):
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 64_000_000
    assert peak < 16_000_000
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"nobody may find" not in path.read_bytes()


def test_a_new_wrapping_key_rewrites_the_small_files_alone(tmp_path: Path) -> None:
    wrap = MemoryWrap()
    store = SpooledObjects(LocalBlobs(tmp_path), tmp_path / "incoming", wrap)
    digest, _ = put(store, [b"weights"])
    before = (tmp_path / store.name(digest)).stat()
    wrap.rotate()
    assert store.labels() == {"storage"}
    assert store.rewrap(digest)
    assert not store.rewrap(digest)
    assert store.labels() == {"storage-2"}
    del wrap.keys["storage"]
    assert holds(store, digest)
    assert (tmp_path / store.name(digest)).stat() == before


@pytest.mark.row("A14", kind="E")
def test_an_object_that_the_service_keeps_in_the_clear_is_refused(
    s3: Cloud, bucket: str, tmp_path: Path
) -> None:
    place = parse(f"s3://{s3.bucket(guarded=False)}", endpoint=s3.url)
    store, data = SpooledObjects(S3Blobs(place), tmp_path), b"weights"
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    client(place).put_object(Bucket=place.bucket, Key=place.key(store.name(digest)), Body=data)
    with pytest.raises(Refused, match="STO-SSE") as refused:
        store.open(digest)
    assert "without encryption" in refused.value.what


@pytest.mark.row("A14", kind="E")
def test_kms_asked_for_and_sse_s3_found_is_refused(s3: Cloud, bucket: str, tmp_path: Path) -> None:
    plain = SpooledObjects(S3Blobs(parse(f"s3://{bucket}", endpoint=s3.url)), tmp_path)
    digest, _ = put(plain, [b"weights"])
    asked = parse(f"s3://{bucket}", endpoint=s3.url, kms_key="alias/models")
    with pytest.raises(Refused, match="STO-SSE"):
        SpooledObjects(S3Blobs(asked), tmp_path).open(digest)


@pytest.mark.row("A14", kind="E")
def test_every_object_is_written_encrypted_with_its_checksum_and_never_overwritten(
    s3: Cloud, bucket: str, tmp_path: Path
) -> None:
    place = parse(f"s3://{bucket}", endpoint=s3.url)
    seen: list[dict[str, Any]] = []
    connected = client(place)
    connected.meta.events.register(
        "before-send.s3",
        lambda request, **_: seen.append({k.lower(): v for k, v in request.headers.items()}) and None,
    )
    store = SpooledObjects(S3Blobs(place, connected), tmp_path)
    small, _ = put(store, [b"small"])
    puts = [headers for headers in seen if "if-none-match" in headers]
    assert len(puts) == 1
    assert puts[0]["x-amz-server-side-encryption"] in (b"AES256", "AES256")
    sum_ = base64.b64encode(hashlib.sha256(b"small").digest())
    assert puts[0]["x-amz-checksum-sha256"] in (sum_, sum_.decode())
    blobs, other = S3Blobs(place), tmp_path / "other"
    other.write_bytes(b"OTHER")
    blobs.keep(store.name(small), other)
    assert holds(store, small)


@pytest.mark.row("S17", kind="R")
@pytest.mark.row("A14", kind="E")
def test_an_upload_cut_at_ninety_percent_goes_on_where_it_stopped(
    s3: Cloud, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        s3_blobs, "PART_BYTES", 5 << 20
    )  # the service's smallest, so that the file can be small
    data = random.Random(9).randbytes(50 << 20)
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    for wrap in (None, MemoryWrap()):
        proxy = Proxy(s3.url, room=45 << 20)
        cut = SpooledObjects(S3Blobs(parse(f"s3://{bucket}", endpoint=proxy.url)), tmp_path, wrap)
        with pytest.raises(Undecided, match="STO-UNREACHABLE"):
            put(cut, [data])
        proxy.close()
        whole = Proxy(s3.url)
        store = SpooledObjects(S3Blobs(parse(f"s3://{bucket}", endpoint=whole.url)), tmp_path, wrap)
        assert not store.has(digest)
        assert store.discard_all_but(set) == 0, "what can be continued was thrown away"
        assert len(store.blobs.pending(store.folder)) == 1
        before = whole.sent
        put(store, [data])
        assert whole.sent - before < 30 << 20, "parts that were there were sent again"
        assert holds(store, digest)
        assert list(store.blobs.pending(store.folder)) == []
        whole.close()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.row("A14", kind="E")
def test_a_download_that_is_cut_goes_on_at_its_byte_and_all_of_it_is_hashed(
    s3: Cloud, bucket: str, tmp_path: Path
) -> None:
    data = random.Random(11).randbytes(10 << 20)
    for wrap in (None, MemoryWrap()):
        place = parse(f"s3://{bucket}", endpoint=s3.url)
        digest, _ = put(SpooledObjects(S3Blobs(place), tmp_path, wrap), [data])
        proxy = Proxy(s3.url, cut_answers_at=(3 << 20, 9 << 20))
        store = SpooledObjects(S3Blobs(parse(f"s3://{bucket}", endpoint=proxy.url)), tmp_path, wrap)
        with store.open(digest) as stream:
            assert stream.read() == data
        assert proxy.cuts == [], "nothing was cut"
        assert proxy.answered < 13 << 20, "bytes that were there were sent again"
        proxy.cuts = [proxy.answered + (9 << 20)]
        with store.open(digest) as stream:
            stream.read(1 << 20)
            s3.client().put_object(
                Bucket=bucket, Key=store.name(digest), Body=data[::-1], ServerSideEncryption="AES256"
            )
            with pytest.raises((Refused, Undecided), match=r"OBJ-DAMAGED|STO-UNREACHABLE"):
                stream.read()
        proxy.close()


@pytest.mark.row("A14", kind="E")
def test_an_object_under_object_lock_cannot_be_removed_and_the_check_says_whether_it_can(
    s3: Cloud, bucket: str, tmp_path: Path
) -> None:
    locked = f"{bucket}-locked"
    s3.client().create_bucket(Bucket=locked, ObjectLockEnabledForBucket=True)
    guard(s3.client(), locked)
    place = parse(f"s3://{locked}", endpoint=s3.url, retain_days=30)
    store = SpooledObjects(S3Blobs(place), tmp_path)
    for data in (b"small", random.Random(3).randbytes(2 << 20)):
        digest, _ = put(store, [data])
        name = {"Bucket": locked, "Key": store.name(digest)}
        head = s3.client().head_object(**name)
        assert head["ObjectLockMode"] == "COMPLIANCE"
        with pytest.raises(ClientError, match="AccessDenied"):
            s3.client().delete_object(**name, VersionId=head["VersionId"])
        assert holds(store, digest)
    assert "object-lock=Enabled ok, no default retention" in inspect(place).passed
    unlocked = parse(f"s3://{bucket}", endpoint=s3.url, retain_days=30)
    assert [one.code for one in inspect(unlocked).found] == ["STO-LOCK"]
    off = inspect(parse(f"s3://{bucket}", endpoint=s3.url))
    assert any(line.startswith("object-lock=off") for line in off.passed)


def test_a_service_that_is_not_there_is_a_sentence(tmp_path: Path, s3: Cloud) -> None:
    nowhere = parse("s3://models", endpoint="http://127.0.0.1:9")
    with pytest.raises(Undecided, match="STO-UNREACHABLE"):
        put(SpooledObjects(S3Blobs(nowhere), tmp_path), [b"x"])
    absent = parse("s3://no-such-bucket-here", endpoint=s3.url)
    with pytest.raises(Usage, match="STO-BUCKET"):
        put(SpooledObjects(S3Blobs(absent), tmp_path), [b"x"])


@pytest.mark.parametrize(
    "url", ["s3://", "s3:///x", "http://b/x", "s3://user:secret@b", "s3://b/../c", "s3://b/a//b", "s3://b?x"]
)
def test_only_a_bucket_is_a_place(url: str) -> None:
    with pytest.raises(Usage, match="STO-URL"):
        parse(url)


def test_a_far_endpoint_without_tls_is_refused() -> None:
    with pytest.raises(Refused, match="STO-TLS"):
        parse("s3://models", endpoint="http://minio.example:9000")


def test_what_lies_below_a_prefix_is_listed_and_read(s3: Cloud, bucket: str) -> None:
    place = parse(f"s3://{bucket}/team/model", endpoint=s3.url)
    for key in ("team/model/config.json", "team/model/a/b.bin", "team/model/", "team/model2/x"):
        client(place).put_object(Bucket=bucket, Key=key, Body=b"{}", ServerSideEncryption="AES256")
    assert [item.path for item in listing(place)] == ["a/b.bin", "config.json"]
    with opening(place, "config.json") as stream:
        assert stream.read() == b"{}"


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_range_of_a_sealed_file_is_read_and_any_changed_byte_of_it_is_noticed(
    data: st.DataObject,
) -> None:
    plain = data.draw(st.binary(max_size=5000))
    key, header = bytes(32), sealing.MAGIC + bytes([10]) + bytes(7)
    with TemporaryFile(buffering=0) as file:
        sealer = sealing.Sealer(file, key, header)
        sealer.write(plain)
        sealer.finish()
        segments = sealing.Segments(file.fileno(), key, header, len(plain))
        offset, length = data.draw(st.integers(0, 5100)), data.draw(st.integers(0, 5100))
        assert segments.read_at(offset, length) == plain[offset : offset + length]
        at = data.draw(st.integers(0, sealing.sealed_size(len(plain), 10) - 1))
        byte = os.pread(file.fileno(), 1, at)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 1]), at)
        if plain or at < sealing.HEADER_BYTES:  # nobody asks for the one segment of an empty file
            with pytest.raises(sealing.Broken):
                sealing.Segments(file.fileno(), key, header, len(plain)).read_at(0, 5000)
