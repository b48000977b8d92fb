"""Is this directory that release? The one pure function that answers, and the value that proves it was asked.

`Verified` cannot be made anywhere else, so a loader that takes one cannot be handed unchecked bytes. Values
in, value or refusal out: no clock, no disk, no network. Two signatures have to agree with each other and
with the bytes: the interchange bundle over the files, and the release statement that gives them a name.

    verified = verify_release(manifest=read_tree(path), bundle=..., statement=..., keys=..., expect=Ref("fraud", 3))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass
from enum import Enum
from typing import Any, Final, Literal

from garrison.core.digest import FileEntry, Manifest, Ref, short
from garrison.core.errors import Refused
from garrison.core.event import format_time
from garrison.trust import oms
from garrison.trust import statement as statements
from garrison.trust.approved import ApprovedEntry
from garrison.trust.keys.public import PublicKey
from garrison.trust.oms import Foreign
from garrison.trust.oms_listing import SignedFiles, not_read_here
from garrison.trust.statement import ReleaseStatement

MAX_NAMED = 1000  # differences listed as evidence; one is enough to refuse, and errors travel
MAX_IN_SENTENCE = 5


class NotJudged(Enum):
    """Why no approval is given: it is not this caller's question (a bare directory, a publish)."""

    NOT_JUDGED = "not judged"


NOT_JUDGED: Final = NotJudged.NOT_JUDGED
_MAKER = object()  # known to this module alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A release whose bytes, names and signatures were checked against each other.

    `approved` is its entry in the approved list, None when approval was not judged. Only the functions
    of this module can make one: TypeError anywhere else.
    """

    statement: ReleaseStatement
    key_id: str
    key_label: str
    approved: ApprovedEntry | None = None
    maker: InitVar[object] = None

    def __post_init__(self, maker: object) -> None:
        if maker is not _MAKER:
            raise TypeError("a Verified is made by verify_release alone")

    @property
    def ref(self) -> Ref:
        return self.statement.ref

    @property
    def manifest(self) -> Manifest:
        """The files as signed, which are the files as found."""
        return self.statement.manifest

    @property
    def digest(self) -> str:
        """The manifest's digest: the one that travels."""
        return self.statement.manifest.digest

    def as_json(self) -> dict[str, Any]:
        return {
            "ref": str(self.ref),
            "digest": self.digest,
            "files": len(self.manifest.files),
            "size": self.manifest.size,
            "key_id": self.key_id,
            "key_label": self.key_label,
            "tier": self.statement.tier.value,
            "owner": self.statement.owner,
            "publisher": self.statement.publisher,
            "signed": format_time(self.statement.created),
            "scan": {
                "verdict": self.statement.verdict,
                "scanner": self.statement.scanner,
                "report": self.statement.report,
            },
            "approved": None if self.approved is None else self.approved.counter,
        }


def verify_release(
    *,
    manifest: Manifest,
    bundle: bytes,
    statement: bytes,
    keys: Sequence[PublicKey],
    expect: Ref | None = None,
    approved: ApprovedEntry | Literal[NotJudged.NOT_JUDGED] | None = NOT_JUDGED,
    floor: int = 0,
    rollback_to: Ref | None = None,
) -> Verified:
    """Judge what was found (`manifest`) by both signatures.

    `expect` is the name@version that was asked for. `approved` is the signed entry of the approved list,
    None when the list has none (refused), NOT_JUDGED when approval is not the question. `floor` is the
    place of the version that served last: an entry below it is refused unless `rollback_to` names it.

    Raises `Refused` ART-SIGNATURE, KEY-UNKNOWN, ART-NAME, ART-TAMPER, ART-NOT-APPROVED, APP-DIGEST or
    ART-ROLLBACK; `Undecided` KEY-UNKNOWN when there are no keys and ART-SIGNATURE-FORM when the bundle is
    of another kind than Garrison makes.
    """
    stated, key_id = statements.open_statement(statement, keys)
    signed, bundle_key_id = oms.verify_bundle(bundle, keys)
    label = next(key.label for key in keys if key.key_id == key_id)
    _check_names(stated, signed, expect)
    _check_agreement(stated, signed, key_id, bundle_key_id)
    _check_bytes(stated, manifest, key_id, label)
    if approved is NOT_JUDGED:
        return Verified(statement=stated, key_id=key_id, key_label=label, maker=_MAKER)
    entry = _check_approval(stated, approved, floor, rollback_to)
    return Verified(statement=stated, key_id=key_id, key_label=label, approved=entry, maker=_MAKER)


