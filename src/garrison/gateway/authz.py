"""The question door: a listed proxy asks whether a request may pass, and passes it on itself (ext_authz).

`/ext_authz` before the path of any door with a body asks for the whole story up to the answer: identity, policy,
limits, inspection of the body. 200 means yes; anything else is the refusal that the client gets. What happens after a
yes is not seen here: the answer is not inspected, what it used is taken to be what was reserved, and the event says so.
Only proxies of the allow-list may ask; for everybody else the path is not there.
"""

from __future__ import annotations

from garrison.core.errors import Refused
from garrison.gateway.admission import Admitted
from garrison.gateway.exchange import Exchange
from garrison.gateway.http_parse import Head, bad
from garrison.gateway.proxies import Proxies
from garrison.gateway.record import Record
from garrison.gateway.replies import id_headers
from garrison.trust.mtls import read_shown

PREFIX = "/ext_authz"
PARTIAL = b"x-envoy-auth-partial-body"


def unwrap(head: Head) -> Head:
    """The request that is asked about. Raises `Usage` HTTP-BODY when the proxy says it sent a part of it."""
    if head.headers.get(PARTIAL, b"false").lower() != b"false":
        raise bad(
            "HTTP-BODY",
            "the proxy sent only the beginning of the body, and what was not seen cannot be inspected",
            fix="set allow_partial_message: false and a larger max_request_bytes in the proxy",
        )
    return head._replace(target=head.target.removeprefix(PREFIX))


def check_asker(certificate: bytes, proxies: Proxies) -> str:
    """The name of the proxy that asks. Raises `Refused` GW-ROUTE for anybody else."""
    proxy = proxies.of(read_shown(certificate)) if certificate and proxies.all else None
    if proxy is None:
        raise Refused("GW-ROUTE", "there is nothing at this path", fix="see docs/gateway.md for the routes")
    return proxy.name


def permit(exchange: Exchange, record: Record, admitted: Admitted) -> None:
    """Say yes. Raises `Refused` DLP-BLOCK for a body that would have to be written anew first."""
    if record.redacted:
        record.redacted = False
        raise Refused(
            "DLP-BLOCK",
            "the request holds a value that has to be replaced, and a proxy that only asks passes it on as it is",
            fix="ask without the value, or let the proxy send such requests through the gateway itself",
            evidence={"rule_id": record.findings[0].rule_id, "param": "messages"},
        )
    if record.spend is not None and record.reservation is not None:
        spend, held = record.spend, record.reservation
        record.prompt_tokens, record.completion_tokens = spend.input, spend.output
        record.reservation = None
        held.settle(spend.input, spend.output, spend.stream_seconds)
    told = b"x-garrison-subject: %b\r\nx-garrison-model: %b\r\n" % (
        record.subject.name.encode("ascii", "replace"),
        admitted.served.encode(),
    )
    exchange.send(200, id_headers(record.request_id) + told, b"")
