"""Real models, verified, loaded in a sandbox and answering on their sockets."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import math
import socket
import struct
from typing import Any

import pytest
from tests.runtime.stage import Served, SignedModel, need

from garrison.core.errors import Refused


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, address: str) -> None:
        super().__init__("model", timeout=60)
        self._address = address.removeprefix("unix:")

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._address)


def ask(address: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = UnixHTTP(address)
    connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body))
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, json.loads(data) if data else None


@pytest.mark.row("B01", kind="R")
def test_a_real_language_model_answers_from_inside_the_sandbox(
    served: Served, chat_model: SignedModel, level: str
) -> None:
    async def story() -> None:
        endpoint = await served.supervisor.start(served.spec(chat_model, level))
        assert endpoint.tasks == {"chat", "completions"}
        assert endpoint.digest == chat_model.manifest.digest
        body = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4}
        status, answer = await asyncio.to_thread(ask, endpoint.address, "/v1/chat/completions", body)
        assert status == 200
        assert answer["choices"][0]["message"]["content"]
        assert answer["model"] == "smol"
        assert str(chat_model.directory) not in json.dumps(answer)
        for door in ("/slots", "/metrics", "/tools", "/", "/models/load"):
            status, _ = await asyncio.to_thread(ask, endpoint.address, door)
            assert status in (403, 404, 405, 501), door
        await served.supervisor.close()

    asyncio.run(story())
    event = served.events[0]
    assert (event.action, event.outcome) == ("runtime.load", "allowed")
    assert event.data["verified_digest"] == event.data["loaded_digest"] == chat_model.manifest.digest
    assert event.data["isolation"] == level
    assert event.data["profile"] == "llama"
    assert event.data["filter"].startswith("sha256:")


@pytest.mark.row("B01", kind="R")
def test_sentences_that_mean_the_same_have_near_embeddings(
    served: Served, embedding_model: SignedModel
) -> None:
    texts = [
        "A cat sits on the mat.",
        "A kitten is resting on a rug.",
        "Interest rates rose sharply in March.",
    ]

    async def story() -> tuple[int, Any, int, Any]:
        endpoint = await served.supervisor.start(served.spec(embedding_model, need("bwrap")))
        assert endpoint.tasks == {"embeddings"}
        try:
            return (
                *await asyncio.to_thread(ask, endpoint.address, "/v1/embeddings", {"input": texts}),
                *await asyncio.to_thread(
                    ask, endpoint.address, "/v1/embeddings", {"input": texts[0], "encoding_format": "base64"}
                ),
            )
        finally:
            await served.supervisor.close()

    status, answer, _, packed = asyncio.run(story())
    assert status == 200
    near, same, far = (row["embedding"] for row in answer["data"])
    assert len(near) == 384
    assert math.isclose(sum(x * x for x in near), 1, rel_tol=1e-5)
    assert dot(near, same) > 0.5 > 0.2 > dot(near, far)
    assert answer["usage"]["prompt_tokens"] > 20
    decoded = struct.unpack("<384f", base64.b64decode(packed["data"][0]["embedding"]))
    assert all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(decoded, near, strict=True))


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.row("B09", kind="R")
def test_one_changed_byte_and_no_server_is_started(
    served: Served, chat_model: SignedModel, level: str
) -> None:
    with (chat_model.directory / "model.gguf").open("r+b") as file:
        file.seek(5_000_000)
        original = file.read(1)
        file.seek(5_000_000)
        file.write(bytes([original[0] ^ 1]))
    try:
        with pytest.raises(Refused) as refusal:
            asyncio.run(served.supervisor.start(served.spec(chat_model, level)))
    finally:
        with (chat_model.directory / "model.gguf").open("r+b") as file:
            file.seek(5_000_000)
            file.write(original)
    assert refusal.value.code == "ART-TAMPER"
    assert "model.gguf" in refusal.value.what
    assert [(event.outcome, event.code) for event in served.events] == [("denied", "ART-TAMPER")]
    assert not list(served.run_directory.iterdir())
    assert served.supervisor.states()[0].state == "failed"
