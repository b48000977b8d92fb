"""`garrison verify PATH`: is this directory what was signed, on bare files and without a server."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from garrison.app.cli import link, output
from garrison.artifacts.provenance import PAPERS, check_builder
from garrison.core.actions import Action
from garrison.core.digest import Ref, short
from garrison.core.errors import GarrisonError, Refused, Usage
from garrison.core.event import format_time
from garrison.storage.database_record import is_begun
from garrison.trust.attestation import open_beside
from garrison.trust.directory import SignedDirectory, verify_bundle, verify_model
from garrison.trust.keys.public import PublicKey
from garrison.trust.oms import Foreign
from garrison.trust.oms_chain import load_authorities
from garrison.trust.oms_keyless import Keyless
from garrison.trust.sidecars import STATEMENT_SUFFIX, Sidecars, is_stored, load_keys, locate
from garrison.trust.verify import Verified


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "verify",
        help="check a directory against its signatures, without a server",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Check every file below PATH against the model signature and the release statement.",
        epilog="""\
examples:
  garrison verify ./fraud --as fraud@3
  garrison verify ./fraud --signature S.sig --statement S.json --key release.pem
  garrison verify ./theirs --signature theirs.sig --ca company-ca.pem

Signatures are looked for beside the directory (PATH.sig, PATH.release.json),
then among the releases of the data directory.
exit: 0 verified, 1 refused, 3 nothing to judge by""",
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="the model's directory")
    parser.add_argument("--as", dest="claimed", metavar="NAME@VERSION", help="the release that it has to be")
    parser.add_argument("--signature", type=Path, metavar="FILE", help="OpenSSF Model Signing bundle")
    parser.add_argument("--statement", type=Path, metavar="FILE", help="release statement")
    parser.add_argument(
        "--key",
        type=Path,
        action="append",
        default=[],
        metavar="PEM",
        help="public key to trust, repeatable (default: the release key of the data directory)",
    )
    other = parser.add_argument_group("bundles of other tools, signed by certificate or keyless")
    other.add_argument(
        "--ca", type=Path, action="append", default=[], metavar="PEM", help="CA to believe, repeatable"
    )
    other.add_argument("--sigstore-root", type=Path, metavar="FILE", help="trusted_root.json, read offline")
    other.add_argument("--identity", dest="signed_by", metavar="NAME", help="who has to have signed keyless")
    other.add_argument("--issuer", metavar="URL", help="who has to have vouched for that identity")
    parser.add_argument(
        "--slsa-builder", metavar="ID", help="the builder whose provenance has to lie beside the files"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0 when everything holds. Raises as `verify_model`; a refusal over files is shown file by file."""
    data = link.data_directory(args)
    ref = Ref.parse(args.claimed) if args.claimed else None
    found = locate(args.path, signature=args.signature, statement=args.statement, data=data, ref=ref)
    keys = load_keys(args.key, data)
    progress = None if args.json or not sys.stderr.isatty() else _show_progress
    try:
        if found.statement is None:
            proof = verify_bundle(
                args.path,
                found.signature,
                keys,
                foreign=_foreign(args),
                allow_hard_links=is_stored(args.path, data),
                progress=progress,
            )
            if args.slsa_builder is not None:
                check_builder([], args.slsa_builder, str(args.path))  # a bundle alone has no provenance
            _show_files_only(args, found, proof)
        else:
            verified = verify_model(
                args.path,
                name=ref,
                trust=keys,
                signature=found.signature,
                statement=found.statement,
                store=data,
                progress=progress,
            )
            beside = _attestations(args, found, verified, keys)
            _show(args, found, verified, beside, _recorded(data, verified))
    except Refused as error:
        if error.code != "ART-TAMPER" or args.json:
            raise
        _show_tampered(error)
        return error.exit_status
    finally:
        if progress is not None:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
    return 0


def _attestations(
    args: argparse.Namespace, found: Sidecars, verified: Verified, keys: Sequence[PublicKey]
) -> list[str]:
    """The labels of what is signed beside the release, each checked. Raises ART-ATTACHMENT, PROV-BUILDER."""
    about = str(verified.ref)
    opened = {}
    if found.statement is not None and found.statement.name.endswith(STATEMENT_SUFFIX):
        path = found.statement.with_name(found.statement.name.removesuffix(STATEMENT_SUFFIX))
        opened = open_beside(path, keys, PAPERS, about=about, digest=verified.digest)
    if args.slsa_builder is not None:
        check_builder(list(opened.values()), args.slsa_builder, about)
    return list(opened)


