"""Where a publication comes from: a directory here, or a bucket that is looked at first. Never a public place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from garrison.app import stores
from garrison.app.house import House
from garrison.app.verbs.base import Call
from garrison.artifacts import layout
from garrison.core.errors import Usage
from garrison.storage.local import full_disk_explained, remove_tree


@contextmanager
def fetched(house: House, call: Call, url: str) -> Iterator[Path]:
    """A private directory with what lies at `url`, for as long as it is needed.

    Raises `Refused` STO-PUBLIC for a place that everybody may read, `Usage` PATH-NOT-DIR for another address
    than a bucket's, and STO-*.
    """
    if not url.startswith("s3://"):
        _refuse_web(url)
    found = stores.place(url, house.settings.s3_endpoint)
    from garrison.artifacts import s3_source  # boto3: 0.4 s, and an extra

    s3_source.refuse_public(found)
    with _room(house) as room:
        s3_source.fetch(found, room, call.progress)
        yield room


def refuse_public_target(house: House) -> None:
    """Raises `Refused` STO-PUBLIC when the store of this data directory is a bucket open to everybody."""
    known = stores.read_record(house.settings.data)
    if known is None or known.store == stores.LOCAL:
        return
    from garrison.artifacts import s3_source  # boto3: 0.4 s, and an extra

    s3_source.refuse_public(stores.place_of(house.settings, known))


@contextmanager
def _room(house: House) -> Iterator[Path]:
    """On the data directory's own disk; in memory when nothing plain may touch a disk."""
    if house.registry.objects.is_sealed:
        with layout.memory_directory() as room:
            yield room
        return
    room = layout.staged(house.registry)
    with full_disk_explained():
        room.mkdir(mode=0o700, parents=True)
    try:
        yield room
    finally:
        remove_tree(room)


def _refuse_web(url: str) -> None:
    from garrison.artifacts.storage_check.web import inspect_url  # needed by this refusal alone

    error = inspect_url(url).error()
    if error is not None:
        raise error
    raise Usage(
        "PATH-NOT-DIR",
        f"{url[:200]} is neither a directory nor a bucket",
        fix="fetch it into a directory that only you may read, then publish that directory",
    )
