"""Where the signature and the release statement of a directory are found, and the keys to judge them by.

Looked for in this order: the files named by the caller; beside the directory (`PATH.sig` and
`PATH.release.json`, which is also how the store lays them out); among the releases of a data directory,
by name@version or else by the source path that a statement records. Finding is not believing: what is
read here is judged in `verify.py`.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.core.digest import Ref
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.trust import dsse, strict_json
from garrison.trust.keyring import keys_of_data, load_trusted
from garrison.trust.keys.public import PublicKey

SIGNATURE_SUFFIX = ".sig"
STATEMENT_SUFFIX = ".release.json"
MAX_RELEASES = 10_000  # statements read when a directory is looked up by its source path


@dataclass(frozen=True, slots=True)
class Sidecars:
    """Paths, not contents. `statement` is None when there is a bundle of another tool and nothing more."""

    signature: Path
    statement: Path | None


def locate(
    path: Path,
    *,
    signature: Path | None = None,
    statement: Path | None = None,
    data: Path | None = None,
    ref: Ref | None = None,
) -> Sidecars:
    """Find what vouches for `path`. `data` is a data directory, `ref` the name@version that is claimed.

    Raises ART-UNSIGNED: `Refused` when a name was claimed or one of the two files is missing, `Undecided`
    when there is nothing at all to judge by; `Usage` ART-UNREADABLE when there is no such path.
    """
    try:
        path.stat()
    except OSError as error:
        what = f"cannot look at {path}: {error.strerror}"
        raise Usage("ART-UNREADABLE", what, fix="check the path and its permissions") from error
    beside = Path(os.path.abspath(path))
    found_signature = signature or _existing(beside.with_name(beside.name + SIGNATURE_SUFFIX))
    found_statement = statement or _existing(beside.with_name(beside.name + STATEMENT_SUFFIX))
    if found_signature is None and found_statement is None and data is not None:
        recorded = _by_name(data, ref) if ref is not None else _by_source(data, os.path.realpath(path))
        if recorded is not None:
            return recorded
    if found_signature is not None and (found_statement is not None or ref is None):
        return Sidecars(found_signature, found_statement)
    raise _unsigned(
        path, ref, has_signature=found_signature is not None, has_statement=found_statement is not None
    )


def read_sidecar(path: Path) -> bytes:
    """The bytes of a signature or statement, bounded. Raises `Undecided` ART-UNREADABLE."""
    try:
        with path.open("rb") as stream:
            return stream.read(dsse.MAX_ENVELOPE_BYTES + 1)  # one more than is accepted: refused when parsed
    except OSError as error:
        raise Undecided(
            "ART-UNREADABLE",
            f"cannot read {path}: {error.strerror}",
            fix="check the path and its permissions",
            evidence={"path": str(path)},
        ) from error


def load_keys(paths: Iterable[Path], data: Path | None) -> list[PublicKey]:
    """The keys given (`.pem` or trust files), else the release keys of the data directory; empty without either.

    Raises `Usage` KEY-PUBLIC, `Refused` KEY-ENV and KEY-KEYRING as `keyring.load_trusted`.
    """
    given = [key for path in paths for key in load_trusted(path)]
    return given if given or data is None else list(keys_of_data(data))


def is_stored(path: Path, data: Path | None) -> bool:
    """Whether `path` is a version in the store, whose files are hard links to its objects."""
    if data is None:
        return False
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(data / "models"))


def _by_name(data: Path, ref: Ref) -> Sidecars | None:
    tree = data / "models" / ref.name / str(ref.version)
    signature = _existing(tree.with_name(tree.name + SIGNATURE_SUFFIX))
    statement = _existing(tree.with_name(tree.name + STATEMENT_SUFFIX))
    return Sidecars(signature, statement) if signature is not None and statement is not None else None


def _by_source(data: Path, source: str) -> Sidecars | None:
    """The newest release whose statement says that it was read from `source`."""
    newest: tuple[str, Path] | None = None
    for count, statement in enumerate(sorted((data / "models").glob(f"*/*{STATEMENT_SUFFIX}"))):
        if count >= MAX_RELEASES:
            break
        predicate = _predicate(read_sidecar(statement))
        recorded, created = predicate.get("source"), predicate.get("created")
        if not isinstance(recorded, str) or not isinstance(created, str):
            continue
        if os.path.realpath(recorded) == source and (newest is None or created > newest[0]):
            newest = (created, statement)
    if newest is None:
        return None
    signature = newest[1].with_name(newest[1].name.removesuffix(STATEMENT_SUFFIX) + SIGNATURE_SUFFIX)
    return Sidecars(signature, newest[1])


def _predicate(envelope: bytes) -> dict[str, Any]:
    """What an envelope that nobody has verified yet says of itself; empty when it says nothing readable."""
    try:
        outer = strict_json.loads(envelope, dsse.MAX_ENVELOPE_BYTES)
        payload = base64.b64decode(outer["payload"], validate=True)
        predicate = strict_json.loads(payload, dsse.MAX_ENVELOPE_BYTES)["predicate"]
    except (ValueError, KeyError, TypeError):
        return {}
    return predicate if isinstance(predicate, dict) else {}


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def _unsigned(path: Path, ref: Ref | None, *, has_signature: bool, has_statement: bool) -> GarrisonError:
    missing = (
        "no model signature" if has_statement else "no release statement" if has_signature else "no signature"
    )
    named = f" as {ref}" if ref is not None else ""
    kind = Refused if ref is not None or has_signature or has_statement else Undecided
    return kind(
        "ART-UNSIGNED",
        f"there is {missing} for {path}{named}",
        fix=f"publish it (garrison model publish {path} --as NAME@VERSION), or name the files with "
        "--signature and --statement",
        evidence={"path": str(path)},
    )
