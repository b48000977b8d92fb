"""The kinds of alert: what each is called, how bad it is, which ATLAS techniques it points at, what it leads to.

ATLAS ids are those of MITRE ATLAS; they are forever, their names may change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from garrison.core.finding import Severity

LASTS = 14_400  # seconds of a response, unless the policy says otherwise
OBSERVE, THROTTLE, BLOCK, APPROVAL = RESPONSES = ("observe", "throttle", "block", "approval")


@dataclass(frozen=True, slots=True)
class Kind:
    """`response` is what follows where the signed policy says nothing else."""

    code: str
    rule: str
    title: str
    severity: Severity
    atlas: tuple[str, ...]
    response: str = OBSERVE


KINDS: Mapping[str, Kind] = {
    kind.code: kind
    for kind in (
        Kind(
            "ANO-EXTRACT",
            "anomaly.extraction",
            "systematic querying, as in model extraction",
            Severity.HIGH,
            ("AML.T0024.002", "AML.T0005.001"),
            THROTTLE,
        ),
        Kind(
            "ANO-PROBE",
            "anomaly.near-duplicates",
            "near-duplicate probing, as in model inversion or membership inference",
            Severity.HIGH,
            ("AML.T0024.000", "AML.T0024.001"),
            THROTTLE,
        ),
        Kind(
            "ANO-LOGPROB",
            "anomaly.logprobs",
            "log-probabilities are harvested",
            Severity.HIGH,
            ("AML.T0024.002", "AML.T0063"),
            THROTTLE,
        ),
        Kind(
            "ANO-EMBED",
            "anomaly.embeddings",
            "a sweep of embeddings",
            Severity.MEDIUM,
            ("AML.T0024.002",),
            THROTTLE,
        ),
        Kind(
            "ANO-JAILBREAK",
            "anomaly.jailbreak",
            "one identity tries injections again and again",
            Severity.HIGH,
            ("AML.T0054", "AML.T0051.000"),
        ),
        Kind(
            "ANO-CAMPAIGN",
            "anomaly.campaign",
            "injections from several identities at once",
            Severity.HIGH,
            ("AML.T0054", "AML.T0051.000"),
        ),
        Kind("ANO-TOKENS", "anomaly.tokens", "a spike in tokens used", Severity.MEDIUM, ("AML.T0034",)),
        Kind(
            "ANO-REFUSED", "anomaly.refusals", "a spike in refused requests", Severity.MEDIUM, ("AML.T0040",)
        ),
        Kind(
            "ANO-NEWUSE",
            "anomaly.new-use",
            "an identity is used from elsewhere, or as never before",
            Severity.HIGH,
            ("AML.T0012", "AML.T0055"),
        ),
        Kind(
            "ANO-SHARED",
            "anomaly.shared",
            "one identity, several places at once",
            Severity.MEDIUM,
            ("AML.T0012",),
        ),
        Kind(
            "ANO-RAMP",
            "anomaly.ramp",
            "use grows day by day, slowly",
            Severity.MEDIUM,
            ("AML.T0024.002", "AML.T0034"),
        ),
        Kind(
            "ANO-DRIFT",
            "anomaly.drift",
            "a model's answers changed, its version did not",
            Severity.MEDIUM,
            ("AML.T0031",),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Alert:
    """`subject` is an actor, `tenant:NAME` or `model:NAME@VERSION`; `why` the evidence, strongest first."""

    id: str
    code: str
    time: float
    subject: str
    model: str
    score: float
    why: tuple[tuple[str, float, float, float], ...]  # what, how strong, how many now, how many usually

    @property
    def kind(self) -> Kind:
        return KINDS[self.code]

    def facts(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "title": self.kind.title,
            "subject": self.subject,
            "model": self.model,
            "score": round(self.score, 2),
            "atlas": list(self.kind.atlas),
            "why": [
                {"sign": what, "strength": round(strength, 2), "now": round(now, 1), "usual": round(usual, 1)}
                for what, strength, now, usual in self.why
            ],
        }
