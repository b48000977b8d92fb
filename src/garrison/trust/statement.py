"""The release statement: name, version and every file of a release, signed as one in-toto statement.

It says what the interchange bundle (`oms.py`) cannot: which name@version these bytes are, each file's
size and mode, the tier, the people, and the scan that let them pass. One meaning has one spelling: a
payload that is not exactly what `encode` writes is refused.

    {"_type": "https://in-toto.io/Statement/v1",
     "subject": [{"name": "fraud@3", "digest": {"sha256": "<the manifest's digest>"}}],
     "predicateType": "https://garrison.dev/attestation/release/v1",
     "predicate": {"name", "version", "manifest": [{"path", "size", "mode", "digest"}], "tier", "owner",
                   "publisher", "created", "scan": {"verdict", "scanner", "report"}, "source",
                   "trees": {path: root}}}    # only when a file is large enough (chunks.py)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from garrison.core.decision import Tier
from garrison.core.digest import Manifest, Ref, canonical_json, is_digest
from garrison.core.errors import GarrisonError, Refused
from garrison.core.event import format_time, parse_time
from garrison.core.finding import Verdict
from garrison.trust import chunks, dsse, strict_json
from garrison.trust.chunks import ChunkTree
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import PublicKey
from garrison.trust.paths import MAX_FILES, check_paths

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://garrison.dev/attestation/release/v1"
PAYLOAD_TYPE = dsse.IN_TOTO
MAX_LABEL_LENGTH = 256  # an owner, a publisher, a rule-set version
MAX_SOURCE_LENGTH = 4096  # a path


@dataclass(frozen=True, slots=True)
class ReleaseStatement:
    """What the publisher vouches for.

    `verdict` is the scan's (`clean`, or a waived one), `scanner` the version of its rule set, `report` the
    `sha256:` digest of its canonical JSON. `source` is where the files were read from: a label, not a
    promise. `created` is UTC. `roots` has the chunk-tree root of each large file.
    Raises ValueError when a field is not what it should be.
    """

    ref: Ref
    manifest: Manifest
    tier: Tier
    owner: str
    publisher: str
    created: datetime
    verdict: str
    scanner: str
    report: str
    source: str
    roots: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if Ref.parse(str(self.ref)) != self.ref:
            raise ValueError("the name@version is not canonical")
        for label in (self.owner, self.publisher, self.scanner):
            strict_json.text(label, MAX_LABEL_LENGTH)
        strict_json.text(self.source, MAX_SOURCE_LENGTH)
        if not is_digest(self.report) or self.verdict not in set(Verdict):
            raise ValueError("the scan has a verdict and the sha256 digest of its report")
        if self.created.tzinfo is None:
            raise ValueError("the time of creation has no time zone")
        if not 0 < len(self.manifest.files) <= MAX_FILES:
            raise ValueError(f"a release has at least one file and at most {MAX_FILES:,}")
        if any(entry.mode not in (0o644, 0o755) or type(entry.size) is not int for entry in self.manifest):
            raise ValueError("a file has mode 0644 or 0755 and a whole number of bytes")
        sizes = {entry.path: entry.size for entry in self.manifest} if self.roots else {}
        for path, root in self.roots.items():
            if sizes.get(path, 0) < chunks.TREE_FROM_BYTES or not chunks.is_root(root):
                raise ValueError("a tree has a root of SHA-256 and stands for a large file of the manifest")

    @property
    def trees(self) -> dict[str, ChunkTree]:
        """What `read_tree` takes. Only those of a statement whose signature was checked prove anything."""
        return {
            entry.path: ChunkTree(entry.size, self.roots[entry.path], entry.digest)
            for entry in self.manifest
            if entry.path in self.roots
        }


def encode(statement: ReleaseStatement) -> bytes:
    """The payload to be signed: canonical JSON of the in-toto statement."""
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [
                {
                    "name": str(statement.ref),
                    "digest": {"sha256": statement.manifest.digest.removeprefix("sha256:")},
                }
            ],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "name": statement.ref.name,
                "version": statement.ref.version,
                "manifest": statement.manifest.as_json(),
                "tier": statement.tier.value,
                "owner": statement.owner,
                "publisher": statement.publisher,
                "created": format_time(statement.created),
                "scan": {
                    "verdict": statement.verdict,
                    "scanner": statement.scanner,
                    "report": statement.report,
                },
                "source": statement.source,
                **({"trees": dict(statement.roots)} if statement.roots else {}),
            },
        }
    )


def decode(payload: bytes) -> ReleaseStatement:
    """The inverse of `encode`. Raises `Refused` ART-SIGNATURE for any other bytes."""
    try:
        statement = _parsed(payload)
        check_paths(entry.path for entry in statement.manifest)
    except (ValueError, KeyError, TypeError, GarrisonError) as error:
        raise malformed(error.what if isinstance(error, GarrisonError) else str(error)) from error
    if encode(statement) != payload:
        raise malformed("it is not written in the one canonical form")
    return statement


def sign(statement: ReleaseStatement, signer: Signer) -> bytes:
    """The statement in its signed envelope, as the canonical JSON bytes that are stored."""
    return canonical_json(dsse.sign(encode(statement), PAYLOAD_TYPE, signer))


def open_statement(envelope: bytes, keys: Sequence[PublicKey]) -> tuple[ReleaseStatement, str]:
    """Check an envelope's signature, then parse it; returns the statement and the id of its key.

    Raises `Refused` ART-SIGNATURE or KEY-UNKNOWN, `Undecided` KEY-UNKNOWN without keys.
    """
    try:
        payload, key_id = dsse.open_envelope(envelope, keys, payload_type=PAYLOAD_TYPE)
    except Refused as error:
        if not error.code.startswith("SIG-"):
            raise
        raise malformed(error.what) from error
    return decode(payload), key_id


def malformed(why: str) -> Refused:
    return Refused(
        "ART-SIGNATURE",
        f"the release statement does not hold: {why}",
        fix="fetch the .release.json file again from where the model was published",
        evidence={"document": "release statement"},
    )


def _parsed(payload: bytes) -> ReleaseStatement:
    document = strict_json.exactly(
        strict_json.loads(payload, dsse.MAX_ENVELOPE_BYTES), "_type", "subject", "predicateType", "predicate"
    )
    if document["predicateType"] != PREDICATE_TYPE:
        raise ValueError(f"it is a {ascii(document['predicateType'])[:200]}")
    if not isinstance(document["predicate"], dict):
        raise ValueError("the predicate is not an object")
    predicate: dict[str, Any] = strict_json.exactly(
        {"trees": {}, **document["predicate"]},
        *("name", "version", "manifest", "tier", "owner", "publisher", "created", "scan", "source", "trees"),
    )
    roots = predicate["trees"]
    if not isinstance(roots, dict) or not all(isinstance(root, str) for root in roots.values()):
        raise ValueError("trees is not an object of texts")
    scan = strict_json.exactly(predicate["scan"], "verdict", "scanner", "report")
    if not isinstance(predicate["manifest"], list) or len(predicate["manifest"]) > MAX_FILES:
        raise ValueError(f"expected a list of at most {MAX_FILES:,} files")
    # Subject, version and time need no check of their own: `decode` compares with what `encode` writes.
    return ReleaseStatement(
        ref=Ref.parse(f"{predicate['name']}@{predicate['version']}"),
        manifest=Manifest.from_json(predicate["manifest"]),
        tier=Tier(predicate["tier"]),
        owner=predicate["owner"],
        publisher=predicate["publisher"],
        created=parse_time(predicate["created"]),
        verdict=scan["verdict"],
        scanner=scan["scanner"],
        report=scan["report"],
        source=predicate["source"],
        roots=roots,
    )
