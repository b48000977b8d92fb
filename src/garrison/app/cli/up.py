"""`garrison up`: run everything on this machine until it is told to stop."""

from __future__ import annotations

import argparse
import gc
from pathlib import Path
from typing import Any


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "up",
        help="run registry, gateway, model servers and ledger on this machine",
        epilog="example: garrison up --data ./garrison-data --listen 127.0.0.1:8443",
    )
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help="address of the gateway (default: 127.0.0.1:8443)"
    )
    parser.add_argument("--workers", type=int, help="gateway processes (default: 1)")
    parser.add_argument(
        "--database",
        metavar="URL",
        help="keep records in postgresql://USER@HOST/NAME (default: as begun, else SQLite)",
    )
    parser.add_argument(
        "--store",
        metavar="URL",
        help="keep model files in s3://bucket/prefix (default: as begun, else local)",
    )
    parser.add_argument(
        "--store-encryption",
        choices=("none", "aes-256-gcm"),
        help="encrypt every object with a key from the token (default: as begun, else none)",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="settings file (default: garrison.toml in the data directory)"
    )


def run(args: argparse.Namespace) -> int:
    gc.disable()  # what is imported stays: looking at it again and again for garbage is a fifth of the start
    # The server's rooms take a second to import; no other command should pay for them.
    from garrison.app import settings, up

    gc.freeze()
    gc.enable()
    flags = {"data": args.data, "listen": args.listen, "workers": args.workers}
    flags |= {"database": args.database, "store": args.store, "store_encryption": args.store_encryption}
    chosen = settings.load(flags, file=Path(args.config) if args.config else None)
    return up.up(chosen, as_json=args.json)
