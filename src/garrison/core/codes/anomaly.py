"""Codes of unusual use: what an alert says, and what follows from one for a caller."""

from __future__ import annotations

from garrison.core.codes.code import Code


def _alert(what: str, look: str) -> str:
    return f"""\
{what}

{look}
The alert says how strong each sign was, how many there were and how many are
usual for that identity, or for its like when it is new.

    garrison alerts show ID
    garrison alerts close ID --owner WHO --note "what it was"
"""


_COUNTS = "What the ledger's request events count is compared with the days before."

CODES: dict[str, Code] = {
    "ANO-EXTRACT": Code(
        "systematic querying",
        _alert(
            "An identity asks far more distinct questions than it ever did, often in a\n"
            "program's rhythm: what copying a model through its interface looks like. By\n"
            "default it is slowed down.",
            _COUNTS,
        ),
    ),
    "ANO-PROBE": Code(
        "near-duplicate probing",
        _alert(
            "An identity asks the same question again and again with little changes: what\n"
            "model inversion and membership inference look like. By default it is slowed\n"
            "down. Prompts are compared by keyed sketches; no text is kept.",
            _COUNTS,
        ),
    ),
    "ANO-LOGPROB": Code(
        "log-probabilities are harvested",
        _alert(
            "An identity asks for log-probabilities as it never did: they tell far more\n"
            "about a model than its words. By default it is slowed down.",
            _COUNTS,
        ),
    ),
    "ANO-EMBED": Code(
        "a sweep of embeddings",
        _alert(
            "An identity has far more texts embedded than usual. By default it is slowed\ndown.",
            _COUNTS,
        ),
    ),
    "ANO-JAILBREAK": Code(
        "injections again and again",
        _alert("Several requests of one identity were blocked as injections.", _COUNTS),
    ),
    "ANO-CAMPAIGN": Code(
        "injections from several identities",
        _alert(
            "Several identities of a tenant were blocked within hours, some of them with\n"
            "nearly the same prompt.",
            _COUNTS,
        ),
    ),
    "ANO-TOKENS": Code(
        "a spike in tokens",
        _alert("An identity uses several times the tokens that it ever used.", _COUNTS),
    ),
    "ANO-REFUSED": Code(
        "a spike in refusals",
        _alert(
            "An identity is refused again and again: models that there are not, rights it\n"
            "does not have, values that may not be sent.",
            _COUNTS,
        ),
    ),
    "ANO-NEWUSE": Code(
        "an identity is used as never before",
        _alert(
            "A network that nobody else uses, with another program, at other hours or for\n"
            "another model: what a stolen credential looks like. If it was stolen:\n"
            "garrison token revoke ID, garrison user disable NAME.",
            _COUNTS,
        ),
    ),
    "ANO-SHARED": Code(
        "one identity in several places",
        _alert("An identity changes to and fro between networks within minutes.", _COUNTS),
    ),
    "ANO-RAMP": Code(
        "use grows day by day",
        _alert(
            "Each of the last days had clearly more requests than the one before, in a\n"
            "program's rhythm or around the clock, and the others did not grow like that.",
            _COUNTS,
        ),
    ),
    "ANO-DRIFT": Code(
        "a model answers otherwise than it did",
        _alert(
            "The answers of a version became longer or shorter for most who ask it: look at\n"
            "the model server, or at the upstream, which may serve another model now.",
            _COUNTS,
        ),
    ),
    "ANO-CANARY": Code(
        "a canary was in an answer",
        _alert(
            "A word that was put into hidden context came out in an answer: somebody made\n"
            "the model repeat what it was told in secret. The word itself was taken out.",
            "The event of the request names the canary and the form in which it came.",
        ),
    ),
    "ANO-SLOWED": Code(
        "requests are slowed down after an alert",
        """\
Use by this identity looked unusual, and until the moment named in the refusal
it may ask only a few times a minute. Ask the operator, with the id of the
alert; somebody else than the identity itself can undo it at once:

    garrison alerts show ID
    garrison alerts release ID --note "a load test, announced"
""",
    ),
    "ANO-BLOCKED": Code(
        "requests are refused after an alert",
        """\
Use by this identity looked unusual, and until the moment named in the refusal
nothing more is answered. Somebody else than the identity itself can undo it:

    garrison alerts show ID
    garrison alerts release ID --note "what it was"
""",
    ),
    "ANO-APPROVAL": Code(
        "requests wait for a person's approval after an alert",
        """\
Use by this identity looked unusual, and somebody else has to say that it may go
on. Without that it stays refused until the moment named in the refusal.

    garrison alerts show ID
    garrison alerts release ID --note "approved, a new batch job"
""",
    ),
    "ANO-SELF": Code(
        "an alert about oneself",
        """\
Who an alert is about can't take, release or close it. Another operator can.

    garrison alerts list
""",
    ),
    "ANO-POLICY": Code(
        "not a response to alerts, a threshold or a network",
        """\
A response is observe, throttle, block or approval, for one kind of alert, with
an end. A network is an address range with a name.

    garrison detect respond ANO-EXTRACT --action block --for 4h
    garrison detect network 10.20.0.0/16 --name office-east
""",
    ),
    "ANO-UNKNOWN": Code(
        "no such alert",
        """\
There is no alert of that id, or it is older than the newest five thousand.

    garrison alerts list --all
""",
    ),
    "ANO-FILE": Code(
        "not a log of request events",
        """\
A file to replay has one event a line, as garrison audit export writes them, or
as garrison detect simulate does.

    garrison audit export --format jsonl > events.jsonl
    garrison detect replay events.jsonl
""",
    ),
    "ANO-BEHIND": Code(
        "unusual use is not being watched",
        """\
The detectors stopped, or have not caught up with the ledger: what happens now
raises no alert. They begin again by themselves, from where they were.

    garrison detect status
    garrison schedule run watch-use
""",
    ),
}
