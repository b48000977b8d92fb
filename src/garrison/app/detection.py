"""What a customer added to detection, as the snapshot of the gateway carries it, and where its files are."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from garrison.app.settings import Settings
from garrison.app.tier2 import directory_of
from garrison.core.event import parse_time
from garrison.detect.tier2 import CHANNELS
from garrison.runtime.sandboxes.start import SOCKET_NAME
from garrison.trust.access import Access

NAMES = "names"  # the one thing that is said of names of people
_PACK = ("name", "version", "digest")  # what a worker needs to know of a pack


def folder_of(settings: Settings) -> Path:
    """Where the key and the fingerprints are; private to the user of the server."""
    return settings.data / "detect"


def restrictions(access: Access, now: datetime) -> list[dict[str, Any]]:
    """The section `restrictions`: what alerts led to, until it ends or somebody releases it."""
    return [
        {
            "alert": name,
            "identity": alert["subject"],
            "model": "",
            "action": alert["led_to"]["action"],
            "per_minute": alert["led_to"].get("per_minute", 0),
            "until": alert["led_to"]["until"],
        }
        for name, alert in access.alerts.items()
        if alert["state"] not in ("released", "closed")
        and "until" in alert["led_to"]
        and parse_time(alert["led_to"]["until"]) > now
    ]


def watched(access: Access, key: bytes) -> dict[str, Any]:
    """The section `watch`: what events say of how models are used. The key lives as long as the server runs."""
    return {"key": key.hex(), "networks": [dict(access.networks[name]) for name in sorted(access.networks)]}


def second_tier(access: Access) -> list[dict[str, Any]]:
    """Who is asked in doubt: by channel what was set. The one that comes with Garrison is set like any other."""
    found: dict[str, dict[str, Any]] = {}
    for channel in CHANNELS:
        facts = access.tier2.get(f"tier2.{channel}")
        if facts and "digest" in facts:
            one = found.setdefault(facts["digest"], {**facts, "channels": []})
            one["channels"].append(channel)
    return list(found.values())


def detection(access: Access, settings: Settings, now: datetime) -> dict[str, Any]:
    """The section `detect` of a snapshot. An exception that has ended is left out."""
    return {
        "patterns": [dict(access.patterns[name]) for name in sorted(access.patterns)],
        "copies": [dict(access.copies[name]) for name in sorted(access.copies)],
        **{
            key: [dict(known[name]) for name in sorted(known)]
            for key, known in (("canaries", access.canaries), ("actions", access.actions))
        },
        "packs": [{key: access.packs[name][key] for key in _PACK} for name in sorted(access.packs)],
        "hosts": sorted(access.hosts),
        "names": dict(access.names[NAMES]) if NAMES in access.names else None,
        "guards": [dict(access.guards[name]) for name in sorted(access.guards)],
        "tier2": [
            {
                "channels": one["channels"],
                "config": one["config"],
                "socket": str(directory_of(settings.run, one["digest"]) / SOCKET_NAME),
            }
            for one in second_tier(access)
        ],
        "exceptions": [
            dict(one) for _, one in sorted(access.exceptions.items()) if parse_time(one["until"]) > now
        ],
        "folder": str(folder_of(settings)),
    }
