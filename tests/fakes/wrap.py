"""Wrapping keys in memory, with the contract of those in a token (`storage.sealing.KeyWrap`)."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from garrison.storage.sealing import Broken


class MemoryWrap:
    def __init__(self) -> None:
        self.keys = {"storage": AESGCM(os.urandom(32))}

    def current(self) -> str:
        return list(self.keys)[-1]

    def rotate(self) -> None:
        self.keys[f"storage-{len(self.keys) + 1}"] = AESGCM(os.urandom(32))

    def wrap(self, label: str, data_key: bytes, context: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + self.keys[label].encrypt(nonce, data_key, context)

    def unwrap(self, label: str, wrapped: bytes, context: bytes) -> bytes:
        try:
            return self.keys[label].decrypt(wrapped[:12], wrapped[12:], context)
        except (InvalidTag, ValueError) as error:
            raise Broken("not wrapped for it") from error
