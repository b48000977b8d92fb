"""The ledger and the posture: the pages of their codes."""

from __future__ import annotations

from garrison.core.codes.code import Code

CODES: dict[str, Code] = {
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

Restore that file from a backup, or check against a copy you kept elsewhere; if
it is lost for good, say why:

    garrison audit verify --witness FILE
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
    "POS-NONE": Code(
        "no evidence",
        """\
Posture is computed from what is on record. For this layer there is nothing to
judge: nothing was published, served or connected, or nothing was recorded.
Without evidence the answer is red, never green.

The line names the command that begins the layer. The data pipeline (documents
and their index) is judged once a document store is set up; docs/status.md says
what this release has.
""",
    ),
    "INV-NONE": Code(
        "no inventory was taken",
        """\
Which models run outside Garrison is not known: nothing has looked for them. A
model that is not known can not be governed, so this is red.

docs/status.md says which inventory sources this release has.
""",
    ),
}
