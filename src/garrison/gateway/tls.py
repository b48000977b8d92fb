"""The server's TLS context: version 1.3 only, key from an inherited descriptor, HTTP/1.1 by ALPN."""

from __future__ import annotations

import os
import ssl

from garrison.core.errors import Undecided


def server_context(descriptor: int) -> ssl.SSLContext:
    """A context from a memfd that holds the PEM chain and then the key. The descriptor is closed.

    Raises `Undecided` GW-TLS when it holds anything else.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except (ssl.SSLError, OSError) as error:
        raise Undecided(
            "GW-TLS",
            "the gateway worker was not given a usable certificate and key",
            fix="start workers with garrison up, which makes both in memory",
        ) from error
    finally:
        os.close(descriptor)
    return context
