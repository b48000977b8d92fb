"""Azure Machine Learning and its Blob storage as far as they are asked: recorded shapes behind TLS, two tokens.

The shapes are those of the published REST reference (Microsoft.MachineLearningServices 2024-04-01, Blob service
2023-11-03). Both answer on one port; they are told apart by their paths.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

WORKSPACE = (
    "/subscriptions/sub-1/resourceGroups/ml/providers/Microsoft.MachineLearningServices/workspaces/prod"
)
URI = "azureml://subscriptions/sub-1/resourceGroups/ml/workspaces/prod/datastores/workspaceblobstore/paths/"


@dataclass
class Azure:
    """What there is: models by name and version, blobs by name, endpoints with their deployment."""

    models: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    deployments: dict[str, dict[str, Any]] = field(default_factory=dict)
    environments: dict[str, str] = field(default_factory=dict)
    is_denied: bool = False
    asked: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def management(self, path: str, query: dict[str, list[str]]) -> dict[str, Any] | None:
        if query.get("api-version") != ["2024-04-01"]:
            return None
        if path == "/models":
            names = sorted({name for name, _ in self.models})
            if "$skip" not in query and len(names) > 1:  # two pages
                link = f"https://elsewhere.example{WORKSPACE}/models?$skip=1&api-version=2024-04-01"
                return {"value": [{"name": names[0], "properties": {}}], "nextLink": link}
            return {"value": [{"name": name, "properties": {}} for name in names["$skip" in query :]]}
        if path.startswith("/models/") and path.endswith("/versions"):
            wanted = path.split("/")[2]
            return {"value": [_named(v, facts) for (name, v), facts in self.models.items() if name == wanted]}
        if path == "/datastores/workspaceblobstore":
            facts = {
                "accountName": "acct",
                "containerName": "azureml-blobstore",
                "datastoreType": "AzureBlob",
            }
            return {"properties": facts}
        if path == "/onlineEndpoints":
            return {"value": [_named(name, facts) for name, facts in self.endpoints.items()]}
        if path.startswith("/onlineEndpoints/"):
            name = path.split("/")[2]
            return {"value": [_named("blue", self.deployments[name])] if name in self.deployments else []}
        image = self.environments.get(path.removeprefix("/environments/"))
        return None if image is None else {"properties": {"image": image}}

    def listing(self, prefix: str) -> bytes:
        rows = "".join(
            f"<Blob><Name>{escape(name)}</Name><Properties><Content-Length>{len(data)}</Content-Length></Properties></Blob>"
            for name, data in sorted(self.blobs.items())
            if name.startswith(prefix)
        )
        whole = f"<EnumerationResults><Blobs>{rows}</Blobs><NextMarker /></EnumerationResults>"
        return b'<?xml version="1.0"?>' + whole.encode()


def _named(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"{WORKSPACE}/x/{name}", "name": name, "properties": properties}


@contextmanager
def azure(chain: bytes, place: Path) -> Iterator[Azure]:
    """Serve until the block ends, with the certificate and key in `chain`."""
    made = Azure()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            path, query = unquote(parts.path), parse_qs(parts.query, keep_blank_values=True)
            made.asked.append(path)
            is_blob = path.startswith("/azureml-blobstore")
            wanted = "Bearer of-storage" if is_blob else "Bearer of-management"
            if self.headers.get("Authorization") not in (wanted, "Bearer of-both"):
                self._send(401, b"{}")
            elif is_blob and (made.is_denied or not self.headers.get("x-ms-version")):
                self._send(403, b"{}")
            elif is_blob and query.get("comp") == ["list"]:
                self._send(200, made.listing(query["prefix"][0]))
            elif is_blob:
                data = made.blobs.get(path.removeprefix("/azureml-blobstore/"))
                self._send(404 if data is None else 200, data or b"")
            else:
                found = made.management(path.removeprefix(WORKSPACE), query)
                self._send(404 if found is None else 200, json.dumps(found or {}).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    (place / "azure.pem").write_bytes(chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "azure.pem")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
