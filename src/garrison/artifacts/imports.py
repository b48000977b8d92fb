"""A version of another system becomes a release: read, hash, remember, then the steps that every release takes.

What the source said is written, signed, before the version is published. A version that was imported
therefore always has its record; a record without a version is of an import that failed, and counts for
nothing.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from garrison.artifacts import import_store, store
from garrison.artifacts import release as releases
from garrison.artifacts.import_store import Entry
from garrison.artifacts.lineage import dvc, hf, mlflow, wandb
from garrison.artifacts.lineage.files import Save, into
from garrison.artifacts.lineage.imported import Imported, Locator, State
from garrison.artifacts.lineage.remote import Remote
from garrison.artifacts.lineage.sources import Origin, access_to
from garrison.artifacts.registry import Registry, event_of, get, published, signed_facts
from garrison.artifacts.release import Publication
from garrison.artifacts.store import Release
from garrison.core.actions import Action
from garrison.core.decision import Subject
from garrison.core.digest import Manifest, Ref
from garrison.core.errors import Refused
from garrison.core.event import Outcome
from garrison.evidence.store import Filter
from garrison.evidence.told import told
from garrison.storage.local import remove_tree
from garrison.trust.tree import read_tree

Reader = Callable[[Save], Imported]
Progress = Callable[[str], None]
ROOM = "imports"  # below D/run: files on their way from a source to the store


def reader(locator: Locator, data: Path, known: State | None = None) -> Reader:
    """What reads a source, for the first time or, with the state `known` of then, again.

    Raises `Usage` LIN-SOURCE for a place that does not name one, and `Refused` LIN-TOKEN.
    """
    place = locator.place
    match locator.kind:
        case "mlflow":
            origin = Origin.parse(place["server"])
            aliases = frozenset(
                key.removeprefix("alias.")
                for key in (known.facts if known else ())
                if key.startswith("alias.")
            )
            wanted = mlflow.Wanted.parse(place["uri"])
            remote = Remote(origin, access_to(origin, data))
            return lambda save: mlflow.read(remote, wanted, save, aliases)
        case "dvc":
            return lambda save: dvc.read(Path(place["path"]), place.get("model", ""), save)
        case "wandb":
            return lambda save: wandb.read(Path(place["path"]), place.get("model", ""), save)
        case "hf":
            return lambda save: hf.read(Path(place["path"]), place.get("revision", "main"), save)
    raise LookupError(locator.kind)


def bring(
    registry: Registry, read: Reader, wanted: Publication, subject: Subject, progress: Progress
) -> tuple[Release, bool, str, Imported]:
    """Import and publish. Returns the release, whether it is new, the audit id and what was read.

    Raises what the reader raises, and as `release.publish`.
    """
    with _staging(registry) as staging:
        progress(f"reading {wanted.origin}")
        imported = read(into(staging))
        manifest = read_tree(staging)
        _same(imported, manifest)
        remember(registry, wanted.ref, manifest.digest, imported, subject)
        publication = replace(wanted, source=staging, lineage=imported.lineage)
        release, is_new, audit_id = releases.publish(registry, publication, subject, progress)
    return release, is_new, audit_id, imported


def remember(registry: Registry, ref: Ref, digest: str, imported: Imported, subject: Subject) -> str:
    """Write the signed record of an import and its event, together."""
    entry = Entry(ref, digest, imported.locator, imported.state, registry.now())
    facts: dict[str, Any] = {
        "from": imported.locator.kind,
        "source": str(imported.locator)[:500],
        "server": imported.locator.place.get("server", ""),
        "files": len(imported.state.files),
        "facts": len(imported.state.facts),
        "gaps": list(imported.lineage.gaps()),
    }
    with registry.ledger.transaction() as transaction:
        signed = import_store.write(transaction.connection, entry, registry.signer)
        facts |= signed_facts(registry.signer, signed)
        return transaction.append(event_of(registry, subject, Action.ARTIFACT_IMPORT, ref, digest, facts))


def attachable(registry: Registry, ref: Ref, imported: Imported) -> Release:
    """The version that a lineage is to be attached to: the model named in the source has to be the same bytes.

    Raises `Refused` ART-UNKNOWN, and LIN-DIGEST when its files are others.
    """
    release = get(registry, ref)
    published = {entry.path: entry.digest for entry in release.manifest}
    if imported.state.files and dict(imported.state.files) != published:
        path = min(
            path
            for path in published.keys() | imported.state.files.keys()
            if published.get(path) != imported.state.files.get(path)
        )
        raise Refused(
            "LIN-DIGEST",
            f"{path} in {ref} is {published.get(path, 'not there')}, and at the source "
            f"{imported.state.files.get(path, 'not there')}",
            evidence={
                "path": path,
                "expected": published.get(path, ""),
                "found": imported.state.files.get(path, ""),
            },
            fix=f"name the model that {ref} was published from with --model PATH, or publish this one",
        )
    return release


def find(registry: Registry, name: str | None = None) -> list[Entry]:
    """The imports of every version, of one name, or of one version. Raises `Refused` LIN-RECORD, AUD-EDITED."""
    ref = Ref.parse(name) if name is not None and "@" in name else None
    with registry.database.read() as connection:
        known = import_store.entries(connection, registry.keys, ref.name if ref else name)
        found = [entry for entry in known if ref in (None, entry.ref)]
        _check_told(connection, found, name)
    return found


def _check_told(connection: sa.Connection, found: Sequence[Entry], name: str | None) -> None:
    """The newest record of each import that the ledger tells of has to be the one that is there."""
    newest: dict[tuple[str, str, str], list[str]] = {}
    wanted = Filter(action=Action.ARTIFACT_IMPORT.value, outcome=Outcome.ALLOWED.value, model=name or "")
    for record in told(connection, wanted):
        event = record.event
        newest[event.resource, event.digest, str(event.data.get("from"))] = event.data.get("signed", [])
    there = {(str(entry.ref), entry.digest, entry.locator.kind): entry.message for entry in found}
    for key, signed in newest.items():
        first = published(connection, Ref.parse(key[0]))[1] if key not in there else None
        is_gone = first is not None and first.digest == key[1]  # else it is of a publication that failed
        if is_gone or (signed and key in there and there[key] not in signed):
            raise Refused(
                "LIN-RECORD",
                f"the newest import of {key[0]} from {key[2]} is not the one in the database",
                evidence={"ref": key[0], "from": key[2]},
                fix="put the newest backup of the data directory back, then run garrison audit verify",
            )


def next_ref(registry: Registry, text: str) -> Ref:
    """`name@version`, or `name` for the next version of that name."""
    if "@" in text:
        return Ref.parse(text)
    name = Ref.parse(f"{text}@1").name
    with registry.database.read() as connection:
        return Ref(name, store.latest_version(connection, name) + 1)


def _same(imported: Imported, manifest: Manifest) -> None:
    if {entry.path: entry.digest for entry in manifest} != dict(imported.state.files):
        raise Refused(
            "ART-CHANGED",
            "the files that were read from the source changed before they were published",
            fix="look who else writes in the data directory, then repeat the command",
        )


def sweep(registry: Registry) -> list[str]:
    """At start: remove what interrupted imports left behind. Returns what was done."""
    room = registry.models.parent / "run" / ROOM
    left = list(room.iterdir()) if room.is_dir() else []
    for staging in left:
        with contextlib.suppress(OSError):
            remove_tree(staging)
    return ["removed what an unfinished import had read"] * bool(left)


@contextmanager
def _staging(registry: Registry) -> Iterator[Path]:
    """A directory of this import alone."""
    room = registry.models.parent / "run" / ROOM
    room.mkdir(mode=0o700, exist_ok=True)
    staging = room / secrets.token_hex(8)
    staging.mkdir(mode=0o700)
    try:
        yield staging
    finally:
        remove_tree(staging)
