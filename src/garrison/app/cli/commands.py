"""Every command: its name, a few words for the first screen, and the module that has it.

A module is imported when its command is asked for: all of them together take 0.4 s and need every
optional dependency, `garrison scan` takes 0.1 s and needs the core install alone.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from itertools import chain
from types import ModuleType

from garrison.app.cli.output import WIDTH

# At most 26 columns of words each, so that two columns fit a terminal.
ALONE: dict[str, str] = {
    "demo": "a real model, real attacks",
    "up": "run the server",
    "scan": "judge model files",
    "sign": "sign files with the token",
    "verify": "check files by signature",
    "image": "container images (OCI)",
    "inspect": "judge texts, as a filter",
    "guard": "measure injection guards",
    "dlp": "values that must not leave",
    "detect": "unusual use of models",
    "assess": "a standard, item by item",
    "audit": "read and verify the ledger",
    "lineage": "how a model was made",
    "posture": "the state of five layers",
    "store": "where model files are kept",
    "doctor": "what this machine offers",
    "runtime": "try to leave a sandbox",
    "k8s": "manifests for a cluster",
    "admit": "may it enter the cluster?",
    "explain": "what a code means",
    "completion": "for bash, zsh and fish",
}
SERVER: dict[str, str] = {
    "model": "versions in the registry",
    "dataset": "training data, signed",
    "eval": "evaluation reports, signed",
    "publish": "same as model publish",
    "approve": "approve a version",
    "unapprove": "off the approved list",
    "approvals": "the approved list",
    "serve": "same as deploy apply",
    "ask": "ask a served model",
    "deploy": "what serves, and rollback",
    "environment": "lists by environment",
    "route": "models served elsewhere",
    "token": "short-lived access tokens",
    "issuer": "other issuers of tokens",
    "limit": "how much may be used",
    "alerts": "unusual use, undone",
    "gateway": "proxies, config, selftest",
    "mesh": "bad certificates, each hop",
    "sink": "events to a SIEM",
    "user": "identities and roles",
    "admin": "the way back in",
    "key": "keys in the PKCS#11 token",
    "owner": "who answers for a model",
    "import": "from MLflow, DVC, W&B, HF",
    "drift": "imports against sources",
    "webhook": "MLflow, a cluster asking",
    "schedule": "periodic jobs",
    "edge": "bundles for other sites",
    "cloud": "models in cloud services",
}
PROMISE = "Nothing unverified loads. Nothing unauthenticated asks. Nothing secret leaves."
EXITS = "exit: 0 done or allowed, 1 refused, 2 usage, 3 cannot decide, 4 defect"
_COLUMN = 40


def names() -> tuple[str, ...]:
    return (*ALONE, *SERVER)


def load(command: str) -> ModuleType:
    """The module that adds this command to the tree. Raises ModuleNotFoundError when its extra is missing."""
    return _alone(command) if command in ALONE else _with_server(command)


def _alone(command: str) -> ModuleType:
    match command:
        case "demo":
            from garrison.app.cli import demo  # needed by this command alone: 5 ms

            return demo
        case "up":
            from garrison.app.cli import up  # needed by this command alone: the server, 0.6 s

            return up
        case "scan":
            from garrison.app.cli import scan  # the scanners: 60 ms

            return scan
        case "sign":
            from garrison.app.cli import sign  # cryptography: 60 ms

            return sign
        case "verify":
            from garrison.app.cli import verify  # cryptography: 60 ms

            return verify
        case "image":
            from garrison.app.cli import image  # cryptography: 60 ms

            return image
        case "inspect":
            from garrison.app.cli import inspect  # hyperscan: 30 ms, extra server

            return inspect
        case "guard":
            from garrison.app.cli import guard  # hyperscan: 30 ms, extra server

            return guard
        case "dlp":
            from garrison.app.cli import dlp  # hyperscan: 30 ms, extra server

            return dlp
        case "detect":
            from garrison.app.cli import detect  # SQLAlchemy: 260 ms, extra server

            return detect
        case "assess":
            from garrison.app.cli import assess  # the detectors and the scanners: 0.3 s

            return assess
        case "audit":
            from garrison.app.cli import audit  # SQLAlchemy: 260 ms, extra server

            return audit
        case "lineage":
            from garrison.app.cli import lineage  # needed by this command alone

            return lineage
        case "posture":
            from garrison.app.cli import posture  # SQLAlchemy: 260 ms, extra server

            return posture
        case "store":
            from garrison.app.cli import store  # http.client: 30 ms

            return store
        case "doctor":
            from garrison.app.cli import doctor  # needed by this command alone: 30 ms

            return doctor
        case "runtime":
            from garrison.app.cli import runtime  # needed by this command alone: 30 ms

            return runtime
        case "k8s":
            from garrison.app.cli import k8s  # needed by this command alone: 30 ms

            return k8s
        case "admit":
            from garrison.app.cli import admit  # needed by this command alone: 30 ms

            return admit
        case "explain":
            from garrison.app.cli import explain  # the pages: 5 ms

            return explain
        case "completion":
            from garrison.app.cli import completion  # needed by this command alone

            return completion
    raise LookupError(command)


def _with_server(command: str) -> ModuleType:
    match command:
        case "approve" | "unapprove" | "approvals" | "environment":
            from garrison.app.cli import approval  # http.client: 30 ms

            return approval
        case "model" | "publish":
            from garrison.app.cli import model  # http.client: 30 ms

            return model
        case "dataset":
            from garrison.app.cli import dataset  # http.client: 30 ms

            return dataset
        case "eval":
            from garrison.app.cli import evaluation  # http.client: 30 ms

            return evaluation
        case "ask":
            from garrison.app.cli import ask  # the SDK: 60 ms

            return ask
        case "serve" | "deploy":
            from garrison.app.cli import deploy  # http.client: 30 ms

            return deploy
        case "route":
            from garrison.app.cli import route  # http.client: 30 ms

            return route
        case "schedule":
            from garrison.app.cli import schedule  # http.client: 30 ms

            return schedule
        case "owner":
            from garrison.app.cli import owner  # http.client: 30 ms

            return owner
        case "key":
            from garrison.app.cli import key  # http.client: 30 ms

            return key
        case "admin":
            from garrison.app.cli import admin  # http.client: 30 ms

            return admin
        case "token" | "user":
            from garrison.app.cli import identity  # http.client: 30 ms

            return identity
        case "gateway" | "mesh":
            from garrison.app.cli import selfcheck  # http.client: 30 ms

            return selfcheck
        case "alerts":
            from garrison.app.cli import alerts  # http.client: 30 ms

            return alerts
        case "limit":
            from garrison.app.cli import limit  # http.client: 30 ms

            return limit
        case "sink":
            from garrison.app.cli import sink  # http.client: 30 ms

            return sink
        case "issuer":
            from garrison.app.cli import issuer  # http.client: 30 ms

            return issuer
        case "import" | "drift":
            from garrison.app.cli import imports  # http.client: 30 ms

            return imports
        case "cloud":
            from garrison.app.cli import cloud  # http.client: 30 ms

            return cloud
        case "edge":
            from garrison.app.cli import edge  # http.client: 30 ms

            return edge
        case "webhook":
            from garrison.app.cli import webhook  # needed by this command alone

            return webhook
    raise LookupError(command)


def screen() -> str:
    """What `garrison --help` prints: both lists on one screen."""
    return "\n".join(
        [
            PROMISE,
            "",
            "  garrison demo               the whole story in about ninety seconds",
            "  garrison COMMAND --help     an example of a command, then its options",
            "",
            "Alone, on files of this machine:",
            *_two_columns(ALONE),
            "",
            "With a server (garrison up):",
            *_two_columns(SERVER),
            "",
            *textwrap.wrap(
                "Before or after every command: --json (one JSON document), --data DIR (default: "
                "GARRISON_DATA, else ./garrison-data), --as IDENTITY, --token-file FILE. After publish and "
                "verify, --as is the NAME@VERSION; before them, it is who asks.",
                WIDTH,
                break_on_hyphens=False,
            ),
            EXITS,
            "",
        ]
    )


def _two_columns(entries: Mapping[str, str]) -> list[str]:
    cells = [f"  {name:<10} {text}" for name, text in entries.items()]
    half = (len(cells) + 1) // 2
    pairs = zip(cells[:half], chain(cells[half:], [""]), strict=False)
    return [f"{left:<{_COLUMN}}{right}".rstrip() for left, right in pairs]
