"""Keeps every sink supplied: a thread for each, which delivers, waits when it fails, and says so in the ledger.

A sink that does not answer costs nobody else anything: its events stay in the ledger, and its thread holds one
batch. When it began to fail is written down at once; an event says so after a few tries, and when it is over.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from garrison import __version__
from garrison.app.house import House
from garrison.core.actions import Action
from garrison.core.errors import GarrisonError, Refused
from garrison.core.event import Outcome
from garrison.evidence.sinks import deliver
from garrison.evidence.sinks.base import Wire
from garrison.evidence.sinks.otlp import Otlp
from garrison.evidence.sinks.sink import Sink, parse_sink
from garrison.evidence.sinks.wires import resource_of, wire_of
from garrison.evidence.telemetry.family import Family

POLL_SECONDS = 0.5  # between two looks at the ledger's end
BACK_OFF = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0)  # seconds; the last one repeats
MEASURE_SECONDS = 15.0  # between two sets of figures for a collector
SEARCH_SECONDS = 0.1  # between tries that look for the one event
TOLD_AFTER = 3  # failures in a row before an event: a receiver that restarts is no news
STOP_SECONDS = 15.0  # a thread that sends when the server stops ends with its time-outs


@dataclass(slots=True)
class _Running:
    sink: Sink
    stop: threading.Event = field(default_factory=threading.Event)
    look: threading.Event = field(default_factory=threading.Event)  # now, whatever was being waited for
    threads: list[threading.Thread] = field(default_factory=list)


class Sinks:
    """Made when the server starts. `follow` starts and ends threads as the ledger tells of sinks."""

    def __init__(self, house: House, measured: Callable[[], Sequence[Family]] = tuple) -> None:
        self._house = house
        self._measured = measured
        self._began = time.time_ns()
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()

    def follow(self) -> None:
        """Bring the threads to what the ledger tells now; a sink that was changed gets a new one. All look at once."""
        told = configured(self._house)
        with self._lock:
            for name, running in list(self._running.items()):
                if told.get(name) != running.sink:
                    _end(running)
                    del self._running[name]
                running.look.set()
            for name, sink in told.items():
                if name not in self._running:
                    self._running[name] = self._started(sink)

    def _started(self, sink: Sink) -> _Running:
        running = _Running(sink)
        works = [self._deliver] if sink.takes_events else []
        works += [self._measure] if "metrics" in sink.signals else []
        for work in works:
            thread = threading.Thread(target=work, args=(running,), name=f"sink-{sink.name}", daemon=True)
            running.threads.append(thread)
            thread.start()
        return running

    def stop(self) -> None:
        with self._lock:
            running = list(self._running.values())
            self._running.clear()
        for one in running:
            _end(one)
        for thread in (thread for one in running for thread in one.threads):
            thread.join(STOP_SECONDS)

    def _deliver(self, running: _Running) -> None:
        wire = make_wire(self._house, running.sink)
        name, failures, most = running.sink.name, 0, deliver.BATCH
        while True:
            running.look.clear()  # first: what is said from here on is heard
            if running.stop.is_set():
                return
            try:
                moved = deliver.step(self._house.database, wire, name, self._house.now(), most)
                self._went_well(name, failures)
            except GarrisonError as error:
                failures += 1
                self._failed(name, failures, error)
                # The one event that a receiver will not have is found by asking with fewer and fewer.
                is_searching = error.code == "SINK-REJECTED" and most > 1
                most = max(1, most // 2) if error.code == "SINK-REJECTED" else most
                running.look.wait(SEARCH_SECONDS if is_searching else _pause(failures))
                continue
            failures, most = 0, min(2 * most, deliver.BATCH)
            if not moved:
                running.look.wait(POLL_SECONDS)

    def _measure(self, running: _Running) -> None:
        """Figures go as they are now; those that could not be sent are in the next ones."""
        wire = Otlp(running.sink, resource_of(__version__, socket.gethostname(), instance_of(self._house)))
        while not running.stop.wait(MEASURE_SECONDS):
            with contextlib.suppress(GarrisonError, OSError, RuntimeError):
                wire.send_metrics(self._measured(), self._began, time.time_ns())

    def _went_well(self, name: str, failures: int) -> None:
        if not failures:
            return
        deliver.note_recovery(self._house.database, name)
        if failures >= TOLD_AFTER:
            self._house.record(self._house.event(Action.SINK_DELIVER, name))

    def _failed(self, name: str, failures: int, error: GarrisonError) -> None:
        """Nothing here may end the thread: the disk that is full now is not full for ever."""
        try:
            deliver.note_failure(self._house.database, name, error.code, error.what, self._house.now())
            if failures == TOLD_AFTER:
                outcome = Outcome.DENIED if isinstance(error, Refused) else Outcome.UNKNOWN
                facts = {"outcome": outcome, "code": error.code, "reason": error.what[:300]}
                self._house.record(self._house.event(Action.SINK_DELIVER, name, **facts))
        except GarrisonError:
            return


def _end(running: _Running) -> None:
    running.stop.set()
    running.look.set()


def _pause(failures: int) -> float:
    """Longer each time, and never all at once: half of it is chance."""
    most = BACK_OFF[min(failures, len(BACK_OFF)) - 1]
    return most * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, hides nothing


def configured(house: House) -> dict[str, Sink]:
    """The sinks that the ledger tells of."""
    return {name: parse_sink(facts) for name, facts in house.people().access.sinks.items()}


def make_wire(house: House, sink: Sink) -> Wire:
    return wire_of(sink, __version__, socket.gethostname(), instance_of(house))


def instance_of(house: House) -> str:
    """This installation, by its ledger's key: the name that checkpoints have too."""
    return next((key.key_id[:16] for key in house.public_keys if key.label == "ledger"), "")
