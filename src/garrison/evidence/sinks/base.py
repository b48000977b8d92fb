"""What takes records elsewhere, and the few facts that all of them need: TLS, secrets, failures."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Protocol

from garrison.core.errors import Refused, Undecided
from garrison.evidence.record import Record
from garrison.evidence.sinks.sink import Sink
from garrison.trust.secret_file import read_secret

SECONDS = 10.0  # one connect, one write, one answer; a receiver that needs longer is tried again


class Wire(Protocol):
    """A way to one receiver. Used by one thread."""

    def send(self, records: Sequence[Record]) -> None:
        """Return once the receiver has said, or shown, that it has all of them.

        Raises `Undecided` SINK-AWAY or SINK-BUSY when it may be tried again, `Refused` SINK-REJECTED when the
        receiver will not have these records, SINK-LOGIN or SINK-KEY when it or the file does not know us.
        """


def context_of(sink: Sink) -> ssl.SSLContext:
    """TLS 1.2 or newer; the certificate is checked against the authority and for the host's name."""
    try:
        context = ssl.create_default_context(cadata=sink.ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if sink.client_file:
            context.load_cert_chain(sink.client_file)
    except OSError as error:
        what = "the client certificate" if sink.client_file else "the authority"
        raise Refused(
            "SINK-KEY",
            f"{what} of the sink {sink.name} cannot be used: {error.strerror or type(error).__name__}",
            fix=f"give usable files to garrison sink add {sink.name}",
        ) from None
    return context


def token_of(sink: Sink) -> str:
    """The token in the sink's file, empty when it has none. Raises `Refused` SINK-KEY, never with the token."""
    if not sink.token_file:
        return ""
    try:
        return read_secret(sink.token_file)
    except ValueError as error:
        raise Refused(
            "SINK-KEY",
            f"the token file {sink.token_file} {error}",
            fix=f"chmod 600 {sink.token_file}, with the token as its only line",
        ) from None


def away(sink: Sink, why: str) -> Undecided:
    """`why` is ours: the words of a receiver are not repeated."""
    return Undecided(
        "SINK-AWAY",
        f"the sink {sink.name} does not take events: {why}",
        fix=f"look at the receiver; garrison sink test {sink.name} tries once and says what happened",
    )


def reason_of(error: BaseException) -> str:
    """What went wrong with a connection, without text that came from the other side."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or 'no common ground'}"
    if isinstance(error, TimeoutError):
        return f"no answer within {SECONDS:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return type(error).__name__