def verify_files(
    *, manifest: Manifest, bundle: bytes, keys: Sequence[PublicKey], foreign: Foreign = None
) -> tuple[SignedFiles, PublicKey]:
    """Judge what was found by an interchange bundle alone, such as one that `model_signing` made.

    That proves the bytes and nothing else: no name, no version, no approval, so there is no `Verified`.
    Raises `Refused` ART-SIGNATURE, KEY-UNKNOWN or ART-TAMPER, `Undecided` as `oms.open_bundle`, and for a
    bundle over shards or by another hash, which has to be read with `oms_measure` (`directory.py` does).
    """
    signed, key = oms.open_bundle(bundle, keys, foreign)
    if not signed.scheme.is_plain:
        raise not_read_here("lists shards or another hash than SHA-256, and only the files' SHA-256 is known")
    compare_files(manifest, signed, key)
    return signed, key


def compare_files(
    manifest: Manifest, signed: SignedFiles, key: PublicKey, measured: Mapping[str, str] | None = None
) -> None:
    """Raises `Refused` ART-TAMPER unless exactly the signed files were found. `measured` has each found
    file's digest by the bundle's own scheme; the manifest's SHA-256 without it."""
    found = {entry.path: entry for entry in manifest}
    digests = {entry.path: entry.digest for entry in manifest} if measured is None else measured
    differences = []
    for path in sorted(found.keys() | signed.files.keys()):
        expected = {"digest": signed.files[path]} if path in signed.files else None
        if path not in found:
            differences.append(_difference("missing", path, expected, None))
        elif expected is None:
            differences.append(_difference("extra", path, None, _facts(found[path])))
        elif digests.get(path) != expected["digest"]:
            facts = {**_facts(found[path]), "digest": digests.get(path, found[path].digest)}
            differences.append(_difference("changed", path, expected, facts))
    if differences:
        raise _tampered(differences, {"key_id": key.key_id, "key_label": key.label}, None)


def _check_names(stated: ReleaseStatement, signed: SignedFiles, expect: Ref | None) -> None:
    """A valid signature for something else is the substitution attack; it is named before bytes are compared."""
    if expect is not None and stated.ref != expect:
        raise Refused(
            "ART-NAME",
            f"the release statement is validly signed for {stated.ref}, and {expect} was asked for",
            fix=f"fetch the files and signatures of {expect}, or ask for {stated.ref} if that is what you want",
            evidence={"document": "release statement", "expected": str(expect), "found": str(stated.ref)},
        )
    if signed.name != str(stated.ref):
        raise Refused(
            "ART-NAME",
            f"the model signature is validly signed for {signed.name!a}, and the statement is for {stated.ref}",
            fix=f"fetch both signature files of {stated.ref} again; these two belong to different releases",
            evidence={"document": "signature", "expected": str(stated.ref), "found": signed.name},
        )


def _check_agreement(stated: ReleaseStatement, signed: SignedFiles, key_id: str, bundle_key_id: str) -> None:
    if key_id != bundle_key_id:
        raise Refused(
            "ART-SIGNATURE",
            f"the two signatures of {stated.ref} were made by different keys",
            fix="fetch both signature files again; one release has one signing key",
            evidence={"statement_key_id": key_id, "bundle_key_id": bundle_key_id},
        )
    if not signed.scheme.is_plain:
        raise not_read_here("lists shards or another hash than SHA-256, which a release statement does not")
    files = {entry.path: entry.digest for entry in stated.manifest}
    required = {path: digest for path, digest in files.items() if not oms.is_left_out(path)}
    if not required.items() <= signed.files.items() <= files.items():
        disputed = sorted(
            dict(required.items() - signed.files.items() | signed.files.items() - files.items())
        )
        raise Refused(
            "ART-SIGNATURE",
            f"the two signatures of {stated.ref} do not list the same files: {_named(disputed)}",
            fix="fetch both signature files again; these two were not made together",
            evidence={"paths": disputed[:MAX_NAMED]},
        )


