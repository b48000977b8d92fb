"""What a pod may not be: one function that reads a pod and names every rule it breaks, with the way to mend it.

The rules are the restricted Pod Security Standard and what it leaves out. Both the check of a manifest and
the admission of a pod ask them. Rule ids are forever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from garrison.core.finding import Finding, Severity
from garrison.runtime.kube.shapes import (
    PodShape,
    containers,
    digest_of,
    mapping,
    misshapen,
    sequence,
    shape,
    text,
)

VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
SANDBOXES = frozenset({"gvisor", "kata"})
_SECRET_NAME = re.compile(
    r"(?i)(?:^|_)(?:password|passwd|secret|token|credential|private_key|api_?key)s?(?:$|_)"
)
_FILES = re.compile(r"(?i)_(?:file|path|dir)$")  # names a file, holds no secret
_CLAIMS = ("cpu", "memory", "ephemeral-storage")


def judge_pod(pod: PodShape) -> Iterator[Finding]:
    """Every finding of one pod, in the order of its fields."""
    yield from misshapen(pod)
    yield from _host(pod)
    yield from _identity(pod)
    yield from _volumes(pod)
    context = mapping(pod.spec.get("securityContext"))
    yield from _pod_context(context, f"{pod.where}.securityContext")
    for kind, container, where in containers(pod):
        yield from _container(kind, container, where, context)


def _host(pod: PodShape) -> Iterator[Finding]:
    spec, where = pod.spec, pod.where
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field) not in (None, False):
            yield _bad(
                "host-namespace", f"{where}.{field}", "the pod shares the node's own", f"remove {field}"
            )
    if spec.get("shareProcessNamespace") not in (None, False):
        yield _bad(
            "share-process",
            f"{where}.shareProcessNamespace",
            "containers see each other's processes and memory",
            "remove shareProcessNamespace",
        )
    if spec.get("nodeName"):
        yield _bad("node-name", f"{where}.nodeName", "it goes round the scheduler", "remove nodeName")
    if spec.get("hostAliases"):
        yield _bad("host-aliases", f"{where}.hostAliases", "names lead elsewhere", "remove hostAliases")
    name = text(spec.get("runtimeClassName"))
    if name not in SANDBOXES:
        yield _bad(
            "runtime-class",
            f"{where}.runtimeClassName",
            f"{name[:63]!a} is no sandbox: the pod would share the node's kernel",
            "set runtimeClassName: gvisor, or kata",
        )


def _identity(pod: PodShape) -> Iterator[Finding]:
    spec, where = pod.spec, pod.where
    if spec.get("automountServiceAccountToken") is not False:
        yield _bad(
            "account-token",
            f"{where}.automountServiceAccountToken",
            "a token for the cluster's API lies in the pod",
            "set automountServiceAccountToken: false",
        )
    if text(spec.get("serviceAccountName")) in ("", "default"):
        yield _bad(
            "account",
            f"{where}.serviceAccountName",
            "the pod has no account of its own",
            "name a ServiceAccount that only this model uses",
        )
    if spec.get("enableServiceLinks") is not False:
        yield _bad(
            "service-links",
            f"{where}.enableServiceLinks",
            "every service of the namespace stands in the environment",
            "set enableServiceLinks: false",
        )
    for name, value in mapping(pod.metadata.get("annotations")).items():
        if name.startswith(("container.apparmor.security", "seccomp.security")) and "unconfined" in str(
            value
        ):
            yield _bad("unconfined", f"{where}: annotation {name[:80]}", "it takes a filter off", "remove it")


def _volumes(pod: PodShape) -> Iterator[Finding]:
    for index, given in enumerate(sequence(pod.spec.get("volumes"))):
        volume, where = mapping(given), f"{pod.where}.volumes[{index}]"
        kinds = set(volume) - {"name"}
        if len(kinds) != 1 or not kinds <= VOLUMES:
            named = ", ".join(sorted(map(str, kinds)))[:60] or "none"
            yield _bad(
                "volume",
                where,
                f"a volume of kind {named} is not one of the restricted standard",
                f"use one of {', '.join(sorted(VOLUMES))}",
            )
            continue
        if "emptyDir" in volume and not mapping(volume["emptyDir"]).get("sizeLimit"):
            yield _bad("volume-size", f"{where}.emptyDir", "it may fill the node", "set sizeLimit")
        if "image" in volume and not digest_of(mapping(volume["image"]).get("reference")):
            yield _bad("image-digest", f"{where}.image.reference", "no digest", "name it by @sha256:...")
        sources = sequence(mapping(volume.get("projected")).get("sources"))
        if any("serviceAccountToken" in mapping(source) for source in sources):
            yield _bad(
                "account-token",
                f"{where}.projected",
                "a token of the account lies in the pod",
                "remove serviceAccountToken",
            )


def _pod_context(context: Mapping[str, Any], where: str) -> Iterator[Finding]:
    if context.get("sysctls"):
        yield _bad("sysctls", f"{where}.sysctls", "kernel settings are changed", "remove sysctls")
    yield from _filters(context, where)


def _filters(context: Mapping[str, Any], where: str) -> Iterator[Finding]:
    if text(mapping(context.get("appArmorProfile")).get("type")) == "Unconfined":
        yield _bad("unconfined", f"{where}.appArmorProfile", "AppArmor is off", "remove appArmorProfile")
    linux = mapping(context.get("seLinuxOptions"))
    if linux.get("user") or linux.get("role"):
        yield _bad("se-linux", f"{where}.seLinuxOptions", "SELinux is set by hand", "remove user and role")
    if context.get("windowsOptions"):
        yield _bad("host-process", f"{where}.windowsOptions", "a host process", "remove windowsOptions")


def _container(
    kind: str, container: Mapping[str, Any], where: str, pod_context: Mapping[str, Any]
) -> Iterator[Finding]:
    if not digest_of(container.get("image")):
        shown = text(container.get("image"))[:80]
        yield _bad(
            "image-digest",
            f"{where}.image",
            f"{shown!a} names no digest: a tag means other bytes tomorrow",
            "name the image by its digest: REPOSITORY@sha256:<64 hex digits>",
        )
    if text(container.get("imagePullPolicy")) != "Always":
        yield _bad(
            "pull-policy",
            f"{where}.imagePullPolicy",
            "an image that lies on the node is used without asking who may",
            "set imagePullPolicy: Always",
        )
    yield from _privileges(container, where, pod_context)
    yield from _doors(kind, container, where)
    yield from _environment(container, where)
    if kind != "ephemeralContainers":
        yield from _resources(container, where)


def _privileges(
    container: Mapping[str, Any], where: str, pod_context: Mapping[str, Any]
) -> Iterator[Finding]:
    given = container.get("securityContext")
    if given is not None and not isinstance(given, dict):
        yield shape(f"{where}.securityContext", "is not an object")
    context, place = mapping(given), f"{where}.securityContext"
    if context.get("privileged") not in (None, False):
        yield _bad("privileged", f"{place}.privileged", "the container is root on the node", "remove it")
    if context.get("allowPrivilegeEscalation") is not False:
        yield _bad(
            "escalation",
            f"{place}.allowPrivilegeEscalation",
            "a program may gain rights",
            "set allowPrivilegeEscalation: false",
        )
    if context.get("readOnlyRootFilesystem") is not True:
        yield _bad(
            "read-only-root",
            f"{place}.readOnlyRootFilesystem",
            "the container can write over its own programs",
            "set readOnlyRootFilesystem: true",
        )
    abilities = mapping(context.get("capabilities"))
    if "ALL" not in sequence(abilities.get("drop")) or abilities.get("add"):
        yield _bad(
            "capabilities",
            f"{place}.capabilities",
            "rights of root are kept",
            "set capabilities: {drop: [ALL]} and add none",
        )
    if text(context.get("procMount")) not in ("", "Default"):
        yield _bad("proc-mount", f"{place}.procMount", "/proc is unmasked", "remove procMount")
    # A container's own word beats the pod's, so one that is silent takes the pod's.
    merged = {**pod_context, **context}
    user = merged.get("runAsUser")
    if merged.get("runAsNonRoot") is not True or (user is not None and (type(user) is not int or user <= 0)):
        yield _bad(
            "run-as-root",
            f"{place}.runAsNonRoot",
            "it may run as root",
            "set runAsNonRoot: true and a runAsUser above 0",
        )
    profile = text(mapping(merged.get("seccompProfile")).get("type"))
    if profile not in ("RuntimeDefault", "Localhost"):
        yield _bad(
            "seccomp",
            f"{place}.seccompProfile",
            "no filter of system calls",
            "set seccompProfile: {type: RuntimeDefault}",
        )
    yield from _filters(context, place)


def _doors(kind: str, container: Mapping[str, Any], where: str) -> Iterator[Finding]:
    for index, port in enumerate(sequence(container.get("ports"))):
        if mapping(port).get("hostPort"):
            yield _bad(
                "host-port", f"{where}.ports[{index}].hostPort", "a port of the node", "remove hostPort"
            )
    for field in ("stdin", "tty"):
        if container.get(field) not in (None, False):
            yield _bad("terminal", f"{where}.{field}", "a terminal waits for somebody", f"remove {field}")
    if container.get("volumeDevices"):
        yield _bad("volume-device", f"{where}.volumeDevices", "a raw device", "remove volumeDevices")
    if container.get("lifecycle"):
        yield _bad(
            "hook",
            f"{where}.lifecycle",
            "a hook runs another program than the one that was approved",
            "remove lifecycle",
        )
    for index, mount in enumerate(sequence(container.get("volumeMounts"))):
        if text(mapping(mount).get("mountPropagation")) not in ("", "None"):
            yield _bad(
                "mount-propagation",
                f"{where}.volumeMounts[{index}].mountPropagation",
                "mounts reach the node",
                "remove mountPropagation",
            )
    for field in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = mapping(container.get(field))
        if "exec" in probe:
            yield _bad(
                "probe-exec",
                f"{where}.{field}.exec",
                "a probe that runs a program is another way to start one",
                "probe by httpGet, tcpSocket or grpc",
            )
        if kind == "containers" and field != "startupProbe" and not probe:
            yield _bad("probe", f"{where}.{field}", "nobody asks whether it works", f"add a {field}")


def _environment(container: Mapping[str, Any], where: str) -> Iterator[Finding]:
    for index, given in enumerate(sequence(container.get("env"))):
        entry = mapping(given)
        name = text(entry.get("name"))
        is_secret = bool(entry.get("value")) and _SECRET_NAME.search(name) and not _FILES.search(name)
        if "secretKeyRef" in mapping(entry.get("valueFrom")) or is_secret:
            yield _bad(
                "env-secret",
                f"{where}.env[{index}]",
                f"{name[:60]!a} puts a secret into the environment, where every child and crash dump has it",
                "mount it as a file",
            )
        if name in ("LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "LD_AUDIT"):
            yield _bad("env-loader", f"{where}.env[{index}]", f"{name} runs other code first", "remove it")
    for index, source in enumerate(sequence(container.get("envFrom"))):
        if "secretRef" in mapping(source):
            yield _bad(
                "env-secret", f"{where}.envFrom[{index}]", "a secret as environment", "mount it as a file"
            )


def _resources(container: Mapping[str, Any], where: str) -> Iterator[Finding]:
    given = mapping(container.get("resources"))
    for part in ("requests", "limits"):
        missing = [name for name in _CLAIMS if not mapping(given.get(part)).get(name)]
        if missing:
            yield _bad(
                "resources",
                f"{where}.resources.{part}",
                f"no bound for {', '.join(missing)}: one model may starve the others",
                f"set {part} for {', '.join(missing)}",
            )


def _bad(rule: str, where: str, why: str, fix: str) -> Finding:
    return Finding(f"k8s.{rule}", Severity.HIGH, why, where, fix)
