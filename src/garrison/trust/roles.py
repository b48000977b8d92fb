"""Roles as data: what each one may do. The policy's permits are rendered from this table.

Duties are separate: who publishes does not deploy, who audits changes nothing, a service reads and asks
its own models only. `admin` may do everything that people do; the rules of the policy still bind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from garrison.core.actions import Action

READS = frozenset(
    {
        Action.ARTIFACT_READ,
        Action.ARTIFACT_VERIFY,
        Action.KEY_READ,
        Action.POSTURE_READ,
    }
)

ROLES: Mapping[str, frozenset[Action]] = MappingProxyType(
    {
        "admin": frozenset(Action),
        "publisher": READS
        | {
            Action.ARTIFACT_INGEST,
            Action.ARTIFACT_SCAN,
            Action.ARTIFACT_SIGN,
            Action.ARTIFACT_PUBLISH,
            Action.ARTIFACT_PULL,
            Action.ARTIFACT_RETIRE,
        },
        "approver": READS | {Action.ARTIFACT_APPROVE, Action.ARTIFACT_PULL, Action.AUDIT_READ},
        "operator": READS
        | {
            Action.ARTIFACT_PULL,
            Action.AUDIT_READ,
            Action.AUDIT_VERIFY,
            Action.DEPLOY_APPLY,
            Action.DEPLOY_ROLLBACK,
            Action.DEPLOY_STOP,
            Action.ROUTE_ADD,
            Action.RUNTIME_LOAD,
            Action.RUNTIME_PROBE,
        },
        "auditor": READS | {Action.AUDIT_READ, Action.AUDIT_EXPORT, Action.AUDIT_VERIFY},
        "user": frozenset({Action.MODEL_INVOKE}),
        "service": frozenset(
            {Action.ARTIFACT_READ, Action.ARTIFACT_PULL, Action.ARTIFACT_VERIFY, Action.MODEL_INVOKE}
        ),
    }
)

MODEL_SCOPED = frozenset(
    action
    for action in Action
    if action.value.startswith(("artifact.", "deploy.", "model.", "owner.", "route."))
    or action is Action.RUNTIME_LOAD
)
"""Actions whose resource is a model: a token that is limited to models is limited in all of these."""


def roles_that_may(action: Action) -> tuple[str, ...]:
    return tuple(role for role, actions in ROLES.items() if action in actions)
