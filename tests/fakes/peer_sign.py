"""Bundles by the real `model_signing`, in each form that it writes. Run as a script, in a process of its own.

    python -W ignore tests/fakes/peer_sign.py DIR

signs every directory `DIR/<case>` of CASES as `DIR/<case>.sig`, with keys and certificates that it makes in
`DIR/keys`. The peer warns while it is imported, which our test settings take for errors.
"""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SHARD = 1000  # bytes
CASES: dict[str, dict[str, Any]] = {
    "p256": {},
    "p384": {"key": "p384"},
    "p521": {"key": "p521"},
    "blake2b": {"hash": "blake2"},
    "blake3": {"hash": "blake3"},
    "shards": {"shard": SHARD},
    "shards-blake2b": {"shard": SHARD, "hash": "blake2"},
    "ignored": {"ignore": ["notes.txt"]},
    "links": {"links": True},
    "certificate": {"key": "leaf", "certificates": ["leaf", "intermediate"]},
    "certificate-expired": {"key": "expired", "certificates": ["expired", "intermediate"]},
    "certificate-web": {"key": "web", "certificates": ["web", "intermediate"]},
    "certificate-under-leaf": {"key": "rogue", "certificates": ["rogue", "leaf", "intermediate"]},
    "certificate-wrong-chain": {"key": "leaf", "certificates": ["leaf", "stranger"]},
}


def _write_key(folder: Path, name: str, curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(curve)
    (folder / f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / f"{name}.pem").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return key


def make_keys(folder: Path) -> None:
    """Bare keys, and a CA with an intermediate and four kinds of signers under it."""
    folder.mkdir()
    for name, curve in (("p256", ec.SECP256R1()), ("p384", ec.SECP384R1()), ("p521", ec.SECP521R1())):
        _write_key(folder, name, curve)
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    issued: dict[str, tuple[ec.EllipticCurvePrivateKey, x509.Name]] = {}
    code, web = ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.SERVER_AUTH
    for name, issuer, is_ca, purpose, end in (
        ("root", "root", True, None, now + 30 * day),
        ("stranger", "stranger", True, None, now + 30 * day),
        ("intermediate", "root", True, None, now + 20 * day),
        ("leaf", "intermediate", False, code, now + 10 * day),
        ("expired", "intermediate", False, code, now - day),
        ("web", "intermediate", False, web, now + 10 * day),
        ("rogue", "leaf", False, code, now + 10 * day),
    ):
        key = _write_key(folder, name, ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issued[name] = (key, subject)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issued[issuer][1])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 9 * day)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(not is_ca, False, False, False, False, is_ca, False, False, False),
                critical=True,
            )
        )
        if purpose is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        certificate = builder.sign(issued[issuer][0], SHA256())
        (folder / f"{name}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))


def sign(case: Path, keys: Path, how: dict[str, Any]) -> None:
    from model_signing import hashing, signing  # it warns, and tests import this file for CASES

    signature = case.with_name(case.name + ".sig")
    config = hashing.Config()
    links = bool(how.get("links"))
    if "shard" in how:
        config.use_shard_serialization(
            hashing_algorithm=how.get("hash", "sha256"), shard_size=how["shard"], allow_symlinks=links
        )
    else:
        config.use_file_serialization(hashing_algorithm=how.get("hash", "sha256"), allow_symlinks=links)
    config.set_ignored_paths(paths=[case / name for name in how.get("ignore", [])], ignore_git_paths=True)
    config.set_allow_symlinks(links)
    signer = signing.Config().set_hashing_config(config)
    private = keys / f"{how.get('key', 'p256')}.key"
    if "certificates" in how:
        first, *others = [keys / f"{name}.crt" for name in how["certificates"]]
        signer.use_certificate_signer(
            private_key=private, signing_certificate=first, certificate_chain=others
        )
    else:
        signer.use_elliptic_key_signer(private_key=private)
    signer.sign(case, signature)


if __name__ == "__main__":
    root = Path(sys.argv[1])
    make_keys(root / "keys")
    for name, how in CASES.items():
        if (root / name).is_dir():
            sign(root / name, root / "keys", how)
