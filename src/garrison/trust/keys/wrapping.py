"""AES-256 keys in a PKCS#11 token that wrap the data keys of stored objects (`storage.sealing.KeyWrap`).

Made in the token, sensitive, never extractable, for encryption and decryption alone. They are numbered:
`storage`, `storage-2`, ...; the highest number wraps new data keys, the others open what they wrapped.
The mechanism is CKM_AES_GCM with a random nonce of 12 bytes in front and the context as additional data.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import pkcs11 as p11
from pkcs11 import GCMParams

from garrison.core.errors import Undecided
from garrison.storage.sealing import Broken
from garrison.trust.keys.pkcs11 import Token

BASE = "storage"
NONCE_BYTES = 12
TAG_BITS = 128
_FLAGS = p11.MechanismFlag.ENCRYPT | p11.MechanismFlag.DECRYPT


class TokenWrap:
    """The wrapping keys of one token."""

    def __init__(self, token: Token) -> None:
        self._token = token
        self._current = ""
        self._lock = threading.Lock()

    def current(self) -> str:
        """The label of the newest key; the first one is made when there is none."""
        with self._lock:
            if not self._current:
                numbers = self._numbers()
                self._current = label_of(max(numbers)) if numbers else self._made(1)
            return self._current

    def rotate(self) -> str:
        """Make the next key; it wraps from now on. Returns its label."""
        with self._lock:
            self._current = self._made(max(self._numbers(), default=0) + 1)
            return self._current

    def labels(self) -> list[str]:
        return [label_of(number) for number in sorted(self._numbers())]

    def destroy(self, label: str) -> None:
        """For a key that nothing is wrapped with any more. The current one is never destroyed."""
        if label == self.current():
            raise ValueError("the current wrapping key is in use")

        def remove(session: p11.Session) -> None:
            for key in _keys(session, label):
                key.destroy()

        self._token.use(remove)

    def wrap(self, label: str, data_key: bytes, context: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)

        def encrypt(session: p11.Session) -> bytes:
            key = self._key(session, label)
            sealed: bytes = key.encrypt(
                data_key,
                mechanism=p11.Mechanism.AES_GCM,
                mechanism_param=GCMParams(nonce, context, TAG_BITS),
            )
            return sealed

        return nonce + self._token.use(encrypt)

    def unwrap(self, label: str, wrapped: bytes, context: bytes) -> bytes:
        def decrypt(session: p11.Session) -> bytes | None:
            key = self._key(session, label)
            try:
                plain: bytes = key.decrypt(
                    wrapped[NONCE_BYTES:],
                    mechanism=p11.Mechanism.AES_GCM,
                    mechanism_param=GCMParams(wrapped[:NONCE_BYTES], context, TAG_BITS),
                )
            except (p11.GeneralError, p11.EncryptedDataInvalid, p11.EncryptedDataLenRange):
                return None  # a tag that does not fit; SoftHSM says CKR_GENERAL_ERROR
            return plain

        opened = self._token.use(decrypt)
        if opened is None:
            raise Broken(f"its data key was not wrapped by {label} for it")
        return opened

    def _numbers(self) -> set[int]:
        def read(session: p11.Session) -> set[int]:
            found = session.get_objects({p11.Attribute.CLASS: p11.ObjectClass.SECRET_KEY})
            return {number for key in found if (number := number_of(str(key[p11.Attribute.LABEL])))}

        return self._token.use(read)

    def _made(self, number: int) -> str:
        label = label_of(number)

        def make(session: p11.Session) -> None:
            session.generate_key(
                p11.KeyType.AES,
                256,
                label=label,
                store=True,
                capabilities=_FLAGS,
                template={
                    p11.Attribute.SENSITIVE: True,
                    p11.Attribute.EXTRACTABLE: False,
                    p11.Attribute.PRIVATE: True,
                },
            )

        self._token.use(make)
        return label

    def _key(self, session: p11.Session, label: str) -> Any:
        found = _keys(session, label)
        if len(found) != 1:
            raise Undecided(
                "KEY-LOST",
                f"the token holds {len(found)} wrapping keys called {label!r}, and stored objects need that one",
                fix="put keys/token back from the backup: without that key no stored object can be read",
            )
        return found[0]


def label_of(number: int) -> str:
    return BASE if number == 1 else f"{BASE}-{number}"


def number_of(label: str) -> int:
    """Its place among the wrapping keys, 0 for another key."""
    if label == BASE:
        return 1
    number = label.removeprefix(f"{BASE}-")
    return int(number) if label.startswith(f"{BASE}-") and number.isdecimal() and len(number) < 10 else 0


def _keys(session: p11.Session, label: str) -> list[Any]:
    return list(
        session.get_objects({p11.Attribute.CLASS: p11.ObjectClass.SECRET_KEY, p11.Attribute.LABEL: label})
    )
