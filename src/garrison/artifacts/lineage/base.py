"""Lineage as a value: what a model was made from and how, each thing by digest. Nothing is read here.

Whoever knows something of a model's making (a file that its publisher wrote, a tracking server, a data
version tool) returns a `Lineage`; provenance and the bill of materials are written from it. The four parts
that people ask for are data, preprocessing, run and evaluation; a part that is missing, or that nobody
hashed, is a gap and is shown as one.

This module knows no other of the registry: `release.py` imports it, so nothing below `lineage/` may import
`release.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, get_args

from garrison.core.event import format_time

Kind = Literal["data", "preprocessing", "run", "evaluation", "base_model", "code"]
Fact = str | int | float | bool
KINDS: tuple[Kind, ...] = get_args(Kind)
PARTS: tuple[Kind, ...] = ("data", "preprocessing", "run", "evaluation")
MAX_MATERIALS = 10_000  # a lineage names its inputs, not every shard of a crawl
MAX_TEXT = 4096  # a path or an address
MAX_FACTS = 1_000  # parameters of a run, metrics of a report

_DIGEST = re.compile(r"[0-9a-f]{8,128}\Z")
_ALGORITHM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}\Z")


@dataclass(frozen=True, slots=True)
class Material:
    """One thing that went into a model, or came out of its making.

    `name` is what people call it, `uri` where it is (empty when nobody knows), `digests` its hashes by
    in-toto algorithm name (`{"sha256": "<hex>"}`), `facts` what else is known (rows, parameters, metrics).
    Raises ValueError when a field is not what it should be.
    """

    kind: Kind
    name: str
    uri: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is not one of {', '.join(KINDS)}")
        if not self.name or len(self.name) > MAX_TEXT or len(self.uri) > MAX_TEXT:
            raise ValueError(f"a material has a name, and neither it nor its address passes {MAX_TEXT:,}")
        for algorithm, value in self.digests.items():
            if not _ALGORITHM.match(algorithm) or not _DIGEST.match(value):
                raise ValueError(f"{self.name}: {algorithm} is not a digest in lower-case hexadecimal")
        if len(self.facts) > MAX_FACTS:
            raise ValueError(f"{self.name}: more than {MAX_FACTS:,} facts")
        object.__setattr__(self, "digests", MappingProxyType(dict(self.digests)))
        object.__setattr__(self, "facts", MappingProxyType(dict(self.facts)))

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "uri": self.uri,
            "digests": dict(self.digests),
            "facts": dict(self.facts),
        }


@dataclass(frozen=True, slots=True)
class Lineage:
    """Everything that one source tells of a model's making.

    `source` says who told it (`lineage.toml`, `mlflow`, `dvc`), `builder` the id of what trained the model
    (an address that its operator controls; empty when unknown).
    """

    source: str
    builder: str = ""
    started: datetime | None = None
    finished: datetime | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    materials: tuple[Material, ...] = ()

    def __post_init__(self) -> None:
        if len(self.materials) > MAX_MATERIALS:
            raise ValueError(f"a lineage names at most {MAX_MATERIALS:,} materials")
        if len(self.builder) > MAX_TEXT or not self.source or len(self.source) > MAX_TEXT:
            raise ValueError("a lineage has a source, and its builder is an address")
        if max(len(self.parameters), len(self.metrics)) > MAX_FACTS:
            raise ValueError(f"a lineage has at most {MAX_FACTS:,} parameters and metrics")
        object.__setattr__(self, "parameters", MappingProxyType(dict(self.parameters)))
        object.__setattr__(self, "metrics", MappingProxyType(dict(self.metrics)))

    def of(self, kind: Kind) -> tuple[Material, ...]:
        return tuple(material for material in self.materials if material.kind == kind)

    def gaps(self) -> tuple[str, ...]:
        """Which of the four parts is missing, or holds something that nobody hashed."""
        return gaps(self.materials)

    def as_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "builder": self.builder,
            "started": format_time(self.started) if self.started else None,
            "finished": format_time(self.finished) if self.finished else None,
            "parameters": dict(self.parameters),
            "metrics": dict(self.metrics),
            "materials": [material.as_json() for material in self.materials],
        }


def gaps(materials: tuple[Material, ...]) -> tuple[str, ...]:
    """As `Lineage.gaps`, over materials from several places."""
    found = []
    for part in PARTS:
        of_part = [material for material in materials if material.kind == part]
        if not of_part or any(not material.digests for material in of_part):
            found.append(part)
    return tuple(found)
