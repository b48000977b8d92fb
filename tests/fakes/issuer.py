"""An OpenID Connect issuer on loopback that signs whatever it is told to, and misbehaves when it is told to."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

AUDIENCE = "garrison-test"


@dataclass
class FakeIssuer:
    """`answers` replaces what a path answers: (status, headers, body)."""

    url: str
    keys: dict[str, tuple[Any, str]] = field(default_factory=dict)  # kid: key, algorithm
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    drip: bool = False

    def add(self, kid: str, algorithm: str = "ES256", key: Any = None) -> None:
        self.keys[kid] = (key or new_key(algorithm), algorithm)

    def jwks(self) -> dict[str, Any]:
        return {
            "keys": [
                {**key.as_dict(private=False), "kid": kid, "alg": algorithm, "use": "sig"}
                for kid, (key, algorithm) in self.keys.items()
            ]
        }

    def claims(self, **more: Any) -> dict[str, Any]:
        now = int(time.time())
        body = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "alice",
            "iat": now,
            "nbf": now,
            "exp": now + 600,
            "jti": "one",
            "groups": ["ml-users"],
            **more,
        }
        return {name: value for name, value in body.items() if value is not ...}

    def token(self, kid: str = "", *, header: dict[str, Any] | None = None, **claims: Any) -> str:
        kid = kid or next(iter(self.keys))
        key, algorithm = self.keys[kid]
        head = {"alg": algorithm, "kid": kid, "typ": "JWT", **(header or {})}
        head = {name: value for name, value in head.items() if value is not ...}
        return sign(head, self.claims(**claims), key, algorithm)


def new_key(algorithm: str) -> Any:
    if algorithm.startswith(("RS", "PS")):
        return RSAKey.generate_key(2048)
    if algorithm in ("EdDSA", "Ed25519"):
        return OKPKey.generate_key("Ed25519")
    return ECKey.generate_key({"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[algorithm])


def encode(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(header: dict[str, Any], claims: Any, key: Any, algorithm: str) -> str:
    """A compact token with this very header, signed as `algorithm` says."""
    signed = f"{encode(header)}.{encode(claims)}"
    signature = jws.JWSRegistry.algorithms[algorithm].sign(signed.encode(), key)
    return f"{signed}.{encode(signature)}"


@contextmanager
def issuer(kid: str = "first") -> Iterator[FakeIssuer]:
    made: list[FakeIssuer] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            one = made[0]
            one.asked.append(self.path)
            document = {"issuer": one.url, "jwks_uri": f"{one.url}/jwks"}
            pages = {"/.well-known/openid-configuration": document, "/jwks": one.jwks()}
            status, headers, body = one.answers.get(
                self.path, (200, {}, json.dumps(pages.get(self.path, {})).encode())
            )
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            for place in range(len(body)):
                if not one.drip:
                    break
                self.wfile.write(body[place : place + 1])
                time.sleep(0.05)
            else:
                return
            self.wfile.write(body)

        def log_message(self, *_words: Any) -> None:
            return

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:  # the client hung up, as it should
                return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    made.append(FakeIssuer(f"http://127.0.0.1:{server.server_address[1]}"))
    made[0].add(kid)
    thread.start()
    try:
        yield made[0]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
