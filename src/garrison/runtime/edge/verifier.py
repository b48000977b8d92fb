#!/usr/bin/env python3
"""Judge a Garrison edge bundle with nothing but Python 3.11+: no package, no network, no Garrison.

    python3 verify.py BUNDLE --root root.pem [--site NAME] [--after NUMBER] [--now TIME]

It checks that the keyring in the bundle is signed by the root you trust, that a release key in it, not revoked,
signed the head, that every byte after the head is the one that was signed, that nothing is missing or added,
that the release statement is signed and is of the model that the head names, that the bundle is fresh, for the
site that you name, and newer than the number that you name. It prints one JSON object and ends with 0 when all
of that holds, 1 when it does not, 2 for a wrong call, 3 when it cannot tell.

It does not decrypt: the weights are for the site alone. It does not count approvals: the bundle carries them as
TUF metadata (papers under tuf/), which any TUF client reads, and Garrison does when it runs the bundle.
The signature schemes below verify only; nothing secret is ever computed with.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

MAGIC = b"GARRISON-EDGE/1\n"
HEAD_BYTES = 64 * 1024
START = len(MAGIC) + 4
MAX_PAPERS_BYTES = 48 << 20
MAX_DAYS = 90
CLOCKS_DIFFER = timedelta(minutes=5)
HEAD_TYPE = "application/vnd.garrison.edge+json"
KEYRING_TYPE = "application/vnd.garrison.keyring+json"
IN_TOTO = "application/vnd.in-toto+json"

Verify = Callable[[bytes, bytes], bool]  # message, signature
Json = dict[str, Any]
Point = tuple[int, int, int]  # Jacobian: (x / z^2, y / z^3); z = 0 is the neutral one
EdPoint = tuple[int, int, int, int]


class No(Exception):
    """The bundle is refused."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(what)
        self.code, self.what = code, what


class Unsure(No):
    """It cannot be told."""


# --- JSON with one meaning -------------------------------------------------------------------------------------


def parse(data: bytes, why: str, code: str = "EDGE-TAMPER") -> Any:
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise No(code, why) from None


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


# --- DSSE: what a signature is over ----------------------------------------------------------------------------


def open_envelope(data: bytes, keys: Mapping[str, Json], kind: str, code: str) -> bytes:
    """The payload, once a key among `keys` (id: key) signed it as `kind`."""
    envelope = parse(data, "a signed document is not JSON", code)
    try:
        payload = _decode(envelope["payload"])
        (signature,) = envelope["signatures"]
        named, value = signature.get("keyid", ""), _decode(signature["sig"])
        if envelope["payloadType"] != kind or set(envelope) != {"payload", "payloadType", "signatures"}:
            raise ValueError("another kind of document")
    except (KeyError, TypeError, ValueError, AttributeError):
        raise No(code, "a signed document is not one") from None
    candidates = [key for key_id, key in keys.items() if named in ("", key_id)]
    if not candidates:
        raise No("KEY-UNKNOWN", f"signed by key {str(named)[:16]}, which is not trusted")
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    for key in candidates:
        if key["verify"](message, value):
            kept = key.get("kept")
            if kept is not None and hashlib.sha256(message).hexdigest() not in kept:
                raise No("KEY-REVOKED", "signed by a key that was revoked")
            return payload
    raise No(code, "a signature does not fit its document")


def _decode(text: str) -> bytes:
    value = base64.b64decode(text, validate=True)
    if base64.b64encode(value).decode() != text:
        raise ValueError("not canonical base64")
    return value


# --- Public keys: SubjectPublicKeyInfo (RFC 5280), by the DER that each kind has --------------------------------

_EC = bytes.fromhex("06072a8648ce3d0201")
_CURVE_OIDS = {bytes.fromhex("06082a8648ce3d030107"): "p256", bytes.fromhex("06052b81040022"): "p384"}
_ED25519 = bytes.fromhex("300506032b6570")
_RSA = bytes.fromhex("300d06092a864886f70d0101010500")


