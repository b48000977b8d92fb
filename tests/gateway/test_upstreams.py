"""Servers of other vendors behind a route: their shapes, their keys, their failures.

The vendors' side is recorded from their documentation: the fake refuses nothing, so each test says exactly what it
was asked. Signatures are compared with those that botocore makes, frames with what botocore reads.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.upstream import CLOSE, Asked, chunk, completion, event, whole
from tests.gateway.rig import Rig, chat

from garrison.core.errors import Undecided
from garrison.gateway.broker import AtOnce, Broker, parse_providers
from garrison.gateway.config import HttpLimits
from garrison.gateway.server import Server
from garrison.gateway.upstreams.event_frames import FrameParser
from garrison.gateway.upstreams.pool import Pool
from garrison.gateway.upstreams.sigv4 import AwsKey, signed_headers

KEY = "AKIAQYLPMN5HHHFPZAM2"
SECRET = "sk-provider-4f9d2c71"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MODEL = {
    "openai": "gpt-x",
    "azure": "my-deployment",
    "anthropic": "claude-x",
    "bedrock": "anthropic.claude-x-v1:0",
    "sagemaker": "my-endpoint",
    "vertex": "projects/p/locations/l/publishers/google/models/gemini-x",
}
ASKED = {
    "openai": ("/v1/chat/completions",) * 2,
    "azure": ("/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21",) * 2,
    "anthropic": ("/v1/messages",) * 2,
    "bedrock": (
        "/model/anthropic.claude-x-v1%3A0/converse",
        "/model/anthropic.claude-x-v1%3A0/converse-stream",
    ),
    "sagemaker": (
        "/endpoints/my-endpoint/invocations",
        "/endpoints/my-endpoint/invocations-response-stream",
    ),
    "vertex": (
        f"/v1/{MODEL['vertex']}:generateContent",
        f"/v1/{MODEL['vertex']}:streamGenerateContent?alt=sse",
    ),
}
AUTH = {
    "openai": ("authorization", f"bearer {SECRET}"),
    "azure": ("api-key", SECRET),
    "anthropic": ("x-api-key", SECRET),
    "bedrock": ("authorization", "aws4-hmac-sha256 credential=akid/20260102/eu-west-1/bedrock/aws4_request"),
    "sagemaker": (
        "authorization",
        "aws4-hmac-sha256 credential=akid/20260102/eu-west-1/sagemaker/aws4_request",
    ),
    "vertex": ("authorization", f"bearer {SECRET}"),
}
TOOL = {
    "type": "function",
    "function": {"name": "mail", "description": "Sends", "parameters": {"type": "object"}},
}
HEARD = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Mail Anna."},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "mail", "arguments": '{"to":"anna"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "sent"},
]
TEXT = f"The key is {KEY} indeed."
SHOWN = "The key is [REDACTED:aws-key] indeed."


def frame(kind: str, payload: bytes, message: str = "event") -> bytes:
    """One frame of Amazon's event streams."""
    headers = b""
    for name, value in ((":message-type", message), (":event-type", kind)):
        headers += (
            bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        )
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return body + struct.pack(">I", zlib.crc32(body))


def _frames(*events: tuple[str, dict[str, Any]]) -> bytes:
    return b"".join(frame(kind, json.dumps(value).encode()) for kind, value in events)


def _named(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {each['type']}\n".encode() + event(each) for each in events)


CHAT_CHOICE = {
    "index": 0,
    "message": {
        "role": "assistant",
        "content": TEXT,
        "tool_calls": [
            {"id": "t", "type": "function", "function": {"name": "mail", "arguments": '{"to":"bob"}'}}
        ],
    },
    "finish_reason": "tool_calls",
}
CHAT = {"choices": [CHAT_CHOICE], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}


def _chat_stream() -> bytes:
    calls = [{"index": 0, **CHAT_CHOICE["message"]["tool_calls"][0]}]  # type: ignore[index]  # it is a literal above
    pieces = [{"content": TEXT[:15]}, {"content": TEXT[15:]}, {"tool_calls": calls}]
    events = [{"choices": [{"index": 0, "delta": piece, "finish_reason": None}]} for piece in pieces]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}], "usage": CHAT["usage"]}
    return b"".join(map(event, [*events, end])) + event("[DONE]")