def _recorded(data: Path, verified: Verified) -> datetime | None:
    """When the ledger in the data directory recorded this signature; None where there is none to ask.

    The statement's own time is what the signer's machine said. Whether the ledger holds is another question
    (`garrison audit verify`), and nothing is decided by this one.
    """
    if not is_begun(data):
        return None
    try:
        from garrison.evidence import store  # a third of a second, and the core install has no database
        from garrison.storage.database import open_kept  # as above

        with contextlib.closing(open_kept(data)) as database, database.read() as ledger:
            wanted = store.Filter(action=Action.ARTIFACT_SIGN.value, model=str(verified.ref))
            times = [
                record.event.time
                for record in store.find(ledger, wanted)
                if record.event.digest == verified.digest and record.event.data.get("key") == verified.key_id
            ]
    except (ImportError, GarrisonError):
        return None
    return min(times, default=None)


def _show(
    args: argparse.Namespace,
    found: Sidecars,
    verified: Verified,
    attached: list[str],
    recorded: datetime | None,
) -> None:
    if args.json:
        report = {
            "attachments": attached,
            "builder": args.slsa_builder,
            "recorded": None if recorded is None else format_time(recorded),
            **verified.as_json(),
        }
        output.print_json({"schema": "garrison.verify/1", "verdict": "verified", **report})
        return
    statement = verified.statement
    output.print_pairs(
        [
            ("verified", f"{verified.ref}   {short(verified.digest)}"),
            (
                "files",
                f"{len(verified.manifest.files)} files, {output.megabytes(verified.manifest.size)}, all as signed",
            ),
            (
                "signed",
                f"{output.moment(statement.created)}   by {verified.key_label} {verified.key_id[:16]}…",
            ),
            *([("recorded", f"{output.moment(recorded)}   in the ledger")] if recorded else []),
            ("publisher", f"{statement.publisher}   owner {statement.owner}   tier {statement.tier.value}"),
            ("scan", f"{statement.verdict}   rules {statement.scanner}"),
            ("by", f"{found.signature} and {found.statement}"),
            *([("attached", f"{', '.join(attached)}: signed, of this release")] if attached else []),
            *([("builder", args.slsa_builder)] if args.slsa_builder else []),
        ]
    )


def _foreign(args: argparse.Namespace) -> Foreign:
    """Whom a bundle without a key of ours has to convince. Raises `Usage` ART-CA for half an answer."""
    keyless = (args.sigstore_root, args.signed_by, args.issuer)
    if any(keyless):
        if not all(keyless) or args.ca:
            raise Usage(
                "ART-CA",
                "a keyless signature is judged by three things together",
                fix="give --sigstore-root FILE, --identity NAME and --issuer URL, and no --ca",
            )
        return Keyless(*keyless)
    return load_authorities(args.ca, datetime.now(UTC)) if args.ca else None


def _show_files_only(args: argparse.Namespace, found: Sidecars, proof: SignedDirectory) -> None:
    note = "the bundle binds no name and no version; a release statement does"
    files, size = len(proof.manifest.files), proof.manifest.size
    if args.json:
        output.print_json(
            {
                "schema": "garrison.verify/1",
                "verdict": "files-only",
                "ref": None,
                "files": files,
                "size": size,
                "key_id": proof.key.key_id,
                "key_label": proof.key.label,
                "note": note,
            }
        )
        return
    output.print_pairs(
        [
            ("verified", f"{files} files, {output.megabytes(size)}, all as signed in {found.signature}"),
            ("signed", f"by {proof.key.label} {proof.key.key_id[:16]}…"),
            ("note", note),
        ]
    )


def _show_tampered(error: Refused) -> None:
    """The refusal as a person reads it: each file with what was signed and what is there."""
    evidence = error.evidence
    signed = f"   {evidence['signed'][:16].replace('T', ' ')} UTC" if "signed" in evidence else ""
    lines = [
        *output.difference_lines(evidence),
        ("by", f"{evidence['key_label']} {evidence['key_id'][:16]}…{signed}"),
        ("next", error.fix),
    ]
    output.print_refusal(error, lines)


def _show_progress(done: int, total: int) -> None:
    print(f"\r\033[Kreading {done / 1e6:,.0f} of {total / 1e6:,.0f} MB", end="", file=sys.stderr, flush=True)
