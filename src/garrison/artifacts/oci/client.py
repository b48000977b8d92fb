"""One OCI registry over HTTP (distribution-spec 1.1): TLS, credentials from a file, every answer bounded.

Plain HTTP goes to the loopback address only, and only when it was asked for. Credentials are sent to the
registry's own host (or to the token service that it names, over TLS), never after a redirect.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import ipaddress
import json
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlencode, urljoin, urlsplit

from garrison.artifacts.oci.address import Access, Address
from garrison.artifacts.oci.descriptor import INDEX, MANIFEST, MAX_DOCUMENT, Descriptor, is_digest, malformed
from garrison.artifacts.patience import Patience, patience
from garrison.core.errors import Refused, Undecided, Usage

SECONDS = 60.0  # of silence
ANSWER_SECONDS = 300.0  # for a whole answer, for a piece of an upload, for each megabyte of a blob
CHUNK = 8 * 1024 * 1024  # bytes of one upload request; what a cut connection loses
READ = 1 << 20
TRIES = 5  # of one blob, each from where the last one stopped
MAX_REDIRECTS = 3
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}\Z")
_CHALLENGE = re.compile(r'(\w+)="([^"]{0,1024})"')


@dataclass(frozen=True, slots=True)
class Answer:
    """A response whose body was read, up to a bound."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Registry:
    """A session with one repository. Not for several threads."""

    def __init__(self, address: Address, access: Access) -> None:
        if access.plain_http and not _is_loopback(address.host):
            raise Refused(
                "IMG-PLAIN",
                f"{address.host} is not this machine, and --plain-http sends everything unencrypted",
                fix="leave --plain-http out; give the registry's CA with --ca FILE when it has its own",
            )
        self.address = address
        self._access = access
        self._token = access.bearer
        self._context = None if access.plain_http else _context(access.ca)
        self._base = f"{'http' if access.plain_http else 'https'}://{address.origin}"
        self._v2 = f"/v2/{address.repository}"

    def has_blob(self, digest: str) -> bool:
        return self._ask("HEAD", f"{self._v2}/blobs/{digest}", allowed=(200, 404)).status == 200

    def push_blob(self, digest: str, size: int, opened: Callable[[], BinaryIO]) -> bool:
        """Upload in chunks, going on where a cut connection stopped; False when it was there already.

        `opened` begins the bytes anew: an object may be sealed, and then it is read in one direction only.
        """
        if self.has_blob(digest):
            return False
        begun = self._ask("POST", f"{self._v2}/blobs/uploads/", body=b"", allowed=(202,))
        place, sent, tries = self._location(begun), 0, 0
        while sent < size:
            with opened() as source:
                _skip(source, sent)
                try:
                    while sent < size:
                        piece = _piece(source, min(CHUNK, size - sent))
                        place, sent = self._push_piece(place, piece, sent), sent + len(piece)
                except (Refused, Undecided):  # cut, or the registry has another part of it: it says which
                    tries += 1
                    if tries >= TRIES:
                        raise
                    place, sent = self._reached(place, size)
        ending = f"{place}{'&' if '?' in place else '?'}{urlencode({'digest': digest})}"
        self._ask("PUT", ending, body=b"", allowed=(201,))
        return True

    def _reached(self, place: str, size: int) -> tuple[str, int]:
        """Where an upload that was cut goes on; from its beginning when the registry has lost it."""
        try:
            answer = self._ask("GET", place, allowed=(204, 202))
            return self._location(answer), _end_of(answer.headers.get("range", ""), size)
        except (
            Refused
        ):  # Debian's registry binds an upload to the last answer, which was the one that got lost
            begun = self._ask("POST", f"{self._v2}/blobs/uploads/", body=b"", allowed=(202,))
            return self._location(begun), 0

    def _push_piece(self, place: str, piece: bytes, start: int) -> str:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{start}-{start + len(piece) - 1}",
        }
        return self._location(self._ask("PATCH", place, body=piece, headers=headers, allowed=(202,)))

    def push_manifest(self, data: bytes, media_type: str, reference: str) -> None:
        headers = {"Content-Type": media_type}
        self._ask("PUT", f"{self._v2}/manifests/{reference}", body=data, headers=headers, allowed=(201,))

    def manifest(self, reference: str) -> tuple[bytes, Descriptor] | None:
        """A manifest or index with its own digest; None when there is none. Raises `Refused` IMG-TAMPER."""
        headers = {"Accept": f"{MANIFEST}, {INDEX}"}
        answer = self._ask("GET", f"{self._v2}/manifests/{reference}", headers=headers, allowed=(200, 404))
        if answer.status == 404:
            return None
        digest = "sha256:" + hashlib.sha256(answer.body).hexdigest()
        if is_digest(reference) and digest != reference:
            raise tampered(reference, digest, len(answer.body))
        kind = answer.headers.get("content-type", "").partition(";")[0]
        return answer.body, Descriptor(kind, digest, len(answer.body), {})

    def referrers(self, digest: str) -> bytes | None:
        """The index of what refers to a manifest: by the API, else by the tag that stands in for it."""
        headers = {"Accept": INDEX}
        answer = self._ask("GET", f"{self._v2}/referrers/{digest}", headers=headers, allowed=(200, 404))
        if answer.status == 200 and answer.headers.get("content-type", "").startswith(INDEX):
            return answer.body
        found = self.manifest(fallback_tag(digest))
        return None if found is None else found[0]

    def has_referrers_api(self, digest: str) -> bool:
        return self._ask("GET", f"{self._v2}/referrers/{digest}", allowed=(200, 404)).status == 200

    def fetch_blob(self, part: Descriptor, target: BinaryIO) -> None:
        """The bytes of a blob into an empty file, resumed by range, hashed as they come.

        Raises `Refused` IMG-TAMPER when they are others, `Undecided` IMG-REGISTRY when they do not come.
        """
        hasher, done = hashlib.sha256(), 0
        for attempt in range(TRIES):
            try:
                with self._opened_blob(part.digest, done) as (status, stream, waiting):
                    if status == 200 and done:  # the registry knows no ranges: from the start
                        target.seek(0)
                        target.truncate()
                        hasher, done = hashlib.sha256(), 0
                    while done < part.size and (chunk := stream.read(min(READ, part.size - done))):
                        hasher.update(chunk)
                        target.write(chunk)
                        done += len(chunk)
                        waiting.more()
            except (OSError, http.client.HTTPException) as error:
                if attempt == TRIES - 1:
                    raise _silent(self._base, error) from error
            if done == part.size:
                break
        found = "sha256:" + hasher.hexdigest()
        if found != part.digest or done != part.size:
            raise tampered(part.digest, found, done)

    @contextmanager
    def _opened_blob(
        self, digest: str, start: int
    ) -> Iterator[tuple[int, http.client.HTTPResponse, Patience]]:
        url, headers = f"{self._base}{self._v2}/blobs/{digest}", self._authorization()
        if start:
            headers["Range"] = f"bytes={start}-"
        for _hop in range(MAX_REDIRECTS + 1):
            with self._connected(url) as (connection, waiting):
                split = urlsplit(url)
                connection.request(
                    "GET", split.path + (f"?{split.query}" if split.query else ""), headers=headers
                )
                with closing(connection.getresponse()) as response:
                    if response.status in (301, 302, 303, 307, 308):
                        url = self._redirected(url, response.headers.get("Location", ""))
                        headers.pop("Authorization", None)
                        continue
                    is_own = url.startswith(
                        f"{self._base}/"
                    )  # where a redirect leads nobody is given a credential
                    asked = response.headers.get("WWW-Authenticate", "")
                    if response.status == 401 and is_own and self._log_in(asked):
                        headers = {**headers, **self._authorization()}
                        continue
                    if response.status not in (200, 206):
                        raise _refused(self.address, "GET", response.status, b"")
                    waiting.more()
                    yield response.status, response, waiting
                    return
        raise _refused(self.address, "GET", 310, b"too many redirects")

    def _redirected(self, url: str, location: str) -> str:
        try:
            target = urljoin(url, location)
            split = urlsplit(target)
            is_address = split.port is None or split.port > 0
        except ValueError:
            is_address = False
        if not is_address:
            raise _refused(self.address, "GET", 310, b"a redirect to what is no address")
        is_plain = split.scheme == "http" and self._access.plain_http and _is_loopback(split.hostname or "")
        if split.scheme != "https" and not is_plain:
            raise _refused(self.address, "GET", 310, b"a redirect to a place without TLS")
        return target

    def _ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        allowed: tuple[int, ...],
    ) -> Answer:
        answer = self._once(method, path, body, headers or {})
        if answer.status == 401 and self._log_in(answer.headers.get("www-authenticate", "")):
            answer = self._once(method, path, body, headers or {})
        if answer.status not in allowed:
            raise _refused(self.address, method, answer.status, answer.body)
        return answer

    def _once(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        try:
            with self._connected(self._base) as (connection, _):
                connection.request(method, path, body=body, headers={**headers, **self._authorization()})
                with closing(connection.getresponse()) as response:
                    data = b"" if method == "HEAD" else response.read(MAX_DOCUMENT + 1)
                if len(data) > MAX_DOCUMENT:
                    raise malformed(str(self.address), f"an answer is longer than {MAX_DOCUMENT} bytes")
                found = {name.lower(): value for name, value in response.getheaders()}
                return Answer(response.status, found, data)
        except (OSError, http.client.HTTPException) as error:
            raise _silent(self._base, error) from error

    @contextmanager
    def _connected(self, url: str) -> Iterator[tuple[http.client.HTTPConnection, Patience]]:
        """A connection that ends with the patience for it. Raises OSError and HTTPException."""
        connection = self._connection(url)
        try:
            connection.connect()
            with patience(connection.sock, ANSWER_SECONDS) as waiting:
                yield connection, waiting
        finally:
            connection.close()

    def _connection(self, url: str) -> http.client.HTTPConnection:
        split = urlsplit(url)
        host = split.hostname or ""
        if split.scheme == "http":
            return http.client.HTTPConnection(host, split.port or 80, timeout=SECONDS)
        context = self._context or _context(None)
        return http.client.HTTPSConnection(host, split.port or 443, timeout=SECONDS, context=context)

    def _authorization(self) -> dict[str, str]:
        if self._token:
            return {"Authorization": f"Bearer {self._token}"}
        if self._access.basic:
            return {"Authorization": "Basic " + base64.b64encode(self._access.basic.encode()).decode()}
        return {}

    def _log_in(self, challenge: str) -> bool:
        """Follow a bearer challenge once: a token from the service that the registry names, over TLS."""
        facts = dict(_CHALLENGE.findall(challenge))
        try:
            realm = urlsplit(facts.get("realm", ""))
            realm = realm if realm.port is None or realm.port > 0 else urlsplit("")
        except ValueError:
            realm = urlsplit("")
        is_safe = realm.scheme == "https" or (self._access.plain_http and _is_loopback(realm.hostname or ""))
        if not challenge.lower().startswith("bearer") or self._token or not is_safe:
            return False
        query = urlencode({key: facts[key] for key in ("service", "scope") if key in facts})
        try:
            with self._connected(facts["realm"]) as (connection, _):
                connection.request("GET", f"{realm.path}?{query}", headers=self._authorization())
                with closing(connection.getresponse()) as response:
                    value = json.loads(response.read(MAX_DOCUMENT)) if response.status == 200 else {}
            token = str(value.get("token") or value.get("access_token") or "")
        except (OSError, http.client.HTTPException, ValueError, AttributeError, RecursionError) as error:
            raise _silent(facts["realm"], error) from error
        self._token = token if _TOKEN.match(token) else ""
        return bool(self._token)

    def _location(self, answer: Answer) -> str:
        """Where an upload goes on: on the same host, or nowhere."""
        try:
            target = urlsplit(urljoin(self._base, answer.headers.get("location", "")))
        except ValueError:
            target = urlsplit("")
        if f"{target.scheme}://{target.netloc}" != self._base or not target.path.startswith("/"):
            raise _refused(self.address, "PATCH", 310, b"an upload that goes on at another host")
        return target.path + (f"?{target.query}" if target.query else "")


def fallback_tag(digest: str) -> str:
    """The tag under which referrers are listed where the API is not known (distribution-spec 1.1)."""
    return digest.replace(":", "-")


def tampered(expected: str, found: str, size: int) -> Refused:
    return Refused(
        "IMG-TAMPER",
        f"the registry sent other bytes for {expected}: {found}, {size:,} bytes",
        evidence={"blob": expected, "expected": expected, "found": found},
        fix="do not use it; ask who runs the registry, and push the version again from where it was published",
    )


def _skip(source: BinaryIO, count: int) -> None:
    while count and (data := source.read(min(READ, count))):
        count -= len(data)


def _piece(source: BinaryIO, size: int) -> bytes:
    """Exactly so many bytes. Raises `Undecided` IMG-REGISTRY when the source has fewer."""
    parts = []
    while size and (data := source.read(size)):
        parts.append(data)
        size -= len(data)
    if size:
        raise Undecided(
            "IMG-REGISTRY",
            "a file became shorter while it was being sent",
            fix="garrison schedule run verify-at-rest names what changed",
        )
    return b"".join(parts)


def _end_of(reached: str, size: int) -> int:
    """`0-4095` -> 4096: how much of an upload has arrived."""
    match = re.match(r"(?:bytes=)?0-(\d{1,19})\Z", reached)
    return min(int(match[1]) + 1, size) if match and match[1] != "0" else 0


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _context(ca: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
    except OSError as error:
        raise Usage("IMG-AUTH", f"cannot read the CA {ca}", fix="give a PEM file with --ca") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # many registries end at 1.2
    return context


def _silent(where: str, error: Exception) -> Undecided:
    reason = (
        getattr(error, "strerror", None) or getattr(error, "verify_message", None) or type(error).__name__
    )
    return Undecided(
        "IMG-REGISTRY",
        f"{where} did not answer as a registry does: {reason}",
        fix="check the address and its certificate (--ca FILE), then try again: it goes on where it stopped",
    )


def _refused(address: Address, method: str, status: int, body: bytes) -> Refused | Undecided:
    kind = Undecided if status >= 500 or status in (408, 429) else Refused
    said = ""
    try:
        said = str(json.loads(body)["errors"][0]["code"])[:60]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        said = body[:60].decode("ascii", "replace")
    said = said if said.isascii() and said.isprintable() else ""
    return kind(
        "IMG-REGISTRY",
        f"{address} answered {method} with {status} {said}".rstrip(),
        evidence={"status": status},
        fix="401 and 403: give credentials with --auth FILE; 404: check the repository; else try again later",
    )
