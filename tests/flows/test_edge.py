"""Bundles for sites without a network: built at home, judged and served there, their events brought home."""

from __future__ import annotations

import asyncio
import json
import os
import random
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.app.household import opened
from tests.fakes.onnx_graph import external_data
from tests.flows.server import Server, environment, run

from garrison.app.edge_device import EdgeRun
from garrison.core.errors import GarrisonError
from garrison.runtime.edge import bundle, device, enrolment, verifier
from garrison.runtime.edge.device import Accepted
from garrison.runtime.edge.memory import Memory
from garrison.trust.keys.public import PublicKey, load_public

ROOT = Path(__file__).resolve().parents[2]
EPOCH = datetime.fromtimestamp(0, UTC)
MUTANTS = 150
SECONDS = 240


@dataclass(frozen=True)
class Edge:
    """Home with a running server, two devices, and what was built for them."""

    home: Server
    place: Path
    unlock: Path
    events: list[Path] = field(default_factory=list)

    @property
    def root(self) -> PublicKey:
        return load_public(self.home.data / "keys" / "public" / "root.pem")

    def data(self, site: str) -> Path:
        return self.place / site

    def card(self, site: str) -> enrolment.SiteCard:
        return enrolment.read_device(self.data(site) / "edge").card

    def build(self, *words: str, site: str = "plant-7", out: str) -> Path:
        self.home.ok("edge", "build", *words, "--site", site, "--out", str(self.place / out))
        return self.place / out

    def judge(
        self, path: Path, memory: Memory | None = None, now: datetime | None = None, **other: Any
    ) -> Accepted:
        """As the device plant-7 does at a moment of one's own."""
        given: dict[str, Any] = {"site_key": self.card("plant-7").key_id, "latest": EPOCH, **other}
        with bundle.opened(path) as stream:
            return device.judge(
                stream,
                root=self.root,
                memory=memory or Memory("plant-7"),
                now=now or datetime.now(UTC),
                **given,
            )


