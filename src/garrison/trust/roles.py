"""Roles as data: what each one may do. The policy's permits are rendered from this table.

Duties are separate: who publishes does not deploy, who audits changes nothing, a service reads and asks
its own models only. `admin` may do everything that people do; the rules of the policy still bind it.
What stands in no row is denied, also for a name that does not exist yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from garrison.core.actions import Action

READS = frozenset(
    {
        Action.ARTIFACT_READ,
        Action.ARTIFACT_VERIFY,
        Action.DATASET_READ,
        Action.DATASET_VERIFY,
        Action.KEY_READ,
        Action.POSTURE_READ,
    }
)

PUBLISHES = READS | {
    Action.ARTIFACT_INGEST,
    Action.ARTIFACT_SCAN,
    Action.ARTIFACT_SIGN,
    Action.ARTIFACT_PUBLISH,
    Action.ARTIFACT_ATTACH,
    Action.ARTIFACT_IMPORT,
    Action.ARTIFACT_DRIFT,
    Action.WEBHOOK_RECEIVE,
    Action.DATASET_REGISTER,
}

ROLES: Mapping[str, frozenset[Action]] = MappingProxyType(
    {
        "admin": frozenset(Action) - {Action.ADMIN_RECOVER},  # for the owner of the host
        "ci": PUBLISHES,
        "engineer": PUBLISHES
        | {Action.ARTIFACT_PULL, Action.ARTIFACT_RETIRE, Action.AUDIT_READ, Action.REGISTRY_PUSH},
        "publisher": PUBLISHES | {Action.ARTIFACT_PULL, Action.ARTIFACT_RETIRE},
        "approver": READS
        | {Action.ARTIFACT_APPROVE, Action.ARTIFACT_UNAPPROVE, Action.ARTIFACT_PULL, Action.AUDIT_READ},
        "operator": READS
        | {
            Action.ADMISSION_DECIDE,
            Action.ALERT_CLOSE,
            Action.ARTIFACT_PULL,
            Action.ARTIFACT_UNAPPROVE,
            Action.AUDIT_READ,
            Action.AUDIT_VERIFY,
            Action.DEPLOY_APPLY,
            Action.DEPLOY_ROLLBACK,
            Action.DEPLOY_STOP,
            Action.CLOUD_CHECK,
            Action.EDGE_BUILD,
            Action.EDGE_FORWARD,
            Action.EDGE_IMPORT,
            Action.EDGE_RUN,
            Action.DETECT_WRITE,
            Action.DLP_WRITE,
            Action.GUARD_EXCEPT,
            Action.GUARD_WRITE,
            Action.GATEWAY_SELFTEST,
            Action.IMAGE_PIN,
            Action.LIMIT_WRITE,
            Action.MESH_CHECK,
            Action.REGISTRY_PUSH,
            Action.ROUTE_ADD,
            Action.ROUTE_REMOVE,
            Action.SCHEDULE_RUN,
            Action.RUNTIME_LOAD,
            Action.RUNTIME_PROBE,
            Action.STORE_READ,
        },
        "auditor": READS
        | {
            Action.ARTIFACT_DRIFT,
            Action.AUDIT_READ,
            Action.CLOUD_CHECK,
            Action.STORE_READ,
            Action.AUDIT_EXPORT,
            Action.AUDIT_VERIFY,
        },
        "admission": frozenset({Action.ADMISSION_DECIDE}),
        "user": frozenset({Action.MODEL_INVOKE, Action.TOKEN_EXCHANGE}),
        "serving": frozenset({Action.ARTIFACT_READ, Action.ARTIFACT_PULL, Action.ARTIFACT_VERIFY}),
        "service": frozenset(
            {
                Action.ARTIFACT_READ,
                Action.ARTIFACT_PULL,
                Action.ARTIFACT_VERIFY,
                Action.MODEL_INVOKE,
                Action.TOKEN_EXCHANGE,
            }
        ),
    }
)

FOR: Mapping[str, str] = MappingProxyType(
    {
        "admin": "sets the house up: people, owners, keys. Bound by every rule of the policy like the others",
        "ci": "the pipeline: publishes, and nothing else. Name its models when it has only some",
        "engineer": "a named person who publishes, pulls and withdraws versions, and reads what happened",
        "publisher": "the engineer without the ledger",
        "approver": "says yes to a version of somebody else",
        "operator": "deploys, rolls back, stops; adds and removes routes",
        "admission": "the listener that a cluster asks before anything starts: it decides, and does nothing else",
        "auditor": "reads and exports the evidence; changes nothing",
        "user": "asks models through the gateway",
        "serving": "a machine that loads models: reads the approved versions of the models it names",
        "service": "a program that asks the models it names, and reads them",
    }
)
"""What each role is for, in the words of docs/reference/roles.md."""

SERVICE_ROLES = frozenset({"service", "serving"})


def kind_of(roles: Iterable[str]) -> str:
    """`service` for an identity with a role of machines: it has no models but those that it names."""
    return "service" if SERVICE_ROLES & set(roles) else "user"


MODEL_SCOPED = frozenset(
    action
    for action in Action
    if action.value.startswith(("artifact.", "deploy.", "model.", "owner.", "route.", "image.", "registry."))
    or action in (Action.RUNTIME_LOAD, Action.TOKEN_EXCHANGE, Action.EDGE_BUILD)
)
"""Actions whose resource is a model: a token that is limited to models is limited in all of these."""


def roles_that_may(action: Action) -> tuple[str, ...]:
    return tuple(role for role, actions in ROLES.items() if action in actions)
