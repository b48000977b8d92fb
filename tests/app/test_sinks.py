"""Events leave for other systems: in order, at least once, by TLS that is checked, and never silently not."""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.app.household import Household
from tests.fakes.collector import Collector, attributes
from tests.fakes.receivers import Receiver, Splunk, receiving
from tests.fakes.rsyslog import Rsyslog

from garrison.app.sinks import Sinks
from garrison.core.actions import Action
from garrison.core.errors import GarrisonError
from garrison.core.event import Event, Outcome
from garrison.evidence import store as events
from garrison.evidence.telemetry.family import Family, Point
from garrison.trust.ca import LocalAuthority, open_authority, server_context
from garrison.trust.keys.file import FileSigner

WAIT = 120.0  # an upper bound for what takes a second


@pytest.fixture
def sinks(home: Household) -> Iterator[Sinks]:
    made = Sinks(home.house)
    home.house.follow_sinks = made.follow
    yield made
    made.stop()


@pytest.fixture
def authority(tmp_path: Path) -> LocalAuthority:
    return open_authority(FileSigner("ca"), tmp_path / "ca.pem")


def ca_text(tmp_path: Path) -> str:
    return (tmp_path / "ca.pem").read_text()


@pytest.fixture
def rsyslog(tmp_path: Path, authority: LocalAuthority) -> Iterator[Rsyslog]:
    issued = authority.issue_server(["127.0.0.1"], hours=1)
    (tmp_path / "chain.pem").write_bytes(issued.chain)
    (tmp_path / "key.pem").write_bytes(issued.key)
    made = Rsyslog(tmp_path / "rsyslog", tmp_path / "ca.pem", tmp_path / "chain.pem", tmp_path / "key.pem")
    yield made.start()
    made.kill()


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def fill(home: Household, count: int) -> None:
    now = home.clock()
    home.house.ledger.append_many(
        [
            Event(now, Action.MODEL_INVOKE, "user:dana", "fraud@1", Outcome.ALLOWED, data={"number": number})
            for number in range(count)
        ]
    )


def leaves(home: Household) -> list[str]:
    with home.house.ledger.read() as connection:
        return [leaf.hex() for leaf in events.leaves(connection)]


def state(home: Household, name: str) -> dict[str, Any]:
    return next(one for one in home.ask("sink.list")["sinks"] if one["name"] == name)


def stopped_at(home: Household, name: str) -> tuple[str, str]:
    found = state(home, name)
    return found["sent_to"], found["code"]


def code_of(work: Callable[[], object]) -> str:
    try:
        work()
    except GarrisonError as error:
        return error.code
    return ""


def caught_up(home: Household, name: str) -> Callable[[], bool]:
    return lambda: state(home, name)["waiting"] == 0


def token(tmp_path: Path, text: str = "s3cret-token") -> str:
    path = tmp_path / "token"
    path.write_text(text + "\n")
    path.chmod(0o600)
    return str(path)


# --- syslog ---


@pytest.mark.row("C23", kind="R")
def test_ten_thousand_events_reach_rsyslogd_over_tls_and_none_is_lost_when_it_is_killed(
    home: Household, sinks: Sinks, rsyslog: Rsyslog, tmp_path: Path
) -> None:
    fill(home, 10_000)
    sink = {"name": "siem", "kind": "syslog", "url": rsyslog.url, "ca": ca_text(tmp_path)}
    home.ask("sink.add", sink=sink, from_start=True)
    for wanted in (1, 4_000, 8_000):
        until(lambda wanted=wanted: rsyslog.text().count("\n") >= wanted)
        rsyslog.kill()
        rsyslog.start()
    until(caught_up(home, "siem"))
    assert set(leaves(home)) <= set(rsyslog.uids())
    heads = re.findall(r'<(\d+)>1 (\S+) \S+ garrison - (\S+) \[meta sequenceId="(\d+)"\] ', rsyslog.text())
    assert len(heads) >= 10_000
    assert {head[0] for head in heads} <= {"110", "108", "107"}


