"""Container images, OCI registries and periodic checks: the pages of their codes."""

from __future__ import annotations

from garrison.core.codes.code import Code

CODES: dict[str, Code] = {
    "IMG-TAMPER": Code(
        "a part of the image is not what its digest says",
        """\
A blob of the layout, or what a registry sent for it, has other bytes than the
digest under which it is asked for. The evidence names the blob, the digest
that was expected and the one that was found.

Do not run it. Fetch the image again by the digest that was pinned.
""",
    ),
    "IMG-MISSING": Code(
        "a part of the image is not there",
        """\
A manifest names a configuration, a layer or another manifest that the layout
does not hold. An image of which a part was never looked at is not verified.

Fetch the image again with all its parts (for an image of several machines:
all of them), or pin the manifest of the one machine that is there.
""",
    ),
    "IMG-FORMAT": Code(
        "not an image that has one reading",
        """\
What is accepted is OCI image-spec 1.1 and the Docker manifest v2 types: JSON
without a duplicate key, sha256 digests, sizes that are whole numbers, known
media types, at most 4 levels of indexes, blobs that are regular files, tars
whose names stay inside. Everything else could be read as two images.

Build or convert the image again (for instance with skopeo copy ... oci:DIR).
""",
    ),
    "IMG-FOREIGN": Code(
        "a layer that is fetched from elsewhere",
        """\
A descriptor carries addresses (`urls`) or is of a non-distributable type: its
bytes are not in the image, and whoever runs it would fetch them from there.

Build the image with its layers inside.
""",
    ),
    "IMG-PIN": Code(
        "another image than the one that is meant",
        """\
The layout does not hold the digest that was pinned, or a signature is for
another image than the one it lies beside.

    garrison image inspect oci:DIR

lists the digests that are there.
""",
    ),
    "IMG-UNSIGNED": Code(
        "nothing says that this is the right image",
        """\
Digests inside a layout prove only that it agrees with itself. Somebody
outside of it has to say which image is meant: a pin, or a trusted signature.

    garrison image verify oci:DIR@sha256:...
    garrison image sign oci:DIR --name NAME
""",
    ),
    "IMG-TAG-MOVED": Code(
        "a tag means other bytes than before",
        """\
A tag is a name that anybody with write access to the registry can point at
something else. This one meant another digest when it was last pushed, pulled
or pinned from here.

    garrison image history NAME

shows every meaning it had. Use the digest that was meant; if the move is
intended, say so with --accept-moved.
""",
    ),
    "IMG-PATH": Code(
        "no image layout there",
        """\
Name a directory that holds oci-layout and index.json, or an uncompressed tar
of one: oci:DIR, oci:FILE.tar, oci:DIR:TAG or oci:DIR@sha256:<64 hex>.
A signature is written only into a directory.
""",
    ),
    "IMG-ADDRESS": Code(
        "not an address in a registry",
        """\
An address is oci://HOST[:PORT]/REPOSITORY[:TAG] or
oci://HOST[:PORT]/REPOSITORY@sha256:<64 hex>. User names and passwords never
stand in it: every process of the host can read arguments. Use --auth FILE.
""",
    ),
    "IMG-AUTH": Code(
        "credentials or CA cannot be read",
        """\
--auth names docker's config.json (docker login writes it) or a file that
holds one bearer token; --ca names a PEM file. Credential helpers of docker
are not called.
""",
    ),
    "IMG-PLAIN": Code(
        "plain HTTP to another machine",
        """\
--plain-http is for a registry on the loopback address, in tests. Anything
further away is reached over TLS; give its CA with --ca FILE when the system
does not know it.
""",
    ),
    "IMG-REGISTRY": Code(
        "the registry said no, or nothing",
        """\
The message quotes the status and the registry's own code. 401 and 403 mean
credentials (--auth FILE), 404 a repository or tag that is not there. When it
did not answer (exit status 3) try again: a push sends only what is missing,
and a cut blob goes on where the registry says that it stopped.
""",
    ),
    "ART-REST": Code(
        "a stored version is not what was signed",
        """\
The check at rest hashes every version that is not retired where it lies, and
compares its row, its signatures and its attachments. The evidence names the
versions that do not agree any more, each with its own code.

    garrison audit list --kind artifact.verify --outcome denied
    garrison model pull NAME@VERSION --repair

A model that serves goes on with the bytes that it verified when it loaded.
""",
    ),
    "SCHED-LATE": Code(
        "a periodic job did not run when it should have",
        """\
The server does some work again and again: it refreshes the approved list,
hashes what is stored, compares imports with their sources, looks whether the
store is closed. This job never ran, or is late by more than one interval: no
server was running, another job takes very long, or the clock was moved.

    garrison schedule list
    garrison schedule run JOB

On a new data directory the long jobs run for the first time five minutes after
the start.
""",
    ),
    "SCHED-BUSY": Code(
        "a periodic job is running",
        """\
Periodic jobs run one at a time, so that they leave the machine to those who
ask the models. Try again when the running one has ended:

    garrison schedule list
""",
    ),
}
