"""`garrison sink …`: receivers of the ledger's events: syslog, Splunk, OpenTelemetry, HTTP, a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from garrison.app.cli import link, output
from garrison.core.errors import Undecided, Usage
from garrison.evidence.sinks import shipped

MAX_CA = 64 * 1024  # bytes; a few authorities in PEM
_KINDS = {"tls": "syslog", "tcp": "syslog", "file": "file"}  # by scheme; else http, or --kind

_EXAMPLES = """examples:
  garrison sink add siem tls://syslog.example.com:6514 --ca ca.pem
  garrison sink add sentinel tls://forwarder.example.com:6514 --format cef
  garrison sink add splunk https://splunk.example.com:8088 --kind hec --token-file /etc/garrison/hec
  garrison sink add otel https://collector.example.com:4318 --kind otlp --signal logs --signal traces"""


def add(subparsers: Any) -> None:
    sink = subparsers.add_parser(
        "sink", help="receivers of events: syslog, Splunk, OpenTelemetry, HTTP, a file"
    )
    verbs = sink.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_add(verbs)
    verbs.add_parser(
        "list", help="sinks, and how far each is", epilog="example: garrison sink list"
    ).set_defaults(run=run_list)
    test = verbs.add_parser(
        "test", help="send the newest event once, now", epilog="example: garrison sink test siem"
    )
    test.add_argument("name", help="as garrison sink list shows it")
    test.set_defaults(run=run_test)
    seek = verbs.add_parser(
        "seek",
        help="go on behind another event",
        epilog="example: garrison sink seek siem a-000412 --reason 'the index of May was lost'",
    )
    seek.add_argument("name", help="as garrison sink list shows it")
    seek.add_argument("id", help="the event behind which delivery goes on; a-000000 is the beginning")
    seek.add_argument("--reason", required=True, metavar="TEXT", help="why; it is recorded")
    seek.set_defaults(run=run_seek)
    files = verbs.add_parser(
        "files",
        help="write rules and configurations for receivers to a directory",
        epilog="example: garrison sink files ./siem",
    )
    files.add_argument("directory", help="made when it is not there; files of the same name are replaced")
    files.set_defaults(run=run_files)
    remove = verbs.add_parser(
        "remove", help="send nothing there any more", epilog="example: garrison sink remove siem"
    )
    remove.add_argument("name", help="as garrison sink list shows it")
    remove.set_defaults(run=run_remove)


def _add_add(verbs: Any) -> None:
    new = verbs.add_parser("add", help="send events there, or change how", epilog=_EXAMPLES)
    new.add_argument("name", help="what it is called here: a-z, 0-9, dash")
    new.add_argument("url", help="tls://HOST:PORT (syslog), https://HOST:PORT, or file:/PATH")
    new.add_argument(
        "--kind", choices=("syslog", "hec", "otlp", "http", "file"), help="default: by the address"
    )
    new.add_argument("--format", choices=("ocsf", "cef", "json"), help="of an event (default: ocsf)")
    new.add_argument(
        "--signal", action="append", choices=("logs", "traces", "metrics"), help="of otlp; default: all"
    )
    new.add_argument("--token-file", metavar="FILE", help="file on the server with a token, mode 0600")
    new.add_argument(
        "--client-cert", metavar="FILE", help="file on the server: certificate chain and key, in PEM"
    )
    new.add_argument("--ca", metavar="FILE", help="authority of the receiver's certificate, in PEM")
    new.add_argument("--largest", type=int, metavar="BYTES", help="of one event (default for syslog: 8192)")
    new.add_argument("--from-start", action="store_true", help="send what the ledger has already, too")
    new.set_defaults(run=run_add)


def run_add(args: argparse.Namespace) -> int:
    sink = {
        "name": args.name,
        "kind": args.kind or _KINDS.get(urlsplit(args.url).scheme, "http"),
        "url": args.url,
        "form": args.format,
        "signals": args.signal,
        "token_file": args.token_file and str(Path(args.token_file).absolute()),
        "client_file": args.client_cert and str(Path(args.client_cert).absolute()),
        "ca": _read(args.ca) if args.ca else "",
        "largest": args.largest,
    }
    result = link.call(args, "sink.add", sink=sink, from_start=args.from_start)
    if args.json:
        output.print_json(result)
        return 0
    what = ", ".join(result["signals"]) if result["kind"] == "otlp" else result["form"]
    output.print_pairs(
        [
            ("sink", f"{result['name']}: {what} to {result['url']}"),
            ("try it", f"garrison sink test {result['name']}"),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def run_list(args: argparse.Namespace) -> int:
    result = link.call(args, "sink.list")
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("SINK", "KIND", "FORM", "SENT TO", "WAITING", "STATE"),
        [
            (
                one["name"],
                one["kind"],
                ",".join(one["signals"]) or one["form"],
                one["sent_to"] or "nothing yet",
                one["waiting"],
                f"{one['code']} since {output.moment(one['failing_since'])}" if one["code"] else "ok",
            )
            for one in result["sinks"]
        ],
        empty="no event leaves this machine: garrison sink add NAME tls://HOST:6514",
    )
    for one in result["sinks"]:
        if one["reason"]:
            output.print_line(output.visible(one["reason"]))
    return 0


def run_test(args: argparse.Namespace) -> int:
    result = link.call(args, "sink.test", name=args.name)
    if args.json:
        output.print_json(result)
    else:
        output.print_pairs([("taken", f"{result['took']} in {result['milliseconds']:g} ms")])
    return 0


def run_seek(args: argparse.Namespace) -> int:
    result = link.call(args, "sink.seek", name=args.name, id=args.id, reason=args.reason)
    if args.json:
        output.print_json(result)
    else:
        output.print_pairs([("goes on", f"behind {result['behind']}"), ("audit", result["audit_id"])])
    return 0


def run_files(args: argparse.Namespace) -> int:
    """Needs no server. Raises `Undecided` SINK-FILE."""
    target, written = Path(args.directory), []
    try:
        for name, data in shipped.files():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            written.append(str(path))
    except OSError as error:
        what = f"{error.filename} cannot be written: {error.strerror}"
        raise Undecided("SINK-FILE", what, fix="name a directory where you may write") from error
    if args.json:
        output.print_json({"written": written})
    else:
        output.print_pairs([("wrote", path) for path in written])
    return 0


def run_remove(args: argparse.Namespace) -> int:
    result = link.call(args, "sink.remove", name=args.name)
    if args.json:
        output.print_json(result)
    else:
        output.print_pairs([("removed", result["name"]), ("audit", result["audit_id"])])
    return 0


def _read(name: str) -> str:
    try:
        with Path(name).open("rb") as file:
            return file.read(MAX_CA + 1).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(
            "SINK-SYNTAX", f"{name} is not a certificate in PEM", fix="give the authority's file"
        ) from error
