"""Check a directory on this machine: find its signatures and keys, hash it, have it judged.

The thin side of `verify.py`: everything that touches the disk, and no decision of its own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from garrison.core.digest import Manifest, Ref
from garrison.core.errors import Refused
from garrison.trust import oms
from garrison.trust import statement as statements
from garrison.trust.keys.public import PublicKey
from garrison.trust.oms_listing import SignedFiles
from garrison.trust.oms_measure import Measuring
from garrison.trust.sidecars import is_stored, load_keys, locate, read_sidecar
from garrison.trust.tree import Progress, read_tree
from garrison.trust.verify import Verified, compare_files, verify_release

DEFAULT_DATA = "garrison-data"

# Whose signature counts: a public key file, a data directory, parsed keys, or the default data directory.
Trust = Path | str | Sequence[PublicKey] | None


def verify_model(
    path: Path | str,
    *,
    name: str | Ref | None = None,
    trust: Trust = None,
    signature: Path | str | None = None,
    statement: Path | str | None = None,
    store: Path | str | None = None,
    progress: Progress | None = None,
) -> Verified:
    """Hash everything below `path` and check both signatures over it; returns the proof or raises.

    `name` is the NAME@VERSION that it has to be. `trust` says whose signature counts: a public key file, a
    data directory (its release key), or parsed keys; by default the data directory in GARRISON_DATA, else
    ./garrison-data. Signature and statement are looked for as `garrison verify` does. `store` is a data
    directory whose versions may be named by path (their files are hard links to objects); the one in
    `trust` by default.

    What is proved is what was read: load the same files at once, from where nobody else can write.
    Raises `Refused` ART-TAMPER, ART-NAME, ART-SIGNATURE, ART-UNSIGNED, ART-LINK and the like, KEY-UNKNOWN;
    `Undecided` ART-UNSIGNED or KEY-UNKNOWN when there is nothing to judge by; `Usage` for a path or name
    that is none.
    """
    model = Path(path)
    expect = Ref.parse(name) if isinstance(name, str) else name
    keys, data = _trusted(trust)
    data = data if store is None else Path(store)
    found = locate(
        model,
        signature=Path(signature) if signature is not None else None,
        statement=Path(statement) if statement is not None else None,
        data=data,
        ref=expect,
    )
    if found.statement is None:
        raise Refused(
            "ART-UNSIGNED",
            f"there is a model signature and no release statement for {path}",
            fix="give it with statement=, or publish the model to get one",
            evidence={"signature": str(found.signature)},
        )
    envelope = read_sidecar(found.statement)
    stated, _ = statements.open_statement(envelope, keys)  # before the files: its trees are to be believed
    return verify_release(
        bundle=read_sidecar(found.signature),
        statement=envelope,
        manifest=read_tree(
            model,
            progress=progress,
            allow_hard_links=is_stored(model, data),
            list_empty=True,
            trees=stated.trees,
        ),
        keys=keys,
        expect=expect,
    )


@dataclass(frozen=True, slots=True)
class SignedDirectory:
    """Files that are as a bundle alone signs them. It binds no name and no version."""

    manifest: Manifest
    signed: SignedFiles
    key: PublicKey


def verify_bundle(
    path: Path | str,
    signature: Path | str,
    keys: Sequence[PublicKey],
    *,
    foreign: oms.Foreign = None,
    allow_hard_links: bool = False,
    progress: Progress | None = None,
) -> SignedDirectory:
    """Hash everything below `path` in the way that an OpenSSF Model Signing bundle lists it, and compare.

    `foreign` says whom a bundle by certificate has to convince. A bundle that lies in the directory which it
    signs does not count as one of its files (specification 6.2); nothing else is left out. Raises as
    `oms.open_bundle` and `read_tree`, and `Refused` ART-TAMPER.
    """
    signed, key = oms.open_bundle(read_sidecar(Path(signature)), keys, foreign)
    measuring = None if signed.scheme.is_plain else Measuring(signed.scheme)
    found = read_tree(
        path, sink=measuring, progress=progress, allow_hard_links=allow_hard_links, list_empty=True
    )
    inside = os.path.relpath(os.path.realpath(signature), os.path.realpath(path))
    manifest = Manifest.of(entry for entry in found if entry.path != inside)
    compare_files(manifest, signed, key, None if measuring is None else measuring.digests)
    return SignedDirectory(manifest, signed, key)


def _trusted(trust: Trust) -> tuple[Sequence[PublicKey], Path | None]:
    """The keys, and the data directory if that is where they come from."""
    if trust is None:
        trust = os.environ.get("GARRISON_DATA") or DEFAULT_DATA
    if not isinstance(trust, (str, Path)):
        return trust, None
    place = Path(trust)
    if place.is_dir() or not place.exists():
        return load_keys([], place), place
    return load_keys([place], None), None
