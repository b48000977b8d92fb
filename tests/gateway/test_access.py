"""Who may ask for what: no anonymous path, an exact route table, tokens and roles, mid-stream revocation."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.fakes.upstream import HANG, STREAM_HEAD, Asked, chunk, delta, event
from tests.gateway.rig import Rig, chat

from garrison.trust.identity import mint
from garrison.trust.keys.file import FileSigner

ROUTES = ["/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/embeddings"]
OTHER_DOORS = [
    "/",
    "/v1",
    "/v1/",
    "/v1/models/",
    "//v1/models",
    "/v1//models",
    "/v1/../metrics",
    "/v1/models/../../metrics",
    "/v1/%2e%2e/metrics",
    "/v1/models%2e",
    "/v1/mod%65ls",
    "/V1/models",
    "/v1/models?x=1",
    "/v1/models#x",
    "/v1/models;x",
    "/v1/chat/completions/",
    "/invocations",
    "/metrics",
    "/tokenize",
    "/props",
    "/slots",
    "/health",
    "/completion",
    "/v1/load_lora_adapter",
    "/models/unload",
    "/docs",
    "/openapi.json",
    "/.git/config",
]


@pytest.mark.row("C05", kind="R")
@pytest.mark.parametrize("path", ROUTES)
def test_nothing_is_answered_without_a_token(rig: Rig, path: str) -> None:
    method = "GET" if path == "/v1/models" else "POST"
    answer = rig.ask(chat(), path=path, method=method, token=None)
    assert (answer.status, answer.code) == (401, "TOK-MISSING")
    assert answer.headers["www-authenticate"].startswith("bearer")
    assert not rig.upstream.asked


@pytest.mark.row("C05", kind="R")
@pytest.mark.parametrize(
    "header",
    ["Basic ZGFuYTpkYW5h", "Bearer", "Bearer ", "bearer x.y.z", "Token abc", "", "Bearer \t", "Negotiate x"],
)
def test_no_other_credential_is_taken(rig: Rig, header: str) -> None:
    answer = rig.ask(
        chat(),
        token=None,
        authorization=header,
        x_forwarded_user="admin",
        x_real_ip="127.0.0.1",
        cookie="a=b",
    )
    assert answer.status == 401
    assert not rig.upstream.asked


@pytest.mark.row("C01", kind="R")
@pytest.mark.parametrize("path", OTHER_DOORS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_other_path_is_404_with_or_without_a_token(rig: Rig, path: str, method: str) -> None:
    for token in ("", None):
        answer = rig.ask(chat(), path=path, method=method, token=token)
        assert (answer.status, answer.code) == (404, "GW-ROUTE")
    assert not rig.upstream.asked


def test_the_wrong_method_is_405_and_names_the_right_one(rig: Rig) -> None:
    for method, path, allowed in (
        ("GET", ROUTES[1], "post"),
        ("DELETE", ROUTES[0], "get"),
        ("TRACE", ROUTES[0], "get"),
    ):
        answer = rig.ask(b"", path=path, method=method)
        assert (answer.status, answer.code, answer.headers["allow"]) == (405, "GW-METHOD", allowed)


def test_probes_say_nothing_and_leave_no_event(rig: Rig) -> None:
    for path in ("/livez", "/readyz"):
        answer = rig.ask(b"", path=path, method="GET", token=None)
        assert (answer.status, answer.body) == (200, b"ok\n")
    rig.wall_offset = 7200
    assert rig.ask(b"", path="/readyz", method="GET", token=None).status == 503
    assert not rig.lines()


def _forged(rig: Rig, **header: Any) -> str:
    """A token that carries right claims under another header, signed as that header says where it can be."""
    good = rig.token()
    kid = rig.token_key.key_id
    head = {"alg": "ES256", "typ": "at+jwt", "kid": kid, **header}
    encoded = base64.urlsafe_b64encode(json.dumps(head).encode()).rstrip(b"=").decode()
    signed = f"{encoded}.{good.split('.')[1]}"
    if head["alg"] == "none":
        return f"{signed}."
    if head["alg"] == "HS256":
        mac = hmac.new(rig.token_key.public_pem(), signed.encode(), hashlib.sha256).digest()
        return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    return f"{signed}.{good.split('.')[2]}"


@pytest.mark.row("S28", kind="R")
@pytest.mark.row("C06", kind="R")
@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "RS256"},
        {"kid": "../../../dev/null"},
        {"kid": "' OR 1=1 --"},
        {"jku": "http://127.0.0.1/keys"},
        {"jwk": {"kty": "oct", "k": "AA"}},
        {"crit": ["exp"]},
        {"typ": "JWT"},
    ],
    ids=str,
)
def test_forged_token_headers_are_refused(rig: Rig, header: dict[str, Any]) -> None:
    answer = rig.ask(chat(), token=_forged(rig, **header))
    assert (answer.status, answer.code) == (401, "TOK-INVALID")


@pytest.mark.row("C06", kind="R")
def test_expired_revoked_and_foreign_tokens_are_refused(rig: Rig) -> None:
    old = rig.token(now=datetime.now(UTC) - timedelta(minutes=20))
    assert rig.ask(chat(), token=old).code == "TOK-EXPIRED"
    stranger = mint({"sub": "dana", "roles": ["user"], "models": []}, FileSigner("token"), datetime.now(UTC))
    assert rig.ask(chat(), token=stranger).code == "TOK-INVALID"
    mine = rig.token(jti="token-1")
    assert rig.ask(chat(), token=mine).status == 200
    rig.published(revoked={"tokens": ["token-1"], "subjects": []})
    assert rig.ask(chat(), token=mine).code == "TOK-REVOKED"
    assert rig.ask(chat()).status == 200
    rig.published(revoked={"tokens": [], "subjects": ["dana"]})
    assert rig.ask(chat()).code == "TOK-REVOKED"


def test_roles_and_model_lists_decide_and_a_stranger_learns_no_names(rig: Rig) -> None:
    assert rig.ask(chat(), token=rig.token(role="auditor")).code == "RBAC-403"
    narrow = rig.token(models=("other",))
    for model in ("smollm2", "does-not-exist"):
        answer = rig.ask(chat() | {"model": model}, token=narrow)
        assert (answer.status, answer.code) == (403, "RBAC-MODEL")
    assert rig.ask(chat() | {"model": "other@2"}, token=narrow).status == 200
    for model in ("does-not-exist", "smollm2@9", "smollm2@", "SMOLLM2", "../smollm2", "http://evil/x"):
        answer = rig.ask(chat() | {"model": model})
        assert (answer.status, answer.code) in {(404, "GW-MODEL"), (400, "GW-MODEL")}, model


def test_a_model_is_only_asked_for_what_it_serves(rig: Rig) -> None:
    answer = rig.ask({"model": "minilm", "messages": [{"role": "user", "content": "a"}]})
    assert (answer.status, answer.code) == (400, "GW-TASK")


def _endless(asked: Asked) -> list[bytes]:
    return [STREAM_HEAD, chunk(event(delta(content="these words are shown at once "))), HANG]


@pytest.mark.row("S27", kind="R")
def test_a_subject_disabled_in_the_middle_of_a_stream_is_cut_with_an_error_event(rig: Rig) -> None:
    rig.upstream.answer = _endless

    def disable(asked: Asked) -> list[bytes]:
        rig.publish(revoked={"tokens": [], "subjects": ["dana"]})
        return _endless(asked)

    rig.upstream.answer = disable
    answer = rig.ask(chat(stream=True))
    assert answer.status == 200
    assert b'"code":"TOK-REVOKED"' in answer.body
    assert b"[DONE]" not in answer.body
    assert rig.event_of(answer)["data"]["ended"] == "cut"
    rig.until(lambda: rig.upstream.left == 1)


def test_a_stream_outlives_its_token_by_a_minute_and_no_longer(rig: Rig) -> None:
    def later(asked: Asked) -> Any:
        yield STREAM_HEAD
        rig.wall_offset = 950  # 50 s past the end of the token
        yield chunk(event(delta(content="still ")))
        rig.until(lambda: True)
        rig.wall_offset = 970
        yield HANG

    rig.upstream.answer = later
    answer = rig.ask(chat(stream=True), token=rig.token(ttl=900))
    assert b'"code":"TOK-EXPIRED"' in answer.body
    assert rig.event_of(answer)["data"]["ended"] == "cut"
