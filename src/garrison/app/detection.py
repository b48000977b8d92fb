"""What a customer added to detection, as the snapshot of the gateway carries it, and where its files are."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from garrison.app.settings import Settings
from garrison.core.event import parse_time
from garrison.trust.access import Access


def folder_of(settings: Settings) -> Path:
    """Where the key and the fingerprints are; private to the user of the server."""
    return settings.data / "detect"


def detection(access: Access, settings: Settings, now: datetime) -> dict[str, Any]:
    """The section `detect` of a snapshot. An exception that has ended is left out."""
    return {
        "patterns": [dict(access.patterns[name]) for name in sorted(access.patterns)],
        "copies": [dict(access.copies[name]) for name in sorted(access.copies)],
        "exceptions": [
            dict(one) for _, one in sorted(access.exceptions.items()) if parse_time(one["until"]) > now
        ],
        "folder": str(folder_of(settings)),
    }
