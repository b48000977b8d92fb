"""`garrison k8s`: render an approved version for a cluster, check anybody's manifests, and what runs in the pod."""

from __future__ import annotations

import argparse
import ipaddress
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from garrison.app.cli import k8s_pod, link, output
from garrison.artifacts.scanners import strict_yaml
from garrison.artifacts.scanners.yaml_values import BadYaml
from garrison.core.decision import Tier
from garrison.core.digest import Ref
from garrison.core.errors import GarrisonError, Refused, Usage
from garrison.core.finding import Verdict
from garrison.runtime.kube import base, manifests, policy, yaml_out
from garrison.runtime.kube.check import Judged, check
from garrison.runtime.kube.manifests import NOWHERE, Plan
from garrison.runtime.kube.words import LAUNCHER
from garrison.trust import strict_json

ISOLATIONS = tuple(base.HANDLERS)
NOBODY = "sha256:" + "0" * 64  # the digest of nothing: what carries it never starts
_IMAGE = re.compile(r"[a-z0-9](?:[a-z0-9._:/-]{0,200}[a-z0-9])?")
_BY_DIGEST = re.compile(r"[a-z0-9][A-Za-z0-9._:/-]{0,250}@sha256:[0-9a-f]{64}")
_DNS = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
_STATUS = {Verdict.CLEAN: 0, Verdict.REFUSED: 1, Verdict.INCOMPLETE: 3}


def add(subparsers: Any) -> None:
    group = subparsers.add_parser("k8s", help="manifests for a cluster, and a check of them")
    verbs = group.add_subparsers(dest="verb", required=True, metavar="VERB")
    render = verbs.add_parser(
        "render",
        help="write the manifests of an approved version, or of namespaces without one",
        epilog="example: garrison k8s render fraud@3 --isolation gvisor > fraud.yaml",
    )
    render.add_argument(
        "ref", nargs="?", metavar="NAME@VERSION", help="what runs (default: namespaces alone)"
    )
    render.add_argument(
        "--tier", choices=[tier.value for tier in Tier], help="namespaces of this tier alone, without a model"
    )
    render.add_argument("--isolation", choices=ISOLATIONS, default="gvisor", help="RuntimeClass (gvisor)")
    render.add_argument("--kserve", action="store_true", help="an InferenceService in place of a Deployment")
    render.add_argument("--image", default="", metavar="REPOSITORY", help="where the pinned launcher lies")
    render.add_argument("--source", default="", metavar="oci://…@sha256:…", help="where the model was pushed")
    render.add_argument("--replicas", type=int, default=2, help="how many copies (2)")
    render.add_argument(
        "--certificates",
        choices=("cert-manager", "spiffe"),
        default="cert-manager",
        help="who issues the pod's certificate: a Secret, or the SPIFFE driver (cert-manager)",
    )
    render.add_argument("--issuer", default="garrison", help="cert-manager's ClusterIssuer (garrison)")
    render.add_argument("--trust-domain", default="garrison", help="of SPIFFE ids (garrison)")
    render.add_argument("--registry-cidr", default="", metavar="CIDR", help="the one network it may reach")
    render.add_argument("--registry-secret", default="", metavar="NAME", help="Secret with docker's config")
    render.set_defaults(run=run_render)
    judge = verbs.add_parser(
        "check",
        help="judge manifests, whoever wrote them",
        epilog="example: garrison k8s render fraud@3 | garrison k8s check -",
    )
    judge.add_argument("file", metavar="FILE", help="YAML or JSON; - reads standard input")
    judge.set_defaults(run=run_check)
    rules = verbs.add_parser(
        "policy",
        help="write the webhook configurations, and the policies that hold without the webhook",
        epilog="example: garrison k8s policy > admission.yaml",
    )
    rules.add_argument("--ca", type=Path, metavar="PEM", help="CA of the webhook (default: the local CA)")
    rules.set_defaults(run=run_policy)
    k8s_pod.add(verbs)


def run_render(args: argparse.Namespace) -> int:
    """Raises what a deployment of the version would, and `Usage` K8S-OPTION."""
    if args.ref is None:
        tiers = [Tier(args.tier)] if args.tier else list(Tier)
        return _written(args, list(base.base(tiers, args.isolation)))
    plan = _plan(args, link.call(args, "k8s.facts", ref=str(Ref.parse(args.ref))))
    for name, value in (("launcher", plan.image), ("model", plan.source)):
        if NOWHERE in value and not args.json:
            fix = (
                f"garrison image pin oci:DIR --as {LAUNCHER}, then --image REPOSITORY"
                if name == "launcher"
                else f"garrison model push {plan.ref} oci://REGISTRY/REPOSITORY"
            )
            sys.stderr.write(f"NOT RUNNABLE YET  no {name} is at a registry: {fix}\n")
    return _written(args, list(manifests.render(plan)))