@pytest.fixture(scope="session")
def edge(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """adder@1 approved at home and bundled twice for plant-7; the devices plant-7 and mine-3 are entered."""
    place = tmp_path_factory.mktemp("edge")
    subprocess.run(["cp", "-a", f"{template}/.", str(place / "home")], check=True)
    home = Server(place / "home").start()
    made = Edge(home, place, place / "unlock")
    try:
        home.publish(external_data(place / "adder"), "adder@1")
        home.ok("--as", "dana", "approve", "adder@1")
        home.ok("key", "trust", "--out", str(place / "trust.json"))
        for site in ("plant-7", "mine-3"):
            words = ["edge", "enrol", "--site", site, "--trust", str(place / "trust.json")]
            enrolled = run(["--data", str(place / site), "--json", *words, "--unlock", str(made.unlock)])
            assert enrolled.status == 0, enrolled.err
            (place / f"{site}.site").write_text(enrolled.out)
            home.ok("edge", "site", "add", str(place / f"{site}.site"))
        made.build("adder@1", out="first.gar")
        made.build("adder@1", out="second.gar")
        yield made
        assert home.stop() == 0
    finally:
        home.kill()


def _refusal(act: Callable[[], object]) -> str:
    with pytest.raises(GarrisonError) as caught:
        act()
    return caught.value.code


def _stand_alone(path: Path, root: Path, **given: Any) -> str:
    """The code of the stand-alone verifier, empty for yes."""
    with path.open("rb") as stream:
        try:
            verifier.judge(stream, root.read_text(), given.pop("now", datetime.now(UTC)), **given)
        except verifier.No as no:
            return no.code
    return ""


def _ours(edge: Edge, path: Path, **given: Any) -> str:
    try:
        edge.judge(path, **given)
    except GarrisonError as error:
        return error.code
    return ""


@pytest.mark.row("B13", kind="R")
def test_no_mutation_of_a_bundle_is_accepted_and_the_stand_alone_verifier_says_the_same(edge: Edge) -> None:
    chance, path = random.Random(13), edge.place / "mutant.gar"
    data = (edge.place / "second.gar").read_bytes()
    root = edge.home.data / "keys" / "public" / "root.pem"
    assert _ours(edge, edge.place / "second.gar") == _stand_alone(edge.place / "second.gar", root) == ""
    used = bundle.START + int.from_bytes(data[16:20], "big")
    places = [chance.randrange(used) for _ in range(MUTANTS // 3)]
    places += [chance.randrange(bundle.HEAD_BYTES, len(data)) for _ in range(MUTANTS // 3)]
    places += [*range(20), used, bundle.HEAD_BYTES - 1, bundle.HEAD_BYTES, len(data) - 1]
    seen = set()
    for at in places:
        mutant = bytearray(data)
        mutant[at] ^= 1 << chance.randrange(8)
        path.write_bytes(mutant)
        code = _ours(edge, path)
        assert code, f"a flipped bit at {at} was accepted"
        assert code == _stand_alone(path, root), at
        seen.add(code)
    assert "EDGE-TAMPER" in seen
    for length in (0, 10, bundle.HEAD_BYTES - 1, bundle.HEAD_BYTES, bundle.HEAD_BYTES + 700, len(data) - 1):
        path.write_bytes(data[:length])
        assert _ours(edge, path) == _stand_alone(path, root) == ("EDGE-TRUNCATED" if length else "EDGE-FORM")
    for more in (b"\0", b"x" * 5000, data):
        path.write_bytes(data + more)
        assert _ours(edge, path) == _stand_alone(path, root) == "EDGE-EXTENDED"


@pytest.mark.row("B13", kind="R")
def test_the_printed_verifier_judges_a_bundle_with_python_alone(edge: Edge, tmp_path: Path) -> None:
    program = tmp_path / "verify.py"
    program.write_text(edge.home.ok("edge", "verifier")["program"])
    root = edge.home.data / "keys" / "public" / "root.pem"
    words = [sys.executable, "-I", "-S", str(program), str(edge.place / "second.gar"), "--root", str(root)]
    said = subprocess.run(words, capture_output=True, text=True, env={}, timeout=60, check=False)
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["model"]["ref"] == "adder@1"
    wrong = subprocess.run([*words, "--site", "mine-3"], capture_output=True, text=True, env={}, timeout=60)
    assert (wrong.returncode, json.loads(wrong.stdout)["code"]) == (1, "EDGE-SITE")


@pytest.mark.row("B14", kind="R")
@pytest.mark.row("B13", kind="R")
def test_a_bundle_is_used_while_it_is_fresh_by_a_clock_that_only_goes_on(edge: Edge) -> None:
    path, now = edge.place / "second.gar", datetime.now(UTC)
    root = edge.home.data / "keys" / "public" / "root.pem"
    for later in (timedelta(days=31), timedelta(days=91), timedelta(days=4000)):
        assert _ours(edge, path, now=now + later) == "EDGE-STALE"
        assert _stand_alone(path, root, now=now + later) == "EDGE-STALE"
    assert edge.judge(path, now=now + timedelta(days=29)).head.sequence == 2
    assert _ours(edge, path, now=now - timedelta(days=1)) == "EDGE-CLOCK"
    assert _stand_alone(path, root, now=now - timedelta(days=1)) == "EDGE-CLOCK"
    set_back = {"now": now + timedelta(days=2), "latest": now + timedelta(days=3)}
    assert _ours(edge, path, **set_back) == "EDGE-CLOCK"
    for lifetime in ("91d", "5s", "0d"):
        words = ["edge", "build", "adder@1", "--site", "plant-7", "--expires", lifetime]
        answer = edge.home.cli(*words, "--out", str(edge.place / "never.gar"))
        assert (answer.status, answer.code) == (2, "EDGE-EXPIRES")


@pytest.mark.row("B13", kind="R")
@pytest.mark.row("B14", kind="R")
def test_a_bundle_that_gets_stale_while_it_serves_ends_and_no_clock_set_back_revives_it(edge: Edge) -> None:
    path, said = edge.build("adder@1", "--expires", "2d", site="mine-3", out="mine.gar"), list[str]()
    stop = asyncio.Event()
    with opened(edge.data("mine-3")) as household:
        house, served = household.house, EdgeRun(path, edge.unlock)
        served.begin(house)
        watching = asyncio.run_coroutine_threadsafe(served.watch(house, stop, said.append), house.loop)
        try:
            household.clock.move(days=1, hours=23)
            assert "adder" in house.routed
            household.clock.move(hours=1)
            _until(lambda: bool(said) and not house.supervisor.states()[0].pid)
            assert "adder" not in house.routed
            assert "EDGE-STALE" in said[0]
            assert "garrison edge build" in said[0]
            told = household.events("edge.run")
            assert [(row["outcome"], row["code"]) for row in told] == [
                ("allowed", ""),
                ("denied", "EDGE-STALE"),
            ]
            household.clock.move(days=-1)
            assert _refusal(lambda: EdgeRun(path, edge.unlock).begin(house)) == "EDGE-CLOCK"
            household.clock.move(days=1)
            assert _refusal(lambda: EdgeRun(path, edge.unlock).begin(house)) == "EDGE-STALE"
            assert house.supervisor.states()[0].state == "stopped"
        finally:
            house.loop.call_soon_threadsafe(stop.set)
            watching.result(SECONDS)


def _until(is_so: Callable[[], bool]) -> None:
    ends = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < ends, "it did not come to that"
        time.sleep(0.05)


@pytest.mark.row("S26", kind="R")
@pytest.mark.row("B13", kind="R")
def test_an_older_bundle_another_sites_and_another_under_the_same_number_are_refused(edge: Edge) -> None:
    first, second = edge.place / "first.gar", edge.place / "second.gar"
    taken = edge.judge(second).memory
    assert edge.judge(second, memory=taken).head.sequence == 2  # the same file again is no step back
    assert _ours(edge, first, memory=taken) == "EDGE-ROLLBACK"
    assert _ours(edge, second, memory=replace(taken, head="0" * 64)) == "EDGE-ROLLBACK"
    assert _ours(edge, second, memory=replace(taken, sequence=0, floors={"adder": 99})) == "EDGE-ROLLBACK"
    assert _ours(edge, second, site_key="f" * 64) == "EDGE-SITE"
    foreign = edge.place / "foreign.gar"
    if not foreign.exists():
        edge.build("adder@1", site="mine-3", out="foreign.gar")
    assert _ours(edge, foreign) == "EDGE-SITE"
    stranger = device.BundleFiles(
        foreign,
        edge.judge(foreign, memory=Memory("mine-3"), site_key=edge.card("mine-3").key_id),
        enrolment.read_device(edge.data("plant-7") / "edge").open(edge.unlock),
    )
    assert _refusal(stranger.read) == "EDGE-SITE"  # whatever the head says, the key does not open


@pytest.mark.row("E17", kind="R")
@pytest.mark.row("B13", kind="R")
def test_a_notice_withdraws_a_version_from_a_device_and_an_approval_anew_gives_it_back(edge: Edge) -> None:
    home, second = edge.home, edge.place / "second.gar"
    home.ok("--as", "dana", "unapprove", "adder@1", "--reason", "a wrong weight")
    try:
        refused = home.cli(
            "edge", "build", "adder@1", "--site", "mine-3", "--out", str(edge.place / "no.gar")
        )
        assert (refused.status, refused.code) == (1, "ART-NOT-APPROVED")
        notice = edge.judge(edge.build("--notice", out="notice.gar"))
    finally:
        home.ok("--as", "dana", "approve", "adder@1")
    withdrawn = replace(notice.memory, sequence=1, head="")
    assert notice.head.ref is None
    assert _ours(edge, second, memory=replace(withdrawn, revoked=notice.memory.revoked)) == ""
    # The list of the newest bundle counts: one that was built after the notice holds it, and is refused.
    assert notice.memory.revoked == {edge.judge(second).head.digest}
    assert _refusal(lambda: device.refuse_revoked(edge.judge(second).head, notice.memory)) == "EDGE-REVOKED"
    assert _ours(edge, second, memory=notice.memory) == "EDGE-ROLLBACK"
    again = edge.judge(edge.build("adder@1", out="third.gar"), memory=notice.memory)
    assert again.memory.revoked == frozenset()
    shutil.copy(edge.place / "third.gar", edge.place / "newest.gar")


@pytest.mark.row("S26", kind="R")
@pytest.mark.row("B13", kind="R")
def test_a_stolen_disk_holds_no_weights_and_no_key_that_opens_them(edge: Edge, tmp_path: Path) -> None:
    weights = (edge.place / "adder" / "weights.data").read_bytes()
    graph = (edge.place / "adder" / "model.onnx").read_bytes()
    known = enrolment.read_device(edge.data("plant-7") / "edge")
    secret = edge.unlock.read_bytes().strip()
    raw = known.open(edge.unlock).private_bytes_raw()
    disk = [edge.place / "second.gar", *edge.data("plant-7").rglob("*")]
    for path in disk:
        held = path.read_bytes() if path.is_file() else b""
        assert not any(each in held for each in (weights, graph, secret, raw)), path
    wrong = tmp_path / "guess"
    wrong.write_text("f" * 64)
    assert _refusal(lambda: known.open(wrong)) == "EDGE-UNLOCK"
    assert _refusal(lambda: known.open(tmp_path / "none")) == "EDGE-UNLOCK"


@pytest.mark.row("A13", kind="R")
@pytest.mark.row("B13", kind="R")
def test_a_file_changed_in_the_store_is_found_when_it_is_bundled(edge: Edge) -> None:
    stored = edge.home.data / "models" / "adder" / "1" / "weights.data"
    right = stored.read_bytes()
    stored.chmod(0o644)
    stored.write_bytes(bytes([right[0] ^ 1]) + right[1:])
    try:
        answer = edge.home.cli(
            "edge", "build", "adder@1", "--site", "mine-3", "--out", str(edge.place / "no.gar")
        )
    finally:
        stored.write_bytes(right)
        stored.chmod(0o444)
    assert (answer.status, answer.code) == (1, "ART-TAMPER")
    assert not list(edge.place.glob("*no.gar*"))
    rows = edge.home.ok("audit", "list", "--kind", "verify", "--model", "adder@1")["records"]
    assert "bundle" in {row["data"].get("stage") for row in rows}


def _alone_in_a_network(*words: str) -> Any:
    """What `tests.flows.netless` saw in a network namespace with nothing in it."""
    command = ["unshare", "--net", sys.executable, "-m", "tests.flows.netless", *words]
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("NOT PROVED HERE: a network namespace needs root and unshare")
    kept = environment(PYTHONPATH=str(ROOT))
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=kept, timeout=SECONDS, check=False
    )
    if "unshare failed" in done.stderr:
        pytest.skip(f"NOT PROVED HERE: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.row("B13", kind="R")
@pytest.mark.row("B14", kind="R")
def test_a_bundle_carried_to_a_place_without_a_route_serves_and_its_events_come_home_once(
    edge: Edge, tmp_path: Path
) -> None:
    path = edge.build("adder@1", out="carried.gar")
    edge.home.ok("--as", "dana", "unapprove", "adder@1", "--reason", "a wrong weight")
    notice = edge.build("--notice", out="carried-notice.gar")
    edge.home.ok("--as", "dana", "approve", "adder@1")
    events = tmp_path / "plant-7.events"
    places = (edge.data("plant-7"), path, edge.unlock, notice, events)
    seen = _alone_in_a_network("device", *map(str, places))
    assert seen["outside"] == "Network is unreachable"
    assert seen["answer"] == [11.0, 22.0, 33.0]
    assert seen["verify"]["ref"] == "adder@1"
    assert (seen["notice"]["withdrawn"], seen["withdrawn"]) == (1, True)
    taken = edge.home.ok("edge", "import", str(events))
    assert taken["new"] == taken["events"] == seen["forward"]["events"]
    assert edge.home.ok("edge", "import", str(events))["new"] == 0
    rows = edge.home.ok("audit", "list", "--kind", "edge.event", "--limit", "1000")["records"]
    did = [row["data"]["did"] for row in rows]
    assert {"runtime.load", "edge.run", "model.invoke", "system.stop"} <= set(did)
    assert "EDGE-REVOKED" in {row["code"] for row in rows}
    assert [row["data"]["id"] for row in rows] == [f"a-{number:06d}" for number in range(1, len(rows) + 1)]
    # Home goes on as it was: what a device did is a fact about the device.
    listed = {site["site"]: site["events"] for site in edge.home.ok("edge", "site", "list")["sites"]}
    assert listed == {"plant-7": len(rows), "mine-3": 0}
    assert "adder" not in {row["name"] for row in edge.home.ok("deploy", "status")["deployments"]}
    # The device took number N: nothing older comes back, after a restart as well.
    old = run(
        ["--data", str(edge.data("plant-7")), "--json", "edge", "verify", str(edge.place / "first.gar")]
    )
    assert (old.status, old.code) == (1, "EDGE-ROLLBACK")
    _forged(edge, tmp_path, len(rows))


def _forged(edge: Edge, place: Path, known: int) -> None:
    """The same file with something done to it; a device's memory with something done to it."""
    data = edge.data("plant-7")
    more = place / "more.events"
    told = run(["--data", str(data), "--json", "edge", "forward", "--out", str(more)])
    assert told.status == 0, told.err
    lines = more.read_bytes().splitlines(keepends=True)
    changed = lines[-1].replace(b'"allowed"', b'"denied"')
    late = [lines[0].replace(b'"first":1,', b'"first":900,'), *lines[1:]]
    for text, code in (
        ([*lines[:-1], changed], "EDGE-EVENTS"),
        ([*lines[:-1]], "EDGE-EVENTS"),
        ([*lines, lines[-1]], "EDGE-EVENTS"),
        ([*lines[:-2], lines[-1], lines[-2]], "EDGE-EVENTS"),
        ([lines[0].replace(b"plant-7", b"mine-3"), *lines[1:]], "EDGE-EVENTS"),
        (late, "EDGE-EVENTS"),
        ([b"{}\n"], "EDGE-EVENTS"),
    ):
        (place / "forged.events").write_bytes(b"".join(text))
        answer = edge.home.cli("edge", "import", str(place / "forged.events"))
        assert (answer.status, answer.code) == (1, code), text[-1][:80]
    gap = place / "gap.events"
    last = json.loads(lines[0])["last"]
    assert (
        run(
            ["--data", str(data), "--json", "edge", "forward", "--after", str(last), "--out", str(gap)]
        ).status
        == 0
    )
    assert edge.home.cli("edge", "import", str(gap)).code == "EDGE-GAP"
    assert edge.home.ok("edge", "import", str(more))["new"] == json.loads(told.out)["last"] - known
    memory = data / "edge" / "memory.json"
    right = memory.read_bytes()
    for wrong in (None, right.replace(b'"sequence":', b'"sequence":1')):
        memory.unlink() if wrong is None else memory.write_bytes(wrong)
        answer = run(
            ["--data", str(data), "--json", "edge", "verify", str(edge.place / "carried-notice.gar")]
        )
        assert (answer.status, answer.code) == (1, "EDGE-MEMORY")
    memory.with_name("memory.next").write_bytes(right)  # as a kill leaves it: the token knows of the next one
    memory.unlink()
    answer = run(["--data", str(data), "--json", "edge", "verify", str(edge.place / "carried-notice.gar")])
    assert answer.status == 0, answer.out
    assert memory.read_bytes() == right


@pytest.mark.row("B14", kind="R")
def test_the_whole_way_of_a_model_works_where_there_is_no_network(template: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-a", f"{template}/.", str(tmp_path / "data")], check=True)
    seen = _alone_in_a_network("house", str(tmp_path / "data"), str(external_data(tmp_path / "adder")))
    assert seen["outside"] == "Network is unreachable"
    assert seen["scan"] == "clean"
    assert seen["answer"] == [11.0, 22.0, 33.0]
    assert seen["verify"]["ref"] == "adder@1"
    assert {seen["doctor"], seen["posture"]} <= {0, 1}


def test_the_verifier_needs_the_standard_library_alone() -> None:
    names = runpy.run_path(verifier.__file__)
    modules = {value.__name__ for value in names.values() if isinstance(value, type(json))}
    assert modules <= set(sys.stdlib_module_names)
    source = Path(verifier.__file__).read_text()
    assert "garrison." not in source.replace("garrison.edge/1", "").replace("vnd.garrison.", "")


def test_a_site_is_entered_once_and_rotated_by_the_same_installation(edge: Edge, tmp_path: Path) -> None:
    card = edge.place / "mine-3.site"
    assert edge.home.cli("edge", "site", "add", str(card)).code == "EDGE-KNOWN"
    again = run(
        [
            "--data",
            str(edge.data("mine-3")),
            "--json",
            "edge",
            "enrol",
            "--site",
            "mine-3",
            "--trust",
            str(edge.place / "trust.json"),
            "--unlock",
            str(edge.unlock),
        ]
    )
    fresh = tmp_path / "mine-3.site"
    fresh.write_text(again.out)
    rotated = edge.home.ok("edge", "site", "rotate", str(fresh))
    assert rotated["key_id"] == edge.card("mine-3").key_id
    other = json.loads((edge.place / "plant-7.site").read_text())["card"] | {"site": "mine-3"}
    (tmp_path / "other.site").write_text(json.dumps(other))
    assert edge.home.cli("edge", "site", "rotate", str(tmp_path / "other.site")).code == "EDGE-KNOWN"
    assert edge.home.cli("edge", "site", "add", str(edge.place / "trust.json")).code == "EDGE-CARD"
    refused = edge.home.cli("--as", "dana", "edge", "site", "remove", "mine-3")
    assert (refused.status, refused.code) == (1, "RBAC-403")
    unknown = edge.home.cli("edge", "build", "adder@1", "--site", "moon", "--out", str(tmp_path / "x.gar"))
    assert (unknown.status, unknown.code) == (1, "EDGE-UNKNOWN")
