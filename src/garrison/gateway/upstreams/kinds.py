"""The kinds of model servers: the path that is asked, the body it wants, and how its answers become chat answers.

Everything here is fixed or comes from the signed configuration. Nothing of it comes from a caller but the
inspected body.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from garrison.gateway.sse import EventParser
from garrison.gateway.upstreams import bedrock, claude, gemini
from garrison.gateway.upstreams.connection import malformed
from garrison.gateway.upstreams.event_frames import FrameParser

SSE, FRAMES = "text/event-stream", "application/vnd.amazon.eventstream"
AZURE_VERSION = "2024-10-21"
CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"


class Source(Protocol):
    """`streams.Source`."""

    def feed(self, data: bytes) -> list[bytes] | list[dict[str, Any]]: ...


class Kind(NamedTuple):
    """`path` of (door's path, model, streamed); `source` of the most bytes one event may have."""

    path: Callable[[str, str, bool], str]
    encode: Callable[[dict[str, Any], str], dict[str, Any]]
    decode: Callable[[Any], Any]
    source: Callable[[int], Source]
    streams_as: str
    doors: frozenset[str]
    headers: bytes = b""


def _openai(body: dict[str, Any], model: str) -> dict[str, Any]:
    return {**body, "model": model}


def _azure(body: dict[str, Any], _model: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "model"}  # the path names the deployment


def _same(value: Any) -> Any:
    return value


class _Parts:
    """SageMaker's stream: frames whose payloads, joined, are the container's own events."""

    def __init__(self, limit: int) -> None:
        self._frames = FrameParser(limit)
        self._events = EventParser(limit)

    def feed(self, data: bytes) -> list[bytes] | list[dict[str, Any]]:
        frames = self._frames.feed(data)
        if not all(frame.is_event for frame in frames):
            return [{"error": True}]
        return self._events.feed(b"".join(frame.payload for frame in frames))


class _Guarded:
    """A vendor's events. What does not have their shape is the model server's fault, not a defect here."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def feed(self, data: bytes) -> list[bytes] | list[dict[str, Any]]:
        try:
            return self._source.feed(data)
        except (AttributeError, TypeError, KeyError, ValueError):
            raise malformed("events of an unknown shape") from None


def decoded(kind: Kind, value: Any) -> Any:
    """The chat answer in a vendor's answer. Raises `Undecided` GW-ANSWER."""
    try:
        return kind.decode(value)
    except (AttributeError, TypeError, KeyError, ValueError):
        raise malformed("an answer of an unknown shape") from None


def _bedrock_path(_door: str, model: str, streamed: bool) -> str:
    return f"/model/{quote(model, safe='')}/{'converse-stream' if streamed else 'converse'}"


def _sagemaker_path(_door: str, model: str, streamed: bool) -> str:
    return f"/endpoints/{quote(model, safe='')}/invocations{'-response-stream' if streamed else ''}"


def _vertex_path(_door: str, model: str, streamed: bool) -> str:
    return f"/v1/{quote(model)}:" + ("streamGenerateContent?alt=sse" if streamed else "generateContent")


def _azure_path(door: str, model: str, _streamed: bool) -> str:
    task = door.removeprefix("/v1/")
    return f"/openai/deployments/{quote(model, safe='')}/{task}?api-version={AZURE_VERSION}"


_ALL = frozenset({CHAT, COMPLETIONS, EMBEDDINGS})
_CHAT = frozenset({CHAT})
KINDS: dict[str, Kind] = {
    "openai": Kind(lambda door, _model, _streamed: door, _openai, _same, EventParser, SSE, _ALL),
    "azure": Kind(_azure_path, _azure, _same, EventParser, SSE, _ALL),
    "anthropic": Kind(
        lambda _door, _model, _streamed: "/v1/messages",
        claude.encode,
        claude.decode,
        lambda limit: _Guarded(claude.Events(limit)),
        SSE,
        _CHAT,
        b"anthropic-version: 2023-06-01\r\n",
    ),
    "bedrock": Kind(
        _bedrock_path,
        bedrock.encode,
        bedrock.decode,
        lambda limit: _Guarded(bedrock.Events(limit)),
        FRAMES,
        _CHAT,
    ),
    "sagemaker": Kind(_sagemaker_path, _azure, _same, _Parts, FRAMES, _CHAT),
    "vertex": Kind(
        _vertex_path,
        gemini.encode,
        gemini.decode,
        lambda limit: _Guarded(gemini.Events(limit)),
        SSE,
        _CHAT,
    ),
}
