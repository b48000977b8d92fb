"""Licence names as model cards write them, and their SPDX identifiers. What is not here stays a plain name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# fmt: off - a list, read by lines
_IDS = (
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-3-Clause-Clear",
    "ISC",
    "Zlib",
    "Unlicense",
    "WTFPL",
    "MPL-2.0",
    "EPL-1.0",
    "EPL-2.0",
    "EUPL-1.1",
    "EUPL-1.2",
    "OSL-3.0",
    "AFL-3.0",
    "ECL-2.0",
    "NCSA",
    "PostgreSQL",
    "BSL-1.0",
    "Artistic-2.0",
    "CC0-1.0",
    "CC-BY-2.0",
    "CC-BY-2.5",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "CC-BY-NC-2.0",
    "CC-BY-NC-3.0",
    "CC-BY-NC-4.0",
    "CC-BY-ND-4.0",
    "CC-BY-NC-ND-3.0",
    "CC-BY-NC-ND-4.0",
    "CC-BY-NC-SA-2.0",
    "CC-BY-NC-SA-3.0",
    "CC-BY-NC-SA-4.0",
    "ODbL-1.0",
    "ODC-By-1.0",
    "PDDL-1.0",
    "CDLA-Permissive-1.0",
    "CDLA-Permissive-2.0",
    "CDLA-Sharing-1.0",
    "LPPL-1.3c",
    "OFL-1.1",
    "GFDL-1.3-only",
    "GPL-2.0-only",
    "GPL-3.0-only",
    "AGPL-3.0-only",
    "LGPL-2.1-only",
    "LGPL-3.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0-or-later",
    "AGPL-3.0-or-later",
    "LGPL-2.1-or-later",
    "LGPL-3.0-or-later",
)
# fmt: on

SPDX_IDS: Mapping[str, str] = MappingProxyType(
    {identifier.lower(): identifier for identifier in _IDS}
    | {"odbl": "ODbL-1.0", "pddl": "PDDL-1.0", "odc-by": "ODC-By-1.0"}
)


def spdx_id(name: str) -> str:
    """The SPDX identifier of a licence; empty when the name is not one."""
    return SPDX_IDS.get(name.strip().lower(), "")
