"""The control process: everything Garrison runs on one machine, from the first key to the last drained request.

Start: lock, wiring, repair of what an interruption left, TLS, gateway workers, the models that were
serving, the control socket. Stop: drain the gateway, stop the models, fold the last events, sign.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from cryptography import x509

from garrison import __version__
from garrison.app import issuer_keys, logins, schedule, serving, tier2_published, watching, wiring
from garrison.app.addresses import certificate_names, is_loopback
from garrison.app.api import server as api
from garrison.app.broker import BrokerKeeper
from garrison.app.detection import second_tier
from garrison.app.edge_device import EdgeRun
from garrison.app.house import SNAPSHOT_TYPE, House
from garrison.app.lock import only_server
from garrison.app.metrics_page import MetricsPage
from garrison.app.outbound import outbound_hosts
from garrison.app.people import settle
from garrison.app.settings import Settings
from garrison.app.sinks import Sinks
from garrison.app.tier2 import name_of
from garrison.app.tier2_keeper import Tier2Keeper
from garrison.app.workers import Plane, Workers
from garrison.artifacts import imports, layout
from garrison.core.actions import Action
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.core.event import Outcome
from garrison.evidence.spool import SpoolReader
from garrison.gateway.process import give_back
from garrison.runtime.probe import probe
from garrison.runtime.sandboxes.ladder import sandbox_for
from garrison.storage.local import sweep_drafts, write_atomically
from garrison.trust.ca import LEAF_LIFETIME, ensure_ca, issue_server
from garrison.trust.issuers import Issuer
from garrison.trust.keys.base import Signer
from garrison.trust.people import facts_of_user
from garrison.trust.store import User, save_user, users

MAX_SOCKET_PATH = 107  # bytes, unix(7): sun_path has 108 with its end mark
FOLD_SECONDS = 0.05  # requests reach the ledger in batches of this time
HOUSEKEEPING_SECONDS = 5.0
DRAFTS = (".", "*", "*/*", "tuf/targets/*/*")  # where small files are replaced: never inside a model's tree
VERB_SECONDS = 60.0  # a command that is running when the server stops ends at its next step

Say = Callable[[str], None]


def up(settings: Settings, *, as_json: bool, edge: EdgeRun | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status. Raises when the start is refused.

    `edge` is a bundle to serve: then this is a device.
    """
    started = time.monotonic()
    resource.setrlimit(
        resource.RLIMIT_CORE, (0, 0)
    )  # also of every process that is started: no dump has a prompt
    _check_path(settings)
    certificate_names(settings.listen_address[0], settings.names)
    is_new = wiring.make_data_directory(settings.data)
    with only_server(settings):
        settings = replace(settings, listen=_free_address(settings))
        return asyncio.run(_run(settings, edge, as_json=as_json, is_new=is_new, started=started))


async def _run(
    settings: Settings, edge: EdgeRun | None, *, as_json: bool, is_new: bool, started: float
) -> int:
    say: Say = (lambda _text: None) if as_json else _say
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    house = await asyncio.to_thread(wiring.build, settings, loop)
    try:
        await _serve(house, edge, stop, say, as_json=as_json, is_new=is_new, started=started)
    finally:
        house.database.close()
    return 0


