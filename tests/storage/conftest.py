"""An S3 service on loopback: moto's server, spoken to over HTTP by the real boto3."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.fakes.bucket import Cloud, cloud


@pytest.fixture(scope="session")
def s3() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


@pytest.fixture
def bucket(s3: Cloud) -> str:
    return s3.bucket()
