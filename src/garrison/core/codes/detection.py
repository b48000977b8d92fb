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

    {"text": "Hi", "label": "benign", "channel": "user", "family": "mine"}
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
    "GRD-EXCEPT": Code(
        "an exception from a rule",
        """\
A rule that is wrong for one model can stop blocking it: for at most 90 days,
with somebody who answers for it, recorded, shown by garrison posture and named
in every later event that it let pass. What the rule finds is still noted.

    garrison guard explain ID
    garrison guard except RULE ... --model NAME --owner WHO --until 2027-03-01
    garrison guard except RULE --model NAME --remove
""",
    ),
    "GRD-TIER2": Code(
        "not a classifier for the second tier",
        """\
The second tier is a folder with model.onnx, tokenizer.json and config.json,
named by its digest. It is scanned, compared with the digest at every start,
and has to start in its sandbox; id2label has to name a harmless label. With
--model it is an approved version, judged by its signatures at every start.

    garrison scan ./piguard
    garrison guard tier2 set ./piguard --digest sha256:...
    garrison guard tier2 set --model piguard@1.0.0
    garrison guard tier2 show
""",
    ),
    "GRD-ROUTE": Code(
        "not a way to judge orders to a model",
        """\
A route blocks from a score of 0.60 to 0.995, asks the second tier between two
scores, waits 10 to 10000 ms for it, and observes or enforces. Its name is that
of a model in the registry or of a route.

    garrison guard route set fraud --mode observe
    garrison guard route set fraud --mode enforce --block-at 0.85
    garrison guard route list
""",
    ),
    "GRD-CALIBRATE": Code(
        "no threshold can be set by this traffic",
        """\
A rate of 1 in 100 cannot be seen in 50 texts: five of them have to be expected
above the threshold. Give more texts, or ask for a higher rate. When even the
highest threshold blocks more than that, a rule fires on your own traffic: look
at what was found before lowering anything.

    garrison guard calibrate --set traffic.jsonl --route fraud --rate 0.01
    garrison inspect --jsonl < traffic.jsonl
""",
    ),
    "GRD-NONE": Code(
        "nothing to explain",
        """\
The record of that audit id has no finding of a detector: the request was
refused or answered for another reason, which garrison audit show prints.

    garrison audit list --outcome denied
""",
    ),
    "DLP-PATTERN": Code(
        "not a pattern that can be looked for",
        """\
Patterns of your own are written in a small language, so that no text can make
them take long: characters, sets ([A-Z0-9], \\d, \\w, \\s), alternatives, groups
and bounded repeats of one character or set. No dot, no + or *, no negated set,
no repeat of a group, no look-around; 4 to 256 characters long.

    garrison dlp pattern add tickets --regex 'ACME-[0-9]{4,8}' --hit ACME-12345
""",
    ),
    "DLP-ACTION": Code(
        "not something that is done with a value",
        """\
For models of a tier, in requests and in answers, secrets and personal data are
allowed (noted only), masked (**** 1234), tokenised (<EMAIL_1>, undone in the
answer to who sent it), redacted or blocked. Only personal data in requests is
tokenised: a secret never comes back.

    garrison dlp action set --help
    garrison dlp list
""",
    ),
    "DLP-HOST": Code(
        "not the name of a host",
        """\
Give a name, or *. and a name for everything below it; no scheme, port or path.

    garrison dlp host add docs.example.com
    garrison dlp host add '*.example.com'
""",
    ),
    "DLP-PACK": Code(
        "a rule pack cannot be used",
        """\
A pack is a file of rules with a name and a version, signed. It is refused when
it is not signed by the key of the version before, when its version is not above
every one that was installed, when one of its rules fails its own examples, and
when its file is not the one that was installed; a gateway worker that cannot
read a pack passes nothing on.

    garrison guard pack verify rules.pack --key maker.pem
    garrison guard pack list
    garrison guard pack rollback NAME
""",
    ),
    "DLP-COPIES": Code(
        "the fingerprints of registered documents cannot be used",
        """\
The file of a set is missing, or is not the one that the ledger tells of. Until
it is registered again nothing is inspected and so nothing is passed on.

    garrison dlp fingerprint add DIR --name NAME
    garrison dlp fingerprint remove NAME
""",
    ),
    "DLP-EMPTY": Code(
        "no document to register",
        """\
No text file there has eight words in a row. Binary files and links are left
out: convert a document to text first.

    garrison dlp fingerprint add DIR --name NAME
""",
    ),
    "DLP-FULL": Code(
        "no room for more patterns or documents",
        """\
The store is bounded so that every worker can keep it in memory: 256 patterns,
32 sets, 10,000 documents, 8 million passages of eight words.

    garrison dlp list
    garrison dlp fingerprint remove NAME
""",
    ),
    "DLP-UNKNOWN": Code(
        "no pattern or set of that name",
        """\
Nothing of that name was added, or it was removed already.

    garrison dlp list
""",
    ),
}
