"""One file for one site: what its head says, how it is written, and how it is judged before a byte is used.

    0        GARRISON-EDGE/1\n, four bytes of length, a DSSE envelope by the release key, zeroes
    65536    the papers, one after another as the head lists them: signed statement, OMS bundle, keyring, TUF files
    ...      the image: the model's files in the order of their paths, encrypted to the site (sealing.py)

The head names the SHA-256 and length of everything after it, so that one signature covers the file; papers are
readable by anybody, weights by the site alone. `verifier.py` judges the same file without Garrison.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from garrison.core.digest import Ref, canonical_json, is_digest
from garrison.core.errors import GarrisonError, Refused, Usage
from garrison.core.event import format_time, parse_time
from garrison.runtime.edge import sealing
from garrison.runtime.edge.sealing import ImageWriter, damaged, truncated
from garrison.trust import dsse, strict_json
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import PublicKey

MAGIC = b"GARRISON-EDGE/1\n"
SCHEMA = "garrison.edge/1"
PAYLOAD_TYPE = "application/vnd.garrison.edge+json"
HEAD_BYTES = 64 * 1024  # twenty papers are 6 kB of it
START = len(MAGIC) + 4
MAX_PAPERS = 64
MAX_PAPERS_BYTES = 48 << 20  # an approved list of 11,000 versions and a keyring with 200,000 kept messages
MAX_LIFETIME = timedelta(days=90)
CLOCKS_DIFFER = timedelta(minutes=5)
KEYRING, STATEMENT, SIGNATURE, REVOKED = "keyring.json", "release.json", "model.sig", "revoked.json"
READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Paper:
    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Image:
    """`plain` bytes of files, `size` bytes as they lie in the bundle."""

    plain: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Head:
    """What is signed. Without `ref` it is a notice: revocations and no model. `taken` says how many of the site's
    events have come home, and the root of their tree."""

    site: str
    sequence: int
    created: datetime
    expires: datetime
    ref: Ref | None
    digest: str
    environment: str
    site_key: str
    sealed: bytes
    papers: tuple[Paper, ...]
    image: Image
    taken: int
    taken_root: str

    @property
    def size(self) -> int:
        return HEAD_BYTES + sum(paper.size for paper in self.papers) + self.image.size

    @property
    def context(self) -> bytes:
        return context_of(self.site, self.sequence, self.digest)

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "site": self.site,
            "sequence": self.sequence,
            "created": format_time(self.created),
            "expires": format_time(self.expires),
            "model": None if self.ref is None else {"ref": str(self.ref), "digest": self.digest},
            "environment": self.environment,
            "key": {
                "suite": sealing.SUITE_NAME,
                "site_key": self.site_key,
                "sealed": base64.b64encode(self.sealed).decode(),
            },
            "papers": [
                {"path": paper.path, "size": paper.size, "sha256": paper.sha256} for paper in self.papers
            ],
            "image": {"plain": self.image.plain, "size": self.image.size, "sha256": self.image.sha256},
            "events_taken": {"size": self.taken, "root": self.taken_root},
        }


def context_of(site: str, sequence: int, digest: str) -> bytes:
    return f"{site}\n{sequence}\n{digest}".encode()


@dataclass(frozen=True, slots=True)
class Opened:
    """A bundle whose signature, length and papers were judged; `read_image` is what is left to be judged."""

    head: Head
    envelope: bytes
    key_id: str
    papers: Mapping[str, bytes]

    @property
    def head_sha256(self) -> str:
        return hashlib.sha256(self.envelope).hexdigest()


@dataclass(slots=True)
class Draft:
    """What `write` is told. `files` gives the image's bytes file by file, in the order of their paths."""

    site: str
    site_public: bytes
    sequence: int
    created: datetime
    expires: datetime
    environment: str
    papers: Mapping[str, bytes]
    ref: Ref | None = None
    digest: str = ""
    files: Iterable[Iterable[bytes]] = ()
    taken: int = 0
    taken_root: str = ""


