"""Every verb that the control API knows, by name. The command line calls these and nothing else."""

from __future__ import annotations

from garrison.app.verbs.alerts import ALERT_VERBS
from garrison.app.verbs.approval import APPROVAL_VERBS
from garrison.app.verbs.attachments import ATTACHMENT_VERBS
from garrison.app.verbs.base import Verb
from garrison.app.verbs.cloud import CLOUD_VERBS
from garrison.app.verbs.cluster import CLUSTER_VERBS
from garrison.app.verbs.credentials import CREDENTIAL_VERBS
from garrison.app.verbs.datasets import DATASET_VERBS
from garrison.app.verbs.deployment import DEPLOYMENT_VERBS
from garrison.app.verbs.dlp import DLP_VERBS
from garrison.app.verbs.dlp_rules import RULE_VERBS
from garrison.app.verbs.edge import EDGE_VERBS
from garrison.app.verbs.guard import GUARD_VERBS
from garrison.app.verbs.guard_routes import GUARD_ROUTE_VERBS
from garrison.app.verbs.guard_tier2 import GUARD_TIER2_VERBS
from garrison.app.verbs.identity import IDENTITY_VERBS
from garrison.app.verbs.images import IMAGE_VERBS
from garrison.app.verbs.imports import IMPORT_VERBS
from garrison.app.verbs.issuer import ISSUER_VERBS
from garrison.app.verbs.keys import KEY_VERBS
from garrison.app.verbs.limits import LIMIT_VERBS
from garrison.app.verbs.owner import OWNER_VERBS
from garrison.app.verbs.packs import PACK_VERBS
from garrison.app.verbs.proxies import PROXY_VERBS
from garrison.app.verbs.recovery import RECOVERY_VERBS
from garrison.app.verbs.registry import REGISTRY_VERBS
from garrison.app.verbs.routes import ROUTE_VERBS
from garrison.app.verbs.runtime import RUNTIME_VERBS
from garrison.app.verbs.schedule import SCHEDULE_VERBS
from garrison.app.verbs.selfcheck import SELFCHECK_VERBS
from garrison.app.verbs.sinks import SINK_VERBS
from garrison.app.verbs.store import STORE_VERBS
from garrison.app.verbs.versions import VERSION_VERBS

VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        *REGISTRY_VERBS,
        *ATTACHMENT_VERBS,
        *DATASET_VERBS,
        *APPROVAL_VERBS,
        *DEPLOYMENT_VERBS,
        *ROUTE_VERBS,
        *IDENTITY_VERBS,
        *RECOVERY_VERBS,
        *IMPORT_VERBS,
        *CLOUD_VERBS,
        *CREDENTIAL_VERBS,
        *ISSUER_VERBS,
        *SELFCHECK_VERBS,
        *KEY_VERBS,
        *DLP_VERBS,
        *RULE_VERBS,
        *PACK_VERBS,
        *EDGE_VERBS,
        *GUARD_VERBS,
        *GUARD_ROUTE_VERBS,
        *GUARD_TIER2_VERBS,
        *LIMIT_VERBS,
        *ALERT_VERBS,
        *OWNER_VERBS,
        *PROXY_VERBS,
        *RUNTIME_VERBS,
        *SINK_VERBS,
        *STORE_VERBS,
        *VERSION_VERBS,
        *IMAGE_VERBS,
        *CLUSTER_VERBS,
        *SCHEDULE_VERBS,
    )
}
