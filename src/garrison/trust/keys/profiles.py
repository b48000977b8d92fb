"""What is known of a kind of token, as data: where its module lies, which algorithms it signs with, how it logs in.

A profile limits: an algorithm that is not in it is refused (KEY-MECHANISM) even where a module offers it,
so that a stand-in for development behaves as the HSM will. `tested` says honestly what has been run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from garrison.core.errors import Usage
from garrison.trust.keys.algorithm import Algorithm

_EC_AND_RSA = frozenset({Algorithm.P256, Algorithm.P384, Algorithm.RSA_PSS_3072})


@dataclass(frozen=True, slots=True)
class Profile:
    """`login` is the form of the PIN; `renames` whether a key's label can be set after it was made."""

    name: str
    title: str
    modules: tuple[Path, ...]
    algorithms: frozenset[Algorithm]
    login: str
    renames: bool
    quirks: tuple[str, ...]
    source: str
    tested: str


_ALL = (
    Profile(
        name="softhsm",
        title="SoftHSM 2",
        modules=(
            Path("/usr/lib/softhsm/libsofthsm2.so"),  # Debian, Ubuntu
            Path("/usr/lib64/pkcs11/libsofthsm2.so"),  # Fedora, RHEL
            Path("/usr/lib64/softhsm/libsofthsm2.so"),  # openSUSE
            Path("/usr/local/lib/softhsm/libsofthsm2.so"),
        ),
        algorithms=frozenset(Algorithm),
        login="the user PIN",
        renames=True,
        quirks=("a software token: its keys are files of this machine",),
        source="https://www.softhsm.org/",
        tested="in the test suite",
    ),
    Profile(
        name="aws-cloudhsm",
        title="AWS CloudHSM, client SDK 5",
        modules=(Path("/opt/cloudhsm/lib/libcloudhsm_pkcs11.so"),),
        algorithms=_EC_AND_RSA,
        login="USER:PASSWORD of a crypto user (CU)",
        renames=False,
        quirks=(
            "no EdDSA: the module signs with RSA and ECDSA only",
            "nothing keeps two keys from having one label; Garrison refuses a label that stands twice",
            "no data objects are used in it: the ledger's witness stays in the token of the data directory",
        ),
        source="https://docs.aws.amazon.com/cloudhsm/latest/userguide/pkcs11-library.html",
        tested="not on the hardware: the same code on SoftHSM, the cluster's state on an emulator",
    ),
    Profile(
        name="azure-dedicated-hsm",
        title="Azure Dedicated HSM (Thales Luna 7)",
        modules=(
            Path("/usr/safenet/lunaclient/lib/libCryptoki2_64.so"),
            Path("/usr/lib/libCryptoki2_64.so"),
        ),
        algorithms=_EC_AND_RSA,
        login="the password of the partition's crypto officer",
        renames=False,
        quirks=(
            "EdDSA is not approved in FIPS mode and is not used",
            "the token's label is the name of the partition",
        ),
        source="https://thalesdocs.com/gphsm/luna/7/docs/network/Content/sdk/mechanisms/mechanisms.htm",
        tested="not on the hardware: a second SoftHSM token under this profile",
    ),
    Profile(
        name="opencryptoki",
        title="openCryptoki, soft token",
        modules=(
            Path("/usr/lib/x86_64-linux-gnu/pkcs11/libopencryptoki.so"),  # Debian, Ubuntu
            Path("/usr/lib64/opencryptoki/libopencryptoki.so"),  # Fedora, RHEL
        ),
        algorithms=_EC_AND_RSA,
        login="the user PIN, 4 to 8 characters",
        renames=True,
        quirks=(
            "needs the daemon pkcsslotd and a user in the group pkcs11",
            "the soft token of version 3.8 (Debian 12) has no elliptic curves: RSA alone",
        ),
        source="https://github.com/opencryptoki/opencryptoki",
        tested="in the test suite, where Debian's package is installed",
    ),
    Profile(
        name="generic",
        title="any PKCS#11 v2.40 module",
        modules=(),
        algorithms=frozenset(Algorithm),
        login="the user PIN",
        renames=False,
        quirks=(),
        source="https://docs.oasis-open.org/pkcs11/pkcs11-base/v2.40/os/pkcs11-base-v2.40-os.html",
        tested="by the contract suite on two different implementations",
    ),
)
PROFILES: Mapping[str, Profile] = MappingProxyType({profile.name: profile for profile in _ALL})
SOFTHSM = PROFILES["softhsm"]


def profile(name: str) -> Profile:
    """Raises `Usage` KEY-PROFILE for a name that is none."""
    found = PROFILES.get(name)
    if found is None:
        raise Usage(
            "KEY-PROFILE",
            f"there is no profile {name!a} of a token",
            fix=f"choose one of {', '.join(PROFILES)}; generic is for every other module",
        )
    return found