async def _serve(
    house: House,
    edge: EdgeRun | None,
    stop: asyncio.Event,
    say: Say,
    *,
    as_json: bool,
    is_new: bool,
    started: float,
) -> None:
    settings = house.settings
    say(f"garrison {__version__}   data {settings.data} ({'new' if is_new else 'opened'})   no telemetry")
    for line in await asyncio.to_thread(settle, house.ledger, house.people, house.now):
        say(f"  repaired {line}")
    admin = await asyncio.to_thread(first_admin, house)
    for line in await asyncio.to_thread(_repair, house):
        say(f"  repaired {line}")
    ca_signer = house.token.signer("ca")
    authority = await asyncio.to_thread(ensure_ca, settings.data / "ca.pem", ca_signer, house.now())
    await asyncio.to_thread(_remember_issuers, house)
    broker = BrokerKeeper(settings.run, house.loop, lambda name, status: _worker_died(house, name, status))
    house.broker = broker.address
    house.second = Tier2Keeper(
        settings.run,
        settings.isolation,
        house.loop,
        lambda name, status: _worker_died(house, name, status),
        lambda model, sink: tier2_published.read(house, model, sink),
    )
    await asyncio.to_thread(house.publish_snapshot)
    spool = SpoolReader(house.ledger, settings.run / "spool", house.now)
    workers = Workers(
        _plane(house, authority, ca_signer), lambda name, status: _worker_died(house, name, status)
    )
    house.settled = lambda version: house.run(workers.loaded(version))
    house.rotate = lambda: house.run(workers.rotate())
    page = MetricsPage(house, workers)
    sinks = Sinks(house, lambda: house.run(page.families()))
    house.follow_sinks = sinks.follow
    control = api.build(house)
    tasks = [
        asyncio.create_task(_fold(spool, stop)),
        asyncio.create_task(_housekeeping(house, workers, stop)),
        asyncio.create_task(schedule.loop(house, stop)),
        asyncio.create_task(watching.loop(house, stop)),
        asyncio.create_task(logins.loop(house, stop)),
        asyncio.create_task(_keep_issuers(house, stop)),
        asyncio.create_task(house.second.watch(stop)),
    ]
    try:
        await asyncio.to_thread(_second_tier, house, house.second, say)
        await workers.start()
        await page.start(settings.metrics_address[1])
        restored = await asyncio.to_thread(serving.restore, house)
        if edge is not None:
            restored += await asyncio.to_thread(edge.begin, house)
            tasks.append(asyncio.create_task(edge.watch(house, stop, say)))
        with _quiet_signals(control):
            tasks.append(asyncio.create_task(control.serve(sockets=[_control_socket(settings)])))
            while not control.started:
                await asyncio.sleep(0.01)
                if tasks[-1].done():
                    tasks[-1].result()
                    raise Undecided("SRV-SOCKET", "the control socket did not open", fix="garrison doctor")
            await asyncio.to_thread(
                house.record, house.event(Action.SYSTEM_START, "server", version=__version__)
            )
            await asyncio.to_thread(sinks.follow)
            _announce(house, say, page.url, as_json=as_json, admin=admin, restored=restored, started=started)
            probing = asyncio.create_task(_probe(house, say))
            await _until(stop, tasks)
            probing.cancel()
            say("draining")
    finally:
        await page.stop()
        await _shut_down(house, workers, broker, control, spool, sinks, tasks, stop)


async def _shut_down(
    house: House,
    workers: Workers,
    broker: BrokerKeeper,
    control: Any,
    spool: SpoolReader,
    sinks: Sinks,
    tasks: list[asyncio.Task[Any]],
    stop: asyncio.Event,
) -> None:
    stop.set()
    house.stopping.set()
    control.should_exit = True
    try:
        await workers.stop()
        await broker.stop()
        if house.second is not None:
            await asyncio.to_thread(house.second.close)
        await house.supervisor.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(house.busy.wait, VERB_SECONDS)
        await asyncio.to_thread(spool.tick)
        await asyncio.to_thread(sinks.stop)
        await asyncio.to_thread(house.record, house.event(Action.SYSTEM_STOP, "server"))
        await asyncio.to_thread(house.ledger.close)
    finally:
        for name in ("control.sock", "ready.json"):
            (house.settings.run / name).unlink(missing_ok=True)


async def _until(stop: asyncio.Event, tasks: list[asyncio.Task[Any]]) -> None:
    """Wait for the signal; a background task that ends by itself is a defect and ends the server too."""
    waiting = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    for task in done - {waiting}:
        task.result()


async def _probe(house: House, say: Say) -> None:
    """Try to escape from the sandbox that models get, once a start, and keep the result as evidence."""
    level = house.settings.isolation
    try:
        matrix = await asyncio.to_thread(lambda: probe(sandbox_for(level)))
    except GarrisonError as error:
        say(f"  sandbox  {level} could not be probed: {error.code} {error.what}")
        return
    tried, through = len(matrix.attempts), list(matrix.unwanted)
    given = [check for check in matrix.open if check not in through]
    outcome = Outcome.DENIED if through else Outcome.ALLOWED
    facts = {"isolation": level, "tried": tried, "denied": tried - len(through), "through": through}
    await asyncio.to_thread(house.record, house.event(Action.RUNTIME_PROBE, level, outcome=outcome, **facts))
    kept = f"{tried - len(through) - len(given)}/{tried} escape attempts denied"
    left = "".join(f" {name}" for name in through) + "".join(f", {name} given on purpose" for name in given)
    say(f"  sandbox  {level}: {kept}{left}")


