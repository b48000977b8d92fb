"""Edge sites, their bundles and what comes home from them: the pages of their codes."""

from __future__ import annotations

from garrison.core.codes.code import Code

CODES: dict[str, Code] = {
    "EDGE-FORM": Code(
        "not an edge bundle",
        """\
The file does not begin like a bundle, or cannot be read as a plain file. A
bundle is one file that `garrison edge build` wrote.
""",
    ),
    "EDGE-TAMPER": Code(
        "the bundle is not what was signed",
        """\
A byte of the head, of a paper or of the encrypted image is another than the
one that was signed. The release key signs the head; the head names the
SHA-256 of everything after it; each chunk of the image proves itself again
when it is decrypted. Nothing of such a bundle is used.

Carry the file over again and compare its SHA-256.
""",
    ),
    "EDGE-TRUNCATED": Code(
        "the bundle was cut off",
        """\
The file is shorter than what was signed: mostly a copy that did not finish.
Carry it over again.
""",
    ),
    "EDGE-EXTENDED": Code(
        "something follows the end of the bundle",
        """\
The file is longer than what was signed. Bytes that nobody vouches for are not
ignored. Carry the file over again.
""",
    ),
    "EDGE-SITE": Code(
        "the bundle is for another site",
        """\
A bundle is sealed to one device. This one names another site, or a key that
this device does not have: it was built before the device got its present key.

Build one for this site: garrison edge build NAME@VERSION --site SITE.
""",
    ),
    "EDGE-STALE": Code(
        "the bundle is not fresh any more",
        """\
A device without a network cannot ask whether its model was withdrawn. So a
bundle ends: at the time that --expires said when it was built, and after
ninety days whatever it said. A bundle that ends while it serves is taken out
of service.

Bring a newer bundle. Building one takes seconds and needs no new approval
while the old one holds.
""",
    ),
    "EDGE-CLOCK": Code(
        "the clock of the device is wrong",
        """\
The device remembers the latest time that it saw, in its token. The clock says
an earlier one, or one before the bundle was built. A clock that is set back
would make an old bundle fresh, so nothing is decided by it.

Set the clock right.
""",
    ),
    "EDGE-ROLLBACK": Code(
        "the bundle is older than one that was taken",
        """\
Bundles for a site are numbered, and a device takes no lower number than it
took, nor another bundle under the same number. Nor does it take a version
that stands lower in the approved list than one that served here.

Use the newest bundle. To go back to an older version on purpose, approve it
again at home and build a new bundle.
""",
    ),
    "EDGE-REVOKED": Code(
        "the model in the bundle was withdrawn",
        """\
A newer bundle or notice told this device that the version was retired or
taken off the approved list. It does not load any more, and if it was serving
it was ended.
""",
    ),
    "EDGE-MEMORY": Code(
        "what the device remembers does not hold",
        """\
A device notes which bundles it took and what was withdrawn in edge/memory.json
and the digest of that note in its token. The two disagree: the file was
removed, edited, or is from a backup.

Put the directory edge/ back from the newest backup. Without one, enrol the
device anew in another data directory and enter its new card at home.
""",
    ),
    "EDGE-ENROL": Code(
        "not the device that was meant",
        """\
A device is a data directory with a key of its own, made on it by
`garrison edge enrol`. This one has none, has a damaged one, or is the device
of another site.
""",
    ),
    "EDGE-UNLOCK": Code(
        "the device's key cannot be unlocked",
        """\
The key that bundles are sealed to lies on the disk encrypted under a secret
that should not lie there: a file from a TPM, a service manager's credential
or a person. It is missing, too short, or not the one that was used when the
device was enrolled.
""",
    ),
    "EDGE-CARD": Code(
        "not the card of a device",
        """\
`garrison edge enrol` prints a card: the name of the site, the key to seal
bundles for, and the key of its ledger. The file is not one.
""",
    ),
    "EDGE-KNOWN": Code(
        "the site is entered already",
        """\
A site is entered once. When the device got a new key on purpose, say so:
`garrison edge site rotate FILE`. A card with another ledger key is another
installation; remove the site first, then add it.
""",
    ),
    "EDGE-UNKNOWN": Code(
        "no such site",
        """\
Bundles are built for, and events taken from, sites that were entered with
`garrison edge site add`. There is none of that name.
""",
    ),
    "EDGE-SITE-NAME": Code(
        "not a name for a site",
        """\
Use at most 40 letters, digits, - and ., such as plant-7.
""",
    ),
    "EDGE-EXPIRES": Code(
        "a bundle cannot be good for that long",
        """\
A bundle is good for one minute to ninety days: --expires 30d.
""",
    ),
    "EDGE-NOTICE": Code(
        "a notice carries no model",
        """\
A notice tells a device what is withdrawn. It is taken in with
`garrison edge accept FILE` while the device runs; there is nothing to serve.
""",
    ),
    "EDGE-EVENTS": Code(
        "the events of a device do not hold",
        """\
The file is not the ledger that the device signed: a record was changed, left
out, added or moved, the checkpoint is not by the key on the device's card, or
it does not continue what came home before. Nothing of it was taken.

Carry it over again or write it anew: garrison edge forward --out FILE. If it
is refused again, the device's ledger was replaced: treat that as an incident.
""",
    ),
    "EDGE-GAP": Code(
        "events between are missing",
        """\
The file begins after the next event that is expected from this device. Write
one that begins where home is: garrison edge forward --after NUMBER.
""",
    ),
    "EDGE-BUSY": Code(
        "two imports of one site at once",
        """\
Another import brought events of the same site home meanwhile. Repeat the
command: what is there is not taken twice.
""",
    ),
}
