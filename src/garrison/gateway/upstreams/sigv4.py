"""AWS Signature Version 4 for one request with a JSON body. Pure; the moment is given.

Specified in "Create a signed AWS API request" of the IAM User Guide.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class AwsKey:
    """An access key. `token` belongs to keys that end by themselves."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)


def signed_headers(
    key: AwsKey, *, region: str, service: str, host: str, path: str, body: bytes, now: datetime
) -> dict[str, str]:
    """The headers to add to `POST path` (already escaped once, without a query) with a JSON `body`."""
    moment = now.strftime("%Y%m%dT%H%M%SZ")
    headers = {"content-type": "application/json", "host": host, "x-amz-date": moment}
    if key.token:
        headers["x-amz-security-token"] = key.token
    names = ";".join(sorted(headers))
    canonical = "\n".join(
        (
            "POST",
            quote(path, safe="/~"),  # every part is escaped once more, as for every service but S3
            "",
            *(f"{name}:{headers[name]}" for name in sorted(headers)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    signing = f"AWS4{key.secret_key}".encode()
    for part in scope.split("/"):
        signing = hmac.digest(signing, part.encode(), "sha256")
    signature = hmac.new(signing, f"{ALGORITHM}\n{moment}\n{scope}\n{digest}".encode(), "sha256").hexdigest()
    given = f"Credential={key.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    added = {name: value for name, value in headers.items() if name.startswith("x-amz")}
    return {**added, "authorization": f"{ALGORITHM} {given}"}
