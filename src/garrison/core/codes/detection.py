"""Codes of detection: labelled sets, patterns and fingerprints of a customer, exceptions."""

from __future__ import annotations

from garrison.core.codes.code import Code

CODES: dict[str, Code] = {
    "GRD-SET": Code(
        "not a set of labelled texts",
        """\
A file to measure with holds one JSON object a line. For garrison guard eval:
text, label (injection, jailbreak, benign or hard-benign), channel (user or
document) and family; for garrison dlp eval: text, spans and hard_negatives.

    {"text": "What is a prompt?", "label": "benign", "channel": "user", "family": "mine"}
""",
    ),
    "GRD-EMPTY": Code(
        "nothing to measure on",
        """\
After --direction and --unseen no text of the set is left, so there is no rate
to print and no bar to judge. That is not a pass.

Take another set, or leave the option out.
""",
    ),
}
