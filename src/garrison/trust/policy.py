"""The one place where decisions are made: may this subject do this action on this resource?

Policies are written in Cedar (cedarpolicy.com). Only a clean Allow allows: no decision, an error in any
policy, a fact of the wrong type or a request that the schema does not know all deny and say so.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import cedarpy

from garrison.core.actions import Action
from garrison.core.decision import Decision, Request
from garrison.core.digest import canonical_json, sha256_bytes
from garrison.core.errors import Usage
from garrison.trust.roles import MODEL_SCOPED, ROLES, roles_that_may

MAX_TEXT = 256 * 1024  # characters of policy or schema; ours are below 10,000
MAX_REMEMBERED = 8_192  # decisions kept; about 8 MB, and one costs 100 times more to compute than to look up
MAX_RESOURCE = 512  # characters; a longer resource is not a name


class Policy:
    """A set of Cedar policies with its schema, parsed once. `version` changes with any byte of either.

    Raises `Usage` POL-INVALID when the text does not parse, does not fit the schema, is a template, or has
    a forbid without an `@id` to name in the refusal. `is_validated` says that its signer compared it with the schema.
    """

    def __init__(self, cedar_text: str, schema_text: str, *, is_validated: bool = False) -> None:
        self.cedar_text = cedar_text
        self.schema_text = schema_text
        self.version = sha256_bytes(canonical_json([cedar_text, schema_text]))
        if max(len(cedar_text), len(schema_text)) > MAX_TEXT:
            raise _invalid(f"longer than {MAX_TEXT} characters")
        try:
            self._schema = cedarpy.Schema.from_str(schema_text)
            self._policies = cedarpy.PolicySet.from_str(cedar_text)
            written = json.loads(cedarpy.policies_to_json_str(cedar_text))
            checked = None if is_validated else cedarpy.validate_policies(cedar_text, schema_text)
        except ValueError as error:
            raise _invalid(str(error)[:500]) from error
        if checked is not None and not checked.validation_passed:
            raise _invalid("; ".join(str(problem) for problem in checked.errors)[:500])
        self._notes = _annotations(written)
        self._remembered: dict[Any, Decision] = {}

    def decide(self, request: Request) -> Decision:
        """The answer, always with a rule and a sentence. Never raises."""
        try:
            facts = tuple((name, type(fact), fact) for name, fact in sorted(request.context.items()))
            key = (request.subject, request.action, request.resource, facts)  # with types: 1 is not True
            known = self._remembered.get(key)
        except TypeError:  # a fact that is a list; the schema will have its say
            return self._answer(request)
        if known is None:
            known = self._answer(request)
            if len(self._remembered) >= MAX_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[key] = known
        return known

    def _answer(self, request: Request) -> Decision:
        if len(request.resource) > MAX_RESOURCE:
            return self._deny("policy.error", "POL-ERROR", "the resource is longer than any name")
        principal, resource = facts_of(request)
        allowed, rules, problem = self.evaluate(principal, request.action.value, resource, request.context)
        if problem:
            return self._deny("policy.error", "POL-ERROR", f"the policy could not be evaluated: {problem}")
        if allowed:
            rule = next(iter(rules), "")
            return Decision(True, rule, f"{rule} allows {request.action.value}", policy_version=self.version)
        if rules:
            code, reason = self._notes[rules[0]]
            return self._deny(rules[0], code, f"{request.action.value} on {request.resource}: {reason}")
        roles = ", ".join(sorted(request.subject.roles)) or "no role"
        able = ", ".join(roles_that_may(request.action)) or "no role"
        return self._deny(
            "role.missing",
            "RBAC-403",
            f"{request.subject.actor} ({roles}) may not {request.action.value} on {request.resource}; {able} may",
        )

    def evaluate(
        self, principal: dict[str, Any], action: str, resource: dict[str, Any], context: dict[str, Any]
    ) -> tuple[bool, tuple[str, ...], str]:
        """Ask Cedar: (clean Allow?, ids of the deciding policies in the order written, what went wrong)."""
        subject_id = {"type": "Subject", "id": str(principal.get("name", ""))}
        resource_id = {"type": "Resource", "id": str(resource.get("name", ""))}
        entities = [
            {"uid": subject_id, "attrs": principal, "parents": []},
            {"uid": resource_id, "attrs": resource, "parents": []},
        ]
        question = {
            "principal": subject_id,
            "action": {"type": "Action", "id": action},
            "resource": resource_id,
            "context": context,
        }
        try:
            result = cedarpy.is_authorized(question, self._policies, entities, self._schema)
        except (ValueError, TypeError, OverflowError) as error:
            return False, (), type(error).__name__
        errors = result.diagnostics.errors
        if errors or result.decision not in (cedarpy.Decision.Allow, cedarpy.Decision.Deny):
            return False, (), str(errors[0] if errors else result.decision.value)[:300]
        names = result.diagnostics.id_annotations_by_reason
        order = list(self._notes)
        rules = sorted((names.get(reason, reason) for reason in result.diagnostics.reasons), key=order.index)
        return result.decision is cedarpy.Decision.Allow, tuple(rules), ""

    def _deny(self, rule: str, code: str, reason: str) -> Decision:
        return Decision(False, rule, reason, code, self.version)


def base_policy() -> Policy:
    """The policy that ships: the requirements of `base.cedar` and one permit for each role."""
    return Policy(base_cedar(), base_schema())


def base_cedar() -> str:
    permits = []
    for role, actions in ROLES.items():
        listed = ",\n    ".join(f'Action::"{action.value}"' for action in sorted(actions))
        permits.append(
            f'@id("role.{role}")\npermit (\n  principal,\n  action in [\n    {listed}\n  ],\n  resource\n)\n'
            f'when {{ principal.roles.contains("{role}") }};\n'
        )
    return "\n".join([_packaged("base.cedar"), *permits])


def base_schema() -> str:
    lines = [_packaged("base.cedarschema")]
    for action in Action:
        group = ' in ["model-scoped"]' if action in MODEL_SCOPED else ""
        applies = "{ principal: [Subject], resource: [Resource], context: Facts }"
        lines.append(f'action "{action.value}"{group} appliesTo {applies};')
    return "\n".join(lines) + "\n"


def facts_of(request: Request) -> tuple[dict[str, Any], dict[str, Any]]:
    """The Cedar attributes of subject and resource. A version is decided like its name."""
    subject = request.subject
    principal = {
        "kind": subject.kind,
        "name": subject.name,
        "roles": sorted(subject.roles),
        "models": sorted(subject.models),
        "anyModel": not subject.models,
    }
    return principal, {"name": request.resource.partition("@")[0]}


def _packaged(name: str) -> str:
    return (files("garrison.trust") / name).read_text(encoding="utf-8")


def _annotations(written: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """`@id` -> (`@code`, `@reason`) in the order written."""
    if written.get("templates"):
        raise _invalid("templates are not supported")
    notes: dict[str, tuple[str, str]] = {}
    policies = sorted(written["staticPolicies"].items(), key=lambda item: int(item[0].removeprefix("policy")))
    for _, policy in policies:
        annotations = policy.get("annotations") or {}
        name = annotations.get("id")
        if not name or name in notes:
            raise _invalid(f"every policy needs an @id of its own, and {name!r} is missing or there twice")
        reason = annotations.get("reason") or "a rule of the policy forbids it"
        notes[name] = (annotations.get("code") or "RBAC-403", reason)
    return notes


def _invalid(problem: str) -> Usage:
    return Usage(
        "POL-INVALID", f"the policy is not usable: {problem}", fix="correct the text and load it again"
    )
