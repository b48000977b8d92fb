"""What is rendered for which product: files from templates, and how far each was proved. Pure: values in, text out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from textwrap import indent

from jinja2 import Environment, PackageLoader, StrictUndefined

from garrison.app.beside.openapi import document
from garrison.app.beside.site import Site, split
from garrison.core.errors import Usage
from garrison.gateway.doors import DOORS, MODELS

MAX_BODY = 2 << 20  # bytes: as much as the gateway reads itself
ROUTED = ("/v1/", "/v2/")  # what a proxy passes on; everything else ends there, the question door too
_DOORS = (*DOORS, f"{MODELS}(/[a-z0-9][a-z0-9._@-]*)?")  # the last one answers without a body


@dataclass(frozen=True, slots=True)
class File:
    """One rendered file."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Target:
    """A product. `proved` is the level of docs/status.md, `proof` says by what; `can_ask` when it can ask Garrison."""

    name: str
    proved: str
    proof: str
    next: str
    can_ask: bool
    make: Callable[[Site], tuple[File, ...]]


def _filled(template: str, site: Site, **more: object) -> str:
    environment = Environment(
        loader=PackageLoader("garrison.app.beside"),
        undefined=StrictUndefined,
        autoescape=template.endswith(".xml"),
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    hosts = {
        f"{name}_{part}": value
        for name in ("listen", "gateway", "upstream")
        for part, value in zip(("host", "port"), split(getattr(site, name)), strict=True)
    }
    return environment.get_template(template).render(
        site=site, max_body=MAX_BODY, routed=ROUTED, **hosts, **more
    )


def _envoy(site: Site) -> tuple[File, ...]:
    front = _filled("envoy-secret.yaml", site, named="front", cert=site.cert, key=site.key)
    own = _filled("envoy-secret.yaml", site, named="garrison", cert=site.client_cert, key=site.client_key)
    return (
        File("envoy.yaml", _filled("envoy.yaml", site)),
        File("front.yaml", front),
        File("garrison.yaml", own),
    )


def _nginx(site: Site) -> tuple[File, ...]:
    return (File("nginx.conf", _filled("nginx.conf", site)),)


def _kong(site: Site) -> tuple[File, ...]:
    if not site.ask:
        return (File("kong.yaml", _filled("kong.yaml", site, doors=_DOORS, lua="")),)
    lua = indent(_filled("kong-ask.lua", site).rstrip("\n"), " " * 10)
    return (File("kong.yaml", _filled("kong.yaml", site, doors=_DOORS[:-1], lua=lua)),)


def _aws(site: Site) -> tuple[File, ...]:
    source = files("garrison.app.beside").joinpath("authorizer.py").read_text()
    return (
        File("openapi.json", json.dumps(document(site), indent=2) + "\n"),
        File("authorizer.py", source),
    )


def _azure(site: Site) -> tuple[File, ...]:
    return (File("policy.xml", _filled("azure.xml", site)),)


TARGETS = {
    target.name: target
    for target in (
        Target(
            "envoy",
            "R",
            "a real Envoy reads it and serves with it",
            "envoy --mode validate -c FILE",
            True,
            _envoy,
        ),
        Target("nginx", "R", "a real nginx reads it and serves with it", "nginx -t -c FILE", False, _nginx),
        Target("kong", "C", "held against Kong's published schema", "deck file validate FILE", True, _kong),
        Target(
            "aws",
            "E",
            "imported by an emulator; the authorizer ran",
            "aws apigateway import-rest-api",
            False,
            _aws,
        ),
        Target("azure", "C", "held against the documented elements", "az apim api policy", False, _azure),
    )
}


def render(product: str, site: Site) -> tuple[File, ...]:
    """The files for a product. Raises `Usage` RENDER-VALUE."""
    target = TARGETS[product]
    if site.ask and not target.can_ask:
        raise Usage(
            "RENDER-VALUE",
            f"{product} cannot give the body of a request to somebody who judges it",
            fix="leave --ask out: requests then pass through the gateway itself",
        )
    return target.make(site)
