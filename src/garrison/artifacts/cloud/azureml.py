"""What an Azure Machine Learning workspace has and serves, over its public REST API: models, blobs, endpoints.

Written from the published shapes of Microsoft.MachineLearningServices (2024-04-01) and the Blob service
(2023-11-03). Credentials are bearer tokens in files; one for each of the two services. Only the two named
origins are asked: what the records say about other places is never followed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit
from xml.etree import ElementTree

from garrison.artifacts.cloud.judge import TAG, CloudModel
from garrison.artifacts.lineage.remote import Remote, not_understood, too_much
from garrison.core.errors import GarrisonError
from garrison.trust.paths import check_path

STORAGE_HEADERS = {"x-ms-version": "2023-11-03"}  # bearer tokens need one from 2017 on
API = {"api-version": "2024-04-01"}
MAX_PAGES = 200
MAX_ROWS = 5_000
MAX_LISTING = 8 << 20
_URI = re.compile(r"azureml://.{0,600}?datastores/([A-Za-z0-9_-]{1,255})/paths/([^?#]{1,1000})\Z")


@dataclass(frozen=True, slots=True)
class Workspace:
    """`/subscriptions/S/resourceGroups/G/providers/Microsoft.MachineLearningServices/workspaces/W`."""

    path: str
    management: Remote
    blobs: Remote


def workspace_path(subscription: str, group: str, name: str) -> str:
    parts = ("subscriptions", subscription, "resourceGroups", group)
    more = ("providers", "Microsoft.MachineLearningServices", "workspaces", name)
    return "/" + "/".join(quote(each, safe="") for each in (*parts, *more))


def inspect(workspace: Workspace, most: int) -> list[CloudModel]:
    """Every version of every model, with where it is deployed. `most` bounds the bytes of one.

    Raises as `Remote`, and `Undecided` LIN-FORMAT for answers of another shape.
    """
    try:
        served = _served(workspace)
        found = []
        for model in _rows(workspace, "/models"):
            for version in _rows(workspace, f"/models/{quote(model['name'], safe='')}/versions"):
                found.append(_model(workspace, model["name"], version, served, most))  # noqa: PERF401 - clearer
        return found
    except (
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
    ) as error:  # other people's JSON may have any shape
        raise not_understood(
            workspace.management.origin, "its answers are not shaped as Azure ML's are"
        ) from error


def _rows(workspace: Workspace, path: str) -> Iterator[dict[str, Any]]:
    """A listing, page by page. The next page is asked from the same origin, whatever its link says."""
    query: Mapping[str, str] = API
    count = 0
    for _ in range(MAX_PAGES):
        answer = workspace.management.get(workspace.path + path, query)
        for row in answer["value"]:
            count += 1
            if count > MAX_ROWS:
                raise too_much(f"{workspace.management.origin} lists more than {MAX_ROWS:,} of {path}")
            yield row
        if not answer.get("nextLink"):
            return
        query = dict(parse_qsl(urlsplit(answer["nextLink"]).query)) | API
    raise too_much(f"{workspace.management.origin} has more than {MAX_PAGES} pages of {path}")


def _served(workspace: Workspace) -> dict[str, list[tuple[str, str, tuple[tuple[str, str], ...]]]]:
    """By the id of a model's version: endpoint, image of its environment, what is weak."""
    found: dict[str, list[tuple[str, str, tuple[tuple[str, str], ...]]]] = {}
    for endpoint in _rows(workspace, "/onlineEndpoints"):
        name, facts = endpoint["name"], endpoint["properties"]
        weak: list[tuple[str, str]] = []
        if facts.get("publicNetworkAccess", "Enabled") != "Disabled":
            weak.append(
                (f"endpoint {name}: it answers on the public network", "set publicNetworkAccess: Disabled")
            )
        if facts.get("authMode") == "Key":
            weak.append((f"endpoint {name}: it takes keys that do not end", "set authMode: AADToken"))
        for deployment in _rows(workspace, f"/onlineEndpoints/{quote(name, safe='')}/deployments"):
            told = deployment["properties"]
            if told.get("egressPublicNetworkAccess", "Enabled") != "Disabled":
                weak.append(
                    (f"deployment {deployment['name']}: it may reach the network", "disable its egress")
                )
            key = _last_two(str(told.get("model") or ""))
            image = _image(workspace, str(told.get("environmentId") or ""))
            found.setdefault(key, []).append((name, image, tuple(weak)))
    return found


