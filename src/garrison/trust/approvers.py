"""The key of an approver in the token: which label it has. One key for each identity, none shared."""

from __future__ import annotations

import hashlib

from garrison.core.errors import Usage
from garrison.trust.keys.pkcs11 import check_label

PREFIX = "approver."


def label_of(name: str) -> str:
    """`approver.dana`; a digest of the name stands where the name itself cannot be a label."""
    try:
        check_label(PREFIX + name)
    except Usage:
        return PREFIX + hashlib.sha256(name.encode()).hexdigest()[:40]
    return PREFIX + name
