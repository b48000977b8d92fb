"""Keys in a token and beside it: made there, never out of there, refused everywhere else."""

from __future__ import annotations

import base64
import errno
import functools
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pkcs11 as p11
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.contracts.signer import SignerContract

from garrison.core.errors import Refused, Undecided, Usage
from garrison.trust import stray_keys
from garrison.trust.keys.algorithm import Algorithm
from garrison.trust.keys.base import Signer
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.pkcs11 import Token, load_module, open_token
from garrison.trust.keys.public import PublicKey, load_public, public_from_pem
from garrison.trust.keys.softhsm import LABEL, find_module, open_software_token


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    token = open_software_token(tmp_path_factory.mktemp("data") / "keys" / "token")
    token.create("release")
    token.create("ledger")
    for algorithm in Algorithm:
        token.create(f"one-{algorithm}", algorithm)
    yield token
    token.close()


@pytest.fixture
def fresh(tmp_path: Path, token: Token) -> Iterator[Path]:
    """A directory for a token of its own; the module is given back to the shared one afterwards."""
    before = os.environ["SOFTHSM2_CONF"]
    yield tmp_path / "keys" / "token"
    os.environ["SOFTHSM2_CONF"] = before
    load_module(find_module()).reinitialize()


@pytest.mark.row("A10", kind="R")
class TestTokenKey(SignerContract):
    @pytest.fixture(params=list(Algorithm))
    def algorithm(self, request: pytest.FixtureRequest) -> Algorithm:
        return Algorithm(request.param)

    @pytest.fixture
    def signer(self, token: Token, algorithm: Algorithm) -> Signer:
        return token.signer(f"one-{algorithm}")

    @pytest.fixture
    def other(self, token: Token) -> Signer:
        return token.signer("ledger")


in_memory = functools.cache(FileSigner)  # making an RSA key takes a second


class TestFileSigner(SignerContract):
    @pytest.fixture(params=list(Algorithm))
    def signer(self, request: pytest.FixtureRequest) -> Signer:
        return in_memory("release", request.param)

    @pytest.fixture
    def other(self, signer: Signer) -> Signer:
        return in_memory("ledger", Algorithm.P256)


@pytest.mark.row("A10", kind="R")
def test_the_private_half_cannot_be_read_out_of_the_token(token: Token) -> None:
    private = token.use(lambda session: token._private_key(session, "release"))
    with pytest.raises(p11.AttributeSensitive):
        private[p11.Attribute.VALUE]
    with pytest.raises(p11.PKCS11Error):
        private[p11.Attribute.EXTRACTABLE] = True
    with pytest.raises(Refused) as refusal:
        token.export("release")
    assert refusal.value.code == "KEY-EXPORT"


@pytest.mark.row("A10", kind="R")
def test_pkcs11_tool_sees_the_key_as_sensitive_and_cannot_export_it(token: Token, tmp_path: Path) -> None:
    pin = token._pin.path.read_text()  # of a token made for this test; our own code never puts one in argv
    tool = ["pkcs11-tool", "--module", str(find_module()), "--token-label", LABEL, "--login", "--pin", pin]
    listed = subprocess.run([*tool, "-O", "--type", "privkey"], capture_output=True, text=True)
    assert "release" in listed.stdout
    assert "never extractable" in listed.stdout
    out = tmp_path / "key"
    subprocess.run(
        [*tool, "--read-object", "--type", "privkey", "--label", "release", "-o", str(out)],
        capture_output=True,
        check=False,  # the tool says that it cannot, and ends with 0
    )
    assert not out.exists() or not out.read_bytes()


@pytest.mark.row("A10", kind="R")
def test_a_key_that_could_be_copied_out_is_not_used(token: Token) -> None:
    def loose(session: p11.Session) -> None:
        curve = session.create_domain_parameters(
            p11.KeyType.EC, {p11.Attribute.EC_PARAMS: bytes.fromhex("06082a8648ce3d030107")}, local=True
        )
        curve.generate_keypair(store=True, label="loose", private_template={p11.Attribute.EXTRACTABLE: True})

    token.use(loose)
    with pytest.raises(Refused) as refusal:
        token.signer("loose")
    assert refusal.value.code == "KEY-EXTRACTABLE"


