"""What was possible at other gateways, one case a trick, by the number it is known under: here it is refused.

Each trick names an address where a witness listens. Nothing may come there, no model may be asked, and one event
says that it was refused.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import hmac
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.upstream import Upstream
from tests.gateway.rig import Rig, chat, parse_answer

import garrison
from garrison.detect.inspect import Inspector

EVIL = "http://127.0.0.1:{port}"  # where the witness listens
SOURCE = Path(garrison.__file__).parent
PLANE = sorted((SOURCE / "gateway").rglob("*.py"))
# The caller chooses where a request goes, with whose key and with which headers.
STEERING: dict[str, Any] = {
    "api_base": EVIL,
    "base_url": EVIL,
    "api_key": "sk-1",
    "api_version": EVIL,
    "azure_endpoint": EVIL,
    "aws_bedrock_runtime_endpoint": EVIL,
    "vertex_credentials": {"token_uri": EVIL},
    "custom_llm_provider": "openai",
    "custom_host": EVIL,
    "endpoint": EVIL,
    "url": EVIL,
    "proxy": EVIL,
    "extra_headers": {"authorization": "Bearer x"},
    "headers": {"host": "evil"},
    "extra_body": {"api_base": EVIL},
    "extra_query": {"a": "b"},
    "fallbacks": [{"model": "x", "api_base": EVIL}],
    "model_list": [{"litellm_params": {"api_base": EVIL}}],
    "litellm_params": {"api_base": EVIL},
    "litellm_metadata": {"api_base": EVIL},
    "user_config": {"model_list": []},
    "provider": {"order": ["evil"]},
    "deployment_id": "other",
    "success_callback": [EVIL],
    "cache": {"no-store": True},
    "__proto__": {"api_base": EVIL},
    "API_BASE": EVIL,
    "api\u005fbase ": EVIL,
}
# A gateway that runs what it is sent.
RUNNING: dict[str, Any] = {
    "guardrails": ["__import__('os').system('id')"],
    "guardrail_config": {"code": "exec('x')"},
    "custom_code": "def f(): ...",
    "pre_call_rules": "os.system",
    "response_format": {"type": "regex", "regex": "(a+)+$"},
    "guided_grammar": "root ::= root",
    "mcp_servers": [{"command": "sh", "args": ["-c", "id"]}],
    "command": ["sh", "-c", "id"],
    "prompt_template": "{{ ''.__class__.__mro__ }}",
    "chat_template": "{{ cycler.__init__.__globals__.os.popen('id') }}",
}
MODELS = (
    "openai/gpt-x@{evil}",
    "{evil}/v1",
    "smollm2@1#{evil}",
    "../smollm2",
    "smollm2\r\nx-evil: 1",
    "smollm2?api_base={evil}",
    "*",
    "smollm2@01 ",
    "SMOLLM2",
    "smollm2\u0000",
)
ADMIN = (
    "/key/generate",
    "/user/new",
    "/user/update",
    "/team/new",
    "/config/update",
    "/model/new",
    "/v1/routes",
    "/api/users",
    "/guardrails/test_custom_code",
    "/mcp-rest/test/connection",
    "/mcp-rest/test/tools/list",
    "/utils/transform_request",
    "/openai/v1/chat/completions",
    "/v1/chat/completions/",
    "//v1/chat/completions",
    "/v1/chat/completions?api_base=x",
    "/v1/chat/completions;a",
    "/v1/%63hat/completions",
    "/v1/../v1/chat/completions",
    "/metrics",
    "/debug/pprof",
    "/openapi.json",
    "/docs",
)
WORDS = (
    "sk-1234",
    "changeme",
    "secret",
    "master",
    "admin",
    "test",
    "default-router-key",
    "' OR '1'='1",
    "x'; DROP TABLE tokens;--",
    "' UNION SELECT 1,2,3 --",
    "${jndi:ldap://127.0.0.1/x}",
    "null",
    "undefined",
)
HOSTS = (
    "garrison/v1/models",
    "garrison?/livez",
    "garrison#",
    "garrison@evil",
    "127.0.0.1:9464",
    "/livez",
    "livez",
    "localhost\tlivez",
)


@pytest.fixture(scope="module")
def plane(inspector: Inspector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("cves") / "plane", inspector).start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def witness(plane: Rig) -> Iterator[tuple[Upstream, str]]:
    made = Upstream()
    address = plane.run(made.start_http())
    yield made, address
    plane.run(made.stop())


def _filled(value: Any, evil: str) -> Any:
    return json.loads(json.dumps(value).replace(EVIL, evil))


def _refused(plane: Rig, witness: tuple[Upstream, str], raw: bytes, statuses: tuple[int, ...]) -> None:
    before = len(plane.upstream.asked)
    answer = parse_answer(plane.raw(raw))
    assert answer.status in statuses, answer.body
    assert answer.code
    assert not witness[0].asked
    assert len(plane.upstream.asked) == before
    event = plane.event_of(answer)
    assert event["outcome"] != "allowed"
    assert "\n" not in json.dumps(event)


@pytest.mark.parametrize("name", [*STEERING], ids=[f"CVE-2024-6587-{name.strip()}" for name in STEERING])
def test_a_caller_never_says_where_a_request_goes(plane: Rig, witness: Any, name: str) -> None:
    value = _filled(STEERING[name], witness[1])
    for door, body in (
        ("/v1/chat/completions", chat()),
        ("/v1/responses", {"model": "smollm2", "input": "hello"}),
        ("/v1/messages", {**chat(), "max_tokens": 9}),
    ):
        _refused(plane, witness, plane.request({**body, name: value}, path=door), (400,))


@pytest.mark.parametrize(
    "number", range(len(MODELS)), ids=[f"CVE-2024-6587-model-{n}" for n in range(len(MODELS))]
)
def test_a_models_name_is_a_name_and_no_address(plane: Rig, witness: Any, number: int) -> None:
    model = MODELS[number].format(evil=witness[1])
    _refused(plane, witness, plane.request(chat(model=model)), (400, 403, 404))


@pytest.mark.parametrize("address", ["http", "file", "data-svg", "metadata"])
def test_no_address_in_a_request_is_fetched(plane: Rig, witness: Any, address: str) -> None:
    url = {
        "http": f"{witness[1]}/x.png",
        "file": "file://localhost/etc/passwd",
        "data-svg": "data:image/svg+xml,<svg/>",
        "metadata": "http://169.254.169.254/latest/meta-data/",
    }[address]
    part = {"type": "image_url", "image_url": {"url": url}}
    body = {"model": "smollm2", "messages": [{"role": "user", "content": [part]}]}
    _refused(plane, witness, plane.request(body), (400, 403))


@pytest.mark.parametrize("name", [*RUNNING], ids=[f"CVE-2026-40217-{name}" for name in RUNNING])
def test_nothing_that_is_sent_is_run(plane: Rig, witness: Any, name: str) -> None:
    _refused(plane, witness, plane.request({**chat(), name: RUNNING[name]}), (400,))


@pytest.mark.parametrize("path", ADMIN, ids=[f"CVE-2026-47101-{n}" for n in range(len(ADMIN))])
def test_no_door_of_an_administrator_is_on_this_listener(plane: Rig, witness: Any, path: str) -> None:
    """Nor a command that a connection is tested with (CVE-2026-42271), whatever the token may do elsewhere."""
    body = {"command": "sh", "args": ["-c", "id"], "transport": "stdio", "user_role": "proxy_admin"}
    for role in ("user", "admin"):
        _refused(plane, witness, plane.request(body, path=path, token=plane.token(role=role)), (404, 403))


def test_nobody_gives_himself_a_role(plane: Rig, witness: Any) -> None:
    """CVE-2026-47102: what a token says counts only as it was signed."""
    head, body, signature = plane.token(models=("minilm",)).split(".")
    facts = json.loads(base64.urlsafe_b64decode(body + "=="))
    for change in ({"roles": ["admin"]}, {"models": []}, {"sub": "root"}, {"exp": facts["exp"] + 9_999}):
        forged = base64.urlsafe_b64encode(json.dumps({**facts, **change}).encode()).rstrip(b"=").decode()
        _refused(plane, witness, plane.request(chat(), token=f"{head}.{forged}.{signature}"), (401, 429))


@pytest.mark.row("C05", kind="R")
@pytest.mark.parametrize("number", range(len(WORDS)), ids=[f"CVE-2026-42208-{n}" for n in range(len(WORDS))])
def test_no_word_is_a_key(plane: Rig, witness: Any, number: int) -> None:
    """No default (GHSA-g53w-w6mj-hrpp), no statement in SQL, and nothing that is signed with a known word."""
    word = WORDS[number]
    _refused(plane, witness, plane.request(chat(), token=word), (401, 429))
    _refused(plane, witness, plane.request(chat(), token=None, x_api_key=word), (401, 429))
    parts = [{"alg": "HS256", "typ": "at+jwt", "kid": plane.token_key.key_id}]
    parts.append(json.loads(base64.urlsafe_b64decode(plane.token().split(".")[1] + "==")))
    signed = ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts)
    mac = hmac.new(word.encode(), signed.encode(), hashlib.sha256).digest()
    forged = f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    _refused(plane, witness, plane.request(chat(), token=forged), (401, 429))


@pytest.mark.row("C05", kind="R")
@pytest.mark.parametrize("number", range(len(HOSTS)), ids=[f"CVE-2026-48710-{n}" for n in range(len(HOSTS))])
def test_what_the_host_header_says_opens_no_door(plane: Rig, witness: Any, number: int) -> None:
    host = HOSTS[number]
    _refused(plane, witness, plane.request(chat(), token=None, host=host), (400, 401, 429))
    stranger = plane.token(models=("minilm",))
    _refused(plane, witness, plane.request(chat(), token=stranger, host=host), (400, 403))


NEVER = frozenset({"eval", "exec", "compile", "__import__", "system", "popen", "fork", "posix_spawn"})
SPAWNING = frozenset(
    {"subprocess", "pickle", "marshal", "sqlite3", "sqlalchemy", "importlib", "multiprocessing"}
)


@pytest.mark.parametrize("path", PLANE, ids=[f"CVE-2026-42271-{path.stem}" for path in PLANE])
def test_the_planes_own_code_runs_nothing_spawns_nothing_and_knows_no_sql(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.id if isinstance(called, ast.Name) else ""
            if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                name = called.attr if called.value.id in ("os", "builtins", "asyncio") else ""
            assert name not in NEVER, f"{path.name}:{node.lineno}"
            assert not name.startswith(("exec", "spawn", "create_subprocess")), f"{path.name}:{node.lineno}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & SPAWNING, f"{path.name}:{node.lineno}"


def test_a_worker_has_no_database_and_no_web_framework_to_attack() -> None:
    """CVE-2026-42208, CVE-2026-48710: what is not there has no defect."""
    program = "import sys, garrison.gateway.worker; print(*{m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    loaded = set(done.stdout.split())
    assert "garrison" in loaded
    assert not loaded & {
        "sqlalchemy",
        "psycopg",
        "sqlite3",
        "starlette",
        "fastapi",
        "httpx",
        "requests",
        "jinja2",
    }


def test_every_dependency_is_pinned_by_hash() -> None:
    """The packages of LiteLLM 1.82.7 and 1.82.8 were replaced at the registry: another file is not installed."""
    locks = sorted((SOURCE.parent.parent / "requirements").glob("*.txt"))
    assert locks
    for lock in locks:
        lines = lock.read_text().replace("\\\n", " ").splitlines()
        wanted = [line for line in lines if line.strip() and not line.strip().startswith(("#", "-"))]
        assert wanted
        assert not [line for line in wanted if "==" not in line or "--hash=sha256:" not in line], lock.name
