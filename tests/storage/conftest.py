"""An S3 service on loopback (moto's server, spoken to over HTTP by the real boto3), and databases of PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.bucket import Cloud, cloud
from tests.fakes.postgres import Cluster

from garrison.storage.database import begin
from garrison.storage.sql import Database


@pytest.fixture(scope="session")
def s3() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


@pytest.fixture
def bucket(s3: Cloud) -> str:
    return s3.bucket()


@pytest.fixture
def name(postgres: Cluster) -> str:
    return postgres.make()


@pytest.fixture
def database(postgres: Cluster, name: str, tmp_path: Path) -> Iterator[Database]:
    opened = begin(tmp_path, postgres.address(name))
    yield opened
    opened.close()
