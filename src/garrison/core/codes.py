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
