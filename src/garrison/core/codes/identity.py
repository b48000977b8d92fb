"""Identities, roles, access tokens and policy: the pages of their codes."""

from __future__ import annotations

from garrison.core.codes.code import Code

CODES: dict[str, Code] = {
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
    "ID-RECOVER": Code(
        "the way back in is on the host, and short",
        """\
When no administrator can be reached, whoever owns the data directory (or root)
makes one for a short time, on the machine where the directory lies:

    garrison admin recover dana --for 15m
    garrison --as dana user add erin --role admin

It works by the user of the system alone: a token is refused, whatever its
roles, and so is a time of more than an hour. The role ends by itself. Each
use is an event, stands in the posture for a week, and is among the rules
that are shipped for a SIEM:

    garrison audit list --kind admin.recover
""",
    ),
    "ID-TAKEN": Code(
        "one name, one meaning",
        """\
People, service accounts and groups share one list of names, so that the owner
of a model can never be read as somebody else. That name is taken already.

    garrison user list

shows the names there are.
""",
    ),
    "DB-EDITED": Code(
        "a row was changed behind Garrison's back",
        """\
Identities, roles, owners, revoked tokens and routes are told by the ledger,
and the database only keeps a copy. The row that the message names says
something else than the ledger, so somebody wrote to the database directly.
The row decides nothing; what it tried to allow is refused.

Published versions count too: a version whose row was removed is not forgotten,
its files are kept, and its name never becomes other bytes; a row that nobody
published is no version. For these, put the newest backup of the data directory
back, or publish the same files under the same name and version again.

Find out who can write to the database file. The next start puts the row back
as the ledger tells it, and records that it did:

    garrison audit list --kind system.repair
""",
    ),
    "ROLE-UNKNOWN": Code(
        "not a role",
        """\
The roles are fixed: admin, ci, engineer, publisher, approver, operator,
auditor, user, serving and service. docs/reference/roles lists what each may
do.
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
    "TOK-BOUND": Code(
        "the token is bound to another certificate",
        """\
The access token names the SHA-256 of a client certificate (RFC 8705), and the
connection that it came over showed another one or none. A stolen token is
worth nothing without the key of that certificate.

Send it over mutual TLS with the certificate that it was issued for.
""",
    ),
    "TOK-PROXY": Code(
        "that way of saying who calls is not accepted from here",
        """\
The header X-Garrison-Caller names somebody whom a proxy in front has checked.
It counts when the connection shows the client certificate of a listed proxy
that may name callers, and nothing else in the request says who it is. From
anybody else it is refused, so that a proxy that forgets to strip it is noticed.
A client certificate that a listed proxy passes on has to be exactly one.

`garrison gateway proxies` shows who is listed and what they may say. Calling
directly? Leave the header out and send an access token.
""",
    ),
    "PROXY-SYNTAX": Code(
        "that is not an entry for a proxy",
        """\
A listed proxy has a name, one certificate it is known by (the workload in its
SPIFFE id, or the SHA-256 of one certificate) and, when it may name callers,
the roles and models that these get. `admin` cannot be given this way.

`garrison gateway trust --help` shows whole examples.
""",
    ),
    "CERT-REQUEST": Code(
        "not a signing request",
        """\
A workload makes its own key and sends a signing request (PKCS#10, in PEM) that
this key signed. The key itself never leaves the workload.

    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \\
      -keyout app.key -subj / -out app.csr
    garrison user certificate app --csr app.csr --out app.pem
""",
    ),
    "CERT-WEAK": Code(
        "the key is too weak for a certificate",
        """\
Certificates are issued for EC keys on P-256 or P-384, Ed25519 keys, and RSA
keys of at least 3072 bits.
""",
    ),
    "TOK-EXCHANGE": Code(
        "these tokens make no delegated one",
        """\
An agent acts for somebody by a token made from two: the user's own and the
agent's own. A token that is delegated already is not passed on, one that is
bound to a certificate stays where it is, and nobody acts for themselves.

    garrison token exchange --help
""",
    ),
    "TOK-ISSUER": Code(
        "the token's issuer has been away for too long",
        """\
Keys of other issuers are fetched now and then and go on counting for an hour
while the issuer is away (the setting issuer_stale_seconds). That time is over:
nobody can tell whether a key was withdrawn meanwhile, so its tokens are
answered with 503 until it is reachable again. Tokens of others go on working.

    garrison issuer list
""",
    ),
    "ISS-INVALID": Code(
        "not an issuer that can be trusted",
        """\
An issuer has an https:// address, an audience that its tokens have to be meant
for, and says which roles its subjects get. Roles are given (--role) or
translated from a claim (--grant VALUE=ROLE); a claim is never a role by
itself. Plain http:// is for an issuer on this machine, with --loopback.

    garrison issuer add --help
""",
    ),
    "ISS-TAKEN": Code(
        "another issuer has that name",
        """\
The subjects of an issuer are called NAME|SUBJECT here. Two issuers of one name
could speak for each other's people.

    garrison issuer list
""",
    ),
    "ISS-UNKNOWN": Code(
        "no such issuer",
        """\
    garrison issuer list

shows the issuers by their address, which has to be given byte for byte.
""",
    ),
    "ISS-FETCH": Code(
        "an issuer's keys could not be fetched",
        """\
The issuer's discovery document or its key set could not be had: it did not
answer within 10 seconds, redirected, sent too much, speaks for another issuer,
or keeps its keys on a host that nobody named (--keys-host). Names that lead to
this machine or to its link (where clouds keep their metadata) are not asked.

While an issuer is away its last keys go on counting for a bounded time:

    garrison issuer list
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
    "RBAC-DELEGATE": Code(
        "an agent may not do what its user may not",
        """\
The access token lets an agent act for a user (RFC 8693). What it does has to be
allowed to both of them, and one of them lacks the right. The message says who.

    garrison token exchange --help
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
Every model has a person, or a group of people, who answers for it. This one
has none: nobody was named, the name is not known, or everybody behind it was
disabled. What serves goes on; nothing new is published or deployed.

    garrison owner list
    garrison owner set MODEL PERSON
    garrison owner group TEAM --member PERSON
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
}
