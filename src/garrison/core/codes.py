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
    "AUD-TRUNCATED": Code(
        "the end of the audit ledger is gone",
        """\
The checkpoint kept outside the database has signed more records than the
database holds. Records were cut off, or an older copy of the database was put
back. Garrison does not start on it, because what is missing may matter.

    garrison audit verify            names the first missing record

Put the newest backup of the whole data directory back. If the records are lost
for good, say why; the next start goes on and records your reason:

    garrison audit accept-loss --reason TEXT
""",
    ),
    "AUD-MISSING": Code(
        "a record of the audit ledger is gone",
        """\
The records are numbered without gaps, and one number is not there: a record in
the middle was removed.

`garrison audit verify` names it. Put the newest backup of the data directory
back; a ledger with a hole is never continued.
""",
    ),
    "AUD-EDITED": Code(
        "a record of the audit ledger was changed",
        """\
A record's content no longer has the hash that the tree holds for it, or its
query columns differ from its content: it was edited or moved after it was
written.

`garrison audit verify` names the first such record. Treat what it says as
false, find out who can write the database, and restore a backup to compare.
""",
    ),
    "AUD-FORKED": Code(
        "the audit ledger is not the one that was signed",
        """\
The tree over the records does not have the root that a signed checkpoint
holds, or something other than the server wrote into the ledger: history was
rewritten, records were inserted, or two servers wrote to copies of one ledger.

    garrison audit verify            names the records it lies between

Put the newest backup of the data directory back. Never run two servers on one
data directory.
""",
    ),
    "AUD-SIGNATURE": Code(
        "a checkpoint of the audit ledger cannot be believed",
        """\
A checkpoint is malformed, its signature is wrong, or no key that this ledger
trusts has made it. Checkpoints are signed by the key `ledger` in the token;
its public half is in keys/public/ledger.pem.

Restore the checkpoint (witness/checkpoint) and the public key from a backup,
or name the key you trust: garrison audit verify --key FILE
""",
    ),
    "AUD-WITNESS": Code(
        "there is no checkpoint outside the database",
        """\
The last signed checkpoint, witness/checkpoint in the data directory, is missing
or cannot be read. Without it a cut tail could not be noticed, so the answer is
"could not tell", and a server does not start on such a ledger.

Restore that file from a backup, or give a copy you kept elsewhere:
garrison audit verify --witness FILE. If it is lost for good:

    garrison audit accept-loss --reason TEXT
""",
    ),
    "AUD-UNSIGNED": Code(
        "the newest records have no signed checkpoint",
        """\
Records after the last checkpoint are committed but not signed yet: the token or
the witness directory did not answer, or the server was killed in between. They
cannot be told from records that someone else added.

While the server runs it signs them as soon as the token answers; `garrison
posture` shows why it could not. A start signs them and records that it did.
""",
    ),
    "AUD-ID": Code(
        "not an audit id",
        """\
Records of the ledger are named a- and a number of at least six digits.

    garrison audit list
    garrison audit show a-000412
""",
    ),
    "AUD-NOT-FOUND": Code(
        "no such record",
        """\
The ledger has no record of that number. `garrison audit list` shows the last
ones. If the number was printed to you earlier, run garrison audit verify: the
record may have been removed.
""",
    ),
    "AUD-REASON": Code(
        "an acceptance needs a reason",
        """\
Going on with a ledger that lost records is recorded with the reason you give,
for the auditor. Say in a sentence what happened:

    garrison audit accept-loss --reason "disk failure on 22 November, no backup"
""",
    ),
    "AUD-BACKLOG": Code(
        "audit records cannot be written fast enough",
        """\
A gateway worker writes a record before it admits a request. The records waiting
to be folded into the ledger are over their limit, or the spool cannot be
written, so new requests are refused: nothing is served that is not recorded.

Look at the control process (`garrison doctor`), at free disk space and at the
database; when the backlog drains, requests are admitted again.
""",
    ),
    "AUD-SPOOL": Code(
        "an audit record from a gateway worker could not be read",
        """\
A line in a worker's spool was damaged or of an unknown shape. The line is not
lost silently: an event with this code and the digest of its bytes is in the
ledger in its place.

Look for disk errors, and whether something else wrote below run/spool.
""",
    ),
    "GW-CRASH": Code(
        "the gateway worker ended before the request did",
        """\
A worker process died (killed, out of memory, or a defect) after it had admitted
the request and before it recorded the end. What the client received is not
known; the event says when the request began, who asked and for what.

The supervisor starts a new worker by itself. If it repeats, `garrison doctor`.
""",
    ),
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