def test_a_key_is_never_overwritten_and_an_unknown_one_is_refused(token: Token) -> None:
    with pytest.raises(Refused) as refusal:
        token.create("release")
    assert refusal.value.code == "KEY-EXISTS"
    with pytest.raises(Refused) as refusal:
        token.signer("nobody")
    assert refusal.value.code == "KEY-UNKNOWN"


@pytest.mark.parametrize("label", ["", "../x", "Release", "a b", "x" * 65, ".x", "a..b", "a~", "schlüssel"])
def test_a_label_that_could_be_anything_but_a_name_is_refused(token: Token, label: str) -> None:
    with pytest.raises(Usage) as refusal:
        token.create(label)
    assert refusal.value.code == "KEY-LABEL"


def test_the_list_shows_public_halves_by_label(token: Token) -> None:
    listed = {key.label: key for key in token.list()}
    assert listed["release"].key_id == token.signer("release").key_id
    assert token.is_software


def test_a_key_that_was_half_made_when_the_process_was_killed_is_made_again(token: Token) -> None:
    token.create("half")

    def lose_the_private_half(session: p11.Session) -> None:
        token._private_key(session, "half").destroy()
        token._private.clear()

    token.use(lose_the_private_half)
    with pytest.raises(Refused):
        token.signer("half")
    signer = token.ensure("half")
    assert public_from_pem(signer.public_pem()).verify(b"x", signer.sign(b"x"))
    assert token.ensure("half").key_id == signer.key_id


def test_small_data_is_kept_in_the_token_and_replaced(token: Token) -> None:
    assert token.get_data("nothing") is None
    token.put_data("checkpoint", b"one")
    token.put_data("checkpoint", b"two")
    assert token.get_data("checkpoint") == b"two"
    with pytest.raises(Usage):
        token.put_data("checkpoint", bytes(5000))
    assert token.get_data("checkpoint") == b"two"


