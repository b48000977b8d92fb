"""The detectors of a worker: made at the start, and made again when a snapshot brings other patterns or documents.

What cannot be made lets nothing pass: a worker that has lost the fingerprints must not go on without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from garrison.core.errors import GarrisonError, Undecided
from garrison.detect.base import Direction, Inspection
from garrison.detect.handling import How
from garrison.detect.inspect import Inspector
from garrison.detect.own import open_own
from garrison.detect.patterns import TextStream
from garrison.detect.redact import Redaction
from garrison.detect.route_guard import AS_EVER, RouteGuard
from garrison.detect.tier2_ask import Asker, guards, parse_asked
from garrison.gateway.process import give_back


class Detection:
    """`renew` answers with the same inspector as long as nothing of it changed.

    It is first asked where a snapshot is read, beside what is served, and then again where it comes into force.
    """

    def __init__(self, cache: Path | None) -> None:
        self._cache = cache
        self._facts: dict[str, Any] = {}
        self._current: Inspector | Unable | None = None
        self.asker = Asker({})

    def renew(self, facts: Mapping[str, Any]) -> Inspector | Unable:
        wanted = {
            key: facts.get(key)
            for key in ("patterns", "copies", "canaries", "hosts", "packs", "names", "tier2", "folder")
        }
        if self._current is None or wanted != self._facts:
            self._facts, self._current = wanted, self._made(facts)
            give_back()
        return self._current

    def _made(self, facts: Mapping[str, Any]) -> Inspector | Unable:
        folder = facts.get("folder")
        try:
            asked = parse_asked(facts.get("tier2") or ())
            self.asker = Asker(asked)
            return Inspector(
                cache=self._cache,
                directions=(Direction.INPUT, Direction.OUTPUT),
                score_all=bool(asked),  # whether a text is in doubt has to be known
                asks=guards(asked),
                own=open_own(facts, Path(folder) if isinstance(folder, str) else None),
            )
        except GarrisonError as error:
            return Unable(error)
        except (KeyError, TypeError, ValueError) as error:
            return Unable(
                Undecided("DLP-COPIES", f"a set is not one: {type(error).__name__}", fix="see the log")
            )


class Unable:
    """In the place of an `Inspector` that could not be made: every text is undecided, so nothing passes."""

    def __init__(self, cause: GarrisonError) -> None:
        self._cause = cause

    def is_clean(self, texts: Sequence[str], _direction: Direction) -> bool:
        return not any(texts)

    def inspect(
        self,
        _text: str,
        _direction: Direction,
        _excepted: frozenset[str] = frozenset(),
        _how: How | None = None,
        *,
        tolerant: bool = False,  # noqa: ARG002 - without an inspector nothing is judged by the others
        guard: RouteGuard = AS_EVER,  # noqa: ARG002 - and no threshold is any use
    ) -> Inspection:
        raise self._undecided()

    def open_output(self, _how: How | None = None) -> tuple[TextStream, Redaction]:
        raise self._undecided()

    def _undecided(self) -> Undecided:
        return Undecided(
            "PRM-UNDECIDED",
            f"the text could not be inspected: {self._cause.what}",
            fix=self._cause.fix or "an operator looks at garrison dlp fingerprint list",
        )


class Renewing(Protocol):
    """`Detection`, as a plane needs it."""

    asker: Asker

    def renew(self, facts: Mapping[str, Any]) -> Inspector | Unable:
        """The inspector for this section of a snapshot."""
