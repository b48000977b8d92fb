"""The unmodified `openai` client gets answers, streams and its normal exceptions."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai import OpenAI
from tests.fakes.upstream import Asked, completion, delta, stream, whole
from tests.gateway.rig import Rig, chat

ASK: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture
def client(rig: Rig) -> Any:
    with OpenAI(base_url=f"http://127.0.0.1:{rig.port}/v1", api_key=rig.token(), max_retries=0) as made:
        yield made


def test_a_chat_completion_is_answered_under_the_served_name(rig: Rig, client: OpenAI) -> None:
    answer = client.chat.completions.create(model="smollm2", messages=ASK, max_tokens=5)
    assert answer.choices[0].message.content == "hello"
    assert answer.model == "smollm2@1"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 18
    assert rig.upstream.asked[0].path == "/v1/chat/completions"
    assert rig.upstream.asked[0].body["model"] == "smollm2"
    assert "authorization" not in rig.upstream.asked[0].headers


def test_a_stream_arrives_piece_by_piece_with_usage_when_asked_for(client: OpenAI) -> None:
    pieces = list(
        client.chat.completions.create(
            model="smollm2@1", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert text == "hello"
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.completion_tokens == 7


def test_a_stream_does_not_wait_for_its_end(rig: Rig, client: OpenAI) -> None:
    story = "Once upon a time there was a small and very careful gateway. " * 8
    events = [*(delta(content=word + " ") for word in story.split()), delta(finish="stop")]
    rig.upstream.answer = lambda asked: stream(events)
    pieces = list(client.chat.completions.create(model="smollm2", messages=ASK, stream=True))
    assert len(pieces) > 3
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces).strip() == story.strip()


def test_completions_and_embeddings_are_answered(rig: Rig, client: OpenAI) -> None:
    def answer(asked: Asked) -> list[bytes]:
        if asked.path == "/v1/embeddings":
            rows = [{"embedding": [0.5, -1.0]} for _ in asked.body["input"]]
            return whole({"data": rows, "usage": {"prompt_tokens": 4, "total_tokens": 4}})
        return whole({"choices": [{"index": 0, "text": "world", "finish_reason": "length"}]})

    rig.upstream.answer = answer
    assert client.completions.create(model="smollm2", prompt="hello").choices[0].text == "world"
    rows = client.embeddings.create(model="minilm", input=["a", "b"]).data
    assert [row.embedding for row in rows] == [[0.5, -1.0], [0.5, -1.0]]


def test_tool_calls_arrive_whole_also_when_streamed(rig: Rig, client: OpenAI) -> None:
    pieces = ['{"to', '": "an', "na@host", '"}']
    call = {"index": 0, "id": "call_x", "type": "function", "function": {"name": "mail", "arguments": ""}}
    events = [
        delta(tool_calls=[call]),
        *(delta(tool_calls=[{"index": 0, "function": {"arguments": piece}}]) for piece in pieces),
        delta(finish="tool_calls"),
    ]
    rig.upstream.answer = lambda asked: stream(events)
    calls = [
        call
        for piece in client.chat.completions.create(model="smollm2", messages=ASK, stream=True)
        for call in piece.choices[0].delta.tool_calls or []
    ]
    assert [(call.id, call.function and call.function.name) for call in calls] == [("call_x", "mail")]
    assert calls[0].function is not None
    assert calls[0].function.arguments == '{"to": "anna@host"}'


def test_only_models_that_the_token_may_use_are_listed(rig: Rig) -> None:
    with OpenAI(
        base_url=f"http://127.0.0.1:{rig.port}/v1", api_key=rig.token(models=("minilm",)), max_retries=0
    ) as client:
        assert [model.id for model in client.models.list()] == ["minilm"]


@pytest.mark.parametrize(
    ("key", "model", "error"),
    [
        ("not-a-token", "smollm2", openai.AuthenticationError),
        ("", "nothing-here", openai.NotFoundError),
        ("", "minilm", openai.BadRequestError),
    ],
)
def test_refusals_are_the_exceptions_that_users_of_the_client_know(
    rig: Rig, key: str, model: str, error: type[openai.APIStatusError]
) -> None:
    with (
        OpenAI(
            base_url=f"http://127.0.0.1:{rig.port}/v1", api_key=key or rig.token(), max_retries=0
        ) as client,
        pytest.raises(error) as caught,
    ):
        client.chat.completions.create(model=model, messages=ASK)
    body: Any = caught.value.body
    assert body["next"]
    assert body["audit_id"].startswith("r-")


def test_an_error_in_the_middle_of_a_stream_is_an_exception(rig: Rig, client: OpenAI) -> None:
    rig.upstream.answer = lambda asked: (
        [*stream([delta(content="a few words that can be shown ")], done=False), b"0\r\n\r\n"]
    )
    with pytest.raises(openai.APIError, match="ends before its last event"):
        list(client.chat.completions.create(model="smollm2", messages=ASK, stream=True))


def test_what_a_model_server_adds_stays_behind(rig: Rig) -> None:
    rig.upstream.answer = lambda asked: completion(
        "ok", audio={"data": "AKIAIOSFODNN7EXAMPLE"}, secret_extra="x"
    )
    answer = rig.ask(chat())
    assert set(answer.json) == {"id", "object", "created", "model", "choices", "usage"}
    assert set(answer.json["choices"][0]["message"]) == {"role", "content"}
    assert b"internal" not in answer.body
