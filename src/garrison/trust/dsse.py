"""DSSE v1: what a signature is over, and the envelope that carries it.

Follows https://github.com/secure-systems-lab/dsse (protocol.md and envelope.md, v1.0.2), narrowed: one
signature an envelope, standard base64 only, no unknown fields. The key id in an envelope is a hint that
nothing signs, so it only ever selects among keys that the caller trusts; the algorithm follows from the key.
A key that was revoked verifies what its revocation keeps and nothing else: that is decided here, once.

    envelope = dsse.sign(payload, "application/vnd.in-toto+json", signer)
    payload, key_id = dsse.open_envelope(data, keys, payload_type="application/vnd.in-toto+json")
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from garrison.core.errors import Refused, Undecided
from garrison.core.event import format_time
from garrison.trust import strict_json
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import PublicKey

MAX_ENVELOPE_BYTES = 32 * 1024 * 1024  # a statement over the most files a manifest may have
MAX_SIGNATURE_BYTES = 1024  # of base64; 3072 bits of RSA are 512
MAX_TYPE_LENGTH = 256  # a media type
IN_TOTO = "application/vnd.in-toto+json"


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: the exact bytes that are signed (protocol.md, "Signature Definition")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def message_digest(payload_type: str, payload: bytes) -> str:
    """Hexadecimal SHA-256 of exactly what was signed: how a revocation names what it keeps."""
    return hashlib.sha256(pae(payload_type, payload)).hexdigest()


def sign(payload: bytes, payload_type: str, signer: Signer) -> dict[str, Any]:
    """The envelope as a JSON-ready mapping; `canonical_json` of it is what Garrison stores."""
    signature = signer.sign(pae(payload_type, payload))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": signer.key_id, "sig": base64.b64encode(signature).decode()}],
    }


def open_envelope(data: bytes, keys: Sequence[PublicKey], *, payload_type: str) -> tuple[bytes, str]:
    """Parse envelope bytes strictly, check type and signature; returns the payload and the key's id.

    Raises `Refused` SIG-FORMAT, SIG-TYPE, SIG-INVALID, KEY-UNKNOWN or KEY-REVOKED, `Undecided` KEY-UNKNOWN
    without keys.
    """
    try:
        envelope = strict_json.loads(data, MAX_ENVELOPE_BYTES)
    except ValueError as error:
        raise _malformed(str(error)) from error
    return verify(envelope, keys, payload_type=payload_type)


def verify(
    envelope: Mapping[str, Any],
    keys: Sequence[PublicKey],
    *,
    payload_type: str | None = None,
    hint: str = "",
) -> tuple[bytes, str]:
    """Check one envelope that is already a mapping; returns the payload and the id of the key that signed it.

    `payload_type` is required to match when given; a caller that leaves it out has to compare
    `envelope["payloadType"]` itself, or a document of one kind passes for another. `hint` selects a key
    when the envelope names none. Raises as `open_envelope`.
    """
    payload, kind, key_id, signature = _parsed(envelope)
    if payload_type is not None and kind != payload_type:
        raise Refused(
            "SIG-TYPE",
            f"the envelope holds {kind!a}, not {payload_type}",
            fix="give the file that belongs here; the two documents have been mixed up",
            evidence={"expected": payload_type, "found": kind},
        )
    for key in _candidates(keys, key_id or hint):
        if key.verify(pae(kind, payload), signature):
            _refuse_revoked(key, message_digest(kind, payload) if key.revocation else "")
            return payload, key.key_id
    raise Refused(
        "SIG-INVALID",
        "the signature does not fit the document: one of the two was changed",
        fix="fetch the signed file again from where it was published",
        evidence={"key_id": key_id},
    )


def _refuse_revoked(key: PublicKey, message: str) -> None:
    if key.revocation is None or message in key.revocation.kept:
        return
    raise Refused(
        "KEY-REVOKED",
        f"the signature is by the key {key.label} ({key.key_id[:16]}…), revoked for {key.revocation.reason}, "
        + (
            f"and was not on record before {format_time(key.revocation.since)}"
            if key.revocation.since.year > 1970
            else "and nothing by it counts"
        ),
        fix="have the version signed again by the key in force (garrison model resign): "
        f"garrison key show {key.label} has the command for each",
        evidence={
            "key_id": key.key_id,
            "key_label": key.label,
            "reason": key.revocation.reason,
            "since": format_time(key.revocation.since),
            "message": message,
        },
    )


def _parsed(envelope: Mapping[str, Any]) -> tuple[bytes, str, str, bytes]:
    try:
        fields = strict_json.exactly(envelope, "payload", "payloadType", "signatures")
        if not isinstance(fields["signatures"], list) or len(fields["signatures"]) != 1:
            raise ValueError("an envelope carries exactly one signature")
        signature = fields["signatures"][0]
        # The key id is optional in DSSE (envelope.md); everything else has to be there.
        if isinstance(signature, dict) and "keyid" not in signature:
            signature = {**signature, "keyid": ""}
        signature = strict_json.exactly(signature, "keyid", "sig")
        return (
            _decoded(strict_json.text(fields["payload"], MAX_ENVELOPE_BYTES)),
            strict_json.text(fields["payloadType"], MAX_TYPE_LENGTH),
            strict_json.text(signature["keyid"], MAX_TYPE_LENGTH),
            _decoded(strict_json.text(signature["sig"], MAX_SIGNATURE_BYTES)),
        )
    except ValueError as error:
        raise _malformed(str(error)) from error


def _decoded(encoded: str) -> bytes:
    """Standard base64 with one spelling a value: no white space, no loose bits at the end. Raises ValueError."""
    try:
        value = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("not base64") from error
    if base64.b64encode(value).decode() != encoded:
        raise ValueError("not canonical base64")
    return value


def _candidates(keys: Sequence[PublicKey], key_id: str) -> list[PublicKey]:
    """The trusted keys that may have signed: the named one, or all when the envelope names none."""
    if not keys:
        raise Undecided(
            "KEY-UNKNOWN",
            "there is no public key to check the signature with",
            fix="give the publisher's public key: --key FILE.pem",
        )
    named = [key for key in keys if not key_id or key.key_id == key_id]
    if named:
        return named
    raise Refused(
        "KEY-UNKNOWN",
        f"signed by key {key_id[:16]!a}…, which is not among the {len(keys)} trusted keys",
        fix="get the publisher's public key from a source you trust, then pass it with --key FILE.pem",
        evidence={"key_id": key_id, "trusted": [key.key_id for key in keys]},
    )


def _malformed(why: str) -> Refused:
    return Refused(
        "SIG-FORMAT",
        f"not a DSSE envelope as Garrison accepts it: {why}",
        fix="fetch the signed file again; a complete one is one line of JSON",
    )