async def _fold(spool: SpoolReader, stop: asyncio.Event) -> None:
    """Move request events from the workers' spools into the ledger, a batch at a time."""
    while not stop.is_set():
        # The database or the disk is away: the spool keeps them, and bounds itself.
        with contextlib.suppress(GarrisonError, OSError):
            await asyncio.to_thread(spool.tick)
        await _pause(stop, FOLD_SECONDS)


async def _housekeeping(house: House, workers: Workers, stop: asyncio.Event) -> None:
    """Refresh snapshot and certificates before they expire; sign a head that could not be signed before."""
    refreshed = rotated = time.monotonic()
    while not stop.is_set():
        await _pause(stop, HOUSEKEEPING_SECONDS)
        if house.ledger.state().problem:
            await asyncio.to_thread(house.ledger.sign_head)
        if time.monotonic() - refreshed > house.settings.snapshot_seconds / 3:
            # Tried again in five seconds, long before it expires.
            with contextlib.suppress(GarrisonError, OSError):
                await asyncio.to_thread(house.publish_snapshot)
                refreshed = time.monotonic()
            await asyncio.to_thread(give_back)
        if time.monotonic() - rotated > LEAF_LIFETIME.total_seconds() / 2:
            # The old workers go on; tried again in five seconds, days before their certificates end.
            with contextlib.suppress(GarrisonError, OSError):
                await workers.rotate()
                rotated = time.monotonic()


def _second_tier(house: House, keeper: Tier2Keeper, say: Say) -> None:
    """Start who is asked in doubt. Without them such texts are undecided; they are tried again."""
    for facts in second_tier(house.people().access):
        try:
            keeper.start(facts)
            say(f"  tier 2   {name_of(facts)} ({', '.join(facts['channels'])})")
        except (GarrisonError, OSError) as error:
            keeper.remember(facts, error)
            say(f"  tier 2   {name_of(facts)} is away, texts in doubt are refused: {error}")


def _remember_issuers(house: House) -> None:
    house.issuers.follow(house.people().access.issuers)
    key = next(key for key in house.public_keys if key.label == "snapshot")
    house.issuers.remember(house.settings.run / "snapshot.json", key, SNAPSHOT_TYPE)


async def _keep_issuers(house: House, stop: asyncio.Event) -> None:
    """Fetch the keys of other issuers; each change and each failure that begins is an event."""

    def told(issuer: Issuer, problem: str) -> None:
        outcome = Outcome.UNKNOWN if problem else Outcome.ALLOWED
        facts = {"outcome": outcome, "code": "ISS-FETCH" if problem else "", "reason": problem[:300]}
        house.record(house.event(Action.ISSUER_REFRESH, issuer.url, **facts))

    await issuer_keys.keep(house.issuers, house.now, house.publish_snapshot, told, stop)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def _plane(house: House, authority: x509.Certificate, ca_signer: Signer) -> Plane:
    settings = house.settings
    host, port = settings.listen_address
    dns, ips = certificate_names(host, settings.names)

    def tls() -> bytes:
        leaf = issue_server(authority, ca_signer, "garrison gateway", dns=dns, ips=ips, now=house.now())
        return leaf.chain + leaf.key

    snapshot_key = next(key for key in house.public_keys if key.label == "snapshot")
    return Plane(
        host=host,
        port=port,
        snapshot=settings.run / "snapshot.json",
        snapshot_key=snapshot_key.pem.decode(),
        spool=settings.run / "spool",
        patterns=settings.run / "patterns",
        workers=settings.workers,
        metrics_port=0,  # any: the control process asks each and shows them together
        tls=tls,
        limits_redis=settings.limits_redis,
        limits_redis_password=settings.limits_redis_password_file,
        limit_replicas=settings.limit_replicas,
        unknown_keys=house.issuers.wanted.update,
    )


def first_admin(house: House) -> str:
    """The account that runs the server for the first time administers it. Later starts change nothing."""
    with house.database.read() as connection:
        known = users(connection)
    if known:
        return ""
    name = api.local_user(os.geteuid())
    user = User(name, "", frozenset({"admin"}))
    with house.ledger.transaction() as transaction:
        save_user(transaction.connection, user, by="service:garrison", now=house.now())
        transaction.append(house.event(Action.USER_WRITE, name, **facts_of_user(user), reason="first start"))
    return name


