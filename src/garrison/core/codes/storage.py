"""Where model files are kept: the pages of the codes of stores and buckets."""

from __future__ import annotations

from garrison.core.codes.code import Code

CODES: dict[str, Code] = {
    "STO-PUBLIC": Code(
        "everybody can read it",
        """\
A model that everybody can fetch is a model that everybody can study, and a
place that everybody can write to is one whose files cannot be trusted. The
statement, grant or answer that opens it is quoted.

For a bucket: remove that statement or grant and turn on the public access
block. For a repository: make it private, or take the files out of it and
out of its history. Then look again:

    garrison store check s3://BUCKET
""",
    ),
    "STO-WIDE": Code(
        "more is allowed than the work needs",
        """\
A wildcard action such as s3:*, an exception instead of a list (NotAction,
NotResource), another account or a service without a condition: each lets
somebody change policies, encryption or versions of the bucket.

docs/storage.md has the smallest policy that Garrison works with. Replace
the quoted statement by it.
""",
    ),
    "STO-SSE": Code(
        "an object is not encrypted as was asked",
        """\
The service did not say that it keeps the object encrypted with AES-256 or
with the KMS key of the settings. Nothing of it was used.

Turn on the bucket's default encryption, remove the objects that were written
without it, and publish them again.
""",
    ),
    "STO-BLOCK": Code(
        "the public access block is not on",
        """\
Without it one wrong policy or ACL opens the bucket to everybody. All four
settings belong on:

    aws s3api put-public-access-block --bucket BUCKET \\
      --public-access-block-configuration BlockPublicAcls=true,\\
    IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true
""",
    ),
    "STO-VERSIONING": Code(
        "the bucket keeps no versions",
        """\
Who overwrites or deletes an object in such a bucket takes it away for good.
Garrison notices, and could not put it back.

    aws s3api put-bucket-versioning --bucket BUCKET \\
      --versioning-configuration Status=Enabled
""",
    ),
    "STO-LOCK": Code(
        "objects are to be kept, and the bucket does not offer Object Lock",
        """\
The setting s3_retain_days asks that nobody can remove a new object before that
many days, and the service keeps that promise only in a bucket that was made
with Object Lock.

    aws s3api create-bucket --bucket BUCKET --object-lock-enabled-for-bucket
    garrison store check s3://BUCKET      says object-lock=Enabled

Or set s3_retain_days to 0 and do without.
""",
    ),
    "STO-POLICY": Code(
        "a policy is not understood",
        """\
The policy of the bucket or of a role is not one that can be judged: not JSON,
without an effect, or with a part of an unknown kind. What is not understood
may allow anything, so it is not called safe.

Write the statement in the form that the service's reference shows.
""",
    ),
    "STO-CHANGED": Code(
        "the data directory has another store",
        """\
A data directory keeps the store that it was begun with. With another one
every version in it would look lost, and new ones would lie elsewhere.

Take the setting away that the message names, or begin a new data directory.
Encryption can be turned on for what is there:

    garrison store encrypt
""",
    ),
    "STO-TAKEN": Code(
        "the prefix belongs to another data directory",
        """\
Objects that no version has are removed. Two data directories on one prefix
would remove each other's, so each has one of its own.

    garrison up --store s3://BUCKET/ANOTHER-PREFIX
""",
    ),
    "STO-RECORD": Code(
        "it is not known which store this is",
        """\
The file store.json in the data directory says where model files are kept and
whether they are encrypted. It is there and cannot be understood.

Put it back from the backup of the data directory.
""",
    ),
    "STO-URL": Code(
        "that is not the address of a store",
        """\
A store is s3://bucket or s3://bucket/prefix, a directory, or https:// to look
at. An address never holds a user or a password: credentials come from boto3's
own chain (a role, or AWS_PROFILE).
""",
    ),
    "STO-TLS": Code(
        "the way to the store is not encrypted",
        """\
http:// to another machine shows models and requests to everybody between.
Give the endpoint's https:// address. On this machine http:// is allowed.
""",
    ),
    "STO-BUCKET": Code(
        "there is no such bucket",
        """\
Garrison does not make buckets: who may do that may do too much. Create it with
versioning, default encryption and a public access block, then:

    garrison store check s3://BUCKET
""",
    ),
    "STO-DENIED": Code(
        "the credentials do not allow that",
        """\
The service knows the credentials and refuses the operation that the message
names. What could not be looked at is not called safe.

docs/storage.md has the smallest policy for the server and the one for checks.
""",
    ),
    "STO-CREDENTIALS": Code(
        "no credentials for the store",
        """\
boto3 found none in its own chain, or the service does not accept them. Give
the server an instance role, or a profile with AWS_PROFILE. Garrison has no
setting for a key, on purpose.
""",
    ),
    "STO-UNREACHABLE": Code(
        "the store did not answer",
        """\
Nothing half-done is visible. An upload that was cut keeps its parts in the
bucket: repeat the same command, and it goes on where it stopped.
""",
    ),
    "STO-EXTRA": Code(
        "S3 needs one more package",
        """\
The core install has no cloud client. Install the extra:

    pip install 'garrison[aws]'
""",
    ),
    "OBJ-DAMAGED": Code(
        "a stored object was changed",
        """\
Its bytes are not the ones that its name, a SHA-256, says; or it is sealed and
does not open with its own key. Nothing of it was used.

    garrison store verify

names every such object and the versions it belongs to. Publishing the same
files again puts the right bytes in its place.
""",
    ),
}
