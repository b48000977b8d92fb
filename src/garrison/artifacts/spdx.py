"""The bill of materials as SPDX 3.0.1 with its AI and Dataset profiles, derived from the signed CycloneDX one. Pure.

Follows the JSON-LD form of https://spdx.github.io/spdx-spec/v3.0.1/. It says what the CycloneDX document says
and nothing more; the signature is over that one.
"""

from __future__ import annotations

from typing import Any

CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
_ALGORITHMS = {"SHA-256": "sha256", "SHA-512": "sha512", "SHA-1": "sha1", "MD5": "md5"}


def spdx(document: dict[str, Any]) -> dict[str, Any]:
    """An SPDX 3.0.1 document with what `mlbom.cyclonedx` made."""
    return _Graph(document).whole()


class _Graph:
    """Elements that refer to one another by id; ids derive from the serial number of the signed document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.model: dict[str, Any] = document["metadata"]["component"]
        self.base = f"https://garrison.dev/spdx/{document['serialNumber'].removeprefix('urn:uuid:')}"
        self.elements: list[dict[str, Any]] = []
        self.relations = 0

    def whole(self) -> dict[str, Any]:
        agent = {
            "type": "SoftwareAgent",
            "spdxId": f"{self.base}#garrison",
            "creationInfo": "_:creation",
            "name": "garrison",
        }
        root = self.package()
        # How far the model's parts are known: files fully, unless the list was cut.
        contained = [self.file(number, one) for number, one in enumerate(self.model["components"], 1)]
        self.relate(root, "contains", contained)
        data, code = [], []
        for number, component in enumerate(self.document["components"], 1):
            if component["type"] == "data":
                data.append(self.dataset(number, component))
            else:
                code.append(self.file(len(contained) + number, component))
        self.relate(root, "trainedOn", data)
        self.relate(root, "dependsOn", code)
        ancestors = self.model.get("pedigree", {}).get("ancestors", [])
        self.relate(
            root, "descendantOf", [self.ancestor(number, one) for number, one in enumerate(ancestors, 1)]
        )
        for number, each in enumerate(self.model.get("licenses", []), 1):
            self.license(root, number, each["license"])
        return {
            "@context": CONTEXT,
            "@graph": [
                {
                    "type": "CreationInfo",
                    "@id": "_:creation",
                    "specVersion": "3.0.1",
                    "created": self.document["metadata"]["timestamp"],
                    "createdBy": [agent["spdxId"]],
                },
                {
                    "type": "SpdxDocument",
                    "spdxId": f"{self.base}#document",
                    "creationInfo": "_:creation",
                    "name": self.model["bom-ref"],
                    "profileConformance": ["core", "software", "simpleLicensing", "ai", "dataset"],
                    "rootElement": [root],
                    "element": [agent["spdxId"], *(element["spdxId"] for element in self.elements)],
                },
                agent,
                *self.elements,
            ],
        }

    def add(self, kind: str, identity: str, **fields: Any) -> str:
        spdx_id = f"{self.base}#{identity}"
        self.elements.append({"type": kind, "spdxId": spdx_id, "creationInfo": "_:creation", **fields})
        return spdx_id

    def package(self) -> str:
        card = self.model["modelCard"]
        parameters = card.get("modelParameters", {})
        fields: dict[str, Any] = {
            "name": self.model["name"],
            "software_packageVersion": self.model["version"],
            "software_primaryPurpose": "model",
            "verifiedUsing": _hashes(self.model),
        }
        if kinds := [
            parameters[key] for key in ("architectureFamily", "modelArchitecture") if key in parameters
        ]:
            fields["ai_typeOfModel"] = kinds
        if "task" in parameters:
            fields["ai_domain"] = [parameters["task"]]
        metrics = card.get("quantitativeAnalysis", {}).get("performanceMetrics", [])
        if metrics:
            fields["ai_metric"] = [
                _entry(f"{row.get('slice', '')} {row['type']}".strip(), row["value"]) for row in metrics
            ]
        properties = [_entry(row["name"], row["value"]) for row in self.model.get("properties", [])]
        if properties:
            fields["ai_hyperparameter"] = properties
        considerations = card.get("considerations", {})
        if limits := considerations.get("technicalLimitations"):
            fields["ai_limitation"] = "\n\n".join(limits)
        if uses := considerations.get("useCases"):
            fields["ai_informationAboutApplication"] = "\n\n".join(uses)
        return self.add("ai_AIPackage", "model", **fields)

    def file(self, number: int, component: dict[str, Any]) -> str:
        fields: dict[str, Any] = {"name": component["name"]}
        if hashes := _hashes(component):
            fields["verifiedUsing"] = hashes
        return self.add("software_File", f"file-{number}", **fields)

    def dataset(self, number: int, component: dict[str, Any]) -> str:
        fields: dict[str, Any] = {"name": component["name"], "dataset_datasetType": ["noAssertion"]}
        if hashes := _hashes(component):
            fields["verifiedUsing"] = hashes
        return self.add("dataset_DatasetPackage", f"data-{number}", **fields)

    def ancestor(self, number: int, component: dict[str, Any]) -> str:
        fields: dict[str, Any] = {"name": component["name"], "software_primaryPurpose": "model"}
        if hashes := _hashes(component):
            fields["verifiedUsing"] = hashes
        return self.add("ai_AIPackage", f"base-{number}", **fields)

    def license(self, root: str, number: int, found: dict[str, str]) -> None:
        if "id" in found:
            one = self.add(
                "simplelicensing_LicenseExpression",
                f"license-{number}",
                simplelicensing_licenseExpression=found["id"],
            )
        else:
            one = self.add(
                "simplelicensing_SimpleLicensingText",
                f"license-{number}",
                simplelicensing_licenseText=found["name"],
            )
        self.relate(root, "hasDeclaredLicense", [one])

    def relate(self, source: str, kind: str, targets: list[str]) -> None:
        if targets:
            self.relations += 1
            fields = {"from": source, "relationshipType": kind, "to": targets}
            self.add("Relationship", f"relation-{self.relations}", **fields)


def _entry(key: str, value: str) -> dict[str, str]:
    return {"type": "DictionaryEntry", "key": key, "value": value}


def _hashes(component: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {"type": "Hash", "algorithm": _ALGORITHMS[row["alg"]], "hashValue": row["content"]}
        for row in component.get("hashes", [])
    ]
