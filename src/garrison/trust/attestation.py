"""Attestations: in-toto v1 statements in DSSE envelopes that say one thing of one release, by its digest.

A release statement (`statement.py`) says what a release is; an attestation says something about it: where it
comes from, what it is made of, how it was judged. Each names the release by name@version and by digest, so
one of them cannot be shown for another release. They lie beside the files as `PATH.<label>.json`.

    envelope = attestation.sign("fraud@3", digest, SLSA, predicate, signer)
    found = attestation.open_attestation(envelope, keys, SLSA, about="fraud@3", digest=digest)
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.core.digest import canonical_json, is_digest, short
from garrison.core.errors import Refused
from garrison.trust import dsse, strict_json
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import PublicKey
from garrison.trust.sidecars import read_sidecar

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
MAX_BYTES = 20 * 1024 * 1024  # a bill of materials over the most files a release may have
MAX_BESIDE = 1_000  # attestations of one release; each evaluation makes three
MAX_TYPE = 512  # a predicate type is an address
_LABEL = re.compile(r"[a-z][a-z0-9-]{0,62}\Z")
_NOT_ATTESTATIONS = frozenset({"release", "approval"})


@dataclass(frozen=True, slots=True)
class Attestation:
    """What an envelope says once its signature and its subject were found right."""

    predicate_type: str
    predicate: dict[str, Any]
    key_id: str


def is_label(text: str) -> bool:
    """Whether a text may stand in the file name of an attestation: lower case, no dots, no other document's."""
    return _LABEL.match(text) is not None and text not in _NOT_ATTESTATIONS


def sign(about: str, digest: str, predicate_type: str, predicate: dict[str, Any], signer: Signer) -> bytes:
    """The signed envelope, canonical JSON. Raises ValueError for a statement larger than a reader accepts."""
    if not is_digest(digest):
        raise ValueError(f"not a digest: {digest!r}")
    payload = canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": about, "digest": {"sha256": digest.removeprefix("sha256:")}}],
            "predicateType": predicate_type,
            "predicate": predicate,
        }
    )
    if len(payload) > MAX_BYTES:
        raise ValueError(f"{len(payload):,} bytes do not fit into one attestation")
    return canonical_json(dsse.sign(payload, dsse.IN_TOTO, signer))


def open_attestation(
    envelope: bytes,
    keys: Sequence[PublicKey],
    predicate_type: str | None,
    *,
    about: str,
    digest: str,
    label: str = "attestation",
) -> Attestation:
    """Check signature, type and subject; None is for who shows the type and decides nothing by it.

    Raises `Refused` ART-ATTACHMENT, KEY-UNKNOWN and what a revoked key raises.
    """
    try:
        payload, key_id = dsse.open_envelope(envelope, keys, payload_type=dsse.IN_TOTO)
        found = strict_json.exactly(
            strict_json.loads(payload, MAX_BYTES), "_type", "subject", "predicateType", "predicate"
        )
        if canonical_json(found) != payload or found["_type"] != STATEMENT_TYPE:
            raise ValueError("it is not written in the one canonical form of an in-toto statement")
        said = strict_json.text(found["predicateType"], MAX_TYPE)
        if predicate_type is not None and said != predicate_type:
            raise ValueError(f"it is signed as {said[:80]}, not as {predicate_type}")
        if not isinstance(found["predicate"], dict):
            raise ValueError("its predicate is not an object")
        subject = {"name": about, "digest": {"sha256": digest.removeprefix("sha256:")}}
        if found["subject"] != [subject]:
            raise ValueError(f"it is signed for something else than {about} {short(digest)}")
    except ValueError as error:
        raise broken(label, about, str(error)) from error
    except Refused as error:
        if not error.code.startswith("SIG-"):
            raise
        raise broken(label, about, error.what) from error
    return Attestation(said, found["predicate"], key_id)


def broken(label: str, about: str, why: str, *, fix: str = "", **evidence: str) -> Refused:
    """The refusal of an attachment that is not what was signed; `label` names it."""
    return Refused(
        "ART-ATTACHMENT",
        f"the attachment {label} of {about} does not hold: {why}",
        fix=fix or f"fetch it again from where {about} was published: garrison model pull {about}",
        evidence={"attachment": label, **evidence},
    )


def beside(path: Path, words: Collection[str]) -> Iterator[tuple[str, Path]]:
    """The attestation files beside a directory, as (label, file); their contents are not believed here.

    Their labels are one of the words or begin so (`evaluation-holdout`): any other file there is somebody's own.
    """
    place = Path(os.path.abspath(path))
    found = 0
    try:
        names = sorted(os.listdir(place.parent))
    except OSError:
        return
    for name in names:
        label = name.removeprefix(f"{place.name}.").removesuffix(".json")
        if name != f"{place.name}.{label}.json" or not is_label(label) or _word_of(label, words) is None:
            continue
        if found < MAX_BESIDE:
            found += 1
            yield label, place.with_name(name)


def open_beside(
    path: Path, keys: Sequence[PublicKey], types: Mapping[str, str], *, about: str, digest: str
) -> dict[str, Attestation]:
    """Every attestation beside a directory, checked. Raises as `open_attestation` for the first that fails.

    `types` says which type the labels that begin with a word have: nothing signs a file's name, so one paper
    could lie there under the name of another.
    """
    return {
        label: open_attestation(
            read_sidecar(file), keys, types[word], about=about, digest=digest, label=label
        )
        for label, file in beside(path, types)
        if (word := _word_of(label, types))
    }


def _word_of(label: str, words: Collection[str]) -> str | None:
    """Of `evaluation-holdout` it is `evaluation`; the longest that fits."""
    fitting = [word for word in words if label == word or label.startswith(f"{word}-")]
    return max(fitting, key=len, default=None)
