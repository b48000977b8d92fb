"""The catalogue of actions: everything Garrison does that leaves a trace.

The same string is the permission, the policy action, the event name, the metric label and the heading
in `docs/reference/actions.md`. Adding a line here makes the documentation test fail until it is described.
"""

from __future__ import annotations

from enum import StrEnum


class Action(StrEnum):
    """`<resource>.<verb>`. The comment of each member is its description in the reference."""

    ARTIFACT_INGEST = "artifact.ingest"
    ARTIFACT_SCAN = "artifact.scan"
    ARTIFACT_SIGN = "artifact.sign"
    ARTIFACT_PUBLISH = "artifact.publish"
    ARTIFACT_APPROVE = "artifact.approve"
    ARTIFACT_UNAPPROVE = "artifact.unapprove"
    ARTIFACT_VERIFY = "artifact.verify"
    ARTIFACT_READ = "artifact.read"
    ARTIFACT_ATTACH = "artifact.attach"
    ARTIFACT_PULL = "artifact.pull"
    ARTIFACT_RESIGN = "artifact.resign"
    ARTIFACT_RETIRE = "artifact.retire"
    ARTIFACT_IMPORT = "artifact.import"
    ARTIFACT_DRIFT = "artifact.drift"
    WEBHOOK_RECEIVE = "webhook.receive"
    DATASET_REGISTER = "dataset.register"
    DATASET_READ = "dataset.read"
    DATASET_VERIFY = "dataset.verify"
    APPROVALS_PUBLISH = "approvals.publish"
    APPROVALS_RESET = "approvals.reset"
    ENVIRONMENT_ADD = "environment.add"
    STORE_READ = "store.read"
    STORE_WRITE = "store.write"
    DEPLOY_APPLY = "deploy.apply"
    DEPLOY_ROLLBACK = "deploy.rollback"
    DEPLOY_STOP = "deploy.stop"
    RUNTIME_LOAD = "runtime.load"
    RUNTIME_CRASH = "runtime.crash"
    RUNTIME_CALL = "runtime.call"
    RUNTIME_PROBE = "runtime.probe"
    EDGE_SITE = "edge.site"
    EDGE_BUILD = "edge.build"
    EDGE_IMPORT = "edge.import"
    EDGE_EVENT = "edge.event"
    EDGE_ENROL = "edge.enrol"
    EDGE_RUN = "edge.run"
    EDGE_FORWARD = "edge.forward"
    CLOUD_CHECK = "cloud.check"
    ROUTE_ADD = "route.add"
    ROUTE_REMOVE = "route.remove"
    LIMIT_WRITE = "limit.write"
    DLP_WRITE = "dlp.write"
    GUARD_EXCEPT = "guard.except"
    GUARD_WRITE = "guard.write"
    ALERT_RAISE = "alert.raise"
    ALERT_CLOSE = "alert.close"
    DETECT_WRITE = "detect.write"
    ISSUER_WRITE = "issuer.write"
    ISSUER_REFRESH = "issuer.refresh"
    PROXY_WRITE = "proxy.write"
    MODEL_INVOKE = "model.invoke"
    TOKEN_ISSUE = "token.issue"
    APIKEY_ISSUE = "apikey.issue"
    TOKEN_REVOKE = "token.revoke"
    CERT_ISSUE = "certificate.issue"
    TOKEN_EXCHANGE = "token.exchange"
    GATEWAY_SELFTEST = "gateway.selftest"
    MESH_CHECK = "mesh.check"
    KEY_CREATE = "key.create"
    KEY_READ = "key.read"
    KEY_ADD = "key.add"
    KEY_ROTATE = "key.rotate"
    KEY_REVOKE = "key.revoke"
    USER_WRITE = "user.write"
    ADMIN_RECOVER = "admin.recover"
    OWNER_WRITE = "owner.write"
    OWNER_ESCALATE = "owner.escalate"
    REGISTRY_PUSH = "registry.push"
    IMAGE_PIN = "image.pin"
    ADMISSION_DECIDE = "admission.decide"
    SCHEDULE_RUN = "schedule.run"
    AUDIT_READ = "audit.read"
    AUDIT_EXPORT = "audit.export"
    AUDIT_VERIFY = "audit.verify"
    SINK_WRITE = "sink.write"
    SINK_DELIVER = "sink.deliver"
    POSTURE_READ = "posture.read"
    SYSTEM_START = "system.start"
    SYSTEM_STOP = "system.stop"
    SYSTEM_REPAIR = "system.repair"
    SNAPSHOT_PUBLISH = "snapshot.publish"