def write(path: Path, draft: Draft, signer: Signer) -> tuple[Head, bytes]:
    """Write the bundle to a new file; returns its head and the signed envelope. The caller gives it its name.

    Raises what `draft.files` raises, and OSError; then nothing stays.
    """
    with path.open("xb") as out:
        try:
            out.seek(HEAD_BYTES)
            for name in sorted(draft.papers):
                out.write(draft.papers[name])
            head = _head(draft, *_write_image(out, draft))
            envelope = canonical_json(dsse.sign(canonical_json(head.as_json()), PAYLOAD_TYPE, signer))
            out.seek(0)
            out.write(MAGIC + len(envelope).to_bytes(4, "big") + envelope)
            out.flush()
            os.fsync(out.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return head, envelope


def _write_image(out: BinaryIO, draft: Draft) -> tuple[bytes, Image]:
    if draft.ref is None:
        return b"", Image(0, 0, hashlib.sha256().hexdigest())
    content_key = sealing.new_content_key()
    writer, plain = ImageWriter(content_key, out.write), 0
    for one in draft.files:
        for chunk in one:
            writer.write(chunk)
            plain += len(chunk)
    sha256 = writer.finish()
    context = context_of(draft.site, draft.sequence, draft.digest)
    return sealing.seal_key(content_key, draft.site_public, context), Image(plain, writer.size, sha256)


def _head(draft: Draft, sealed: bytes, image: Image) -> Head:
    return Head(
        site=draft.site,
        sequence=draft.sequence,
        created=draft.created,
        expires=draft.expires,
        ref=draft.ref,
        digest=draft.digest,
        environment=draft.environment,
        site_key=sealing.key_id(draft.site_public),
        sealed=sealed,
        papers=tuple(
            Paper(name, len(draft.papers[name]), hashlib.sha256(draft.papers[name]).hexdigest())
            for name in sorted(draft.papers)
        ),
        image=image,
        taken=draft.taken,
        taken_root=draft.taken_root,
    )


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file, for `judge` and `image_at`. Raises `Usage` EDGE-FORM when it is no plain file that can be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise Usage(
            "EDGE-FORM", f"cannot read {path}: {error.strerror}", fix="give the path of the bundle"
        ) from error
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        if not os.path.isfile(f"/proc/self/fd/{descriptor}"):
            raise Usage("EDGE-FORM", f"{path} is not a plain file", fix="give the path of the bundle")
        yield stream


def judge(stream: BinaryIO, keys_of: Callable[[bytes], Sequence[PublicKey]]) -> Opened:
    """Head, length and papers. `keys_of` gives the release keys by the bundle's own keyring, or refuses it.

    Raises `Refused` EDGE-FORM, EDGE-TRUNCATED, EDGE-EXTENDED, EDGE-TAMPER, KEY-UNKNOWN or KEY-REVOKED, and what
    `keys_of` raises.
    """
    envelope = read_envelope(stream)
    unproved = _unproved(envelope)
    at, size = _place_of(unproved, KEYRING)
    stream.seek(at)
    keys = keys_of(_exactly(stream, size, unproved))
    try:
        payload, key_id = dsse.open_envelope(envelope, keys, payload_type=PAYLOAD_TYPE)
    except Refused as error:
        if error.code.startswith("SIG-"):
            raise damaged(error.what) from error
        raise
    head = parse_head(payload)
    found = os.fstat(stream.fileno()).st_size
    if found < head.size:
        raise truncated(found, head.size)
    if found > head.size:
        raise Refused(
            "EDGE-EXTENDED",
            f"the bundle is longer than what was signed: {found:,} bytes instead of {head.size:,}",
            fix="carry the file over again; nothing may follow its end",
            evidence={"found": found, "signed": head.size},
        )
    papers = {}
    stream.seek(HEAD_BYTES)
    for paper in head.papers:
        data = _exactly(stream, paper.size, head)
        if hashlib.sha256(data).hexdigest() != paper.sha256:
            raise damaged(f"{paper.path} is another file than the head names")
        papers[paper.path] = data
    return Opened(head, envelope, key_id, papers)


def check_image(stream: BinaryIO, head: Head) -> None:
    """The image as it lies there, encrypted. Raises `Refused` EDGE-TAMPER or EDGE-TRUNCATED."""
    stream.seek(image_at(head))
    digest, left = hashlib.sha256(), head.image.size
    while left:
        chunk = stream.read(min(left, READ_BYTES))
        if not chunk:
            raise truncated(head.size - left, head.size)
        digest.update(chunk)
        left -= len(chunk)
    if digest.hexdigest() != head.image.sha256:
        raise damaged("its image is not the one that was signed")


def image_at(head: Head) -> int:
    return head.size - head.image.size


def read_envelope(stream: BinaryIO) -> bytes:
    """The signed head, unproved. Raises `Refused` EDGE-FORM, EDGE-TRUNCATED or EDGE-TAMPER."""
    stream.seek(0)
    start = _fully(stream, HEAD_BYTES)
    if start[: len(MAGIC)] != MAGIC[: len(start)] or not start:
        raise Refused(
            "EDGE-FORM",
            "the file is not a bundle of this form",
            fix="give the file that garrison edge build wrote",
        )
    if len(start) < HEAD_BYTES:
        raise truncated(len(start), HEAD_BYTES)
    length = int.from_bytes(start[len(MAGIC) : START], "big")
    if length > HEAD_BYTES - START or start[START + length :].strip(b"\0"):
        raise damaged("its head is longer than it says")
    return start[START : START + length]


def parse_head(payload: bytes) -> Head:
    """Raises `Refused` EDGE-TAMPER for anything but what `write` signs."""
    try:
        head = _parsed(strict_json.loads(payload, HEAD_BYTES))
        if canonical_json(head.as_json()) != payload:
            raise ValueError("it is not written in the one canonical form")
    except (ValueError, KeyError, TypeError, AttributeError, GarrisonError) as error:
        raise damaged(f"its head does not hold ({type(error).__name__})") from error
    return head


def _unproved(envelope: bytes) -> Head:
    try:
        outer = strict_json.loads(envelope, HEAD_BYTES)
        payload = base64.b64decode(outer["payload"], validate=True)
    except (ValueError, KeyError, TypeError) as error:
        raise damaged("its head is not an envelope") from error
    return parse_head(payload)


def _place_of(head: Head, path: str) -> tuple[int, int]:
    at = HEAD_BYTES
    for paper in head.papers:
        if paper.path == path:
            return at, paper.size
        at += paper.size
    raise damaged(f"it carries no {path}")


def _exactly(stream: BinaryIO, size: int, head: Head) -> bytes:
    data = _fully(stream, size)
    if len(data) != size:
        raise truncated(os.fstat(stream.fileno()).st_size, head.size)
    return data


def _fully(stream: BinaryIO, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (chunk := stream.read(size - len(data))):
        data += chunk
    return bytes(data)


def _parsed(document: Any) -> Head:
    names = ("schema", "site", "sequence", "created", "expires", "model", "environment", "key", "papers")
    fields = strict_json.exactly(document, *names, "image", "events_taken")
    key = strict_json.exactly(fields["key"], "suite", "site_key", "sealed")
    image = strict_json.exactly(fields["image"], "plain", "size", "sha256")
    taken = strict_json.exactly(fields["events_taken"], "size", "root")
    model = fields["model"]
    if model is not None:
        model = strict_json.exactly(model, "ref", "digest")
    papers = tuple(
        Paper(strict_json.text(row["path"], 200), _whole(row["size"]), strict_json.text(row["sha256"], 64))
        for row in _listed(fields["papers"])
    )
    if fields["schema"] != SCHEMA or key["suite"] != sealing.SUITE_NAME:
        raise ValueError("another form of bundle, or another way of sealing")
    if model is not None and (
        not is_digest(model["digest"]) or image["size"] != sealing.sealed_size(image["plain"])
    ):
        raise ValueError("a model has a digest, and its image the length of its chunks")
    if model is None and image["size"]:
        raise ValueError("an image of no model")
    if sum(paper.size for paper in papers) > MAX_PAPERS_BYTES or len({p.path for p in papers}) != len(papers):
        raise ValueError("too many papers")
    return Head(
        site=check_site(fields["site"]),
        sequence=_whole(fields["sequence"]),
        created=parse_time(fields["created"]),
        expires=parse_time(fields["expires"]),
        ref=None if model is None else Ref.parse(model["ref"]),
        digest="" if model is None else model["digest"],
        environment=strict_json.text(fields["environment"], 32),
        site_key=strict_json.text(key["site_key"], 64),
        sealed=base64.b64decode(strict_json.text(key["sealed"], 512), validate=True),
        papers=papers,
        image=Image(_whole(image["plain"]), _whole(image["size"]), strict_json.text(image["sha256"], 64)),
        taken=_whole(taken["size"]),
        taken_root=strict_json.text(taken["root"], 64),
    )


def check_site(name: Any) -> str:
    """Raises `Usage` EDGE-SITE-NAME."""
    is_word = isinstance(name, str) and 0 < len(name) <= 40 and name.isascii()
    if not is_word or not all(each.isalnum() or each in "-." for each in name) or not name[0].isalnum():
        raise Usage(
            "EDGE-SITE-NAME",
            f"{str(name)[:40]!a} is not a name for a site",
            fix="use at most 40 letters, digits, - and ., such as plant-7",
        )
    return str(name)


def _listed(rows: Any) -> list[Any]:
    if not isinstance(rows, list) or len(rows) > MAX_PAPERS:
        raise TypeError("papers")
    return [strict_json.exactly(row, "path", "size", "sha256") for row in rows]


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError("not a whole number")
    return value
