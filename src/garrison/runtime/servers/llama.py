"""Runs inside a sandbox: a GGUF model behind llama.cpp's own server, on one Unix socket. A script.

Every other door of that server is pinned off here, because its defaults change between releases: pages,
slots, properties, metrics, tools, adapters, media, model directories, downloads. The gateway lets only the
OpenAI paths through besides. The standard library and xllamacpp are all it needs.
"""

from __future__ import annotations

import signal
from typing import Any

import xllamacpp

SETTINGS: dict[str, Any] = globals().get("SETTINGS", {})  # handed over by confine.py

HTTP_THREADS = 32  # each open connection holds one; they are idle but for the one that computes
OFF = {
    "ui": False,
    "ui_mcp_proxy": False,
    "endpoint_slots": False,
    "endpoint_props": False,
    "endpoint_metrics": False,
    "models_autoload": False,
    "offline": True,
    "log_json": False,
}
EMPTY = (
    "hf_token",
    "lora_adapters",
    "server_tools",
    "mcp_servers_config",
    "mcp_servers_json",
    "media_path",
    "models_dir",
    "models_preset",
    "models_preset_hf",
    "public_path",
    "path_prompt_cache",
    "path_prompts_log_dir",
    "slot_save_path",
    "ssl_file_cert",
    "ssl_file_key",
    "video_ffmpeg_bin_dir",
)


def parameters(settings: dict[str, Any]) -> Any:
    """The server's parameters. An option that this release does not know ends the program."""
    chosen = xllamacpp.CommonParams()
    for name, value in OFF.items():
        setattr(chosen, name, type(getattr(chosen, name))(value))  # reading it first: unknown names must fail
    for name in EMPTY:
        setattr(chosen, name, type(getattr(chosen, name))())
    chosen.model.path = f"/proc/self/fd/{settings['files']['model']}"
    chosen.model_alias = {settings["alias"]}
    chosen.hostnames = [settings["socket"]]
    chosen.n_ctx = settings["context"]
    chosen.n_parallel = settings["parallel"]
    chosen.n_threads_http = HTTP_THREADS
    chosen.cpuparams.n_threads = settings["threads"]
    chosen.cpuparams_batch.n_threads = settings["threads"]
    chosen.n_gpu_layers = 0
    chosen.warmup = False
    chosen.verbosity = 0
    chosen.cache_ram_mib = 0
    return chosen


if __name__ == "__main__":
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)  # inherited by the server's threads
    server = xllamacpp.Server(parameters(SETTINGS))
    print("listening", server.listening_address, flush=True)
    signal.sigwait(ending)
