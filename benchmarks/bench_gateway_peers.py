"""The peers of bench_gateway.py: each installed into the user's cache once, and started in front of the mock model."""

from __future__ import annotations

import base64
import fcntl
import importlib.util
import json
import shutil
import subprocess
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

import gateway

ROOT = Path(__file__).resolve().parent.parent
LITELLM, PORTKEY = "1.109.1", "1.15.2"
# LiteLLM pins versions of these that no index has yet; it runs with the newest ones that there are.
LITELLM_OVERRIDES = ("certifi", "litellm-proxy-extras", "litellm-enterprise")
INSTALL_SECONDS = 900
READY_SECONDS = 120


class Missing(Exception):
    """A peer that cannot be had here, and why."""


@dataclass(frozen=True, slots=True)
class Side:
    """One server under load."""

    name: str
    port: int
    pid: int
    path: str = "/v1/chat/completions"


@contextmanager
def envoy(bench: gateway.Bench, upstream: Path) -> Iterator[Side]:
    peers = _peers()
    try:
        python = Path(peers.environment("envoy"))
    except peers.Unavailable as error:
        raise Missing(str(error)) from error
    binary = next(python.parents[1].glob("lib/python*/site-packages/envoy/_bin/envoy"))
    port = gateway._free_port()
    config = bench.root / "envoy.json"
    config.write_text(json.dumps(_envoy_config(port, upstream, _jwks(bench), bench.root / "access.log")))
    command = [*gateway._on(1), str(binary), "-c", str(config), "--disable-hot-restart"]
    with _up([*command, "--concurrency", "1", "-l", "error"], bench.root / "envoy.err", port) as pid:
        yield Side("Envoy: JWT, rate limit, JSON log", port, pid)


def _envoy_config(port: int, upstream: Path, jwks: str, log: Path) -> dict[str, object]:
    kind = "type.googleapis.com/envoy.extensions."
    filters, bucket = kind + "filters.http.", {"max_tokens": 10**9, "tokens_per_fill": 10**9}
    share = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    provider = {"issuer": "garrison", "audiences": ["garrison"], "local_jwks": {"inline_string": jwks}}
    chain = {
        "jwt_authn": {
            "@type": filters + "jwt_authn.v3.JwtAuthentication",
            "providers": {"garrison": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "garrison"}}],
        },
        "local_ratelimit": {
            "@type": filters + "local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "limit",
            "token_bucket": {**bucket, "fill_interval": "1s"},
            "filter_enabled": share,
            "filter_enforced": share,
        },
        "router": {"@type": filters + "router.v3.Router"},
    }
    fields = {"time": "%START_TIME%", "code": "%RESPONSE_CODE%", "path": "%REQ(:PATH)%", "ms": "%DURATION%"}
    manager = {
        "@type": kind + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "http_filters": [
            {"name": f"envoy.filters.http.{name}", "typed_config": c} for name, c in chain.items()
        ],
        "access_log": [
            {
                "name": "file",
                "typed_config": {
                    "@type": kind + "access_loggers.file.v3.FileAccessLog",
                    "path": str(log),
                    "log_format": {"json_format": fields},
                },
            }
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "model"}}],
                }
            ]
        },
    }
    listener = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(upstream)}}}}
    cluster = {
        "name": "model",
        "load_assignment": {"cluster_name": "model", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _jwks(bench: gateway.Bench) -> str:
    """The key that tokens of this run are signed with, as Envoy takes it."""
    public = load_pem_public_key(bench.token_key.public_pem())
    if not isinstance(public, EllipticCurvePublicKey):
        raise Missing("the tokens of this run are not signed by an elliptic curve key")
    numbers, size = public.public_numbers(), (public.key_size + 7) // 8
    x, y = (
        base64.urlsafe_b64encode(each.to_bytes(size, "big")).rstrip(b"=").decode()
        for each in (numbers.x, numbers.y)
    )
    curve = f"P-{public.key_size}"
    return json.dumps({"keys": [{"kty": "EC", "crv": curve, "x": x, "y": y, "kid": bench.token_key.key_id}]})


@contextmanager
def litellm(root: Path, nginx: int) -> Iterator[Side]:
    place = _installed(f"bench-litellm-{LITELLM}", _install_litellm)
    port, config = gateway._free_port(), root / "litellm.json"
    params = {"model": "openai/bench", "api_base": f"http://127.0.0.1:{nginx}/v1", "api_key": "none"}
    # Without a master key it checks nobody's, which costs it nothing; so it has to be told that this is meant.
    settings = {"dangerously_permit_weak_or_unset_master_key": True}
    models = [{"model_name": "bench", "litellm_params": params}]
    config.write_text(json.dumps({"model_list": models, "general_settings": settings}))
    command = [str(place / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    with _up(
        [*gateway._on(1), *command, "--port", str(port), "--num_workers", "1"], root / "l.err", port
    ) as pid:
        yield Side(f"LiteLLM proxy {LITELLM}, no keys, no guards", port, pid)


@contextmanager
def portkey(root: Path) -> Iterator[Side]:
    node = shutil.which("node")
    if node is None:
        raise Missing("node is not installed")
    place = _installed(f"bench-portkey-{PORTKEY}", _install_portkey)
    server, port = place / "node_modules/@portkey-ai/gateway/build/start-server.js", gateway._free_port()
    command = [*gateway._on(1), node, str(server), "--headless", f"--port={port}"]
    with _up(command, root / "portkey.err", port) as pid:
        yield Side(f"Portkey gateway {PORTKEY}, no guards", port, pid)


def _install_litellm(place: Path) -> list[list[str]]:
    """With the parser that its server would rather have, and its pins of what runs ahead of the index given up."""
    venv.create(place, with_pip=True)
    python, given_up = str(place / "bin" / "python"), place / "overrides.txt"
    given_up.write_text("\n".join(LITELLM_OVERRIDES))
    uv = [str(place / "bin" / "uv"), "pip", "install", "-q", "--python", python, "--override", str(given_up)]
    pip = [python, "-m", "pip", "install", "-q", "--no-input", "--disable-pip-version-check", "uv"]
    return [pip, [*uv, f"litellm[proxy]=={LITELLM}", "httptools"]]


def _install_portkey(place: Path) -> list[list[str]]:
    npm = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(place)]
    return [[*npm, f"@portkey-ai/gateway@{PORTKEY}"]]


def _installed(name: str, commands: Callable[[Path], list[list[str]]]) -> Path:
    """The environment of a peer in the user's cache, made by one process at a time when it is not there whole."""
    home = Path(_peers()._home())
    home.mkdir(parents=True, exist_ok=True)
    place = home / name
    with (home / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "done").exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            for command in commands(place):
                _install(command)
            (place / "done").touch()
    return place


def _install(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"not installed: {type(error).__name__}") from error
    if done.returncode != 0:
        raise Missing((done.stderr.strip().splitlines() or ["the installer said nothing"])[-1])


@contextmanager
def _up(command: list[str], log: Path, port: int) -> Iterator[int]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            ends = time.monotonic() + READY_SECONDS
            while not gateway._answers(port):
                if process.poll() is not None or time.monotonic() > ends:
                    last = log.read_text(errors="replace").strip().splitlines()[-1:]
                    raise Missing(f"did not start: {' '.join(last)}")
                time.sleep(0.05)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)


def _peers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("garrison_peers", ROOT / "scripts" / "peers.py")
    if spec is None or spec.loader is None:
        raise Missing("scripts/peers.py is not there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
