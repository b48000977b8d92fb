"""Where a version comes from: four parts by digest, gaps shown, builders held apart, every byte signed."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.statement_pb2 import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey
from tests.app.household import Household
from tests.artifacts.trained import Trained

from garrison.app.cli.main import main
from garrison.app.cli.papers import show_provenance
from garrison.artifacts.foreign import open_foreign, read_builders
from garrison.artifacts.lineage.declared import Lookups, read_declared
from garrison.artifacts.lineage.template import TEMPLATE
from garrison.core.digest import FileEntry, Manifest, canonical_json
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.trust import dsse
from garrison.trust.keys.file import FileSigner

OWN = "https://garrison.dev/builders/publication/v1"
OTHER = "https://ci.example.org/training"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def payload_of(envelope: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.b64decode(json.loads(envelope.read_text())["payload"]))
    return found


@pytest.mark.row("A21")
def test_the_lineage_of_a_trained_model_has_four_parts_with_digests_and_no_gap(
    home: Household, trained: Trained, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = home.ask("model.provenance", ref="fraud@1")
    parts = {part["part"]: part["materials"] for part in found["parts"]}
    assert found["gaps"] == []
    assert found["level"] == 1
    assert parts["data"][0]["digests"] == {"sha256": sha256(trained.data)}
    assert parts["preprocessing"][0]["digests"] == {"sha256": sha256(trained.script)}
    assert parts["run"][0]["digests"] == {"sha256": sha256(trained.log)}
    assert parts["run"][0]["facts"]["parameters.steps"] == 200
    assert parts["evaluation"][0]["digests"] == {"sha256": sha256(trained.report)}
    show_provenance(found)
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("data", "preprocessing", "training runs", "evaluations"))
    assert "GAP" not in shown
    assert sha256(trained.data)[:4] in shown


@pytest.mark.row("A21")
def test_without_a_lineage_the_four_parts_are_gaps_and_the_level_is_0(
    home: Household, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    home.publish(trained.model, "untold@1")
    found = home.ask("model.provenance", ref="untold@1")
    assert found["gaps"] == ["data", "preprocessing", "run", "evaluation"]
    assert found["level"] == 0
    assert found["predicate"]["buildDefinition"]["externalParameters"]["source"] == str(trained.model)
    show_provenance(found)
    assert capsys.readouterr().out.count("GAP") == 4


def test_a_lineage_that_comes_later_is_a_further_attachment(home: Household, trained: Trained) -> None:
    home.publish(trained.model, "later@1")
    home.ask("model.attach", ref="later@1", lineage=str(trained.lineage))
    assert home.ask("model.provenance", ref="later@1")["gaps"] == []
    labels = [one["label"] for one in home.ask("model.show", ref="later@1")["attachments"]]
    assert labels == ["provenance", "bom", "provenance-2", "bom-2"]
    assert len([e for e in home.events("artifact.attach") if e["resource"] == "later@1"]) == 4


@pytest.mark.row("A22")
def test_another_tools_schema_reads_the_provenance(published: Path) -> None:
    statement = payload_of(published / "1.provenance.json")
    ParseDict(statement, Statement())
    parsed = ParseDict(statement["predicate"], Provenance())
    assert parsed.run_details.builder.id == OWN
    assert parsed.build_definition.build_type == "https://garrison.dev/buildtypes/publication/v1"
    assert {one.name for one in parsed.build_definition.resolved_dependencies} == {
        "payments.csv",
        "prepare.py",
    }


@pytest.mark.row("A22")
@pytest.mark.parametrize("label", ["provenance", "bom"])
def test_another_tool_verifies_the_signature_of_an_attachment(
    home: Household, published: Path, label: str
) -> None:
    envelope = Envelope.from_dict(json.loads((published / f"1.{label}.json").read_text()))
    pem = home.house.public_key_path(home.house.release_key.label).read_bytes()
    key = SSlibKey.from_crypto(load_pem_public_key(pem), keyid=home.house.release_key.key_id)
    assert key.keyid in envelope.verify([key], 1)
    envelope.payload += b" "
    with pytest.raises(VerificationError):
        envelope.verify([key], 1)


@pytest.mark.row("A22")
def test_what_a_publisher_declares_is_no_builders_signature(home: Household, published: Path) -> None:
    assert home.ask("model.verify", ref="fraud@1", slsa_builder=OWN)["builder"] == OWN
    with pytest.raises(Refused, match="PROV-BUILDER"):  # lineage.toml names it
        home.ask("model.verify", ref="fraud@1", slsa_builder=OTHER)


@pytest.mark.row("A22")
def test_bare_files_tell_their_builder_offline(
    home: Household, published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "fraud"
    home.ask("model.pull", ref="fraud@1", destination=str(copy))
    assert {path.name for path in tmp_path.iterdir()} >= {"fraud.provenance.json", "fraud.bom.json"}
    key = str(home.house.public_key_path(home.house.release_key.label))
    assert main(["verify", str(copy), "--key", key, "--slsa-builder", OWN]) == 0
    assert main(["verify", str(copy), "--key", key, "--slsa-builder", OTHER]) == 1
    assert "PROV-BUILDER" in capsys.readouterr().err
    for path in tmp_path.glob("fraud.*.json"):
        if path.name != "fraud.release.json":
            path.unlink()
    assert main(["verify", str(copy), "--key", key, "--slsa-builder", OWN]) == 3
    assert "PROV-NONE" in capsys.readouterr().err


def test_an_attachment_of_another_release_is_refused_offline(
    home: Household, trained: Trained, published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.publish(trained.model, "elsewhere@1")
    copy = tmp_path / "fraud"
    home.ask("model.pull", ref="fraud@1", destination=str(copy))
    other = home.house.settings.data / "models" / "elsewhere" / "1.provenance.json"
    (tmp_path / "fraud.provenance.json").write_bytes(other.read_bytes())
    key = str(home.house.public_key_path(home.house.release_key.label))
    assert main(["verify", str(copy), "--key", key]) == 1
    assert "ART-ATTACHMENT" in capsys.readouterr().err


@settings(max_examples=40)
@given(place=st.integers(0, 1_000_000), bit=st.integers(0, 7), label=st.sampled_from(["provenance", "bom"]))
def test_any_flipped_bit_of_an_attachment_is_refused(
    home: Household, published: Path, place: int, bit: int, label: str
) -> None:
    path = published / f"1.{label}.json"
    whole = path.read_bytes()
    data = bytearray(whole)
    data[place % len(data)] ^= 1 << bit
    path.chmod(0o644)
    path.write_bytes(data)
    try:
        with pytest.raises(Refused, match="ART-ATTACHMENT") as refused:
            home.ask("model.bom", ref="fraud@1")
        assert refused.value.evidence["attachment"] == label
    finally:
        path.write_bytes(whole)


def test_edited_added_and_removed_rows_of_attachments_are_named(home: Household, trained: Trained) -> None:
    home.publish(trained.model, "edited@1")
    where = "name = 'edited' AND version = 1 AND label = 'bom'"
    home.script(f"CREATE TABLE kept AS SELECT * FROM attachments WHERE {where}")
    for damage in (
        f"UPDATE attachments SET envelope = replace(CAST(envelope AS TEXT), 'a', 'b') WHERE {where}",
        f"DELETE FROM attachments WHERE {where}",
        "INSERT INTO attachments SELECT name, version, 'bom-9', kind, predicate_type, envelope, created, 9 FROM kept",
        f"UPDATE attachments SET predicate_type = 'https://example.org/' WHERE {where}",
    ):
        home.script(damage)
        with pytest.raises(Refused, match="ART-ATTACHMENT"):
            home.ask("model.verify", ref="edited@1")
        home.script(
            "DELETE FROM attachments WHERE name = 'edited' AND label LIKE 'bom%';"
            "INSERT INTO attachments SELECT * FROM kept"
        )
    home.ask("model.verify", ref="edited@1")
    home.script("DROP TABLE kept")


def test_a_damaged_file_is_written_again_from_the_database(home: Household, trained: Trained) -> None:
    home.publish(trained.model, "mended@1")
    path = home.house.settings.data / "models" / "mended" / "1.bom.json"
    path.unlink()
    with pytest.raises(Refused, match="ART-ATTACHMENT"):
        home.ask("model.verify", ref="mended@1")
    home.ask("model.pull", ref="mended@1", repair=True)
    home.ask("model.verify", ref="mended@1")


def test_a_digest_that_is_not_the_datas_is_refused_and_nothing_is_published(
    home: Household, trained: Trained, tmp_path: Path
) -> None:
    lineage = tmp_path / "lineage.toml"
    lineage.write_text(f'[[data]]\npath = "{trained.data}"\nsha256 = "{"0" * 64}"\n')
    with pytest.raises(Refused, match=r"PROV-DIGEST: lineage.toml line 3") as refused:
        home.publish(trained.model, "drifted@1", lineage=str(lineage))
    assert refused.value.evidence["found"] == f"sha256:{sha256(trained.data)}"
    with pytest.raises(Refused, match="ART-UNKNOWN"):
        home.ask("model.show", ref="drifted@1")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('[[data]]\nname = "x"\npaht = "y"\n', 3, "did you mean path"),
        ('[[data]]\nname = "x"\n\n[[data]]\npath = "gone.csv"\n', 5, "No such file"),
        ('[data]\npath = "x"\n', 1, r"\[\[data\]\]"),
        ('[[run]]\nname = "r"\nmetrics = { loss = "low" }\nstarted = "now"\n', 4, "a time with its zone"),
        ('[[data]]\nname = "x"\nsha256 = "abc"\n', 3, "64 hexadecimal digits"),
        ("[[evaluation]]\nfacts = { x = 1 }\n", 1, "neither name nor path"),
        ('builder = 7\n[[data]]\nname = "x"\n', 1, "builder is not a text"),
        ('[[data]]\npath = "a"\ndataset = "b@1"\n', 3, "not both"),
    ],
)
def test_a_wrong_line_of_a_lineage_is_named(tmp_path: Path, text: str, line: int, says: str) -> None:
    file = tmp_path / "lineage.toml"
    file.write_text(text)
    with pytest.raises(Usage, match=says) as wrong:
        read_declared(file, Lookups(_nothing, _nothing))
    assert wrong.value.code == "PROV-LINEAGE"
    assert wrong.value.evidence["line"] == line


@given(st.text(max_size=200) | st.text("[]=\"'{}\n.#data path sha256", max_size=200))
def test_any_text_is_a_lineage_or_an_explained_refusal(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    assert _refusal(file) in ("", "PROV-LINEAGE", "PROV-DIGEST")


def test_the_template_is_a_lineage_file(tmp_path: Path, trained: Trained) -> None:
    for name in ("prepare.py", "evaluation.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.csv").write_text("a,label\n1,0\n")
    (tmp_path / "lineage.toml").write_text(TEMPLATE)
    assert read_declared(tmp_path / "lineage.toml", Lookups(_nothing, _nothing)).gaps() == ()


def test_a_material_without_a_digest_is_a_gap(home: Household, trained: Trained, tmp_path: Path) -> None:
    lineage = tmp_path / "lineage.toml"
    lineage.write_text('[[data]]\nuri = "s3://bucket/train.csv"\n')
    home.publish(trained.model, "unhashed@1", lineage=str(lineage))
    assert "data" in home.ask("model.provenance", ref="unhashed@1")["gaps"]


def foreign(signer: FileSigner, subjects: list[dict[str, Any]], builder: str = OTHER, **more: Any) -> bytes:
    """What a build platform signs."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "https://ci.example.org/train/v1",
                "externalParameters": {},
                "resolvedDependencies": [
                    {"uri": "git+https://git.example.org/fraud", "digest": {"gitCommit": "a" * 40}}
                ],
            },
            "runDetails": {"builder": {"id": builder}},
            **more,
        },
    }
    return canonical_json(dsse.sign(canonical_json(statement), dsse.IN_TOTO, signer))


