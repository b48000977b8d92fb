"""The approved list and its environments: the pages of their codes."""

from __future__ import annotations

from garrison.core.codes.code import Code

_RESTORE = """\
What serves goes on serving; nothing new is deployed. Put the newest copy of
the directory tuf in the data directory back. Without one, begin anew and have
approved again what may serve:

    garrison approvals reset --reason TEXT
"""

CODES: dict[str, Code] = {
    "TUF-EXPIRED": Code(
        "the approved list is too old to admit anything new",
        """\
The list carries a time until which it is fresh: a day, signed anew every few
hours by the running server. A list that was not refreshed may hide that a
version was withdrawn, so it admits no new deployment. What serves goes on.

The refresh waits while the ledger has a problem, the token is away, the disk
is full or the clock jumped. With these in order it follows by itself within
seconds.

    garrison audit verify
""",
    ),
    "TUF-ROLLBACK": Code(
        "an older approved list was put back",
        "The files of the list have lower numbers than those that were in force,\n"
        "which the ledger and the token remember. An old list would bring old\n"
        "approvals back.\n\n" + _RESTORE,
    ),
    "TUF-MIXED": Code(
        "the files of the approved list do not belong together",
        "Each file of the list is named by another with its SHA-256. One of them is\n"
        "not the file that is named: it was changed, or files of two lists were\n"
        "mixed.\n\n" + _RESTORE,
    ),
    "TUF-SIGNATURE": Code(
        "the approved list is not signed by its keys",
        "Root and targets are signed by the key root in the token, timestamp and\n"
        "snapshot by the key timestamp. One of these signatures does not hold.\n\n" + _RESTORE,
    ),
    "TUF-THRESHOLD": Code(
        "too few approvers signed the approved list",
        "The file of an environment counts when as many approvers as the tier asks\n"
        "for have signed it, each with a key of their own. One key counts once; a key\n"
        "that is not an approver's does not count.\n\n" + _RESTORE,
    ),
    "TUF-MISSING": Code(
        "a file of the approved list is not there",
        "The ledger tells of a list, and one of its files cannot be read.\n\n" + _RESTORE,
    ),
    "TUF-LENGTH": Code(
        "a file of the approved list is too long",
        "Every file has a bound, so that nobody can feed a reader without end. This\n"
        "one is longer than its bound or than the list says.\n\n" + _RESTORE,
    ),
    "TUF-FORM": Code(
        "a file of the approved list is not as Garrison writes it",
        "The files are canonical JSON of one fixed shape. One byte more or less is\n"
        "refused, even where other readers would look past it.\n\n" + _RESTORE,
    ),
    "TUF-PINS": Code(
        "the token's note about the approved list cannot be read",
        """\
The token keeps the numbers of the newest approved list, so that no older one
is taken for it. Its note is damaged, and without it an old list could pass.

Put keys/token back from the newest backup together with the data directory.
""",
    ),
    "TUF-FULL": Code(
        "the approved list is full",
        """\
The list is bounded by what every TUF client reads: about 9,700 versions in
one environment, 16 environments, 200 approvers' keys.

Take versions that nobody will serve again off it:

    garrison unapprove NAME@VERSION --reason TEXT
""",
    ),
    "APP-COUNT": Code(
        "fewer approvers than the version's tier asks for",
        """\
The version stands in a list that asks for fewer approvers than its tier does.
The tier is part of the signed release statement and cannot be lowered later.

Have another person approve it:

    garrison approve NAME@VERSION
""",
    ),
    "ENV-NAME": Code(
        "not a name for an environment",
        """\
The name becomes part of file names that other tools read: a lower-case
letter, then at most 19 letters, digits and -.

    garrison environment add staging
""",
    ),
    "ENV-UNKNOWN": Code(
        "there is no environment of that name",
        """\
Each environment has an approved list of its own, and this one has none yet.

    garrison environment list
    garrison environment add NAME
""",
    ),
    "ENV-TAKEN": Code(
        "the environment is there already",
        """\
Nothing was changed.

    garrison environment list
""",
    ),
}