@pytest.mark.row("C23", kind="R")
def test_a_receiver_whose_certificate_is_not_good_gets_nothing(
    home: Household, sinks: Sinks, rsyslog: Rsyslog, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    open_authority(FileSigner("ca"), other / "ca.pem")
    for name, url, ca in (
        ("other-authority", rsyslog.url, ca_text(other)),
        ("other-name", rsyslog.url.replace("127.0.0.1", "localhost"), ca_text(tmp_path)),
        ("system-authorities", rsyslog.url, ""),
    ):
        home.ask("sink.add", sink={"name": name, "kind": "syslog", "url": url, "ca": ca})
        with pytest.raises(GarrisonError, match="its certificate is not good") as refused:
            home.ask("sink.test", name=name)
        assert refused.value.code == "SINK-AWAY"
        until(lambda name=name: state(home, name)["state"] == "failing")
    assert rsyslog.messages() == []


@pytest.mark.row("C23", kind="R")
def test_cef_over_syslog_is_one_line_that_nothing_in_an_event_can_break(
    home: Household, sinks: Sinks, rsyslog: Rsyslog, tmp_path: Path
) -> None:
    sink = {"name": "cef", "kind": "syslog", "url": rsyslog.url, "ca": ca_text(tmp_path), "form": "cef"}
    home.ask("sink.add", sink=sink)
    hostile = "x|y=z\\\r\n<110>1 forged\x1b[2J\u202e act=none"
    home.house.record(
        Event(home.clock(), Action.MODEL_INVOKE, f"user:{hostile}", hostile, Outcome.DENIED, f"A|{hostile}")
    )
    until(caught_up(home, "cef"))
    message = rsyslog.messages()[-1]
    assert message.startswith("CEF:0|Garrison|Garrison|")
    head = re.split(r"(?<!\\)\|", message.replace("\\\\", ""), maxsplit=7)
    assert len(head) == 8
    assert head[5] == "model.invoke denied"
    fields = dict(re.findall(r"(\w+)=((?:\\.|[^=\\])*?)(?= \w+=|$)", head[7]))
    assert fields["act"] == "model.invoke"
    assert fields["outcome"] == "denied"
    assert fields["externalId"].startswith("a-")


def test_an_event_too_large_for_a_receiver_arrives_with_less_in_it_rather_than_cut(
    home: Household, sinks: Sinks, rsyslog: Rsyslog, tmp_path: Path
) -> None:
    for form in ("ocsf", "json"):
        sink = {"name": form, "kind": "syslog", "url": rsyslog.url, "ca": ca_text(tmp_path), "form": form}
        home.ask("sink.add", sink={**sink, "largest": 2_048})
    large = Event(
        home.clock(), Action.MODEL_INVOKE, "user:dana", "fraud@1", Outcome.ALLOWED, data={"a": "x" * 9_000}
    )
    home.house.record(large)
    until(caught_up(home, "ocsf"))
    until(caught_up(home, "json"))
    assert leaves(home)[-1] in rsyslog.uids()
    assert all(len(message) <= 2_048 for message in rsyslog.messages())
    assert any('"left_out_bytes"' in message for message in rsyslog.messages())


# --- HTTP ---


@pytest.mark.row("C23", kind="C")
def test_splunk_has_an_event_when_its_indexers_say_so(home: Household, sinks: Sinks, tmp_path: Path) -> None:
    splunk = Splunk("s3cret-token")
    with receiving(splunk.receiver):
        sink = {"name": "splunk", "kind": "hec", "url": splunk.receiver.url, "token_file": token(tmp_path)}
        home.ask("sink.add", sink=sink, from_start=True)
        until(caught_up(home, "splunk"))
        sinks.stop()
    uids = [one["event"]["metadata"]["uid"] for one in splunk.events]
    assert set(leaves(home)) <= set(uids)
    assert {one["sourcetype"] for one in splunk.events} == {"garrison:ocsf"}
    assert len(splunk.receiver.bodies("/services/collector/ack")) >= 2
    assert "s3cret-token" not in json.dumps(home.ask("sink.list"))


@pytest.mark.row("C23", kind="C")
def test_a_wrong_token_is_said_and_mended_without_a_restart(
    home: Household, sinks: Sinks, tmp_path: Path
) -> None:
    splunk = Splunk("the-right-one")
    with receiving(splunk.receiver):
        sink = {"name": "splunk", "kind": "hec", "url": splunk.receiver.url, "token_file": token(tmp_path)}
        home.ask("sink.add", sink=sink)
        until(lambda: state(home, "splunk")["code"] == "SINK-LOGIN")
        assert code_of(lambda: home.ask("sink.test", name="splunk")) == "SINK-LOGIN"
        token(tmp_path, "the-right-one")
        until(caught_up(home, "splunk"))
        until(lambda: state(home, "splunk")["state"] == "ok")


def test_json_lines_go_to_whoever_takes_them_by_https_and_a_redirect_is_not_followed(
    home: Household, sinks: Sinks, authority: LocalAuthority, tmp_path: Path
) -> None:
    receiver = Receiver(lambda path, _body: (307, b"") if path == "/moved" else (204, b""))
    with receiving(receiver, server_context(authority.issue_server(["127.0.0.1"], hours=1))):
        where = {"kind": "http", "ca": ca_text(tmp_path), "token_file": token(tmp_path)}
        home.ask("sink.add", sink={"name": "moved", "url": receiver.url + "/moved", **where})
        home.ask("sink.add", sink={"name": "lake", "url": receiver.url + "/in", **where}, from_start=True)
        until(caught_up(home, "lake"))
        until(lambda: state(home, "moved")["code"] == "SINK-AWAY")
        sinks.stop()
    lines = b"".join(receiver.bodies("/in")).decode().splitlines()
    assert set(leaves(home)) <= {json.loads(line)["metadata"]["uid"] for line in lines}
    assert receiver.bodies("/elsewhere") == []
    assert receiver.asked[0][1]["authorization"] == "Bearer s3cret-token"


# --- what goes wrong ---


def test_an_event_that_is_rejected_stops_delivery_before_it_until_somebody_passes_over_it(
    home: Household, sinks: Sinks, tmp_path: Path
) -> None:
    fill(home, 40)
    bad = leaves(home)[20].encode()
    receiver = Receiver(lambda _path, body: (400, b"") if bad in body else (200, b""))
    with receiving(receiver):
        sink = {"name": "lake", "kind": "http", "url": receiver.url}
        home.ask("sink.add", sink=sink, from_start=True)
        until(lambda: stopped_at(home, "lake") == ("a-000020", "SINK-REJECTED"))
        home.ask("sink.seek", name="lake", id="a-000021", reason="a field that the index cannot hold")
        until(caught_up(home, "lake"))
        sinks.stop()
    taken = [line for body in receiver.bodies("/") if bad not in body for line in body.splitlines()]
    assert set(leaves(home)) - {json.loads(line)["metadata"]["uid"] for line in taken} == {bad.decode()}
    assert [one["resource"] for one in home.events("sink.write")] == ["lake", "lake"]


@pytest.mark.row("C23", kind="R")
def test_a_sink_that_is_away_holds_up_nothing_and_is_told(home: Household, sinks: Sinks) -> None:
    receiver = Receiver()
    with receiving(receiver):
        url = receiver.url
    home.ask("sink.add", sink={"name": "gone", "kind": "http", "url": url})
    fill(home, 5)
    until(lambda: any(one["code"] == "SINK-AWAY" for one in home.events("sink.deliver")))
    found = state(home, "gone")
    assert (found["state"], found["code"], found["waiting"] >= 6) == ("failing", "SINK-AWAY", True)
    assert found["waiting_since"]
    assert found["failing_since"]


def test_a_file_has_whole_lines_whatever_was_torn_or_moved_away(
    home: Household, sinks: Sinks, tmp_path: Path
) -> None:
    path = tmp_path / "out" / "events.json"
    path.parent.mkdir()
    path.write_text('{"torn": ')
    home.ask("sink.add", sink={"name": "agent", "kind": "file", "url": f"file://{path}"}, from_start=True)
    until(caught_up(home, "agent"))
    torn, *whole = path.read_text().splitlines()
    assert torn == '{"torn": '
    assert [json.loads(line)["metadata"]["uid"] for line in whole] == leaves(home)
    path.rename(path.with_suffix(".1"))
    fill(home, 3)
    until(caught_up(home, "agent"))
    assert [json.loads(line)["metadata"]["uid"] for line in path.read_text().splitlines()] == leaves(home)[
        -3:
    ]
    assert path.stat().st_mode & 0o777 == 0o640


def test_what_is_no_sink_or_no_place_for_one_is_refused(home: Household, tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    shown.write_text("token")
    shown.chmod(0o644)
    (tmp_path / "crontab").write_text("* * * * * true")
    (tmp_path / "link").symlink_to(tmp_path / "crontab")
    data = home.house.settings.data
    https = "https://siem.example.com"
    for sink, code in (
        ({"name": "a", "kind": "syslog", "url": "tcp://siem.example.com:514"}, "SINK-PLAIN"),
        ({"name": "a", "kind": "http", "url": "http://siem.example.com"}, "SINK-PLAIN"),
        ({"name": "a", "kind": "http", "url": "https://u:p@siem.example.com"}, "SINK-SYNTAX"),
        ({"name": "a", "kind": "http", "url": f"{https}/?token=x"}, "SINK-SYNTAX"),
        ({"name": "../a", "kind": "http", "url": https}, "SINK-SYNTAX"),
        ({"name": "a", "kind": "telnet", "url": https}, "SINK-SYNTAX"),
        ({"name": "a", "kind": "hec", "url": https, "form": "cef"}, "SINK-SYNTAX"),
        ({"name": "a", "kind": "http", "url": https, "password": "x"}, "SINK-SYNTAX"),
        ({"name": "a", "kind": "http", "url": https, "token_file": str(shown)}, "SINK-KEY"),
        ({"name": "a", "kind": "http", "url": https, "token_file": str(data / "ca.pem")}, "PATH-DATA"),
        ({"name": "a", "kind": "http", "url": https, "ca": "no certificate"}, "SINK-KEY"),
        ({"name": "a", "kind": "file", "url": f"file://{data}/garrison.db"}, "PATH-DATA"),
        ({"name": "a", "kind": "file", "url": f"file://{tmp_path}/crontab"}, "SINK-FILE"),
        ({"name": "a", "kind": "file", "url": f"file://{tmp_path}/link"}, "SINK-FILE"),
        ({"name": "a", "kind": "file", "url": f"file://{tmp_path}/none/x"}, "SINK-FILE"),
    ):
        assert code_of(lambda sink=sink: home.ask("sink.add", sink=sink)) == code, sink
    assert home.ask("sink.list")["sinks"] == []
    assert code_of(lambda: home.ask("sink.test", name="nobody")) == "SINK-UNKNOWN"


def test_only_who_sets_the_house_up_may_send_its_events_elsewhere(home: Household) -> None:
    for role in ("auditor", "operator", "engineer", "user"):
        home.ask("user.add", name=f"the-{role}", roles=[role])
        sink = {"name": "mine", "kind": "http", "url": "https://evil.example.com"}
        assert (
            code_of(lambda role=role, sink=sink: home.ask("sink.add", who=f"the-{role}", sink=sink))
            == "RBAC-403"
        )


def test_a_cursor_that_is_not_of_this_ledger_is_no_excuse_to_begin_anew(
    home: Household, sinks: Sinks
) -> None:
    receiver = Receiver()
    with receiving(receiver):
        home.ask("sink.add", sink={"name": "lake", "kind": "http", "url": receiver.url})
        until(caught_up(home, "lake"))
        home.edit("UPDATE ledger_sinks SET leaf = x'00'")
        until(lambda: state(home, "lake")["code"] == "SINK-CURSOR")
        sinks.stop()


def test_the_receiver_is_asked_for_tls_1_2_at_least(
    home: Household, authority: LocalAuthority, tmp_path: Path
) -> None:
    old = server_context(authority.issue_server(["127.0.0.1"], hours=1))
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    receiver = Receiver()
    with receiving(receiver, old):
        home.ask("sink.add", sink={"name": "a", "kind": "http", "url": receiver.url, "ca": ca_text(tmp_path)})
        assert home.ask("sink.test", name="a")["milliseconds"] > 0


def test_the_threads_of_sinks_hold_one_batch_each(home: Household, sinks: Sinks) -> None:
    receiver = Receiver()
    with receiving(receiver):
        fill(home, 1_200)
        home.ask("sink.add", sink={"name": "lake", "kind": "http", "url": receiver.url}, from_start=True)
        until(caught_up(home, "lake"))
        sinks.stop()
    assert max(body.count(b"\n") for body in receiver.bodies("/")) <= 500


# --- OpenTelemetry ---


@pytest.mark.row("C17", kind="C")
@pytest.mark.row("C23", kind="C")
def test_a_collector_gets_events_as_logs_and_requests_as_spans(
    home: Household, sinks: Sinks, authority: LocalAuthority, tmp_path: Path
) -> None:
    collector = Collector()
    request = {"operation": "chat", "latency_ms": 12.5, "prompt_tokens": 5, "provider": "garrison"}
    stages = {"ingress": 1_000, "prompt_handling": 2_000, "upstream": 9_000, "delivery": 500}
    event = Event(
        home.clock(),
        Action.MODEL_INVOKE,
        "user:dana",
        "fraud@1",
        Outcome.ALLOWED,
        data={**request, "stages_us": stages},
        trace_id="r-1",
    )
    with receiving(collector.receiver, server_context(authority.issue_server(["127.0.0.1"], hours=1))):
        sink = {"name": "otel", "kind": "otlp", "url": collector.receiver.url, "ca": ca_text(tmp_path)}
        home.ask("sink.add", sink={**sink, "signals": ["logs", "traces"]}, from_start=True)
        home.house.record(event)
        until(caught_up(home, "otel"))
        sinks.stop()
    logs = {attributes(one)["garrison.leaf"]: one for one in collector.logs()}
    assert set(leaves(home)) <= set(logs)
    invoked = next(one for one in logs.values() if one.event_name == "model.invoke")
    assert invoked.severity_text == "INFO"
    names = {span.name for span in collector.spans()}
    assert names == {"chat fraud", "garrison.ingress", "garrison.prompt_handling", "garrison.delivery"}
    assert {span.trace_id for span in collector.spans()} == {invoked.trace_id}


def test_a_collector_that_rejects_a_part_has_not_taken_it(home: Household, sinks: Sinks) -> None:
    said = b'{"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "no"}}'
    receiver = Receiver(lambda _path, _body: (200, said))
    with receiving(receiver):
        sink = {"name": "otel", "kind": "otlp", "url": receiver.url, "signals": ["logs"]}
        home.ask("sink.add", sink=sink)
        assert code_of(lambda: home.ask("sink.test", name="otel")) == "SINK-REJECTED"
        sinks.stop()


@pytest.mark.row("C17", kind="C")
def test_a_collector_gets_figures(home: Household, monkeypatch: pytest.MonkeyPatch) -> None:
    collector = Collector()
    one = Family("garrison.ledger.records", "counter", "{event}", "events", (Point((), 7.0),))
    monkeypatch.setattr("garrison.app.sinks.MEASURE_SECONDS", 0.05)
    made = Sinks(home.house, lambda: [one])
    home.house.follow_sinks = made.follow
    with receiving(collector.receiver):
        sink = {"name": "otel", "kind": "otlp", "url": collector.receiver.url, "signals": ["metrics"]}
        home.ask("sink.add", sink=sink)
        until(lambda: "garrison.ledger.records" in collector.metrics())
        made.stop()
    (point,) = collector.metrics()["garrison.ledger.records"].sum.data_points
    assert point.as_double == 7
    assert collector.logs() == []
    assert state(home, "otel")["waiting"] == 0