def run_check(args: argparse.Namespace) -> int:
    """Exit 0 clean, 1 with findings, 3 when an object is of a kind that nobody here knows."""
    judged = check(_documents(args.file))
    if args.json:
        output.print_json(judged.as_json())
    else:
        _show(judged)
    return _STATUS[judged.verdict]


def run_policy(args: argparse.Namespace) -> int:
    facts = link.call(args, "k8s.policy")
    authority = facts["ca"].encode() if args.ca is None else _read(str(args.ca))
    return _written(args, list(policy.webhooks(authority, [facts["launcher"]], facts["exempt"])))


def _plan(args: argparse.Namespace, facts: dict[str, Any]) -> Plan:
    digest = facts["launcher"] or NOBODY
    repository = args.image or f"{NOWHERE}/garrison"
    image = repository if "@" in repository else f"{repository}@{digest}"
    source = args.source or facts["source"] or f"oci://{NOWHERE}/{facts['ref'].partition('@')[0]}@{NOBODY}"
    made = Plan(
        ref=Ref.parse(facts["ref"]),
        digest=facts["digest"],
        tier=Tier(facts["tier"]),
        owner=facts["owner"],
        size=facts["size"],
        image=image,
        source=source,
        trust=facts["trust"],
        isolation=args.isolation,
        replicas=args.replicas,
        identity=args.certificates,
        issuer=args.issuer,
        trust_domain=args.trust_domain,
        registry_cidr=args.registry_cidr,
        registry_secret=args.registry_secret,
        kserve=args.kserve,
    )
    _check_options(made, repository)
    return replace(made, registry_cidr=str(_network(made.registry_cidr)) if made.registry_cidr else "")


def _check_options(plan: Plan, repository: str) -> None:
    checks = (
        ("--image", "@" in repository or _IMAGE.fullmatch(repository), "give REPOSITORY, without a tag"),
        ("--image", _BY_DIGEST.fullmatch(plan.image), "give REPOSITORY, or REPOSITORY@sha256:..."),
        (
            "--source",
            plan.source.startswith("oci://") and _BY_DIGEST.fullmatch(plan.source.removeprefix("oci://")),
            "give oci://REGISTRY/REPOSITORY@sha256:..., as garrison model push prints it",
        ),
        ("--replicas", 1 <= plan.replicas <= 100, "give 1 to 100"),
        ("--issuer", _DNS.fullmatch(plan.issuer), "give the name of a ClusterIssuer"),
        ("--trust-domain", _DNS.fullmatch(plan.trust_domain), "give a DNS name"),
        (
            "--registry-secret",
            not plan.registry_secret or _DNS.fullmatch(plan.registry_secret),
            "give the name of a Secret",
        ),
    )
    for option, is_right, fix in checks:
        if not is_right:
            raise Usage("K8S-OPTION", f"{option} has a value that a manifest cannot carry", fix=fix)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        network = None
    if network is None or network.prefixlen < 8:
        raise Usage(
            "K8S-OPTION",
            f"--registry-cidr {text[:60]!a} is no network, or nearly all of them",
            fix="give the registry's own network, such as 10.20.0.0/24",
        )
    return network


def _written(args: argparse.Namespace, objects: list[dict[str, Any]]) -> int:
    if args.json:
        output.print_json({"apiVersion": "v1", "kind": "List", "items": objects})
    else:
        sys.stdout.write(yaml_out.dump(objects))
    return 0


def _documents(name: str) -> list[Any]:
    data = _read(name)
    try:
        if data.lstrip()[:1] in (b"{", b"["):
            return [strict_json.loads(data, strict_yaml.MAX_YAML)]
        documents, tags = strict_yaml.parse(data)
    except (ValueError, BadYaml, GarrisonError) as error:
        raise _unreadable(name, str(error)) from None
    if tags:
        raise _unreadable(name, f"the tag {tags[0][:40]!a} asks a parser to make something of a value")
    return documents


def _read(name: str) -> bytes:
    try:
        if name == "-":
            data = sys.stdin.buffer.read(strict_yaml.MAX_YAML + 1)
        else:
            with open(name, "rb") as file:
                data = file.read(strict_yaml.MAX_YAML + 1)
    except OSError as error:
        raise Usage("K8S-FILE", f"{name}: {error.strerror}", fix="give a file that can be read") from None
    return data


def _unreadable(name: str, why: str) -> Refused:
    return Refused(
        "K8S-FILE",
        f"{name} has no single reading as manifests: {why}",
        fix="render it first (helm template, kubectl kustomize), and check what that wrote",
    )


def _show(judged: Judged) -> None:
    for finding in judged.findings:
        output.print_line(f"{finding.rule_id}  {output.visible(finding.where)}")
        output.print_pairs([("", finding.message), ("next", finding.fix)])
    for title in judged.unknown:
        output.print_line(f"NOT UNDERSTOOD  {output.visible(title)}")
    output.print_line(f"{judged.verdict.value}   {judged.objects} objects, {len(judged.findings)} findings")
