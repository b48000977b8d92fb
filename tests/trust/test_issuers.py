"""Tokens of other issuers: what theirs may say, and every trick with headers, keys and claims that is refused."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import RSAKey
from tests.fakes.issuer import AUDIENCE, FakeIssuer, encode, new_key, sign

from garrison.core.errors import GarrisonError, Undecided, Usage
from garrison.trust.foreign import ForeignTokens, IssuerKeys
from garrison.trust.identity import Principal, TokenVerifier, mint
from garrison.trust.issuers import Issuer, parse_issuer
from garrison.trust.jwks import parse_jwks
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import public_from_pem

URL = "https://login.example.com"
OURS = FileSigner("token")
DOUBLED = b'{"alg":"ES256","alg":"none"}'
BASE = Issuer(
    URL,
    AUDIENCE,
    "corp",
    claims=(("roles", "groups"),),
    grants=(("ml-users", "user"),),
    algorithms=("ES256", "RS256"),
)


def _ago(seconds: int) -> int:
    return int(time.time()) - seconds


@pytest.fixture
def theirs() -> FakeIssuer:
    made = FakeIssuer(URL)
    made.add("first")
    return made


def verifier(theirs: FakeIssuer, issuer: Issuer = BASE, until: float = 1e12, **more: Any) -> TokenVerifier:
    keys = parse_jwks(json.dumps(theirs.jwks()).encode(), issuer.algorithms)
    others = ForeignTokens.of([IssuerKeys(issuer, keys, until)])
    return TokenVerifier([public_from_pem(OURS.public_pem(), "token")], others=others, **more)


def why(token: str, checker: TokenVerifier) -> tuple[str, str]:
    """(the code that the caller sees, the word that the operator sees)."""
    with pytest.raises(GarrisonError) as caught:
        checker.verify(token, time.time())
    assert token[-40:] not in json.dumps(caught.value.as_json())
    return caught.value.code, caught.value.__notes__[0]


def accepted(token: str, checker: TokenVerifier) -> Principal:
    return checker.verify(token, time.time())


@pytest.mark.row("C06", kind="R")
@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "RS256", "PS256", "EdDSA", "Ed25519"])
def test_a_token_of_each_kind_of_key_is_worth_what_the_grant_says(algorithm: str) -> None:
    theirs = FakeIssuer(URL)
    theirs.add("k", algorithm)
    principal = accepted(
        theirs.token(),
        verifier(theirs, replace(BASE, algorithms=("ES256", "ES384", "RS256", "PS256", "EdDSA", "Ed25519"))),
    )
    assert principal.subject.actor == "user:corp|alice"
    assert principal.subject.roles == {"user"}
    assert principal.subject.via == "oidc corp"


@pytest.mark.row("C06", kind="R")
@pytest.mark.parametrize(
    ("claims", "code", "word"),
    [
        ({"aud": "somebody-else"}, "TOK-INVALID", "audience"),
        ({"aud": ["a", "b"]}, "TOK-INVALID", "audience"),
        ({"aud": ...}, "TOK-INVALID", "audience"),
        ({"aud": {"garrison-test": 1}}, "TOK-INVALID", "audience"),
        ({"exp": ...}, "TOK-INVALID", "times"),
        ({"nbf": ...}, "TOK-INVALID", "times"),
        ({"iat": ...}, "TOK-INVALID", "times"),
        ({"exp": "9999999999"}, "TOK-INVALID", "times"),
        ({"exp": True}, "TOK-INVALID", "times"),
        ({"exp": 1e300}, "TOK-INVALID", "times"),
        ({"exp": 2_000}, "TOK-INVALID", "lifetime"),
        ({"exp": int(time.time()) + 90_000}, "TOK-INVALID", "lifetime"),
        ({"iat": _ago(900), "nbf": _ago(900), "exp": _ago(1)}, "TOK-EXPIRED", "expired"),
        ({"sub": ...}, "TOK-INVALID", "subject"),
        ({"sub": ""}, "TOK-INVALID", "subject"),
        ({"sub": "a\nb"}, "TOK-INVALID", "subject"),
        ({"sub": "x" * 200}, "TOK-INVALID", "subject"),
        ({"sub": ["alice"]}, "TOK-INVALID", "subject"),
        ({"groups": ["admin"]}, "TOK-INVALID", "rights"),
        ({"groups": "user"}, "TOK-INVALID", "rights"),
        ({"groups": ...}, "TOK-INVALID", "rights"),
        ({"iss": "https://login.example.com/"}, "TOK-INVALID", "issuer"),
        ({"iss": "https://evil.example"}, "TOK-INVALID", "issuer"),
        ({"iss": "garrison"}, "TOK-INVALID", "issuer"),
        ({"iss": ["https://login.example.com"]}, "TOK-INVALID", "issuer"),
        ({"cnf": {"jkt": "x"}}, "TOK-INVALID", "rights"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else value,  # the same in every process
)  # fmt: skip
def test_a_well_signed_token_that_says_something_else_is_refused(
    theirs: FakeIssuer, claims: dict[str, Any], code: str, word: str
) -> None:
    assert why(theirs.token(**claims), verifier(theirs)) == (code, word)


@pytest.mark.row("C06", kind="R")
def test_a_token_for_later_is_too_early(theirs: FakeIssuer) -> None:
    assert why(theirs.token(nbf=int(time.time()) + 60), verifier(theirs)) == ("TOK-INVALID", "early")


@pytest.mark.row("C06", kind="R")
@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "RS256"},
        {"alg": "ES384"},
        {"alg": ...},
        {"alg": ["ES256"]},
        {"kid": "second"},
        {"kid": "../../../../dev/null"},
        {"kid": "' OR 1=1 --"},
        {"kid": "file://localhost/etc/passwd"},
        {"kid": 1},
        {"jku": "http://127.0.0.1:1/jwks"},
        {"x5u": "http://127.0.0.1:1/cert"},
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"x5c": ["AAAA"]},
        {"crit": ["exp"]},
        {"b64": False},
        {"zip": "DEF"},
        {"enc": "A128GCM"},
        {"cty": "JWT"},
        {"typ": "logout+jwt"},
        {"typ": "dpop+jwt"},
        {"typ": "secevent+jwt"},
    ],
    ids=str,
)
def test_a_header_that_asks_for_anything_else_is_refused(theirs: FakeIssuer, header: dict[str, Any]) -> None:
    checker = verifier(theirs)
    accepted(theirs.token(), checker)
    assert why(theirs.token(header=header), checker)[0] == "TOK-INVALID"


@pytest.mark.row("C06", kind="R")
def test_a_public_key_is_not_a_shared_secret() -> None:
    theirs = FakeIssuer(URL)
    theirs.add("k", "RS256")
    public = theirs.keys["k"][0].as_pem(private=False)
    for secret in (public, public.strip(), b"k", b""):
        for algorithm in ("HS256", "RS256"):
            signed = f"{encode({'alg': algorithm, 'kid': 'k', 'typ': 'JWT'})}.{encode(theirs.claims())}"
            token = f"{signed}.{encode(hmac.digest(secret, signed.encode(), hashlib.sha256))}"
            assert why(token, verifier(theirs))[0] == "TOK-INVALID"


@pytest.mark.row("C06", kind="R")
def test_nested_encrypted_huge_and_torn_tokens_are_refused(theirs: FakeIssuer) -> None:
    checker, good = verifier(theirs), theirs.token()
    head, body, signature = good.split(".")
    for token in (
        f"{encode({'alg': 'RSA-OAEP', 'enc': 'A128GCM', 'cty': 'JWT'})}.a.b.c.d",
        f"{good}.", f".{good}", f"{head}.{body}.", f"{head}..{signature}", f"{head}.{body}", "a.b.c", "..",
        good + "A" * 9_000, f"{encode(b'[' * 5_000)}.{body}.{signature}", f"{head}.{encode([1])}.{signature}",
        f"{encode(DOUBLED)}.{body}.{signature}", good[:-2] + "!!",
        f"{head}=.{body}.{signature}",
    ):  # fmt: skip
        assert why(token, checker)[0] == "TOK-INVALID", token[:60]
    assert accepted(good, checker).subject.name == "corp|alice"


@pytest.mark.row("C06", kind="R")
def test_one_issuer_cannot_speak_for_another_nor_for_us(theirs: FakeIssuer) -> None:
    evil = FakeIssuer("https://evil.example")
    evil.add("first")
    evil.keys[OURS.key_id] = evil.keys["first"]
    issuer = replace(BASE, url=evil.url, name="evil")
    known = [
        IssuerKeys(one, parse_jwks(json.dumps(source.jwks()).encode(), one.algorithms), 1e12)
        for one, source in ((BASE, theirs), (issuer, evil))
    ]
    checker = TokenVerifier([public_from_pem(OURS.public_pem(), "token")], others=ForeignTokens.of(known))
    assert why(evil.token(iss=URL), checker)[0] == "TOK-INVALID"
    assert why(evil.token(OURS.key_id, header={"typ": "at+jwt"}, iss="garrison"), checker)[0] == "TOK-INVALID"
    assert why(evil.token(OURS.key_id), checker)[0] == "TOK-INVALID"
    assert accepted(evil.token(), checker).subject.name == "evil|alice"


@pytest.mark.row("C06", kind="R")
def test_keys_too_old_are_503_and_say_when_to_come_back(theirs: FakeIssuer) -> None:
    checker = verifier(theirs, until=time.time() - 1)
    with pytest.raises(Undecided) as caught:
        checker.verify(theirs.token(), time.time())
    assert (caught.value.code, caught.value.http_status) == ("TOK-ISSUER", 503)
    assert caught.value.retry_after


def test_a_token_without_nbf_counts_from_iat_only_where_that_was_said(theirs: FakeIssuer) -> None:
    token = theirs.token(nbf=...)
    assert why(token, verifier(theirs)) == ("TOK-INVALID", "times")
    accepted(token, verifier(theirs, replace(BASE, needs_nbf=False)))


@pytest.mark.row("C06", kind="R")
def test_a_workload_is_known_by_every_condition_and_by_nothing_like_it(theirs: FakeIssuer) -> None:
    issuer = replace(
        BASE, claims=(), grants=(), roles=("ci",), models=("fraud",),
        conditions=(("repository", "acme/fraud"), ("ref", "refs/heads/main"), ("ref", "refs/heads/release")),
    )  # fmt: skip
    checker = verifier(theirs, issuer)
    right = {"sub": "repo:acme/fraud", "repository": "acme/fraud", "ref": "refs/heads/main"}
    principal = accepted(theirs.token(**right), checker)
    assert (principal.subject.roles, principal.subject.models) == ({"ci"}, {"fraud"})
    accepted(theirs.token(**right | {"ref": "refs/heads/release"}), checker)
    for wrong in ({"repository": "acme/fraud2"}, {"repository": "ACME/fraud"}, {"ref": "refs/heads/main "},
                  {"ref": ...}, {"ref": ["refs/heads/main"]}, {"ref": {"refs/heads/main": 1}}):  # fmt: skip
        assert why(theirs.token(**right | wrong), checker) == ("TOK-INVALID", "condition")


@pytest.mark.row("C06", kind="R")
@pytest.mark.parametrize(
    ("claim", "models"),
    [(["fraud"], {"fraud"}), ("fraud", {"fraud"}), (["fraud", "x"], {"fraud"})]
    + [(wrong, None) for wrong in (["x"], [], ..., [""], 7)],
)
def test_no_models_are_never_all_models(theirs: FakeIssuer, claim: Any, models: set[str] | None) -> None:
    issuer = replace(BASE, claims=(*BASE.claims, ("models", "models")), models=("fraud", "other"))
    token = theirs.token(models=claim)
    if models is None:
        assert why(token, verifier(theirs, issuer)) == ("TOK-INVALID", "rights")
    else:
        assert accepted(token, verifier(theirs, issuer)).subject.models == models


def test_revoked_and_disabled_hold_for_their_tokens_too(theirs: FakeIssuer) -> None:
    assert (
        why(theirs.token(), verifier(theirs, revoked_subjects=frozenset({"corp|alice"})))[0] == "TOK-REVOKED"
    )
    assert why(theirs.token(), verifier(theirs, revoked_tokens=frozenset({"one"})))[0] == "TOK-REVOKED"
    accepted(theirs.token(), verifier(theirs, revoked_subjects=frozenset({"alice"})))


@pytest.mark.row("C06", kind="R")
def test_a_key_set_gives_up_no_key_that_could_be_misread() -> None:
    strong, weak, ec = RSAKey.generate_key(2048), _weak_rsa(), new_key("ES256")
    public = ec.as_dict(private=False)
    items = [
        {**strong.as_dict(private=False), "kid": "rsa"},
        {**weak, "kid": "weak"},
        {**ec.as_dict(private=True), "kid": "private"},
        {"kty": "oct", "k": "AAAA", "kid": "oct"},
        {**public, "kid": "enc", "use": "enc"},
        {**public, "kid": "ops", "key_ops": ["sign"]},
        {**public, "kid": "hs", "alg": "HS256"},
        {**public, "kid": "rs", "alg": "RS256"},
        {**public, "kid": "twice"},
        {**public, "kid": "twice"},
        {**public, "kid": "curve", "x": "AAAA"},
        {**public, "kid": 7},
        {**public, "kid": "ps", "alg": "ES384"},
        "key",
        {**public, "kid": "good", "alg": "ES256"},
    ]
    found = parse_jwks(json.dumps({"keys": items}).encode(), BASE.algorithms)
    assert set(found.keys) == {"rsa", "good"}
    assert found.keys["rsa"].algorithms == ("RS256",)
    assert len(found.left_out) == 12


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": [], "keys": []}',
        b"\xff",
        b'{"keys": [' + b"1," * 200 + b"1]}",
    ],
)
def test_what_is_no_key_set_is_refused_whole(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse_jwks(data, BASE.algorithms)


GOOD: dict[str, Any] = {"url": URL, "audience": "a", "name": "corp", "roles": ["user"]}


@pytest.mark.parametrize(
    "change",
    [
        {"url": "http://login.example.com"}, {"url": "http://127.0.0.1:8080"}, {"url": "ftp://x"}, {"url": "https://"},
        {"url": "https://user:pw@login.example.com"}, {"url": "https://login.example.com/?x=1"},
        {"url": "https://login.example.com/../x"}, {"url": "https://login.example.com/#f"}, {"url": "https://x\\y"},
        {"url": "https://h:99999"}, {"url": "http://example.com", "loopback": True}, {"url": 7}, {"audience": ""},
        {"name": "Corp|x"}, {"name": ""}, {"roles": []}, {"roles": ["root"]}, {"roles": ["admin"]}, {"roles": "user"},
        {"grants": [["g", "user"]]}, {"grants": [["g"]]}, {"claims": [["admin", "x"]]}, {"algorithms": ["none"]},
        {"algorithms": ["HS256"]}, {"algorithms": []}, {"longest": 10**6}, {"longest": True}, {"keys_host": "http://x"},
        {"conditions": [["ref", ""]]}, {"ca": "-----BEGIN PRIVATE KEY-----"}, {"loopback": 1}, {"api_base": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_an_issuer_that_says_too_much_or_too_little_is_not_entered(change: dict[str, Any]) -> None:
    assert parse_issuer(parse_issuer(GOOD).as_json()) == parse_issuer(GOOD)
    with pytest.raises(Usage) as caught:
        parse_issuer(GOOD | change)
    assert caught.value.code == "ISS-INVALID"


@given(st.binary(max_size=300), st.integers(0, 2), st.data())
def test_no_bytes_make_the_check_do_anything_but_refuse(noise: bytes, part: int, data: st.DataObject) -> None:
    theirs = FakeIssuer(URL)
    theirs.keys["first"] = _ONE_KEY
    parts = theirs.token().split(".")
    parts[part] = data.draw(st.sampled_from([encode(noise), noise.decode("latin-1")]))
    token = ".".join(parts)
    if part == 2 and token == theirs.token():
        return
    with pytest.raises(GarrisonError):
        verifier(theirs).verify(token, time.time())


def _weak_rsa() -> dict[str, str]:
    numbers = rsa.generate_private_key(65_537, 1_024).public_key().public_numbers()
    return {"kty": "RSA", "n": encode(numbers.n.to_bytes(128, "big")), "e": "AQAB"}


_ONE_KEY = (new_key("ES256"), "ES256")


def test_our_own_tokens_go_on_as_before(theirs: FakeIssuer) -> None:
    token = mint({"sub": "dana", "roles": ["user"], "models": []}, OURS, datetime.now(UTC))
    assert accepted(token, verifier(theirs)).subject.name == "dana"
    assert sign({"alg": "ES256"}, {}, _ONE_KEY[0], "ES256").count(".") == 2
