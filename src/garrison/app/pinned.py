"""Which image each pinned name stands for, as the ledger tells it: a fold that is kept going."""

from __future__ import annotations

import threading

from garrison.core.actions import Action
from garrison.core.event import Outcome
from garrison.evidence import store as events
from garrison.evidence import told as proved
from garrison.evidence.ledger import Ledger


class PinnedImages:
    """A name means the digest that it was pinned to last; what it meant before is pinned no more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[str, str] = {}
        self._digests: dict[str, str] = {}
        self._seen = 0

    def digest(self, ledger: Ledger, name: str) -> str:
        """The digest of a name, empty when nothing is pinned. Raises `Refused` AUD-EDITED."""
        self._look(ledger)
        return self._names.get(name, "")

    def name(self, ledger: Ledger, digest: str) -> str:
        """The name that a digest is pinned under, empty when it is not. Raises as `digest`."""
        self._look(ledger)
        return self._digests.get(digest, "")

    def _look(self, ledger: Ledger) -> None:
        wanted = events.Filter(action=Action.IMAGE_PIN.value, outcome=Outcome.ALLOWED.value, after=self._seen)
        with self._lock, ledger.read() as connection:
            for record in proved.told(connection, wanted):
                if record.seq > self._seen:
                    self._names[record.event.resource] = record.event.digest
                    self._seen = record.seq
            self._digests = {digest: name for name, digest in self._names.items()}
