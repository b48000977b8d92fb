"""Who may say who calls: a listed proxy with its certificate, within what its entry gives, and nobody else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.fronts import Front, front_of
from tests.gateway.rig import Rig, chat

from garrison.core.digest import canonical_json
from garrison.gateway.proxies import parse_proxy


@pytest.fixture
def front(make_rig: Callable[..., Rig], tmp_path: Path) -> Front:
    return front_of(make_rig, tmp_path / "front")


@pytest.mark.row("C02", kind="R")
@pytest.mark.row("C05", kind="R")
def test_a_listed_proxy_names_the_caller_and_nobody_else_may(front: Front) -> None:
    front.trusts()
    proxy, other = front.client("front"), front.client("app")
    answer = front.ask(shown=proxy, x_garrison_caller="dana@example.com")
    assert answer.status == 200
    event = front.rig.event_of(answer)
    assert event["actor"] == "user:front|dana@example.com"
    assert event["data"]["via"] == "proxy front"
    for shown in (other, None):
        refused = front.ask(shown=shown, x_garrison_caller="dana@example.com")
        assert (refused.status, refused.code) == (401, "TOK-PROXY")
        assert front.rig.event_of(refused)["actor"] == "anonymous:"
    # A good token does not make the header good either: a forgotten strip is noticed.
    assert front.ask(token=front.rig.token(), x_garrison_caller="root").code == "TOK-PROXY"


def test_a_proxy_known_by_one_certificate_is_not_another_one_of_the_same_name(front: Front) -> None:
    first = front.client("front")
    front.trusts(workload="", certificate=first.sha256)
    second = front.client("front", again=True)
    assert front.ask(shown=first, x_garrison_caller="dana").status == 200
    assert front.ask(shown=second, x_garrison_caller="dana").code == "TOK-PROXY"


def test_a_proxy_is_never_a_caller_itself(front: Front) -> None:
    """A request without a name through it is nobody's, even when the proxy's account may ask models."""
    workload = {"name": "front", "roles": ["service"], "models": ["smollm2"]}
    proxy = front.client("front")
    front.rig.published(workloads=[workload])
    assert front.ask(shown=proxy).status == 200  # as long as it is no proxy
    front.rig.published(
        workloads=[workload],
        proxies=[
            {
                "name": "front",
                "workload": "front",
                "certificate": "",
                "roles": [],
                "models": [],
                "clients": False,
            }
        ],
    )
    assert front.ask(shown=proxy).code == "TOK-MISSING"
    assert (
        front.ask(shown=proxy, x_garrison_caller="dana").code == "TOK-PROXY"
    )  # without a role it names nobody


def test_a_caller_gets_what_the_entry_gives_and_never_an_account(front: Front) -> None:
    front.trusts(models=["smollm2"])
    proxy = front.client("front")
    assert front.ask(shown=proxy, x_garrison_caller="root").status == 200
    assert front.ask({**chat(), "model": "other"}, shown=proxy, x_garrison_caller="root").code == "RBAC-MODEL"
    front.trusts(roles=["auditor"])
    assert front.ask(shown=proxy, x_garrison_caller="root").code == "RBAC-403"


@pytest.mark.parametrize(
    "value",
    ["", "two words", "tab\there", "a" * 96, "dana\x00", "d\u00e4na"],
    ids=["nothing", "words", "tab", "long", "nul", "not ascii"],
)
def test_a_name_of_an_odd_form_is_refused(front: Front, value: str) -> None:
    front.trusts()
    request = front.rig.request(chat(), token=None).replace(
        b"host: garrison\r\n", b"host: garrison\r\nx-garrison-caller: " + value.encode() + b"\r\n"
    )
    answer = front.raw(request, front.client("front"))
    assert answer.startswith((b"HTTP/1.1 401", b"HTTP/1.1 400"))


def test_two_names_or_a_name_and_a_token_are_refused(front: Front) -> None:
    front.trusts()
    proxy = front.client("front")
    request = front.rig.request(chat(), token=None, x_garrison_caller="dana")
    twice = request.replace(
        b"x-garrison-caller: dana\r\n", b"x-garrison-caller: dana\r\nX-Garrison-Caller: root\r\n"
    )
    assert b"HTTP-FRAMING" in front.raw(twice, proxy)
    assert front.ask(shown=proxy, token=front.rig.token(), x_garrison_caller="dana").code == "TOK-PROXY"
    assert front.ask(shown=proxy, x_api_key=front.rig.token(), x_garrison_caller="dana").code == "TOK-PROXY"


def test_a_revoked_proxy_and_a_locked_out_caller_are_refused_from_the_next_snapshot_on(front: Front) -> None:
    front.trusts()
    proxy = front.client("front")
    assert front.ask(shown=proxy, x_garrison_caller="dana").status == 200
    listed = [parse_proxy(_entry()).as_json()]
    front.rig.published(proxies=listed, revoked={"tokens": [], "subjects": ["front|dana"]})
    assert front.ask(shown=proxy, x_garrison_caller="dana").code == "TOK-REVOKED"
    assert front.ask(shown=proxy, x_garrison_caller="uma").status == 200
    for tokens, subjects in (([proxy.id], []), ([], ["front"])):
        front.rig.published(proxies=listed, revoked={"tokens": tokens, "subjects": subjects})
        assert front.ask(shown=proxy, x_garrison_caller="uma").code == "TOK-REVOKED"


def test_a_bound_token_holds_through_a_proxy_that_passes_certificates_on(front: Front) -> None:
    proxy, app, thief = front.client("front"), front.client("app"), front.client("thief")
    token = front.rig.token(cnf={"x5t#S256": app.thumbprint})
    front.trusts(clients=True)
    assert front.ask(shown=proxy, token=token, x_forwarded_client_cert=app.passed_on).status == 200
    assert front.ask(shown=proxy, token=token, x_forwarded_client_cert=thief.passed_on).code == "TOK-BOUND"
    assert front.ask(shown=proxy, token=token).code == "TOK-BOUND"
    # From anybody else the header is not read: what was really shown counts.
    assert front.ask(shown=thief, token=token, x_forwarded_client_cert=app.passed_on).code == "TOK-BOUND"
    assert front.ask(shown=app, token=token, x_forwarded_client_cert=thief.passed_on).status == 200
    front.trusts(clients=False)
    assert front.ask(shown=proxy, token=token, x_forwarded_client_cert=app.passed_on).code == "TOK-BOUND"


def test_a_workload_is_known_by_the_certificate_that_its_proxy_passes_on(front: Front) -> None:
    proxy, app = front.client("front"), front.client("app")
    workloads = [{"name": "app", "roles": ["service"], "models": ["smollm2"]}]
    front.rig.published(workloads=workloads, proxies=[_entry(clients=True)])
    answer = front.ask(shown=proxy, x_forwarded_client_cert=app.passed_on)
    assert answer.status == 200
    assert front.rig.event_of(answer)["actor"] == "service:app"
    for odd in (
        f"{app.passed_on},{app.passed_on}",
        f"Hash=ab;By=spiffe://x,{app.passed_on}",
        'Cert="AAAA"',
        "Cert=",
        "Hash=" + app.sha256,
    ):
        assert front.ask(shown=proxy, x_forwarded_client_cert=odd).code == "TOK-PROXY", odd


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Front"},
        {"workload": ""},
        {"certificate": "ab" * 32},
        {"workload": "", "certificate": "AB" * 32},
        {"roles": ["admin"]},
        {"roles": ["nobody"]},
        {"roles": "user"},
        {"clients": 1},
        {"more": True},
    ],
    ids=lambda change: canonical_json(change).decode(),
)
def test_an_entry_that_is_none_makes_no_snapshot(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        parse_proxy({**_entry(), **change})


def _entry(**changes: Any) -> dict[str, Any]:
    return {
        "name": "front",
        "workload": "front",
        "certificate": "",
        "roles": ["user"],
        "models": [],
        "clients": False,
        **changes,
    }
