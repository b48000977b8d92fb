"""Is a bill of materials valid by its own standard? Judged by the schemas that ship with the extra `bom`.

CycloneDX by its JSON schema (cyclonedx-python-lib carries the published files); SPDX 3 by the classes that
were generated from its model (spdx-python-model). Without the extra the answer is "could not tell".
"""

from __future__ import annotations

import io
import json
from typing import Any

from garrison.core.errors import Refused, Undecided


def check_bom(document: dict[str, Any], form: str) -> str:
    """The name of what the document was judged by. `form` is `cyclonedx`, `cyclonedx-1.7` or `spdx`.

    Raises `Refused` BOM-SCHEMA for an invalid document, `Undecided` BOM-VALIDATOR without the extra.
    """
    try:
        if form == "spdx":
            return _check_spdx(document)
        return _check_cyclonedx(document)
    except ModuleNotFoundError as error:
        raise Undecided(
            "BOM-VALIDATOR",
            f"there is nothing to check with: {error.name} is not installed",
            fix="pip install 'garrison[bom]'",
        ) from error


def _check_cyclonedx(document: dict[str, Any]) -> str:
    # All three are an extra, for this check alone, and take 0.3 s.
    from cyclonedx.exception import MissingOptionalDependencyException
    from cyclonedx.schema import SchemaVersion  # the same
    from cyclonedx.validation.json import JsonStrictValidator  # the same

    version = {"1.6": SchemaVersion.V1_6, "1.7": SchemaVersion.V1_7}[document["specVersion"]]
    try:
        found = JsonStrictValidator(version).validate_str(json.dumps(document))
    except MissingOptionalDependencyException as error:
        raise Undecided(
            "BOM-VALIDATOR", "there is nothing to check with", fix="pip install 'garrison[bom]'"
        ) from error
    if found is not None:
        raise _invalid(f"CycloneDX {document['specVersion']}", str(getattr(found, "data", found))[:500])
    return f"CycloneDX {document['specVersion']} JSON schema"


def _check_spdx(document: dict[str, Any]) -> str:
    from spdx_python_model import v3_0_1  # an extra, for this check alone: 0.4 s

    graph = v3_0_1.SHACLObjectSet()
    try:
        v3_0_1.JSONLDDeserializer().deserialize_data(document, graph)
        unknown = [each for each in graph.foreach() if type(each) is v3_0_1.SHACLObject]
        missing = graph.link()
        v3_0_1.JSONLDSerializer().write(graph, io.BytesIO())  # complains about what is required and absent
    except (ValueError, TypeError, KeyError) as error:
        raise _invalid("SPDX 3.0.1", str(error)[:500]) from error
    if unknown or missing:
        raise _invalid("SPDX 3.0.1", f"it refers to {len(missing)} elements that are not in it")
    return "SPDX 3.0.1 model"


def _invalid(standard: str, why: str) -> Refused:
    return Refused(
        "BOM-SCHEMA",
        f"the bill of materials is not valid {standard}: {ascii(why)[1:-1]}",
        fix="report it with the document; the publication itself is not affected",
    )
