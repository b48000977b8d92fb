"""What a bucket policy or an IAM policy allows. Pure: a document in, findings out.

Only what allows is judged: a Deny beside it may take some of it back, and nobody should have to compute
that to know whether a bucket is open. A condition narrows an Allow when it has to hold for somebody to get
in, names concrete values and is not of a kind that a request without that key passes (IfExists, ForAllValues,
negations).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from ipaddress import ip_network
from typing import Any

from garrison.artifacts.storage_check.report import Found
from garrison.core.errors import Undecided

MAX_POLICY_BYTES = 64 * 1024  # the service allows 20 KiB for a bucket
MAX_STATEMENTS = 1000

_NARROWING_KEYS = frozenset(
    {
        "aws:sourcevpce", "aws:sourcevpc", "aws:sourcearn", "aws:sourceaccount", "aws:sourceip",
        "aws:sourceorgid", "aws:sourceorgpaths", "aws:principalorgid", "aws:principalorgpaths",
        "aws:principalarn", "aws:principalaccount", "aws:userid", "aws:vpcsourceip",
        "s3:dataaccesspointarn", "s3:dataaccesspointaccount",
    }
)  # fmt: skip
_NARROWING_TESTS = frozenset(
    {"stringequals", "stringequalsignorecase", "stringlike", "arnequals", "arnlike", "ipaddress"}
)
_GUARDS = (  # actions that change what protects the bucket; a wildcard that covers one is too wide
    "s3:putbucketpolicy", "s3:deletebucketpolicy", "s3:putbucketacl", "s3:putobjectacl",
    "s3:putencryptionconfiguration", "s3:putbucketversioning", "s3:putbucketpublicaccessblock",
    "s3:deletebucket", "s3:deleteobjectversion", "s3:bypassgovernanceretention",
)  # fmt: skip
_FIX_PUBLIC = "remove that statement, or name the accounts and roles that need it"
_FIX_WIDE = "allow the actions that are needed, one by one; docs/storage.md has the smallest policy"
_ACCOUNT = re.compile(r"(?:arn:[a-z-]+:(?:iam|sts)::)?(\d{12})(?::.*)?$")


def bucket_policy(text: str, account: str = "") -> tuple[Found, ...]:
    """Findings of a bucket's policy. `account` is the owner's; without it other accounts are not told apart.

    Raises `Undecided` STO-POLICY.
    """
    found: list[Found] = []
    for statement in statements(text):
        quote = quoted(statement)
        if _text(statement.get("Effect")) == "Deny":
            continue
        is_narrow = narrows(statement.get("Condition"))
        if _is_everybody(statement) and not is_narrow:
            found.append(Found("STO-PUBLIC", "a statement lets everybody in", _FIX_PUBLIC, quote))
        else:
            found += [
                Found(
                    "STO-WIDE",
                    what,
                    "add a Condition: aws:SourceAccount, aws:SourceArn or aws:PrincipalOrgID",
                    quote,
                )
                for what in _strangers(statement, account)
                if not is_narrow
            ]
        found += [Found("STO-WIDE", what, _FIX_WIDE, quote) for what in too_wide(statement)]
    return tuple(found)


def identity_policy(text: str, bucket: str, owner: str) -> tuple[Found, ...]:
    """Findings of an IAM policy, as far as it is about the bucket. `owner` says whose it is."""
    return tuple(
        Found("STO-WIDE", f"{owner}: {what}", _FIX_WIDE, quoted(statement))
        for statement in statements(text)
        if _text(statement.get("Effect")) == "Allow" and _is_about(statement, bucket)
        for what in too_wide(statement)
    )


def statements(text: str) -> Iterator[Mapping[str, Any]]:
    """The statements of a policy document. Raises `Undecided` STO-POLICY for what is not one."""
    if len(text) > MAX_POLICY_BYTES:
        raise _unclear(f"it has {len(text):,} characters")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise _unclear("it is not JSON") from None
    listed = body.get("Statement") if isinstance(body, dict) else None
    listed = [listed] if isinstance(listed, dict) else listed
    if not isinstance(listed, list) or not listed or len(listed) > MAX_STATEMENTS:
        raise _unclear("it has no list of statements")
    for statement in listed:
        if not isinstance(statement, dict) or statement.get("Effect") not in ("Allow", "Deny"):
            raise _unclear("a statement has no effect that is known")
        if not ({"Action", "NotAction"} & statement.keys()):
            raise _unclear("a statement names no action")
        yield statement


def too_wide(statement: Mapping[str, Any]) -> list[str]:
    """What is wrong with the actions and resources of an Allow."""
    found = []
    if "NotAction" in statement:
        found.append("NotAction allows everything but a list")
    if "NotResource" in statement:
        found.append("NotResource allows it on everything but a list")
    for action in _texts(statement.get("Action", [])):
        if any(mark in action for mark in "*?"):
            guard = next((name for name in _GUARDS if fnmatchcase(name, action.lower())), None)
            if guard is not None:
                found.append(f"the action {action} covers {guard}")
    return found


def narrows(condition: Any) -> bool:
    """Whether a condition has to hold for somebody to get in, and says who that is."""
    if condition is None:
        return False
    if not isinstance(condition, Mapping):
        raise _unclear("a condition is not an object")
    for test, keys in condition.items():
        name = str(test).lower().removeprefix("foranyvalue:")
        if name not in _NARROWING_TESTS or not isinstance(keys, Mapping):
            continue
        for key, values in keys.items():
            wanted = _texts(values)
            if (
                str(key).lower() in _NARROWING_KEYS
                and wanted
                and all(_is_concrete(value) for value in wanted)
            ):
                return True
    return False


def _is_concrete(value: str) -> bool:
    """Not a pattern that everything matches, and not the whole internet."""
    if not value.strip("*?:/") or value.lower().startswith("arn:aws:iam::*"):
        return False
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        return True
    return network.prefixlen >= (8 if network.version == 4 else 16)


def _is_everybody(statement: Mapping[str, Any]) -> bool:
    if "NotPrincipal" in statement:
        return True
    principal = statement.get("Principal")
    if principal is None:
        raise _unclear("a statement names no principal")
    if isinstance(principal, str):
        return principal == "*"
    if not isinstance(principal, Mapping):
        raise _unclear("a principal is of an unknown kind")
    return any("*" in _texts(value) for value in principal.values())


def _strangers(statement: Mapping[str, Any], account: str) -> Iterator[str]:
    principal = statement.get("Principal")
    if not isinstance(principal, Mapping):
        return
    for service in _texts(principal.get("Service", [])):
        yield f"the service {service} is let in for whoever uses it, without a condition"
    for name in _texts(principal.get("AWS", [])):
        found = _ACCOUNT.fullmatch(name)
        if account and found and found.group(1) != account:
            yield f"the account {found.group(1)} is let in without a condition"


def _is_about(statement: Mapping[str, Any], bucket: str) -> bool:
    if "NotResource" in statement:
        return True
    ours = (f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/x")
    return any(
        fnmatchcase(name, re.sub(r"^arn:aws[a-z-]*:", "arn:aws:", resource))
        for resource in _texts(statement.get("Resource", []))
        for name in ours
    )


def quoted(statement: Mapping[str, Any]) -> str:
    return json.dumps(statement, separators=(",", ":"), ensure_ascii=True)[:2000]


def _texts(value: Any) -> list[str]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(item, str | bool | int) for item in found):
        raise _unclear("a value is not a text or a list of texts")
    return [str(item) for item in found]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _unclear(why: str) -> Undecided:
    return Undecided(
        "STO-POLICY",
        f"the policy is not understood: {why}",
        fix="write the statement in the form that the service's reference shows, then check again",
    )