WHOLE: dict[str, dict[str, Any]] = {
    "openai": CHAT,
    "azure": {**CHAT, "prompt_filter_results": [{"prompt_index": 0}]},
    "sagemaker": CHAT,
    "anthropic": {
        "type": "message",
        "content": [
            {"type": "text", "text": TEXT},
            {"type": "tool_use", "id": "t", "name": "mail", "input": {"to": "bob"}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 4},
    },
    "bedrock": {
        "output": {
            "message": {
                "role": "assistant",
                "content": [
                    {"text": TEXT},
                    {"toolUse": {"toolUseId": "t", "name": "mail", "input": {"to": "bob"}}},
                ],
            }
        },
        "stopReason": "tool_use",
        "usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7},
    },
    "vertex": {
        "candidates": [
            {
                "content": {
                    "role": "model",
                    "parts": [{"text": TEXT}, {"functionCall": {"name": "mail", "args": {"to": "bob"}}}],
                },
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4},
    },
}
STREAMED: dict[str, bytes] = {
    "openai": _chat_stream(),
    "azure": event({"choices": [], "prompt_filter_results": []}) + _chat_stream(),
    "sagemaker": b"".join(frame("PayloadPart", _chat_stream()[at : at + 50]) for at in range(0, 900, 50)),
    "anthropic": _named(
        {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT[:15]}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT[15:]}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "tool_use", "id": "t", "name": "mail"},
        },
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": '{"to":'},
        },
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": '"bob"}'},
        },
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ),
    "bedrock": _frames(
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": TEXT[:15]}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": TEXT[15:]}}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        (
            "contentBlockStart",
            {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t", "name": "mail"}}},
        ),
        ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '{"to":"bob"}'}}}),
        ("contentBlockStop", {"contentBlockIndex": 1}),
        ("messageStop", {"stopReason": "tool_use"}),
        ("metadata", {"usage": {"inputTokens": 3, "outputTokens": 4}}),
    ),
    "vertex": event({"candidates": [{"content": {"parts": [{"text": TEXT[:15]}]}}]})
    + event({"candidates": [{"content": {"parts": [{"text": TEXT[15:]}]}}]})
    + event(
        WHOLE["vertex"]
        | {
            "candidates": [
                {
                    **WHOLE["vertex"]["candidates"][0],
                    "content": {"parts": [{"functionCall": {"name": "mail", "args": {"to": "bob"}}}]},
                }
            ]
        }
    ),
}
KINDS = sorted(WHOLE)


@pytest.fixture
def brokered(rig: Rig) -> Iterator[Callable[..., None]]:
    """Put the one fake server behind a route as a server of some kind, its key held by a broker."""
    address = rig.run(rig.upstream.start_http())
    socket = rig.directory / "broker.sock"
    secret = {"bedrock": "AKID:sekret:session", "sagemaker": "AKID:sekret:session"}
    providers = {
        kind: {
            "kind": kind,
            "address": address,
            "models": [MODEL[kind]],
            "secret": secret.get(kind, SECRET),
            "region": "eu-west-1",
        }
        for kind in KINDS
    }
    broker = Broker(parse_providers(providers), Pool(rig.upstream_limits, rig.loop, AtOnce()), lambda: NOW)
    server = Server(broker.serve, HttpLimits(), rig.loop)
    rig.run(server.listen_unix(str(socket)))

    def publish(kind: str, **fields: Any) -> None:
        item = {"id": kind, "kind": kind, "address": address, "model": MODEL[kind], "key": kind, **fields}
        rig.published(routes=[{**rig.routes[0], "upstreams": [item]}], broker=f"unix:{socket}")

    yield publish
    broker.pool.close()
    rig.run(server.drain(0))


