"""What the usual servers of other makers are started with, as far as it is known: none was compared with a release.

Each is the start of a declared command: `garrison runtime servers NAME` prints it as it stands in `servers.toml`. Where
a server's only way to be reached is TCP, it gets a port on the loopback of its own network namespace.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

NVIDIA = ["/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm"]
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1"}
HOME = {"HOME": "/tmp", "USER": "model"}  # noqa: S108 - the sandbox's own

PROFILES: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "llama-server": {
        "command": [
            *("llama-server", "--model", "{model}", "--host", "{socket}", "--alias", "{name}"),
            *("--threads", "{threads}", "--no-webui"),
        ],
        "tasks": ["chat", "completions", "embeddings"],
        "memory_gib": 16,
        "threads": 256,
    },
    "vllm": {
        "command": [
            *("vllm", "serve", "{model}", "--host", "127.0.0.1", "--port", "{port}"),
            # what it compiles at its start would need a compiler, and more of /tmp than there is
            *("--served-model-name", "{name}", "--enforce-eager"),
        ],
        "tasks": ["chat", "completions", "embeddings"],
        "environment": {
            **OFFLINE,
            **HOME,
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_HOST_IP": "127.0.0.1",
            "GLOO_SOCKET_IFNAME": "lo",
            "NCCL_SOCKET_IFNAME": "lo",
        },
        "devices": NVIDIA,
        "port": 8000,
        "memory_gib": 64,
        "threads": 1024,
    },
    "tgi": {
        "command": [
            *(
                "text-generation-launcher",
                "--model-id",
                "{model}",
                "--hostname",
                "127.0.0.1",
                "--port",
                "{port}",
            ),
            *("--sharded", "false", "--shard-uds-path", "/tmp/shard", "--usage-stats", "off"),  # noqa: S108 - its own
        ],
        "tasks": ["chat", "completions"],
        "environment": {**OFFLINE, **HOME},
        "devices": NVIDIA,
        "port": 8080,
        "memory_gib": 64,
        "threads": 1024,
    },
    "triton": {
        "command": [
            *("tritonserver", "--model-repository={directory}", "--model-control-mode=none"),
            *(
                "--http-address=127.0.0.1",
                "--http-port={port}",
                "--allow-grpc=false",
                "--allow-metrics=false",
            ),
        ],
        "tasks": ["infer"],
        "health": "/v2/health/ready",
        "devices": NVIDIA,
        "port": 8000,
        "memory_gib": 32,
        "threads": 512,
    },
}


def as_toml(name: str) -> str:
    """The profile as a declaration to be edited: `model` and what `shows` the program are the machine's own."""
    profile = {"command": ["server", "{model}", "{socket}"], "tasks": ["chat"], **PROFILES[name]}
    program, *words = profile["command"]
    place = f"/opt/{name}"
    rows = {
        "model": "NAME",
        "profile": name,
        "command": [f"{place}/bin/{program}", *words],
        "shows": [place],
        **{key: value for key, value in profile.items() if key not in ("command", "environment")},
    }
    environment = {"PATH": f"{place}/bin", **profile.get("environment", {})}
    lines = ["[[server]]", *_rows(rows), "", "[server.environment]", *_rows(environment)]
    return "\n".join(lines)


def _rows(values: Mapping[str, Any]) -> list[str]:
    """A text in JSON's form is one in TOML's, and so are whole numbers and lists of texts."""
    return [f"{key} = {json.dumps(value)}" for key, value in values.items()]
