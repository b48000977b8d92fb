"""Which store a data directory has: chosen once, written down beside the data, never changed silently.

`store.json` in the data directory holds the choice. A setting that says otherwise later is refused, because
every version that is there already would look lost. Turning encryption on for a store that has objects is
a step of its own (`garrison store encrypt`), which goes on at the next start when it was cut short.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from garrison.app.settings import Settings
from garrison.artifacts import seal_store
from garrison.artifacts.storage_check.directory import inspect_directory
from garrison.artifacts.storage_check.report import Report
from garrison.core.digest import canonical_json
from garrison.core.errors import Refused, Undecided
from garrison.storage.local import LocalBlobs, LocalObjects, write_atomically
from garrison.storage.objects import ObjectStore
from garrison.storage.spooled import SpooledObjects
from garrison.trust.keys.pkcs11 import Token
from garrison.trust.keys.wrapping import TokenWrap

if TYPE_CHECKING:
    from garrison.storage.s3 import Place

NAME = "store.json"
MARK = "garrison-store.json"
LOCAL = "local"
SEALED = "aes-256-gcm"
MAX_RECORD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Record:
    """The choice. `id` names this data directory in a bucket, so that two never share a prefix."""

    id: str
    store: str = LOCAL
    encryption: str = "none"
    endpoint: str = ""
    kms_key: str = ""
    is_converting: bool = False

    @property
    def is_sealed(self) -> bool:
        return self.encryption == SEALED


@dataclass(frozen=True, slots=True)
class Opened:
    objects: ObjectStore
    record: Record
    repaired: tuple[str, ...] = ()


def open_store(settings: Settings, token: Token) -> Opened:
    """The store as recorded; a new data directory records what the settings say.

    Raises `Refused` STO-CHANGED when they disagree, STO-TAKEN for a prefix of another data directory, and
    STO-* when a bucket does not answer.
    """
    found = read_record(settings.data)
    record = found or _chosen(settings)
    if found is not None or _has_objects(settings.data):
        _refuse_change(settings, record)
    if found is None:
        write_record(settings.data, record)
    repaired: tuple[str, ...] = ()
    if record.is_converting:
        count = convert(settings, token, record)
        record = replace(record, is_converting=False)
        repaired = (f"went on with encrypting the store: {count} objects",)
    wrap = TokenWrap(token) if record.is_sealed else None
    return Opened(_opened(settings, record, wrap), record, repaired)


def _opened(settings: Settings, record: Record, wrap: TokenWrap | None) -> ObjectStore:
    root = settings.data / "objects"
    if record.store != LOCAL:
        return _in_bucket(settings, record, wrap)
    if wrap is None:
        return LocalObjects(root)
    return SpooledObjects(LocalBlobs(root), root / "incoming", wrap)


def _in_bucket(settings: Settings, record: Record, wrap: TokenWrap | None) -> SpooledObjects:
    from garrison.storage.s3_blobs import S3Blobs  # boto3: 0.4 s, and an extra

    blobs = S3Blobs(place_of(settings, record))
    with tempfile.TemporaryDirectory(dir=settings.data / "run") as room:
        mark = Path(room) / MARK
        mark.write_bytes(canonical_json({"data_directory": record.id}))
        blobs.keep(MARK, mark)
    with blobs.read(MARK) as stream:
        said = stream.read(MAX_RECORD_BYTES)
    if said != canonical_json({"data_directory": record.id}):
        raise Refused(
            "STO-TAKEN",
            f"{record.store} belongs to another data directory, which would lose what is discarded here",
            fix="give this data directory a prefix of its own: --store s3://bucket/another-prefix",
        )
    return SpooledObjects(blobs, settings.data / "objects" / "incoming", wrap)


def place_of(settings: Settings, record: Record) -> Place:
    """The bucket of a store in S3. Raises `Undecided` STO-EXTRA without boto3, `Usage` STO-URL."""
    return place(record.store, record.endpoint, record.kms_key, settings.s3_retain_days)


def place(url: str, endpoint: str = "", kms_key: str = "", retain_days: int = 0) -> Place:
    try:
        from garrison.storage import s3  # boto3: 0.4 s, and an extra
    except ModuleNotFoundError as error:
        raise Undecided(
            "STO-EXTRA",
            "S3 needs the extra aws, which is not installed",
            fix="pip install 'garrison[aws]', then repeat the command",
        ) from error
    return s3.parse(url, endpoint=endpoint, kms_key=kms_key, retain_days=retain_days)


def inspect(settings: Settings) -> Report:
    """Whether the store of a data directory is closed to others. Raises as `place` does."""
    known = read_record(settings.data) or Record("")
    if known.store == LOCAL:
        return inspect_directory(settings.data / "objects")
    where = place_of(settings, known)
    from garrison.artifacts.storage_check import bucket  # boto3: 0.4 s, and an extra

    return bucket.inspect(where)


def convert(settings: Settings, token: Token, record: Record) -> int:
    """Seal every object of a plain local store, then take the plain ones and the trees away.

    Written down before it begins and after it is done: a kill in between is gone on with at the next start.
    """
    write_record(settings.data, replace(record, encryption=SEALED, is_converting=True))
    root = settings.data / "objects"
    sealed = SpooledObjects(LocalBlobs(root), root / "incoming", TokenWrap(token))
    count = seal_store.seal_all(LocalObjects(root), sealed)
    seal_store.remove_trees(settings.data / "models")
    write_record(settings.data, replace(record, encryption=SEALED, is_converting=False))
    return count


def read_record(data: Path) -> Record | None:
    """Raises `Undecided` STO-RECORD for a file that is not one."""
    try:
        with (data / NAME).open("rb") as file:
            body = json.loads(file.read(MAX_RECORD_BYTES))
        known = Record(**body)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise Undecided(
            "STO-RECORD",
            f"{data / NAME} does not say which store this data directory has",
            fix="put the file back from the backup of the data directory",
        ) from error
    return known


def write_record(data: Path, record: Record) -> None:
    write_atomically(data / NAME, canonical_json(asdict(record)))


def _chosen(settings: Settings) -> Record:
    if _has_objects(settings.data):
        return Record(secrets.token_hex(16))
    chosen = Record(
        secrets.token_hex(16),
        settings.store or LOCAL,
        settings.store_encryption or "none",
        settings.s3_endpoint,
        settings.s3_kms_key,
    )
    if chosen.store != LOCAL:
        return replace(chosen, store=place_of(settings, chosen).url)
    return chosen


def _has_objects(data: Path) -> bool:
    return (data / "objects" / "sha256").is_dir()


def _refuse_change(settings: Settings, record: Record) -> None:
    wanted: dict[str, Any] = {
        "store": (settings.store.rstrip("/"), record.store),
        "store_encryption": (settings.store_encryption, record.encryption),
        "s3_endpoint": (settings.s3_endpoint, record.endpoint),
        "s3_kms_key": (settings.s3_kms_key, record.kms_key),
    }
    for name, (asked, found) in wanted.items():
        if not asked or asked == found:
            continue
        fix = f"take the setting {name} away, or begin a new data directory with --data DIR"
        if name == "store_encryption" and asked == SEALED:
            fix = f"encrypt what is there: garrison --data {settings.data} store encrypt"
        raise Refused(
            "STO-CHANGED",
            f"the setting {name} is {asked}, and this data directory was begun with {found or 'none'}",
            fix=fix,
            evidence={"setting": name, "asked": asked, "recorded": found},
        )
