"""Sandboxes, model servers and deployments: the pages of their codes."""

from __future__ import annotations

from garrison.core.codes.code import Code

CODES: dict[str, Code] = {
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
    "RUN-DECLARED": Code(
        "a declared server that is not declared as it has to be",
        """\
servers.toml in the data directory declares a command of your own for a model:
a list of words, absolute paths, the directories that hold the program. The
sentence says what is wrong with it. Such commands run in the level bwrap.
""",
    ),
    "RUN-CALL": Code(
        "a model server made a system call that its profile lacks",
        """\
Each kind of server has a list of the system calls that it was seen to make.
The server asked the kernel for another one, which was refused. Either the
model made it do something new, which is what an attack looks like, or a library
of another version calls something that nobody has seen yet.

`garrison runtime filters` shows the profiles. The event names the call.
Nothing has to be done for safety: the call did not happen.
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
    "RUN-GUEST": Code(
        "the guest of a microVM could not be made",
        """\
The level microvm starts a kernel of its own with a file system that Garrison
makes in memory: this Python, the packages that one server imports, and the
program that starts it. Making it failed; the sentence says at what.

Nothing was started, and no weaker level was taken in its place.
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
    "DEP-UNTOLD": Code(
        "the ledger knows nothing of that deployment",
        """\
At a start, what served before is brought back. The database names a version for
this name that the last deployment in the ledger does not name: something other
than Garrison wrote to the database, or the ledger lost its last records.

Find out which, with garrison audit verify and garrison audit list. Then deploy
the version that is meant to serve.
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
    "ROUTE-KEY": Code(
        "the file of a key is not usable",
        """\
A route named a file with the key of its model server. It has to be a plain
file that belongs to the user of the server, that nobody else may read, with
the key as its only line. The key is handed to the broker, a process of its
own, in memory; it is never kept, logged or told to a worker.

chmod 600 FILE, then garrison route add again.
""",
    ),
    "ROUTE-OPTION": Code(
        "the options of a route do not fit together",
        """\
Options of a route are a closed list: kind, model, key file and region of its
server, or several servers in a JSON file; how streams are inspected, what a
value in an answer does, whether images pass. A server of a lower tier than
its route is refused, so that no retry or fallback crosses that boundary.

garrison route add --help shows each; docs/gateway.md has an example of
several servers.
""",
    ),
    "ROUTE-NONE": Code(
        "no route has that name",
        """\
A route is a model that something else serves. `garrison route list` shows them;
a model that Garrison runs is taken out of service by `garrison deploy stop`.
""",
    ),
    "ROUTE-TAKEN": Code(
        "the name belongs to a model in the registry, or to a route",
        """\
A route to a model that something else serves needs a name of its own, so that
nobody mistakes it for a version that Garrison has verified. For the same reason
nothing is published under the name of a route.
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
}
