"""The gateway's doors as an OpenAPI 3.0 document with Amazon API Gateway's extensions: import it as a REST API.

Every operation asks the Lambda authorizer first, then goes to the gateway, which checks all of it again. Nothing is
open. Bodies are described by their outline only: what is in them is judged by the gateway.
"""

from __future__ import annotations

from typing import Any

from garrison.app.beside.site import Site
from garrison.gateway.doors import DOORS, MODELS

SECONDS = 300  # as long as the gateway waits for the first byte of a model server; API Gateway allows it when streaming
CACHED_SECONDS = (
    60  # as long as the gateway itself remembers a token; it knows of revocations, the authorizer does not
)
AUTHORIZER = "garrison"
_FUNCTION = (
    "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/"
    "arn:aws:lambda:${AWS::Region}:${AWS::AccountId}:function:garrison-authorizer/invocations"
)
_REFUSALS = {
    "400": "the request is not one that is passed on",
    "401": "no good access token",
    "403": "policy, or what the prompt says, forbids it",
    "404": "no such model",
    "429": "over a limit; Retry-After says when",
    "503": "nothing can be decided now",
}
_STREAMED = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"})


def document(site: Site) -> dict[str, Any]:
    """The document for a gateway (or the proxy before it) that API Gateway reaches at `site.gateway`."""
    paths: dict[str, Any] = {
        path: {"post": _operation(site, path, "post", door.operation.name)} for path, door in DOORS.items()
    }
    paths[MODELS] = {"get": _operation(site, MODELS, "get", "models")}
    one = f"{MODELS}/{{model}}"
    paths[one] = {"get": _operation(site, one, "get", "model")}
    return {
        "openapi": "3.0.1",
        "info": {
            "title": "Garrison",
            "version": "1",
            "description": "Models behind Garrison. Every operation needs an access token.",
        },
        "paths": paths,
        "components": {
            "schemas": {
                "Asked": {
                    "type": "object",
                    "required": ["model"],
                    "properties": {"model": {"type": "string"}},
                },
                "Refusal": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {"error": {"type": "object", "properties": {"code": {"type": "string"}}}},
                },
            },
            "securitySchemes": {AUTHORIZER: _authorizer()},
        },
        "x-amazon-apigateway-request-validators": {
            "whole": {"validateRequestBody": True, "validateRequestParameters": True}
        },
        "x-amazon-apigateway-request-validator": "whole",
        "x-amazon-apigateway-gateway-responses": {
            "UNAUTHORIZED": _said(401, "TOK-MISSING"),
            "ACCESS_DENIED": _said(401, "TOK-INVALID"),
            "AUTHORIZER_FAILURE": _said(503, "TOK-ISSUER"),
            "AUTHORIZER_CONFIGURATION_ERROR": _said(503, "TOK-ISSUER"),
        },
    }


def _operation(site: Site, path: str, method: str, name: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": name,
        "security": [{AUTHORIZER: []}],
        "responses": {
            "200": {"description": "the answer"},
            **{status: _refusal(text) for status, text in _REFUSALS.items()},
        },
        "x-amazon-apigateway-integration": _integration(site, path, method),
    }
    if "{model}" in path:
        model = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
        operation["parameters"] = [model]
    if method == "post":
        asked = {"schema": {"$ref": "#/components/schemas/Asked"}}
        operation["requestBody"] = {"required": True, "content": {"application/json": asked}}
    return operation


def _integration(site: Site, path: str, method: str) -> dict[str, Any]:
    integration: dict[str, Any] = {
        "type": "http_proxy",
        "httpMethod": method.upper(),
        "uri": f"https://{site.gateway}{path}",
        "connectionType": "VPC_LINK",
        "connectionId": "${stageVariables.vpcLink}",
        "passthroughBehavior": "never",
        "timeoutInMillis": 29_000,
    }
    if path in _STREAMED:
        integration |= {"responseTransferMode": "STREAM", "timeoutInMillis": SECONDS * 1_000}
    if "{model}" in path:
        integration["requestParameters"] = {"integration.request.path.model": "method.request.path.model"}
    return integration


def _authorizer() -> dict[str, Any]:
    return {
        "type": "apiKey",
        "name": "Authorization",
        "in": "header",
        "x-amazon-apigateway-authtype": "custom",
        "x-amazon-apigateway-authorizer": {
            "type": "token",
            "authorizerUri": _FUNCTION,
            "identitySource": "method.request.header.Authorization",
            "identityValidationExpression": "^Bearer [A-Za-z0-9_-]+[.][A-Za-z0-9_-]+[.][A-Za-z0-9_-]+$",
            "authorizerResultTtlInSeconds": CACHED_SECONDS,
        },
    }


def _refusal(text: str) -> dict[str, Any]:
    refused = {"schema": {"$ref": "#/components/schemas/Refusal"}}
    return {"description": text, "content": {"application/json": refused}}


def _said(status: int, code: str) -> dict[str, Any]:
    """API Gateway's own refusals in the shape that vendors' clients expect."""
    return {
        "statusCode": status,
        "responseTemplates": {
            "application/json": f'{{"error":{{"code":"{code}","message":$context.error.messageString}}}}'
        },
    }