def _answer(kind: str) -> Callable[[Asked], list[bytes]]:
    def answer(asked: Asked) -> list[bytes]:
        if not asked.body.get("stream") and "stream" not in asked.path.lower():
            return whole(WHOLE[kind])
        frames = kind in ("bedrock", "sagemaker")
        content = b"application/vnd.amazon.eventstream" if frames else b"text/event-stream"
        data = STREAMED[kind]
        return [
            b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % content,
            *(chunk(data[at : at + 97]) for at in range(0, len(data), 97)),
            b"0\r\n\r\n",
        ]

    return answer


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_another_vendor_answers_as_a_chat_whole_and_streamed(
    rig: Rig, brokered: Callable[..., None], kind: str
) -> None:
    brokered(kind)
    rig.upstream.answer = _answer(kind)
    asking = {"model": "smollm2", "messages": HEARD, "tools": [TOOL], "max_tokens": 9, "stop": ["END"]}
    answer = rig.ask(asking)
    assert answer.status == 200, answer.body
    (choice,) = answer.json["choices"]
    assert choice["message"]["content"] == SHOWN
    (call,) = choice["message"]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("mail", {"to": "bob"})
    assert choice["finish_reason"] == "tool_calls"
    assert answer.json["usage"]["total_tokens"] == 7
    streamed = rig.ask({**asking, "stream": True})
    assert streamed.body.endswith(b"data: [DONE]\n\n"), streamed.body
    pieces = [json.loads(line[6:]) for line in streamed.body.split(b"\n\n") if b"{" in line]
    deltas = [piece["choices"][0]["delta"] for piece in pieces]
    assert "".join(delta.get("content") or "" for delta in deltas) == SHOWN
    (told,) = [delta["tool_calls"][0]["function"] for delta in deltas if "tool_calls" in delta]
    assert (told["name"], json.loads(told["arguments"])) == ("mail", {"to": "bob"})
    assert pieces[-1]["choices"][0]["finish_reason"] == "tool_calls"
    facts = rig.event_of(streamed)["data"]
    assert (facts["prompt_tokens"], facts["completion_tokens"], facts["upstream"]) == (3, 4, kind)
    assert tuple(asked.path for asked in rig.upstream.asked) == ASKED[kind]
    for asked in rig.upstream.asked:
        name, value = AUTH[kind]
        assert asked.headers[name].startswith(value)
        assert "x-garrison-key" not in asked.headers


