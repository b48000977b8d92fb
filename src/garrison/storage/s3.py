"""A bucket, by boto3: its address, a connection with bounded waits, listing and reading what is in it.

Credentials come from boto3's own chain and from nowhere else. What is read from a store of ours has to be
encrypted by the service, and the service has to say so. Writing is in `s3_blobs.py`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import boto3
from botocore import exceptions as aws
from botocore.config import Config

from garrison.core.errors import GarrisonError, Refused, Undecided, Usage

CONNECT_SECONDS = 5
READ_SECONDS = 30
ATTEMPTS = 4  # of one request, the first included, with growing pauses between them
CONNECTIONS = 8
MAX_CUTS = 16  # of one object's answer; each time the next one goes on at the byte where it stopped
MAX_NAMES = 1_000_000  # objects listed below a prefix

_GONE = frozenset({"NoSuchKey", "404", "NotFound"})
_DENIED = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled"})
_UNLOCKED = frozenset({"ObjectLockConfigurationNotFoundError"})
_CREDENTIALS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"})


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket and the prefix in it. `endpoint` is empty for AWS; `kms_key` empty for SSE-S3."""

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    kms_key: str = ""
    retain_days: int = 0

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name


@dataclass(frozen=True, slots=True)
class Listed:
    """One object below a place: its path from there, and how the service says that it is kept."""

    path: str
    size: int


def parse(url: str, *, endpoint: str = "", kms_key: str = "", retain_days: int = 0) -> Place:
    """`s3://bucket/prefix`. Raises `Usage` STO-URL, `Refused` STO-TLS for http:// to another machine."""
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    steps = prefix.split("/") if prefix else []
    if (
        parts.scheme != "s3"
        or not parts.hostname
        or parts.username
        or parts.query
        or parts.fragment
        or any(step in ("", ".", "..") or not step.isprintable() for step in steps)
    ):
        raise Usage(
            "STO-URL",
            f"{url[:200]!r} is not the address of a bucket",
            fix="write it as s3://bucket or s3://bucket/prefix; credentials come from boto3's own chain",
        )
    _check_endpoint(endpoint)
    return Place(parts.netloc, prefix, endpoint, kms_key, retain_days)


def _check_endpoint(endpoint: str) -> None:
    if not endpoint:
        return
    parts = urlsplit(endpoint)
    if parts.scheme == "https" and parts.hostname and not parts.username:
        return
    if parts.scheme == "http" and parts.hostname and not parts.username:
        with suppress(ValueError):
            if parts.hostname == "localhost" or ip_address(parts.hostname).is_loopback:
                return
        raise Refused(
            "STO-TLS",
            f"{endpoint} would send models and signatures of requests in the clear",
            fix="use the endpoint's https:// address; http:// is for this machine alone",
        )
    raise Usage(
        "STO-URL",
        "the S3 endpoint is not an address",
        fix="write it as https://host[:port], without a user or password",
    )


def client(place: Place, service: str = "s3") -> Any:
    """A boto3 client with bounded waits. Raises `Undecided` STO-REGION when AWS needs a region and has none."""
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        max_pool_connections=CONNECTIONS,
        s3={"addressing_style": "path"} if place.endpoint else None,
        signature_version="s3v4" if service == "s3" else None,
    )
    with explained(place):
        region = boto3.session.Session().region_name or ("us-east-1" if place.endpoint else None)
        return boto3.client(service, endpoint_url=place.endpoint or None, region_name=region, config=config)