@pytest.mark.row("A22")
def test_provenance_of_a_trusted_builder_is_attached_and_every_other_refused(
    home: Household, trained: Trained, tmp_path: Path
) -> None:
    home.publish(trained.model, "built@1", lineage=str(trained.lineage))
    subjects = [
        {"name": "model.safetensors", "digest": {"sha256": sha256(trained.model / "model.safetensors")}}
    ]
    signer, stranger, file = FileSigner("ci"), FileSigner("stranger"), tmp_path / "built.intoto.json"
    file.write_bytes(foreign(signer, subjects))
    with pytest.raises(Refused, match="PROV-UNTRUSTED"):
        home.ask("model.attach", ref="built@1", provenance=str(file))
    data = home.house.settings.data
    (data / "ci.pem").write_bytes(signer.public_pem())
    (data / "builders.toml").write_text(f'[[builder]]\nid = "{OTHER}"\nkey = "ci.pem"\n')
    for envelope, code in (
        (foreign(stranger, subjects), "KEY-UNKNOWN"),
        (foreign(signer, subjects, builder="https://other.example/"), "PROV-BUILDER"),
        (foreign(signer, [{"name": "x", "digest": {"sha256": "0" * 64}}]), "PROV-SUBJECT"),
        (foreign(signer, subjects, runDetails={"builder": {}}), "PROV-SHAPE"),
        (foreign(signer, subjects)[:-9], "PROV-SHAPE"),
    ):
        file.write_bytes(envelope)
        with pytest.raises(Refused, match=code):
            home.ask("model.attach", ref="built@1", provenance=str(file))
    file.write_bytes(foreign(signer, subjects))
    result = home.ask("model.attach", ref="built@1", provenance=str(file))
    assert (result["builder"], result["covered"]) == (OTHER, 1)
    assert home.ask("model.verify", ref="built@1", slsa_builder=OTHER)["builder"] == OTHER
    found = home.ask("model.provenance", ref="built@1")
    assert [one["builder"] for one in found["other_builders"]] == [OTHER]
    assert any(part["part"] == "code" for part in found["parts"])


