"""A real rsyslogd that takes syslog over TLS and writes what it got to a file, one message a line."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

SECONDS = 60.0
_CONFIG = """
global(workDirectory="{directory}" defaultNetstreamDriver="gtls" maxMessageSize="64k"
  defaultNetstreamDriverCAFile="{ca}" defaultNetstreamDriverCertFile="{chain}"
  defaultNetstreamDriverKeyFile="{key}")
main_queue(queue.type="Direct")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
template(name="whole" type="string" string="%rawmsg%\\n")
ruleset(name="keep" queue.type="Direct") {{
  action(type="omfile" file="{out}" template="whole")
}}
input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="keep")
"""


_BEGIN = re.compile(r"<1[01][0-9]>1 (?=[0-9]{4}-)")


class Rsyslog:
    """`chain` and `key` are PEM files of a certificate for 127.0.0.1, `ca` that of its authority."""

    def __init__(self, directory: Path, ca: Path, chain: Path, key: Path) -> None:
        if shutil.which("rsyslogd", path="/usr/sbin:/usr/bin") is None or not _has_tls():
            pytest.skip("NOT PROVED HERE: rsyslogd with rsyslog-gnutls is not installed")
        directory.mkdir()
        self.out = directory / "got.log"
        self.directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        config = _CONFIG.format(
            directory=directory, ca=ca, chain=chain, key=key, out=self.out, port=self.port
        )
        (directory / "rsyslog.conf").write_text(config)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"tls://127.0.0.1:{self.port}"

    def start(self) -> Rsyslog:
        words = ["/usr/sbin/rsyslogd", "-n", "-f", str(self.directory / "rsyslog.conf")]
        with (self.directory / "said.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*words, "-i", str(self.directory / "pid")], stdout=log, stderr=log
            )
        until = time.monotonic() + SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                assert self.process.poll() is None, (self.directory / "said.log").read_text()
                assert time.monotonic() < until, "rsyslogd does not listen"
                time.sleep(0.02)

    def kill(self) -> None:
        self._end(signal.SIGKILL)
        (self.directory / "pid").unlink(missing_ok=True)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(SECONDS)
            self.process = None

    def text(self) -> str:
        return self.out.read_text(errors="replace") if self.out.exists() else ""

    def messages(self) -> list[str]:
        """The text of each message. A kill may tear one, and the next begins right behind it."""
        parts = _BEGIN.split(self.text())[1:]
        return [part.rstrip("\n").partition('"] ')[2] for part in parts]

    def uids(self) -> list[str]:
        """The leaf hash in each whole message, as OCSF has it."""
        found = []
        for body in self.messages():
            try:
                found.append(str(json.loads(body)["metadata"]["uid"]))
            except (ValueError, KeyError):
                continue  # torn by a kill: it was not confirmed, so it comes again
        return found


def _has_tls() -> bool:
    return bool(list(Path("/usr/lib").glob("*/rsyslog/lmnsd_gtls.so")))
