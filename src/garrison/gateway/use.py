"""What an event says of how a model is used: from where, with which program, and a sketch of what was asked.

Bounded and without text: a network's name or prefix, the program when it is one of a known few (of another, a
keyed digest of its name: any word can stand in a User-Agent), counts, and a keyed sketch (`detect.anomaly.sketch`)
of the last thing that was asked.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

from garrison.detect.anomaly.sketch import KEY_BYTES, Sketcher
from garrison.gateway.http_parse import Head
from garrison.gateway.openai_shapes import Call

MAX_NETWORKS = 1_024
MAX_KNOWN = 4_096  # addresses and programs whose name is remembered
_PROGRAM = re.compile(rb"([A-Za-z][A-Za-z0-9._-]{0,39})(?:[/ ]|$)")
# fmt: off - one name a line would be a page
PROGRAMS = frozenset(
    {
        "openai",
        "asyncopenai",
        "anthropic",
        "asyncanthropic",
        "python-requests",
        "python-httpx",
        "aiohttp",
        "python-urllib",
        "curl",
        "wget",
        "node",
        "node-fetch",
        "undici",
        "axios",
        "go-http-client",
        "java",
        "okhttp",
        "apache-httpclient",
        "reactornetty",
        "mozilla",
        "langchain",
        "litellm",
        "llama-index",
        "semantic-kernel",
        "bun",
        "deno",
        "reqwest",
        "ruby",
        "faraday",
        "php",
        "guzzlehttp",
        "k6",
        "vegeta",
        "garrison",
    }
)
# fmt: on
_PREFIX = {4: 24, 6: 48}  # what one household or office usually has

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Uses:
    """Of one snapshot: its key and its named networks."""

    __slots__ = ("_key", "_names", "_networks", "_programs", "_sketcher")

    def __init__(self, key: bytes = b"", networks: Sequence[tuple[Network, str]] = ()) -> None:
        self._key = key
        self._sketcher = Sketcher(key) if key else None
        self._networks = sorted(networks, key=lambda one: -one[0].prefixlen)  # the narrowest says who it is
        self._names: dict[str, str] = {}
        self._programs: dict[bytes, str] = {}

    def of(self, head: Head, peer: str, tenant: str, call: Call) -> dict[str, Any]:
        """What the event of a request says under `use`; empty when nobody looks at it."""
        if self._sketcher is None:
            return {}
        body = call.body
        found: dict[str, Any] = {
            "network": self._network(peer),
            "client": self._program(head.headers.get(b"user-agent", b"")),
            "sketch": self._sketcher.sketch(last_asked(body)),
        }
        if tenant:
            found["tenant"] = tenant
        if body.get("logprobs") or body.get("top_logprobs"):
            top = body.get("top_logprobs") or body.get("logprobs")
            found["logprobs"] = top if type(top) is int and top > 0 else 1
        inputs = body.get("input")
        if type(inputs) is list:
            found["inputs"] = len(inputs)
        return found

    def _network(self, peer: str) -> str:
        name = self._names.get(peer)
        if name is None:
            if len(self._names) >= MAX_KNOWN:
                self._names.clear()
            name = self._names[peer] = network_of(peer, self._networks)
        return name

    def _program(self, agent: bytes) -> str:
        name = self._programs.get(agent)
        if name is None:
            if len(self._programs) >= MAX_KNOWN:
                self._programs.clear()
            match = _PROGRAM.match(agent)
            name = self._programs[agent] = (
                self._shown(match[1]) if match else "none" if not agent else "other"
            )
        return name

    def _shown(self, word: bytes) -> str:
        if word.decode().lower() in PROGRAMS:
            return word.decode()
        return "other-" + hashlib.blake2b(word, key=self._key[:64], digest_size=6).hexdigest()


def network_of(peer: str, networks: Sequence[tuple[Network, str]]) -> str:
    """The name of the network that an address is in; its prefix when it has none."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return "local"
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    for network, name in networks:
        if address.version == network.version and address in network:
            return name
    return str(ipaddress.ip_network((address, _PREFIX[address.version]), strict=False))


def last_asked(body: Mapping[str, Any]) -> str:
    """The newest text of a request: what varies from one to the next."""
    messages = body.get("messages")
    if type(messages) is list:
        for message in reversed(messages):
            content = message.get("content") if type(message) is dict else None
            if type(content) is str and message.get("role") != "system":
                return content
        return ""
    value = body.get("input", body.get("prompt"))
    if type(value) is list:
        value = value[-1] if value else ""
    return value if type(value) is str else ""


def parse_uses(facts: Any) -> Uses:
    """As the snapshot has it. Raises ValueError, TypeError or KeyError."""
    if not facts:
        return Uses()
    key, networks = bytes.fromhex(facts["key"]), facts["networks"]
    if len(key) != KEY_BYTES or not isinstance(networks, list) or len(networks) > MAX_NETWORKS:
        raise ValueError("watch")
    return Uses(key, [(ipaddress.ip_network(item["network"]), str(item["name"])) for item in networks])
