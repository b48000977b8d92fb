"""Reversible tokens: `<EMAIL_1>` goes to the model, the value comes back to who sent it, and to nobody else.

A vault lives as long as one request, in memory. Its values are encrypted under a key of its own and bound to the
principal, so another principal's name opens nothing. Secrets are never put in. `Restorer` is I/O-free: whatever
the cuts, the pieces joined are the whole text restored.
"""

from __future__ import annotations

import hashlib
import re
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAX_TOKENS = 1_000  # of one request; further values are redacted and do not come back
MAX_VALUE = 512  # characters of a value: an address has 120
_NONCE = 12
_NOT_NAME = re.compile(r"[^A-Z0-9]")
TOKEN = re.compile(r"<[A-Z][A-Z0-9_]{0,31}_[0-9]{1,4}>")
_BEGUN = re.compile(r"<(?:[A-Z][A-Z0-9_]{0,36})?\Z")  # the start of a token at the end of a piece


class Vault:
    """The tokens of one request. `taken` is its text, so that no token is given that already stands there."""

    __slots__ = ("_cipher", "_counts", "_key", "_known", "_principal", "_sealed", "_taken")

    def __init__(self, principal: str, taken: str = "") -> None:
        self._principal = principal.encode()
        self._key = secrets.token_bytes(32)
        self._cipher = AESGCM(AESGCM.generate_key(256))
        self._known: dict[bytes, str] = {}  # keyed digest of a value -> its token
        self._sealed: dict[str, bytes] = {}
        self._counts: dict[str, int] = {}
        self._taken = frozenset(TOKEN.findall(taken))

    def __len__(self) -> int:
        return len(self._sealed)

    def __repr__(self) -> str:
        return f"Vault({len(self)} tokens)"

    def token_for(self, kind: str, value: str) -> str | None:
        """The token of a value, the same for the same value; None when there is no room, or for a secret."""
        if not kind.startswith("pii.") or len(value) > MAX_VALUE:
            return None
        data = value.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(kind.encode() + b"\0" + data, key=self._key, digest_size=16).digest()
        token = self._known.get(digest)
        if token is None:
            if len(self._sealed) >= MAX_TOKENS:
                return None
            token = self._known[digest] = self._next(kind)
            nonce = secrets.token_bytes(_NONCE)
            self._sealed[token] = nonce + self._cipher.encrypt(
                nonce, data, self._bound(token, self._principal)
            )
        return token

    def restored(self, token: str, principal: str) -> str:
        """The value behind a token; the token itself when there is none, or for somebody else."""
        sealed = self._sealed.get(token)
        if sealed is None:
            return token
        try:
            data = self._cipher.decrypt(
                sealed[:_NONCE], sealed[_NONCE:], self._bound(token, principal.encode())
            )
        except InvalidTag:
            return token
        return data.decode("utf-8", "surrogatepass")

    def restore(self, text: str, principal: str) -> str:
        """A whole text with its tokens undone. What comes back is not looked at again."""
        if "<" not in text:
            return text
        return TOKEN.sub(lambda match: self.restored(match.group(), principal), text)

    def _next(self, kind: str) -> str:
        name = _NOT_NAME.sub("_", kind.removeprefix("pii.").upper())[:32].strip("_") or "VALUE"
        while True:
            count = self._counts[name] = self._counts.get(name, 0) + 1
            token = f"<{name}_{count}>"
            if token not in self._taken:
                return token

    @staticmethod
    def _bound(token: str, principal: bytes) -> bytes:
        return token.encode() + b"\0" + principal


class Restorer:
    """The tokens of one text that arrives in pieces. Holds back at most the start of a token."""

    __slots__ = ("_held", "_principal", "_vault")

    def __init__(self, vault: Vault, principal: str) -> None:
        self._vault = vault
        self._principal = principal
        self._held = ""

    def feed(self, text: str) -> str:
        text = self._held + text
        begun = _BEGUN.search(text, max(0, text.rfind("<")))
        at = begun.start() if begun else len(text)
        self._held = text[at:]
        return self._vault.restore(text[:at], self._principal)

    def close(self) -> str:
        held, self._held = self._held, ""
        return held
