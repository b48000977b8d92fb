"""The shape of the list's files, said once: names of roles and files, limits, lifetimes and canonical bytes."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from securesystemslib.formats import encode_canonical

from garrison.core.digest import Ref, canonical_json
from garrison.core.errors import Usage

SPECIFICATION = "1.0.31"  # of The Update Framework; clients compare the first number
WITHDRAWN = "withdrawn"  # the role that ends the search for a path: what it names is not approved
THRESHOLDS = (1, 2)  # one role of each environment for every number of approvers that a tier asks for

MAX_ROOT = 64 * 1024  # bytes; two keys and a signature or two are 3 KB
MAX_TIMESTAMP = 16 * 1024  # bytes; what every TUF client reads at most
MAX_SNAPSHOT = 64 * 1024  # bytes; 34 files are 6 KB
MAX_TARGETS = 5_000_000  # bytes; what every TUF client reads at most: 11,000 approved versions
MAX_ENVIRONMENTS = 16
MAX_APPROVER_KEYS = 200
MAX_WITHDRAWN = 10_000  # paths; they leave the list at the next approval

TIMESTAMP_LIFETIME = timedelta(hours=24)
SNAPSHOT_LIFETIME = timedelta(days=7)
ROOT_LIFETIME = timedelta(days=365)
CLOCKS_DIFFER = timedelta(
    minutes=5
)  # a list that ends later than that after its life was made by a clock ahead

_ENVIRONMENT = re.compile(r"[a-z][a-z0-9-]{0,19}\Z")


def check_environment(name: str) -> str:
    """Raises `Usage` ENV-NAME."""
    if not _ENVIRONMENT.match(name) or name == WITHDRAWN:
        raise Usage(
            "ENV-NAME",
            f"{name[:40]!a} is not a name for an environment",
            fix="use a lower-case word of at most 20 letters, digits and -, such as staging",
        )
    return name


def role_name(environment: str, threshold: int) -> str:
    return f"{environment}-{threshold}"


def path_of(environment: str, ref: Ref) -> str:
    """The target path of an approved version: its signed release statement."""
    return f"{environment}/{ref.name}/{ref.version}.release.json"


def pattern_of(environment: str) -> str:
    return f"{environment}/*/*.release.json"


def parse_path(path: str) -> tuple[str, Ref]:
    """Raises ValueError, or `Usage` REF-SYNTAX."""
    environment, name, file = path.split("/")
    version = file.removesuffix(".release.json")
    ref = Ref.parse(f"{name}@{version}")
    if path_of(environment, ref) != path:
        raise ValueError("not the path of a release statement")
    return environment, ref


def format_expiry(moment: datetime) -> str:
    """Times in TUF have whole seconds; rounding down never lets anything live longer."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_expiry(text: str) -> datetime:
    """Raises ValueError."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")


def payload_of(signed: dict[str, Any]) -> bytes:
    """What is signed: OLPC canonical JSON, which escapes nothing but quote and backslash.

    Without a backslash in it, JSON says the same in C: a list of 10,000 takes 30 ms instead of 120.
    """
    fast = canonical_json(signed)
    if b"\\" not in fast:
        return fast
    text = encode_canonical(signed)
    assert text is not None  # it is returned when no output function is given
    return text.encode()
