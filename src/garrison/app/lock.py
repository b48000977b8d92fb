"""One process at a time has a data directory: the lock that the server takes, and a command without a server."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from garrison.app.settings import Settings
from garrison.core.errors import Refused, Undecided


@contextmanager
def only_server(settings: Settings) -> Iterator[None]:
    """One server a data directory. Raises `Refused` SRV-RUNNING with the process that holds it."""
    path = settings.run / "up.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Undecided(
            "DATA-READONLY",
            f"cannot write {path}: {error.strerror}",
            fix="make the data directory writable for this user, or choose another with --data DIR",
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            raise Refused(
                "SRV-RUNNING",
                f"a server (process {holder or 'unknown'}) already runs on {settings.data}",
                fix=f"use it: garrison --data {settings.data} deploy status, or stop it with kill {holder}",
                evidence={"pid": holder},
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
