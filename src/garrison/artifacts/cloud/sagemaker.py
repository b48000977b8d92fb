"""What Amazon SageMaker has and serves, by boto3: models, their artifacts in S3, images, endpoints.

Credentials come from boto3's own chain. What they may not read is a finding of its own, never a model less.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from botocore import exceptions as aws

from garrison.artifacts.cloud.archive import Unreadable, files_in
from garrison.artifacts.cloud.judge import TAG, CloudModel
from garrison.core.errors import GarrisonError, Undecided
from garrison.storage import s3
from garrison.storage.s3 import Place

MAX_MODELS = 5_000
MAX_ENDPOINTS = 5_000


def inspect(endpoint: str, most: int) -> list[CloudModel]:
    """Every model with where it serves. `endpoint` is empty for AWS; `most` bounds what an artifact unpacks to.

    Raises `Undecided` CLD-UNREADABLE when the service cannot be asked, and STO-* for the address.
    """
    place = s3.parse("s3://sagemaker", endpoint=endpoint)
    client, objects = s3.client(place, "sagemaker"), s3.client(place)
    try:
        served = _served(client)
        names = list(_pages(client, "list_models", "Models", "ModelName", MAX_MODELS))
        return [_model(client, objects, endpoint, name, served, most) for name in names]
    except (aws.ClientError, aws.BotoCoreError) as error:
        raise Undecided(
            "CLD-UNREADABLE",
            f"SageMaker cannot be asked: {_why(error)}",
            fix="give boto3 credentials that may list and describe models and endpoints, and a region",
        ) from error


def _pages(client: Any, method: str, key: str, name: str, most: int) -> Iterator[str]:
    more: dict[str, str] = {}
    count = 0
    while True:
        answer = getattr(client, method)(**more)
        for row in answer.get(key, []):
            count += 1
            if count > most:
                raise Undecided(
                    "CLD-UNREADABLE",
                    f"the service lists more than {most:,} of {key}",
                    fix="check one account and region at a time",
                )
            yield str(row[name])
        if not answer.get("NextToken"):
            return
        more = {"NextToken": answer["NextToken"]}


def _served(client: Any) -> dict[str, list[tuple[str, tuple[tuple[str, str], ...]]]]:
    """By model: the endpoints that serve it, each with what is weak in its configuration."""
    found: dict[str, list[tuple[str, tuple[tuple[str, str], ...]]]] = {}
    for name in _pages(client, "list_endpoints", "Endpoints", "EndpointName", MAX_ENDPOINTS):
        endpoint = client.describe_endpoint(EndpointName=name)
        config = client.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
        weak: list[tuple[str, str]] = []
        if not config.get("KmsKeyId"):
            weak.append((f"endpoint {name}: its volume is not encrypted with a key of yours", "set KmsKeyId"))
        capture = config.get("DataCaptureConfig", {})
        if capture.get("EnableCapture") and not capture.get("KmsKeyId"):
            weak.append(
                (f"endpoint {name}: prompts and answers are captured without a key", "set its KmsKeyId")
            )
        for variant in config.get("ProductionVariants", []):
            found.setdefault(variant["ModelName"], []).append((name, tuple(weak)))
    return found


def _model(client: Any, objects: Any, endpoint: str, name: str, served: Any, most: int) -> CloudModel:
    told = client.describe_model(ModelName=name)
    tags = {
        tag["Key"]: tag["Value"] for tag in client.list_tags(ResourceArn=told["ModelArn"]).get("Tags", [])
    }
    containers = told.get("Containers") or [told.get("PrimaryContainer") or {}]
    location = next((found for each in containers if (found := _location(each))), "")
    files, problem = _files(objects, endpoint, location, most)
    weak = [one for _, each in served.get(name, []) for one in each]
    if not told.get("EnableNetworkIsolation"):
        weak.append(("its containers may reach the network", "set EnableNetworkIsolation"))
    if not told.get("VpcConfig"):
        weak.append(("it runs outside of a VPC of yours", "set VpcConfig"))
    return CloudModel(
        name=f"sagemaker model {name}",
        location=location,
        claims=str(tags.get(TAG, "")),
        images=tuple(str(each["Image"]) for each in containers if each.get("Image")),
        endpoints=tuple(sorted({place for place, _ in served.get(name, [])})),
        files=files,
        problem=problem,
        weak=tuple(weak),
    )


def _location(container: Any) -> str:
    source = (container.get("ModelDataSource") or {}).get("S3DataSource") or {}
    return str(container.get("ModelDataUrl") or source.get("S3Uri") or "")


def _files(objects: Any, endpoint: str, location: str, most: int) -> tuple[dict[str, str] | None, str]:
    """One tar.gz, or every object below a prefix."""
    try:
        if not location:
            return None, "it names no artifact"
        place = s3.parse(location, endpoint=endpoint)
        if location.endswith(".tar.gz"):
            parent, _, name = place.prefix.rpartition("/")
            with s3.opening(
                Place(place.bucket, parent, endpoint), name, objects, any_encryption=True
            ) as stream:
                return files_in(stream, most), ""
        listed = s3.listing(place, objects)
        if sum(one.size for one in listed) > most or not listed:
            return None, "there is nothing below it, or more than any version here has"
        found = {}
        for one in listed:
            with s3.opening(place, one.path, objects, any_encryption=True) as stream:
                found[one.path] = _digest(stream)
        return found, ""
    except Unreadable as error:
        return None, str(error)
    except GarrisonError as error:
        return None, f"{error.code} {error.what}"


def _digest(stream: Any) -> str:
    hasher = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        hasher.update(chunk)
    return f"sha256:{hasher.hexdigest()}"


def _why(error: Exception) -> str:
    """The service's code, without its words: they might quote a credential."""
    if isinstance(error, aws.ClientError):
        return str(error.response.get("Error", {}).get("Code", "refused"))[:80]
    return type(error).__name__