def _check_bytes(stated: ReleaseStatement, manifest: Manifest, key_id: str, label: str) -> None:
    found = {entry.path: entry for entry in manifest}
    signed = {entry.path: entry for entry in stated.manifest}
    differences = []
    for path in sorted(found.keys() | signed.keys()):
        change = _change(signed.get(path), found.get(path))
        if change:
            expected = _facts(signed[path]) if path in signed else None
            actual = _facts(found[path]) if path in found else None
            differences.append(_difference(change, path, expected, actual))
    if differences:
        evidence = {
            "ref": str(stated.ref),
            "digest": stated.manifest.digest,
            "key_id": key_id,
            "key_label": label,
            "signed": format_time(stated.created),
        }
        raise _tampered(differences, evidence, stated.ref)


def _change(signed: FileEntry | None, found: FileEntry | None) -> str:
    """What happened to a file; empty when nothing did.

    A file that lost its executable bit is not a change: the store keeps every object read-only, and less
    permission harms nobody. One that gained it is.
    """
    if signed is None:
        return "extra"
    if found is None:
        return "missing"
    if (signed.digest, signed.size) != (found.digest, found.size):
        return "changed"
    return "executable" if found.mode & 0o111 and not signed.mode & 0o111 else ""


def _check_approval(
    stated: ReleaseStatement, entry: ApprovedEntry | None, floor: int, rollback_to: Ref | None
) -> ApprovedEntry:
    ref, digest = stated.ref, stated.manifest.digest
    if entry is None:
        raise Refused(
            "ART-NOT-APPROVED",
            f"{ref} ({short(digest)}) is signed but is not on the approved list",
            fix=f"another person approves it: garrison approve {ref}",
            evidence={"ref": str(ref), "digest": digest},
        )
    if entry.ref != ref or entry.digest != digest:
        raise Refused(
            "APP-DIGEST",
            f"the approval is for {entry.ref} {short(entry.digest)}, and this is {ref} {short(digest)}",
            fix=f"approve these bytes: garrison approve {ref}",
            evidence={"ref": str(ref), "digest": digest, "approved": entry.digest},
        )
    if entry.counter < floor and rollback_to != ref:
        raise Refused(
            "ART-ROLLBACK",
            f"{ref} stands at place {entry.counter} of the approved list, and place {floor} has already served",
            fix=f"deploy the newest approved version, or name the step back: garrison deploy rollback {ref}",
            evidence={"ref": str(ref), "digest": digest, "counter": entry.counter, "floor": floor},
        )
    return entry


def _tampered(differences: list[dict[str, Any]], evidence: dict[str, Any], ref: Ref | None) -> Refused:
    if len(differences) == 1:
        path, change = ascii(differences[0]["path"])[1:-1], differences[0]["change"]
        what = {
            "changed": f"{path} is not the file that was signed",
            "missing": f"{path} was signed and is missing",
            "extra": f"{path} is not among the files that were signed",
            "executable": f"{path} was not executable when it was signed",
        }[change]
    else:
        named = _named([f"{difference['path']} ({difference['change']})" for difference in differences])
        what = f"{len(differences)} files are not as they were signed: {named}"
    return Refused(
        "ART-TAMPER",
        what,
        fix=f"fetch the signed files again: garrison model pull {ref}"
        if ref is not None
        else "fetch the files again from where they were signed",
        evidence={**evidence, "changes": len(differences), "paths": differences[:MAX_NAMED]},
    )


def _difference(
    change: str, path: str, expected: dict[str, Any] | None, found: dict[str, Any] | None
) -> dict[str, Any]:
    return {"path": path, "change": change, "expected": expected, "found": found}


def _facts(entry: FileEntry) -> dict[str, Any]:
    return {"digest": entry.digest, "size": entry.size, "mode": f"{entry.mode:04o}"}


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(ascii(name)[1:-1] for name in names[:MAX_IN_SENTENCE])
    more = len(names) - MAX_IN_SENTENCE
    return f"{shown} and {more} more" if more > 0 else shown
