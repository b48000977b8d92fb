"""What a scan sees in a bucket: every object below a prefix, read once into an unnamed file and judged there.

The service is asked for names and sizes first, so that a scan knows how far it is. Nothing is written to it,
and an object that changes between the two is judged as what came.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from garrison.artifacts.scan_walk import MAX_FILES, Entry
from garrison.core.errors import Undecided, Usage

SCHEME = "s3://"
_FIX = "garrison scan s3://BUCKET/PREFIX names a model, or one object, that is there"


def objects(url: str, environment: Mapping[str, str]) -> Iterator[Entry]:
    """The objects below `s3://BUCKET/PREFIX`, or the one object of that name.

    Credentials, region and endpoint are those that boto3 finds. Raises `Usage` SCAN-PATH when nothing is
    there, and what `storage.s3` says about addresses, credentials and services that cannot be reached.
    """
    try:
        from garrison.storage import s3  # boto3 costs 0.3 s and is an extra
    except ModuleNotFoundError as error:
        raise Undecided(
            "STO-EXTRA",
            f"{error.name} is not installed, and objects in S3 are read with it",
            fix="pip install 'garrison[aws]', then repeat the command",
        ) from error
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or ""
    place = s3.parse(url, endpoint=endpoint)
    connected = s3.client(place)
    found = s3.listing(place, connected)
    if not found and place.prefix:
        folder, _, name = place.prefix.rpartition("/")
        above = s3.parse(f"{SCHEME}{place.bucket}/{folder}", endpoint=endpoint)
        found = [item for item in s3.listing(above, connected) if item.path == name]
        place = above
    if not found:
        raise Usage("SCAN-PATH", f"there is no object at {url[:200]}", fix=_FIX)
    for count, item in enumerate(found, 1):
        if count > MAX_FILES:
            yield Entry(Path(), item.path, f"more than {MAX_FILES} files in one scan")
            return
        yield Entry(
            Path(),
            item.path,
            opener=partial(s3.opening, place, item.path, connected, any_encryption=True),
            size=item.size,
        )