HOSTED = Path(__file__).parents[1] / "vectors" / "slsa" / "generator.sigstore.json"
GENERATOR = (
    "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_generic_slsa3.yml"
    "@refs/heads/main"
)
ACTIONS = "https://token.actions.githubusercontent.com"
HELLO = "sha256:2892146b063a94cb4a4318c0e98d38af12dcf2b1e29237486b58463b59607bbd"


def trust_generator(place: Path, identity: str = GENERATOR, builder: str = GENERATOR) -> None:
    sigstore = pytest.importorskip("sigstore")
    root = next(Path(sigstore.__file__).parent.rglob("*tuf-repo-cdn.sigstore.dev/trusted_root.json"))
    (place / "root.json").write_bytes(root.read_bytes())
    (place / "builders.toml").write_text(
        f'[[builder]]\nid = "{builder}"\nsigstore_root = "root.json"\nidentity = "{identity}"\n'
        f'issuer = "{ACTIONS}"\n'
    )


@pytest.mark.row("A22", kind="R")
def test_what_a_hosted_generator_signed_by_the_public_log_is_believed_for_its_identity_alone(
    home: Household, trained: Trained, tmp_path: Path
) -> None:
    data, changed = home.house.settings.data, tmp_path / "changed.json"
    home.publish(trained.model, "hosted@1", lineage=str(trained.lineage))

    def refused(file: Path) -> str:
        with pytest.raises(GarrisonError) as error:
            home.ask("model.attach", ref="hosted@1", provenance=str(file))
        return error.value.code

    (data / "ci.pem").write_bytes(FileSigner("ci").public_pem())
    (data / "builders.toml").write_text(f'[[builder]]\nid = "{OTHER}"\nkey = "ci.pem"\n')
    assert refused(HOSTED) == "PROV-UNTRUSTED"
    trust_generator(data, identity=GENERATOR.replace("main", "fork"))
    assert refused(HOSTED) == "ART-CHAIN"
    trust_generator(data, builder=OTHER)
    assert refused(HOSTED) == "PROV-BUILDER"
    trust_generator(data)
    assert refused(HOSTED) == "PROV-SUBJECT"  # genuine, and of another file
    document = json.loads(HOSTED.read_bytes())
    payload = base64.b64decode(document["dsseEnvelope"]["payload"]).replace(b"hello", b"hallo")
    document["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    changed.write_text(json.dumps(document))
    assert refused(changed) == "ART-CHAIN"
    changed.write_text('{"dsseEnvelope": {}}')
    assert refused(changed) == "ART-CHAIN"

    manifest = Manifest.of([FileEntry("hello", 1, 0o644, HELLO)])
    found = open_foreign(
        HOSTED.read_bytes(), read_builders(data / "builders.toml"), manifest, manifest.digest
    )
    assert (found.builder, found.covered) == (GENERATOR, ("hello",))


def _nothing(ref: object) -> str:
    raise Undecided("DB-UNAVAILABLE", f"{ref}", fix="")


def _refusal(file: Path) -> str:
    """The code of the refusal of a lineage file, empty when it is one."""
    try:
        read_declared(file, Lookups(_nothing, _nothing))
    except GarrisonError as error:
        return error.code
    return ""
