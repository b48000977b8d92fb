"""Receivers of events elsewhere: the pages of their codes."""

from __future__ import annotations

from garrison.core.codes.code import Code

CODES: dict[str, Code] = {
    "SINK-SYNTAX": Code(
        "that is not a receiver of events",
        """\
A sink has a name, an address, and what its kind needs. The message says which
part was not understood. A token or a password never stands in the address: it
lies in a file that only the server's user reads.

    garrison sink add --help         has a whole example of each kind
""",
    ),
    "SINK-UNKNOWN": Code(
        "there is no sink of this name",
        """\
Nothing was changed.

    garrison sink list               shows those there are
""",
    ),
    "SINK-PLAIN": Code(
        "events would leave this machine unprotected",
        """\
Events name people, models and refusals. They go to another machine by TLS
only, with a certificate that is checked. Plain TCP and HTTP are for this
machine, to try things out.

Use tls:// or https://. When the receiver's certificate is from an authority of
your own, give that one:

    garrison sink add siem tls://syslog.example.com:6514 --ca ca.pem
""",
    ),
    "SINK-FILE": Code(
        "that file is not a place for events",
        """\
The server writes events with its own rights, which are larger than those of
whoever asks. It makes a new file, or goes on with one that holds events, and
nothing else.

Name a new file in a directory that is there.
""",
    ),
    "SINK-KEY": Code(
        "a file that the sink needs cannot be used",
        """\
The token lies in a file of one line that only the server's user reads (mode
0600, no link). The client certificate lies in a file with the chain and its
key, in PEM. Both are read each time they are needed, so that they can be
replaced without a restart.

    chmod 600 FILE
    garrison sink test NAME          tries once and says what happened
""",
    ),
    "SINK-AWAY": Code(
        "a receiver does not take events",
        """\
It could not be reached, its certificate is not good, or it did not say in time
that it has everything. Nothing is lost: the events are in the ledger, and
delivery goes on behind the last one that was taken. It is tried again, at last
once a minute.

    garrison sink list               how many events wait, and since when
    garrison sink test NAME          tries once and says what happened

With syslog the receiver has to close the connection when it has read
everything; docs/telemetry.md shows how rsyslog is set up for that.
""",
    ),
    "SINK-LOGIN": Code(
        "a receiver does not know us",
        """\
It answered 401 or 403: the token is wrong, has ended, or may not write there.
Put the right one into the token file; it is read again at the next try.

    garrison sink test NAME          tries once and says what happened
""",
    ),
    "SINK-REJECTED": Code(
        "a receiver will not have an event",
        """\
It was reached and said no: to the form, the index or the size. Delivery stays
before that event, because passing over it silently would be a hole that nobody
sees. After some tries one event is sent at a time, so `sent to` in the list is
the last one before it.

Look at the receiver first. To pass over the event, and have that on record:

    garrison sink seek NAME a-000412 --reason TEXT
""",
    ),
    "SINK-CURSOR": Code(
        "a sink is further than the ledger",
        """\
The last event that the receiver took is not in this ledger: a backup was put
back, or records were lost. What the receiver has and this ledger has not is
evidence; keep it.

    garrison audit verify
    garrison sink seek NAME AUDIT-ID --reason TEXT
""",
    ),
    "AUTH-ALERT": Code(
        "many failed logins in a short time",
        """\
So many requests of one source, with one identity, or of everybody together did
not prove who they are, within minutes, that somebody may be trying tokens. The
alert says how many, for which reasons, and from how many sources. An identity
is named only when a signature proved it: a name that is only claimed is not
counted, so an outsider learns nothing and can blame nobody.

    garrison alerts show ID
    garrison audit list --kind model.invoke --outcome denied
    garrison user disable NAME                when it is one of yours

The settings login_alert_failures and login_alert_minutes say what is many.
""",
    ),
    "SINK-LAG": Code(
        "events wait for a receiver",
        """\
Posture warns when a sink takes nothing, or when the oldest event that waits
for it is older than ten minutes. After an hour it is bad: an attack that is
seen too late is not seen.

    garrison sink list               how many wait, since when, and why
    garrison sink test NAME          tries once and says what happened
""",
    ),
}