def load_key(pem: str) -> tuple[str, Verify]:
    """(id, verify) of a PEM public key; `verify` takes the message and the signature."""
    lines = pem.strip().splitlines()
    if len(lines) < 3 or lines[0] != "-----BEGIN PUBLIC KEY-----" or lines[-1] != "-----END PUBLIC KEY-----":
        raise ValueError("not a PEM public key")
    der = base64.b64decode("".join(lines[1:-1]), validate=True)
    body, rest = _tlv(der, 0x30)
    if rest:
        raise ValueError("bytes after the key")
    if body.startswith(_ED25519):
        point, _ = _tlv(body[len(_ED25519) :], 0x03)
        return hashlib.sha256(der).hexdigest(), _ed25519(point[1:])
    if body.startswith(_RSA):
        bits, _ = _tlv(body[len(_RSA) :], 0x03)
        numbers, _ = _tlv(bits[1:], 0x30)
        modulus, numbers = _tlv(numbers, 0x02)
        exponent, _ = _tlv(numbers, 0x02)
        return hashlib.sha256(der).hexdigest(), _rsa_pss(_number(modulus), _number(exponent))
    algorithm, bits = _tlv(body, 0x30)
    curve = _CURVE_OIDS.get(algorithm[len(_EC) :])
    if not algorithm.startswith(_EC) or curve is None:
        raise ValueError("a kind of key that is not known")
    point, _ = _tlv(bits, 0x03)
    return hashlib.sha256(der).hexdigest(), _ecdsa(CURVES[curve], point[1:])


def _tlv(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """(value, what follows) of one DER element."""
    if len(data) < 2 or data[0] != tag:
        raise ValueError("not the DER that was expected")
    length, at = data[1], 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 3 or len(data) < 2 + count:
            raise ValueError("a length that DER does not have")
        length, at = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
        if length < 0x80 or data[2] == 0:
            raise ValueError("a length that is not the shortest")
    if len(data) < at + length:
        raise ValueError("DER that was cut off")
    return data[at : at + length], data[at + length :]


def _number(value: bytes) -> int:
    """A DER integer that is not negative, in its one spelling."""
    if not value or value[0] & 0x80 or (len(value) > 1 and value[0] == 0 and not value[1] & 0x80):
        raise ValueError("not a DER integer")
    return int.from_bytes(value, "big")


# --- ECDSA (FIPS 186-5, 6.4.2) on y^2 = x^3 - 3x + b, points in Jacobian coordinates ----------------------------

CURVES: dict[str, Json] = {
    "p256": {
        "p": 2**256 - 2**224 + 2**192 + 2**96 - 1,
        "n": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
        "b": 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
        "g": (
            0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
            0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
        ),
        "size": 32,
        "hash": hashlib.sha256,
    },
    "p384": {
        "p": 2**384 - 2**128 - 2**96 + 2**32 - 1,
        "n": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
        "b": 0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
        "g": (
            0xAA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7,
            0x3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F,
        ),
        "size": 48,
        "hash": hashlib.sha384,
    },
}


def _ecdsa(curve: Json, point: bytes) -> Verify:
    size, p = curve["size"], curve["p"]
    if len(point) != 1 + 2 * size or point[0] != 4:
        raise ValueError("not an uncompressed point")
    x, y = int.from_bytes(point[1 : 1 + size], "big"), int.from_bytes(point[1 + size :], "big")
    if x >= p or y >= p or (y * y - x * x * x + 3 * x - curve["b"]) % p:
        raise ValueError("not a point of the curve")

    def verify(message: bytes, signature: bytes) -> bool:
        n = curve["n"]
        try:
            body, rest = _tlv(signature, 0x30)
            first, more = _tlv(body, 0x02)
            second, end = _tlv(more, 0x02)
            r, s = _number(first), _number(second)
        except ValueError:
            return False
        if rest or end or not 0 < r < n or not 0 < s < n:
            return False
        e = int.from_bytes(curve["hash"](message).digest(), "big")
        w = pow(s, -1, n)
        total = _add(_times(e * w % n, curve["g"], p), _times(r * w % n, (x, y), p), p)
        if total[2] == 0:
            return False
        z = pow(total[2], -1, p)
        return bool(total[0] * z * z % p % n == r)

    return verify


def _times(k: int, point: tuple[int, int], p: int) -> Point:
    result, addend = (1, 1, 0), (point[0], point[1], 1)
    while k:
        if k & 1:
            result = _add(result, addend, p)
        addend = _double(addend, p)
        k >>= 1
    return result


def _double(point: Point, p: int) -> Point:
    x, y, z = point
    if z == 0 or y == 0:
        return (1, 1, 0)
    s = 4 * x * y * y % p
    m = 3 * (x - z * z) * (x + z * z) % p
    x2 = (m * m - 2 * s) % p
    return (x2, (m * (s - x2) - 8 * pow(y, 4, p)) % p, 2 * y * z % p)


def _add(one: Point, other: Point, p: int) -> Point:
    if one[2] == 0:
        return other
    if other[2] == 0:
        return one
    z1, z2 = one[2] * one[2] % p, other[2] * other[2] % p
    u1, u2 = one[0] * z2 % p, other[0] * z1 % p
    s1, s2 = one[1] * other[2] * z2 % p, other[1] * one[2] * z1 % p
    if u1 == u2:
        return _double(one, p) if s1 == s2 else (1, 1, 0)
    h, r = (u2 - u1) % p, (s2 - s1) % p
    h2 = h * h % p
    x = (r * r - h2 * h - 2 * u1 * h2) % p
    return (x, (r * (u1 * h2 - x) - s1 * h2 * h) % p, h * one[2] * other[2] % p)


# --- Ed25519 (RFC 8032, 5.1.7), without the cofactor, as OpenSSL does --------------------------------------------

_Q = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _Q) % _Q


