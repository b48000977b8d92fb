"""Keys in a PKCS#11 token (OASIS PKCS#11 v2.40): made there, used there, never out of there.

One session a token is shared under one lock a module; a lost session is opened again once, a refused PIN
is never tried twice. What a token may be asked to do is limited by its profile (`profiles.py`).
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pkcs11 as p11

from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.trust.keys import objects
from garrison.trust.keys.algorithm import Algorithm, AnyPublicKey, algorithm_of
from garrison.trust.keys.labels import check_label, is_label
from garrison.trust.keys.pin import Pin, pin_file, pin_refusal, read_pin, remember_refusal
from garrison.trust.keys.profiles import PROFILES, Profile
from garrison.trust.keys.public import PublicKey, key_id_of, public_pem

T = TypeVar("T")

MAX_DATA = 4096  # bytes; tokens have little room, and only a checkpoint is kept there
MAX_KEYS = 256  # listed keys; more than that is not a token of ours

_SOFTWARE = ("softhsm", "softtok")  # SoftHSM, openCryptoki's soft token
_LOST = (
    p11.SessionHandleInvalid,
    p11.SessionClosed,
    p11.UserNotLoggedIn,
    p11.ObjectHandleInvalid,
    p11.KeyHandleInvalid,
)

# A module's state is process-wide by specification (C_Initialize), and it was told not to lock for itself.
_LOADING = threading.RLock()
_LOCKS: dict[Path, threading.RLock] = {}


class Token:
    """One token, logged in on first use. Thread-safe."""

    def __init__(
        self,
        module: Path,
        label: str,
        pin: Pin | Path,
        profile: Profile = PROFILES["generic"],
        *,
        may_lock: bool = False,
    ) -> None:
        self.module = module
        self.label = label
        self.profile = profile
        self._pin = pin if isinstance(pin, Pin) else pin_file(pin)
        self._lock = _lock_of(module)
        self._serial: bytes | None = None
        self._session: p11.Session | None = None
        self._private: dict[str, p11.PrivateKey] = {}
        self._refused = False
        self._may_lock = may_lock  # somebody said that the last PIN try may be used up
        self.is_software = False
        self._broken = False  # the module failed in a way that opening another session does not mend
        self.mend: Callable[[], object] = lambda: None  # what to do on disk before the module starts anew
        self.repaired: tuple[str, ...] = ()  # what opening it had to put right, for the start-up's record

    def __repr__(self) -> str:
        return f"Token({self.label!r}, {str(self.module)!r})"

    def create(self, label: str, algorithm: Algorithm = Algorithm.P256) -> TokenKey:
        """Generate a key pair inside the token: sensitive, not extractable, for signing only.

        Raises `Usage` KEY-LABEL for a label that is not short lower-case ASCII, `Refused` KEY-EXISTS when
        there is one already and KEY-MECHANISM when profile or token do not have the algorithm, `Undecided`
        KEY-UNAVAILABLE or KEY-PIN when the token does not answer.
        """
        check_label(label)

        def generate(session: p11.Session) -> None:
            self._refuse_mechanism(algorithm)
            if objects.find(session, p11.ObjectClass.PRIVATE_KEY, label):
                raise Refused(
                    "KEY-EXISTS",
                    f"the token already holds a key called {label!r}",
                    fix="use that key, or choose another label; a key is never overwritten",
                )
            objects.generate(session, label, algorithm, renames=self.profile.renames)

        self.use(generate)
        return self.signer(label)

    def signer(self, label: str) -> TokenKey:
        """The key called `label`. Raises `Refused` KEY-UNKNOWN when there is none, KEY-EXTRACTABLE when it
        could be copied out or was not made in this token, KEY-PUBLIC when it is of no kind that is used,
        KEY-MECHANISM when the profile does not allow its algorithm."""

        def look(session: p11.Session) -> AnyPublicKey:
            public = objects.find(session, p11.ObjectClass.PUBLIC_KEY, label)
            private = self._private_key(session, label)
            if len(public) != 1:
                raise _unknown(label, self.label)
            objects.refuse_copyable(private, label)
            key = objects.read_public(public[0])
            if key is None:
                raise Refused(
                    "KEY-PUBLIC",
                    f"the key {label!r} is of a kind that Garrison does not use",
                    fix="create one of a known kind: garrison key create",
                )
            return key

        key = TokenKey(self, label, self.use(look))
        self._refuse_profile(key.algorithm)
        return key

    def ensure(self, label: str) -> TokenKey:
        """The key called `label`, created when there is none. Raises as `signer` and `create`."""
        try:
            return self.signer(label)
        except Refused as error:
            if error.code != "KEY-UNKNOWN":
                raise
        return self.create(label)

    def list(self) -> tuple[PublicKey, ...]:
        """The public half of every whole key pair of a known kind in the token, sorted by label."""

        def read(session: p11.Session) -> tuple[PublicKey, ...]:
            found = []
            wanted = {p11.Attribute.CLASS: p11.ObjectClass.PUBLIC_KEY}
            for item in list(session.get_objects(wanted))[:MAX_KEYS]:
                label = item[p11.Attribute.LABEL]
                key = objects.read_public(item)
                if key is None or not is_label(label):
                    continue  # another kind of key, or a draft of one
                if not objects.find(session, p11.ObjectClass.PRIVATE_KEY, label):
                    continue  # half made when a process was killed
                found.append(PublicKey(key_id_of(key), label, public_pem(key)))
            return tuple(sorted(found, key=lambda key: key.label))

        return self.use(read)

    def export(self, label: str) -> bytes:
        """Never succeeds: a private key does not leave its token. Raises `Refused` KEY-EXPORT."""
        raise Refused(
            "KEY-EXPORT",
            f"the key {label!r} was created in the token as not extractable, and does not leave it",
            fix="use the public half (garrison key list); to sign elsewhere, create a key in the token there",
        )

    def put_data(self, label: str, data: bytes) -> None:
        """Keep a small value in the token, replacing the one of that label; a crash loses neither.

        Raises `Usage` KEY-DATA above `MAX_DATA` bytes.
        """
        if len(data) > MAX_DATA:
            raise Usage("KEY-DATA", f"{len(data)} bytes do not fit", fix=f"keep at most {MAX_DATA} bytes")
        self.use(lambda session: objects.put_data(session, label, data))

    def get_data(self, label: str) -> bytes | None:
        """The value kept under `label`, or None."""
        return self.use(lambda session: objects.get_data(session, label))

    def close(self) -> None:
        with self._lock:
            session, self._session = self._session, None
            self._private.clear()
            if session is not None:
                try:
                    session.close()
                except p11.PKCS11Error:
                    return  # the session was already gone

    def sign(self, label: str, algorithm: Algorithm, data: bytes) -> bytes:
        """The signature of one key. Raises `Refused` KEY-MECHANISM when the profile does not allow it."""
        self._refuse_profile(algorithm)
        return self.use(lambda session: objects.sign(self._private_key(session, label), algorithm, data))

    def _refuse_profile(self, algorithm: Algorithm) -> None:
        if algorithm not in self.profile.algorithms:
            allowed = ", ".join(sorted(self.profile.algorithms))
            raise Refused(
                "KEY-MECHANISM",
                f"{self.profile.title} does not sign with {algorithm.display} under the profile {self.profile.name}",
                fix=f"choose one of {allowed}: garrison key create NAME --algorithm p256",
                evidence={"profile": self.profile.name, "algorithm": algorithm.value},
            )

    def _refuse_mechanism(self, algorithm: Algorithm) -> None:
        """Before a key is made: profile and token both have to have the algorithm."""
        self._refuse_profile(algorithm)
        needed = objects.MECHANISMS[algorithm]
        offered = self._found().slot.get_mechanisms()
        missing = [m.name for m in (needed.generate, needed.sign) if m not in offered]
        if missing:
            raise Refused(
                "KEY-MECHANISM",
                f"the token {self.label!r} does not offer {' and '.join(f'CKM_{name}' for name in missing)}",
                fix="choose another algorithm: garrison key create NAME --algorithm p256",
                evidence={"algorithm": algorithm.value, "missing": missing},
            )

    def _private_key(self, session: p11.Session, label: str) -> Any:
        if label not in self._private:
            found = objects.find(session, p11.ObjectClass.PRIVATE_KEY, label)
            if len(found) != 1:
                raise _unknown(label, self.label)
            self._private[label] = found[0]
        return self._private[label]

    def use(self, work: Callable[[p11.Session], T]) -> T:
        """Do something in the token's session. Raises `Undecided` KEY-UNAVAILABLE or KEY-PIN."""
        with self._lock:
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
        name = f"{found[0].manufacturer_id} {found[0].model}".lower()
        self.is_software = any(known in name for known in _SOFTWARE)
        return found[0]

    def _log_in(self, token: p11.Token) -> p11.Session:
        if token.flags & p11.TokenFlag.USER_PIN_LOCKED:
            raise pin_refusal(
                f"the token {self.label!r} is locked: too many wrong PINs",
                fix="unlock the token with its own tool, then start again",
            )
        if token.flags & p11.TokenFlag.USER_PIN_FINAL_TRY and not self._may_lock:
            raise pin_refusal(
                f"the token {self.label!r} has one PIN try left; Garrison does not use the last one by itself",
                fix="log in once with the token's own tool, which counts anew; or, when the PIN is certain and the "
                "token may be lost: garrison key add NAME ... --risk-locking-the-token",
            )
        pin = read_pin(self._pin)
        try:
            return token.open(rw=True, user_pin=pin)
        except p11.UserAlreadyLoggedIn:  # login is shared by every session of one process
            return token.open(rw=True)
        except (p11.PinIncorrect, p11.PinLocked, p11.PinExpired, p11.PinInvalid, p11.PinLenRange):
            self._refused = True
            remember_refusal(self._pin)
        raise pin_refusal(f"the token {self.label!r} refused the PIN in {self._pin.path}")


