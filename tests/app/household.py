"""The built product without its processes: verbs called as the control socket calls them."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from garrison.app import wiring
from garrison.app.house import House
from garrison.app.settings import Settings
from garrison.app.verbs import VERBS
from garrison.app.verbs.base import Call, perform
from garrison.core.actions import Action
from garrison.core.errors import from_json
from garrison.trust.keys.pkcs11 import load_module
from garrison.trust.keys.softhsm import find_module, open_software_token
from garrison.trust.people import facts_of_user
from garrison.trust.store import User, save_user

OWNER = "root"
PIN = "1234567890"


@dataclass(slots=True)
class Clock:
    """Wall time that a test moves, also backwards."""

    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.time

    def move(self, **by: float) -> None:
        self.time += timedelta(**by)


@dataclass(slots=True)
class Household:
    """A house and the people in it."""

    house: House
    clock: Clock

    def ask(self, verb: str, who: str = OWNER, **body: Any) -> dict[str, Any]:
        """What the verb answers to somebody who names themselves. Raises what it refuses."""
        answer = perform(
            self.house, VERBS[verb], Call(self.house.local_subject(who, via="socket uid 0"), body)
        )
        if "error" in answer:
            raise from_json(answer["error"], answer["exit"])
        result: dict[str, Any] = answer["result"]
        return result

    def publish(self, source: Path, ref: str, **more: str) -> dict[str, Any]:
        asked = {"owner": "ml-team", "tier": "internal", **more}
        return self.ask("model.publish", source=str(source), ref=ref, **asked)

    def edit(self, statement: str, *values: object) -> None:
        """Write to the database behind the product's back."""
        with closing(sqlite3.connect(self.house.settings.data / "garrison.db")) as database, database:
            assert database.execute(statement, values).rowcount > 0

    def script(self, statement: str) -> None:
        with closing(sqlite3.connect(self.house.settings.data / "garrison.db")) as database, database:
            database.executescript(statement)

    def events(self, action: str) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.house.settings.data / "garrison.db")) as database:
            rows = database.execute(
                "SELECT actor, resource, outcome, code FROM ledger_event WHERE action = ? ORDER BY seq",
                (action,),
            ).fetchall()
        return [dict(zip(("actor", "resource", "outcome", "code"), row, strict=True)) for row in rows]


@contextmanager
def opened(data: Path, settings: Settings | None = None) -> Iterator[Household]:
    """A house on a data directory, with a loop that runs in a thread, as the server's does."""
    clock, loop = Clock(), asyncio.new_event_loop()
    wiring.make_data_directory(data)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        house = wiring.build(settings or Settings(data=data), loop, clock)
    except BaseException:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        raise
    try:
        with house.ledger.transaction() as transaction:
            admin = User(OWNER, "", frozenset({"admin"}))
            save_user(transaction.connection, admin, by="service:garrison", now=clock())
            transaction.append(house.event(Action.USER_WRITE, OWNER, **facts_of_user(admin)))
        yield Household(house, clock)
    finally:
        house.run(house.supervisor.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        house.ledger.close()
        house.database.close()


@contextmanager
def two_tokens(data: Path) -> Iterator[Household]:
    """A house whose SoftHSM has a second token, `partition-1`, that belongs to somebody else."""
    (data / "keys").mkdir(parents=True, mode=0o700)
    data.chmod(0o700)
    open_software_token(data / "keys" / "token").close()
    environment = {**os.environ, "SOFTHSM2_CONF": str(data / "keys" / "token" / "softhsm2.conf")}
    words = ["--init-token", "--free", "--label", "partition-1", "--pin", PIN, "--so-pin", PIN]
    subprocess.run(["softhsm2-util", *words], check=True, capture_output=True, env=environment)
    load_module(find_module()).reinitialize()
    with opened(data) as household:
        yield household
