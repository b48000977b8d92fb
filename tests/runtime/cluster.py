"""A pod that may enter, and every way that we know to bring in one that may not."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from garrison.core.decision import Tier
from garrison.core.digest import Ref
from garrison.core.errors import Refused
from garrison.runtime.kube.admission import Approved, Known
from garrison.runtime.kube.manifests import Plan, render
from garrison.runtime.kube.words import LAUNCHER

Object = dict[str, Any]
REF = Ref("fraud", 3)
OLDER = Ref("fraud", 2)  # approved before it, and still
DIGEST, OLDER_DIGEST = "sha256:" + "a" * 64, "sha256:" + "e" * 64
IMAGE, OTHER, UNKNOWN = ("sha256:" + one * 64 for one in "bcd")
HOME = "models-internal"
UID = "705ab4f5-6393-11e8-b7cc-42010a800002"


def plan(**changes: Any) -> Plan:
    wanted: dict[str, Any] = {
        "ref": REF,
        "digest": DIGEST,
        "tier": Tier.INTERNAL,
        "owner": "dana",
        "size": 100 << 20,
        "image": f"registry.example/garrison@{IMAGE}",
        "source": f"oci://registry.example/models/fraud@{OTHER}",
        "trust": {"trust.json": "{}", "environment": "production"},
    }
    return Plan(**(wanted | changes))


def known(**changes: Any) -> Known:
    """A registry with fraud@3 approved and two pinned images."""

    def version(ref: Ref) -> Approved:
        if ref == REF:
            return Approved(REF, DIGEST, Tier.INTERNAL, "key", 5)
        if ref == Ref("health", 1):
            return Approved(ref, DIGEST, Tier.HEALTH, "key", 6)
        if ref == OLDER:
            return Approved(ref, OLDER_DIGEST, Tier.INTERNAL, "key", 4)
        raise Refused("ART-UNKNOWN", f"there is no {ref} in the registry", fix="garrison model list")

    names = {IMAGE: LAUNCHER, OTHER: "vllm"}
    wanted: dict[str, Any] = {"image": lambda digest: names.get(digest, ""), "version": version}
    return Known(**(wanted | changes))


def deployment(made: Plan | None = None) -> Object:
    found: Object = plain(next(one for one in render(made or plan()) if one["kind"] == "Deployment"))
    return found


def pod(made: Plan | None = None) -> Object:
    template = deployment(made)["spec"]["template"]
    metadata = {"name": "fraud-v3-x", "namespace": HOME, **template["metadata"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def plain(value: Any) -> Any:
    """As it is once it was JSON."""
    return json.loads(json.dumps(value))


def review(document: Object, **changes: Any) -> Object:
    group, _, version = document["apiVersion"].rpartition("/")
    request = {
        "uid": UID,
        "kind": {"group": group, "version": version, "kind": document["kind"]},
        "operation": "CREATE",
        "namespace": document.get("metadata", {}).get("namespace", ""),
        "name": document.get("metadata", {}).get("name", ""),
        "userInfo": {"username": "mallory"},
        "dryRun": False,
        "object": document,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request | changes}


@dataclass(frozen=True)
class Bypass:
    """`made` gives the review; `code` is the first reason that it is owed."""

    name: str
    made: Callable[[Object], Object]
    code: str


def _in_pod(name: str, code: str, change: Callable[[Object], Any]) -> Bypass:
    def made(good: Object) -> Object:
        wanted = copy.deepcopy(good)
        change(wanted)
        return review(wanted)

    return Bypass(name, made, code)


def _spec(name: str, code: str = "ADM-POD", /, **fields: Any) -> Bypass:
    return _in_pod(name, code, lambda good: good["spec"].update(fields))


def _server(name: str, code: str, /, **fields: Any) -> Bypass:
    return _in_pod(name, code, lambda good: good["spec"]["containers"][0].update(fields))


def _context(name: str, /, **fields: Any) -> Bypass:
    return _in_pod(
        name, "ADM-POD", lambda good: good["spec"]["containers"][0]["securityContext"].update(fields)
    )


def _added(name: str, code: str, where: str, image: str = f"x@{UNKNOWN}", /, **fields: Any) -> Bypass:
    """A copy of the launcher's container, with another image and name."""

    def change(good: Object) -> None:
        made = copy.deepcopy(good["spec"]["containers"][0]) | {"name": "y", "image": image} | fields
        good["spec"].setdefault(where, []).append(made)

    return _in_pod(name, code, change)