DESCRIPTIONS: dict[Action, str] = {
    Action.ARTIFACT_INGEST: "bytes were copied into the content-addressed store and hashed on the way",
    Action.ARTIFACT_SCAN: "scanners judged every file of an artifact: clean, refused or incomplete",
    Action.ARTIFACT_SIGN: "a key in a PKCS#11 token signed a manifest and its release statement",
    Action.ARTIFACT_PUBLISH: "a name@version became immutable and visible in the registry",
    Action.ARTIFACT_APPROVE: "a person approved a version, bound to its digest and the policy version",
    Action.ARTIFACT_UNAPPROVE: "a version was taken off the approved list, with the reason",
    Action.ARTIFACT_VERIFY: "signatures, manifest, name and approval of a version were checked",
    Action.ARTIFACT_READ: "versions in the registry were listed or shown",
    Action.ARTIFACT_ATTACH: "a signed statement about a version was stored beside it: provenance, materials, a report",
    Action.ARTIFACT_PULL: "a verified copy of a version was written to a directory",
    Action.ARTIFACT_RESIGN: "the same bytes of a version were signed anew by the key in force",
    Action.ARTIFACT_IMPORT: "what another registry holds of a version was read, hashed and remembered",
    Action.ARTIFACT_DRIFT: "an imported version was compared with its source again",
    Action.WEBHOOK_RECEIVE: "a webhook of another registry was taken once, or turned away",
    Action.ARTIFACT_RETIRE: "a version was withdrawn; it will not load any more",
    Action.DATASET_REGISTER: "a data set was hashed, scanned, signed and entered under a name@version",
    Action.DATASET_READ: "data sets were listed or shown",
    Action.DATASET_VERIFY: "the files of a data set were compared with what was signed",
    Action.APPROVALS_PUBLISH: "the approved list was signed anew: a change, or its age alone",
    Action.APPROVALS_RESET: "the approved list was begun anew with nothing approved, with the reason",
    Action.ENVIRONMENT_ADD: "an environment with an approved list of its own was added",
    Action.STORE_READ: "the store of model files was checked: its bucket, or every object in it",
    Action.STORE_WRITE: "the store of model files was encrypted, or its wrapping key changed",
    Action.DEPLOY_APPLY: "a version was asked to become the serving version of its name",
    Action.DEPLOY_ROLLBACK: "the previous approved version of a name was put back",
    Action.DEPLOY_STOP: "a served model was taken out of service",
    Action.RUNTIME_LOAD: "verified bytes were handed to a model server in its sandbox",
    Action.RUNTIME_CRASH: "a model server ended, hung or ran out of memory and was dealt with",
    Action.RUNTIME_CALL: "a model server was refused a system call that its kind of server does not make",
    Action.RUNTIME_PROBE: "escape attempts were made inside a sandbox and counted",
    Action.EDGE_SITE: "a device elsewhere was entered, got another key, or was taken out",
    Action.EDGE_BUILD: "a bundle was sealed and signed for one device, or a notice of what is withdrawn",
    Action.EDGE_IMPORT: "the events of a device came home, each once, as the next part of its ledger",
    Action.EDGE_EVENT: "an event that a device recorded, word for word",
    Action.EDGE_ENROL: "this installation became a device: its key was made, and whom it believes was set",
    Action.EDGE_RUN: "a bundle was judged on a device: served, noted, turned away, or ended when it was stale",
    Action.EDGE_FORWARD: "the ledger of a device was written to a file that is carried home",
    Action.CLOUD_CHECK: "models and endpoints of a cloud service were compared with the registry",
    Action.ROUTE_ADD: "a model that something else serves was put behind the gateway",
    Action.ROUTE_REMOVE: "a route to a model that something else serves was taken away",
    Action.DLP_WRITE: "a pattern or a set of fingerprinted documents was added or taken away",
    Action.GUARD_WRITE: "how a route judges orders to the model, or who is asked in doubt, was changed",
    Action.GUARD_EXCEPT: "a rule was excepted for a model until a date, with who answers for it, or no longer",
    Action.ALERT_RAISE: "unusual use was noticed; the event says whose, why, and what was done about it",
    Action.ALERT_CLOSE: "an alert was taken on, released or closed, with who answers for it and why",
    Action.DETECT_WRITE: "what unusual use leads to was changed, or a network was given a name",
    Action.LIMIT_WRITE: "a limit on use, or the price of a model, was set or taken away",
    Action.ISSUER_WRITE: "another issuer of tokens was trusted, or is not any more",
    Action.ISSUER_REFRESH: "the keys of an issuer changed, or could not be fetched",
    Action.PROXY_WRITE: "a proxy in front of the gateway was trusted to say who calls, or is not any more",
    Action.MODEL_INVOKE: "a request for a model reached the gateway; exactly one event each",
    Action.TOKEN_ISSUE: "a short-lived access token was signed",
    Action.TOKEN_REVOKE: "a token or every token of a subject stopped being accepted",
    Action.APIKEY_ISSUE: "a short-lived API key was made for a client that cannot fetch tokens",
    Action.CERT_ISSUE: "a client certificate was issued to a workload",
    Action.TOKEN_EXCHANGE: "an agent got a token to act for somebody, with the rights that both have",
    Action.GATEWAY_SELFTEST: "the gateway was asked for everything without a token",
    Action.MESH_CHECK: "bad certificates were shown at every hop between services",
    Action.KEY_CREATE: "a key pair was generated inside the token",
    Action.KEY_ADD: "a token of its own was added, with a key in it",
    Action.KEY_ROTATE: "another key signs from now on; the one before it only verifies",
    Action.KEY_REVOKE: "a key was revoked: what it signed after a moment stopped counting",
    Action.KEY_READ: "public keys and key states were listed",
    Action.USER_WRITE: "an identity was added, changed, disabled or given a role",
    Action.ADMIN_RECOVER: "somebody was made administrator from the host, for a short time",
    Action.OWNER_WRITE: "a named owner was set for a model",
    Action.OWNER_ESCALATE: "whoever answered for a model left; the event names who has to name another",
    Action.REGISTRY_PUSH: "a version was written to an OCI registry, signatures beside it",
    Action.IMAGE_PIN: "a name was tied to the digest of a signed container image",
    Action.ADMISSION_DECIDE: "an object was let into a cluster or kept out, with every reason",
    Action.SCHEDULE_RUN: "a periodic job ended, or could not do its work",
    Action.AUDIT_READ: "events were read",
    Action.AUDIT_EXPORT: "events were exported",
    Action.AUDIT_VERIFY: "the ledger was checked against its signed checkpoints",
    Action.SINK_WRITE: "a receiver of events was added, taken away, or told where to go on",
    Action.SINK_DELIVER: "a receiver stopped taking events, or takes them again",
    Action.POSTURE_READ: "the state of the five layers was computed and read",
    Action.SYSTEM_START: "the server started",
    Action.SYSTEM_STOP: "the server drained and stopped",
    Action.SYSTEM_REPAIR: "something half-done was found at start and put right",
    Action.SNAPSHOT_PUBLISH: "a signed configuration snapshot was handed to the gateway workers",
}
