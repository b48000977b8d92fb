"""Several models and several versions: embeddings beside chat, a switch and a rollback under load."""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
from tests.fakes.onnx_graph import external_data
from tests.flows.server import Server, run

from garrison.runtime.sandboxes.ladder import availability

REQUESTS, PARTS = 1000, 4  # four callers, since one may ask 600 times a minute

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("serving")]


def _client(server: Server, token: str) -> openai.OpenAI:
    context = ssl.create_default_context(cafile=server.ready["ca"])
    return openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key=token,
        http_client=openai.DefaultHttpxClient(verify=context),
        max_retries=0,
    )


def _approved(server: Server, directory: Path, ref: str) -> None:
    server.publish(directory, ref)
    server.ok("--as", "dana", "approve", ref)


def _cosine(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


@pytest.mark.row("A01", kind="R")
def test_a_directory_of_many_files_is_published_and_answers_embeddings(
    serving: Server, minilm_dir: Path
) -> None:
    _approved(serving, minilm_dir, "minilm@1")
    served = serving.ok("serve", "minilm@1")
    assert served["tasks"] == ["embeddings"]
    with _client(serving, serving.token(model="minilm")) as client:
        texts = ["A cat sat on the mat.", "A kitten was sitting on a rug.", "Interest rates rose again."]
        vectors = [item.embedding for item in client.embeddings.create(model="minilm", input=texts).data]
        assert _cosine(vectors[0], vectors[1]) > _cosine(vectors[0], vectors[2]) + 0.2
        with pytest.raises(openai.APIStatusError):
            client.chat.completions.create(model="minilm", messages=[{"role": "user", "content": "hello"}])
    serving.ok("deploy", "stop", "minilm")


@pytest.mark.row("A24", kind="R")
@pytest.mark.row("A07", kind="R")
def test_a_switch_and_a_rollback_under_load_fail_no_request(
    serving: Server, model_directory: Path, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    shutil.copytree(model_directory, second)
    (second / "README.md").write_text("the second edition\n")
    _approved(serving, model_directory, "switch@1")
    _approved(serving, second, "switch@2")
    serving.ok("serve", "switch@1")
    token = serving.token(model="switch")

    def ask(_number: int) -> str:
        with _client(serving, token) as client:
            answer = client.chat.completions.create(
                model="switch", messages=[{"role": "user", "content": "Say hello."}], max_tokens=4
            )
        return answer.model

    with ThreadPoolExecutor(3) as pool:
        asked = pool.map(ask, range(24))
        assert serving.ok("serve", "switch@2")["version"] == 2
        assert serving.cli("serve", "switch@1").code == "ART-ROLLBACK"
        assert serving.ok("deploy", "rollback", "switch")["version"] == 1
        models = list(asked)
    assert set(models) <= {"switch@1", "switch@2"}
    assert ask(0) == "switch@1"
    assert serving.ok("serve", "switch@2")["version"] == 2
    serving.ok("deploy", "stop", "switch")


def _once(server: Server, context: ssl.SSLContext, body: str) -> list[float]:
    headers = {"Authorization": f"Bearer {server.token(model='adder')}", "Content-Type": "application/json"}
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=30)
    connection.request("POST", "/v2/models/adder/infer", body, headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return list(answer["outputs"][0]["data"])


@pytest.mark.row("S01", kind="R")
@pytest.mark.row("A05", kind="R")
def test_one_changed_byte_in_the_stored_model_stops_the_next_serve(
    serving: Server, model_directory: Path
) -> None:
    _approved(serving, model_directory, "flip@1")
    stored = next((serving.data / "models" / "flip" / "1").glob("*.gguf"))
    stored.chmod(0o644)
    with stored.open("r+b") as file:
        file.seek(12_345_678)
        original = file.read(1)
        file.seek(12_345_678)
        file.write(bytes([original[0] ^ 0x80]))
        file.flush()
        try:
            answer = serving.cli("serve", "flip@1")
            again = serving.cli("serve", "smollm2@1")
        finally:
            file.seek(12_345_678)
            file.write(original)
    assert (answer.status, answer.code) == (1, "ART-TAMPER")
    assert stored.name in answer.out
    # The object is shared by both versions, so the one that serves is found out too; it keeps serving.
    assert (again.status, again.code) == (1, "ART-TAMPER")
    with _client(serving, serving.token()) as client:
        assert client.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": "Say hello."}], max_tokens=4
        ).choices


def test_a_retired_version_does_not_serve(serving: Server, model_directory: Path) -> None:
    _approved(serving, model_directory, "old@1")
    serving.ok("model", "retire", "old@1")
    assert serving.cli("serve", "old@1").code == "ART-RETIRED"


@pytest.mark.row("B09", kind="R")
@pytest.mark.row("B02", kind="R")
@pytest.mark.row("A08", kind="R")
def test_a_thousand_inferences_while_versions_are_replaced_and_none_fails(
    serving: Server, tmp_path: Path
) -> None:
    """An ONNX graph whose tensor lies in a file beside it: version 1 adds (10, 20, 30), version 2 (1, 2, 3)."""
    _approved(serving, external_data(tmp_path / "one"), "adder@1")
    _approved(serving, external_data(tmp_path / "two", (1, 2, 3)), "adder@2")
    assert serving.ok("serve", "adder@1", "--isolation", "bwrap")["tasks"] == ["infer"]
    context = ssl.create_default_context(cafile=serving.ready["ca"])
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [3], "data": [0, 0, 0]}]})
    expected = {"1": [10.0, 20.0, 30.0], "2": [1.0, 2.0, 3.0]}
    seen: Counter[str] = Counter()

    def ask(part: int) -> int:
        words = ["token", "issue", "--subject", f"app{part}", "--role", "user", "--model", "adder"]
        token = run(["--data", str(serving.data), *words]).out.strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection = http.client.HTTPSConnection("127.0.0.1", serving.port, context=context, timeout=30)
        right = 0
        for _ in range(REQUESTS // PARTS):
            connection.request("POST", "/v2/models/adder/infer", body, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
            assert response.status == 200, answer
            version = answer["model_version"]
            assert answer["outputs"][0]["data"] == expected[version]
            seen[version] += 1
            right += 1
        connection.close()
        return right

    with ThreadPoolExecutor(PARTS) as pool:
        asked = [pool.submit(ask, part) for part in range(PARTS)]
        while not all(each.done() for each in asked):
            assert serving.ok("serve", "adder@2", "--isolation", "bwrap")["version"] == 2
            assert serving.ok("deploy", "rollback", "adder")["version"] == 1
        assert sum(each.result() for each in asked) == REQUESTS
    for level in (level.level for level in availability() if level.ok and level.level in ("runc", "gvisor")):
        served = serving.ok("serve", "adder@2", "--isolation", level)
        assert (served["isolation"], served["version"]) == (level, 2)
        assert _once(serving, context, body) == expected["2"]
    serving.ok("deploy", "stop", "adder")
    assert set(seen) <= {"1", "2"}