def _notes(name: str, code: str, **notes: str | None) -> Bypass:
    def change(good: Object) -> None:
        for key, value in notes.items():
            full = f"garrison.dev/{key}"
            if value is None:
                del good["metadata"]["annotations"][full]
            else:
                good["metadata"]["annotations"][full] = value

    return _in_pod(name, code, change)


def _argument(name: str, option: str, value: str) -> Bypass:
    def change(good: Object) -> None:
        args = good["spec"]["containers"][0]["args"]
        args[args.index(option) + 1] = value

    return _in_pod(name, "ADM-LAUNCHER", change)


def _wrapped(kind: str, version: str, *way: str) -> Bypass:
    """The same pod with an unknown image, brought in by whatever starts pods."""

    def made(good: Object) -> Object:
        template = {"metadata": good["metadata"], "spec": copy.deepcopy(good["spec"])}
        template["spec"]["containers"][0]["image"] = f"registry.example/garrison@{UNKNOWN}"
        inside: Any = template
        for step in reversed(way):
            inside = {step: inside}
        metadata = {"name": "x", "namespace": HOME}
        return review({"apiVersion": version, "kind": kind, "metadata": metadata, **inside})

    return Bypass(f"{kind} with an unknown image", made, "ADM-IMAGE")


def _inference(good: Object) -> Object:
    spec = {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://evil/model"}}}
    metadata = {"name": "x", "namespace": HOME, "annotations": good["metadata"]["annotations"]}
    made = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService"}
    return review({**made, "metadata": metadata, "spec": spec})


def _hidden_transformer(good: Object) -> Object:
    evil = copy.deepcopy(good["spec"])
    evil["containers"][0]["image"] = f"x@{UNKNOWN}"
    metadata = {"name": "x", "namespace": HOME, "annotations": good["metadata"]["annotations"]}
    made = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService"}
    return review({**made, "metadata": metadata, "spec": {"predictor": good["spec"], "transformer": evil}})


def _update(good: Object) -> Object:
    new = copy.deepcopy(good)
    new["spec"]["containers"][0]["image"] = f"registry.example/garrison@{UNKNOWN}"
    return review(new, operation="UPDATE", oldObject=good)


def _relabelled(good: Object) -> Object:
    new = copy.deepcopy(good)
    new["metadata"]["annotations"]["garrison.dev/model"] = "other@1"
    return review(new, operation="UPDATE", oldObject=good)


def _ephemeral(good: Object) -> Object:
    new = copy.deepcopy(good)
    new["spec"]["ephemeralContainers"] = [{"name": "debug", "image": f"x@{IMAGE}"}]
    return review(new, operation="UPDATE", oldObject=good, subResource="ephemeralcontainers")


def _status(good: Object) -> Object:
    new = copy.deepcopy(good)
    new["spec"]["containers"][0]["image"] = f"x@{UNKNOWN}"
    return review(new, operation="UPDATE", oldObject=good, subResource="status")


def _connect(kind: str, subresource: str) -> Bypass:
    def made(_good: Object) -> Object:
        document = {"apiVersion": "v1", "kind": kind, "command": ["sh"], "metadata": {"namespace": HOME}}
        return review(document, operation="CONNECT", subResource=subresource, namespace=HOME, name="fraud")

    return Bypass(f"connect: {subresource}", made, "ADM-CONNECT")


def _namespace(labels: dict[str, str]) -> Callable[[Object], Object]:
    metadata = {"name": "models-health", "labels": labels}
    return lambda _good: review({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})


def _elsewhere(good: Object) -> Object:
    wanted = copy.deepcopy(good)
    wanted["metadata"]["namespace"] = "somewhere"
    return review(wanted)


def _lowered(good: Object) -> Object:
    wanted = copy.deepcopy(good)
    wanted["metadata"]["namespace"] = "models-public"
    return review(wanted)


def _changed_review(name: str, /, **changes: Any) -> Bypass:
    return Bypass(name, lambda good: review(good, **changes), "ADM-REVIEW")


def _whole(name: str, /, **changes: Any) -> Bypass:
    return Bypass(name, lambda good: review(good) | changes, "ADM-REVIEW")


def _mounted(path: str) -> Callable[[Object], None]:
    def change(good: Object) -> None:
        good["spec"]["volumes"].append({"name": "z", "configMap": {"name": "z"}})
        good["spec"]["containers"][0]["volumeMounts"].append({"name": "z", "mountPath": path})

    return change


def _duplicated_option(good: Object) -> None:
    good["spec"]["containers"][0]["args"] += ["--digest", "sha256:" + "e" * 64]


BYPASSES: tuple[Bypass, ...] = (
    # What it says of itself
    _notes("no model named", "ADM-MODEL", model=None),
    _notes("a model that nobody published", "ART-UNKNOWN", model="ghost@1"),
    _notes("a name that is none", "REF-SYNTAX", model="fraud@3\n- x: y"),
    _notes("no digest", "ADM-MODEL", digest=None),
    _notes("another digest", "ADM-MODEL", digest="sha256:" + "e" * 64),
    _notes("a digest in capitals", "ADM-MODEL", digest=DIGEST.upper()),
    # Images: by digest, whatever the container is called
    _server("a tag", "ADM-POD", image="registry.example/garrison:v3"),
    _server("a tag and an unknown digest", "ADM-IMAGE", image=f"registry.example/garrison:v3@{UNKNOWN}"),
    _server("an unknown digest", "ADM-IMAGE", image=f"registry.example/garrison@{UNKNOWN}"),
    _server("a digest in the name", "ADM-POD", image=f"registry.example/{IMAGE}"),
    _server("two digests", "ADM-POD", image=f"x@{UNKNOWN}@{IMAGE}"),
    _server("a short digest", "ADM-POD", image="registry.example/garrison@sha256:bbbb"),
    _server("another algorithm", "ADM-POD", image="registry.example/garrison@sha512:" + "b" * 128),
    _server("a line break after the digest", "ADM-POD", image=f"registry.example/garrison@{IMAGE}\n"),
    _server("no image", "ADM-POD", image=None),
    _added("a second container", "ADM-IMAGE", "containers"),
    _added("an init container called fetch", "ADM-IMAGE", "initContainers", name="fetch"),
    _added(
        "an init container called model-validation", "ADM-IMAGE", "initContainers", name="model-validation"
    ),
    _added("a sidecar that stays", "ADM-IMAGE", "initContainers", restartPolicy="Always"),
    _added("an ephemeral container at creation", "ADM-EPHEMERAL", "ephemeralContainers", f"x@{IMAGE}"),
    _spec("an image as a volume", "ADM-POD", volumes=[{"name": "m", "image": {"reference": "x:latest"}}]),
    _in_pod(
        "an image volume by digest",
        "ADM-IMAGE",
        lambda good: good["spec"]["volumes"].append({"name": "m", "image": {"reference": f"x@{OTHER}"}}),
    ),
    # The launcher, started as something else
    _server("a shell", "ADM-LAUNCHER", command=["sh", "-c", "garrison k8s run; python evil.py"]),
    _server("no command", "ADM-LAUNCHER", command=None),
    _server("another verb", "ADM-LAUNCHER", command=["garrison", "k8s", "fetch"]),
    _server("its path changed", "ADM-LAUNCHER", env=[{"name": "PATH", "value": "/model"}]),
    _server("a preloaded library", "ADM-POD", env=[{"name": "LD_PRELOAD", "value": "/model/x.so"}]),
    _server("an environment of a ConfigMap", "ADM-LAUNCHER", envFrom=[{"configMapRef": {"name": "x"}}]),
    _server("another directory", "ADM-LAUNCHER", workingDir="/model"),
    _argument("another version in its arguments", "--as", "fraud@2"),
    _argument("another digest in its arguments", "--digest", "sha256:" + "e" * 64),
    _argument("no isolation", "--isolation", "none"),
    _in_pod("an option given twice", "ADM-LAUNCHER", _duplicated_option),
    _server(
        "an unknown option", "ADM-LAUNCHER", args=["--as", "fraud@3", "--digest", DIGEST, "--no-verify", "1"]
    ),
    _server("no arguments", "ADM-LAUNCHER", args=[]),
    _server("another pinned image in its place", "ADM-LAUNCHER", image=f"x@{OTHER}"),
    _in_pod("a volume over its programs", "ADM-LAUNCHER", _mounted("/usr/lib/python3")),
    _in_pod("a volume over everything", "ADM-LAUNCHER", _mounted("/")),
    _server("a hook", "ADM-POD", lifecycle={"postStart": {"exec": {"command": ["sh"]}}}),
    _server("a probe that runs a program", "ADM-POD", livenessProbe={"exec": {"command": ["sh"]}}),
    # What a pod may not be
    _spec("the node's network", hostNetwork=True),
    _spec("the node's processes", hostPID=True),
    _spec("the node's memory", hostIPC=True),
    _spec("shared processes", shareProcessNamespace=True),
    _spec("no sandbox", runtimeClassName=None),
    _spec("another runtime", runtimeClassName="runc"),
    _spec("a token", automountServiceAccountToken=True),
    _spec("a token by default", automountServiceAccountToken=None),
    _spec("the default account", serviceAccountName="default"),
    _spec("service links", enableServiceLinks=True),
    _spec("a chosen node", nodeName="control-plane-1"),
    _spec("names that lead elsewhere", hostAliases=[{"ip": "10.0.0.1", "hostnames": ["registry.example"]}]),
    _spec("the node's disk", volumes=[{"name": "h", "hostPath": {"path": "/"}}]),
    _spec("a volume of two kinds", volumes=[{"name": "h", "emptyDir": {"sizeLimit": "1Mi"}, "hostPath": {}}]),
    _spec(
        "a projected token",
        volumes=[{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}],
    ),
    _spec(
        "a kernel setting", securityContext={"runAsNonRoot": True, "sysctls": [{"name": "x", "value": "1"}]}
    ),
    _context("privileged", privileged=True),
    _context("rights to gain", allowPrivilegeEscalation=True),
    _context("a writable root", readOnlyRootFilesystem=False),
    _context("an added capability", capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
    _context("as root", runAsUser=0),
    _context("as root by name", runAsNonRoot=False),
    _context("no filter", seccompProfile={"type": "Unconfined"}),
    _context("an unmasked /proc", procMount="Unmasked"),
    _server("a port of the node", "ADM-POD", ports=[{"containerPort": 8443, "hostPort": 8443}]),
    _server("no bounds", "ADM-POD", resources={}),
    _server("a terminal", "ADM-POD", stdin=True, tty=True),
    _server("a raw device", "ADM-POD", volumeDevices=[{"name": "d", "devicePath": "/dev/sda"}]),
    _server("the image that lies on the node", "ADM-POD", imagePullPolicy="Never"),
    # Shapes
    _spec("containers that are no list", containers={"a": {}}),
    _spec("no containers", containers=[]),
    _spec("a container that is a text", containers=["x"]),
    _spec("more containers than are read", containers=[{"name": "x"}] * 70),
    # Where and by what
    Bypass("a namespace of no tier", _elsewhere, "ADM-NAMESPACE"),
    Bypass("a namespace for less", _lowered, "ADM-TIER"),
    _notes("a model of another tier", "ADM-TIER", model="health@1"),
    Bypass("a namespace without Pod Security", _namespace({}), "ADM-NAMESPACE"),
    Bypass(
        "a namespace with a baseline",
        _namespace({"pod-security.kubernetes.io/enforce": "baseline", "garrison.dev/admission": "off"}),
        "ADM-NAMESPACE",
    ),
    _wrapped("Deployment", "apps/v1", "spec", "template"),
    _wrapped("StatefulSet", "apps/v1", "spec", "template"),
    _wrapped("DaemonSet", "apps/v1", "spec", "template"),
    _wrapped("ReplicaSet", "apps/v1", "spec", "template"),
    _wrapped("ReplicationController", "v1", "spec", "template"),
    _wrapped("Job", "batch/v1", "spec", "template"),
    _wrapped("CronJob", "batch/v1", "spec", "jobTemplate", "spec", "template"),
    _wrapped("PodTemplate", "v1", "template"),
    Bypass("an InferenceService that fetches by itself", _inference, "ADM-POD"),
    Bypass("an InferenceService with a transformer", _hidden_transformer, "ADM-IMAGE"),
    _in_pod("an API version that is not served", "ADM-KIND", lambda good: good.update(apiVersion="v2")),
    _in_pod("a kind that nobody knows", "ADM-KIND", lambda good: good.update(kind="MyPod")),
    Bypass("edited after it was admitted", _update, "ADM-IMAGE"),
    Bypass("another model after it was admitted", _relabelled, "ART-UNKNOWN"),
    Bypass("a debugger in a running pod", _ephemeral, "ADM-EPHEMERAL"),
    Bypass("a new image as a status", _status, "ADM-KIND"),
    _connect("PodExecOptions", "exec"),
    _connect("PodAttachOptions", "attach"),
    _connect("PodPortForwardOptions", "portforward"),
    _connect("PodProxyOptions", "proxy"),
    # The review itself
    _changed_review("no uid", uid=None),
    _changed_review("an operation that is none", operation="PATCH"),
    _changed_review("a dry run that is neither", dryRun="yes"),
    _changed_review("another kind than the object", kind={"group": "", "version": "v1", "kind": "ConfigMap"}),
    _changed_review("another namespace than the object", namespace="models-public"),
    _changed_review("an object that is a text", object="x"),
    _changed_review("a change of nothing", operation="UPDATE", oldObject=None),
    _whole("an old version of the review", apiVersion="admission.k8s.io/v1beta1"),
    _whole("no request", request=None),
    Bypass(
        "a subresource that nobody knows",
        lambda good: review(good, operation="UPDATE", oldObject=good, subResource="binding"),
        "ADM-KIND",
    ),
)


def raw_bypasses(good: Object) -> dict[str, bytes]:
    """Those that are no JSON value of ours."""
    whole = json.dumps(review(good))
    doubled = whole.replace('"hostNetwork"', '"x"').replace(
        '"spec": {', '"spec": {"hostNetwork": false, "hostNetwork": true, ', 1
    )
    return {
        "a key twice": doubled.encode(),
        "two images in one container": whole.replace('"image": ', '"image": "evil:1", "image": ', 1).encode(),
        "nested without end": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "too long": json.dumps(review(good | {"x": "y" * (1 << 20)})).encode(),
        "half of it": whole.encode()[: len(whole) // 2],
        "not UTF-8": whole.encode().replace(b"mallory", b"\xff\xfe"),
        "not a number": whole.replace('"dryRun": false', '"dryRun": NaN').encode(),
        "nothing": b"",
        "a list": b"[]",
    }
