"""Keys in a PKCS#11 token (OASIS PKCS#11 v2.40): made there, used there, never out of there.

Works with any module that offers EC P-256 key generation and CKM_ECDSA. One session is shared under one
lock; a lost session is opened again once, a refused PIN is never tried twice.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pkcs11 as p11
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.trust.keys.pin import pin_refusal, read_pin, remember_refusal
from garrison.trust.keys.public import PublicKey, key_id_of, public_pem

T = TypeVar("T")

MAX_LABEL = 32  # characters; labels become file names and certificate names
MAX_DATA = 4096  # bytes; tokens have little room, and only a checkpoint is kept there
MAX_KEYS = 256  # listed keys; more than that is not a token of ours

_P256 = bytes.fromhex("06082a8648ce3d030107")  # DER of the object identifier prime256v1
_DRAFT = ".unfinished"  # a dot can't stand in a label of ours
_POINT = b"\x04\x41"  # DER OCTET STRING of 65 bytes, as CKA_EC_POINT wraps an uncompressed point

_LOST = (
    p11.SessionHandleInvalid,
    p11.SessionClosed,
    p11.UserNotLoggedIn,
    p11.ObjectHandleInvalid,
    p11.KeyHandleInvalid,
)

# A module's state is process-wide by specification (C_Initialize), and it was told not to lock for itself.
_MODULE_LOCK = threading.RLock()


class Token:
    """One token, logged in on first use. Thread-safe."""

    def __init__(self, module: Path, label: str, pin_file: Path) -> None:
        self.module = module
        self.label = label
        self._pin_file = pin_file
        self._serial: bytes | None = None
        self._session: p11.Session | None = None
        self._private: dict[str, p11.PrivateKey] = {}
        self._refused = False
        self.is_software = False
        self._broken = False  # the module failed in a way that opening another session does not mend
        self.mend: Callable[[], object] = lambda: None  # what to do on disk before the module starts anew
        self.repaired: tuple[str, ...] = ()  # what opening it had to put right, for the start-up's record

    def __repr__(self) -> str:
        return f"Token({self.label!r}, {str(self.module)!r})"

    def create(self, label: str) -> TokenKey:
        """Generate a P-256 key pair inside the token: sensitive, not extractable, for signing only.

        Raises `Usage` KEY-LABEL for a label that is not short lower-case ASCII, `Refused` KEY-EXISTS when
        there is one already, `Undecided` KEY-UNAVAILABLE or KEY-PIN when the token does not answer.
        """
        if (
            not (label.isascii() and label.replace("-", "").isalnum() and label.islower())
            or len(label) > MAX_LABEL
        ):
            raise Usage(
                "KEY-LABEL",
                f"{label!r} cannot name a key",
                fix=f"use lower-case letters, digits and dashes, at most {MAX_LABEL} characters",
            )

        def generate(session: p11.Session) -> None:
            if _find(session, p11.ObjectClass.PRIVATE_KEY, label):
                raise Refused(
                    "KEY-EXISTS",
                    f"the token already holds a key called {label!r}",
                    fix="use that key, or choose another label; a key is never overwritten",
                )
            _generate(session, label)

        self._run(generate)
        return self.signer(label)

    def signer(self, label: str) -> TokenKey:
        """The key called `label`. Raises `Refused` KEY-UNKNOWN when there is none, KEY-EXTRACTABLE when it
        could be copied out or was not made in this token, KEY-PUBLIC when it is not on P-256."""

        def find(session: p11.Session) -> ec.EllipticCurvePublicKey:
            public = _find(session, p11.ObjectClass.PUBLIC_KEY, label)
            private = self._private_key(session, label)
            if len(public) != 1:
                raise _unknown(label, self.label)
            _refuse_copyable(private, label)
            key = _parse_point(public[0][p11.Attribute.EC_POINT])
            if key is None:
                raise Refused(
                    "KEY-PUBLIC",
                    f"the key {label!r} is not on the curve P-256",
                    fix="create a P-256 key: garrison key create",
                )
            return key

        return TokenKey(self, label, self._run(find))

    def ensure(self, label: str) -> TokenKey:
        """The key called `label`, created when there is none. Raises as `signer` and `create`."""
        try:
            return self.signer(label)
        except Refused as error:
            if error.code != "KEY-UNKNOWN":
                raise
        return self.create(label)

    def list(self) -> tuple[PublicKey, ...]:
        """The public half of every P-256 key pair in the token, sorted by label."""

        def read(session: p11.Session) -> tuple[PublicKey, ...]:
            found = []
            for item in list(session.get_objects({p11.Attribute.CLASS: p11.ObjectClass.PUBLIC_KEY}))[
                :MAX_KEYS
            ]:
                label = item[p11.Attribute.LABEL]
                key = _parse_point(item[p11.Attribute.EC_POINT])
                if key is None or not _find(session, p11.ObjectClass.PRIVATE_KEY, label):
                    continue  # another kind of key, or one that was half made when a process was killed
                found.append(PublicKey(key_id_of(key), label, public_pem(key)))
            return tuple(sorted(found, key=lambda key: key.label))

        return self._run(read)

    def export(self, label: str) -> bytes:
        """Never succeeds: a private key does not leave its token. Raises `Refused` KEY-EXPORT."""
        raise Refused(
            "KEY-EXPORT",
            f"the key {label!r} was created in the token as not extractable, and does not leave it",
            fix="use the public half (garrison key list); to sign elsewhere, create a key in the token there",
        )

    def put_data(self, label: str, data: bytes) -> None:
        """Keep a small value in the token, replacing the one of that label.

        The new object is written before old ones are removed and carries a sequence number, so that a crash
        between the two loses nothing. Raises `Usage` KEY-DATA above `MAX_DATA` bytes.
        """
        if len(data) > MAX_DATA:
            raise Usage("KEY-DATA", f"{len(data)} bytes do not fit", fix=f"keep at most {MAX_DATA} bytes")

        def write(session: p11.Session) -> None:
            old = _find(session, p11.ObjectClass.DATA, label)
            last = max((_unpack(item)[0] for item in old), default=0)
            session.create_object(
                {
                    p11.Attribute.CLASS: p11.ObjectClass.DATA,
                    p11.Attribute.TOKEN: True,
                    p11.Attribute.PRIVATE: True,
                    p11.Attribute.LABEL: label,
                    p11.Attribute.VALUE: _pack(last + 1, data),
                }
            )
            for item in old:
                item.destroy()

        self._run(write)

    def get_data(self, label: str) -> bytes | None:
        """The value kept under `label`, or None."""

        def read(session: p11.Session) -> bytes | None:
            kept = [_unpack(item) for item in _find(session, p11.ObjectClass.DATA, label)]
            sequence, data = max(kept, default=(0, b""))
            return data if sequence else None

        return self._run(read)

    def close(self) -> None:
        with _MODULE_LOCK:
            session, self._session = self._session, None
            self._private.clear()
            if session is not None:
                try:
                    session.close()
                except p11.PKCS11Error:
                    return  # the session was already gone

    def sign_digest(self, label: str, digest: bytes) -> bytes:
        """The raw signature r || s (64 bytes) of a SHA-256 digest."""
        signature: bytes = self._run(
            lambda session: self._private_key(session, label).sign(digest, mechanism=p11.Mechanism.ECDSA)
        )
        return signature

    def _private_key(self, session: p11.Session, label: str) -> Any:
        if label not in self._private:
            found = _find(session, p11.ObjectClass.PRIVATE_KEY, label)
            if len(found) != 1:
                raise _unknown(label, self.label)
            self._private[label] = found[0]
        return self._private[label]

    def _run(self, work: Callable[[p11.Session], T]) -> T:
        with _MODULE_LOCK:
            try:
                try:
                    return work(self._opened())
                except _LOST:
                    self.close()
                    return work(self._opened())
            except p11.PKCS11Error as error:
                self.close()
                self._broken = True
                raise unavailable(self.label, error) from error

    def _opened(self) -> p11.Session:
        if self._session is None:
            if self._refused:
                raise pin_refusal(f"the token {self.label!r} refused its PIN; it is not tried again")
            if self._broken:  # a software token stays invalid in memory after a full or read-only disk
                self.mend()
                load_module(self.module).reinitialize()
            token = self._found()
            self._broken = False
            self._session = self._log_in(token)
        return self._session

    def _found(self) -> p11.Token:
        found: list[p11.Token] = list(load_module(self.module).get_tokens(token_label=self.label))
        if self._serial is not None:  # after a lost session: the same token, not one that bears its label
            found = [token for token in found if token.serial == self._serial]
        if len(found) != 1:
            raise Undecided(
                "KEY-UNAVAILABLE",
                f"{len(found)} tokens called {self.label!r} were found through {self.module}, not one",
                fix="check that the token is plugged in and that its label is unique: garrison doctor",
            )
        self._serial = found[0].serial
        self.is_software = "softhsm" in f"{found[0].manufacturer_id} {found[0].model}".lower()
        return found[0]

    def _log_in(self, token: p11.Token) -> p11.Session:
        if token.flags & (p11.TokenFlag.USER_PIN_LOCKED | p11.TokenFlag.USER_PIN_FINAL_TRY):
            raise pin_refusal(
                f"the token {self.label!r} is locked or has one PIN try left; Garrison does not use the last one",
                fix="unlock the token with its own tool, then start again",
            )
        pin = read_pin(self._pin_file)
        try:
            return token.open(rw=True, user_pin=pin)
        except p11.UserAlreadyLoggedIn:  # login is shared by every session of one process
            return token.open(rw=True)
        except (p11.PinIncorrect, p11.PinLocked, p11.PinExpired, p11.PinInvalid, p11.PinLenRange):
            self._refused = True
            remember_refusal(self._pin_file)
        raise pin_refusal(f"the token {self.label!r} refused the PIN in {self._pin_file}")


class TokenKey:
    """A `Signer` whose private half stays in the token."""

    __slots__ = ("_public", "_token", "key_id", "label")

    def __init__(self, token: Token, label: str, public: ec.EllipticCurvePublicKey) -> None:
        self._token = token
        self._public = public
        self.label = label
        self.key_id = key_id_of(public)

    def public_pem(self) -> bytes:
        return public_pem(self._public)

    def sign(self, data: bytes) -> bytes:
        raw = self._token.sign_digest(self.label, hashlib.sha256(data).digest())
        return encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))

    def __repr__(self) -> str:
        return f"TokenKey({self.label!r}, {self.key_id[:16]}…)"


def open_token(module: Path, token_label: str, pin_file: Path) -> Token:
    """Find the token and log in once. Raises `Undecided` KEY-MODULE, KEY-UNAVAILABLE or KEY-PIN."""
    token = Token(module, token_label, pin_file)
    token.list()
    return token


def load_module(module: Path) -> Any:
    """The initialised PKCS#11 module. Raises `Undecided` KEY-MODULE when it is not there or does not load."""
    if not module.is_file():
        raise _no_module(module, "there is no such file")
    with _MODULE_LOCK:
        try:
            return p11.lib(str(module))
        except (p11.PKCS11Error, RuntimeError, OSError) as error:
            raise _no_module(module, str(error) or type(error).__name__) from error


