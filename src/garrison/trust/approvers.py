"""The key of an approver in the token: which label it has. One key for each identity, none shared."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container

from garrison.core.errors import Usage
from garrison.trust.keys.labels import check_label

_LABEL = re.compile(r"approver(?:-([0-9]{1,4}))?\.")


def label_of(name: str, number: int = 1) -> str:
    """`approver.dana`, and `approver-2.dana` after the first was revoked.

    A digest of the name stands where the name itself cannot be a label.
    """
    prefix = "approver." if number == 1 else f"approver-{number}."
    try:
        check_label(prefix + name)
    except Usage:
        return prefix + hashlib.sha256(name.encode()).hexdigest()[:40]
    return prefix + name


def in_force(name: str, revoked: Container[str]) -> str:
    """The label of the key that signs for a person now: the first that is not among the revoked ones."""
    number = 1
    while label_of(name, number) in revoked:
        number += 1
    return label_of(name, number)


def is_label(label: str) -> bool:
    return _LABEL.match(label) is not None


def is_of(label: str, name: str) -> bool:
    """Whether a key is, or was, that person's."""
    found = _LABEL.match(label)
    return found is not None and label_of(name, int(found[1] or 1)) == label
