"""The state of an AWS CloudHSM cluster, from the service's own list (`cloudhsmv2`, describe_clusters).

boto3 is asked for when a cluster is named and not before; the extra `aws` brings it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from garrison.core.errors import Refused, Undecided, Usage

CONNECT_SECONDS = 3
READ_SECONDS = 5
MAX_HSMS = 64  # of one cluster; AWS allows 28
_ID = re.compile(r"[0-9a-z][0-9a-z-]{7,63}")


@dataclass(frozen=True, slots=True)
class Cluster:
    """`state` is the service's word; `active` of `hsms` modules are in the state ACTIVE."""

    cluster_id: str
    state: str
    active: int
    hsms: int

    @property
    def is_active(self) -> bool:
        return self.state == "ACTIVE"

    def as_json(self) -> dict[str, Any]:
        return {"id": self.cluster_id, "state": self.state, "active": self.active, "hsms": self.hsms}


def check_id(cluster_id: str) -> str:
    if not _ID.fullmatch(cluster_id):
        raise Usage(
            "KEY-CLUSTER",
            f"{cluster_id[:64]!a} is not the id of a cluster",
            fix="aws cloudhsmv2 describe-clusters lists them: cluster-…",
        )
    return cluster_id


def describe(cluster_id: str) -> Cluster:
    """Ask the service. Raises `Usage` KEY-CLUSTER for no id, `Undecided` KEY-CLUSTER when it does not answer."""
    check_id(cluster_id)
    try:
        import boto3  # 0.3 s and an extra of its own: only for those who have a cluster
        from botocore.config import Config  # as above
        from botocore.exceptions import BotoCoreError, ClientError  # as above
    except ImportError as error:
        raise Undecided(
            "KEY-CLUSTER",
            "the state of a CloudHSM cluster is read with boto3, which is not installed",
            fix="pip install 'garrison[aws]'",
        ) from error
    bounded = Config(
        connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries={"total_max_attempts": 2}
    )
    try:
        client = boto3.client("cloudhsmv2", config=bounded)
        found = client.describe_clusters(Filters={"clusterIds": [cluster_id]}, MaxResults=1)
        return _parsed(cluster_id, found)
    except (BotoCoreError, ClientError, ValueError) as error:
        raise Undecided(
            "KEY-CLUSTER",
            f"the state of {cluster_id} could not be read: {type(error).__name__}",
            fix="check region and credentials: aws cloudhsmv2 describe-clusters",
        ) from error


def require_active(cluster: Cluster) -> Cluster:
    """Raises `Refused` KEY-CLUSTER for one that is not ACTIVE, or lists modules of which none is."""
    if cluster.is_active and (cluster.active or not cluster.hsms):
        return cluster
    raise Refused(
        "KEY-CLUSTER",
        f"the cluster {cluster.cluster_id} is {cluster.state} with {cluster.active} of {cluster.hsms} "
        "modules active; no key is made in it",
        fix="bring it to ACTIVE with at least one module: aws cloudhsmv2 describe-clusters",
        evidence=cluster.as_json(),
    )


def _parsed(cluster_id: str, answer: Any) -> Cluster:
    rows = answer.get("Clusters") if isinstance(answer, dict) else None
    named = [row for row in rows or [] if isinstance(row, dict) and row.get("ClusterId") == cluster_id]
    if len(named) != 1:
        raise ValueError("the service does not list that cluster")
    modules = [row for row in list(named[0].get("Hsms") or [])[:MAX_HSMS] if isinstance(row, dict)]
    active = sum(row.get("State") == "ACTIVE" for row in modules)
    return Cluster(cluster_id, str(named[0].get("State", ""))[:40], active, len(modules))
