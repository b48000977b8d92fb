"""Imports from other registries, their drift and webhooks: the pages of their codes."""

from __future__ import annotations

from garrison.core.codes.code import Code

CODES: dict[str, Code] = {
    "LIN-SOURCE": Code(
        "that does not name a source",
        """\
An import names a version in another system: models:/NAME/VERSION and the
address of an MLflow server, a directory with dvc.lock, the directory of an
offline W&B run, or a model in the Hugging Face cache. An address must not hold
a user name or password: addresses are recorded.

    garrison import mlflow models:/fraud/1 --as fraud@1 --owner WHO --tier TIER
""",
    ),
    "LIN-UNREACHABLE": Code(
        "the source could not be asked",
        """\
The server did not answer, answered with an error of its own, or stopped in the
middle. Nothing was imported, and nothing is known about drift: that is never
taken for "unchanged".

See that the address is right and the server runs, then repeat the command.
""",
    ),
    "LIN-FORMAT": Code(
        "what the source says is not understood",
        """\
A file or an answer is not in the form that this release knows, is damaged, or
its checksum is wrong. It is not guessed at. docs/lineage.md lists the versions
and files that are understood.
""",
    ),
    "LIN-LIMIT": Code(
        "the source has more than any model",
        """\
Other systems' answers and files are bounded: number, size, depth. A source
beyond these bounds is refused instead of filling this disk. Import a smaller
model, or publish its directory by hand:

    garrison model publish DIR --as NAME@VERSION --owner WHO --tier TIER
""",
    ),
    "LIN-PLACE": Code(
        "the files lie where the import does not go",
        """\
Files are taken from the named server or directory and from nowhere else: no
redirects, no links out of a directory, no addresses that a record names, and
no credential over an unencrypted line. So a record that somebody changed
cannot make Garrison fetch something from inside the network.
""",
    ),
    "LIN-GONE": Code(
        "the source has no such thing",
        """\
The version, run or file is not there. It may have been deleted or renamed.
`garrison drift` reports that for a version that was imported before.
""",
    ),
    "LIN-DENIED": Code(
        "the source wants another credential",
        """\
Credentials are named in sources.toml of the data directory, bound to one
address, and read from a file that its owner alone may read:

    [[mlflow]]
    url = "https://mlflow.example.org"
    token_file = "/etc/garrison/mlflow.token"
""",
    ),
    "LIN-TOKEN": Code(
        "a credential or sources.toml cannot be used",
        """\
sources.toml has a mistake, or the file with the credential is missing, is
readable by others, or does not hold exactly one line. The content is never
shown. docs/lineage.md has an example with every key.
""",
    ),
    "LIN-DIGEST": Code(
        "the source contradicts its own digests",
        """\
DVC, W&B and the Hugging Face cache record a hash of every file. The bytes on
disk have another one, so they are not what was recorded: changed by hand,
damaged, or swapped. They are not imported.

Put the recorded content back (dvc checkout, download again), or record the new
content if the change was meant.
""",
    ),
    "LIN-RECORD": Code(
        "the record of an import was changed in the database",
        """\
What a source held at import is kept signed. This row's signature is about
another version or was made over other words, so it is not believed.

Put the newest backup of the data directory back, then: garrison audit verify
""",
    ),
    "LIN-NONE": Code(
        "nothing was imported under that name",
        """\
`garrison drift NAME` compares imported versions with their source, and no
version of that name was imported. garrison import list shows what was.
""",
    ),
    "DRIFT-CONTENT": Code(
        "a file was changed at the source",
        """\
A file of an imported version has other bytes at its source now, is gone there,
or was added. MLflow accepts such an overwrite of a registered version without
a word. What Garrison serves is still the imported bytes.

Find out who wrote there. If the new bytes are wanted, import them as the next
version; they are scanned and approved like any other.
""",
    ),
    "DRIFT-ALIAS": Code(
        "an alias was moved at the source",
        """\
An alias that named the imported version names another one now, or is gone.
Programs that load by alias at the source get something else than what was
imported, scanned and approved here.
""",
    ),
    "DRIFT-SOURCE": Code(
        "the source of a version is gone or another",
        """\
The version was deleted at its source, or deleted and made again. Garrison
keeps the imported bytes and the record of the run; the source can no longer be
compared.
""",
    ),
    "DRIFT-RUN": Code(
        "the record of the run was changed",
        """\
A parameter, a metric or the state of the training run is not what it was when
the version was imported. Whoever approved the version saw the earlier figures.
""",
    ),
    "DRIFT-DATA": Code(
        "the data or a stage behind a version was changed",
        """\
A data set, dependency or pipeline stage has another hash at the source than
when the version was imported. The model was made from what was there before.
""",
    ),
    "HOOK-SIGNATURE": Code(
        "a webhook's signature is wrong",
        """\
The body, delivery id and time of a webhook are signed with a shared secret
(HMAC-SHA256). This one is not signed, or not with the secret in the file that
the receiver was given. Nothing was done.

Set the same secret at the sender, or look who else knows the address.
""",
    ),
    "HOOK-STALE": Code(
        "a webhook is too old or from the future",
        """\
A webhook is taken within five minutes of its time. An older one may be a
recording that somebody plays back. If all of them are refused, one of the two
clocks is wrong.
""",
    ),
    "HOOK-REPLAY": Code(
        "a webhook was delivered before",
        """\
Each delivery has an id and is taken once. This id was taken already: a repeat
by the sender, or a recording that somebody plays back. Nothing was done twice.
""",
    ),
    "HOOK-BUSY": Code(
        "too many announcements wait for their import",
        """\
Announcements are imported one after another, and a bounded number waits. The
sender is asked to come again later, which MLflow does by itself.
""",
    ),
    "HOOK-BODY": Code(
        "a webhook is not understood",
        """\
The request is not a POST of a JSON object with the fields of an MLflow
webhook, or is larger than 256 KiB.
""",
    ),
}
