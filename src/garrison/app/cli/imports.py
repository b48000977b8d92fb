"""`garrison import …` and `garrison drift`: versions from other registries, and whether those still hold them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from garrison.app.cli import link, output
from garrison.core.decision import Tier
from garrison.core.digest import short
from garrison.core.errors import Usage

_SERVER = "MLFLOW_TRACKING_URI"
_MATERIALS = 12  # lines of materials on the screen; --json has them all


def add(subparsers: Any) -> None:
    group = subparsers.add_parser("import", help="publish a version from another registry, with its lineage")
    verbs = group.add_subparsers(dest="verb", required=True, metavar="VERB")
    _mlflow(verbs)
    _local(verbs, "dvc", "a repository with dvc.lock or .dvc files", "garrison import dvc . --model model")
    _local(verbs, "wandb", "an offline run", "garrison import wandb wandb/offline-run-x --model ./out")
    _hf(verbs)
    listing = verbs.add_parser(
        "list", help="what was imported, and from where", epilog="example: garrison import list"
    )
    listing.add_argument("name", nargs="?", help="only versions of this name")
    listing.set_defaults(run=run_list)
    drift = subparsers.add_parser(
        "drift",
        help="compare imported versions with their sources again",
        epilog="example: garrison drift fraud\n\nExit 1: something changed. Exit 3: a source could not be asked.",
    )
    drift.add_argument("name", nargs="?", metavar="NAME[@VERSION]", help="only this model or version")
    drift.set_defaults(run=run_drift)


def _mlflow(verbs: Any) -> None:
    parser = verbs.add_parser(
        "mlflow",
        help="a registered version of an MLflow server",
        epilog="example: garrison import mlflow models:/fraud/1 --tracking-uri http://127.0.0.1:5000 "
        "--as fraud@1 --owner dana --tier internal",
    )
    parser.add_argument("uri", metavar="models:/NAME/VERSION", help="or models:/NAME@ALIAS")
    parser.add_argument("--tracking-uri", metavar="URL", help=f"the server; default: {_SERVER}")
    _wanted(parser, "import")
    parser.set_defaults(run=run_mlflow)


def _local(verbs: Any, kind: str, what: str, example: str) -> None:
    parser = verbs.add_parser(
        kind, help=what, epilog=f"example: {example} --as fraud@1 --owner dana --tier internal"
    )
    parser.add_argument("path", metavar="DIR", help=what)
    parser.add_argument("--model", metavar="PATH", help="the files that are the model")
    _wanted(parser, kind)
    parser.set_defaults(run=run_local, kind=kind)


def _hf(verbs: Any) -> None:
    parser = verbs.add_parser(
        "hf",
        help="a model in the Hugging Face cache",
        epilog="example: garrison import hf openai-community/gpt2 --as gpt2@1 --owner dana --tier public",
    )
    parser.add_argument(
        "path", metavar="ORG/NAME", help="or the directory models--ORG--NAME; @REVISION may follow"
    )
    _wanted(parser, "hf")
    parser.set_defaults(run=run_hf)


def _wanted(parser: argparse.ArgumentParser, _kind: str) -> None:
    parser.add_argument("--as", dest="ref", metavar="NAME[@VERSION]", help="without a version: the next")
    parser.add_argument("--owner", help="who answers for the model")
    parser.add_argument("--tier", choices=[tier.value for tier in Tier], help="sensitivity of its data")
    parser.add_argument("--attach", metavar="NAME@VERSION", help="only attach the lineage to this version")


def run_mlflow(args: argparse.Namespace) -> int:
    server = args.tracking_uri or os.environ.get(_SERVER, "")
    if not server:
        raise Usage("LIN-SOURCE", "no MLflow server is named", fix=f"add --tracking-uri URL or set {_SERVER}")
    return _import(args, kind="mlflow", uri=args.uri, server=server)


def run_local(args: argparse.Namespace) -> int:
    model = args.model
    if model and args.kind == "wandb":
        model = link.absolute(model)
    elif model:
        model = os.path.relpath(model, args.path) if os.path.isabs(model) else os.path.normpath(model)
    return _import(args, kind=args.kind, path=link.absolute(args.path), model=model)


def run_hf(args: argparse.Namespace) -> int:
    text, _, revision = args.path.partition("@")
    home = Path(text)
    if not home.is_dir():
        home = _cache() / f"models--{text.replace('/', '--')}"
    return _import(args, kind="hf", path=str(home.absolute()), revision=revision or "main")


def _cache() -> Path:
    """Where huggingface_hub keeps what it downloaded, by its own variables."""
    if hub := os.environ.get("HF_HUB_CACHE"):
        return Path(hub)
    if home := os.environ.get("HF_HOME"):
        return Path(home) / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface" / "hub"


def _import(args: argparse.Namespace, **source: Any) -> int:
    missing = [name for name in ("ref", "owner", "tier") if getattr(args, name) is None]
    if missing and not args.attach:
        words = {"ref": "--as NAME[@VERSION]", "owner": "--owner WHO", "tier": "--tier TIER"}
        raise Usage("ARG-MISSING", f"{words[missing[0]]} is missing", fix=f"add {words[missing[0]]}")
    body = {"ref": args.ref, "owner": args.owner, "tier": args.tier, "attach": args.attach}
    if args.attach:
        body["ref"] = None
    result = link.call(args, "import.version", **source, **body)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            (
                "read",
                f"{result['files']} files, {output.megabytes(result['size'])}   every one re-hashed (SHA-256)",
            ),
            ("from", output.visible(result["source"].get("uri") or result["source"]["path"])),
            ("lineage", f"{len(result['materials'])} materials, {len(result['parameters'])} parameters"),
            *[("", _material(row)) for row in result["materials"][:_MATERIALS]],
            ("gaps", ", ".join(result["gaps"]) or "none"),
            ("stored", f"{result['ref']}   {short(result['digest'])}   {result['state']}"),
            ("next", f"garrison drift {result['ref']}    compares it with its source again"),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def _material(row: dict[str, Any]) -> str:
    digest = next((f"{name}:{value[:16]}" for name, value in row["digests"].items()), "not hashed by anybody")
    return output.visible(f"{row['kind']} {row['name'][:60]}   {digest}")


def run_list(args: argparse.Namespace) -> int:
    result = link.call(args, "import.list", name=args.name)
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("VERSION", "STATE", "FROM", "SOURCE", "IMPORTED"),
        [
            (
                row["ref"],
                row["state"],
                row["kind"],
                output.visible(row["source"].get("uri") or row["source"]["path"]),
                output.moment(row["imported"]),
            )
            for row in result["imports"]
        ],
        empty="nothing was imported: garrison import --help shows how",
    )
    return 0


def run_drift(args: argparse.Namespace) -> int:
    result = link.call(args, "drift.check", name=args.name)
    status = {"same": 0, "drifted": 1, "unknown": 3}[result["verdict"]]
    if args.json:
        output.print_json(result)
        return status
    for row in result["versions"]:
        words = {"same": "as it was", "drifted": "CHANGED", "unknown": "could not be asked"}
        output.print_line(
            f"{row['ref']}   {words[row['verdict']]}   imported {output.moment(row['imported'])}"
        )
        for finding in row["findings"]:
            output.print_line(f"  {finding['rule_id']}  {output.visible(finding['message'])}")
        if row["why"]:
            output.print_line(f"  {row['code']}  {output.visible(row['why'])}")
    if not result["versions"]:
        output.print_line("nothing was imported, so there is nothing to compare")
    elif status == 1:
        output.print_line("next: find out who changed the source; what Garrison serves is the imported bytes")
    return status
