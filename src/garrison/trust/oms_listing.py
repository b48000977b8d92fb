"""What a model signature lists: the payload of an OpenSSF Model Signing bundle, parsed and nothing more.

Two ways of listing (specification v1.0, section 6.3): one digest a file, or one a shard of fixed size; three
hashes (its algorithm registry). Either way each file comes out as one string that only its bytes can have,
and `oms_measure.py` makes the same string from the bytes. Who signed is decided in `oms.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from garrison.core.errors import Undecided
from garrison.trust import strict_json
from garrison.trust.paths import MAX_FILES, MAX_PATH_BYTES

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
MAX_PAYLOAD_BYTES = 32 * 1024 * 1024  # as an envelope
MAX_NAME_LENGTH = 512  # the subject name, a directory's name in bundles of other tools
MAX_SHARD_BYTES = 1 << 50
_DIGITS: Final = {"sha256": 64, "blake2b": 128, "blake3": 64}  # of a digest in hexadecimal


@dataclass(frozen=True, slots=True)
class Scheme:
    """How files become digests. `shard_size` is 0 when each file is hashed whole."""

    hash_type: str = "sha256"
    shard_size: int = 0

    @property
    def is_plain(self) -> bool:
        """SHA-256 over whole files: what manifests and release statements list as well."""
        return self == Scheme()

    def of_file(self, digest: str) -> str:
        return f"{self.hash_type}:{digest}"

    def of_shards(self, digests: Iterable[str], size: int) -> str:
        """One string for a list of shards. Every shard but the last is full, so size and digests say it all."""
        joined = hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()
        return f"{self.hash_type}/{self.shard_size}:{size}:{joined}"


@dataclass(frozen=True, slots=True)
class SignedFiles:
    """What a bundle says: `files` maps each path to its digest by `scheme`. `name` is informative only."""

    name: str
    files: Mapping[str, str]
    scheme: Scheme = Scheme()


def parse(payload: bytes) -> SignedFiles:
    """Raises ValueError for anything that is no model signature, `Undecided` ART-SIGNATURE-FORM for an
    older or newer kind of one."""
    statement = strict_json.exactly(
        strict_json.loads(payload, MAX_PAYLOAD_BYTES), "_type", "subject", "predicateType", "predicate"
    )
    if statement["_type"] != STATEMENT_TYPE or statement["predicateType"] != PREDICATE_TYPE:
        raise ValueError("not a model signature v1.0")
    predicate = strict_json.exactly(statement["predicate"], "serialization", "resources")
    scheme = _scheme(predicate["serialization"])
    resources = predicate["resources"]
    if not isinstance(resources, list) or not 0 < len(resources) <= MAX_FILES:
        raise ValueError(f"expected a list of one to {MAX_FILES:,} resources")
    rows = [_resource(resource, scheme) for resource in resources]
    name, root = _subject(statement["subject"])
    if root != root_digest(digest for _, digest in rows):
        raise ValueError("the subject is not the digest of the listed files")
    files = _whole(rows, scheme) if not scheme.shard_size else _sharded(rows, scheme)
    return SignedFiles(name, MappingProxyType(files), scheme)


def root_digest(digests: Iterable[str]) -> str:
    """SHA-256 over the raw digests, one after the other, in the order in which they are listed (6.5.1)."""
    root = hashlib.sha256()
    for digest in digests:
        root.update(bytes.fromhex(digest))
    return root.hexdigest()


def not_read_here(how: str) -> Undecided:
    return Undecided(
        "ART-SIGNATURE-FORM",
        f"the model signature {how}",
        fix="garrison explain ART-SIGNATURE-FORM lists what is read; else verify it with the tool that made it",
    )


def _scheme(value: Any) -> Scheme:
    if not isinstance(value, dict):
        raise ValueError("serialization is not an object")
    method, hash_type = value.get("method"), value.get("hash_type")
    if method not in ("files", "shards") or hash_type not in _DIGITS:
        raise not_read_here(f"serialises by {method!a} with {hash_type!a}")
    extra = ["shard_size"] if method == "shards" else []
    fields = strict_json.exactly(
        {"ignore_paths": [], **value}, "method", "hash_type", "allow_symlinks", "ignore_paths", *extra
    )
    # What the signer left out or followed is not obeyed here, but a bundle that says it badly is not one.
    if not isinstance(fields["allow_symlinks"], bool) or not isinstance(fields["ignore_paths"], list):
        raise ValueError("allow_symlinks is not true or false, or ignore_paths is not a list")
    size = fields.get("shard_size", 0)
    if isinstance(size, float) and size.is_integer():  # the reference implementation writes 1000.0
        size = int(size)
    if type(size) is not int or not (size == 0 if method == "files" else 0 < size <= MAX_SHARD_BYTES):
        raise ValueError("shard_size is not a positive whole number")
    return Scheme(str(hash_type), size)


def _resource(value: Any, scheme: Scheme) -> tuple[str, str]:
    """Name and digest of one row. The specification has unknown fields ignored (5.2.1)."""
    if not isinstance(value, dict) or not {"name", "algorithm", "digest"} <= value.keys():
        raise ValueError("a resource has a name, an algorithm and a digest")
    # The reference implementation calls the hash of a shard `sha256-sharded-1000`.
    if value["algorithm"] not in (scheme.hash_type, f"{scheme.hash_type}-sharded-{scheme.shard_size}"):
        raise ValueError(f"a resource is hashed with {value['algorithm']!a}, not {scheme.hash_type}")
    name = strict_json.text(value["name"], MAX_PATH_BYTES + 64)  # a shard's range behind the path
    return name, _hexadecimal(value["digest"], _DIGITS[scheme.hash_type])


def _whole(rows: list[tuple[str, str]], scheme: Scheme) -> dict[str, str]:
    files: dict[str, str] = {}
    for path, digest in rows:
        if path in files:
            raise ValueError(f"{path!a} is listed twice")
        files[path] = scheme.of_file(digest)
    return files


def _sharded(rows: list[tuple[str, str]], scheme: Scheme) -> dict[str, str]:
    """Shards of a file have to follow one another from its first byte, each full but the last."""
    shards: dict[str, list[tuple[int, int, str]]] = {}
    for name, digest in rows:
        path, start, end = _range(name)
        shards.setdefault(path, []).append((start, end, digest))
    files = {}
    for path, parts in shards.items():
        parts.sort()
        for number, (start, end, _) in enumerate(parts):
            full = end - start == scheme.shard_size
            short = number == len(parts) - 1 and 0 < end - start < scheme.shard_size
            if start != number * scheme.shard_size or not (full or short):
                raise ValueError(f"the shards of {path!a} do not follow one another")
        files[path] = scheme.of_shards((digest for _, _, digest in parts), parts[-1][1])
    return files


def _range(name: str) -> tuple[str, int, int]:
    """`path:start:end`; the path may hold colons of its own (6.3.2)."""
    path, *numbers = name.rsplit(":", 2)
    if len(numbers) != 2 or not all(part.isascii() and part.isdecimal() for part in numbers):
        raise ValueError(f"{name[:200]!a} names no range of a file")
    start, end = (int(part[:20]) for part in numbers)
    if f"{path}:{start}:{end}" != name:
        raise ValueError(f"{name[:200]!a} does not write its range in the shortest form")
    return path, start, end


def _subject(value: Any) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 1:
        raise ValueError("expected exactly one subject")
    subject = strict_json.exactly(value[0], "name", "digest")
    digest = strict_json.exactly(subject["digest"], "sha256")
    return strict_json.text(subject["name"], MAX_NAME_LENGTH), _hexadecimal(digest["sha256"], 64)


def _hexadecimal(value: Any, digits: int) -> str:
    if not isinstance(value, str) or len(value) != digits or not set(value) <= set("0123456789abcdef"):
        raise ValueError(f"not a digest of {digits} digits in lower-case hexadecimal")
    return value
