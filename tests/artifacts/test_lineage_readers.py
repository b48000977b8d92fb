"""What other systems leave is untrusted: the readers' answers are whole, or a refusal; never a crash, never a guess."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import struct
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.artifacts.lineage import dvc, wandb_log, webhook
from garrison.artifacts.lineage.files import nowhere
from garrison.artifacts.lineage.imported import State, differences
from garrison.artifacts.lineage.mlflow import Wanted
from garrison.artifacts.lineage.sources import Origin, access_to, read_secret
from garrison.core.digest import sha256_bytes
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def _log(payloads: Iterable[bytes]) -> bytes:
    """A run's log as the client writes one: records cut at the 32 KiB blocks."""
    out = bytearray(b":W&B\xe1\xbe\x00")
    for payload in payloads:
        left, is_first = payload, True
        while is_first or left:
            room = 32768 - len(out) % 32768
            if room < 7:
                out += bytes(room)
                room = 32768
            chunk, left = left[: room - 7], left[room - 7 :]
            kind = (1 if is_first else 4) if not left else (2 if is_first else 3)
            crc = zlib.crc32(chunk, zlib.crc32(bytes([kind])))
            out += struct.pack("<IHB", crc, len(chunk), kind) + chunk
            is_first = False
    return bytes(out)


@given(st.lists(st.binary(max_size=200) | st.integers(0, 100_000).map(bytes), max_size=6))
def test_every_log_reads_back_as_it_was_written(payloads: list[bytes]) -> None:
    assert list(wandb_log.records(_log(payloads), "run")) == payloads


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=4), st.data())
def test_a_flipped_bit_never_gives_another_record(payloads: list[bytes], data: st.DataObject) -> None:
    log = bytearray(_log(payloads))
    at = data.draw(st.integers(0, len(log) - 1))
    log[at] ^= 1 << data.draw(st.integers(0, 7))
    found: list[bytes] = []
    with contextlib.suppress(Undecided):  # else a length points behind the end: a run that ended there
        found = list(wandb_log.records(bytes(log), "run"))
    assert found == payloads[: len(found)]


@given(st.binary(max_size=300))
def test_any_bytes_as_a_message_are_fields_or_a_refusal(data: bytes) -> None:
    with contextlib.suppress(Undecided):
        assert sum(map(len, wandb_log.message(data, "run").values())) <= len(data)


@given(st.text(max_size=400))
def test_any_text_as_a_lock_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    room = tmp_path_factory.mktemp("lock")
    (room / "dvc.lock").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(GarrisonError):
        dvc.read(room, "", nowhere)


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd"])
def test_a_lock_cannot_name_files_outside_the_repository(tmp_path: Path, path: str) -> None:
    (tmp_path / "dvc.lock").write_text(
        f"schema: '2.0'\nstages:\n  s:\n    cmd: x\n    deps:\n    - path: {path}\n      md5: {'a' * 32}\n"
    )
    (material,) = (row for row in dvc.read(tmp_path, "", nowhere).lineage.materials if row.name == path)
    assert material.facts["on_disk"] is False
    assert "sha256" not in material.digests
    with pytest.raises(Refused, match="ART-NAME-UNSAFE"):
        dvc.read(tmp_path, path, nowhere)


def test_a_link_in_a_repository_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").symlink_to("/etc/hostname")
    (tmp_path / "rows.csv.dvc").write_text(f"outs:\n- md5: {'a' * 32}\n  path: rows.csv\n")
    with pytest.raises(Refused, match="LIN-PLACE"):
        dvc.read(tmp_path, "", nowhere)


def _signed(body: bytes, secret: bytes, sent: int) -> dict[str, str]:
    digest = hmac.new(secret, f"delivery-1.{sent}.".encode() + body, hashlib.sha256).digest()
    return {
        "x-mlflow-delivery-id": "delivery-1",
        "x-mlflow-timestamp": str(sent),
        "x-mlflow-signature": "v1," + base64.b64encode(digest).decode(),
    }


@given(st.integers(-10_000, 10_000), st.booleans(), st.binary(max_size=40))
def test_a_webhook_is_taken_only_signed_and_fresh(age: int, is_signed: bool, body: bytes) -> None:
    headers = _signed(body, b"right" if is_signed else b"wrong", int(NOW.timestamp()) - age)
    with pytest.raises((Refused, Usage)) as refused:
        webhook.check(headers, body, b"right", NOW)
    expected = "HOOK-SIGNATURE" if not is_signed else "HOOK-STALE" if abs(age) > 300 else "HOOK-BODY"
    assert refused.value.code == expected


def test_new_facts_are_no_drift_and_changed_ones_are() -> None:
    digest = sha256_bytes(b"a")
    then = State({"a": digest}, {"alias.champion": "1", "metric.auc": "0.9"})
    assert differences(then, State({"a": digest}, {**then.facts, "metric.f1": "0.5"}), "then") == ()
    now = State({"a": digest, "b": digest}, {"alias.champion": "2"})
    assert [found.rule_id for found in differences(then, now, "then")] == [
        "DRIFT-CONTENT",
        "DRIFT-ALIAS",
        "DRIFT-RUN",
    ]


@pytest.mark.parametrize(
    "uri", ["models:/fraud", "models:/a/b/1", "fraud/1", "models:/fraud/one", "models:/\n/1"]
)
def test_what_names_no_version_is_refused(uri: str) -> None:
    with pytest.raises(Usage, match="LIN-SOURCE"):
        Wanted.parse(uri)


@pytest.mark.parametrize(
    "url", ["gopher://h", "http://", "http://u:p@h", "http://h/?q=1", "ftp://h", "http://h:x"]
)
def test_what_is_no_server_is_refused(url: str) -> None:
    with pytest.raises(Usage, match="LIN-SOURCE"):
        Origin.parse(url)


def test_a_credential_is_bound_to_its_address_and_to_its_owner(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    (tmp_path / "sources.toml").write_text(
        f'[[mlflow]]\nurl = "https://m.example"\ntoken_file = "{secret}"\n'
    )
    assert access_to(Origin.parse("https://m.example:443/"), tmp_path).secret() == "s3cret"
    assert access_to(Origin.parse("https://other.example"), tmp_path).secret() == ""
    secret.chmod(0o644)
    with pytest.raises(Refused, match="LIN-TOKEN") as refused:
        read_secret(secret)
    assert "s3cret" not in str(refused.value)
    (tmp_path / "sources.toml").write_text('[[mlflow]]\nurl = "https://m.example"\ntoken = "x"\n')
    with pytest.raises(Refused, match="LIN-TOKEN"):
        access_to(Origin.parse("https://m.example"), tmp_path)
