"""Bundles of other tools: the specification's vectors, the reference implementation's old ones and its own of today."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import peer_sign
from tests.fakes.releases import public_of, write_files

from garrison.app.cli.main import main
from garrison.core.digest import canonical_json
from garrison.core.errors import GarrisonError
from garrison.trust import dsse, oms
from garrison.trust.directory import verify_bundle
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import PublicKey, load_public
from garrison.trust.oms_chain import load_authorities
from garrison.trust.oms_keyless import Keyless
from garrison.trust.oms_listing import Scheme
from garrison.trust.oms_measure import Measuring

VECTORS = Path(__file__).parents[1] / "vectors" / "oms"
PEER = VECTORS / "peer"
NOW = datetime(2026, 11, 23, tzinfo=UTC)
FILES = {
    "config.json": b"{}",
    "weights.bin": bytes(range(256)) * 10,  # 2.56 shards
    "onnx/model:1:2": b"x" * peer_sign.SHARD,  # exactly one shard, and a name that looks like one
    "notes.txt": b"read me",
}


def trust_root() -> Path:
    sigstore = pytest.importorskip("sigstore")
    return next(Path(sigstore.__file__).parent.rglob("*tuf-repo-cdn.sigstore.dev/trusted_root.json"))


def foreign(kind: str) -> oms.Foreign:
    if "sigstore" in kind:
        return Keyless(trust_root(), "stefanb@us.ibm.com", "https://sigstore.verify.ibm.com/oauth2")
    return load_authorities([PEER / "keys" / "ca-cert.pem"], NOW) if "certificate" in kind else None


def outcome(data: bytes, kind: str) -> str:
    try:
        oms.open_bundle(data, [load_public(PEER / "keys" / "signing-key-pub.pem")], foreign(kind))
    except GarrisonError as error:
        return error.code
    return "verified"


SPEC = {
    "valid/key": "verified",
    "valid/certificate": "verified",
    "valid/sigstore": "verified",
    "invalid/empty": "ART-SIGNATURE",
    "invalid/missing-envelope": "ART-SIGNATURE",
    "invalid/missing-tlog-entries": "ART-SIGNATURE",
    "invalid/missing-verification-material": "ART-SIGNATURE",
    "invalid-payload/wrong-predicate": "ART-SIGNATURE",
}


@pytest.mark.row("A09", kind="R")
@pytest.mark.parametrize(("vector", "expected"), sorted(SPEC.items()))
def test_each_vector_of_the_specification_comes_out_as_it_says(vector: str, expected: str) -> None:
    data = (VECTORS / "spec" / f"{vector}.bundle.json").read_bytes()
    assert outcome(data, vector) == expected


def test_no_vector_of_the_specification_is_left_out() -> None:
    there = {str(path.relative_to(VECTORS / "spec")) for path in (VECTORS / "spec").rglob("*.json")}
    assert there == {f"{vector}.bundle.json" for vector in SPEC}


# Version 0.2.0 signed something else than DSSE says; 0.3.1 and 1.0.0 called a single file `.`; later ones
# let the signer leave `ignore-me` out, which is an unsigned file here.
OLD = {
    "v0.2.0-certificate": "ART-SIGNATURE",
    "v0.3.1-certificate": "verified",
    "v0.3.1-elliptic-key": "ART-NAME-UNSAFE",
    "v0.3.1-sigstore": "verified",
    "v1.0.0-certificate": "verified",
    "v1.0.0-elliptic-key": "ART-NAME-UNSAFE",
    "v1.0.0-sigstore": "verified",
    "v1.0.1-certificate": "ART-TAMPER",
    "v1.0.1-elliptic-key": "ART-TAMPER",
    "v1.0.1-sigstore": "ART-TAMPER",
    "v1.1.0-certificate": "ART-TAMPER",
    "v1.1.0-elliptic-key": "ART-TAMPER",
    "v1.1.0-sigstore": "ART-TAMPER",
}


@pytest.mark.row("A09", kind="R")
@pytest.mark.parametrize(("version", "expected"), sorted(OLD.items()))
def test_bundles_of_older_versions_are_verified_or_refused_for_a_reason(
    version: str, expected: str, tmp_path: Path
) -> None:
    key = load_public(PEER / "keys" / "signing-key-pub.pem")
    signature = PEER / version / "model.sig"
    files = {path.name: path.read_bytes() for path in (PEER / version).iterdir()}

    def judged(model: Path) -> str:
        try:
            verify_bundle(model, signature, [key], foreign=foreign(version))
        except GarrisonError as error:
            return error.code
        return "verified"

    assert judged(PEER / version) == expected
    if expected != "ART-TAMPER":
        return
    del files["ignore-me"], files["model.sig"]
    assert judged(write_files(tmp_path / "model", files)) == "verified"


@pytest.mark.row("A09", kind="R")
@pytest.mark.parametrize(
    ("identity", "issuer"),
    [
        ("someone@us.ibm.com", "https://sigstore.verify.ibm.com/oauth2"),
        ("stefanb@us.ibm.com", "https://accounts.google.com"),
    ],
)
def test_a_keyless_signature_of_somebody_else_is_refused(identity: str, issuer: str) -> None:
    data = (PEER / "v1.1.0-sigstore" / "model.sig").read_bytes()
    with pytest.raises(GarrisonError) as caught:
        oms.open_bundle(data, [], Keyless(trust_root(), identity, issuer))
    assert caught.value.code == "ART-CHAIN"


def test_a_keyless_signature_needs_a_trust_root_that_is_one(tmp_path: Path) -> None:
    pytest.importorskip("sigstore")
    data = (PEER / "v1.1.0-sigstore" / "model.sig").read_bytes()
    (tmp_path / "root.json").write_text("{}")
    for root in ("nowhere.json", "root.json"):
        with pytest.raises(GarrisonError) as caught:
            oms.open_bundle(data, [], Keyless(tmp_path / root, "a@b", "https://c"))
        assert caught.value.code == "ART-CA"


@pytest.mark.row("A09", kind="R")
@pytest.mark.parametrize("part", ["payload", "sig", "certificate"])
def test_a_changed_byte_of_what_is_signed_keyless_is_refused(part: str) -> None:
    document = json.loads((PEER / "v1.1.0-sigstore" / "model.sig").read_bytes())
    holder, name = {
        "payload": (document["dsseEnvelope"], "payload"),
        "sig": (document["dsseEnvelope"]["signatures"][0], "sig"),
        "certificate": (document["verificationMaterial"]["certificate"], "rawBytes"),
    }[part]
    original = base64.b64decode(holder[name])
    for at in range(0, len(original), len(original) // 7):
        changed = bytearray(original)
        changed[at] ^= 1
        holder[name] = base64.b64encode(changed).decode()
        assert outcome(json.dumps(document).encode(), "sigstore") != "verified"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case, signed by the real `model_signing` in one process."""
    root = tmp_path_factory.mktemp("theirs")
    for case in peer_sign.CASES:
        write_files(root / case, FILES)
    (root / "links" / "link.bin").symlink_to("weights.bin")
    command = [sys.executable, "-W", "ignore", peer_sign.__file__, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return root


def judge(theirs: Path, case: str, ca: str = "root", model: Path | None = None) -> str:
    how = peer_sign.CASES[case]
    keys: list[PublicKey] = []
    if "certificates" not in how:
        keys = [load_public(theirs / "keys" / f"{how.get('key', 'p256')}.pem")]
    authorities = load_authorities([theirs / "keys" / f"{ca}.crt"], datetime.now(UTC))
    try:
        proof = verify_bundle(model or theirs / case, theirs / f"{case}.sig", keys, foreign=authorities)
    except GarrisonError as error:
        return error.code
    assert {entry.path for entry in proof.manifest} == set(FILES)
    return "verified"


THEIRS = {
    "p256": "verified",
    "p384": "verified",
    "p521": "KEY-PUBLIC",  # a curve that no token profile here has
    "blake2b": "verified",
    "blake3": "verified",
    "shards": "verified",
    "shards-blake2b": "verified",
    "ignored": "ART-TAMPER",
    "links": "ART-LINK",
    "certificate": "verified",
    "certificate-expired": "ART-CHAIN",
    "certificate-web": "ART-CHAIN",
    "certificate-under-leaf": "ART-CHAIN",
    "certificate-wrong-chain": "ART-CHAIN",
}


@pytest.mark.row("A09", kind="R")
@pytest.mark.parametrize("case", sorted(THEIRS))
def test_what_model_signing_writes_today_is_verified_or_refused_for_a_reason(theirs: Path, case: str) -> None:
    if THEIRS[case] == "KEY-PUBLIC":
        with pytest.raises(GarrisonError) as caught:
            judge(theirs, case)
        assert caught.value.code == "KEY-PUBLIC"
        return
    assert judge(theirs, case) == THEIRS[case]


@pytest.mark.row("A09", kind="R")
@pytest.mark.parametrize("case", [case for case, expected in THEIRS.items() if expected == "verified"])
def test_a_changed_file_is_named_whatever_the_form(theirs: Path, case: str, tmp_path: Path) -> None:
    for path, content in FILES.items():
        for changed in (content[:-1] + b"!", content[:-1], content + b"\x00"):
            model = write_files(tmp_path / "model", {**FILES, path: changed})
            assert judge(theirs, case, model=model) == "ART-TAMPER"


def test_a_chain_to_another_ca_is_refused(theirs: Path) -> None:
    assert judge(theirs, "certificate", ca="stranger") == "ART-CHAIN"
    assert judge(theirs, "certificate", ca="intermediate") == "verified"
    assert judge(theirs, "certificate", ca="leaf") == "verified"  # the very signer was named
    assert judge(theirs, "certificate-wrong-chain", ca="intermediate") == "verified"


@pytest.mark.row("A09", kind="R")
@pytest.mark.parametrize("case", ["shards", "shards-blake2b"])
def test_a_shard_bundle_does_not_cover_empty_files(theirs: Path, case: str, tmp_path: Path) -> None:
    """The peer lists no shard of an empty file, so one can come and go; here it is an unsigned file."""
    model = write_files(tmp_path / "model", {**FILES, "__init__.py": b""})
    assert judge(theirs, case, model=model) == "ART-TAMPER"
    (model / "__init__.py").unlink()
    assert judge(theirs, case, model=model) == "verified"


@pytest.mark.row("A09", kind="R")
def test_the_command_judges_certificates_by_the_ca_that_is_named(
    theirs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["verify", str(theirs / "certificate"), "--data", str(theirs / "none")]
    assert main([*words, "--ca", str(theirs / "keys" / "root.crt")]) == 0
    assert "by leaf" in capsys.readouterr().out
    assert main(words) == 3
    assert "--ca" in capsys.readouterr().err
    assert main([*words, "--ca", str(theirs / "keys" / "p256.pem")]) == 2
    assert "ART-CA" in capsys.readouterr().err
    assert main([*words, "--identity", "me"]) == 2
    assert "--sigstore-root" in capsys.readouterr().err


SIGNER = FileSigner("release")


def bundle_of(payload: dict[str, Any], theirs: Path) -> bytes:
    document = json.loads((theirs / "shards.sig").read_bytes())
    document["verificationMaterial"]["publicKey"] = {"hint": oms.key_hint(SIGNER.public_pem())}
    document["dsseEnvelope"] = dsse.sign(canonical_json(payload), dsse.IN_TOTO, SIGNER)
    return canonical_json(document)


@pytest.mark.parametrize(
    "names",
    [
        ["a:0:10"],  # no full shard and not the last
        ["a:1000:2000"],
        ["a:0:1000", "a:2000:3000"],
        ["a:0:1000", "a:0:1000"],
        ["a:0:0"],
        ["a:00:1000"],
        ["a:0:1001"],
        ["a"],
        ["a:-1:3"],
        [":0:1000"],
        ["a:0:99999999999999999999999999999999"],
    ],
)
def test_shards_that_do_not_make_a_file_are_refused(names: list[str], theirs: Path) -> None:
    payload = json.loads(
        base64.b64decode(json.loads((theirs / "shards.sig").read_bytes())["dsseEnvelope"]["payload"])
    )
    rows = [{"name": name, "algorithm": "sha256", "digest": "00" * 32} for name in names]
    if names == ["a:0:10"]:
        rows.append({"name": "a:10:20", "algorithm": "sha256", "digest": "00" * 32})
    payload["predicate"]["resources"] = rows
    payload["subject"][0]["digest"]["sha256"] = oms.root_digest("00" * 32 for _ in rows)
    with pytest.raises(GarrisonError) as caught:
        oms.open_bundle(bundle_of(payload, theirs), [public_of(SIGNER)])
    assert caught.value.code in {"ART-SIGNATURE", "ART-NAME-UNSAFE"}


@given(st.binary(max_size=5000), st.integers(1, 700), st.lists(st.integers(1, 900), max_size=6))
def test_shards_measured_in_any_pieces_are_the_shards_of_the_whole(
    content: bytes, size: int, cuts: list[int]
) -> None:
    measuring = Measuring(scheme := Scheme("blake2b", size))
    writer = measuring("f")
    rest = memoryview(content)
    for cut in [*cuts, len(content)]:
        writer.write(rest[:cut])
        rest = rest[cut:]
    writer.commit("")
    shards = [content[at : at + size] for at in range(0, len(content), size)]
    digests = [hashlib.blake2b(shard).hexdigest() for shard in shards]
    assert measuring.digests == {"f": scheme.of_shards(digests, len(content))}