class TokenKey:
    """A `Signer` whose private half stays in the token."""

    __slots__ = ("_public", "_token", "algorithm", "key_id", "label")

    def __init__(self, token: Token, label: str, public: AnyPublicKey) -> None:
        algorithm = algorithm_of(public)
        assert algorithm is not None  # read_public and parse_public refused the others
        self._token = token
        self._public = public
        self.algorithm = algorithm
        self.label = label
        self.key_id = key_id_of(public)

    def public_pem(self) -> bytes:
        return public_pem(self._public)

    def sign(self, data: bytes) -> bytes:
        return self._token.sign(self.label, self.algorithm, data)

    def __repr__(self) -> str:
        return f"TokenKey({self.label!r}, {self.key_id[:16]}…)"


def open_token(
    module: Path, token_label: str, pin: Pin | Path, profile: Profile = PROFILES["generic"]
) -> Token:
    """Find the token and log in once. Raises `Undecided` KEY-MODULE, KEY-UNAVAILABLE or KEY-PIN."""
    token = Token(module, token_label, pin, profile)
    token.list()
    return token


def load_module(module: Path) -> Any:
    """The initialised PKCS#11 module. Raises `Undecided` KEY-MODULE when it is not there or does not load."""
    if not module.is_file():
        raise _no_module(module, "there is no such file")
    with _LOADING:
        try:
            return p11.lib(str(module))
        except (p11.PKCS11Error, RuntimeError, OSError) as error:
            raise _no_module(module, str(error) or type(error).__name__) from error


def refuse_writable(module: Path) -> None:
    """A module is code that runs in the server: nobody else may be able to change it.

    Raises `Refused` KEY-MODULE for a file or directory that others than root and this user can write.
    """
    real = Path(os.path.realpath(module))
    for place in (real, real.parent):
        try:
            status = place.stat()
        except OSError as error:
            raise _no_module(module, error.strerror or "it cannot be looked at") from error
        is_shared = bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) and not (
            stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
        )
        if status.st_uid not in (0, os.geteuid()) or is_shared:
            raise Refused(
                "KEY-MODULE",
                f"{place} can be changed by others than root and this user, and would run inside the server",
                fix=f"chown root {place}; chmod go-w {place}",
            )


def _lock_of(module: Path) -> threading.RLock:
    with _LOADING:
        return _LOCKS.setdefault(Path(os.path.realpath(module)), threading.RLock())


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