def test_many_threads_share_one_session(token: Token) -> None:
    signer = token.signer("release")
    public = public_from_pem(signer.public_pem())
    results: list[bool] = []

    def work() -> None:
        results.extend(public.verify(b"x", signer.sign(b"x")) for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 200


def test_a_lost_session_is_opened_again(token: Token) -> None:
    signer = token.signer("release")
    load_module(find_module()).reinitialize()  # ends every session, as an HSM that was restarted does
    assert public_from_pem(signer.public_pem()).verify(b"x", signer.sign(b"x"))


@pytest.mark.row("A10", kind="R")
def test_keys_survive_a_restart_and_the_pin_is_nowhere_but_in_its_file(fresh: Path) -> None:
    first = open_software_token(fresh)
    key_id = first.create("release").key_id
    first.close()
    again = open_software_token(fresh)
    assert again.signer("release").key_id == key_id
    again.close()
    pin = (fresh / "pin").read_text()
    assert (fresh / "pin").stat().st_mode & 0o777 == 0o600
    assert fresh.stat().st_mode & 0o777 == 0o700
    assert pin not in repr(again)
    assert pin not in "".join(os.environ.values())
    assert pin.encode() not in Path("/proc/self/cmdline").read_bytes()
    others = [path for path in fresh.rglob("*") if path.is_file() and path.name != "pin"]
    assert others
    assert not any(pin.encode() in path.read_bytes() for path in others)


def test_a_half_made_token_is_swept_and_made_anew(fresh: Path) -> None:
    draft = fresh.with_name("token.unfinished")
    (draft / "tokens" / "half").mkdir(parents=True)
    (draft / "pin").write_text("old")
    token = open_software_token(fresh)
    token.create("release")
    assert not draft.exists()
    token.close()


@pytest.mark.parametrize("left", [0, 100])
def test_a_login_that_was_killed_while_the_module_wrote_is_repaired(fresh: Path, left: int) -> None:
    token = open_software_token(fresh)
    key_id = token.create("release").key_id
    token.close()
    assert token.repaired == ()
    (record,) = (fresh / "tokens").glob("*/token.object")
    record.write_bytes(record.read_bytes()[:left])
    token = open_software_token(fresh)
    assert token.signer("release").key_id == key_id
    assert token.repaired
    token.close()


def test_a_token_moved_with_its_data_directory_still_opens(fresh: Path) -> None:
    token = open_software_token(fresh)
    key_id = token.create("release").key_id
    token.close()
    moved = fresh.parent.parent / "elsewhere"
    fresh.rename(moved)
    token = open_software_token(moved)
    assert token.signer("release").key_id == key_id
    token.close()


def test_a_wrong_pin_is_tried_once_and_then_never_again(fresh: Path) -> None:
    token = open_software_token(fresh)
    token.create("release")
    token.close()
    right = (fresh / "pin").read_text()
    (fresh / "pin").write_text("0" * 32)
    with pytest.raises(Undecided) as refusal:
        open_token(find_module(), LABEL, fresh / "pin")
    assert refusal.value.code == "KEY-PIN"
    assert "0" * 32 not in str(refusal.value)
    assert "before" not in refusal.value.what
    with pytest.raises(Undecided) as refusal:  # a service that restarts in a loop
        open_token(find_module(), LABEL, fresh / "pin")
    assert "not tried again" in refusal.value.what
    (fresh / "pin").write_text(right)
    assert open_token(find_module(), LABEL, fresh / "pin").list()


def test_a_pin_file_that_others_can_read_is_not_used(fresh: Path) -> None:
    open_software_token(fresh).close()
    (fresh / "pin").chmod(0o644)
    with pytest.raises(Undecided) as refusal:
        open_software_token(fresh)
    assert refusal.value.code == "KEY-PIN"


def test_an_existing_token_without_its_pin_is_never_initialised_again(fresh: Path) -> None:
    open_software_token(fresh).close()
    before = sorted(path.name for path in (fresh / "tokens").rglob("*"))
    (fresh / "pin").unlink()
    with pytest.raises(Undecided) as refusal:
        open_software_token(fresh)
    assert refusal.value.code == "KEY-PIN"
    assert sorted(path.name for path in (fresh / "tokens").rglob("*")) == before


def test_a_missing_module_names_the_package_to_install() -> None:
    with pytest.raises(Undecided) as refusal:
        find_module([Path("/nonexistent/libsofthsm2.so")])
    assert refusal.value.code == "KEY-MODULE"
    assert "softhsm2" in refusal.value.fix
    with pytest.raises(Undecided) as refusal:
        open_token(Path("/nonexistent/libhsm.so"), LABEL, Path("/nonexistent/pin"))
    assert refusal.value.code == "KEY-MODULE"


def test_a_file_that_is_no_module_is_a_sentence_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "libhsm.so").write_bytes(b"not a library")
    with pytest.raises(Undecided) as refusal:
        open_token(tmp_path / "libhsm.so", LABEL, tmp_path / "pin")
    assert refusal.value.code == "KEY-MODULE"


def test_an_unknown_token_label_is_undecided(token: Token) -> None:
    with pytest.raises(Undecided) as refusal:
        open_token(find_module(), "someone-elses", token._pin)
    assert refusal.value.code == "KEY-UNAVAILABLE"


def test_a_place_that_cannot_be_written_is_a_sentence(fresh: Path) -> None:
    fresh.parent.parent.mkdir(exist_ok=True)
    fresh.parent.write_text("a file where the directory should be")
    with pytest.raises(Undecided) as refusal:
        open_software_token(fresh)
    assert refusal.value.code == "KEY-UNAVAILABLE"
    assert os.strerror(errno.ENOTDIR) in refusal.value.what or os.strerror(errno.EEXIST) in refusal.value.what


# --- public keys ---


def test_a_public_key_file_is_read_and_named_by_its_digest(tmp_path: Path) -> None:
    signer = FileSigner("release")
    (tmp_path / "release.pem").write_bytes(signer.public_pem())
    public = load_public(tmp_path / "release.pem")
    assert public == PublicKey(signer.key_id, "release", signer.public_pem())


def test_a_public_key_under_another_keys_id_is_refused() -> None:
    with pytest.raises(Refused) as refusal:
        PublicKey(FileSigner("a").key_id, "release", FileSigner("b").public_pem())
    assert refusal.value.code == "KEY-ID"


