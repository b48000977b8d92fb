"""Keyless model signatures (sigstore): verified offline, by a trust root in a file and a named identity.

The extra `sigstore` brings the official client. Nothing is fetched here: the trust root (Fulcio's
certificates, the logs' keys) is the file that the caller gives, and the log entry is the one in the bundle.

    Keyless(Path("trusted_root.json"), identity="ci@example.com", issuer="https://accounts.example.com")
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from garrison.core.errors import Refused, Undecided, Usage
from garrison.trust import dsse
from garrison.trust.keys.public import PublicKey, public_from_pem, public_pem
from garrison.trust.oms_listing import not_read_here


@dataclass(frozen=True, slots=True)
class Keyless:
    """Whom to believe: who signed (`identity`), who said so (`issuer`), and the roots that vouch for both."""

    trust_root: Path
    identity: str
    issuer: str


def open_keyless(data: bytes, trusted: Keyless) -> tuple[bytes, PublicKey]:
    """The signed payload and the short-lived key, labelled with the identity.

    Raises `Refused` ART-CHAIN when certificate, log entry, identity or signature do not hold, `Usage`
    ART-CA for an unusable trust root, `Undecided` SRV-EXTRA without the extra.
    """
    try:
        from sigstore import errors, models  # 0.9 s and 40 packages, for the few who verify such bundles
        from sigstore.verify import Verifier, policy  # as above
    except ImportError as error:
        raise Undecided(
            "SRV-EXTRA",
            "a keyless signature needs the sigstore client, which is not in the core install",
            fix="pip install 'garrison[sigstore]'",
            evidence={"extra": "sigstore"},
        ) from error
    try:
        root = models.TrustedRoot.from_file(str(trusted.trust_root))
        verifier = Verifier(trusted_root=root)
    except (OSError, ValueError, errors.Error) as error:
        raise Usage(
            "ART-CA",
            f"cannot use {trusted.trust_root} as a sigstore trust root",
            fix="give the trusted_root.json of the sigstore instance that signed",
        ) from error
    try:
        bundle = models.Bundle.from_json(data)
        expected = policy.Identity(identity=trusted.identity, issuer=trusted.issuer)
        kind, payload = verifier.verify_dsse(bundle, expected)
        key = bundle.signing_certificate.public_key()
    except (errors.Error, ValueError) as error:
        raise Refused(
            "ART-CHAIN",
            f"the keyless signature does not hold for {trusted.identity!a}: {ascii(str(error))[1:-1][:300]}",
            fix="check --identity and --issuer, or ask the publisher to sign again",
            evidence={"identity": trusted.identity, "issuer": trusted.issuer},
        ) from error
    if kind != dsse.IN_TOTO:
        raise not_read_here(f"holds a {kind!a}")
    return payload, public_from_pem(public_pem(key), trusted.identity)  # type: ignore[arg-type]  # Fulcio issues P-256
