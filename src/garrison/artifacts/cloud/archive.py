"""The files in a model.tar.gz by path and SHA-256, read as a stream: nothing is unpacked, nothing is written."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from typing import IO

from garrison.core.errors import GarrisonError
from garrison.trust.paths import check_path

MAX_MEMBERS = 100_000
READ_BYTES = 1 << 20


class Unreadable(Exception):
    """Why an archive has no one reading; a sentence."""


def files_in(stream: IO[bytes], most: int) -> dict[str, str]:
    """`sha256:` digests by path. Raises `Unreadable` beyond `most` bytes, and for anything but plain files."""
    found: dict[str, str] = {}
    left = most
    try:
        with tarfile.open(fileobj=stream, mode="r|gz") as archive:
            for number, member in enumerate(archive):
                if number >= MAX_MEMBERS:
                    raise Unreadable(f"it has more than {MAX_MEMBERS:,} members")
                if member.isdir():
                    continue
                path = check_path(member.name.removeprefix("./"))
                source = archive.extractfile(member) if member.isreg() else None
                if source is None or path in found:
                    raise Unreadable(f"{path[:100]!a} is a link or a device, or stands in it twice")
                hasher = hashlib.sha256()
                while chunk := source.read(READ_BYTES):
                    left -= len(chunk)
                    if left < 0:
                        raise Unreadable(f"it unpacks to more than {most:,} bytes")
                    hasher.update(chunk)
                found[path] = f"sha256:{hasher.hexdigest()}"
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise Unreadable(f"it is no sound tar.gz ({type(error).__name__})") from error
    except GarrisonError as error:
        raise Unreadable(error.what) from error
    return found
