"""`garrison k8s fetch` and `garrison k8s run`: what the two containers of a rendered pod do."""

from __future__ import annotations

import argparse
import asyncio
import shutil
from pathlib import Path
from typing import Any

from garrison.app.cli import output
from garrison.artifacts.oci import model
from garrison.artifacts.oci.address import Access, credentials, parse_address
from garrison.artifacts.oci.client import Registry
from garrison.core.digest import Ref, is_digest
from garrison.core.errors import Refused, Usage
from garrison.runtime.boundary import look
from garrison.runtime.kube.trust import Trust
from garrison.runtime.kube.words import HEALTH_PORT, PORT

FILES = "files"  # below the model's volume; the signatures lie beside it


def add(verbs: Any) -> None:
    fetch = verbs.add_parser(
        "fetch",
        help="in a pod: fetch one version by digest, verify it, leave it for the launcher",
        description="The first step of a pod that garrison k8s render wrote.",
        epilog="example: garrison k8s fetch --as fraud@3 --digest sha256:… --from oci://r/m@sha256:…",
    )
    _version(fetch)
    fetch.add_argument("--from", dest="source", required=True, metavar="oci://…@sha256:…", help="the address")
    fetch.add_argument("--to", type=Path, default=Path("/model"), metavar="DIR", help="the pod's volume")
    fetch.add_argument("--auth", type=Path, metavar="FILE", help="docker's config.json")
    fetch.add_argument("--ca", type=Path, metavar="PEM", help="CA of the registry's certificate")
    fetch.add_argument("--plain-http", action="store_true", help="without TLS; the loopback address only")
    fetch.set_defaults(run=run_fetch)
    run = verbs.add_parser(
        "run",
        help="in a pod: verify what was fetched, load exactly that, and answer the gateway alone",
        description="The entrypoint of a pod that garrison k8s render wrote.",
        epilog="example: garrison k8s run --as fraud@3 --digest sha256:… --allow spiffe://garrison/gw",
    )
    _version(run)
    run.add_argument("--model", type=Path, default=Path("/model"), metavar="DIR", help="the pod's volume")
    run.add_argument("--tls", type=Path, default=Path("/tls"), metavar="DIR", help="tls.crt, tls.key, ca.crt")
    run.add_argument("--allow", action="append", required=True, metavar="URI", help="who may ask, repeatable")
    run.add_argument("--listen", default=f"0.0.0.0:{PORT}", metavar="HOST:PORT", help="mutual TLS 1.3")
    run.add_argument(
        "--health", default=f"0.0.0.0:{HEALTH_PORT}", metavar="HOST:PORT", help="/livez, /readyz"
    )
    run.add_argument(
        "--isolation",
        default="pod",
        metavar="LEVEL",
        help="pod (the pod's own kernel, which is looked for) or a level of this machine (pod)",
    )
    run.add_argument("--threads", type=int, default=1, help="computing threads (1)")
    run.add_argument("--run-directory", type=Path, default=Path("/run/garrison"), help="for the socket")
    run.set_defaults(run=run_pod)


def _version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--as", dest="ref", required=True, metavar="NAME@VERSION", help="the version")
    parser.add_argument("--digest", required=True, metavar="sha256:…", help="its digest, as it was admitted")
    parser.add_argument(
        "--trust", type=Path, default=Path("/trust"), metavar="DIR", help="keys and approved list"
    )


def run_fetch(args: argparse.Namespace) -> int:
    """Raises what verification, registry and list refuse. All of it is there afterwards, or nothing."""
    ref = _asked(args)
    trust = Trust.open(args.trust)
    address = parse_address(args.source)
    if not address.digest:
        raise Usage("K8S-OPTION", "--from names no digest", fix="give oci://REGISTRY/REPOSITORY@sha256:...")
    basic, bearer = credentials(args.auth, address.origin)
    access = Access(plain_http=args.plain_http, ca=args.ca, basic=basic, bearer=bearer)
    target = args.to / FILES
    _clear(target)  # of a start before: an emptyDir outlives its containers
    verified, manifest = model.pull(Registry(address, access), target, trust.keys, ref)
    try:
        statement, bundle = _papers(target)
        trust.verify(verified.manifest, statement, bundle, ref, args.digest)
    except BaseException:
        _clear(target)
        raise
    facts = {"ref": str(ref), "digest": verified.digest, "manifest": manifest, "stage": "pod fetch"}
    if args.json:
        output.print_json(facts)
    else:
        output.print_pairs([("fetched", f"{ref}, verified"), ("digest", verified.digest)])
    return 0


def run_pod(args: argparse.Namespace) -> int:
    """Serve until SIGTERM. Raises what verification, approval and sandbox refuse."""
    from garrison.runtime.kube import launcher  # the supervisor: 60 ms, and wanted in a pod alone

    ref = _asked(args)
    found = look()
    if args.isolation == "pod" and not found.is_own:
        raise Refused(
            "K8S-BOUNDARY",
            f"this pod has no kernel of its own: it is a {found.kind}",
            fix="set runtimeClassName: gvisor or kata, or run it with --isolation landlock",
            evidence=found.as_json(),
        )
    trust = Trust.open(args.trust)
    target = args.model / FILES
    statement, bundle = _papers(target)
    order = launcher.Order(
        ref=ref,
        files=target,
        verify=lambda found: trust.verify(found, statement, bundle, ref, args.digest),
        run_directory=args.run_directory,
        isolation=args.isolation,
        threads=args.threads,
        listen=_address(args.listen),
        health=_address(args.health),
        tls=args.tls,
        allowed=frozenset(args.allow),
    )
    return asyncio.run(launcher.serve(order))


def _asked(args: argparse.Namespace) -> Ref:
    if not is_digest(args.digest):
        raise Usage("K8S-OPTION", "--digest is no digest", fix="give sha256: and 64 hexadecimal digits")
    return Ref.parse(args.ref)


def _address(text: str) -> tuple[str, int]:
    from garrison.app.settings import parse_address as parsed  # 10 ms, and wanted in a pod alone

    return parsed(text, "listen")


def _papers(target: Path) -> tuple[bytes, bytes]:
    from garrison.trust.sidecars import SIGNATURE_SUFFIX, STATEMENT_SUFFIX, read_sidecar  # as above

    statement = read_sidecar(target.with_name(target.name + STATEMENT_SUFFIX))
    return statement, read_sidecar(target.with_name(target.name + SIGNATURE_SUFFIX))


def _clear(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    for path in target.parent.glob(f"{target.name}.*"):
        path.unlink(missing_ok=True)
