"""What a LiteLLM configuration comes to here: the commands that make its routes and limits, and what has none.

Pure: a mapping in, proposals out; nothing is applied. Values of keys are never kept: a proposal names the file that
the key has to be written to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from garrison.core.errors import Usage

MAX_FILE = 1 << 20  # bytes; a configuration of 1,000 models has 200 kB
MAX_MODELS = 1_000
MAX_DEPTH = 16
KEYS = "/etc/garrison/keys"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}\Z")
_URL = re.compile(r"(https?)://([A-Za-z0-9.-]{1,253})(:[0-9]{1,5})?((?:/[A-Za-z0-9._~-]+)*)/?\Z")
_HOME = {
    "openai": ("openai", "https://api.openai.com"),
    "azure": ("azure", ""),
    "anthropic": ("anthropic", "https://api.anthropic.com"),
    "bedrock": ("bedrock", "https://bedrock-runtime.{region}.amazonaws.com"),
    "sagemaker": ("sagemaker", "https://runtime.sagemaker.{region}.amazonaws.com"),
    "vertex_ai": ("vertex", ""),
    "hosted_vllm": ("openai", ""),
    "vllm": ("openai", ""),
    "ollama": ("openai", "http://localhost:11434"),
    "ollama_chat": ("openai", "http://localhost:11434"),
    "huggingface": ("openai", ""),
    "together_ai": ("openai", "https://api.together.xyz"),
    "groq": ("openai", "https://api.groq.com/openai"),
    "mistral": ("openai", "https://api.mistral.ai"),
    "deepseek": ("openai", "https://api.deepseek.com"),
    "text-completion-openai": ("openai", "https://api.openai.com"),
}
_GUARDS = {
    "presidio": "personal data is replaced by default; try it: garrison inspect --direction input --jsonl",
    "hide-secrets": "secrets are replaced by default, streamed answers included",
    "hide_secrets": "secrets are replaced by default, streamed answers included",
    "lakera": "injection is refused by default: garrison guard --help",
    "lakera_v2": "injection is refused by default: garrison guard --help",
    "aporia": "injection is refused by default: garrison guard --help",
    "bedrock": "values and injection are handled here; denied topics are patterns of your own: garrison dlp --help",
    "litellm_content_filter": "patterns of your own: garrison dlp --help",
}
_ELSEWHERE = {
    "master_key": "there is none: the first operator is the account that runs the server",
    "database_url": "identities, limits and spend are in the ledger of the data directory",
    "database_connection_pool_limit": "no database on the request path",
    "alerting": "alerts are events: garrison audit export",
    "callbacks": "events are exported: garrison audit export; metrics are on a loopback listener",
    "success_callback": "events are exported: garrison audit export; metrics are on a loopback listener",
    "failure_callback": "events are exported: garrison audit export; metrics are on a loopback listener",
    "cache": "answers are not cached",
    "cache_params": "answers are not cached",
    "drop_params": "fields that are not passed on are refused by name, never dropped",
    "num_retries": "another server of the route is tried once, before the answer has begun",
    "request_timeout": "the gateway has its own limits on time: docs/gateway.md",
    "routing_strategy": "servers of the lowest order share requests by weight",
    "pass_through_endpoints": "only the routes of docs/gateway.md are answered",
    "custom_auth": "no code of users runs in the gateway: garrison issuer add URL",
    "enable_jwt_auth": "always on: garrison issuer add URL --audience garrison",
    "store_prompts_in_spend_logs": "prompts are never kept",
}


@dataclass(slots=True)
class Proposal:
    """`commands` to run in this order, `files` that some of them read, `keys` to write, `left` with the reason."""

    commands: list[list[str]] = field(default_factory=list)
    files: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)  # path: whose key, by the variable that LiteLLM reads
    left: list[tuple[str, str]] = field(default_factory=list)


def propose(config: object, tier: str) -> Proposal:
    """The proposal for a parsed configuration. Raises `Usage` IMPORT-LITELLM."""
    _bounded(config, MAX_DEPTH)
    if not isinstance(config, dict) or not isinstance(config.get("model_list"), list):
        raise unreadable("it has no model_list")
    if len(config["model_list"]) > MAX_MODELS:
        raise unreadable(f"it lists more than {MAX_MODELS} models")
    found = Proposal()
    named: dict[str, list[dict[str, Any]]] = {}
    for item in config["model_list"]:
        if not isinstance(item, dict) or not isinstance(item.get("litellm_params"), dict):
            raise unreadable("an entry of model_list has no litellm_params")
        name = _route_name(item.get("model_name"), found)
        if name:
            named.setdefault(name, []).append(item["litellm_params"])
    for name, entries in named.items():
        _route(name, entries, tier, found)
    for section in ("litellm_settings", "router_settings", "general_settings"):
        _section(config.get(section), section, found)
    _guards(config.get("guardrails"), found)
    return found


def _route_name(given: object, found: Proposal) -> str:
    """The name of the route; another form of it when ours allows less. Empty when nothing can be made of it."""
    name = str(given).lower().replace("/", "-").replace(" ", "-") if isinstance(given, str) else ""
    if not _NAME.match(name):
        found.left.append(("model_list", "a model_name that is no plain name; wildcards are not routes here"))
        return ""
    if name != given:
        found.left.append(
            (_shown(given), f"is called {name} here: names are a-z, 0-9, dot, dash, underscore")
        )
    return name


def _route(name: str, entries: list[dict[str, Any]], tier: str, found: Proposal) -> None:
    servers = [
        server for number, params in enumerate(entries) if (server := _server(name, number, params, found))
    ]
    if not servers:
        return
    command = ["garrison", "route", "add", name]
    if len(servers) == 1:
        server = servers[0]
        command += ["--upstream", server["address"]]
        for option in ("kind", "model", "region", "key_file"):
            if server.get(option) and (option, server[option]) != ("kind", "openai"):
                command += [f"--{option.replace('_', '-')}", server[option]]
    else:
        file = f"{name}.servers.json"
        found.files[file] = servers
        command += ["--servers", file]
    found.commands.append([*command, "--tier", tier])
    _limits(name, entries, found)


def _server(name: str, number: int, params: Mapping[str, Any], found: Proposal) -> dict[str, Any] | None:
    provider, slash, model = str(params.get("model", "")).partition("/")
    if not slash:
        provider, model = str(params.get("custom_llm_provider") or "openai"), provider
    if provider not in _HOME or not _PLAIN.match(model):
        found.left.append(
            (name, f"a server of the provider {_shown(provider)} is not one that is known here")
        )
        return None
    kind, home = _HOME[provider]
    region = str(params.get("aws_region_name") or "")
    base = params.get("api_base") or params.get("base_url") or home.replace("{region}", region or "us-east-1")
    address = _address(base)
    if not address:
        found.left.append((name, "a server without a plain http:// or https:// address: api_base"))
        return None
    server: dict[str, Any] = {"id": f"s{number + 1}", "kind": kind, "address": address, "model": model}
    if kind in ("bedrock", "sagemaker"):
        server["region"] = region or "us-east-1"
    if isinstance(params.get("weight"), int) and params["weight"] > 0:
        server["weight"] = params["weight"]
    if "api_key" in params or kind in ("bedrock", "sagemaker", "vertex", "anthropic", "azure"):
        path = f"{KEYS}/{name}{'' if number == 0 else f'-{number + 1}'}.key"
        server["key_file"] = path
        found.keys[path] = _source(params.get("api_key"))
    return server


def _limits(name: str, entries: list[dict[str, Any]], found: Proposal) -> None:
    """What LiteLLM limits for a deployment is limited for the model, all callers together."""
    options = {
        "rpm": "--requests-per-minute",
        "tpm": "--tokens-per-minute",
        "max_parallel_requests": "--concurrency",
    }
    words: list[str] = []
    for field_name, option in options.items():
        amounts = [
            one[field_name] for one in entries if type(one.get(field_name)) is int and one[field_name] > 0
        ]
        if amounts:
            words += [option, str(sum(amounts))]
    if words:
        found.commands.append(
            ["garrison", "limit", "set", f"{name}-all".replace("_", "-"), "--model", name, *words]
        )
    for entry in entries:
        asked, answered = entry.get("input_cost_per_token"), entry.get("output_cost_per_token")
        if isinstance(asked, float) and isinstance(answered, float) and 0 <= asked < 1 and 0 <= answered < 1:
            prices = ["--input", f"{asked * 1e6:.6g}", "--output", f"{answered * 1e6:.6g}"]
            found.commands.append(["garrison", "limit", "price", name, *prices])
            return


def _section(section: object, title: str, found: Proposal) -> None:
    if section is None:
        return
    if not isinstance(section, dict):
        raise unreadable(f"{title} is not a mapping")
    for name in sorted(str(key) for key in section):
        if name == "max_budget" and isinstance(section[name], int | float) and section[name] > 0:
            days = _days(section.get("budget_duration"))
            amount = f"{section[name] / days:.2f}"
            found.commands.append(["garrison", "limit", "set", "budget", "--money-per-day", amount])
            if days != 1:
                found.left.append(("max_budget", f"is {amount} in any day here: a {days:g}th of it"))
        elif name in ("fallbacks", "context_window_fallbacks", "default_fallbacks"):
            found.left.append(
                (name, "servers of one route stand in for one another: give them in one --servers file")
            )
        elif name != "budget_duration":
            found.left.append((f"{title}.{_shown(name)}", _ELSEWHERE.get(name, "has no counterpart here")))


def _guards(guards: object, found: Proposal) -> None:
    for guard in guards if isinstance(guards, list) else []:
        params = guard.get("litellm_params") if isinstance(guard, dict) else None
        kind = str(params.get("guardrail", "")) if isinstance(params, dict) else ""
        why = _GUARDS.get(kind, "code of users does not run in the gateway; patterns do: garrison dlp --help")
        found.left.append((f"guardrail {_shown(kind)}", why))


def _address(base: object) -> str:
    """Without the `/v1` that LiteLLM's OpenAI-style bases end with: the path of a door is added here."""
    found = _URL.match(base) if isinstance(base, str) else None
    if found is None:
        return ""
    scheme, host, port, path = found.groups()
    return f"{scheme}://{host}{port or ''}{(path or '').removesuffix('/v1')}"


