"""Keys, signatures and certificates: the pages of their codes."""

from __future__ import annotations

from garrison.core.codes.code import Code

CODES: dict[str, Code] = {
    "CA-MISMATCH": Code(
        "ca.pem belongs to another key",
        """\
The file ca.pem in the data directory is not the certificate of the CA key in
the token. Clients trust that file, so it is never replaced silently.

If the token was replaced on purpose, move the file away, start again and give
the new one to the clients. If not, find out who changed the file.
""",
    ),
    "CA-TTL": Code(
        "a certificate can't live that long",
        """\
Leaf certificates of the local CA live 30 days at most, because nothing revokes
them sooner. They are renewed at each start.

Ask for less, or leave the lifetime out for 7 days.
""",
    ),
    "CA-NAME": Code(
        "no name for the certificate",
        """\
A server certificate needs at least one DNS name or IP address that clients
use, and a common name of 1 to 64 characters. International names are given in
their ASCII form.

Check the address that the server listens on.
""",
    ),
    "SIG-FORMAT": Code(
        "not a signed document as Garrison reads it",
        """\
The file is not a DSSE envelope in the one form that is accepted: JSON without
repeated keys or unknown fields, one signature, standard base64.

Fetch the file again; it was cut or changed on its way.
""",
    ),
    "SIG-TYPE": Code(
        "a signed document of another kind",
        """\
The signature may be genuine, but the document is of another kind than the one
that belongs here. A statement signed for one purpose serves no other.

Give the right file; two documents have been mixed up.
""",
    ),
    "SIG-INVALID": Code(
        "the signature does not fit the document",
        """\
The document or its signature was changed after signing, or was signed by
another key than it names.

Fetch the signed file again from where it was published.
""",
    ),
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
    "SIGN-OUT": Code(
        "no place for the signatures",
        """\
`garrison sign DIR` writes DIR.sig and DIR.release.json beside the directory.
They can't be written there, or would lie inside the directory, where they
would be files that the signature does not cover.

    garrison sign DIR --as NAME@VERSION --out OTHER/PREFIX
""",
    ),
    "KEY-LOST": Code(
        "a key that was here is gone",
        """\
The data directory has the public half of a key, and the token does not have
the private one: the token was deleted, replaced or damaged. A new key is
never made silently in its place, because nothing that the old one signed
would verify any more and nobody would know why.

Put keys/ back from a backup of this data directory. Without a backup, start
with another --data directory and publish the models again.
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
A key is named with lower-case letters, digits and . _ @ -, at most 64
characters, because the name also becomes a file name.

    garrison key create release-2
""",
    ),
    "KEY-PUBLIC": Code(
        "not a public key of a known kind",
        """\
The file is not readable or is not a PEM public key of a kind that Garrison
uses: EC P-256 or P-384, RSA with 3072 bits, or Ed25519.

Give the .pem file that `garrison key create` wrote under keys/public in the
data directory.
""",
    ),
    "KEY-ID": Code(
        "the public key is another one",
        """\
A public key is named by the SHA-256 of its bytes. The name given here
does not belong to the key given here: the two have been mixed up.

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
or it reported an error. Whatever was being signed is not signed, and nothing
was published.

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
    "KEY-SOFT": Code(
        "signing keys are in a software token",
        """\
The keys are in SoftHSM: not exportable through its interface, but files on this
machine's disk, readable by whoever is root here. That is right for trying out
and for development.

For production use a hardware token or an HSM with a PKCS#11 module, and create
the keys in it. Until then posture keeps this warning.
""",
    ),
    "KEY-REVOKED": Code(
        "the key that signed was revoked",
        """\
The signature is genuine, and its key was revoked: somebody else may have used
it. Only what the ledger had on record before the moment named in the
revocation still counts. Times inside a signed document decide nothing, because
a thief writes any time there.

`garrison key show LABEL` lists the versions, with the way back for each. One
that was on record before that moment is signed again as it is; of one that came
later the publisher's own copy is compared first. Then it is approved again:

    garrison model resign NAME@VERSION
    garrison --as ADMIN model resign NAME@VERSION --from DIR
""",
    ),
    "KEY-ROLLBACK": Code(
        "an older keyring was put back",
        """\
The token knows a newer keyring than the database has. An older one would bring
revoked keys back, so the server does not start with it.

Put garrison.db and the directory keys/ back from the same, newest backup. Where
keys/keyring.json still is the newest keyring, the server finds it by itself.

When the newest keyring is lost for good, nobody can say which keys were revoked
in it. Then, with the server stopped:

    garrison key accept-loss --reason "disk failure, no backup of that day"

The next start revokes every key that could sign releases, keeps what the ledger
has on record of them, and signs with a new key. The event says all of that. If
a key was revoked as compromised in between, revoke it again with its moment:

    garrison key revoke release --reason compromise --since TIME
""",
    ),
    "KEY-KEYRING": Code(
        "the keyring does not hold",
        """\
The keyring lists every key, its role and what was revoked, signed by the root
key. It is missing, was changed, or is signed by another root.

On the server, starting it writes keys/keyring.json again. Elsewhere, get a new
trust file: garrison key trust --out FILE.
""",
    ),
    "KEY-STATE": Code(
        "the key does not sign",
        """\
A retired key only verifies what it signed, a revoked one only what its
revocation keeps, and a key with another role signs something else.

`garrison key list` shows which key is in force.
""",
    ),
    "KEY-ROLE": Code(
        "not a key that this command changes",
        """\
`garrison key rotate` and `garrison key revoke` are for keys that sign releases,
for the one that vouches for the age of the approved list (timestamp), and for
spare keys; an approver's key is revoked, and their next approval makes another.
The keys of the ledger, of access tokens, of snapshots, of the CA and the root
have no successor that verifiers would learn of.

If one of those was stolen, all keys of its token were within reach. Stop the
server, keep the directory as evidence, start anew with another --data
directory, publish and approve the models again from their sources, and send
verifiers elsewhere a new trust file (garrison key trust --out FILE).
""",
    ),
    "KEY-MECHANISM": Code(
        "the token does not sign like that",
        """\
The profile of the token, or the token itself, does not have the algorithm. A
profile limits what is asked of a token even where the module offers more, so
that a stand-in behaves as the HSM will.

Choose another algorithm: garrison key create NAME --algorithm p256.
""",
    ),
    "KEY-ALGORITHM": Code(
        "not an algorithm for keys",
        """\
Keys are p256 (the default), p384, rsa-pss-3072 or ed25519. There is no other,
and nothing is negotiated: the algorithm follows from the key.

    garrison key create NAME --algorithm p384
""",
    ),
    "KEY-PROFILE": Code(
        "no such profile",
        """\
A profile says what is known of a kind of token: softhsm, aws-cloudhsm,
azure-dedicated-hsm, opencryptoki, or generic for every other module.

    garrison key add NAME --profile generic --pkcs11 MODULE --token LABEL
""",
    ),
    "KEY-CLUSTER": Code(
        "the cluster is not ready",
        """\
The AWS CloudHSM cluster is not ACTIVE, has no active module, or its state could
not be read. No key is made in a cluster in such a state.

    aws cloudhsmv2 describe-clusters
""",
    ),
    "KEY-SINCE": Code(
        "not a moment to revoke from",
        """\
`--since` is a moment in the past with a time zone, such as
2026-01-31T09:00:00Z. What the ledger had on record before it is kept.

Leave it out when nobody knows: then nothing that a compromised key signed
counts any more.
""",
    ),
    "KEY-RESIGN": Code(
        "the version is not signed again",
        """\
A version is signed again only when the stored bytes are what the ledger
recorded at its publication. When that was after the moment from which its key
is not believed, the store's word is not enough: somebody else than the
publisher compares it with the publisher's own copy of the files:

    garrison --as ADMIN model resign NAME@VERSION --from DIR

Then a third person approves it. Otherwise publish the right files as the next
version, and retire this one: garrison model retire NAME@VERSION
""",
    ),
}
