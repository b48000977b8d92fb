"""The system calls that each server made while it started and answered. Written by `python scripts/profiles.py`."""

from __future__ import annotations

from collections.abc import Mapping

OBSERVED: Mapping[str, tuple[str, ...]] = {}
