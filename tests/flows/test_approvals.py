"""The approved list under load and under kill -9: no failed request, never half a list."""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from tests.flows.kills import LONGEST, kill_after
from tests.flows.server import Server

from garrison.core.errors import GarrisonError

CLIENTS = 3
KILLS = 10


def _client(server: Server, token: str) -> openai.OpenAI:
    context = ssl.create_default_context(cafile=server.ready["ca"])
    return openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key=token,
        http_client=openai.DefaultHttpxClient(verify=context),
        max_retries=0,
    )


@contextmanager
def _asked(server: Server, model: str) -> Iterator[tuple[list[str], Callable[[int], None]]]:
    """Clients that ask without a pause; gives the failures and a wait for so many more answers."""
    token, answered, failed, stop = server.token(model=model), itertools.count(), [], threading.Event()
    progress = threading.Condition()
    done = 0

    def ask() -> None:
        nonlocal done
        with _client(server, token) as client:
            while not stop.is_set():
                try:
                    client.embeddings.create(model=model, input=f"question {next(answered)}")
                except openai.OpenAIError as error:
                    failed.append(repr(error))
                with progress:
                    done += 1
                    progress.notify_all()

    def wait(more: int) -> None:
        with progress:
            goal = done + more
            assert progress.wait_for(lambda: done >= goal, LONGEST)

    with ThreadPoolExecutor(CLIENTS) as pool:
        for _ in range(CLIENTS):
            pool.submit(ask)
        try:
            wait(CLIENTS)
            yield failed, wait
        finally:
            stop.set()


@pytest.mark.slow
@pytest.mark.row("A24", kind="R")
@pytest.mark.row("A07", kind="R")
@pytest.mark.row("A23", kind="R")
def test_a_replacement_and_a_rollback_under_load_fail_no_request(
    server: Server, minilm_dir: Path, tmp_path: Path
) -> None:
    second = Path(shutil.copytree(minilm_dir, tmp_path / "second"))
    (second / "README.md").write_text("the second edition\n")
    server.start()
    for directory, ref in ((minilm_dir, "mini@1"), (second, "mini@2")):
        server.publish(directory, ref)
        server.ok("--as", "dana", "approve", ref)
    server.ok("serve", "mini@1")
    with _asked(server, "mini") as (failed, wait):
        assert server.ok("deploy", "apply", "mini@2")["version"] == 2
        wait(10)
        assert server.cli("deploy", "apply", "mini@1").code == "ART-ROLLBACK"
        assert server.ok("deploy", "rollback", "mini")["version"] == 1
        wait(10)
        assert server.cli("deploy", "rollback", "mini").code == "DEP-NO-EARLIER"
        server.ok("--as", "dana", "unapprove", "mini@2", "--reason", "worse than the first")
        assert server.cli("deploy", "apply", "mini@2").code == "ART-NOT-APPROVED"
        wait(10)
        assert failed == []
    (row,) = server.ask("deploy.status")["deployments"]
    assert (row["version"], row["state"], row["approval"]) == (1, "ready", "approved")
    gone = server.ok("--as", "dana", "unapprove", "mini@1", "--reason", "this one too")
    assert gone["stopped"]
    assert server.cli("serve", "mini@1").code == "ART-NOT-APPROVED"
    with _client(server, server.token(model="mini")) as client, pytest.raises(openai.APIStatusError):
        client.embeddings.create(model="mini", input="is anybody there?")
    (row,) = server.ask("deploy.status")["deployments"]
    assert (row["state"], row["approval"]) == ("stopped", "pending")
    assert server.stop() == 0
    assert server.cli("audit", "verify").status == 0


@pytest.mark.slow
@pytest.mark.xdist_group("kill")
@pytest.mark.row("A23", kind="R")
def test_a_list_killed_at_random_moments_is_the_old_one_or_the_new_one(
    server: Server, small_model: Path
) -> None:
    """Approvals and withdrawals in turn: after each kill the list says what was answered, or the step after it."""
    chance = random.Random(23)
    server.start()
    server.publish(small_model, "k@1")
    may_be = {False}
    inside = 0
    for number in range(KILLS):
        answered: list[bool] = []
        approving = number % 2 == 0 or may_be == {False}

        def work(approving: bool = approving, answered: list[bool] = answered) -> None:
            with contextlib.suppress(GarrisonError):
                if approving:
                    server.ask("model.approve", "dana", ref="k@1")
                else:
                    server.ask("model.unapprove", "dana", ref="k@1", reason="to and fro")
                answered.append(approving)

        worker = threading.Thread(target=work)
        worker.start()
        assert server.process is not None
        kill_after(server.process, server.data, chance.randint(1, 6), lambda w=worker: not w.is_alive())  # type: ignore[misc]  # the default binds the thread
        inside += worker.is_alive()
        worker.join(LONGEST)
        server.kill()
        may_be = set(answered) or may_be | {approving}
        server.start()
        rows = server.ask("approvals.list", name="k")["approvals"]
        assert bool(rows) in may_be
        told = server.ask("model.list", name="k")["models"][0]["state"]
        assert told == ("approved" if rows else "pending")
        may_be = {bool(rows)}
    assert inside >= KILLS // 5, "most kills came after the work: they proved little"
    assert server.stop() == 0
    assert server.cli("audit", "verify").status == 0