def unavailable(label: str, error: Exception) -> GarrisonError:
    """What a PKCS#11 error becomes. The token's own word for it is its class name; it carries no secret."""
    return Undecided(
        "KEY-UNAVAILABLE",
        f"the token {label!r} did not do what was asked: {type(error).__name__}",
        fix="check that the token is there and try again; nothing was changed (garrison doctor tests it)",
    )


def _no_module(module: Path, reason: str) -> Undecided:
    return Undecided(
        "KEY-MODULE",
        f"the PKCS#11 module {module} could not be loaded: {reason}",
        fix="install it (Debian package softhsm2 for the software token), or name your HSM's module",
    )


def _unknown(label: str, token: str) -> Refused:
    return Refused(
        "KEY-UNKNOWN",
        f"the token {token!r} does not hold exactly one key pair called {label!r}",
        fix="garrison key list shows the keys; garrison key create makes one",
    )


def _find(session: p11.Session, kind: p11.ObjectClass, label: str) -> list[Any]:
    return list(session.get_objects({p11.Attribute.CLASS: kind, p11.Attribute.LABEL: label}))


def _refuse_copyable(private: Any, label: str) -> None:
    wanted = {p11.Attribute.SENSITIVE: True, p11.Attribute.EXTRACTABLE: False, p11.Attribute.LOCAL: True}
    wrong = [attribute.name for attribute, value in wanted.items() if bool(private[attribute]) is not value]
    if wrong:
        raise Refused(
            "KEY-EXTRACTABLE",
            f"the key {label!r} can be copied or came from outside this token ({', '.join(wrong)})",
            fix="create a key inside the token (garrison key create) and sign with that one",
        )


