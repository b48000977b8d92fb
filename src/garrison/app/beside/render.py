"""What is rendered for which product: files from templates, and how far each was proved. Pure: values in, text out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from garrison.app.beside.openapi import document
from garrison.app.beside.site import Site, split
from garrison.core.digest import canonical_json
from garrison.core.errors import Usage

MAX_BODY = 2 << 20  # bytes: as much as the gateway reads itself
ROUTED = ("/v1/", "/v2/")  # what a proxy passes on; everything else ends there, the question door too


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
        return (File("kong.yaml", _filled("kong.yaml", site, lua="")),)
    return (File("kong.yaml", _filled("kong.yaml", site, lua=_filled("kong-ask.lua", site))),)


def _aws(site: Site) -> tuple[File, ...]:
    return (
        File("openapi.json", _lines(document(site))),
        File("authorizer.py", _filled("authorizer.py", site)),
    )


def _azure(site: Site) -> tuple[File, ...]:
    return (File("policy.xml", _filled("azure.xml", site)),)


def _lines(value: object) -> str:
    import json  # for this file alone: people read it, canonical JSON is one line

    return json.dumps(json.loads(canonical_json(value)), indent=2) + "\n"


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
