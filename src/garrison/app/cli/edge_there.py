"""`garrison edge enrol`, `run`, `accept`, `verify`, `forward`, `verifier`: on a device, or by a stranger."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from garrison.app.cli import link, output
from garrison.core.errors import Undecided


def add(verbs: Any) -> None:
    enrol = verbs.add_parser(
        "enrol",
        help="make this data directory a device; prints the card that is carried home",
        epilog="example: garrison edge enrol --site plant-7 --trust trust.json --unlock /run/unlock > plant-7.site",
    )
    enrol.add_argument("--site", required=True, help="what home calls this device")
    enrol.add_argument("--trust", required=True, metavar="FILE", help="what garrison key trust wrote at home")
    _unlock(enrol)
    enrol.set_defaults(run=run_enrol)
    run = verbs.add_parser(
        "run",
        help="verify a bundle without a network, then serve its model",
        epilog="example: garrison edge run fraud-3.plant-7.gar --unlock /run/unlock",
    )
    run.add_argument("bundle", help="what garrison edge build wrote")
    _unlock(run)
    run.add_argument("--listen", metavar="HOST:PORT", help="address of the gateway (default: 127.0.0.1:8443)")
    run.add_argument("--config", metavar="FILE", help="settings file (default: in the data directory)")
    run.set_defaults(run=run_run)
    for name, words in (
        ("verify", "judge a bundle on this device and change nothing"),
        ("accept", "take in a newer bundle or notice: what it withdraws stops serving"),
    ):
        one = verbs.add_parser(name, help=words, epilog=f"example: garrison edge {name} notice.plant-7.gar")
        one.add_argument("bundle", help="what garrison edge build wrote")
        one.set_defaults(run=run_accept)
    forward = verbs.add_parser(
        "forward",
        help="write this device's events to a file that is carried home",
        epilog="example: garrison edge forward --out plant-7.events",
    )
    forward.add_argument("--out", required=True, metavar="FILE", help="a new file")
    forward.add_argument("--after", type=int, metavar="NUMBER", help="default: from where home has them")
    forward.set_defaults(run=run_forward)
    verifier = verbs.add_parser(
        "verifier",
        help="print a program that judges a bundle with Python alone",
        epilog="example: garrison edge verifier > verify.py",
    )
    verifier.set_defaults(run=run_verifier)


def _unlock(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--unlock",
        required=True,
        metavar="FILE",
        help="the secret that the device's key lies under; keep it off this disk",
    )


def run_enrol(args: argparse.Namespace) -> int:
    from garrison.app import settings, up, wiring  # the server's rooms take a second to import

    wiring.make_data_directory(link.data_directory(args))
    body = {"site": args.site, "source": link.absolute(args.trust), "unlock": link.absolute(args.unlock)}
    chosen = settings.load({"data": str(link.data_directory(args))})
    result = _call(args, "edge.enrol", chosen, begin=up.first_admin, **body)
    if args.json:
        output.print_json(result)
        return 0
    output.print_line(json.dumps(result["card"], indent=2))
    say = [f"key      {result['key_id']}", f"believes {result['root']} (the root key of home)"]
    if result["unlock_on_same_disk"]:
        say.append(f"warning  {args.unlock} lies on the disk of the data directory: who steals it has both")
    sys.stderr.write("\n".join(say) + "\n")
    return 0


def run_run(args: argparse.Namespace) -> int:
    from garrison.app import settings, up  # the server's rooms take a second to import
    from garrison.app.edge_device import EdgeRun  # likewise

    flags = {"data": args.data, "listen": args.listen}
    chosen = settings.load(flags, file=Path(args.config) if args.config else None)
    edge = EdgeRun(Path(link.absolute(args.bundle)), Path(link.absolute(args.unlock)))
    return up.up(chosen, as_json=args.json, edge=edge)


def run_accept(args: argparse.Namespace) -> int:
    body = {"source": link.absolute(args.bundle), "only_judge": args.verb == "verify"}
    result = _call(args, "edge.accept", None, **body)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("bundle", f"number {result['sequence']} for {result['site']}"),
            ("holds", result["ref"] or "what is withdrawn"),
            ("until", output.moment(result["expires"])),
            ("signed by", result["key_id"][:16] + "…"),
            ("withdrawn", f"{result['withdrawn']} versions"),
            *([("audit", result["audit_id"])] if "audit_id" in result else []),
        ]
    )
    return 0


def run_forward(args: argparse.Namespace) -> int:
    result = _call(args, "edge.forward", None, destination=link.absolute(args.out), after=args.after)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("events", f"{result['events']}, from {result['first']} to {result['last']} of {result['site']}"),
            ("file", result["path"]),
            ("next", "at home: garrison edge import FILE; the same file twice does no harm"),
        ]
    )
    return 0


def run_verifier(args: argparse.Namespace) -> int:
    from garrison.runtime.edge import verifier  # needed by this command alone

    text = Path(verifier.__file__).read_text("utf-8")
    if args.json:
        output.print_json({"schema": "garrison.edge.verifier/1", "program": text})
    else:
        output.print_line(text.rstrip("\n"))
    return 0


def _call(args: argparse.Namespace, verb: str, chosen: Any, begin: Any = None, **body: Any) -> dict[str, Any]:
    """Through the server of this device; without one, here, under the lock that a server takes."""
    try:
        return link.call(args, verb, **body)
    except Undecided as error:
        if error.code != "SRV-DOWN" or not (link.data_directory(args) / "run").is_dir():
            raise
    from garrison.app import alone, settings  # the server's rooms take a second to import

    return alone.perform_alone(
        chosen or settings.load({"data": str(link.data_directory(args))}),
        verb,
        body,
        identity=getattr(args, "identity", None),
        token=link.read_token_file(args),
        **({} if begin is None else {"begin": begin}),
    )
