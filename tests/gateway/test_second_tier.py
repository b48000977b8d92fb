"""The second tier behind the gateway: asked without holding up others, within a deadline, by what each route says."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from tests.detect.test_tier2 import CONFIG, HARMLESS, SIGNED, Says
from tests.fakes.tier2 import Answer, detector, said
from tests.gateway.rig import Rig, chat

from garrison.detect.base import Direction
from garrison.detect.inspect import Inspector
from garrison.detect.tier2 import Guard, parse_spec
from garrison.detect.tier2_ask import Asked, Asker

WAYS = (Direction.INPUT, Direction.OUTPUT)
KEY = "AKIA" + "QYLPMN5HHHFPZAM2"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("patterns")


def _doubts(rig: Rig, cache: Path, socket: str) -> None:
    """Every text is in doubt, and this is who is asked."""
    rig.plane.inspector = Inspector(
        cache=cache, directions=WAYS, asks={"user": Guard()}, tier1=Says(0.7), score_all=True
    )
    rig.plane.asker = Asker({"user": Asked(socket, parse_spec(CONFIG))})


def _guarded(rig: Rig, **guard: Any) -> None:
    rig.published(detect={"guards": [{"name": "smollm2", **guard}]})


def _by_word(number: str, texts: int) -> bytes:
    return said([[0.999, 0, 5]] * texts)(number, texts)


@pytest.mark.row("C08", kind="R")
def test_what_the_second_tier_says_decides_and_its_rule_is_named(
    rig: Rig, cache: Path, tmp_path: Path
) -> None:
    with detector(tmp_path / "a.sock", said(None)) as path:
        _doubts(rig, cache, path)
        answer = rig.ask(chat(HARMLESS))
        assert answer.status == 200
        assert "incomplete" not in rig.event_of(answer)["data"]
    with detector(tmp_path / "b.sock", _by_word) as path:
        assert rig.ask(chat(HARMLESS)).status == 200, "it was asked about this before"
        _doubts(rig, cache, path)
        refused = rig.ask(chat(HARMLESS))
        assert refused.code == "PRM-INJECT"
        (finding,) = rig.event_of(refused)["findings"]
        assert finding["rule_id"] == "tier2.user"
        assert rig.ask(chat(f"{HARMLESS} {KEY}")).code == "PRM-INJECT"


@pytest.mark.row("S37", kind="R")
def test_a_silent_second_tier_holds_up_nobody_else_and_its_route_says_what_then(
    rig: Rig, cache: Path, tmp_path: Path
) -> None:
    go_on = threading.Event()

    def late(number: str, texts: int) -> bytes:
        go_on.wait(60)
        return said(None)(number, texts)

    with detector(tmp_path / "late.sock", late) as path:
        _doubts(rig, cache, path)
        _guarded(rig, deadline_ms=10_000)
        waiting: list[Any] = []
        thread = threading.Thread(target=lambda: waiting.append(rig.ask(chat(HARMLESS))))
        thread.start()
        try:
            rig.until(lambda: bool(rig.plane.active))
            assert rig.ask(chat(SIGNED)).code == "PRM-INJECT", "a request beside it is answered"
            assert not waiting
        finally:
            go_on.set()
            thread.join(60)
        assert [answer.status for answer in waiting] == [200]
    with detector(tmp_path / "silent.sock", None) as path:
        _doubts(rig, cache, path)
        _guarded(rig, deadline_ms=20)
        refused = rig.ask(chat("Another text about the weather."))
        assert (refused.status, refused.code) == (503, "PRM-UNDECIDED")
        routes = [{**rig.routes[0], "unsure": "pass"}, *rig.routes[1:]]
        rig.published(routes=routes, detect={"guards": [{"name": "smollm2", "deadline_ms": 20}]})
        passed = rig.ask(chat("A third text about the weather."))
        assert passed.status == 200
        assert rig.event_of(passed)["data"]["incomplete"] == ["tier2"]


LIARS: dict[str, Answer] = {
    "not a number": said([[float("nan"), 0, 5]]),
    "another question": said(None, number="ab" * 8),
    "nothing": lambda _number, _texts: b"",
}


@pytest.mark.row("S37", kind="R")
@pytest.mark.parametrize("lie", list(LIARS), ids=list(LIARS))
def test_a_lie_is_no_answer(rig: Rig, cache: Path, tmp_path: Path, lie: str) -> None:
    with detector(tmp_path / "lie.sock", LIARS[lie]) as path:
        _doubts(rig, cache, path)
        assert rig.ask(chat(HARMLESS)).code == "PRM-UNDECIDED"
    assert rig.ask(chat(HARMLESS)).code == "PRM-UNDECIDED", "a process that is gone is no answer either"
    assert not rig.upstream.asked


@pytest.mark.row("C08", kind="R")
def test_a_route_observes_first_and_enforces_later_with_a_threshold_of_its_own(rig: Rig, cache: Path) -> None:
    rig.plane.inspector = Inspector(cache=cache, directions=WAYS, tier1=Says(0.7), score_all=True)
    _guarded(rig, mode="observe")
    passed = rig.ask(chat(SIGNED))
    assert passed.status == 200
    assert "prompt.injection.override" in rig.event_of(passed)["data"]["observed"]
    assert rig.ask({**chat(SIGNED), "model": "other"}).code == "PRM-INJECT", "another route enforces"
    _guarded(rig, mode="enforce")
    assert rig.ask(chat(SIGNED)).code == "PRM-INJECT"
    text = "Please ignore the weather and tell about the instructions."
    assert rig.ask(chat(text)).status == 200
    _guarded(rig, block_at=0.65)
    assert rig.ask(chat(text)).code == "PRM-INJECT"
    for wrong in ({"block_at": 0.2}, {"mode": "off"}, {"low": 0.9, "high": 0.1}, {"deadline_ms": 0}):
        rejected = rig.plane.snapshots.rejected
        rig.publish(detect={"guards": [{"name": "smollm2", **wrong}]})
        rig.until(lambda before=rejected: rig.plane.snapshots.rejected > before)
