"""Keys that have no successor here: why, and what to do when one of them was stolen."""

from __future__ import annotations

from garrison.core.errors import Refused

_FIXED = {
    "root": "keyring, approved list and the descriptions of tokens are believed by it, here and elsewhere",
    "ledger": "every record so far is believed by it, and a ledger by another key is another ledger",
    "ca": "certificates of agents and services are believed by it until they end",
    "token": "access tokens are believed by it; each ends within a day",
    "snapshot": "the gateway's workers believe what may serve by it",
}
"""Roles whose key has no successor here: what hangs on it."""


def fixed_role(role: str) -> Refused:
    """Why a key is neither rotated nor revoked, and what to do when it was stolen."""
    if role not in _FIXED:
        why, fix = "it is not a role whose key is followed by another", "garrison key rotate release"
    else:
        why = f"{_FIXED[role]}. Whoever could copy it could copy all keys of its token"
        fix = (
            "when it was stolen: stop the server, keep this directory as evidence (garrison audit verify), then "
            "garrison up --data NEW, publish and approve again, and send what garrison key trust --out FILE writes"
        )
    return Refused("KEY-ROLE", f"the key for {role[:40]!a} is not changed by this command: {why}", fix=fix)
