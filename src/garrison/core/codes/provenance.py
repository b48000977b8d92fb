"""Attachments, provenance, bills of materials, evaluations and data sets: the pages of their codes."""

from __future__ import annotations

from garrison.core.codes.code import Code

CODES: dict[str, Code] = {
    "ART-ATTACHMENT": Code(
        "an attachment is not what was signed",
        """\
Provenance, bill of materials and evaluation reports are signed statements
bound to the digest of a version. Each has a row in the database, a file
beside the version and an event in the ledger that holds its digest. One of
the three was edited, added or removed; the message names which attachment.

An edited or missing file is written again from the database:

    garrison model pull NAME@VERSION --repair

An edited row is not what was signed: put the newest backup back.
""",
    ),
    "ATT-MANY": Code(
        "a version has no room for another attachment",
        """\
Attachments are never removed, so their number is bounded. Publish a new
version and attach to that one.
""",
    ),
    "ATT-SIZE": Code(
        "an attachment is too large to be signed",
        """\
A statement has to stay under what a verifier reads. Very long file names make
a bill of materials large; shorten them or pack small files together.
""",
    ),
    "ATT-LABEL": Code(
        "that cannot name an attachment",
        """\
The label stands in the name of a file beside the version. Use lower-case
letters, digits and hyphens, a letter first.
""",
    ),
    "BOM-FORMAT": Code(
        "a bill of materials is not written in that format",
        """\
    garrison model bom NAME@VERSION --format cyclonedx
    garrison model bom NAME@VERSION --format cyclonedx-1.7
    garrison model bom NAME@VERSION --format spdx
""",
    ),
    "BOM-OUT": Code(
        "the document cannot be written there",
        """\
--out names a file that does not exist yet, in a directory that you may write
to. Nothing is overwritten.
""",
    ),
    "BOM-SCHEMA": Code(
        "the bill of materials is not valid by its standard",
        """\
`garrison model bom --check` held the document against the published schema of
CycloneDX, or the model of SPDX, and it does not fit. That is a defect: report
it with the document. The version itself is not affected.
""",
    ),
    "BOM-VALIDATOR": Code(
        "nothing is installed that can check a bill of materials",
        """\
The schemas come with the extra `bom`. Without them Garrison does not say that
a document is valid:

    pip install 'garrison[bom]'
""",
    ),
    "PROV-NONE": Code(
        "there is no provenance to judge by",
        """\
Who built a version can only be told from its provenance, and there is none:
beside the files (DIR.provenance.json) or in the registry.

    garrison model pull NAME@VERSION DIR
    garrison model attach NAME@VERSION --lineage lineage.toml
""",
    ),
    "PROV-BUILDER": Code(
        "another builder made this",
        """\
The provenance is validly signed, by or for another builder than the one that
was asked for. A builder's key speaks for its own id only (builders.toml), and
what a publisher declares in a lineage file is not a builder's signature.

    garrison model provenance NAME@VERSION

shows the builders whose provenance is attached.
""",
    ),
    "PROV-SHAPE": Code(
        "that is not SLSA provenance",
        """\
The file is not a DSSE envelope around an in-toto statement with SLSA
provenance v1 or v0.2, signed by one key. Signatures by certificates of a
public log are not read here.
""",
    ),
    "PROV-SUBJECT": Code(
        "the provenance is of other files",
        """\
Provenance names what it is about by digest. None of its digests is a file of
this version: it belongs to another build.
""",
    ),
    "PROV-UNTRUSTED": Code(
        "no builder is trusted here yet",
        """\
The administrator lists the build platforms in builders.toml in the data
directory, each with its id and its public key, or with the identity that a
public log (Sigstore) has recorded for it:

    [[builder]]
    id = "https://ci.example.org/training"
    key = "builders/ci.pem"

    [[builder]]
    id = "https://github.com/acme/m/.github/workflows/b.yml@refs/heads/m"
    sigstore_root = "builders/trusted_root.json"
    identity = "https://github.com/acme/m/.github/workflows/b.yml@refs/heads/m"
    issuer = "https://token.actions.githubusercontent.com"
""",
    ),
    "PROV-BUILDERS": Code(
        "builders.toml is not understood",
        """\
It holds [[builder]] entries with exactly the keys `id` and `key`, or `id`,
`sigstore_root`, `identity` and `issuer`. A file with anything else is refused
as a whole: misspelt, a key would trust nobody and nobody would see it.
docs/provenance.md shows it.
""",
    ),
    "PROV-FILE": Code(
        "the provenance file cannot be read",
        """\
The server reads the file, on its own host. Check the path, that the user who
runs the server may read it, and that it is one envelope.
""",
    ),
    "PROV-LINEAGE": Code(
        "the lineage file is not understood",
        """\
The message names the line. Unknown keys are refused, because a misspelt one
would leave a gap that nobody sees.

    garrison lineage template
""",
    ),
    "PROV-DIGEST": Code(
        "the lineage file names other bytes than lie there",
        """\
Every local path of a lineage file is hashed at publication. The digest that
the file gives is another one, so either the data changed after the file was
written or the file names other data. Nothing was published.
""",
    ),
    "EVAL-TAMPER": Code(
        "an evaluation is not what was signed",
        """\
A score differs between the signed report and the row, the file beside the
version, or the copy that was given. The message names the first score that
differs.

    garrison eval list NAME@VERSION
""",
    ),
    "EVAL-NONE": Code(
        "there is no evaluation to verify",
        """\
    garrison eval attach NAME@VERSION REPORT.json
""",
    ),
    "EVAL-REPORT": Code(
        "that is not a report with scores",
        """\
A report is JSON of at most 4 MiB with at least one number under a name, no
key twice and no NaN. Results of lm-evaluation-harness and of MLflow
evaluation are known by their shape.

    {"metrics": {"accuracy": 0.94}}
""",
    ),
    "DATA-TAMPER": Code(
        "the data is not what was registered",
        """\
Files are missing, were added, changed or changed places, or the row of the
data set in the database is not what was signed. The message names each file;
for tables also the first row that the registered data did not have.

Data that changed for a reason is the next version:

    garrison dataset register PATH --as NAME@NEXT --owner WHO --tier TIER
""",
    ),
    "DATA-UNKNOWN": Code(
        "there is no such data set",
        """\
    garrison dataset list
""",
    ),
    "DATA-TAKEN": Code(
        "a registered data set never changes",
        """\
The name and version are taken by other bytes. Give these the next version.
""",
    ),
    "DATA-SCAN": Code(
        "the data carries something that runs",
        """\
A file of the data set can execute code when it is loaded (a pickle, an array
of objects, an archive with one of them). Nothing was registered. Store the
rows as CSV, JSON lines, Parquet or plain arrays.
""",
    ),
    "DATA-INCOMPLETE": Code(
        "a file of the data set is not understood",
        """\
What cannot be read cannot be judged, and is not let pass. Tables are CSV,
TSV, JSON lines, text, Parquet and Arrow; other files have to satisfy the
scanner. The message names the file and, in a table, the line.
""",
    ),
    "DATA-PATH": Code(
        "the data cannot be read",
        """\
The server reads the data, on its own host. Check the path, and that the user
who runs the server may read it.
""",
    ),
}
