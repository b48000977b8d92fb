"""Issuers as an administrator enters them, and the fetching of their keys from a server that means no good."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.app.household import Household, opened
from tests.fakes.issuer import AUDIENCE, FakeIssuer, issuer

from garrison.app import oidc_fetch
from garrison.app.issuer_keys import AGAIN_SECONDS, REFRESH_SECONDS, IssuerRing
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.gateway.snapshot import PAYLOAD_TYPE
from garrison.trust.issuers import Issuer, parse_issuer

DISCOVERY = "/.well-known/openid-configuration"


@pytest.fixture(scope="module")
def opened_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Household]:
    with opened(tmp_path_factory.mktemp("home") / "data") as household:
        yield household


@pytest.fixture
def home(opened_once: Household) -> Iterator[Household]:
    """One house for all, without issuers before and after each test."""
    yield opened_once
    for one in opened_once.ask("issuer.list")["issuers"]:
        opened_once.ask("issuer.remove", url=one["url"])


@pytest.fixture
def provider() -> Iterator[FakeIssuer]:
    with issuer() as made:
        yield made


def facts(provider: FakeIssuer, **more: Any) -> dict[str, Any]:
    return {
        "url": provider.url, "audience": AUDIENCE, "name": "corp", "claims": [["roles", "groups"]],
        "grants": [["ml-users", "user"]], "loopback": True, **more,
    }  # fmt: skip


def asked(provider: FakeIssuer, **more: Any) -> Issuer:
    return parse_issuer(facts(provider, **more))


def refused(provider: FakeIssuer, **more: Any) -> str:
    with pytest.raises(Undecided) as caught:
        oidc_fetch.fetch_keys(asked(provider, **more))
    assert caught.value.code == "ISS-FETCH"
    return caught.value.what


@pytest.mark.row("C06", kind="R")
def test_an_issuer_counts_from_its_entry_to_its_removal(home: Household, provider: FakeIssuer) -> None:
    with pytest.raises(GarrisonError):
        home.house.identify(provider.token())
    added = home.ask("issuer.add", issuer=facts(provider))
    assert added["keys"] == ["first"]
    assert home.house.identify(provider.token()).actor == "user:corp|alice"
    (listed,) = home.ask("issuer.list")["issuers"]
    assert (listed["state"], listed["name"]) == ("ok", "corp")
    home.ask("issuer.remove", url=provider.url)
    with pytest.raises(GarrisonError):
        home.house.identify(provider.token())
    assert [event["outcome"] for event in home.events("issuer.write")][-2:] == ["allowed", "allowed"]


def test_only_an_administrator_enters_one_and_no_two_share_a_name(
    home: Household, provider: FakeIssuer
) -> None:
    home.ask("user.add", name="otto", roles=["operator"])
    with pytest.raises(Refused) as caught:
        home.ask("issuer.add", who="otto", issuer=facts(provider))
    assert caught.value.code == "RBAC-403"
    home.ask("issuer.add", issuer=facts(provider))
    with issuer() as other, pytest.raises(Refused) as taken:
        home.ask("issuer.add", issuer=facts(other))
    assert taken.value.code == "ISS-TAKEN"
    with pytest.raises(Usage):
        home.ask("issuer.remove", url="https://nobody.example")


def test_one_that_cannot_be_fetched_from_is_not_entered(home: Household, provider: FakeIssuer) -> None:
    provider.answers["/jwks"] = (500, {}, b"")
    with pytest.raises(Undecided):
        home.ask("issuer.add", issuer=facts(provider))
    assert home.ask("issuer.list")["issuers"] == []


@pytest.mark.row("C06", kind="R")
def test_a_federated_subject_is_disabled_by_its_name(home: Household, provider: FakeIssuer) -> None:
    home.ask("issuer.add", issuer=facts(provider))
    home.ask("user.disable", name="corp|alice")
    with pytest.raises(Refused) as caught:
        home.house.identify(provider.token())
    assert caught.value.code == "TOK-REVOKED"
    home.house.identify(provider.token(sub="bob"))
    home.ask("user.enable", name="corp|alice")
    home.house.identify(provider.token())


@pytest.mark.row("C06", kind="R")
@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (DISCOVERY, (302, {"Location": "http://127.0.0.1:1/x"}, b"")),
        (DISCOVERY, (404, {}, b"")),
        (DISCOVERY, (200, {}, b"<html>")),
        (DISCOVERY, (200, {}, b"[]")),
        (DISCOVERY, (200, {}, b'{"issuer": "https://login.example.com", "jwks_uri": "x"}')),
        (DISCOVERY, (200, {}, b" " * (oidc_fetch.MAX_DOCUMENT + 1))),
        (DISCOVERY, (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b" + b"\0" * 1_000)),
        (DISCOVERY, (200, {"X": "a" * 70_000}, b"{}")),
        ("/jwks", (301, {"Location": "/other"}, b"")),
        ("/jwks", (200, {}, b'{"keys": []}')),
        ("/jwks", (200, {}, b'{"keys": [{"kty": "oct", "k": "AAAA", "kid": "first"}]}')),
        ("/jwks", (200, {}, b"{" * 100_000)),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_answer_of_another_kind_gives_no_keys(
    provider: FakeIssuer, path: str, answer: tuple[int, dict[str, str], bytes]
) -> None:
    provider.answers[path] = answer
    refused(provider)
    assert "/other" not in provider.asked


@pytest.mark.row("C06", kind="R")
@pytest.mark.parametrize(
    "address",
    ["http://169.254.169.254/latest/meta-data", "http://127.0.0.1:22/", "http://localhost:1/jwks",
     "file://localhost/etc/passwd",
     "https://keys.evil.example/jwks", "http://user:pw@127.0.0.1/jwks", "gopher://127.0.0.1/", "//127.0.0.1/jwks",
     7, None],
)  # fmt: skip
def test_a_key_set_elsewhere_is_not_asked_for(provider: FakeIssuer, address: Any) -> None:
    body = json.dumps({"issuer": provider.url, "jwks_uri": address}).encode()
    provider.answers[DISCOVERY] = (200, {}, body)
    refused(provider)
    assert provider.asked == [DISCOVERY]


@pytest.mark.row("C06", kind="R")
@pytest.mark.parametrize(
    "name",
    [
        "localhost",
        "127.0.0.1",
        "[::1]",
        "169.254.169.254",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "224.0.0.1",
        "[fe80::1]",
    ],
)
def test_a_name_that_leads_to_this_machine_or_its_link_is_not_asked(provider: FakeIssuer, name: str) -> None:
    one = replace(asked(provider), url=f"https://{name}:1", loopback=False)
    with pytest.raises(Undecided) as caught:
        oidc_fetch.fetch_keys(one)
    assert "this machine or of its link" in caught.value.what


def test_a_server_that_trickles_is_hung_up_on(provider: FakeIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc_fetch, "SECONDS", 0.4)
    provider.drip = True
    refused(provider)
    assert provider.asked == [DISCOVERY]


def test_an_https_issuer_has_to_show_a_certificate_of_the_authority_that_was_given() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = Issuer(f"https://127.0.0.1:{listener.getsockname()[1]}", AUDIENCE, "corp", loopback=True)
        listener.close()
        with pytest.raises(Undecided):
            oidc_fetch.fetch_keys(one)


@pytest.mark.row("C06", kind="R")
def test_keys_outlive_the_issuer_for_the_stated_time_and_a_restart(
    home: Household, provider: FakeIssuer
) -> None:
    home.ask("issuer.add", issuer=facts(provider))
    ring, now = home.house.issuers, home.clock().timestamp()
    (one,) = ring.known.values()
    provider.answers[DISCOVERY] = (503, {}, b"")
    assert ring.due(now + 1) == []
    assert ring.due(now + REFRESH_SECONDS + 1) == [one]
    changed, problem = ring.refresh(one, now + REFRESH_SECONDS + 1)
    assert not changed
    assert problem
    assert ring.refresh(one, now + REFRESH_SECONDS + 10) == (False, "")  # told once
    until = ring.keys()[0].until
    assert until == pytest.approx(now + ring.stale, abs=2)
    after = IssuerRing(ring.stale)
    after.follow(home.house.people().access.issuers)
    key = next(key for key in home.house.public_keys if key.label == "snapshot")
    after.remember(home.house.settings.run / "snapshot.json", key, PAYLOAD_TYPE)
    assert after.keys()[0].keys == ring.keys()[0].keys
    assert after.keys()[0].until == pytest.approx(until, abs=2)
    home.clock.move(hours=2)
    token = provider.token(iat=int(now) + 7_200, nbf=int(now) + 7_200, exp=int(now) + 7_500)
    with pytest.raises(Undecided) as caught:
        home.house.identify(token)
    assert caught.value.code == "TOK-ISSUER"
    del provider.answers[DISCOVERY]
    assert ring.refresh(one, home.clock().timestamp()) == (True, "")
    assert home.house.identify(token).name == "corp|alice"
    home.clock.move(hours=-2)


@pytest.mark.row("C06", kind="R")
def test_a_new_key_is_fetched_when_a_token_names_it_and_not_more_often_than_that(
    home: Household, provider: FakeIssuer
) -> None:
    home.ask("issuer.add", issuer=facts(provider))
    ring, now = home.house.issuers, home.clock().timestamp()
    (one,) = ring.known.values()
    provider.add("second", "RS256")
    tokens = ring.tokens()
    assert getattr(tokens.check(provider.token("second"), now), "why", "") == "key"
    ring.wanted |= tokens.unknown
    assert ring.due(now + 1) == []
    assert ring.due(now + AGAIN_SECONDS + 1) == [one]
    assert ring.refresh(one, now + AGAIN_SECONDS + 1) == (True, "")
    assert home.house.identify(provider.token("second")).name == "corp|alice"
    assert ring.due(now + 2 * AGAIN_SECONDS + 2) == []
