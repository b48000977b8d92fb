"""`garrison cloud …`: what a cloud service runs against what was approved, and who is responsible for what."""

from __future__ import annotations

import argparse
from typing import Any

from garrison.app.cli import link, output

PATTERNS = ("public", "private", "hybrid", "edge")


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("cloud", help="models that cloud services run, against the registry")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    check = verbs.add_parser(
        "check", help="every model, image and endpoint of a service; exit 1 with findings"
    )
    services = check.add_subparsers(dest="service", required=True, metavar="SERVICE")
    sagemaker = services.add_parser(
        "sagemaker",
        help="Amazon SageMaker; credentials from boto3's own chain",
        epilog="example: garrison cloud check sagemaker",
    )
    sagemaker.add_argument("--endpoint", metavar="URL", help="a service that is not AWS")
    sagemaker.set_defaults(run=run_check)
    azureml = services.add_parser(
        "azureml",
        help="Azure Machine Learning; tokens by sources.toml",
        epilog="example: garrison cloud check azureml --workspace SUB/GROUP/NAME "
        "--storage https://ACCOUNT.blob.core.windows.net",
    )
    azureml.add_argument("--workspace", required=True, metavar="SUB/GROUP/NAME", help="which workspace")
    azureml.add_argument("--storage", required=True, metavar="URL", help="where its datastore keeps blobs")
    azureml.add_argument("--endpoint", metavar="URL", help="default: https://management.azure.com")
    azureml.set_defaults(run=run_check)
    tell = verbs.add_parser(
        "responsibilities",
        help="per control: provider or you, and the evidence for it",
        epilog="example: garrison cloud responsibilities --pattern public",
    )
    tell.add_argument("--pattern", choices=PATTERNS, default="public", help="default: public")
    tell.set_defaults(run=run_tell)


def run_check(args: argparse.Namespace) -> int:
    body = {"service": args.service, "endpoint": args.endpoint}
    if args.service == "azureml":
        body |= {"workspace": args.workspace, "storage": args.storage}
    result = link.call(args, "cloud.check", **body)
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("MODEL", "SERVES AT"),
        [(model["name"], ", ".join(model["endpoints"]) or "nowhere") for model in result["models"]],
        empty="no models there",
    )
    output.print_line(f"nothing found against {len(result['models'])} models; {result['audit_id']}")
    return 0


def run_tell(args: argparse.Namespace) -> int:
    result = link.call(args, "cloud.responsibilities", pattern=args.pattern)
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("CONTROL", "RESPONSIBLE", "STATE", "EVIDENCE OR NEXT STEP"),
        [
            (row["control"], row["responsible"], row["state"], row["evidence"] or row["next"])
            for row in result["controls"]
        ],
        empty="no controls",
    )
    output.print_line()
    output.print_line(f"{result['owed']} controls are owed: nothing in the ledger shows them at work")
    return 0
