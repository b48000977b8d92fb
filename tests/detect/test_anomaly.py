"""Unusual use: what the detectors find in labelled weeks, what they leave alone, and what they remember."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sigma.collection import SigmaCollection
from sigma.validation import SigmaValidator
from sigma.validators.core import validators

import garrison.detect
from garrison.app.canary_watch import CODE as CANARY
from garrison.app.cli.detect_trial import summary
from garrison.core.errors import Usage
from garrison.detect.anomaly.alert import KINDS
from garrison.detect.anomaly.limits import Limits
from garrison.detect.anomaly.replay import read_lines
from garrison.detect.anomaly.seen import read
from garrison.detect.anomaly.sketch import BYTES, Sketcher
from garrison.detect.anomaly.state import dump, load
from garrison.detect.anomaly.watch import Watch
from garrison.detect.simulation.organisation import SHAPES
from garrison.detect.simulation.score import score
from garrison.detect.simulation.week import simulate
from garrison.gateway.use import last_asked, network_of, parse_uses

HELD_OUT = 901
# A third organisation, on which no threshold was chosen.
SMALL = replace(
    SHAPES["first"],
    name="small",
    tenants=("north", "south"),
    people=12,
    services=("assistant", "batch"),
    begins=8.0,
    sessions=3.0,
    spread=0.6,
)
SIGMA = Path(garrison.detect.__file__).parent / "sigma"
# Validators that fetch the catalogues of their tags from the network.
ONLINE = {"attacktag", "d3_fendtag"}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(["time", "action", "actor", "resource", "outcome", "code", "data"])


@pytest.mark.row("C21", kind="R")
@pytest.mark.row("C22", kind="R")
def test_of_a_week_with_twelve_kinds_of_attack_most_are_found_with_few_false_alerts() -> None:
    """The state is put away and taken up again in the middle: that changes nothing."""
    made = simulate(SMALL, HELD_OUT)
    requests = [seen for event in made.events() if (seen := read(event))]
    half = len(requests) // 2
    watch = Watch(Limits())
    alerts = watch.feed_all(requests[:half])
    again = load(iter(json.loads(json.dumps(list(dump(watch))))), Limits())
    assert again.profiles.keys() == watch.profiles.keys()
    alerts += again.feed_all(requests[half:])
    judged = summary([score(made.attacks, alerts, made.days)])
    assert judged["attacks"] == 12
    assert judged["found"] >= 10, judged
    assert judged["false_a_day"] <= 1, judged
    assert all(alert.code in KINDS for alert in alerts)
    assert len({alert.id for alert in alerts}) == len(alerts)


def request(actor: str = "user:dana", time: float = 1e9, **use: Any) -> dict[str, Any]:
    data = {"operation": "chat", "prompt_tokens": 20, "completion_tokens": 5, "use": {"tenant": "t", **use}}
    moment = f"2026-03-02T{int(time) // 3600 % 24:02}:{int(time) // 60 % 60:02}:{time % 60:09.6f}Z"
    return {
        "time": moment,
        "action": "model.invoke",
        "actor": actor,
        "resource": "m@1",
        "outcome": "allowed",
        "code": "",
        "data": data,
    }


def script(count: int, pause: float = 1.0, **use: Any) -> Iterator[dict[str, Any]]:
    sketcher = Sketcher(b"k" * 16)
    for number in range(count):
        text = f"{number * 7919} is the number of this question, and {number * 104729} another"
        yield request(time=number * pause, sketch=sketcher.sketch(text), **use)


@pytest.mark.row("C22", kind="R")
def test_log_probabilities_are_missed_in_their_first_dozen_and_noticed_in_their_first_two_hundred() -> None:
    watch = Watch(Limits())
    codes = [alert.code for event in script(200, 10.0, logprobs=5) for alert in watch.feed(read(event))]
    assert "ANO-LOGPROB" in codes
    few = Watch(Limits())
    assert [alert for event in script(12, 10.0, logprobs=5) for alert in few.feed(read(event))] == []


@pytest.mark.row("C21", kind="R")
def test_a_slow_ramp_through_the_nights_is_noticed_and_one_in_working_hours_is_growth() -> None:
    """Both ask half as much again every day, among colleagues who do not."""
    one = read(request())
    assert one is not None
    monday = 1_772_409_600.0 - 1_772_409_600.0 % 86_400
    asked = []
    for day in range(7):
        midnight = monday + day * 86_400
        for person, hours, count in (
            *((f"user:p{number}", 6.0, 50) for number in range(8)),
            ("user:awake", 20.0, round(50 * 1.5**day)),
            ("user:busy", 8.0, round(50 * 1.5**day)),
        ):
            begins = midnight + (2 if hours > 12 else 8) * 3_600
            for number in range(count):
                # Pauses that differ: no program's rhythm.
                place = (number + 0.4 * (number * 7919 % 11) / 11) / count
                asked.append(one._replace(actor=person, time=begins + place * hours * 3_600))
    alerts = Watch(Limits()).feed_all(sorted(asked, key=lambda seen: seen.time))
    assert {alert.subject for alert in alerts if alert.code == "ANO-RAMP"} == {"user:awake"}


def test_another_threshold_changes_what_would_have_fired() -> None:
    lines = "\n".join(json.dumps(event) for event in script(200, 10.0, logprobs=5)).encode()
    usual = Watch(Limits()).feed_all(read_lines(io.BytesIO(lines)))
    deaf = Watch(Limits().with_scores(dict.fromkeys(KINDS, 40.0))).feed_all(read_lines(io.BytesIO(lines)))
    assert usual
    assert deaf == []
    for wrong in ({"ANO-NONE": 1.0}, {"ANO-PROBE": 0.0}, {"ANO-PROBE": float("nan")}):
        with pytest.raises(Usage, match="ANO-POLICY"):
            Limits().with_scores(wrong)


@pytest.mark.parametrize("line", [b"{", b"[1]", b'{"a":1}', b"x" * (1 << 20) + b"xx", b"[" * 100_000])
def test_a_file_that_is_no_log_is_refused(line: bytes) -> None:
    with pytest.raises(Usage, match="ANO-FILE"):
        list(read_lines(io.BytesIO(line)))


@given(
    st.dictionaries(FIELDS, JSON, max_size=7), st.dictionaries(st.text(max_size=9), JSON, max_size=4), JSON
)
def test_no_event_breaks_the_reader_or_the_detectors(fields: dict, data: dict, use: Any) -> None:
    event = {**request(), **fields, "action": "model.invoke"}
    for hostile in (event, {**request(), "data": {**data, "use": use}}):
        seen = read(hostile)
        if seen is not None:
            Watch(Limits()).feed(seen)


def test_ten_times_as_many_identities_as_are_kept_take_no_more_memory_than_those() -> None:
    watch = Watch(Limits(), most=50)
    for number in range(500):
        watch.feed(read(request(actor=f"user:u{number}", time=float(number))))
    assert list(watch.profiles) == [f"user:u{number}" for number in range(450, 500)]


@pytest.mark.parametrize("damage", ["version", "identities", "groups", "models", "last"])
def test_a_damaged_state_is_not_taken_up(damage: str) -> None:
    watch = Watch(Limits())
    watch.feed_all(seen for event in script(30) if (seen := read(event)))
    head, *profiles = dump(watch)
    head[damage] = {"user:x": [1, 2]} if isinstance(head[damage], dict) else "x"
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        load(iter([head, *profiles]), Limits())
    for broken in ([], [None], [*dump(watch), ["user:x", [1]]], [*dump(watch), "x"], list(dump(watch))[:-1]):
        with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
            load(iter(broken), Limits())


# --- sketches: what a gateway tells of a prompt ---


def alike(one: str, other: str) -> int:
    return sum(a == b for a, b in zip(bytes.fromhex(one)[:BYTES], bytes.fromhex(other), strict=False))


@given(st.text(), st.binary(min_size=16, max_size=16))
def test_a_sketch_has_a_fixed_size_and_needs_its_key(text: str, key: bytes) -> None:
    sketch = Sketcher(key).sketch(text)
    assert len(sketch) in (0, 20)
    assert sketch == Sketcher(key).sketch(text)
    if sketch:
        assert sketch != Sketcher(bytes(16) if key != bytes(16) else b"1" * 16).sketch(text)


def test_near_duplicates_share_a_sketch_and_other_texts_do_not() -> None:
    sketcher = Sketcher(b"k" * 16)
    text = "Patient of 54 years, two visits in March, lives in Bern; is the answer yes or no? Answer with one word."
    near = sketcher.sketch(text.replace("54", "55"))
    far = sketcher.sketch(
        "Write a short poem about the sea, in the manner of somebody who has never been there."
    )
    assert alike(sketcher.sketch(text), near) >= 5
    assert sketcher.sketch(text) != near
    assert alike(sketcher.sketch(text), far) <= 2


def test_an_address_is_told_by_its_network_and_the_narrowest_name_wins() -> None:
    facts = {
        "key": "00" * 16,
        "networks": [{"network": "10.0.0.0/8", "name": "inside"}, {"network": "10.2.0.0/16", "name": "lab"}],
    }
    networks = parse_uses(facts)._networks
    names = [
        network_of(peer, networks) for peer in ("10.2.3.4", "10.9.9.9", "192.0.2.77", "::ffff:10.2.0.1", "")
    ]
    assert names == ["lab", "inside", "192.0.2.0/24", "lab", "local"]
    assert network_of("2001:db8:1:2::3", networks) == "2001:db8:1::/48"


def test_what_was_asked_last_is_the_newest_text_that_is_not_the_systems() -> None:
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]
    assert last_asked({"messages": messages}) == "hello"
    assert last_asked({"messages": messages[::-1]}) == "hello"
    assert last_asked({"input": ["a", "b"]}) == "b"
    assert last_asked({"prompt": "p"}) == "p"
    assert last_asked({"messages": [{"role": "user", "content": [1]}]}) == ""
    assert last_asked({}) == ""


# --- Sigma ---


@pytest.mark.row("C21", kind="C")
def test_the_sigma_rules_are_valid_and_name_alerts_that_there_are() -> None:
    rules = SigmaCollection.load_ruleset([SIGMA])
    assert not rules.errors
    chosen = [validator for name, validator in validators.items() if name not in ONLINE]
    checking = SigmaValidator(chosen)
    assert [issue for rule in rules.rules for issue in checking.validate_rule(rule)] == []
    assert checking.finalize() == []
    named = set()
    for path in sorted(SIGMA.glob("*.yml")):
        selection = yaml.safe_load(path.read_text())["detection"]["selection"]
        if selection.get("action") == "alert.raise":
            named |= set(selection["code"])
    assert named == {*KINDS, CANARY}
