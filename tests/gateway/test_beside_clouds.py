"""AWS API Gateway and Azure API Management: what is rendered, read by an emulator or executed."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer
from openapi_spec_validator import validate

from garrison.app.beside import authorizer
from garrison.app.beside.render import render
from garrison.app.beside.site import Site
from garrison.core.digest import canonical_json
from garrison.core.errors import Usage
from garrison.gateway.doors import DOORS
from garrison.trust.identity import mint
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import parse_public

ARN = "arn:aws:execute-api:eu-west-1:123456789012:abcdef123/prod/POST/v1/chat/completions"
CLAIMS = {"sub": "dana", "roles": ["user"], "models": []}


def files(product: str, site: Site | None = None) -> dict[str, str]:
    return {file.name: file.text for file in render(product, site or Site())}


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(canonical_json(value)).rstrip(b"=").decode()


def _number(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(32, "big")).rstrip(b"=").decode()


class Lambda:
    """The rendered function as AWS runs it: a file and its keys, an interpreter without anybody's packages."""

    def __init__(self, room: Path) -> None:
        self.signer, self.room = FileSigner("token"), room
        (room / "authorizer.py").write_text(files("aws")["authorizer.py"])
        public = parse_public(self.signer.public_pem())
        assert isinstance(public, ec.EllipticCurvePublicKey)
        point = public.public_numbers()
        key = {"kty": "EC", "crv": "P-256", "kid": self.signer.key_id, "use": "sig", "alg": "ES256"}
        self.keys = {"keys": [{**key, "x": _number(point.x), "y": _number(point.y)}]}
        (room / "jwks.json").write_text(json.dumps(self.keys))

    def token(self, **claims: Any) -> str:
        now = claims.pop("now", datetime.now(UTC))
        return mint({**CLAIMS, **claims}, self.signer, now, ttl=claims.pop("ttl", 900))

    def answers(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        code = "import json,sys; sys.path.insert(0,'.'); import authorizer, os; out=sys.stdout; sys.stdout=sys.stderr\n"
        code += "json.dump([authorizer.handler(e, None) for e in json.load(sys.stdin)], out)"
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code],
            input=json.dumps(events),
            capture_output=True,
            text=True,
            cwd=self.room,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout))


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Lambda:
    return Lambda(tmp_path_factory.mktemp("lambda"))


def asked(token: str) -> dict[str, Any]:
    return {"type": "TOKEN", "authorizationToken": f"Bearer {token}", "methodArn": ARN}


def effect(answer: dict[str, Any]) -> str:
    return str(answer["policyDocument"]["Statement"][0]["Effect"])


@pytest.mark.row("C03", kind="E")
def test_the_authorizer_answers_each_form_of_event_that_aws_documents(function: Lambda) -> None:
    token = function.token()
    rest = {
        "type": "REQUEST",
        "methodArn": ARN,
        "resource": "/v1/chat/completions",
        "path": "/v1/chat/completions",
        "httpMethod": "POST",
        "headers": {"Authorization": f"Bearer {token}", "X-Forwarded-For": "203.0.113.7"},
        "requestContext": {"apiId": "abcdef123", "stage": "prod", "identity": {"sourceIp": "203.0.113.7"}},
    }
    http = {
        "version": "2.0",
        "type": "REQUEST",
        "routeArn": ARN,
        "identitySource": [f"Bearer {token}"],
        "headers": {"authorization": f"Bearer {token}"},
        "requestContext": {
            "accountId": "123456789012",
            "http": {"method": "POST", "path": "/v1/chat/completions"},
        },
    }
    simple, whole, plain = function.answers([asked(token), rest, http])
    assert simple == whole
    statement = simple["policyDocument"]["Statement"][0]
    assert (effect(simple), simple["principalId"]) == ("Allow", "dana")
    assert statement["Resource"] == "arn:aws:execute-api:eu-west-1:123456789012:abcdef123/prod/*"
    assert plain["isAuthorized"] is True
    assert plain["context"]["subject"] == "dana"
    nobody = function.answers([{**rest, "headers": {}}, {**http, "headers": {}}, {}])
    assert [effect(nobody[0]), nobody[1], effect(nobody[2])] == ["Deny", {"isAuthorized": False}, "Deny"]


