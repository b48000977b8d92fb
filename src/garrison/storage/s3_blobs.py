"""Named blobs in an S3 bucket: encrypted by the service or refused, resumable, never overwritten.

Every answer to a write has to say that the object is encrypted; every object is sent with its SHA-256, and
hashed again when it is read, because a service that ignores a checksum looks like one that checks it. An
upload that was cut keeps its parts in the bucket: the next one lists them and sends what is missing.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from botocore import exceptions as aws

from garrison.core.errors import Refused
from garrison.storage.s3 import (
    Place,
    assert_encrypted,
    client,
    code_of,
    encryption,
    explained,
    listing,
    opening,
)

THREADS = 4  # parts on their way at once
PART_BYTES = 16 << 20
MAX_PARTS = 10_000  # the service's own limit
MAX_SMALL = 1 << 20  # what goes in one request

_TAKEN = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict"})


class S3Blobs:
    """`storage.objects.Blobs` in a bucket."""

    def __init__(self, place: Place, connected: Any = None) -> None:
        self.place = place
        self._client = connected or client(place)

    def keep(self, name: str, file: Path) -> None:
        size = file.stat().st_size
        with explained(self.place):
            if size <= MAX_SMALL:
                self._put(name, file.read_bytes(), is_new=True)
            else:
                _Upload(self.place, self._client, name, file, size).run()
        file.unlink(missing_ok=True)

    def replace(self, name: str, file: Path) -> None:
        with explained(self.place):
            self._put(name, file.read_bytes(), is_new=False)
        file.unlink(missing_ok=True)

    def _put(self, name: str, data: bytes, *, is_new: bool) -> None:
        condition = {"IfNoneMatch": "*"} if is_new else {}
        try:
            answer = self._client.put_object(
                Bucket=self.place.bucket,
                Key=self.place.key(name),
                Body=data,
                ChecksumAlgorithm="SHA256",  # a bucket with Object Lock asks for the name beside the value
                ChecksumSHA256=_checksum(data),
                **condition,
                **encryption(self.place),
                **_retention(self.place),
            )
        except aws.ClientError as error:
            if is_new and code_of(error) in _TAKEN:
                return  # somebody was first; objects are named by their content
            raise
        assert_encrypted(self.place, name, answer)

    def read(self, name: str) -> BinaryIO:
        return opening(self.place, name, self._client)

    def remove(self, name: str) -> None:
        with explained(self.place):
            self._client.delete_object(Bucket=self.place.bucket, Key=self.place.key(name))

    def names(self, folder: str) -> Iterable[str]:
        below = Place(self.place.bucket, self.place.key(folder), self.place.endpoint)
        return [f"{folder}/{item.path}" for item in listing(below, self._client)]

    def pending(self, folder: str) -> Collection[str]:
        return set(_unfinished(self.place, self._client, f"{folder}/"))

    def forget(self, folder: str) -> int:
        """Give up unfinished uploads and the space of their parts; returns how many."""
        found = _unfinished(self.place, self._client, f"{folder}/")
        with explained(self.place):
            for name, upload in found.items():
                self._client.abort_multipart_upload(
                    Bucket=self.place.bucket, Key=self.place.key(name), UploadId=upload
                )
        return len(found)


class _Upload:
    """One large file: begun, or continued where an earlier one was cut."""

    def __init__(self, place: Place, connected: Any, name: str, file: Path, size: int) -> None:
        self._place, self._client, self._name, self._file, self._size = place, connected, name, file, size
        self._target = {"Bucket": place.bucket, "Key": place.key(name)}
        mebibytes = -(-size // (MAX_PARTS << 20))
        self._part = max(PART_BYTES, mebibytes << 20)

    def run(self) -> None:
        upload = _unfinished(self._place, self._client, self._name).get(self._name) or self._begin()
        there = self._parts(upload)
        numbers = range(1, -(-self._size // self._part) + 1)
        descriptor = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with ThreadPoolExecutor(THREADS, thread_name_prefix="s3") as pool:
                sent = [
                    pool.submit(self._send, descriptor, upload, number, there.get(number))
                    for number in numbers
                ]
                try:
                    tags = [future.result() for future in sent]
                except BaseException:
                    pool.shutdown(wait=True, cancel_futures=True)
                    raise
        finally:
            os.close(descriptor)
        self._finish(upload, tags)

    def _begin(self) -> str:
        answer = self._client.create_multipart_upload(
            **self._target, ChecksumAlgorithm="SHA256", **encryption(self._place), **_retention(self._place)
        )
        assert_encrypted(self._place, self._name, answer)
        return str(answer["UploadId"])

    def _parts(self, upload: str) -> dict[int, dict[str, Any]]:
        pages = self._client.get_paginator("list_parts").paginate(**self._target, UploadId=upload)
        return {int(part["PartNumber"]): part for page in pages for part in page.get("Parts", ())}

    def _send(self, file: int, upload: str, number: int, there: dict[str, Any] | None) -> dict[str, Any]:
        """One part, unless the bucket has the same bytes of it. Its tag for the last request."""
        data = os.pread(file, self._part, (number - 1) * self._part)
        checksum = _checksum(data)
        if there is not None and _is_same(there, data, checksum):
            return _tag(number, there)
        answer = self._client.upload_part(
            **self._target, UploadId=upload, PartNumber=number, Body=data, ChecksumSHA256=checksum
        )
        if answer.get("ChecksumSHA256", checksum) != checksum:
            raise Refused(
                "OBJ-DAMAGED",
                f"{self._place.url} received other bytes than were sent",
                fix="try again; when it stays, look at what stands between here and the bucket",
            )
        return _tag(number, answer)

    def _finish(self, upload: str, tags: list[dict[str, Any]]) -> None:
        try:
            answer = self._client.complete_multipart_upload(
                **self._target, UploadId=upload, MultipartUpload={"Parts": tags}, IfNoneMatch="*"
            )
        except aws.ClientError as error:
            if code_of(error) not in _TAKEN:
                raise
            self._client.abort_multipart_upload(**self._target, UploadId=upload)
            return
        assert_encrypted(self._place, self._name, answer)
        self._lock()

    def _lock(self) -> None:
        """The upload may have been begun before the setting, and not every service keeps what was asked then."""
        if not self._place.retain_days or self._client.head_object(**self._target).get("ObjectLockMode"):
            return
        asked = _retention(self._place)
        self._client.put_object_retention(
            **self._target,
            Retention={
                "Mode": asked["ObjectLockMode"],
                "RetainUntilDate": asked["ObjectLockRetainUntilDate"],
            },
        )


def _tag(number: int, part: dict[str, Any]) -> dict[str, Any]:
    kept = {key: part[key] for key in ("ETag", "ChecksumSHA256") if part.get(key)}
    return {"PartNumber": number, **kept}


def _is_same(there: dict[str, Any], data: bytes, checksum: str) -> bool:
    """Whether a listed part is these bytes. Without a SHA-256 the entity tag has to do: an MD5 under SSE-S3.

    A part taken wrongly would not pass as an object: that is hashed when it is read.
    """
    if there.get("Size") != len(data):
        return False
    if there.get("ChecksumSHA256"):
        return bool(there["ChecksumSHA256"] == checksum)
    return bool(there.get("ETag", "").strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest())


def _unfinished(place: Place, connected: Any, name: str) -> dict[str, str]:
    """Unfinished uploads whose name begins so, with their ids; of two, the later one."""
    found = {}
    with explained(place):
        pages = connected.get_paginator("list_multipart_uploads").paginate(
            Bucket=place.bucket, Prefix=place.key(name)
        )
        for page in pages:
            for upload in page.get("Uploads", ()):
                found[str(upload["Key"]).removeprefix(place.key(""))] = str(upload["UploadId"])
    return found


def _retention(place: Place) -> dict[str, Any]:
    """Object Lock, where the settings ask for it: nobody can remove the object before that day."""
    if not place.retain_days:
        return {}
    until = datetime.now(UTC) + timedelta(days=place.retain_days)
    return {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}


def _checksum(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()
