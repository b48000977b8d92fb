"""The page "coming from LiteLLM" works as it is written: its lines are run, with the addresses of this machine."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fakes.upstream import Asked, Upstream, completion
from tests.flows.server import free_port

PAGE = Path(__file__).resolve().parents[2] / "docs" / "coming-from-litellm.md"
BLOCKS = re.findall(r"^```(?:python)?\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
KEY = "sk-provider-7731"
SECONDS = 120
CONFIG = """
model_list:
  - model_name: gpt-4o-mini
    litellm_params: {model: openai/gpt-4o-mini, api_base: http://PROVIDER/v1, api_key: os.environ/KEY, rpm: 100}
general_settings: {master_key: sk-1234}
"""


class Provider:
    """What stands for api.openai.com: answers whoever brings the key, and says who asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def answer(self, asked: Asked) -> list[bytes]:
        self.asked.append(asked)
        return completion("hello from the provider")

    def start(self) -> str:
        self.thread.start()
        self.server = Upstream(self.answer)
        started = asyncio.run_coroutine_threadsafe(self.server.start_http(), self.loop)
        return started.result(SECONDS).removeprefix("http://")

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop).result(SECONDS)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(SECONDS)
        self.loop.close()


@pytest.fixture
def provider() -> Iterator[tuple[Provider, str]]:
    made = Provider()
    yield made, made.start()
    made.stop()


def test_the_lines_of_the_page_switch_an_application(
    provider: tuple[Provider, str], copied: Callable[[Path | None], Path], tmp_path: Path
) -> None:
    copied(tmp_path / "garrison-data")  # of a server that was up before, which starts sooner
    model, address = provider
    key, port = tmp_path / "openai.key", free_port()
    key.write_text(KEY)
    key.chmod(0o600)
    here = {
        "127.0.0.1:8443": f"127.0.0.1:{port}",
        "https://api.openai.com": f"http://{address}",
        "/etc/garrison/keys/openai.key": str(key),
    }
    taking, starting, asking, program = (_localised(block, here) for block in BLOCKS)
    assert program.count("openai.OpenAI(") == 1
    (tmp_path / "config.yaml").write_text(CONFIG.replace("PROVIDER", address))
    server = _shell(f"exec {starting.strip()} --json", tmp_path)
    try:
        assert server.stdout is not None
        assert '"ready"' in server.stdout.readline()
        (tmp_path / "app.py").write_text(program)
        told = _done(f'{asking}"{sys.executable}" -W error app.py', tmp_path)
        assert told.endswith("hello from the provider")
        proposed = _done(taking, tmp_path)
        assert "left out: general_settings.master_key" in proposed
        _done(proposed.replace("/etc/garrison/keys/gpt-4o-mini.key", str(key)), tmp_path)
        mini = program.replace('"gpt-4o"', '"gpt-4o-mini"').replace('"token"', '"mini"')
        (tmp_path / "app.py").write_text(mini)
        issue = "garrison token issue --subject app --role user --model gpt-4o-mini > mini\n"
        trusting = asking.splitlines()[-1]
        asked = _done(f'{issue}{trusting}\n"{sys.executable}" -W error app.py', tmp_path)
        assert asked == "hello from the provider"
    finally:
        server.terminate()
        server.communicate(timeout=SECONDS)
    assert [asked.body["model"] for asked in model.asked] == ["gpt-4o", "gpt-4o-mini"]
    assert {asked.headers["authorization"] for asked in model.asked} == {
        f"bearer {KEY}"
    }  # never the caller's


def _localised(block: str, here: dict[str, str]) -> str:
    for written, meant in here.items():
        block = block.replace(written, meant)
    return block


def _shell(script: str, place: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    with (place / "said").open("ab") as said:
        return subprocess.Popen(
            ["bash", "-eu", "-o", "pipefail", "-c", script],
            cwd=place,
            env={"PATH": path, "HOME": str(place), "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )


def _done(script: str, place: Path) -> str:
    with _shell(script, place) as process:
        try:
            out, _ = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert process.returncode == 0, f"{script}\n{out}\n{(place / 'said').read_text()}"
    return out.strip().removesuffix("\n")