def _source(key: object) -> str:
    """Where LiteLLM takes the key from, when it says so; never the key."""
    if (
        isinstance(key, str)
        and key.startswith("os.environ/")
        and re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", key[11:])
    ):
        return f"the variable {key[11:]}"
    return "the configuration itself, in the clear: change it" if key else "the provider"


def _days(duration: object) -> float:
    found = re.fullmatch(r"([0-9]{1,4})(s|m|h|d|mo)", str(duration or "1d"))
    if found is None:
        return 1.0
    seconds = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "mo": 30 * 86_400}[found[2]] * int(found[1])
    return max(seconds / 86_400, 1.0)


def _bounded(value: object, depth: int) -> None:
    """Aliases make a small file a large tree: what is deeper or larger than any configuration is refused."""
    left = 200_000
    stack: list[tuple[object, int]] = [(value, depth)]
    while stack:
        item, more = stack.pop()
        left -= 1
        if more == 0 or left == 0:
            raise unreadable("it is too deep or too large")
        if isinstance(item, dict):
            stack += [(one, more - 1) for one in item.values()]
        elif isinstance(item, list):
            stack += [(one, more - 1) for one in item]


def _shown(text: object) -> str:
    return "".join(char for char in str(text)[:40] if char.isprintable())


def unreadable(why: str) -> Usage:
    return Usage(
        "IMPORT-LITELLM", f"that is no LiteLLM configuration: {why}", fix="give the file of litellm --config"
    )
