"""Two real OpenID providers, each a program of its own: oidc-provider-mock from PyPI and oidc-provider from npm."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey
from tests.flows import peers
from tests.flows.server import environment, free_port

NODE_SCRIPT = Path(__file__).parents[1] / "fakes" / "oidc_provider.mjs"
CLIENT = ("app", "app-secret-app-secret")


def ec_key(kid: str) -> dict[str, Any]:
    return {**ECKey.generate_key("P-256").as_dict(private=True), "kid": kid, "use": "sig", "alg": "ES256"}


@contextmanager
def python_provider() -> Iterator[str]:
    """oidc-provider-mock: RS256 ID tokens for people."""
    python, port = peers.peer("oidc"), free_port()
    words = [
        str(python.parent / "oidc-provider-mock"),
        "--port",
        str(port),
        "--user",
        "alice",
        "--token-max-age",
        "600",
    ]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    try:
        until_it_answers(port, process)
        yield f"http://localhost:{port}"
    finally:
        end(process)


def id_token(url: str, subject: str, audience: str) -> str:
    """What a person's browser and an application do to sign in, by the authorization code flow."""
    host = urllib.parse.urlsplit(url).netloc
    back = "http://127.0.0.1:1/back"
    query = urllib.parse.urlencode(
        {
            "client_id": audience,
            "redirect_uri": back,
            "response_type": "code",
            "scope": "openid",
            "state": "s",
        }
    )
    where = _post(host, f"/oauth2/authorize?{query}", {"sub": subject})[1]["location"]
    code = re.search(r"[?&]code=([^&]+)", where)
    assert code is not None
    form = {
        "grant_type": "authorization_code",
        "code": code[1],
        "redirect_uri": back,
        "client_id": audience,
        "client_secret": "x",
    }
    status, _, body = _post(host, "/oauth2/token", form)
    assert status == 200, body
    return str(json.loads(body)["id_token"])


@contextmanager
def node_provider(port: int, keys: list[dict[str, Any]]) -> Iterator[str]:
    """oidc-provider: JWT access tokens (RFC 9068) for programs, by client credentials."""
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        ["node", str(NODE_SCRIPT), str(port), url, json.dumps(keys)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=_node_home(),
        env=environment(),
    )
    try:
        until_it_answers(port, process)
        yield url
    finally:
        end(process)


def access_token(url: str) -> str:
    form = {"grant_type": "client_credentials", "client_id": CLIENT[0], "client_secret": CLIENT[1]}
    status, _, body = _post(urllib.parse.urlsplit(url).netloc, "/token", form)
    assert status == 200, body
    return str(json.loads(body)["access_token"])


def until_it_answers(port: int, process: subprocess.Popen[Any]) -> None:
    ends = time.monotonic() + 60
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/.well-known/openid-configuration")
            with connection.getresponse() as answer:
                assert answer.status == 200
            connection.close()
            return
        except OSError:
            connection.close()
            assert process.poll() is None, "the provider ended"
            assert time.monotonic() < ends, "the provider does not answer"
            time.sleep(0.05)


def end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    process.wait(20)


def _node_home() -> Path:
    scripts = peers._scripts()
    try:
        return Path(scripts.node_environment("oidc-provider"))
    except scripts.Unavailable as error:
        pytest.skip(f"NOT PROVED HERE: {error}")


def _post(host: str, path: str, form: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(host, timeout=20)
    try:
        connection.request(
            "POST",
            path,
            body=urllib.parse.urlencode(form),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        with connection.getresponse() as answer:
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, headers, answer.read()
    finally:
        connection.close()
