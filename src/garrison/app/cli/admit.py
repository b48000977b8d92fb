"""`garrison admit`: would this object be let into the cluster? Through the server, or on its data directory alone."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from garrison.app.cli import link, output
from garrison.core.errors import Undecided, Usage
from garrison.runtime.kube import admission, mutation, review
from garrison.runtime.kube.admission import Approved, Known

VERB = "admission.review"


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "admit",
        help="judge an AdmissionReview or one object, as the webhook does",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Read one AdmissionReview (v1) or one object as JSON from standard input.",
        epilog="""\
example:
  garrison admit < pod.json

Asks the server when one runs, else the data directory itself; without either
nothing is approved. A bare object is judged as if it were created: a dry run.
exit: 0 allowed, 1 denied""",
    )
    parser.add_argument(
        "--mutate", action="store_true", help="answer as the mutating webhook, with its patch"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`--json` prints the AdmissionReview that goes back. Raises `Refused` ADM-REVIEW, `Usage` K8S-FILE."""
    data = _input()
    asked = review.read(data)
    result = _asked(args, review.document_of(data), asked)
    if args.json:
        output.print_json(result["review"])
    else:
        output.print_pairs([("allowed", str(result["allowed"]).lower()), ("object", asked.title)])
        for reason in result["reasons"]:
            output.print_line()
            output.print_line(f"{reason['code']}  {output.visible(reason['where'])}")
            output.print_pairs([("", reason["message"]), ("next", reason["fix"])])
        if result["allowed"]:
            output.print_pairs([("because", result["why"])])
        if result["audit_id"]:
            output.print_pairs([("audit", result["audit_id"])])
    return 0 if result["allowed"] else 1


def _asked(args: argparse.Namespace, document: Any, asked: review.Review) -> dict[str, Any]:
    body = {"review": document, "mutate": args.mutate}
    try:
        return link.call(args, VERB, **body)
    except Undecided as error:
        if error.code != "SRV-DOWN":
            raise
    if (link.data_directory(args) / "keys" / "token").is_dir():
        return link.without_server(args, VERB, **body)
    return _without_registry(asked, mutate=args.mutate)


def _without_registry(asked: review.Review, *, mutate: bool) -> dict[str, Any]:
    """Nothing is known, so nothing is approved: what else is wrong is still said."""

    def unknown(ref: object) -> Approved:
        raise Undecided(
            "SRV-DOWN",
            f"no registry is at hand that could approve {ref}",
            fix="name its data directory with --data DIR, or start it: garrison up",
        )

    known = Known(image=lambda _digest: "", version=unknown)
    ruling = (mutation.completed if mutate else admission.judge)(asked, known)
    return {
        "review": review.answer(asked.uid, ruling),
        "allowed": ruling.allowed,
        "why": ruling.why,
        "reasons": [denial.as_json() for denial in ruling.denials],
        "audit_id": None,
    }


def _input() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise Usage("K8S-FILE", "nothing comes from standard input", fix="garrison admit < pod.json")
    return sys.stdin.buffer.read(review.MAX_REVIEW_BYTES + 1)
