"""Every refusal code, with the page that `garrison explain CODE` prints.

A code is forever: it is never renamed or given another meaning. The documentation test fails when a code
is raised that has no page here, and when a page has no code that raises it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """`title` in a few words; `page` says what happened, why it is refused and what to do."""

    title: str
    page: str


CODES: dict[str, Code] = {
    # --- artifacts and the registry (ART-, REF-, OBJ-, SCAN-, APP-) ---
    "REF-SYNTAX": Code(
        "not a name@version",
        """\
A version is written NAME@VERSION: a lower-case name of letters, digits, dot,
dash and underscore (at most 63 characters) and a whole number from 1.

    garrison model show fraud@3
""",
    ),
    # --- keys and signatures (KEY-, SIG-, TOKEN-) ---
    "KEY-ENV": Code(
        "a private key where none may be",
        """\
A private key was found in a file, in a variable of the environment, in a
`.env` file or in a CI variable, or was offered for signing by its path. Such
a key can be copied by everyone who reads the job, its logs or its backups, so
its signatures prove nothing.

Remove it, treat it as leaked, and create a key inside the token, where it can
be used but not copied:

    garrison key create NAME
""",
    ),
    "KEY-EXPORT": Code(
        "a private key does not leave its token",
        """\
Keys are generated inside the PKCS#11 token as sensitive and not extractable.
There is no way to export one, for anybody.

Share the public half instead (`garrison key list`). To sign on another
machine, create a key in the token there and trust its public half.
""",
    ),
    "KEY-EXTRACTABLE": Code(
        "the key could be copied",
        """\
The key in the token is marked extractable or not sensitive, or it was made
somewhere else and imported. Somebody may hold a copy, so it is not used.

Create a key in the token with `garrison key create NAME` and use that one.
""",
    ),
    "KEY-EXISTS": Code(
        "there is a key of that name already",
        """\
The token already holds a key with this label, and a key is never overwritten:
what it signed would stop verifying.

Use the key that is there, or choose another name.
""",
    ),
    "KEY-UNKNOWN": Code(
        "no such key",
        """\
The key that is named here, or that made this signature, is not among the keys
that are known. A signature by an unknown key proves nothing.

`garrison key list` shows the keys. Get a publisher's public key from a source
that you trust before you add it.
""",
    ),
    "KEY-LABEL": Code(
        "not a name for a key",
        """\
A key is named with lower-case letters, digits and dashes, at most 32
characters, because the name also becomes a file name.

    garrison key create release-2
""",
    ),
    "KEY-PUBLIC": Code(
        "not a public key on P-256",
        """\
The file is not readable or is not a PEM public key on the curve P-256, which
is the only kind that Garrison uses.

Give the .pem file that `garrison key create` wrote under keys/public in the
data directory.
""",
    ),
    "KEY-ID": Code(
        "the public key is another one",
        """\
A public key is named by the SHA-256 of its bytes. The name given here
does not belong to the key given here: the two have been mixed up or exchanged.

`garrison key list` shows every key with its id.
""",
    ),
    "KEY-PIN": Code(
        "the token's PIN was refused or is not private",
        """\
The PIN file is missing, can be read by other users, or holds a PIN that the
token refused. A refused PIN is never tried again, not even after a restart,
because tokens lock themselves after a few tries.

Put the right PIN into the file, with mode 0600, and start again. A change of
the file allows one new try. A locked token is unlocked with its own tool.
""",
    ),
    "KEY-MODULE": Code(
        "the PKCS#11 module is not there",
        """\
The library that talks to the token could not be loaded. Nothing can be signed
without it.

For the software token install softhsm2 (Debian, Ubuntu) or softhsm (Fedora);
for an HSM install its vendor's PKCS#11 module and name its path.
""",
    ),
    "KEY-UNAVAILABLE": Code(
        "the token does not answer",
        """\
The token was not found, its session was lost and could not be opened again,
or it reported an error. Whatever was being signed is not signed and nothing was
published.

Check that the token is there (`garrison doctor`), then repeat the command.
""",
    ),
    "KEY-DATA": Code(
        "too much for the token",
        """\
Tokens have little room. Only small values, such as the last checkpoint of the
audit ledger, are kept in one.

Keep at most 4096 bytes.
""",
    ),
    # --- identity and policy (TOK-, RBAC-, ID-) ---
    # --- runtime (RUN-, ISO-) ---
    # --- gateway and text (GW-, PRM-, DLP-, LIM-, HTTP-) ---
    # --- evidence (AUD-) ---
    # --- server and storage (SRV-, DB-, DISK-, DATA-) ---
    "DB-UNAVAILABLE": Code(
        "the database did not answer",
        """\
The database under the data directory could not be opened, read or locked in
time. Nothing was changed: every change is one transaction.

Check that the directory exists, is writable by this user and that no other
program holds the file, then try again. `garrison doctor` lists what it sees.
""",
    ),
    "DISK-FULL": Code(
        "no room on the disk",
        """\
A write failed because the disk is full. The change was rolled back and
temporary space was given back; what was there before is intact.

Free space on the disk that holds the data directory, then repeat the command.
""",
    ),
}