def _repair(house: House) -> list[str]:
    registry = house.registry
    done = [*house.token.repaired, *registry.approved.repaired, *layout.repair_all(registry)]
    done += imports.sweep(registry)
    if swept := sweep_drafts(house.settings.data, DRAFTS):
        done.append(f"removed {swept} files that were being written when a server was killed")
    for line in done:
        house.record(house.event(Action.SYSTEM_REPAIR, "server", what=line))
    try:
        house.registry.approved.current()
    except Refused as error:  # the start goes on, every decision that needs the list is refused
        event = house.event(
            Action.APPROVALS_PUBLISH, "approvals", outcome=Outcome.DENIED, code=error.code, reason=error.what
        )
        house.record(event)
        _say(f"  REFUSED  {error.what}\n           {error.fix}")
    return done


def _worker_died(house: House, name: str, status: int) -> None:
    with contextlib.suppress(GarrisonError):
        house.record(
            house.event(
                Action.RUNTIME_CRASH, name, outcome=Outcome.ERROR, code="GW-CRASH", exit_status=status
            )
        )


def _announce(
    house: House, say: Say, metrics: str, *, as_json: bool, admin: str, restored: list[str], started: float
) -> None:
    settings = house.settings
    url = f"https://{settings.listen}"
    ready = {"event": "ready", "url": url, "ca": str(settings.data / "ca.pem"), "pid": os.getpid()}
    ready["metrics"] = metrics
    write_atomically(settings.run / "ready.json", json.dumps(ready).encode())
    if as_json:
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        return
    release = house.release_key
    kind = f"{house.token_kind}, {release.algorithm.display}, not exportable"
    say(f"  keys     {kind}   {release.label} key {release.key_id[:16]}…")
    say("           a software token: fine for trying out; posture says so")
    say(f"  gateway  {url}/v1   TLS 1.3, local CA {settings.data / 'ca.pem'}")
    if not is_loopback(settings.listen_address[0]):
        say("           reachable from other machines; every request needs an access token")
    say(f"  metrics  {metrics}")
    hosts = [f"{host} ({', '.join(whats)})" for host, whats in outbound_hosts(house).items()]
    say(f"  outbound {'; '.join(hosts) or 'no host'}")
    say(f"  sandbox  {settings.isolation}")
    for line in restored:
        say(f"  model    {line}")
    if admin:
        say(f"  admin    {admin} (this account); add others: garrison user add NAME --role ROLE")
    say(f"Ready in {time.monotonic() - started:.1f} s. Ctrl-C drains and stops.")


def _check_path(settings: Settings) -> None:
    """Unix sockets have short paths: better told now than when the first command or model needs one."""
    length = len(os.fsencode(settings.control_socket))
    if length > MAX_SOCKET_PATH:
        raise Usage(
            "RUN-SOCKET-PATH",
            f"the control socket would be {settings.control_socket}: {length} bytes, and {MAX_SOCKET_PATH} are allowed",
            fix="use a data directory with a shorter path, for instance --data /var/lib/garrison",
        )


def _free_address(settings: Settings) -> str:
    """The address to listen on, port 0 replaced by a free one.

    Raises `Undecided` SRV-PORT for a taken port before anything starts.
    """
    host, port = settings.listen_address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            chosen = int(probe.getsockname()[1])
    except OSError as error:
        raise Undecided(
            "SRV-PORT",
            f"{host}:{port} cannot be used: {error.strerror}",
            fix=f"see who holds it with ss -ltnp 'sport = :{port}', or choose another with --listen",
            evidence={"listen": settings.listen},
        ) from error
    return f"[{host}]:{chosen}" if ":" in host else f"{host}:{chosen}"


def _control_socket(settings: Settings) -> socket.socket:
    """The control socket, for this user alone from the moment it exists."""
    path = settings.control_socket
    path.unlink(missing_ok=True)  # of a server that was killed: the lock says that none runs
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        control.bind(str(path))
    except OSError as error:
        control.close()
        raise Undecided(
            "SRV-SOCKET",
            f"the control socket {path} did not open: {error.strerror}",
            fix="look at the directory's rights and at the disk, then start again",
        ) from error
    finally:
        os.umask(mask)
    return control


@contextmanager
def _quiet_signals(control: Any) -> Iterator[None]:
    """The control API leaves signals to this process: its own handlers would stop it before the drain."""
    control.install_signal_handlers = lambda: None
    control.capture_signals = contextlib.nullcontext
    yield


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
