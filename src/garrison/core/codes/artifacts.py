"""Model files, their versions in the registry and their approvals: the pages of their codes."""

from __future__ import annotations

from garrison.core.codes.code import Code

CODES: dict[str, Code] = {
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
    "SCAN-POLICY": Code(
        "the scan policy is not understood",
        """\
A policy says which rules refuse and whose findings are let pass. A key, tier
or rule that is not known is refused: misspelt, it would change nothing and
nobody would see it. A suppression names one file by its SHA-256, one rule, an
owner, a reason and the last day on which it holds.

docs/scanning.md shows a policy with every key.
""",
    ),
    "SCAN-INDEX": Code(
        "the feature index cannot be used",
        """\
The file given with --index is not one that garrison scan made, is of another
version, or cannot be written. Nothing in it was changed.

Name a file that does not exist yet, in a directory that you may write to:

    garrison scan ./models --index scans.db
""",
    ),
    "SCAN-REPORT": Code(
        "that is not the result of a scan",
        """\
--explain-diff compares two documents of the shape garrison.scan/1, and one of
the two is something else, or cannot be read.

    garrison scan ./models --json > before.json
""",
    ),
    "SCAN-STREAM": Code(
        "standard input could not be scanned",
        """\
The pipe brought nothing, or more than fits the limit, so that nothing can be
said about it. A command in front of the pipe that failed looks like this, too.

    tar -c ./model | garrison scan -
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
        "an old entry of the approved list does not verify",
        """\
Older versions of Garrison kept the approved list in the database, each entry
signed by the release key. They are carried over once. This one is not signed,
or the ledger does not tell of the people who are named in it.

Have the version approved again:

    garrison approve NAME@VERSION
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
    "PATH-DATA": Code(
        "a path into the server's own directory",
        """\
The server opens paths with its own rights. A path that a caller gives may not
lead into the data directory: its keys, objects and lists are no model, report
or credentials, and nothing is written there on request.

Name a place outside of it. `garrison model pull NAME@VERSION DIR` copies a
version out.
""",
    ),
    "PATH-FILE": Code(
        "neither a file nor a directory",
        """\
The path names a pipe, a device or a socket. Reading one could wait for ever, so
only plain files and directories are taken.
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
The bundle may be correct, but nobody can tell from what was given. Read are
OpenSSF Model Signing v1.0 bundles over files or shards, by SHA-256, BLAKE2b
and (pip install 'garrison[fast]') BLAKE3, signed

    by a key           --key PEM
    by a certificate   --ca PEM
    keyless            --sigstore-root FILE --identity NAME --issuer URL

A release statement goes with a bundle over whole files by SHA-256 alone. For
any other kind: verify with the tool that made it, then publish the model here.
""",
    ),
    "ART-CHAIN": Code(
        "the signer's certificate does not count",
        """\
The bundle is signed by certificate, and no path of valid certificates leads
from it to a CA that was named; or it is keyless, and identity, issuer, log
entry or signature do not hold. Certificates are judged today: an expired one
is refused, since nothing proves that the signature is older.

Name the CA with --ca FILE, or have the publisher sign again.
""",
    ),
    "ART-CA": Code(
        "that is nothing to judge certificates by",
        """\
--ca takes a PEM file with the certificate of a CA. A keyless signature takes
three options together: the trusted_root.json of the sigstore instance, who
has to have signed, and who vouched for that identity.

    garrison verify DIR --signature DIR.sig --ca company-ca.pem
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
    "ART-UNCHECKED": Code(
        "a serving model was not verified lately",
        """\
A model is verified each time it is loaded, and is due again after 24 hours. For
this one there is no such record, or it is older.

    garrison verify PATH --as NAME@VERSION
    garrison serve NAME@VERSION      loads it anew, verified
""",
    ),
}
