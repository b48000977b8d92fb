"""Approvals, m of n: distinct people, never the publisher, for one digest under one policy, for a time.

Pure: values in, values out. Who may approve at all is the policy's question; this counts who did.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from garrison.core.decision import Tier
from garrison.core.digest import short
from garrison.core.errors import Refused
from garrison.core.event import format_time


@dataclass(frozen=True, slots=True)
class Approval:
    """One person's yes. `human` tells people apart when accounts do not (an e-mail address, an OIDC sub)."""

    approver: str
    human: str
    digest: str
    policy_version: str
    time: datetime
    expires: datetime


@dataclass(frozen=True, slots=True)
class ApprovalState:
    """How far a version is: the approvals that count, how many it takes, and why others do not count."""

    counting: tuple[Approval, ...]
    needed: int
    not_counting: tuple[tuple[Approval, str], ...]

    @property
    def is_complete(self) -> bool:
        return len(self.counting) >= self.needed


def required(tier: Tier) -> int:
    """People it takes: 1 for public and internal data, 2 above."""
    return 1 if tier.rank <= Tier.INTERNAL.rank else 2


def fault(approval: Approval, digest: str, policy_version: str, now: datetime) -> str:
    """The code of what is wrong with an approval of this digest, or an empty string."""
    if approval.digest != digest:
        return "APP-DIGEST"
    if approval.policy_version != policy_version:
        return "APP-POLICY"
    if not approval.time <= now < approval.expires:
        return "APP-EXPIRED"
    return ""


def counting(given: Iterable[Approval], digest: str, policy_version: str, now: datetime) -> list[Approval]:
    """The approvals that count for `digest`, oldest first, one for each human."""
    humans: dict[str, Approval] = {}
    for approval in given:
        if not fault(approval, digest, policy_version, now):
            humans.setdefault(_human(approval), approval)
    return list(humans.values())


def check(
    wanted: Approval, counted: Sequence[Approval], *, publisher: str, publisher_human: str = ""
) -> None:
    """Whether `wanted` may be added to those that count already.

    Raises `Refused` APP-SELF when it comes from the publisher (by account or by human), APP-SAME when the
    same human has approved before, APP-EXPIRED when it would never be valid.
    """
    if _is_same(wanted, publisher, publisher_human):
        raise Refused(
            "APP-SELF",
            f"{publisher} published this; another person must approve it",
            fix="ask somebody else who has the role approver",
            evidence={"publisher": publisher, "approver": wanted.approver},
        )
    if any(_human(wanted) == _human(approval) for approval in counted):
        raise Refused(
            "APP-SAME",
            f"{wanted.approver} is a person who has approved this already, under this account or another",
            fix="ask another person who has the role approver",
            evidence={"approver": wanted.approver, "given": [approval.approver for approval in counted]},
        )
    if wanted.expires <= wanted.time:
        raise refused("APP-EXPIRED", wanted, wanted.digest)


def state(
    given: Iterable[Approval],
    *,
    digest: str,
    tier: Tier,
    policy_version: str,
    publisher: str,
    now: datetime,
    publisher_human: str = "",
) -> ApprovalState:
    """Count what was given towards the release with `digest`."""
    humans: dict[str, Approval] = {}
    others = []
    for approval in given:
        code = fault(approval, digest, policy_version, now)
        if not code and _is_same(approval, publisher, publisher_human):
            code = "APP-SELF"
        if not code and _human(approval) in humans:
            code = "APP-SAME"
        if code:
            others.append((approval, code))
        else:
            humans[_human(approval)] = approval
    return ApprovalState(tuple(humans.values()), required(tier), tuple(others))


def refused(code: str, approval: Approval, digest: str) -> Refused:
    """The refusal that says why an approval does not count."""
    reasons = {
        "APP-DIGEST": f"{approval.approver} approved {short(approval.digest)}, not {short(digest)}",
        "APP-POLICY": f"{approval.approver} approved under another policy than the one in force",
        "APP-EXPIRED": f"the approval by {approval.approver} ended at {format_time(approval.expires)}",
        "APP-SELF": f"{approval.approver} published this; another person must approve it",
        "APP-SAME": f"{approval.approver} is a person who has approved this already",
    }
    return Refused(
        code,
        reasons[code],
        fix="have it approved again: garrison approve NAME@VERSION",
        evidence={
            "digest": digest,
            "approved_digest": approval.digest,
            "approver": approval.approver,
            "expires": format_time(approval.expires),
        },
    )


def _human(approval: Approval) -> str:
    return _fold(approval.human) or _fold(approval.approver)


def _fold(text: str) -> str:
    return text.strip().casefold()


def _is_same(approval: Approval, publisher: str, publisher_human: str) -> bool:
    theirs = {_fold(publisher), _fold(publisher_human)} - {""}
    return bool(theirs & {_fold(approval.approver), _fold(approval.human)})
