"""One real model from a file to an answered request, through the commands and clients that people use."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import anthropic
import openai
import pytest
from tests.fakes.upstream import Upstream, completion
from tests.flows.server import Server, run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("serving")]


def _client(server: Server, token: str) -> openai.OpenAI:
    context = ssl.create_default_context(cafile=server.ready["ca"])
    return openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key=token,
        http_client=openai.DefaultHttpxClient(verify=context),
        max_retries=0,
    )


def _get(server: Server, path: str, token: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(server.url + path, headers=headers)
    context = ssl.create_default_context(cafile=server.ready["ca"])
    try:
        with urllib.request.urlopen(request, context=context, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.row("B09", kind="R")
@pytest.mark.row("A23", kind="R")
def test_an_unmodified_client_gets_an_answer_and_a_stream(serving: Server) -> None:
    with _client(serving, serving.token()) as client:
        messages: list[openai.types.chat.ChatCompletionMessageParam] = [
            {"role": "user", "content": "What is the capital of France? Answer in one sentence."}
        ]
        whole = client.chat.completions.create(
            model="smollm2", messages=messages, max_tokens=24, temperature=0
        )
        assert "Paris" in (whole.choices[0].message.content or "")
        pieces = [
            chunk.choices[0].delta.content or ""
            for chunk in client.chat.completions.create(
                model="smollm2", messages=messages, max_tokens=24, temperature=0, stream=True
            )
            if chunk.choices
        ]
    assert len(pieces) > 3
    assert "Paris" in "".join(pieces)


def test_the_same_model_answers_at_every_door(serving: Server) -> None:
    """Completions, responses and messages, whole and streamed, of the real model behind them."""
    question, token = "What is the capital of France? Answer in one sentence.", serving.token()
    with _client(serving, token) as client:
        told = [
            client.completions.create(
                model="smollm2", prompt="The capital of France is", max_tokens=8, temperature=0
            )
            .choices[0]
            .text,
            client.responses.create(
                model="smollm2", input=question, max_output_tokens=24, temperature=0
            ).output_text,
            "".join(
                event.delta
                for event in client.responses.create(
                    model="smollm2", input=question, max_output_tokens=24, temperature=0, stream=True
                )
                if event.type == "response.output_text.delta"
            ),
        ]
    context = ssl.create_default_context(cafile=serving.ready["ca"])
    calm = {"temperature": 0}
    asked: list[anthropic.types.MessageParam] = [{"role": "user", "content": question}]
    with anthropic.Anthropic(
        base_url=serving.url,
        api_key=token,
        http_client=anthropic.DefaultHttpxClient(verify=context),
        max_retries=0,
    ) as claude:
        answer = claude.messages.create(model="smollm2", max_tokens=24, messages=asked, extra_body=calm)
        told.append("".join(block.text for block in answer.content if block.type == "text"))
        assert answer.usage.output_tokens > 3
        with claude.messages.stream(
            model="smollm2", max_tokens=24, messages=asked, extra_body=calm
        ) as stream:
            told.append("".join(stream.text_stream))
    assert [text for text in told if "Paris" not in text] == []


def test_a_vendors_model_is_routed_with_a_key_that_only_the_broker_learns(
    serving: Server, tmp_path: Path
) -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    vendor = Upstream(answer=lambda asked: completion("hello from afar"))
    address = asyncio.run_coroutine_threadsafe(vendor.start_http(), loop).result(10)
    key = tmp_path / "key"
    key.write_text("sk-provider-31415926\n")
    key.chmod(0o600)
    kind = ("--kind", "azure", "--model", "dep", "--key-file", str(key), "--tier", "public")
    serving.ok("route", "add", "far", "--upstream", address, *kind, "--stream", "buffer")
    servers = tmp_path / "servers.json"
    first = {"id": "down", "kind": "openai", "address": "http://127.0.0.1:1"}
    servers.write_text(json.dumps([first, {"id": "up", "kind": "openai", "address": address, "order": 1}]))
    serving.ok("route", "add", "near", "--servers", str(servers), "--tier", "public")
    for name in ("far", "near"):
        with _client(serving, serving.token(model=name)) as client:
            answer = client.chat.completions.create(
                model=name, messages=[{"role": "user", "content": "hello"}]
            )
        assert answer.choices[0].message.content == "hello from afar"
    far, near = vendor.asked
    assert far.path.startswith("/openai/deployments/dep/chat/completions")
    assert far.headers["api-key"] == "sk-provider-31415926"
    assert "api-key" not in near.headers
    assert "sk-provider" not in json.dumps(serving.ok("deploy", "status"))
    asyncio.run_coroutine_threadsafe(_ended(vendor), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(60)
    loop.close()


async def _ended(vendor: Upstream) -> None:
    """Also of connections that workers and the broker keep alive."""
    await vendor.stop()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@pytest.mark.row("B07", kind="R")
def test_tls_1_2_is_refused(serving: Server) -> None:
    context = ssl.create_default_context(cafile=serving.ready["ca"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", serving.port), timeout=10) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


@pytest.mark.row("C05", kind="R")
@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/v1/embeddings", "/v1/completions"])
def test_no_token_is_401(serving: Server, path: str) -> None:
    assert _get(serving, path) in (401, 405)
    assert _get(serving, "/v1/models") == 401


@pytest.mark.row("S34", kind="R")
@pytest.mark.row("C01", kind="R")
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/props",
        "/slots",
        "/metrics",
        "/invocations",
        "/tokenize",
        "/lora-adapters",
        "/v1/../props",
        "/health",
    ],
)
def test_the_model_servers_other_doors_are_404(serving: Server, path: str) -> None:
    assert _get(serving, path, serving.token()) == 404


def test_a_model_that_the_token_is_not_for_is_403(serving: Server) -> None:
    with (
        _client(serving, serving.token(model="payroll")) as client,
        pytest.raises(openai.PermissionDeniedError),
    ):
        client.chat.completions.create(model="smollm2", messages=[{"role": "user", "content": "hello"}])


def test_a_server_that_is_ready_says_so_without_detail(serving: Server) -> None:
    assert _get(serving, "/livez") == 200
    assert _get(serving, "/readyz") == 200


@pytest.mark.row("A09", kind="R")
def test_model_signing_accepts_the_published_bundle(serving: Server, model_directory: Path) -> None:
    shown = serving.ok(
        "model", "publish", str(model_directory), "--as", "smollm2@1", "--owner", "x", "--tier", "internal"
    )
    assert shown["unchanged"]
    peer = Path(sys.executable).with_name("model_signing")
    words = [
        str(peer),
        "verify",
        "key",
        shown["path"],
        "--signature",
        shown["bundle"],
        "--public_key",
        shown["public_key"],
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Verification succeeded" in done.stdout + done.stderr


def test_the_publisher_cannot_approve(serving: Server, tmp_path: Path, model_directory: Path) -> None:
    changed = tmp_path / "m"
    shutil.copytree(model_directory, changed)
    (changed / "README.md").write_text("another page\n")
    serving.publish(changed, "self@1")
    assert serving.cli("approve", "self@1").code == "APP-SELF"
    assert serving.cli("serve", "self@1").code == "ART-NOT-APPROVED"


@pytest.mark.row("A17", kind="R")
def test_other_bytes_under_a_published_version_are_refused(
    serving: Server, tmp_path: Path, model_directory: Path
) -> None:
    changed = tmp_path / "m"
    shutil.copytree(model_directory, changed)
    (changed / "README.md").write_text("not the page that was signed\n")
    words = [
        "model",
        "publish",
        str(changed),
        "--as",
        "smollm2@1",
        "--owner",
        "ml-team",
        "--tier",
        "internal",
    ]
    answer = serving.cli(*words)
    assert (answer.status, answer.code) == (1, "ART-IMMUTABLE")


@pytest.mark.row("A26", kind="R")
def test_an_identity_without_a_role_may_not_publish(serving: Server, model_directory: Path) -> None:
    words = ["model", "publish", str(model_directory), "--as", "x@1", "--owner", "o", "--tier", "public"]
    answer = serving.cli("--as", "mallory", *words)
    assert (answer.status, answer.code) == (1, "RBAC-403")
    assert "garrison user add mallory" in answer.json["error"]["next"]
    assert answer.json["error"]["audit_id"].startswith("a-")


@pytest.mark.row("A10", kind="R")
def test_a_signing_key_in_the_environment_is_refused(serving: Server, model_directory: Path) -> None:
    words = ["model", "publish", str(model_directory), "--as", "x@1", "--owner", "o", "--tier", "public"]
    answer = serving.cli(*words, GARRISON_SIGNING_KEY="-----BEGIN PRIVATE KEY-----")
    assert (answer.status, answer.code) == (1, "KEY-ENV")
    assert serving.cli("key", "export", "release").code == "KEY-EXPORT"


@pytest.mark.row("C06", kind="R")
def test_a_token_for_a_month_cannot_be_made(serving: Server) -> None:
    answer = serving.cli("token", "issue", "--subject", "app", "--role", "user", "--ttl", "30d")
    assert (answer.status, answer.code) == (1, "TOK-TTL")


def test_a_token_says_who_asks_at_the_control_socket(serving: Server, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(serving.token(role="auditor", model=None))
    refused = serving.cli("--token-file", str(path), "user", "add", "eve", "--role", "admin")
    assert refused.code == "RBAC-403"
    assert "user:app" in json.dumps(refused.json) or "app" in refused.json["error"]["message"]
    assert serving.ok("--token-file", str(path), "model", "list")["models"]


@pytest.mark.row("C16", kind="R")
def test_every_request_left_one_event_and_the_ledger_verifies(serving: Server) -> None:
    with _client(serving, serving.token()) as client:
        client.models.list()
    report = serving.cli("audit", "verify")
    assert report.status == 0, report.out + report.err
    listed = serving.cli("audit", "list", "--kind", "model.invoke")
    assert listed.status == 0
    assert "capital of France" not in listed.out


@pytest.mark.row("A13", kind="R")
def test_every_stage_until_the_load_left_a_row_that_names_what_by_whose_key_and_when(
    serving: Server, tmp_path: Path
) -> None:
    serving.ok("model", "verify", "smollm2@1")
    serving.ok("model", "pull", "smollm2@1", str(tmp_path / "copy"))
    shown = serving.ok("model", "show", "smollm2@1")
    key = next(row for row in serving.ok("key", "list")["keys"] if row["label"] == "release")
    rows = serving.ok("audit", "list", "--kind", "verify", "--model", "smollm2@1", "--limit", "500")[
        "records"
    ]
    stages = {row["data"]["stage"]: row for row in rows if row["outcome"] == "allowed"}
    assert {"publish", "approve", "deploy", "load", "pull", "at rest"} <= stages.keys()
    for row in stages.values():
        assert (row["resource"], row["digest"]) == ("smollm2@1", shown["digest"])
        assert row["data"]["key"] == key["key_id"]
        assert row["time"] > shown["created"][:10]
        assert row["actor"].startswith(("user:", "service:"))
    assert stages["approve"]["actor"] == "user:dana"


@pytest.mark.row("A04", kind="R")
def test_a_bare_copy_verifies_without_a_server_and_one_byte_does_not(serving: Server, tmp_path: Path) -> None:
    copy = tmp_path / "pulled"
    serving.ok("model", "pull", "smollm2@1", str(copy))
    key = str(serving.data / "keys" / "public" / "release.pem")
    assert run(["verify", str(copy), "--as", "smollm2@1", "--key", key]).status == 0
    weights = next(copy.glob("*.gguf"))
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    answer = run(["verify", str(copy), "--as", "smollm2@1", "--key", key, "--json"])
    assert (answer.status, answer.code) == (1, "ART-TAMPER")
    assert weights.name in answer.out


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (["serve", "nothing@1"], 1, "ART-UNKNOWN"),
        (["serve", "smollm2@99"], 1, "ART-UNKNOWN"),
        (["serve", "Not A Ref"], 2, "REF-SYNTAX"),
        (
            ["model", "publish", "/nonexistent", "--as", "x@1", "--owner", "o", "--tier", "public"],
            2,
            "PATH-NOT-DIR",
        ),
        (["model", "frobnicate"], 2, "CLI-USAGE"),
        (["deploy", "rollback", "smollm2"], 1, "DEP-NO-EARLIER"),
        (["deploy", "stop", "unserved"], 1, "DEP-NONE"),
        (["user", "add", "a b", "--role", "user"], 2, "ID-SYNTAX"),
        (["user", "add", "eve", "--role", "emperor"], 2, "ROLE-UNKNOWN"),
        (["user", "disable", "root"], 1, "ID-LAST-ADMIN"),
        (["route", "add", "x", "--upstream", "http://u:p@h/", "--tier", "public"], 2, "ROUTE-ADDRESS"),
        (["explain", "NO-SUCH"], 2, "CODE-UNKNOWN"),
    ],
)
def test_bad_input_ends_in_a_sentence_with_a_code(
    serving: Server, words: list[str], status: int, code: str
) -> None:
    answer = serving.cli(*words)
    assert (answer.status, answer.code) == (status, code), answer.out + answer.err
    assert answer.json["error"]["next"]
    assert "Traceback" not in answer.out + answer.err


def test_an_empty_and_a_truncated_model_are_not_published(
    serving: Server, tmp_path: Path, smollm2_gguf: Path
) -> None:
    words = ["--as", "bad@1", "--owner", "o", "--tier", "public"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert serving.cli("model", "publish", str(empty), *words).status in (1, 2, 3)
    (empty / "model.gguf").write_bytes(b"")
    assert serving.cli("model", "publish", str(empty), *words).status in (1, 3)
    with smollm2_gguf.open("rb") as whole:
        (empty / "model.gguf").write_bytes(whole.read(1_000_000))
    assert serving.cli("model", "publish", str(empty), *words).status in (1, 3)
    assert serving.cli("model", "show", "bad@1").code == "ART-UNKNOWN"