def _image(workspace: Workspace, environment: str) -> str:
    """The image of a deployment's environment; a name that is no digest when it cannot be known."""
    name, _, version = _last_two(environment).partition("/")
    if not name or not version:
        return ""
    try:
        path = f"/environments/{quote(name, safe='')}/versions/{quote(version, safe='')}"
        facts = workspace.management.get(workspace.path + path, API)["properties"]
    except GarrisonError as error:
        return f"{name}:{version} ({error.code})"
    return str(facts.get("image") or f"{name}:{version}, built from files there")


def _last_two(identifier: str) -> str:
    """`NAME/VERSION` of `…/models/NAME/versions/VERSION` and of `azureml:NAME:VERSION`."""
    parts = identifier.split("/")
    if len(parts) >= 3 and parts[-2] == "versions":
        return f"{parts[-3]}/{parts[-1]}"
    return identifier.removeprefix("azureml:").replace(":", "/")


def _model(workspace: Workspace, name: str, version: dict[str, Any], served: Any, most: int) -> CloudModel:
    facts = version["properties"]
    uri = str(facts.get("modelUri") or "")
    uses = served.get(f"{name}/{version['name']}", [])
    files, problem = _files(workspace, uri, most)
    return CloudModel(
        name=f"azureml model {name}:{version['name']}",
        location=uri,
        claims=str((facts.get("tags") or {}).get(TAG, "")),
        images=tuple(sorted({image for _, image, _ in uses if image})),
        endpoints=tuple(sorted({endpoint for endpoint, _, _ in uses})),
        files=files,
        problem=problem,
        weak=tuple(one for _, _, weak in uses for one in weak),
    )


def _files(workspace: Workspace, uri: str, most: int) -> tuple[dict[str, str] | None, str]:
    match = _URI.match(uri)
    if match is None:
        return None, "its files are not below a datastore of the workspace"
    try:
        store = workspace.management.get(f"{workspace.path}/datastores/{match[1]}", API)["properties"]
        container, prefix = str(store["containerName"]), match[2].rstrip("/")
        found, left = {}, most
        for blob, size in _blobs(workspace, container, prefix):
            left -= size
            if left < 0:
                return None, "it has more bytes than any version here"
            hasher = hashlib.sha256()
            workspace.blobs.fetch(f"/{quote(container)}/{quote(blob)}", {}, hasher.update, size)
            path = blob.removeprefix(prefix).lstrip("/") or blob.rpartition("/")[2]
            found[check_path(path)] = f"sha256:{hasher.hexdigest()}"
    except GarrisonError as error:
        return None, f"{error.code} {error.what}"
    return (found, "") if found else (None, "there is nothing at its place")


def _blobs(workspace: Workspace, container: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Names and sizes below a prefix (List Blobs)."""
    query = {"restype": "container", "comp": "list", "prefix": prefix}
    for _ in range(MAX_PAGES):
        text = bytearray()
        workspace.blobs.fetch(f"/{quote(container)}", query, text.extend, MAX_LISTING)
        if (
            b"<!DOCTYPE" in text or b"<!ENTITY" in text
        ):  # no listing has one, and what it may expand to is unbounded
            raise not_understood(workspace.blobs.origin, "its listing declares entities")
        try:
            root = ElementTree.fromstring(bytes(text))  # noqa: S314 - without a document type nothing expands
        except ElementTree.ParseError as error:
            raise not_understood(workspace.blobs.origin, "its listing is not XML") from error
        for blob in root.iter("Blob"):
            name = blob.findtext("Name") or ""
            if name == prefix or name.startswith(f"{prefix}/"):
                yield name, int(blob.findtext("Properties/Content-Length") or 0)
        marker = root.findtext("NextMarker") or ""
        if not marker:
            return
        query = {**query, "marker": marker}
    raise too_much(f"{workspace.blobs.origin} has more than {MAX_PAGES} pages of {container}")