@pytest.mark.row("C03", kind="E")
def test_the_authorizer_denies_whatever_is_not_a_good_token(function: Lambda) -> None:
    good = function.token()
    head, body, signature = good.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    none = _part({"alg": "none", "typ": "at+jwt", "kid": function.signer.key_id})
    hashed = _part({"alg": "HS256", "typ": "at+jwt", "kid": function.signer.key_id})
    other = mint(CLAIMS, FileSigner("other"), datetime.now(UTC), ttl=900)
    bad = {
        "no signature": f"{none}.{body}.",
        "alg none": f"{none}.{body}.{signature}",
        "alg HS256": f"{hashed}.{body}.{signature}",
        "another key": other,
        "other claims": f"{head}.{_part({**claims, 'sub': 'root'})}.{signature}",
        "zero signature": f"{head}.{body}.{'A' * 86}",
        "expired": function.token(now=datetime.fromtimestamp(time.time() - 2_000, UTC)),
        "not yet": function.token(now=datetime.fromtimestamp(time.time() + 2_000, UTC)),
        "bound": function.token(cnf={"x5t#S256": "A" * 43}),
        "kid is a path": f"{_part({'alg': 'ES256', 'typ': 'at+jwt', 'kid': '../jwks'})}.{body}.{signature}",
        "two parts": f"{head}.{body}",
        "padding": f"{head}=.{body}.{signature}",
        "long": "A" * 9_000,
        "empty": "",
    }
    answers = dict(zip(bad, function.answers([asked(token) for token in bad.values()]), strict=True))
    assert {name: effect(answer) for name, answer in answers.items()} == dict.fromkeys(bad, "Deny")


def test_a_bound_token_passes_with_the_certificate_that_api_gateway_saw(function: Lambda) -> None:
    der = b"any certificate"
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
    token = function.token(cnf={"x5t#S256": thumbprint})
    pem = f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(der).decode()}\n-----END CERTIFICATE-----\n"
    event = {**asked(token), "requestContext": {"identity": {"clientCert": {"clientCertPem": pem}}}}
    shown, bare = function.answers([event, asked(token)])
    assert (effect(shown), effect(bare)) == ("Allow", "Deny")


def test_without_its_keys_the_authorizer_denies(function: Lambda, tmp_path: Path) -> None:
    lost = Lambda(tmp_path)
    token = lost.token()
    for text in ("", "{}", '{"keys": 1}', json.dumps({"keys": [{**lost.keys["keys"][0], "y": _number(5)}]})):
        (tmp_path / "jwks.json").write_text(text)
        assert effect(lost.answers([asked(token)])[0]) == "Deny"


