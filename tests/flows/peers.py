"""Other people's programs, each in an environment of its own. Skips, loudly, where one cannot be made."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType

import pytest
from tests.flows.server import environment, free_port

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120


def _scripts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("garrison_peers", ROOT / "scripts" / "peers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def peer(name: str) -> Path:
    """The python of a peer's environment."""
    scripts = _scripts()
    try:
        return Path(scripts.environment(name))
    except scripts.Unavailable as error:
        pytest.skip(f"NOT PROVED HERE: {name} could not be installed: {error}")


def run(python: Path, code: str, *words: str, cwd: Path, **more: str) -> str:
    """Run a piece of a peer's user's code; its standard output."""
    done = subprocess.run(
        [str(python), "-c", code, *words],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=cwd,
        env=environment(**more),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
_INTERPRETER = """
import contextlib, io, json, sys, mlflow
from mlflow import MlflowClient
c = MlflowClient()
for line in sys.stdin:
    asked, out, error = json.loads(line), io.StringIO(), ""
    with contextlib.redirect_stdout(out):
        try:
            exec(asked["code"], {"mlflow": mlflow, "c": c, "words": asked["words"]})
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
    last = (out.getvalue().strip().splitlines() or [""])[-1]
    print(json.dumps({"out": last, "error": error}), flush=True)
"""


class PeerError(Exception):
    """What the peer's client raised."""


class MlflowServer:
    """A real `mlflow server` with a database and proxied artifacts."""

    def __init__(self, python: Path, room: Path, store: str = "", **more: str) -> None:
        self.python, self.room, self.port = python, room, free_port()
        room.mkdir(parents=True, exist_ok=True)
        self.url = f"http://127.0.0.1:{self.port}"
        self._words = ["--backend-store-uri", f"sqlite:///{room}/mlflow.db"]
        if store:
            self._words += ["--registry-store-uri", store]
        self._more = more
        self.process: subprocess.Popen[bytes] | None = None
        self._user: subprocess.Popen[str] | None = None

    def start(self) -> MlflowServer:
        words = [str(self.python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        words += [*self._words, "--workers", "1", "--artifacts-destination", str(self.room / "artifacts")]
        path = f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"
        with (self.room / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                words,
                stdout=log,
                stderr=log,
                cwd=self.room,
                start_new_session=True,
                env=environment(**{**_QUIET, **self._more, "PATH": path}),
            )
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise AssertionError((self.room / "server.log").read_text()[-3000:])

    def close(self) -> None:
        """Stop the server and end its user's interpreter."""
        self.stop()
        if self._user is not None:
            self._user.communicate(timeout=30)

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, 15)
            self.process.wait(30)
            self.process = None

    def client(self, code: str, *words: str) -> str:
        """Code of a user of MLflow, with `c` a client of this server and `words` its words: what it printed last.

        One interpreter runs them all: importing MLflow costs more than anything that is done with it.
        """
        if self._user is None:
            self._user = self._interpreter()
        assert self._user.stdin is not None
        assert self._user.stdout is not None
        self._user.stdin.write(json.dumps({"code": code, "words": words}) + "\n")
        self._user.stdin.flush()
        line = self._user.stdout.readline()
        assert line, (self.room / "client.log").read_text()[-3000:]
        answer = json.loads(line)
        if answer["error"]:
            raise PeerError(str(answer["error"]))
        return str(answer["out"])

    def _interpreter(self) -> subprocess.Popen[str]:
        urls = {"MLFLOW_TRACKING_URI": self.url, "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.room / "client.log").open("a") as log:
            return subprocess.Popen(
                [str(self.python), "-c", _INTERPRETER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.room,
                env=environment(GIT_PYTHON_REFRESH="quiet", **{**self._more, **urls}),
            )