@contextmanager
def explained(place: Place) -> Iterator[None]:
    """What the service or the way to it says, as a sentence with a next step."""
    try:
        yield
    except aws.ClientError as error:
        raise _answered(place, error) from error
    except (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError) as error:
        raise Undecided(
            "STO-CREDENTIALS",
            f"no credentials for {place.url} were found",
            fix="give the server a role or a profile that boto3 finds (AWS_PROFILE); never a key in a setting",
        ) from error
    except aws.FlexibleChecksumError as error:
        raise Refused(
            "OBJ-DAMAGED",
            f"an object of {place.url} does not have the checksum that the service keeps for it",
            fix="garrison store verify names it and the versions it belongs to",
        ) from error
    except (aws.BotoCoreError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise Undecided(
            "STO-UNREACHABLE",
            f"{place.url} did not answer: {type(error).__name__}",
            fix="check the network and the endpoint, then repeat the command: an upload goes on where it stopped",
            evidence={"endpoint": place.endpoint or "AWS"},
        ) from error


def _answered(place: Place, error: aws.ClientError) -> GarrisonError:
    said = error.response.get("Error", {})
    code, operation = str(said.get("Code", "")), error.operation_name
    if code == "NoSuchBucket":
        return Usage(
            "STO-BUCKET",
            f"there is no bucket {place.bucket}",
            fix="create it with versioning, default encryption and a public access block, then try again",
        )
    if code in _DENIED:
        return Undecided(
            "STO-DENIED",
            f"{place.url}: these credentials may not do {operation}",
            fix=f"allow them s3:{operation} on this bucket alone; docs/storage.md has the smallest policy",
        )
    if code in _UNLOCKED or (code == "InvalidRequest" and "Object Lock" in str(said.get("Message", ""))):
        return Usage(
            "STO-LOCK",
            f"the bucket {place.bucket} does not offer Object Lock, and s3_retain_days is {place.retain_days}",
            fix="make a bucket with --object-lock-enabled-for-bucket, or set s3_retain_days to 0",
        )
    if code in _CREDENTIALS:
        return Undecided(
            "STO-CREDENTIALS",
            f"{place.url} does not accept these credentials: {code}",
            fix="renew the role or profile that boto3 finds, then try again",
        )
    return Undecided(
        "STO-UNREACHABLE",
        f"{place.url}: {operation} was answered with {code or 'an error'}",
        fix="try again; when it stays, look at the service's own status and log",
    )


def listing(place: Place, connected: Any = None) -> list[Listed]:
    """Every object below a place, in the order of their paths. Raises `Refused` ART-TOO-MANY, and STO-*."""
    prefix = f"{place.prefix}/" if place.prefix else ""
    found: list[Listed] = []
    with explained(place):
        pages = (connected or client(place)).get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=place.bucket, Prefix=prefix):
            for item in page.get("Contents", ()):
                path = str(item["Key"]).removeprefix(prefix)
                if path and not path.endswith("/"):  # a folder's own mark has no bytes
                    found.append(Listed(path, int(item["Size"])))
            if len(found) > MAX_NAMES:
                raise Refused(
                    "ART-TOO-MANY",
                    f"{place.url} holds more than {MAX_NAMES:,} objects",
                    fix="name the prefix of one model: s3://bucket/prefix",
                )
    return sorted(found, key=lambda item: item.path)


def opening(place: Place, path: str, connected: Any = None, *, any_encryption: bool = False) -> BinaryIO:
    """The bytes of one object below a place. Raises FileNotFoundError, `Refused` STO-SSE, and STO-*.

    `any_encryption` takes an object as it comes: for reading what others keep, to judge it.
    """
    connected = connected or client(place)
    with explained(place):
        try:
            answer = connected.get_object(Bucket=place.bucket, Key=place.key(path))
        except aws.ClientError as error:
            if code_of(error) in _GONE:
                raise FileNotFoundError(path) from error
            raise
    if not any_encryption:
        try:
            assert_encrypted(place, path, answer)
        except BaseException:
            answer["Body"].close()
            raise
    return cast(BinaryIO, io.BufferedReader(_Body(place, path, connected, answer), 1 << 20))


class _Body(io.RawIOBase):
    """The body of an answer. A cut one is not an end: the rest of the same object is asked for."""

    def __init__(self, place: Place, path: str, connected: Any, answer: dict[str, Any]) -> None:
        self._place, self._path, self._client = place, path, connected
        self._body, self._tag, self._size = answer["Body"], answer["ETag"], int(answer["ContentLength"])
        self._read = 0
        self._cuts = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the base says Buffer, which 3.11 cannot name
        with explained(self._place):
            while True:
                try:
                    chunk = self._body.read(min(len(buffer), 1 << 20))
                    if not chunk and self._read < self._size:
                        raise OSError("the answer was cut")
                    break
                except aws.FlexibleChecksumError:
                    raise
                except (aws.BotoCoreError, OSError):
                    self._cuts += 1
                    if self._cuts > MAX_CUTS:
                        raise
                    self._go_on()
        self._read += len(chunk)
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def _go_on(self) -> None:
        """Ask for the rest, of the object that it was. Who reads hashes all of it, whatever is answered."""
        self._body.close()
        answer = self._client.get_object(
            Bucket=self._place.bucket,
            Key=self._place.key(self._path),
            Range=f"bytes={self._read}-",
            IfMatch=self._tag,
        )
        self._body = answer["Body"]
        if answer.get("ContentRange") != f"bytes {self._read}-{self._size - 1}/{self._size}":
            raise OSError("the service does not go on where it stopped")

    def close(self) -> None:
        self._body.close()
        super().close()


def encryption(place: Place) -> dict[str, str]:
    if place.kms_key:
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": place.kms_key}
    return {"ServerSideEncryption": "AES256"}


def assert_encrypted(place: Place, name: str, answer: dict[str, Any]) -> None:
    """Raises `Refused` STO-SSE unless the service says that the object is encrypted as was asked."""
    found = str(answer.get("ServerSideEncryption", ""))
    wanted = ("aws:kms", "aws:kms:dsse") if place.kms_key else ("AES256", "aws:kms", "aws:kms:dsse")
    if found not in wanted:
        raise Refused(
            "STO-SSE",
            f"{place.url}: the object {name[-80:]} is kept {f'with {found}' if found else 'without encryption'}, "
            f"and {wanted[0]} was asked for",
            fix="turn on the bucket's default encryption, remove that object, and repeat the command",
            evidence={"bucket": place.bucket, "key": place.key(name), "sse": found, "expected": wanted[0]},
        )


def code_of(error: aws.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