@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=64), secret=st.integers(1, authorizer._N - 1), flip=st.integers(0, 511))
def test_signatures_are_judged_as_a_library_judges_them(data: bytes, secret: int, flip: int) -> None:
    private = ec.derive_private_key(secret, ec.SECP256R1())
    point = private.public_key().public_numbers()
    r, s = decode_dss_signature(private.sign(data, ec.ECDSA(SHA256())))
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    assert authorizer.is_signed(data, raw, (point.x, point.y))
    assert authorizer.is_signed(data, raw[:32] + (authorizer._N - s).to_bytes(32, "big"), (point.x, point.y))
    changed = bytearray(raw)
    changed[flip // 8] ^= 1 << flip % 8
    der = encode_dss_signature(int.from_bytes(changed[:32], "big"), int.from_bytes(changed[32:], "big"))
    try:
        private.public_key().verify(der, data, ec.ECDSA(SHA256()))
        expected = True
    except InvalidSignature:
        expected = False
    assert authorizer.is_signed(data, bytes(changed), (point.x, point.y)) is expected


@pytest.fixture(scope="module")
def apigateway() -> Iterator[Any]:
    """The vendor's client against an emulator of the service."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield boto3.client(
        "apigateway",
        endpoint_url=f"http://{host}:{port}",
        region_name="eu-west-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1}),
    )
    server.stop()


@pytest.mark.row("C03", kind="E")
def test_the_document_is_openapi_and_api_gateway_imports_every_door(apigateway: Any) -> None:
    text = files("aws", Site(gateway="ai.example.com:443"))["openapi.json"]
    document = json.loads(text)
    validate(document)
    assert set(document["paths"]) == {*DOORS, "/v1/models", "/v1/models/{model}"}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["security"] == [{"garrison": []}], (
                path,
                method,
            )  # no operation without the authorizer
            integration = operation["x-amazon-apigateway-integration"]
            assert integration["uri"] == f"https://ai.example.com:443{path}"
    api = apigateway.import_rest_api(failOnWarnings=True, body=text.encode())
    resources = apigateway.get_resources(restApiId=api["id"], limit=100)["items"]
    got = {item["path"]: sorted(item.get("resourceMethods", {})) for item in resources}
    assert {path: got[path] for path in document["paths"]} == {
        path: sorted(method.upper() for method in methods) for path, methods in document["paths"].items()
    }


SECTIONS = ("inbound", "backend", "outbound", "on-error")
# Where each element may stand, and its attributes, as the policy reference has them.
ELEMENTS: dict[str, tuple[set[str], set[str]]] = {
    "base": (set(SECTIONS), set()),
    "validate-jwt": (
        {"inbound"},
        {"header-name", "failed-validation-httpcode", "failed-validation-error-message", "require-scheme"}
        | {"require-expiration-time", "require-signed-tokens", "clock-skew", "output-token-variable-name"},
    ),
    "validate-content": (
        {"inbound"},
        {"unspecified-content-type-action", "max-size", "size-exceeded-action", "errors-variable-name"},
    ),
    "rate-limit-by-key": ({"inbound"}, {"calls", "renewal-period", "counter-key", "retry-after-header-name"}),
    "set-header": (set(SECTIONS), {"name", "exists-action"}),
    "set-backend-service": ({"inbound", "backend"}, {"base-url"}),
    "authentication-certificate": ({"inbound"}, {"thumbprint"}),
    "forward-request": (
        {"backend"},
        {"timeout", "follow-redirects", "buffer-request-body", "buffer-response"},
    ),
}


@pytest.mark.row("C04", kind="C")
def test_the_azure_policy_has_elements_where_they_may_stand_and_nothing_else() -> None:
    text = files("azure", Site(gateway="ai.example.com:443", issuer="https://login.example.com"))[
        "policy.xml"
    ]
    root = ET.fromstring(text)
    assert (root.tag, [section.tag for section in root]) == ("policies", list(SECTIONS))
    for section in root:
        for element in section:
            allowed, attributes = ELEMENTS[element.tag]
            assert section.tag in allowed
            assert set(element.attrib) <= attributes
    inbound = [element.tag for element in root[0]]
    # The token is checked before anything is counted by it; the limit comes before the backend is chosen.
    order = [
        "base",
        "validate-jwt",
        "validate-content",
        "rate-limit-by-key",
        "set-header",
        "set-backend-service",
    ]
    assert sorted(set(inbound), key=inbound.index) == [*order, "authentication-certificate"]
    check = root[0].find("validate-jwt")
    assert check is not None
    # The children in the order of the reference.
    assert [child.tag for child in check] == ["openid-config", "audiences", "issuers"]
    assert check.attrib["require-signed-tokens"] == check.attrib["require-expiration-time"] == "true"
    removed = {
        one.attrib["name"] for one in root[0].findall("set-header") if one.attrib["exists-action"] == "delete"
    }
    assert removed == {"X-Garrison-Caller", "X-Forwarded-Client-Cert"}
    assert re.search(r'thumbprint="\{\{client-certificate\}\}"', text)


INTRUSIVE = ['a"b', "a b", "a;b", "a\nb", "a{b}", "a'b", "$(id)", "../x", "<x>", ""]


@pytest.mark.parametrize("value", INTRUSIVE, ids=[str(number) for number in range(len(INTRUSIVE))])
def test_nothing_that_would_be_configuration_gets_into_one(value: str) -> None:
    for option in ("name", "ca", "cert", "client_key", "place", "issuer"):
        shaped = {"name": value, "issuer": f"https://{value}"}.get(option, f"/etc/{value}" if value else "")
        with pytest.raises(Usage) as refused:
            Site(**{option: shaped})
        assert refused.value.code == "RENDER-VALUE"
    for option in ("listen", "gateway", "upstream"):
        for address in (f"{value}:80", f"host{value}", f"host:{value}", "host:70000"):
            with pytest.raises(Usage):
                Site(**{option: address})
