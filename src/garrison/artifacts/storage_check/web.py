"""A repository, hub or file behind an address: does it answer somebody who shows no credentials?

Three questions, none of which sends a secret: the address itself, its git door (`info/refs`), and the hub's
own word about a repository. An answer that is a page to sign in at is not the model.
"""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from garrison.artifacts.storage_check.report import Found, Report
from garrison.core.errors import Undecided, Usage

SECONDS = 10.0
MAX_REDIRECTS = 5
MAX_BODY_BYTES = 64 * 1024
_SIGN_IN = ("login", "log-in", "signin", "sign_in", "sign-in", "oauth", "authorize", "sso", "saml")
_GIT = "info/refs?service=git-upload-pack"
_FIX = "make it private, or take the files out of it and out of its history; then check again"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    kind: str
    url: str
    body: bytes

    @property
    def is_open(self) -> bool:
        return self.status in (200, 206) and not _is_sign_in(self.url)


def inspect_url(url: str) -> Report:
    """Raises `Usage` STO-URL, and `Undecided` STO-UNREACHABLE when nothing there answers."""
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or parts.password:
        raise Usage(
            "STO-URL",
            "that is not an address to look at",
            fix="write it as https://host/path, without a user or password",
        )
    base = url.rstrip("/")
    repository = base if base.endswith(".git") else f"{base}.git"
    found: list[Found] = []
    for what, asked in (("the address", url), ("git", f"{base}/{_GIT}"), ("git", f"{repository}/{_GIT}")):
        answer = _get(asked)
        if what == "git" and "git-upload-pack" not in answer.kind:
            continue
        if answer.is_open:
            found.append(
                Found(
                    "STO-PUBLIC",
                    f"{what} answers everybody, without credentials",
                    _FIX,
                    f"GET {asked} -> {answer.status} {answer.kind}".rstrip(),
                )
            )
            break
    passed = () if found else ("without-credentials=refused or not there ok",)
    return Report(url, passed, tuple(found))


def _get(url: str) -> _Answer:
    for _ in range(MAX_REDIRECTS + 1):
        answer, location = _once(url)
        if not location:
            return answer
        url = urljoin(url, location)
        if urlsplit(url).scheme not in ("https", "http"):
            return answer
        if _is_sign_in(url):
            return _Answer(401, "", url, b"")
    raise _unreachable(url, "it redirects without end")


def _once(url: str) -> tuple[_Answer, str]:
    parts = urlsplit(url)
    connection = _connection(parts)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("GET", target, headers={"User-Agent": "garrison-store-check", "Accept": "*/*"})
        response = connection.getresponse()
        answer = _Answer(
            response.status,
            (response.getheader("Content-Type") or "").partition(";")[0][:100],
            url,
            response.read(MAX_BODY_BYTES),
        )
        moved = response.status in (301, 302, 303, 307, 308)
        return answer, (response.getheader("Location") or "") if moved else ""
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(url, type(error).__name__) from error
    finally:
        connection.close()


def _connection(parts: SplitResult) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "https":
        return http.client.HTTPSConnection(
            host, parts.port, timeout=SECONDS, context=ssl.create_default_context()
        )
    return http.client.HTTPConnection(host, parts.port, timeout=SECONDS)


def _is_sign_in(url: str) -> bool:
    return any(step in _SIGN_IN for step in urlsplit(url).path.lower().split("/"))


def _unreachable(url: str, why: str) -> Undecided:
    return Undecided(
        "STO-UNREACHABLE",
        f"{urlsplit(url).hostname} did not answer: {why}",
        fix="check the address and the network; what could not be asked is not called private",
    )
