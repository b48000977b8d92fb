"""The second tier's process: its files verified and held, started in a sandbox, ended with whoever started it.

The bytes that are compared with the digest are the bytes that it gets, as descriptors; it has no network, sees no
file and answers on one Unix socket. It is started anew by the same steps, so changed bytes never come back.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from garrison.artifacts.scan import scan_path
from garrison.core.digest import Manifest
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.core.finding import Verdict
from garrison.detect.tier2 import Spec, parse_spec
from garrison.detect.tier2_ask import Asked
from garrison.detect.tier2_released import Released
from garrison.runtime.held import Holding, Passed
from garrison.runtime.running import innermost
from garrison.runtime.sandboxes.base import MIB, Launch, Limits
from garrison.runtime.sandboxes.ladder import sandbox_for
from garrison.runtime.sandboxes.places import SERVERS
from garrison.runtime.sandboxes.start import SOCKET_NAME
from garrison.runtime.sandboxes.users import free_uid
from garrison.runtime.supervisor import MAX_SOCKET_PATH
from garrison.trust.tree import Sink, Writer, read_tree

FILES = ("model.onnx", "tokenizer.json", "config.json")
MAX_HELD = 4 << 30  # bytes of the three files
MAX_CONFIG = 1 * MIB
HEADROOM = 1536 * MIB  # address space beside the model: onnxruntime, its threads, scratch
READY_SECONDS = 120.0
POLL_SECONDS = 0.02
HEALTH_SECONDS = 5.0
END_SECONDS = 10.0
LEVELS = ("bwrap", "landlock")  # for a program without a server: the strongest that this machine has
Read = Callable[[Sink], Manifest]  # pours the files out, and raises for what may not be used
_HEALTH = b"GET /health HTTP/1.1\r\nHost: tier2\r\nConnection: close\r\n\r\n"


def check(folder: Path, digest: str) -> dict[str, Any]:
    """Scan and compare; the facts of a classifier that may be used. Raises `Refused` or `Usage` GRD-TIER2."""
    report = scan_path([folder])
    if report.verdict is not Verdict.CLEAN:
        bad = next(file for file in report.files if file.verdict is not Verdict.CLEAN)
        raise Refused(
            "GRD-TIER2",
            f"{Path(bad.path).name} of the classifier is {bad.verdict.value}, not clean",
            fix=f"garrison scan {folder}",
        )
    return facts_of({"folder": str(folder), "digest": digest}, _reader(folder))


def directory_of(run: Path, digest: str) -> Path:
    """Where the socket of a classifier is, below the run directory; short, since sockets have short paths."""
    return run / "tier2" / digest.removeprefix("sha256:")[:12]


def known(one: Released) -> dict[str, Any]:
    """The facts of a classifier that comes with Garrison, scanned when it was released."""
    return facts_of({"folder": str(one.folder), "digest": one.digest}, _reader(one.folder))


def facts_of(said: Mapping[str, str], read: Read) -> dict[str, Any]:
    """What is said of a classifier, with what its configuration says. Raises `Refused` GRD-TIER2."""
    holding = Holding(MAX_HELD)
    try:
        config = _held(read, said["digest"], holding)
    finally:
        holding.close()
    return {**said, "config": config, "channels": list(_spec(config).channels)}


def name_of(facts: Mapping[str, Any]) -> str:
    """The version in the registry, or the folder."""
    return str(facts.get("model") or facts["folder"])


def _reader(folder: Path) -> Read:
    def read(sink: Sink) -> Manifest:
        if not folder.is_dir():
            raise Usage("GRD-TIER2", f"{folder} is no folder", fix="give the folder of model.onnx")
        return read_tree(folder, sink=sink, allow_hard_links=True)

    return read


@dataclass(slots=True)
class SideProcess:
    """One classifier, by the facts that `check` gave. `launch` in a thread that lives as long as it should."""

    facts: Mapping[str, Any]
    directory: Path  # for the socket alone; made and removed here
    level: str
    threads: int = 1
    read: Read | None = None  # in the place of a folder
    process: subprocess.Popen[bytes] | None = None
    _holding: Holding | None = field(default=None, repr=False)
    _spoken: int = -1

    @property
    def asked(self) -> Asked:
        return Asked(str(self.directory / SOCKET_NAME), parse_spec(self.facts["config"]))

    def verify(self) -> None:
        """Read the files once and hold what was compared. Raises `Refused` GRD-TIER2, and what `read` raises."""
        self.forget()
        self._holding = Holding(MAX_HELD)
        try:
            _held(self.read or _reader(Path(self.facts["folder"])), str(self.facts["digest"]), self._holding)
        except BaseException:
            self.forget()
            raise

    def launch(self) -> None:
        """Start what was verified. Raises `Undecided` ISO-UNAVAILABLE, `Usage` RUN-SOCKET-PATH."""
        if self._holding is None:
            raise ValueError("verify comes first")
        if len(os.fsencode(self.directory / SOCKET_NAME)) > MAX_SOCKET_PATH:
            raise Usage(
                "RUN-SOCKET-PATH",
                f"the path of the second tier's socket is longer than {MAX_SOCKET_PATH} bytes: {self.directory}",
                fix="use a data directory with a shorter path: --data DIR",
            )
        spec, files = parse_spec(self.facts["config"]), dict(self._holding.files)
        sandbox = sandbox_for(self.level)
        uid = free_uid(())
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(mode=0o700, parents=True)
        if os.geteuid() == 0:
            os.chown(self.directory, uid, uid)
        size = sum(os.fstat(descriptor).st_size for descriptor in files.values())
        self._close_output()
        self._spoken = os.memfd_create("tier2-output")
        self.process = sandbox.launch(
            Launch(
                name="the second tier",
                program=SERVERS / "text_classifier.py",
                socket_directory=self.directory,
                uid=uid,
                output=self._spoken,
                settings=_settings(spec, self.threads),
                files={"model": files["model.onnx"], "tokenizer": files["tokenizer.json"]},
                limits=Limits(memory=4 * size + HEADROOM, cpus=self.threads + 1.0),
                compute_threads=self.threads,
                modules={"garrison.runtime.servers.web": SERVERS / "web.py"},
            )
        )
        self.forget()

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Until it answers. Raises `Undecided` GRD-TIER2 when it ends or stays silent."""
        ends = time.monotonic() + seconds
        while not self.is_well():
            if not self.is_running or time.monotonic() >= ends:
                words = self._last_words()
                self.stop()
                raise Undecided(
                    "GRD-TIER2",
                    f"the second tier did not start: {words or 'it gave no reason'}",
                    fix="pip install garrison[runtime]; then garrison scan FOLDER, and look at its config.json",
                )
            time.sleep(POLL_SECONDS)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def is_well(self, seconds: float = HEALTH_SECONDS) -> bool:
        """Whether it answers at all; a question is not needed for that."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(seconds)
                connection.connect(str(self.directory / SOCKET_NAME))
                connection.sendall(_HEALTH)
                return connection.recv(64).startswith(b"HTTP/1.1 200 ")
        except OSError:
            return False

    def stop(self) -> None:
        """End it; nothing of it stays."""
        process, self.process = self.process, None
        if process is not None:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(innermost(process.pid), 9)
                try:
                    process.wait(END_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(END_SECONDS)
            shutil.rmtree(self.directory, ignore_errors=True)
        self.forget()
        self._close_output()

    def forget(self) -> None:
        """Give back what is held here; the process has its own descriptors."""
        if self._holding is not None:
            self._holding.close()
            self._holding = None

    def _close_output(self) -> None:
        if self._spoken >= 0:
            os.close(self._spoken)
            self._spoken = -1

    def _last_words(self) -> str:
        """The last line printed before it was ready, made harmless for a terminal."""
        if self._spoken < 0:
            return ""
        size = os.fstat(self._spoken).st_size
        data = os.pread(self._spoken, 4_096, max(0, size - 4_096))
        lines = [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
        return "".join(c if c.isprintable() else "?" for c in lines[-1])[:300] if lines else ""


def strongest() -> str:
    """The level for a program without settings. Raises `Undecided` ISO-UNAVAILABLE when there is none."""
    for level in LEVELS[:-1]:
        with contextlib.suppress(Undecided):
            return sandbox_for(level).level
    return sandbox_for(LEVELS[-1]).level


def _settings(spec: Spec, threads: int) -> dict[str, object]:
    return {
        "threads": threads,
        "max_tokens": spec.max_tokens,
        "outputs": dict(spec.outputs),
        "harmless": list(spec.harmless),
        "labels": spec.labels,
    }


def _held(read: Read, digest: str, holding: Holding) -> dict[str, Any]:
    """The configuration of a classifier whose three files are held now."""

    def sink(path: str) -> Writer:
        return holding.writer(path) if path in FILES else Passed()

    found = read(sink).digest
    if found != digest:
        raise Refused(
            "GRD-TIER2",
            f"the folder has the digest {found}, not {digest or 'none'}",
            fix=f"if these are the bytes that are meant: --digest {found}",
            evidence={"found": found, "expected": digest},
        )
    missing = [name for name in FILES if name not in holding.files]
    if missing:
        raise Refused("GRD-TIER2", f"the folder has no {missing[0]}", fix="see docs/detection.md")
    descriptor = holding.files["config.json"]
    try:
        config = json.loads(os.pread(descriptor, MAX_CONFIG, 0))
        _spec(config)
    except (ValueError, RecursionError) as error:
        raise Refused(
            "GRD-TIER2", f"config.json says too little: {error}", fix="see docs/detection.md"
        ) from error
    return _kept(config)


def _spec(config: Any) -> Spec:
    try:
        return parse_spec(config)
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from error


def _kept(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration is told on: the labels, and our own keys."""
    return {key: config[key] for key in sorted(config) if key == "id2label" or key.startswith("garrison.")}


def started(facts: Mapping[str, Any], directory: Path, level: str) -> SideProcess:
    """Verify, start and wait, for a program of one thread. Raises what those raise; nothing runs then."""
    side = SideProcess(facts, directory, level)
    try:
        side.verify()
        side.launch()
        side.wait_ready()
    except (GarrisonError, OSError):
        side.stop()
        raise
    return side
