"""Is what a cloud service runs what was approved? Pure: what was found there and what is known here give findings.

A model there says by a tag which version it is (`garrison-model = fraud@3`). Without one it is recognised by
its files. Files that were not read are told as such and never pass for good.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from garrison.core.digest import short
from garrison.core.errors import GarrisonError, Refused, Undecided

TAG = "garrison-model"
MAX_NAMED = 20
_PINNED = re.compile(r"@sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the registry: its files by path, and whether it may serve now."""

    ref: str
    digest: str
    files: Mapping[str, str]
    state: str


@dataclass(frozen=True, slots=True)
class CloudModel:
    """A model as the service describes it. `files` is None when its bytes could not be read; `problem` says why."""

    name: str
    location: str
    claims: str = ""
    images: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    files: Mapping[str, str] | None = None
    problem: str = ""
    weak: tuple[tuple[str, str], ...] = ()
    """(what is set otherwise than it should be, how to set it)"""


@dataclass(frozen=True, slots=True)
class Finding:
    code: str
    where: str
    what: str
    fix: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "where": self.where,
            "what": self.what,
            "next": self.fix,
            "evidence": dict(self.evidence),
        }


def judge(models: Sequence[CloudModel], versions: Sequence[Version], images: frozenset[str]) -> list[Finding]:
    """Everything that is not as it should be, worst first. `images` are the digests that are pinned here."""
    found = [one for model in models for one in _of_model(model, versions, images)]
    order = ("CLD-TAMPER", "CLD-UNKNOWN", "CLD-NOT-APPROVED", "CLD-IMAGE", "CLD-CONFIG", "CLD-UNREADABLE")
    return sorted(found, key=lambda one: (order.index(one.code), one.where))


def error_of(found: Sequence[Finding], service: str) -> GarrisonError | None:
    """One refusal for all of it; "could not read" is told only when nothing worse was found."""
    if not found:
        return None
    first = found[0]
    rest = f" (and {len(found) - 1} more findings)" if len(found) > 1 else ""
    kind = Undecided if first.code == "CLD-UNREADABLE" else Refused
    evidence = {"service": service, "findings": [one.as_json() for one in found]}
    return kind(first.code, f"{first.where}: {first.what}{rest}", fix=first.fix, evidence=evidence)


def _of_model(model: CloudModel, versions: Sequence[Version], images: frozenset[str]) -> list[Finding]:
    found = []
    if model.files is None:
        found.append(
            Finding(
                "CLD-UNREADABLE",
                model.name,
                f"{model.location or 'its artifact'} could not be read: {model.problem}",
                "give these credentials the right to read it, then repeat the command",
            )
        )
    else:
        found += _of_files(model, model.files, versions)
    for image in model.images:
        found += _of_image(model.name, image, images)
    found += [Finding("CLD-CONFIG", model.name, what, fix) for what, fix in model.weak]
    return found


def _of_files(model: CloudModel, files: Mapping[str, str], versions: Sequence[Version]) -> list[Finding]:
    version = next((one for one in versions if one.ref == model.claims), None)
    if version is None:
        version = next((one for one in versions if one.files == files), None)
    if version is None:
        said = f"it says it is {model.claims[:80]!a}, and " if model.claims else ""
        return [
            Finding(
                "CLD-UNKNOWN",
                model.name,
                f"{said}its files at {model.location} are those of no version in the registry",
                f"publish and approve it, then set its tag {TAG}=NAME@VERSION; or take it out of service",
                {"location": model.location, "files": sorted(files)[:MAX_NAMED]},
            )
        ]
    if version.files != files:
        return [_tampered(model, files, version)]
    if version.state != "approved":
        return [
            Finding(
                "CLD-NOT-APPROVED",
                model.name,
                f"it serves {version.ref} ({short(version.digest)}), which is {version.state} here",
                f"approve it: garrison approve {version.ref}; or take it out of service there",
                {"ref": version.ref, "digest": version.digest, "endpoints": list(model.endpoints)},
            )
        ]
    return []


def _tampered(model: CloudModel, files: Mapping[str, str], version: Version) -> Finding:
    changed = []
    for path in sorted(files.keys() | version.files.keys()):
        if path not in files:
            changed.append({"path": path, "change": "missing"})
        elif path not in version.files:
            changed.append({"path": path, "change": "extra"})
        elif files[path] != version.files[path]:
            changed.append({"path": path, "change": "changed"})
    named = ", ".join(f"{one['path']} ({one['change']})" for one in changed[:3])
    return Finding(
        "CLD-TAMPER",
        model.name,
        f"{model.location} is not {version.ref}: {named}",
        f"upload the approved files again: garrison model pull {version.ref}",
        {
            "ref": version.ref,
            "digest": version.digest,
            "location": model.location,
            "changes": changed[:MAX_NAMED],
        },
    )


def _of_image(name: str, image: str, images: frozenset[str]) -> list[Finding]:
    if not _PINNED.search(image):
        return [
            Finding(
                "CLD-IMAGE",
                name,
                f"the image {image[:200]} is named by a tag, which can mean another image tomorrow",
                "name it by its digest: IMAGE@sha256:…",
                {"image": image[:300]},
            )
        ]
    digest = image.rpartition("@")[2]
    if digest in images:
        return []
    return [
        Finding(
            "CLD-IMAGE",
            name,
            f"the image {image[:200]} is pinned there, and its digest is none that was verified and pinned here",
            "verify it and pin it here too: garrison image pin oci:DIR@sha256:… --as NAME",
            {"image": image[:300]},
        )
    ]