def _parse_point(encoded: bytes) -> ec.EllipticCurvePublicKey | None:
    """CKA_EC_POINT, wrapped or (as some tokens have it) bare. None when it is no point on P-256."""
    point = encoded[2:] if encoded.startswith(_POINT) and len(encoded) == 67 else encoded
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        return None


def _generate(session: p11.Session, label: str) -> None:
    """Make the pair under a draft label and name it when it is whole, the private half last.

    A token writes attributes one after the other; a process that is killed leaves a draft, never a key
    that has its label but not all its properties.
    """
    draft = label + _DRAFT
    for kind in (p11.ObjectClass.PUBLIC_KEY, p11.ObjectClass.PRIVATE_KEY):
        for leftover in _find(session, kind, draft):
            leftover.destroy()
    for orphan in _find(session, p11.ObjectClass.PUBLIC_KEY, label):
        orphan.destroy()
    curve = session.create_domain_parameters(p11.KeyType.EC, {p11.Attribute.EC_PARAMS: _P256}, local=True)
    public, private = curve.generate_keypair(
        store=True,
        label=draft,
        id=hashlib.sha256(label.encode()).digest()[:8],
        mechanism=p11.Mechanism.EC_KEY_PAIR_GEN,
        private_template={
            p11.Attribute.TOKEN: True,
            p11.Attribute.PRIVATE: True,
            p11.Attribute.SENSITIVE: True,
            p11.Attribute.EXTRACTABLE: False,
            p11.Attribute.SIGN: True,
            p11.Attribute.DERIVE: False,
        },
        public_template={p11.Attribute.VERIFY: True},
    )
    public[p11.Attribute.LABEL] = label
    private[p11.Attribute.LABEL] = label


def _pack(sequence: int, data: bytes) -> bytes:
    return sequence.to_bytes(8, "big") + hashlib.sha256(data).digest() + data


def _unpack(item: Any) -> tuple[int, bytes]:
    """(sequence, data) of a kept value; (0, nothing) for one that was half written."""
    value: bytes = item[p11.Attribute.VALUE]
    data = value[40:]
    if value[8:40] != hashlib.sha256(data).digest():
        return 0, b""
    return int.from_bytes(value[:8], "big"), data
