"""The default software token: SoftHSM 2, made on first use without a PIN in any argument or variable.

A software token keeps keys from being copied by accident, not from the owner of the machine; posture says
so. The token is built in a directory beside its place and renamed into it, so that a killed start leaves
nothing that looks like a token; what it left is swept at the next start.

SoftHSM 2.6 writes `token.object` anew at every login, in place: a process that is killed in that moment
leaves it empty, and with it every key unreadable. So a copy is kept beside the token and put back.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

import pkcs11 as p11

from garrison.core.errors import Undecided
from garrison.trust.keys.pin import pin_refusal
from garrison.trust.keys.pkcs11 import Token, load_module, open_token, unavailable
from garrison.trust.keys.profiles import SOFTHSM

LABEL = "garrison"
MODULES = SOFTHSM.modules

_CONFIGURATION = """\
directories.tokendir = {tokens}
objectstore.backend = file
log.level = ERROR
slots.removable = false
"""


def find_module(candidates: Sequence[Path] = MODULES) -> Path:
    """The installed SoftHSM module. Raises `Undecided` KEY-MODULE naming the package."""
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise Undecided(
        "KEY-MODULE",
        "the PKCS#11 module libsofthsm2.so is not installed",
        fix="apt-get install softhsm2 (Debian, Ubuntu) or dnf install softhsm (Fedora), then start again",
    )


def open_software_token(directory: Path, module: Path | None = None) -> Token:
    """Open the token under `directory` (`<data>/keys/token`), making it on first use.

    Sets SOFTHSM2_CONF in this process, because the module reads its place from there and nowhere else.
    Raises `Undecided` KEY-MODULE, KEY-UNAVAILABLE, KEY-PIN or DISK-FULL; an existing token is never
    initialised again.
    """
    module = module or find_module()
    try:
        if not directory.exists():
            _build(directory, module)
        shutil.rmtree(_unfinished(directory), ignore_errors=True)
        if not (directory / "pin").is_file():
            raise pin_refusal(
                f"the token in {directory} is there but its PIN file is not",
                fix="restore the file `pin` from the backup; without it the keys cannot be used again",
            )
        repaired = _put_back(directory)
        _use(module, _configure(directory, directory), again=bool(repaired))
        token = open_token(module, LABEL, directory / "pin", SOFTHSM)
        token.repaired = repaired
        token.mend = lambda: _put_back(directory)
        _keep_copy(directory)
    except OSError as error:
        raise Undecided(
            "DISK-FULL" if error.errno == errno.ENOSPC else "KEY-UNAVAILABLE",
            f"the token in {directory} could not be set up: {error.strerror}",
            fix="check the disk and the rights of that directory, then start again",
        ) from error
    return token


def _build(directory: Path, module: Path) -> None:
    draft = _unfinished(directory)
    shutil.rmtree(draft, ignore_errors=True)
    (draft / "tokens").mkdir(mode=0o700, parents=True)
    draft.chmod(0o700)
    pin = secrets.token_hex(16)
    _write_private(draft / "pin", pin.encode())
    _use(module, _configure(draft, draft))
    try:
        _initialise(module, pin)
    except p11.PKCS11Error as error:
        raise unavailable(LABEL, error) from error
    _configure(draft, directory)
    _keep_copy(draft)
    _sync(draft)
    draft.rename(directory)
    _sync_one(directory.parent)


def _initialise(module: Path, pin: str) -> None:
    """C_InitToken and C_InitPIN. The security officer's PIN is made up here and forgotten."""
    library = load_module(module)
    officer = secrets.token_hex(16)
    slot = next(slot for slot in library.get_slots() if not _is_initialised(slot))
    _c_init_token(module, slot.slot_id, officer.encode())
    with library.get_token(token_label=LABEL).open(rw=True, so_pin=officer) as session:
        session.init_pin(pin)


def _is_initialised(slot: p11.Slot) -> bool:
    return bool(slot.get_token().flags & p11.TokenFlag.TOKEN_INITIALIZED)


def _c_init_token(module: Path, slot_id: int, officer: bytes) -> None:
    """C_InitToken (PKCS#11 v2.40, 5.5), which the binding does not offer. Same library, same process state."""
    function = ctypes.CDLL(str(module)).C_InitToken
    function.argtypes = [ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
    function.restype = ctypes.c_ulong
    status = function(
        slot_id, officer, len(officer), LABEL.encode().ljust(32)
    )  # label: 32 bytes, blank-padded
    if status != 0:
        raise p11.PKCS11Error(f"C_InitToken returned {status:#x}")


def _put_back(directory: Path) -> tuple[str, ...]:
    """Replace a `token.object` that a killed login left empty or short. Returns what was done."""
    done = []
    for place in (directory / "tokens").glob("*/token.object"):
        kept = _kept(directory, place)
        if kept.is_file() and place.stat().st_size < kept.stat().st_size:
            _write_private(place.with_name("token.object.new"), kept.read_bytes())
            place.with_name("token.object.new").replace(place)
            done.append("the token's own record, cut short when a login was interrupted")
    return tuple(done)


def _keep_copy(directory: Path) -> None:
    """After a good login: what is on the disk now opens with the PIN that is in the file now."""
    for place in (directory / "tokens").glob("*/token.object"):
        record = place.read_bytes()
        if not record:
            continue
        kept = _kept(directory, place)
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        _write_private(kept.with_suffix(".new"), record)
        kept.with_suffix(".new").replace(kept)


def _kept(directory: Path, record: Path) -> Path:
    """One copy for each token: a second one may share the directory."""
    return directory / "kept" / record.parent.name


def _use(module: Path, configuration: Path, *, again: bool = False) -> None:
    """Point the module at `configuration`; it is read when the module is initialised."""
    changed = again or os.environ.get("SOFTHSM2_CONF") != str(configuration)
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    library = load_module(module)
    if changed:
        library.reinitialize()


def _configure(directory: Path, place: Path) -> Path:
    """Write the configuration of a token that will stand at `place`, if it does not say so already."""
    path = directory / "softhsm2.conf"
    text = _CONFIGURATION.format(tokens=(place / "tokens").absolute())
    if not path.exists() or path.read_text() != text:
        _write_private(path, text.encode())
    return path.absolute()


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(descriptor)


def _unfinished(directory: Path) -> Path:
    return directory.with_name(directory.name + ".unfinished")


def _sync(directory: Path) -> None:
    for parent, _, files in os.walk(directory):
        for name in files:
            _sync_one(Path(parent) / name)
        _sync_one(Path(parent))


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
