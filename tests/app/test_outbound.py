"""A server says which hosts it connects to by itself: those that were named, each with what for, and no other."""

from __future__ import annotations

from tests.app.household import Household

from garrison.app.outbound import outbound_hosts


def test_a_new_server_connects_to_no_other_host(home: Household) -> None:
    home.ask("route.add", name="near", upstream="http://127.0.0.1:9", tier="internal")
    assert outbound_hosts(home.house) == {}


def test_each_host_that_was_named_is_shown_with_what_for_until_it_is_taken_back(home: Household) -> None:
    home.ask("sink.add", sink={"name": "siem", "kind": "syslog", "url": "tls://logs.example:6514"})
    home.ask("route.add", name="far", upstream="https://models.example/v1", tier="public")
    home.ask("route.add", name="also", upstream="https://models.example/v1", tier="public")
    assert outbound_hosts(home.house) == {
        "logs.example": ["sink siem"],
        "models.example": ["route also", "route far"],
    }
    home.ask("sink.remove", name="siem")
    home.ask("route.remove", name="far")
    assert outbound_hosts(home.house) == {"models.example": ["route also"]}
