"""Fetch what an issuer publishes about itself: its discovery document, then its key set. Bounded on every axis.

The address was entered by an administrator, and the answers are a stranger's: HTTPS only (plain HTTP on loopback
when that was said), no redirect followed, no proxy, no address of the link or of nobody, the key set on the issuer's
own host or the one that was named, and limits on size and time. Called from a thread of the control process only.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from garrison import __version__
from garrison.core.errors import Undecided
from garrison.trust import strict_json
from garrison.trust.issuers import Issuer
from garrison.trust.jwks import MAX_JWKS, KeySet, parse_jwks

SECONDS = 10.0  # for one document, from the first packet to the last byte
CONNECT_SECONDS = 5.0
MAX_DOCUMENT = 64 * 1024  # bytes; discovery documents are about 3 kB
WELL_KNOWN = "/.well-known/openid-configuration"  # OpenID Connect Discovery 1.0 section 4


def fetch_keys(issuer: Issuer) -> KeySet:
    """The issuer's usable keys. Raises `Undecided` ISS-FETCH for anything short of that."""
    try:
        document = strict_json.loads(
            _get(issuer, issuer.url.rstrip("/") + WELL_KNOWN, MAX_DOCUMENT), MAX_DOCUMENT
        )
        if not isinstance(document, dict) or document.get("issuer") != issuer.url:
            raise _failed(issuer, "its discovery document speaks for another issuer")
        where = document.get("jwks_uri")
        if not isinstance(where, str) or len(where) > 2_048:
            raise _failed(issuer, "its discovery document names no key set")
        keys = parse_jwks(_get(issuer, where, MAX_JWKS), issuer.algorithms)
    except ValueError as error:
        raise _failed(issuer, f"what it sent is not what was asked for ({error})"[:200]) from error
    if not keys.keys:
        why = "; ".join(keys.left_out[:3]) or "the set is empty"
        raise _failed(issuer, f"it publishes no key that can be used: {why}")
    return keys


def _get(issuer: Issuer, address: str, most: int) -> bytes:
    """The body of a 200, at most `most` bytes, within `SECONDS`."""
    url = _checked(issuer, address)
    ends = time.monotonic() + SECONDS
    try:
        raw = _connect(issuer, url)
    except OSError as error:
        raise _failed(issuer, f"{url.hostname} does not answer ({type(error).__name__})") from error
    # A server that sends a byte now and then would never meet a time limit on single reads.
    watchdog = threading.Timer(max(0.1, ends - time.monotonic()), _hang_up, [raw])
    watchdog.daemon = True
    watchdog.start()
    connection = http.client.HTTPConnection(url.netloc, timeout=SECONDS)
    try:
        connection.sock = _secured(issuer, url, raw) if url.scheme == "https" else raw
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        headers = {
            "Accept": "application/json",
            "User-Agent": f"garrison/{__version__}",
            "Connection": "close",
        }
        connection.request("GET", target, headers=headers)
        with connection.getresponse() as response:
            if response.status != 200 or response.getheader("Content-Encoding"):
                raise _failed(
                    issuer, f"{url.hostname} answered {response.status}; redirects are not followed"
                )
            body = response.read(most + 1)
    except (OSError, http.client.HTTPException) as error:
        raise _failed(issuer, f"{url.hostname} broke off ({type(error).__name__})") from error
    finally:
        watchdog.cancel()
        connection.close()
        raw.close()
    if len(body) > most:
        raise _failed(issuer, f"{url.hostname} sent more than {most:,} bytes")
    return body


def _checked(issuer: Issuer, address: str) -> SplitResult:
    """An address that may be asked for. The second one comes from a document, so it is a stranger's wish."""
    url, home = urlsplit(address), urlsplit(issuer.url)
    if (
        not address.isascii()
        or not address.isprintable()
        or url.username
        or " " in address
        or "\\" in address
    ):
        raise _failed(issuer, "the address of its keys is not one")
    if url.scheme != "https" and not (issuer.loopback and url.scheme == "http"):
        raise _failed(issuer, "its keys are not at an https:// address")
    own = (url.hostname, url.port) == (home.hostname, home.port)
    if not own and not (issuer.keys_host and url.hostname == issuer.keys_host and url.port in (None, 443)):
        raise _failed(issuer, f"its keys are at {str(url.hostname)[:100]!a}, which nobody said they may be")
    return url


def _connect(issuer: Issuer, url: SplitResult) -> socket.socket:
    """A connection to an address that was looked at: a name may mean another one a moment later."""
    port = url.port or (443 if url.scheme == "https" else 80)
    found = socket.getaddrinfo(url.hostname, port, type=socket.SOCK_STREAM)
    if any(not _may_be_asked(str(each[4][0]), issuer) for each in found):
        raise _failed(issuer, f"{url.hostname} is an address of this machine or of its link")
    problem: OSError = OSError("no address")
    for family, kind, number, _name, address in found[:4]:
        raw = socket.socket(family, kind, number)
        raw.settimeout(CONNECT_SECONDS)
        try:
            raw.connect(address)
        except OSError as error:
            raw.close()
            problem = error
            continue
        return raw
    raise problem


def _may_be_asked(address: str, issuer: Issuer) -> bool:
    """Private networks hold companies' own providers; the link holds the metadata services of clouds."""
    ip = ip_address(address.partition("%")[0])
    if ip.is_loopback:
        return issuer.loopback
    mapped = getattr(ip, "ipv4_mapped", None)
    return not (ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved or mapped)


def _secured(issuer: Issuer, url: SplitResult, raw: socket.socket) -> ssl.SSLSocket:
    context = ssl.create_default_context(cadata=issuer.ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # public providers; nothing secret is sent to them
    return context.wrap_socket(raw, server_hostname=url.hostname)


def _hang_up(raw: socket.socket) -> None:
    with contextlib.suppress(OSError):
        raw.shutdown(socket.SHUT_RDWR)


def _failed(issuer: Issuer, what: str) -> Undecided:
    return Undecided(
        "ISS-FETCH",
        f"the keys of {issuer.url} could not be fetched: {what}",
        fix="look at the issuer's address with your browser; garrison issuer list shows since when it fails",
        evidence={"issuer": issuer.url},
    )