def test_a_conversation_is_told_in_each_vendors_words(rig: Rig, brokered: Callable[..., None]) -> None:
    told = {}
    for kind in ("anthropic", "bedrock", "vertex"):
        brokered(kind)
        rig.upstream.answer = _answer(kind)
        assert (
            rig.ask(
                {"model": "smollm2", "messages": HEARD, "tools": [TOOL], "tool_choice": "required"}
            ).status
            == 200
        )
        told[kind] = rig.upstream.asked[-1].body
    claude, bedrock, gemini = told["anthropic"], told["bedrock"], told["vertex"]
    assert claude["system"] == "Be brief."
    assert [turn["role"] for turn in claude["messages"]] == ["user", "assistant", "user"]
    assert claude["messages"][1]["content"][0] == {
        "type": "tool_use",
        "id": "c1",
        "name": "mail",
        "input": {"to": "anna"},
    }
    assert claude["messages"][2]["content"][0]["tool_use_id"] == "c1"
    assert (claude["tools"][0]["input_schema"], claude["tool_choice"]) == (
        {"type": "object"},
        {"type": "any"},
    )
    assert bedrock["system"] == [{"text": "Be brief."}]
    assert bedrock["messages"][2]["content"] == [
        {"toolResult": {"toolUseId": "c1", "content": [{"text": "sent"}]}}
    ]
    assert bedrock["toolConfig"]["toolChoice"] == {"any": {}}
    assert [turn["role"] for turn in gemini["contents"]] == ["user", "model", "user"]
    assert gemini["contents"][2]["parts"] == [
        {"functionResponse": {"name": "mail", "response": {"result": "sent"}}}
    ]
    assert gemini["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
    assert "model" not in gemini


@pytest.mark.parametrize("kind", ["anthropic", "bedrock", "vertex"])
def test_what_a_vendor_has_no_word_for_is_refused_not_dropped(
    rig: Rig, brokered: Callable[..., None], kind: str
) -> None:
    brokered(kind)
    answer = rig.ask(chat(logit_bias={"1": 2}))
    assert (answer.status, answer.code) == (400, "GW-FIELD")
    answer = rig.ask({"model": "smollm2", "prompt": "a"}, path="/v1/completions")
    assert (answer.status, answer.code) == (400, "GW-TASK")
    assert not rig.upstream.asked


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_of_another_shape_or_cut_short_is_a_clean_error(
    rig: Rig, brokered: Callable[..., None], kind: str
) -> None:
    brokered(kind)
    for body in ({}, {"content": [7]}, {"output": 7}, {"candidates": [7]}, {"choices": 7}):
        rig.upstream.answer = lambda asked, body=body: whole(body)
        assert rig.ask(chat()).code == "GW-ANSWER"
    rig.upstream.answer = lambda asked: [*_answer(kind)(asked)[:3], b"0\r\n\r\n"]
    streamed = rig.ask(chat(stream=True))
    assert b'"code":"GW-ANSWER"' in streamed.body
    assert b"[DONE]" not in streamed.body
    rig.upstream.answer = lambda asked: [*_answer(kind)(asked)[:2], CLOSE]
    assert b"[DONE]" not in rig.ask(chat(stream=True)).body


def test_no_key_is_in_an_event_an_answer_or_a_file(rig: Rig, brokered: Callable[..., None]) -> None:
    """Not even when the provider repeats it: what it says of its key is for nobody."""
    brokered("openai")
    said = {"error": {"message": f"Incorrect API key provided: {SECRET}"}}
    for status in (401, 403, 500):
        rig.upstream.answer = lambda asked, status=status: whole(said, status=status)
        answer = rig.ask(chat())
        assert (answer.status, answer.code) == (502, "GW-UPSTREAM")
        assert SECRET.encode() not in answer.body
    rig.until(lambda: len(rig.events()) == 3)
    files = [path for path in rig.directory.rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert SECRET not in repr(
        parse_providers({"a": {"kind": "openai", "address": "http://x", "models": [], "secret": SECRET}})
    )


def test_a_key_opens_only_the_paths_of_its_models(rig: Rig, brokered: Callable[..., None]) -> None:
    brokered("openai", model="gpt-other")  # the openai kind names the model in the body: its path is the same
    assert rig.ask(chat()).status == 200
    brokered("azure", model="another-deployment")
    assert rig.ask(chat()).code == "GW-UPSTREAM"
    assert len(rig.upstream.asked) == 1


# --- several servers ---


def _several(rig: Rig, *items: dict[str, Any]) -> None:
    shown = [{"kind": "openai", "model": item["id"], **item} for item in items]
    rig.published(routes=[{**rig.routes[0], "upstreams": shown}])


def test_a_server_that_fails_is_followed_by_another_and_then_left_alone(rig: Rig, tmp_path: Path) -> None:
    good = rig.run(rig.upstream.start_http())
    digest = "sha256:" + "cd" * 32
    _several(
        rig,
        {"id": "bad", "address": "unix:/nowhere/s"},
        {"id": "good", "address": good, "order": 1, "digest": digest},
    )
    events = [rig.event_of(answer) for answer in (rig.ask(chat()) for _ in range(7)) if answer.status == 200]
    assert len(events) == 7
    assert {each["data"]["upstream"] for each in events} == {"good"}
    assert {each["digest"] for each in events} == {digest}
    assert [each["data"]["retries"] for each in events] == [1, 1, 1, 1, 1, 0, 0]
    assert rig.plane.health.open == 1
    assert rig.upstream.asked[0].body["model"] == "good"
    _several(rig, {"id": "bad", "address": "unix:/nowhere/s"})
    answer = rig.ask(chat())
    assert (answer.status, answer.code) == (503, "GW-OPEN")
    assert int(answer.headers["retry-after"]) >= 1


def test_a_server_that_is_busy_or_broken_is_followed_by_another(rig: Rig) -> None:
    address = rig.run(rig.upstream.start_http())
    _several(rig, {"id": "first", "address": address}, {"id": "second", "address": address, "order": 1})
    for status in (429, 500, 503):
        rig.upstream.answer = lambda asked, status=status: (
            whole({"error": {}}, status=status) if asked.body["model"] == "first" else completion("hello")
        )
        assert rig.ask(chat()).status == 200
    rig.upstream.answer = lambda asked: whole({"error": {"message": "too long"}}, status=400)
    before = len(rig.upstream.asked)
    assert rig.ask(chat()).code == "GW-REJECTED"  # the caller's own fault: nobody else is asked
    assert len(rig.upstream.asked) == before + 1


def test_retries_have_a_budget(rig: Rig) -> None:
    """When everything fails, a failure is not multiplied."""
    address = rig.run(rig.upstream.start_http())
    rig.upstream.answer = lambda asked: whole({"error": {}}, status=500)
    for number in range(8):  # fresh ids: no circuit is open
        _several(rig, *({"id": f"{letter}{number}", "address": address} for letter in "abc"))
        assert rig.ask(chat()).status == 502
    assert len(rig.upstream.asked) == 8 + 10


def test_weights_share_the_requests(rig: Rig) -> None:
    address = rig.run(rig.upstream.start_http())
    _several(rig, {"id": "one", "address": address}, {"id": "nine", "address": address, "weight": 9})
    for _ in range(60):
        assert rig.ask(chat()).status == 200
    asked = [each.body["model"] for each in rig.upstream.asked]
    assert 40 <= asked.count("nine") < 60


@pytest.mark.row("B15", kind="R")
def test_a_server_of_a_lower_tier_is_no_fallback(rig: Rig) -> None:
    """A snapshot that holds one is not loaded, so no retry, weight or fallback can cross the boundary."""
    low = {"id": "x", "kind": "openai", "address": "unix:/x", "tier": "public"}
    before = rig.plane.snapshots.rejected
    rig.publish(routes=[{**rig.routes[0], "tier": "confidential", "upstreams": [low]}])
    rig.until(lambda: rig.plane.snapshots.rejected > before)
    assert rig.ask(chat()).status == 200  # by the last good one


# --- signatures and frames, beside botocore ---


@given(
    path=st.sampled_from(["/model/a.b-v1%3A0/converse", "/endpoints/x/invocations", "/"]),
    body=st.binary(max_size=99),
)
def test_a_signature_is_the_one_that_botocore_makes(path: str, body: bytes) -> None:
    url = f"https://bedrock-runtime.eu-west-1.amazonaws.com{path}"
    request = AWSRequest("POST", url, headers={"content-type": "application/json"}, data=body)
    moment = NOW.strftime("%Y%m%dT%H%M%SZ")
    request.context["timestamp"] = moment
    signer = SigV4Auth(Credentials("AKID", "sekret", "session"), "bedrock", "eu-west-1")
    request.headers["X-Amz-Date"] = moment
    request.headers["X-Amz-Security-Token"] = "session"
    theirs = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    ours = signed_headers(
        AwsKey("AKID", "sekret", "session"),
        region="eu-west-1",
        service="bedrock",
        host="bedrock-runtime.eu-west-1.amazonaws.com",
        path=path,
        body=body,
        now=NOW,
    )
    assert ours["authorization"].endswith(f"Signature={theirs}")


@given(
    st.lists(st.tuples(st.sampled_from(["a", "messageStop"]), st.binary(max_size=30)), max_size=5), st.data()
)
def test_frames_are_read_as_botocore_reads_them_under_any_cutting(
    items: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    wire = b"".join(frame(*item) for item in items)
    theirs = EventStreamBuffer()
    theirs.add_data(wire)
    expected = [(each.headers[":event-type"], each.payload) for each in theirs]
    parser, found = FrameParser(1 << 16), []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        found += [(each.kind, each.payload) for each in parser.feed(wire[start:end])]
    assert found == expected == items
    if wire:
        at = data.draw(st.integers(0, len(wire) - 1))
        broken = wire[:at] + bytes([wire[at] ^ 1]) + wire[at + 1 :]
        with pytest.raises(Undecided):
            FrameParser(1 << 16).feed(broken)
