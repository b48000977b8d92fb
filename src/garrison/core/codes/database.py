"""Where records are kept: the pages of the codes of SQLite and PostgreSQL."""

from __future__ import annotations

from garrison.core.codes.code import Code

CODES: dict[str, Code] = {
    "DB-ADDRESS": Code(
        "not the address of a database",
        """\
The setting `database` is written in one of two forms:

    postgresql://USER@HOST:PORT/NAME?sslrootcert=/PATH/ca.pem
    postgresql://USER@/NAME?host=/run/postgresql

The first is spoken over TLS, the second over a Unix socket on this machine.
A password is never part of it: an address stands in settings, in process
lists and in logs. It belongs into a file, see docs/postgresql.md.
""",
    ),
    "DB-TLS": Code(
        "the database would be reached without verified TLS",
        """\
Whoever sits between Garrison and its database could read every record and
change what is written. To a host, only sslmode=verify-full is spoken: the
certificate has to be signed by the authority in sslrootcert and has to name
the host. There is no switch for less. On one machine, use the Unix socket.
""",
    ),
    "DB-EXTRA": Code(
        "the client of PostgreSQL is not installed",
        """\
PostgreSQL is an extra, so that who uses SQLite does not install its client:

    apt-get install libpq5
    pip install 'garrison[postgres]'

libpq comes from the system, not in a wheel: a second OpenSSL in the process
that speaks to the token ends it in the middle of a TLS handshake.
""",
    ),
    "DB-PASSFILE": Code(
        "the file with the database's password cannot be used",
        """\
The file named by database_passfile has lines in PostgreSQL's own form,

    host:port:database:user:password

and belongs to this user alone (chmod 600). A password in the variable
PGPASSWORD is refused: every process of the user can read it.
""",
    ),
    "DB-SERVER": Code(
        "this PostgreSQL does not keep what it is given",
        """\
With fsync or full_page_writes off, a power failure takes records away that
were said to be written. With another encoding than UTF8, texts would come
back changed. PostgreSQL 14 is the oldest that Garrison works with.

Set what the message names in postgresql.conf, or make the database anew with
`createdb -E UTF8 -T template0`, and start again.
""",
    ),
    "DB-TEXT": Code(
        "the character NUL in a text",
        """\
PostgreSQL keeps no text with the character U+0000 in it. Nothing was written.
Leave the character out.
""",
    ),
    "DB-CHANGED": Code(
        "this data directory was begun with another database",
        """\
Its records are in SQLite. With an empty PostgreSQL in its place every version,
user and record would look lost, so that is refused. Records are not moved from
one kind of database to another.

Take the setting away, or begin a new data directory with --data DIR.
""",
    ),
    "DB-OTHER": Code(
        "the database is not this data directory's",
        """\
A data directory and its database know each other by an identity that both
keep. The database that was named belongs to another data directory, holds
tables of another program, or is empty although records were written before.

Name the right database. If it was lost, put its backup back; if it should be
a new one, make an empty database and a new data directory.
""",
    ),
    "DB-RECORD": Code(
        "it is not known which database the data directory has",
        """\
database.json in the data directory names the database and cannot be read.
Put it back from the backup of the data directory.
""",
    ),
}