@pytest.mark.parametrize("curve", [ec.SECP521R1(), ec.SECP256K1(), ec.SECP224R1()])
def test_other_curves_are_not_accepted(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve).public_key()
    with pytest.raises(Usage) as refusal:
        public_from_pem(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert refusal.value.code == "KEY-PUBLIC"


@pytest.mark.parametrize(
    "pem", [b"", b"x", b"-----BEGIN PUBLIC KEY-----\n!!\n-----END PUBLIC KEY-----\n", b"x" * 20_000]
)
def test_bytes_that_are_no_public_key_are_refused(pem: bytes) -> None:
    with pytest.raises(Usage):
        public_from_pem(pem)


def test_nonsense_never_verifies_and_never_raises() -> None:
    public = public_from_pem(FileSigner("x").public_pem())
    for signature in (b"", b"\x30\x06\x02\x01\x00\x02\x01\x00", b"\xff" * 72, b"x" * 1_000_000):
        assert not public.verify(b"data", signature)


# --- keys in the wrong place ---


@pytest.fixture(scope="module")
def private_pem() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _forms(pem: bytes, path: Path) -> dict[str, dict[str, str]]:
    path.write_bytes(pem)
    text = pem.decode()
    return {
        "plain": {"CI_DEPLOY": text},
        "escaped newlines": {"ANYTHING": text.replace("\n", "\\n")},
        "base64": {"ANYTHING": base64.b64encode(pem).decode()},
        "base64url, wrapped": {
            "X": "\n".join(base64.urlsafe_b64encode(pem).decode()[i : i + 64] for i in range(0, 400, 64))
        },
        "a path in a signing variable": {"COSIGN_KEY": str(path)},
        "a CI file variable": {"SIGNING_KEY": str(path)},
        "our own name, any value": {"GARRISON_SIGNING_KEY": "whatever"},
    }


@pytest.mark.row("S15", kind="R")
@pytest.mark.row("A10", kind="R")
@pytest.mark.parametrize("form", list(_forms(b"", Path(os.devnull))))
def test_a_private_key_in_the_environment_is_refused_with_the_reason(
    form: str, private_pem: bytes, tmp_path: Path
) -> None:
    environment = {"PATH": "/usr/bin", "LANG": "C", **_forms(private_pem, tmp_path / "k.pem")[form]}
    with pytest.raises(Refused) as refusal:
        stray_keys.refuse_offered_keys(environment, tmp_path)
    assert refusal.value.code == "KEY-ENV"
    assert refusal.value.findings[0].where.startswith("env:")
    assert "can be copied" in refusal.value.what
    body = private_pem.decode().splitlines()[1]
    assert body not in str(refusal.value.as_json())


@pytest.mark.row("S15", kind="R")
@pytest.mark.row("A10", kind="R")
def test_a_private_key_in_a_dotenv_file_is_refused(private_pem: bytes, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('A=1\nexport GARRISON_SIGNING_KEY="release"\n')
    with pytest.raises(Refused):
        stray_keys.refuse_offered_keys({}, tmp_path)
    (tmp_path / ".env").write_bytes(b"KEY='" + private_pem + b"'\n")
    with pytest.raises(Refused):
        stray_keys.refuse_offered_keys({}, tmp_path)


def test_an_ordinary_environment_passes(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DEBUG=1\nURL=https://example.com/" + "a" * 100 + "\n")
    ordinary = {
        "PATH": "/bin",
        "GARRISON_DATA": "/srv/garrison",
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "KEYBOARD": "de",
        "LS_COLORS": "x" * 2000,
        "SSL_CERT_FILE": "/etc/ssl/cert.pem",
        "COSIGN_KEY": "",
        "PUBLIC": FileSigner("x").public_pem().decode(),
    }
    stray_keys.refuse_offered_keys(ordinary, tmp_path)


@pytest.mark.row("S15", kind="R")
@pytest.mark.row("A10", kind="R")
def test_a_key_file_offered_by_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refusal:
        stray_keys.refuse_key_file(tmp_path / "release.key")
    assert refusal.value.code == "KEY-ENV"


def test_a_private_key_left_in_the_data_directory_is_found_and_links_are_not_followed(
    private_pem: bytes, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (data / "sub" / "backup.txt").write_bytes(b"notes\n" + private_pem)
    (data / "public.pem").write_bytes(FileSigner("x").public_pem())
    os.mkfifo(data / "pipe")
    (data / "loop").symlink_to(data)
    findings = stray_keys.scan_directory(data)
    assert [finding.where for finding in findings] == ["sub/backup.txt"]


def test_the_default_token_directory_itself_has_no_findings(token: Token) -> None:
    assert stray_keys.scan_directory(token._pin.path.parent) == ()
