"""Failed logins: what is a flood, of whom, and what nobody can make of it from outside."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from garrison.detect.logins import Failure, LoginLimits, Logins

LIMITS = LoginLimits(failures=5, seconds=60.0, together=3)


def floods(failures: list[Failure]) -> list[str]:
    logins = Logins(LIMITS)
    return [flood.subject for failure in failures for flood in logins.feed(failure)]


def test_many_of_one_source_are_a_flood_and_said_once() -> None:
    failures = [Failure(float(number), "10.0.0.9", "signature") for number in range(14)]
    assert floods(failures) == ["source:10.0.0.9"]
    assert floods(failures[:4]) == []


def test_slow_failures_are_none() -> None:
    assert floods([Failure(number * 20.0, "10.0.0.9", "signature") for number in range(40)]) == []


def test_one_identity_from_many_sources_and_many_sources_together_are_floods() -> None:
    one = [Failure(float(n), f"10.0.0.{n}", "expired", "dana") for n in range(5)]
    assert floods(one) == ["identity:dana"]
    spread = [Failure(float(n), f"10.0.{n}.1", "signature") for n in range(15)]
    assert floods(spread) == ["everybody"]


def test_it_is_said_again_after_an_hour() -> None:
    first = [Failure(float(n), "10.0.0.9", "signature") for n in range(5)]
    later = [Failure(4_000.0 + n, "10.0.0.9", "signature") for n in range(5)]
    assert floods(first + later) == ["source:10.0.0.9"] * 2


@given(st.lists(st.tuples(st.floats(0, 600), st.sampled_from(["a", "b", "c"])), max_size=80))
def test_a_source_is_named_exactly_when_so_many_fell_into_one_window(found: list[tuple[float, str]]) -> None:
    failures = [Failure(time, source, "signature") for time, source in sorted(found)]
    named = {subject for subject in floods(failures) if subject.startswith("source:")}
    expected = set()
    for source in "abc":
        times = [one.time for one in failures if one.source == source]
        if any(late - early <= LIMITS.seconds for early, late in zip(times, times[4:], strict=False)):
            expected.add(f"source:{source}")
    assert named == expected
