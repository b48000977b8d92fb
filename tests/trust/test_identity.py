"""Access tokens: minted short, and every forgery that was ever in the news is refused with the same words."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey

from garrison.core.digest import canonical_json
from garrison.core.errors import Refused, Usage
from garrison.trust.identity import (
    MAX_LIFETIME,
    MAX_TOKEN,
    REFUSED_SIZE,
    TokenVerifier,
    mint,
)
from garrison.trust.keys.base import Signer
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import public_from_pem

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SECONDS = NOW.timestamp()
CLAIMS = {"sub": "dana", "roles": ["user"], "models": ["smollm2"], "jti": "a" * 32}
SIGNER = FileSigner("token")
PUBLIC = public_from_pem(SIGNER.public_pem(), "token")


def verifier(**changes: Any) -> TokenVerifier:
    return TokenVerifier([PUBLIC], **changes)


def encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def forge(
    header: dict[str, Any] | None = None, claims: dict[str, Any] | None = None, signer: Signer = SIGNER
) -> str:
    """A token with a good signature over whatever header and claims are asked for."""
    full = {"alg": "ES256", "typ": "at+jwt", "kid": SIGNER.key_id, **(header or {})}
    body = {
        **CLAIMS,
        "iss": "garrison",
        "aud": "garrison",
        "iat": int(SECONDS),
        "nbf": int(SECONDS),
        "exp": int(SECONDS) + 900,
        **(claims or {}),
    }
    body = {name: value for name, value in body.items() if value is not ...}
    full = {name: value for name, value in full.items() if value is not ...}
    signed = encode(canonical_json(full)) + b"." + encode(canonical_json(body))
    r, s = decode_dss_signature(signer.sign(signed))
    return (signed + b"." + encode(r.to_bytes(32, "big") + s.to_bytes(32, "big"))).decode()


def code_of(token: str, checker: TokenVerifier | None = None, now: float = SECONDS) -> str:
    with pytest.raises(Refused) as refusal:
        (checker or verifier()).verify(token, now)
    assert refusal.value.http_status == 401
    assert len(token) < 10 or token[:20] not in str(refusal.value.as_json())
    return refusal.value.code


def test_a_minted_token_names_its_subject() -> None:
    principal = verifier().verify(mint(CLAIMS, SIGNER, NOW), SECONDS)
    assert principal.subject.actor == "user:dana"
    assert principal.subject.roles == {"user"}
    assert principal.subject.models == {"smollm2"}
    assert principal.token_id == "a" * 32
    assert principal.expires == SECONDS + 900


def test_a_service_token_is_a_service() -> None:
    token = mint({**CLAIMS, "roles": ["service"]}, SIGNER, NOW)
    assert verifier().verify(token, SECONDS).subject.kind == "service"


def test_another_jwt_library_accepts_what_we_mint() -> None:
    key = ECKey.import_key(SIGNER.public_pem())
    assert jwt.decode(mint(CLAIMS, SIGNER, NOW), key, algorithms=["ES256"]).claims["sub"] == "dana"


@pytest.mark.row("C06", kind="R")
@pytest.mark.parametrize("seconds", [MAX_LIFETIME + 1, 30 * 86_400, 0, -1])
def test_a_long_lived_token_cannot_be_made(seconds: int) -> None:
    with pytest.raises(Refused) as refusal:
        mint(CLAIMS, SIGNER, NOW, ttl=seconds)
    assert refusal.value.code == "TOK-TTL"
    assert refusal.value.exit_status == 1


@pytest.mark.row("C06", kind="R")
def test_a_long_lived_token_is_refused_even_when_our_key_signed_it() -> None:
    assert code_of(forge(claims={"exp": int(SECONDS) + MAX_LIFETIME + 1})) == "TOK-INVALID"
    assert code_of(forge(), verifier(max_lifetime=600)) == "TOK-INVALID"


@pytest.mark.row("C06", kind="R")
def test_a_token_lives_fifteen_minutes_and_not_a_second_longer() -> None:
    token, checker = mint(CLAIMS, SIGNER, NOW), verifier()
    checker.verify(token, SECONDS + 899.9)
    assert code_of(token, checker, SECONDS + 900) == "TOK-EXPIRED"
    assert code_of(token, verifier(), SECONDS + 10_000) == "TOK-EXPIRED"


@pytest.mark.row("C05", kind="R")
def test_no_token_is_said_so() -> None:
    assert code_of("") == "TOK-MISSING"


@pytest.mark.row("C06", kind="R")
@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "", "HS256", "RS256", "ES384", "EdDSA", None, 1, ["ES256"]]
)
def test_no_other_algorithm_is_accepted(algorithm: Any) -> None:
    assert code_of(forge({"alg": algorithm})) == "TOK-INVALID"


@pytest.mark.row("C06", kind="R")
def test_alg_none_without_a_signature_is_refused() -> None:
    header, body, _ = forge().split(".")
    header = encode(canonical_json({"alg": "none", "typ": "at+jwt", "kid": SIGNER.key_id})).decode()
    assert code_of(f"{header}.{body}.") == "TOK-INVALID"
    assert code_of(f"{header}.{body}") == "TOK-INVALID"


@pytest.mark.row("C06", kind="R")
@pytest.mark.parametrize(
    "secret",
    [SIGNER.public_pem(), SIGNER.public_pem().strip(), SIGNER.key_id.encode()],
    ids=["pem", "stripped", "kid"],
)
def test_the_public_key_is_not_a_shared_secret(secret: bytes) -> None:
    header = encode(canonical_json({"alg": "HS256", "typ": "at+jwt", "kid": SIGNER.key_id}))
    signed = header + b"." + forge().split(".")[1].encode()
    token = signed + b"." + encode(hmac.digest(secret, signed, hashlib.sha256))
    assert code_of(token.decode()) == "TOK-INVALID"


@pytest.mark.row("C06", kind="R")
@pytest.mark.parametrize(
    "header",
    [
        {"kid": "../../../../dev/null"},
        {"kid": "/etc/passwd"},
        {"kid": "https://evil.example/jwks.json"},
        {"kid": "' OR 1=1 --"},
        {"kid": ""},
        {"kid": None},
        {"kid": ["a"]},
        {"kid": {"a": 1}},
        {"kid": ...},
        {"typ": "JWT"},
        {"typ": ...},
        {"jku": "https://evil.example/jwks.json"},
        {"x5u": "https://evil.example/cert.pem"},
        {"x5c": ["MIIB"]},
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"cty": "JWT"},
    ],
    ids=lambda header: json.dumps(header, default=str),
)
def test_a_header_never_chooses_the_key_or_the_rules(header: dict[str, Any]) -> None:
    assert code_of(forge(header)) == "TOK-INVALID"


def test_a_key_that_the_token_brings_along_is_not_used() -> None:
    attacker = FileSigner("token")
    jwk = ECKey.import_key(attacker.public_pem()).as_dict(private=False)
    assert code_of(forge({"jwk": jwk}, signer=attacker)) == "TOK-INVALID"
    assert code_of(forge({"kid": attacker.key_id}, signer=attacker)) == "TOK-INVALID"
    assert code_of(forge(signer=attacker)) == "TOK-INVALID"


@pytest.mark.row("C06", kind="R")
@pytest.mark.parametrize(
    "claims",
    [
        *({name: ...} for name in ("iss", "aud", "sub", "roles", "models", "iat", "nbf", "exp", "jti")),
        {"iss": "someone-else"},
        {"iss": ["garrison"]},
        {"aud": "someone-else"},
        {"aud": ["garrison", "other"]},
        {"aud": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a\nb"},
        {"sub": "x" * 200},
        {"jti": ""},
        {"jti": 1},
        {"roles": "admin"},
        {"roles": []},
        {"roles": [1]},
        {"roles": ["r"] * 33},
        {"roles": {"admin": True}},
        {"models": None},
        {"models": "smollm2"},
        {"exp": "9999999999"},
        {"exp": SECONDS + 900.5},
        {"exp": True},
        {"exp": None},
        {"exp": 1 << 63},
        {"exp": -1},
        {"iat": False},
        {"nbf": int(SECONDS) + 60},
        {"iat": int(SECONDS) + 60, "nbf": int(SECONDS) + 60},
        {"exp": int(SECONDS) - 1, "iat": int(SECONDS)},
        {"admin": True},
    ],
    ids=lambda claims: json.dumps(claims, default=str)[:60],
)
def test_a_claim_that_is_missing_strange_or_of_another_type_is_refused(claims: dict[str, Any]) -> None:
    assert code_of(forge(claims=claims)) == "TOK-INVALID"


def test_revoked_tokens_and_subjects_are_refused() -> None:
    token = mint(CLAIMS, SIGNER, NOW)
    assert code_of(token, verifier(revoked_tokens=frozenset({"a" * 32}))) == "TOK-REVOKED"
    assert code_of(token, verifier(revoked_subjects=frozenset({"dana"}))) == "TOK-REVOKED"
    verifier(revoked_subjects=frozenset({"someone"})).verify(token, SECONDS)


@pytest.mark.parametrize(
    "token",
    [
        ".",
        "..",
        "...",
        "a.b.c",
        "a" * 100,
        "a" * (MAX_TOKEN + 1),
        "é.é.é",
        " ",
        "\x00",
        "e30.e30.e30",
        "\udc80",
    ],
    ids=ascii,
)
def test_what_is_no_token_is_refused(token: str) -> None:
    assert code_of(token) == "TOK-INVALID"


@pytest.mark.parametrize("part", [0, 1])
def test_deeply_nested_json_is_refused_without_a_crash(part: int) -> None:
    pieces = forge().split(".")
    pieces[part] = encode(b"[" * 5000).decode()
    token = ".".join(pieces)
    assert len(token) < MAX_TOKEN
    assert code_of(token) == "TOK-INVALID"


@given(st.text(max_size=300))
def test_no_text_crashes_the_verifier(text: str) -> None:
    with pytest.raises(Refused) as refusal:
        verifier().verify(text, SECONDS)
    assert refusal.value.code in {"TOK-MISSING", "TOK-INVALID"}


@given(st.data())
def test_any_changed_character_makes_another_token(data: st.DataObject) -> None:
    token = mint(CLAIMS, SIGNER, NOW)
    header, body, signature = token.split(".")
    part = data.draw(st.sampled_from([header, body]))
    at = data.draw(st.integers(0, len(part) - 2))  # the last character may carry padding bits only
    other = data.draw(st.sampled_from("ABCabc019-_").filter(lambda character: character != part[at]))
    changed = part[:at] + other + part[at + 1 :]
    forged = f"{changed}.{body}.{signature}" if part is header else f"{header}.{changed}.{signature}"
    assert code_of(forged) == "TOK-INVALID"


def test_answers_are_remembered_but_never_past_the_expiry() -> None:
    token, checker = mint(CLAIMS, SIGNER, NOW, ttl=30), verifier()
    first = checker.verify(token, SECONDS)
    assert checker.verify(token, SECONDS + 1) is first
    assert code_of(token, checker, SECONDS + 30) == "TOK-EXPIRED"


def test_refused_tokens_are_remembered_in_a_small_place() -> None:
    checker = verifier()
    for count in range(REFUSED_SIZE + 50):
        code_of(f"a.b.{count}", checker)
    assert len(checker._refused) == REFUSED_SIZE
    assert checker._verified == {}


def test_claims_that_no_verifier_would_accept_are_not_signed() -> None:
    for claims in ({"roles": []}, {"models": ["m" * 100] * 64}, {"sub": ""}, {"extra": 1}):
        with pytest.raises(Usage) as refusal:
            mint({**CLAIMS, **claims}, SIGNER, NOW)
        assert refusal.value.code == "TOK-CLAIMS"
