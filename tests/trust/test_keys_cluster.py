"""The state of a CloudHSM cluster, read with real boto3 from an emulator of the service (moto)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.app.household import PIN, Household, two_tokens

from garrison.core.errors import Refused, Undecided, Usage
from garrison.trust.keys import cluster
from garrison.trust.keys.softhsm import find_module

boto3 = pytest.importorskip("boto3", reason="NOT PROVED HERE: the extra aws is not installed")
moto_server = pytest.importorskip("moto.server", reason="NOT PROVED HERE: moto[server] is not installed")

pytestmark = [
    pytest.mark.row("A11", kind="E"),
    # botocore still calls datetime.utcnow() in places; that is not ours to mend.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore.*"),
]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def two_slots(tmp_path: Path) -> Iterator[Household]:
    with two_tokens(tmp_path / "data") as household:
        yield household


def _made() -> str:
    client = boto3.client("cloudhsmv2")
    made = client.create_cluster(HsmType="hsm1.medium", SubnetIds=["subnet-1"])
    return str(made["Cluster"]["ClusterId"])


def test_a_cluster_is_listed_with_the_state_that_the_service_gives(service: str) -> None:
    made = _made()
    found = cluster.describe(made)
    assert (found.cluster_id, found.state) == (made, "ACTIVE")
    assert cluster.require_active(found) is found
    boto3.client("cloudhsmv2").delete_cluster(ClusterId=made)
    with pytest.raises((Refused, Undecided), match="KEY-CLUSTER"):
        cluster.require_active(cluster.describe(made))


def test_an_unknown_cluster_and_a_service_that_is_away_are_undecided(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Undecided, match="KEY-CLUSTER"):
        cluster.describe("cluster-aaaaaaaaaaa")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(Undecided, match="KEY-CLUSTER"):
        cluster.describe("cluster-aaaaaaaaaaa")
    with pytest.raises(Usage, match="KEY-CLUSTER"):
        cluster.describe("../cluster")


@pytest.mark.parametrize(
    ("state", "active", "hsms"),
    [("DEGRADED", 1, 2), ("UNINITIALIZED", 0, 1), ("ACTIVE", 0, 2), ("CREATE_IN_PROGRESS", 0, 0), ("", 0, 0)],
)
def test_a_cluster_that_could_lose_a_key_gets_none(state: str, active: int, hsms: int) -> None:
    with pytest.raises(Refused, match="KEY-CLUSTER"):
        cluster.require_active(cluster.Cluster("cluster-aaaaaaaaaaa", state, active, hsms))
    assert cluster.require_active(cluster.Cluster("cluster-aaaaaaaaaaa", "ACTIVE", 1, 2))


def test_without_boto3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(Undecided) as refusal:
        cluster.describe("cluster-aaaaaaaaaaa")
    assert "garrison[aws]" in refusal.value.fix


def test_a_key_is_made_in_a_token_of_an_active_cluster_alone_and_the_list_shows_its_state(
    service: str, two_slots: Household, tmp_path: Path
) -> None:
    """A second SoftHSM token under the vendor's profile stands in for the modules of the cluster."""
    made, pin = _made(), tmp_path / "pin"
    pin.write_text(PIN)
    pin.chmod(0o600)
    wanted = {"module": str(find_module()), "token": "partition-1", "profile": "aws-cloudhsm"}
    wanted |= {"pin_file": str(pin), "cluster": made}
    with pytest.raises(Refused, match="KEY-MECHANISM"):
        two_slots.ask("key.add", name="aws", **wanted, algorithm="ed25519")
    added = two_slots.ask("key.add", name="aws", **wanted, algorithm="p384")
    assert added["cluster"]["state"] == "ACTIVE"
    two_slots.ask("key.rotate", role="release", to="aws")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    two_slots.publish(tmp_path / "model", "fraud@1")
    assert two_slots.ask("model.verify", ref="fraud@1")["key_id"] == added["key_id"]
    listed = {key["label"]: key for key in two_slots.ask("key.list")["keys"]}
    assert listed["aws"]["cluster"] == {"id": made, "state": "ACTIVE", "active": 0, "hsms": 0}
    boto3.client("cloudhsmv2").delete_cluster(ClusterId=made)
    with pytest.raises((Refused, Undecided), match="KEY-CLUSTER"):
        two_slots.ask("key.add", name="aws2", **wanted)
    listed = {key["label"]: key for key in two_slots.ask("key.list")["keys"]}
    assert listed["aws"]["cluster"]["state"] != "ACTIVE"
