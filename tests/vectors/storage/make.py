"""Makes policies.json: bucket and IAM policies with what has to be found in each. Run it after a change.

The account that owns the bucket `models` is 111122223333. `codes` are the codes in the order of the findings.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

OWN, OTHER = "arn:aws:iam::111122223333:role/garrison", "arn:aws:iam::444455556666:root"
ALL = "arn:aws:s3:::models/*"


def allow(principal: Any = None, action: Any = "s3:GetObject", resource: Any = ALL, **more: Any) -> dict[str, Any]:
    who = {} if principal is None else {"Principal": principal}
    return {"Effect": "Allow", **who, "Action": action, "Resource": resource, **more}


def when(test: str, key: str, value: Any) -> dict[str, Any]:
    return {"Condition": {test: {key: value}}}


WORK = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
PUBLIC, WIDE = "STO-PUBLIC", "STO-WIDE"
BUCKET: list[tuple[str, Any, list[str]]] = [
    ("the smallest policy", allow({"AWS": OWN}, WORK), []),
    ("own root", allow({"AWS": "arn:aws:iam::111122223333:root"}), []),
    ("own account by number", allow({"AWS": "111122223333"}), []),
    ("tls only deny", {**allow("*", "s3:*"), "Effect": "Deny", **when("Bool", "aws:SecureTransport", "false")}, []),
    ("deny with NotPrincipal", {"Effect": "Deny", "NotPrincipal": {"AWS": OWN}, "Action": "s3:*", "Resource": ALL}, []),
    ("star", allow("*"), [PUBLIC]),
    ("star as AWS", allow({"AWS": "*"}), [PUBLIC]),
    ("star in a list", allow({"AWS": [OWN, "*"]}), [PUBLIC]),
    ("star as a canonical user", allow({"CanonicalUser": "*"}), [PUBLIC]),
    ("star as a federation", allow({"Federated": "*"}), [PUBLIC]),
    ("NotPrincipal", {"Effect": "Allow", "NotPrincipal": {"AWS": OTHER}, "Action": "s3:GetObject", "Resource": ALL}, [PUBLIC]),
    ("everybody may write", allow("*", ["s3:PutObject"]), [PUBLIC]),
    ("everybody may do everything", allow("*", "s3:*"), [PUBLIC, WIDE]),
    ("public list", allow("*", "s3:ListBucket", "arn:aws:s3:::models"), [PUBLIC]),
    ("star within the organisation", allow("*", **when("StringEquals", "aws:PrincipalOrgID", "o-abc123")), []),
    ("star from a VPC endpoint", allow("*", **when("StringEquals", "aws:SourceVpce", "vpce-1a2b3c4d")), []),
    ("star from an address range", allow("*", **when("IpAddress", "aws:SourceIp", "203.0.113.0/24")), []),
    ("star from own role by ARN", allow("*", **when("ArnLike", "aws:PrincipalArn", "arn:aws:iam::111122223333:role/*")), []),
    ("star from the whole internet", allow("*", **when("IpAddress", "aws:SourceIp", "0.0.0.0/0")), [PUBLIC]),
    ("half the internet", allow("*", **when("IpAddress", "aws:SourceIp", ["0.0.0.0/1", "128.0.0.0/1"])), [PUBLIC]),
    ("the whole IPv6 internet", allow("*", **when("IpAddress", "aws:SourceIp", "::/0")), [PUBLIC]),
    ("one good and one open range", allow("*", **when("IpAddress", "aws:SourceIp", ["203.0.113.0/24", "0.0.0.0/0"])), [PUBLIC]),
    ("everything but one address", allow("*", **when("NotIpAddress", "aws:SourceIp", "203.0.113.0/24")), [PUBLIC]),
    ("a condition that passes without its key", allow("*", **when("StringEqualsIfExists", "aws:SourceVpce", "vpce-1")), [PUBLIC]),
    ("ForAllValues passes when there are none", allow("*", **when("ForAllValues:StringEquals", "aws:PrincipalOrgID", "o-1")), [PUBLIC]),
    ("ForAnyValue needs one", allow("*", **when("ForAnyValue:StringLike", "aws:PrincipalOrgPaths", "o-1/r-1/*")), []),
    ("a referer is no identity", allow("*", **when("StringLike", "aws:Referer", "https://example.com/*")), [PUBLIC]),
    ("a user agent is no identity", allow("*", **when("StringEquals", "aws:UserAgent", "secret")), [PUBLIC]),
    ("TLS alone narrows nobody", allow("*", **when("Bool", "aws:SecureTransport", "true")), [PUBLIC]),
    ("a pattern that is everything", allow("*", **when("StringLike", "aws:PrincipalArn", "*")), [PUBLIC]),
    ("any account's roles", allow("*", **when("ArnLike", "aws:PrincipalArn", "arn:aws:iam::*:role/*")), [PUBLIC]),
    ("s3 star for the own role", allow({"AWS": OWN}, "s3:*"), [WIDE]),
    ("star for the own role", allow({"AWS": OWN}, "*"), [WIDE]),
    ("upper case", allow({"AWS": OWN}, "S3:*"), [WIDE]),
    ("put star covers the policy", allow({"AWS": OWN}, "s3:Put*"), [WIDE]),
    ("a question mark hides the same", allow({"AWS": OWN}, "s3:PutBucketPolic?"), [WIDE]),
    ("get star covers nothing that guards", allow({"AWS": OWN}, "s3:Get*"), []),
    ("NotAction", {"Effect": "Allow", "Principal": {"AWS": OWN}, "NotAction": "s3:DeleteBucket", "Resource": ALL}, [WIDE]),
    ("NotResource", {"Effect": "Allow", "Principal": {"AWS": OWN}, "Action": "s3:GetObject", "NotResource": "arn:aws:s3:::x/*"}, [WIDE]),
    ("another account", allow({"AWS": OTHER}), [WIDE]),
    ("another account by number", allow({"AWS": ["444455556666", OWN]}), [WIDE]),
    ("another account in the organisation", allow({"AWS": OTHER}, **when("StringEquals", "aws:PrincipalOrgID", "o-1")), []),
    ("a service for anybody", allow({"Service": "cloudfront.amazonaws.com"}), [WIDE]),
    ("a service for one distribution", allow({"Service": "cloudfront.amazonaws.com"}, **when("ArnEquals", "aws:SourceArn", "arn:aws:cloudfront::111122223333:distribution/E1")), []),
    ("two statements, the second open", [allow({"AWS": OWN}), allow("*")], [PUBLIC]),
    ("a deny does not close it", [allow("*"), {**allow("*"), "Effect": "Deny"}], [PUBLIC]),
]  # fmt: skip
IDENTITY: list[tuple[str, Any, list[str]]] = [
    ("the work on the bucket", allow(None, WORK), []),
    ("everything on the bucket", allow(None, "s3:*", ["arn:aws:s3:::models", ALL]), [WIDE]),
    ("administrator", allow(None, "*", "*"), [WIDE]),
    ("everything on another bucket", allow(None, "s3:*", "arn:aws:s3:::other/*"), []),
    ("everything on a pattern that fits", allow(None, "s3:*", "arn:aws:s3:::mod*"), [WIDE]),
    ("NotAction everywhere", {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}, [WIDE]),
    ("denied", {**allow(None, "s3:*", "*"), "Effect": "Deny"}, []),
    ("another service", allow(None, "ec2:*", "*"), []),
]
UNCLEAR: list[tuple[str, str]] = [
    ("not JSON", "{"),
    ("a list", "[]"),
    ("no statements", '{"Version": "2012-10-17"}'),
    ("an empty list", '{"Statement": []}'),
    ("no effect", '{"Statement": [{"Action": "s3:*", "Principal": "*"}]}'),
    ("an unknown effect", '{"Statement": [{"Effect": "allow", "Action": "s3:*", "Principal": "*"}]}'),
    ("no action", '{"Statement": [{"Effect": "Allow", "Principal": "*"}]}'),
    ("no principal", '{"Statement": [{"Effect": "Allow", "Action": "s3:GetObject"}]}'),
    ("a principal that is a number", '{"Statement": [{"Effect": "Allow", "Principal": 1, "Action": "s3:GetObject"}]}'),
    ("an action that is an object", '{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": {"a": 1}}]}'),
    ("a condition that is a text", '{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Condition": "x"}]}'),
    ("very deep", "[" * 60_000),
]  # fmt: skip


def document(statement: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


def main() -> None:
    made = {
        "bucket": [{"name": n, "policy": document(s), "codes": c} for n, s, c in BUCKET],
        "identity": [{"name": n, "policy": document(s), "codes": c} for n, s, c in IDENTITY],
        "unclear": [{"name": n, "policy": text} for n, text in UNCLEAR],
    }
    Path(__file__).with_name("policies.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
