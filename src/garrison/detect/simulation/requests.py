"""One simulated request, its invented text, and the event that a gateway would leave of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

from garrison.core.event import format_time
from garrison.detect.anomaly.sketch import Sketcher

_OUTCOMES = {"": "allowed", "GW-UPSTREAM": "error"}


@dataclass(frozen=True, slots=True)
class Asked:
    """`label` names the attack that it is part of; empty for harmless use."""

    time: float
    actor: str
    tenant: str
    model: str
    text: str
    network: str = ""
    client: str = ""
    answer: float = 100.0
    task: str = "chat"
    inputs: int = 1
    logprobs: bool = False
    code: str = ""
    label: str = ""
    version: int = 1

    def event(self, sketcher: Sketcher) -> dict[str, Any]:
        """In the form of `core.event.Event.as_json`; the text stays here."""
        is_allowed = not self.code
        answered = int(self.answer) + 1 if is_allowed and self.task == "chat" else 0
        use = {
            "tenant": self.tenant,
            "network": self.network,
            "client": self.client,
            "sketch": sketcher.sketch(self.text),
            **({"logprobs": 5} if self.logprobs else {}),
            **({"inputs": self.inputs} if self.inputs > 1 else {}),
        }
        data = {
            "operation": self.task,
            "prompt_tokens": self.inputs * (len(self.text) // 4),
            "completion_tokens": answered,
            "use": use,
        }
        return {
            "time": format_time(datetime.fromtimestamp(self.time, UTC)),
            "action": "model.invoke",
            "actor": self.actor,
            "resource": f"{self.model}@{self.version}",
            "outcome": _OUTCOMES.get(self.code, "denied"),
            "code": self.code,
            "digest": "",
            "findings": [],
            "data": data,
            "trace_id": "",
        }


class Words:
    """Invented words, and texts of them. Drawn with Zipf's weights, as words of a language are."""

    def __init__(self, random: Random) -> None:
        self._random = random
        letters = "etaoinshrdlucmfwyp"
        made = ("".join(random.choices(letters, k=random.randint(2, 10))) for _ in range(4_000))
        self._words = list(dict.fromkeys(made))
        weights = [1.0 / (rank + 8) for rank in range(len(self._words))]
        self._supply = iter(self._draw(weights))

    def _draw(self, weights: list[float]) -> Iterator[str]:
        while True:
            yield from self._random.choices(self._words, weights, k=4_096)

    def text(self, count: int) -> str:
        return " ".join(next(self._supply) for _ in range(count))

    def changed(self, text: str) -> str:
        """The text with one word of it changed."""
        words = text.split(" ")
        words[self._random.randrange(len(words))] = next(self._supply)
        return " ".join(words)