def _ed25519(public: bytes) -> Verify:
    a = _decompress(public)
    if a is None:
        raise ValueError("not a point of the curve")
    base = _decompress((4 * pow(5, -1, _Q) % _Q).to_bytes(32, "little"))
    assert base is not None

    def verify(message: bytes, signature: bytes) -> bool:
        if len(signature) != 64 or int.from_bytes(signature[32:], "little") >= _L:
            return False
        r = _decompress(signature[:32])
        if r is None:
            return False
        k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % _L
        left = _ed_times(int.from_bytes(signature[32:], "little"), base)
        right = _ed_add(r, _ed_times(k, a))
        same_x = (left[0] * right[2] - right[0] * left[2]) % _Q == 0
        return same_x and (left[1] * right[2] - right[1] * left[2]) % _Q == 0

    return verify


def _decompress(data: bytes) -> EdPoint | None:
    if len(data) != 32:
        return None
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if y >= _Q:
        return None
    x2 = (y * y - 1) * pow(_D * y * y + 1, -1, _Q) % _Q
    x = pow(x2, (_Q + 3) // 8, _Q)
    if (x * x - x2) % _Q:
        x = x * pow(2, (_Q - 1) // 4, _Q) % _Q
    if (x * x - x2) % _Q or (x == 0 and sign):
        return None
    x = _Q - x if x & 1 != sign else x
    return (x, y, 1, x * y % _Q)


def _ed_add(one: EdPoint, other: EdPoint) -> EdPoint:
    a = (one[1] - one[0]) * (other[1] - other[0]) % _Q
    b = (one[1] + one[0]) * (other[1] + other[0]) % _Q
    c, d = 2 * one[3] * other[3] * _D % _Q, 2 * one[2] * other[2] % _Q
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % _Q, g * h % _Q, f * g % _Q, e * h % _Q)


def _ed_times(k: int, point: EdPoint) -> EdPoint:
    result = (0, 1, 1, 0)
    while k:
        if k & 1:
            result = _ed_add(result, point)
        point = _ed_add(point, point)
        k >>= 1
    return result


# --- RSASSA-PSS, 3072 bits, SHA-256, salt of 32 bytes (RFC 8017, 8.1.2 and 9.1.2) --------------------------------


def _rsa_pss(n: int, e: int) -> Verify:
    if n.bit_length() != 3072 or e != 65537:
        raise ValueError("not RSA of 3072 bits")

    def verify(message: bytes, signature: bytes) -> bool:
        value = int.from_bytes(signature, "big")
        if len(signature) != 384 or value >= n:
            return False
        em = pow(value, e, n).to_bytes(384, "big")
        masked, h = em[:-33], em[-33:-1]
        if em[-1] != 0xBC or masked[0] & 0x80:
            return False
        mask = b"".join(
            hashlib.sha256(h + i.to_bytes(4, "big")).digest() for i in range(-(-len(masked) // 32))
        )
        db = bytearray(x ^ y for x, y in zip(masked, mask, strict=False))
        db[0] &= 0x7F
        if any(db[:-33]) or db[-33] != 1:
            return False
        digest = hashlib.sha256(message).digest()
        return hashlib.sha256(bytes(8) + digest + bytes(db[-32:])).digest() == h

    return verify


# --- The bundle ------------------------------------------------------------------------------------------------


def judge(stream: BinaryIO, root_pem: str, now: datetime, site: str | None = None, after: int = 0) -> Json:
    """What the bundle is. Raises No, and Unsure for a root key of an unknown kind."""
    try:
        root_id, root = load_key(root_pem)
    except ValueError as error:
        raise Unsure("KEY-PUBLIC", f"the root is no public key: {error}") from None
    size = os.fstat(stream.fileno()).st_size
    start = stream.read(HEAD_BYTES)
    if start[: len(MAGIC)] != MAGIC[: len(start)] or not start:
        raise No("EDGE-FORM", "not a bundle of this form")
    if len(start) < HEAD_BYTES:
        raise No("EDGE-TRUNCATED", "the bundle was cut off")
    length = int.from_bytes(start[len(MAGIC) : START], "big")
    if length > HEAD_BYTES - START or start[START + length :].strip(b"\0"):
        raise No("EDGE-TAMPER", "the head is longer than it says")
    envelope = start[START : START + length]
    outer = parse(envelope, "the head is not JSON")
    try:
        unproved = layout(base64.b64decode(outer["payload"], validate=True))
    except (KeyError, TypeError, ValueError):
        raise No("EDGE-TAMPER", "the head is not an envelope") from None
    keyring = read_paper(stream, unproved, "keyring.json")
    keys = release_keys(open_envelope(keyring, {root_id: {"verify": root}}, KEYRING_TYPE, "KEY-KEYRING"))
    head = layout(open_envelope(envelope, keys, HEAD_TYPE, "EDGE-TAMPER"))
    whole = HEAD_BYTES + sum(paper["size"] for paper in head["papers"]) + head["image"]["size"]
    if size != whole:
        raise No("EDGE-TRUNCATED" if size < whole else "EDGE-EXTENDED", f"{size} bytes, {whole} signed")
    papers = {paper["path"]: read_paper(stream, head, paper["path"]) for paper in head["papers"]}
    for paper in head["papers"]:
        if hashlib.sha256(papers[paper["path"]]).hexdigest() != paper["sha256"]:
            raise No("EDGE-TAMPER", f"{paper['path']} is another file than was signed")
    check_use(head, now, site, after)
    check_image(stream, head, whole)
    if head["model"] is not None:
        check_statement(open_envelope(papers.get("release.json", b""), keys, IN_TOTO, "ART-SIGNATURE"), head)
    return head


def layout(payload: bytes) -> Json:
    head: Json = parse(payload, "the head is not JSON")
    try:
        sizes = [paper["size"] for paper in head["papers"]] + [head["image"]["size"], head["sequence"]]
        is_whole = all(type(size) is int and 0 <= size < 1 << 53 for size in sizes)
        if head["schema"] != "garrison.edge/1" or not is_whole or sum(sizes[:-2]) > MAX_PAPERS_BYTES:
            raise ValueError("another form")
        moment(head["created"]), moment(head["expires"])
        if canonical(head) != payload:
            raise ValueError("not canonical")
    except (KeyError, TypeError, ValueError, AttributeError):
        raise No("EDGE-TAMPER", "the head does not hold") from None
    return head


def read_paper(stream: BinaryIO, head: Json, path: str) -> bytes:
    at = HEAD_BYTES
    for paper in head["papers"]:
        if paper["path"] == path:
            stream.seek(at)
            data = stream.read(paper["size"])
            if len(data) != paper["size"]:
                raise No("EDGE-TRUNCATED", "the bundle was cut off")
            return data
        at += paper["size"]
    raise No("EDGE-TAMPER", f"it carries no {path}")


def release_keys(payload: bytes) -> dict[str, Json]:
    keys: dict[str, Json] = {}
    for record in parse(payload, "the keyring is not JSON")["keys"]:
        if record["role"] == "release":
            key_id, verify = load_key(record["pem"])
            kept = record["revoked"]["kept"] if record["revoked"] else None
            keys[key_id] = {"verify": verify, "kept": kept}
    return keys


def check_use(head: Json, now: datetime, site: str | None, after: int) -> None:
    if site is not None and head["site"] != site:
        raise No("EDGE-SITE", f"the bundle is for {head['site']}")
    created = moment(head["created"])
    if now < created - CLOCKS_DIFFER:
        raise No("EDGE-CLOCK", f"built at {head['created']}, which is later than now")
    if now >= min(moment(head["expires"]), created + timedelta(days=MAX_DAYS)):
        raise No("EDGE-STALE", f"good until {head['expires']}")
    if head["sequence"] <= after:
        raise No("EDGE-ROLLBACK", f"number {head['sequence']}, and {after} was seen")


def check_image(stream: BinaryIO, head: Json, whole: int) -> None:
    stream.seek(whole - head["image"]["size"])
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    if digest.hexdigest() != head["image"]["sha256"]:
        raise No("EDGE-TAMPER", "the image is not the one that was signed")


def check_statement(payload: bytes, head: Json) -> None:
    statement = parse(payload, "the release statement is not JSON")
    manifest = "sha256:" + hashlib.sha256(canonical(statement["predicate"]["manifest"])).hexdigest()
    (subject,) = statement["subject"]
    said = {"ref": subject["name"], "digest": "sha256:" + subject["digest"]["sha256"]}
    if said != head["model"] or manifest != said["digest"]:
        raise No("EDGE-TAMPER", "the head is of another model than the statement")


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.removesuffix("Z") + "+00:00")  # UTC, as everything is written


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Judge a Garrison edge bundle with Python alone.")
    parser.add_argument("bundle")
    parser.add_argument("--root", required=True, metavar="FILE", help="the root's public key, PEM")
    parser.add_argument("--site", help="the site that the bundle has to be for")
    parser.add_argument("--after", type=int, default=0, help="the newest number that was seen")
    parser.add_argument("--now", help="judge as of this time, such as 2026-11-22T14:00:00Z")
    args = parser.parse_args(words)
    try:
        now = moment(args.now) if args.now else datetime.now(UTC)
        with open(args.root) as file:
            root = file.read(16384)
        stream: BinaryIO = open(args.bundle, "rb")  # noqa: SIM115 - closed below, once it is judged
    except (OSError, ValueError) as error:
        parser.error(str(error))
    try:
        with stream:
            head = judge(stream, root, now, args.site, args.after)
    except No as no:
        verdict = "undecided" if isinstance(no, Unsure) else "refused"
        print(json.dumps({"verdict": verdict, "code": no.code, "what": no.what}))
        return 3 if isinstance(no, Unsure) else 1
    except (ValueError, KeyError, TypeError, OSError) as error:
        print(json.dumps({"verdict": "undecided", "code": "EDGE-FORM", "what": type(error).__name__}))
        return 3
    told = {name: head[name] for name in ("site", "sequence", "created", "expires", "model")}
    print(json.dumps({"verdict": "ok", **told}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
