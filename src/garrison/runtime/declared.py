"""A server of the customer's own as a declared command: which program, what it is shown, what it may do.

    # servers.toml in the data directory; written by whoever runs the machine, never by who publishes a model
    [[server]]
    model = "big"
    profile = "vllm"                  # of `server_profiles.py`; every line of it may be said otherwise
    command = ["/opt/vllm/bin/vllm", "serve", "{model}", "--host", "127.0.0.1", "--port", "{port}"]
    shows = ["/opt/vllm"]             # read-only, and the only places with programs
    memory_gib = 60

The command is a list of words, never a line for a shell; PLACES are the only places in it. It runs in the level `bwrap`
with nothing of the host's environment: the profile says what is set. A server that takes no Unix socket gets a `port`
on the loopback of its own network namespace, which holds nothing else; `forward.py` beside it carries bytes there.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from garrison.core.errors import Refused, Usage
from garrison.runtime.loader import LoadedModel
from garrison.runtime.sandboxes.base import MIB
from garrison.runtime.sandboxes.start import MODEL_DIRECTORY, SOCKET_NAME
from garrison.runtime.server_profiles import PROFILES

FILE = "servers.toml"
MAX_BYTES = 64 * 1024
MAX_WORDS = 200
TASKS = frozenset({"chat", "completions", "embeddings", "infer"})
_PLACES = re.compile(r"\{([a-z_]*)\}")
PLACES = ("model", "directory", "socket", "port", "name", "threads")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,63}\Z")
_DEVICE = re.compile(r"/dev/(nvidia[a-z0-9-]*|kfd|dri/renderD[0-9]+)\Z")
_KEYS = frozenset(
    {
        "model",
        "profile",
        "command",
        "shows",
        "tasks",
        "environment",
        "devices",
        "health",
        "port",
        "memory_gib",
        "threads",
    }
)


@dataclass(frozen=True, slots=True)
class Declared:
    """One declared command, checked."""

    command: tuple[str, ...]
    shows: tuple[Path, ...]
    tasks: frozenset[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[Path, ...] = ()
    health: str = "/health"
    memory: int = 4096 * MIB
    threads: int = 64
    port: int | None = None

    def words(self, name: str, threads: int, model: str) -> tuple[str, ...]:
        values = dict(
            zip(
                PLACES, (model, MODEL_DIRECTORY, SOCKET_NAME, str(self.port), name, str(threads)), strict=True
            )
        )
        return tuple(_PLACES.sub(lambda found: values[found[1]], word) for word in self.command)


def find(path: Path, model: str) -> Declared | None:
    """What `servers.toml` declares for a model; None when it declares nothing. Raises `Usage` RUN-DECLARED."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _wrong(path, f"cannot be read: {error.strerror}") from error
    try:
        if len(text) > MAX_BYTES:
            raise ValueError(f"has more than {MAX_BYTES} bytes")
        rows = tomllib.loads(text.decode()).get("server", [])
        found = [row for row in rows if row.get("model") == model]
        if len(found) > 1:
            raise ValueError(f"declares {model!a} twice")
        return _parsed(found[0]) if found else None
    except (
        ValueError,
        TypeError,
        AttributeError,
    ) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise _wrong(path, str(error)) from error


def _parsed(row: Mapping[str, Any]) -> Declared:
    if unknown := sorted(row.keys() - _KEYS):
        raise ValueError(f"does not know {unknown[0]!a}")
    profile = str(row.get("profile", "plain"))
    if profile not in PROFILES:
        raise ValueError(f"has no profile {profile[:40]!a}; there are {', '.join(PROFILES)}")
    chosen = {**PROFILES[profile], **row}
    command = _texts(chosen, "command")
    for word in command:
        if unknown_places := set(_PLACES.findall(word)).difference(PLACES):
            raise ValueError(f"has no place {sorted(unknown_places)[0]!a} in a command")
    port = chosen.get("port")
    if (port is None) == any("{port}" in word for word in command):
        raise ValueError("gives both a port and {port} in the command, or neither")
    shows = tuple(Path(each) for each in _texts(chosen, "shows"))
    if not all(each.is_absolute() for each in (*shows, Path(command[0]))):
        raise ValueError("names the program and what it is shown by absolute paths")
    if any(each in (Path("/"), Path("/proc"), Path("/sys"), Path("/dev")) for each in shows):
        raise ValueError("does not show the whole machine")
    environment = dict(chosen.get("environment", {}))
    if not all(_VARIABLE.match(key) and isinstance(value, str) for key, value in environment.items()):
        raise ValueError("sets variables of capitals to texts")
    devices = tuple(chosen.get("devices", ()))
    if not all(isinstance(each, str) and _DEVICE.match(each) for each in devices):
        raise ValueError("shows devices that compute, and no others")
    tasks = frozenset(_texts(chosen, "tasks"))
    if not tasks <= TASKS:
        raise ValueError(f"has tasks of {', '.join(sorted(TASKS))}")
    return Declared(
        command=command,
        shows=shows,
        tasks=tasks,
        environment=environment,
        devices=tuple(Path(each) for each in devices),
        health=_health(chosen.get("health", "/health")),
        memory=_number(chosen.get("memory_gib", 4), 1, 4096) * 1024 * MIB,
        threads=_number(chosen.get("threads", 64), 1, 65_536),
        port=None if port is None else _number(port, 1024, 65_535),
    )


def place_of(loaded: LoadedModel) -> str:
    """What `{model}` stands for: the one file, or the directory of several."""
    return f"{MODEL_DIRECTORY}/{next(iter(loaded.kept))}" if len(loaded.kept) == 1 else MODEL_DIRECTORY


def refuse_level(level: str, name: str) -> None:
    if level != "bwrap":
        raise Refused(
            "RUN-DECLARED",
            f"{name} is served by a declared command, and those run in the level bwrap, not in {level}",
            fix="garrison serve NAME@VERSION --isolation bwrap",
        )


def _texts(chosen: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = chosen.get(key)
    is_texts = isinstance(value, list) and all(
        isinstance(each, str) and each and "\0" not in each for each in value
    )
    if not is_texts or not value or len(value) > MAX_WORDS:
        raise ValueError(f"gives {key} as a list of words")
    return tuple(value)


def _health(path: Any) -> str:
    if not isinstance(path, str) or not re.fullmatch(r"/[A-Za-z0-9/_.-]{0,200}", path):
        raise ValueError("gives health as a path")
    return path


def _number(value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"gives whole numbers from {low} to {high}")
    return value


def _wrong(path: Path, why: str) -> Usage:
    return Usage("RUN-DECLARED", f"{path} {why}", fix="mend the file; docs/runtime.md shows one that works")
