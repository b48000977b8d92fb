"""An S3 bucket as it is now: its policy, ACLs, public access block, encryption, versions and objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore import exceptions as aws

from garrison.artifacts.storage_check.policy import bucket_policy, identity_policy
from garrison.artifacts.storage_check.report import Found, Report
from garrison.core.digest import canonical_json
from garrison.storage.s3 import Place, client, code_of, explained, listing

MAX_OBJECTS = 2000  # looked at one by one; beyond that the report says how many were not
MAX_NAMED = 5
THREADS = 8
MAX_IDENTITIES = 1000
_PUBLIC_GROUPS = ("/groups/global/AllUsers", "/groups/global/AuthenticatedUsers")
_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_ABSENT = frozenset(
    {
        "NoSuchBucketPolicy",
        "NoSuchPublicAccessBlockConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
        "ObjectLockConfigurationNotFoundError",
    }
)
_NOT_OFFERED = frozenset({"NotImplemented", "MethodNotAllowed", "XNotImplemented"})
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "403", "UnauthorizedOperation"})


class _Notes:
    """What was found so far, and what could not be looked at."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.found: list[Found] = []
        self.unknown: list[str] = []

    def ask(self, name: str, call: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """The answer; {} when there is no such setting; None when it could not be asked."""
        try:
            return call()
        except aws.ClientError as error:
            if code_of(error) in _ABSENT:
                return {}
            if code_of(error) in _NOT_OFFERED:
                self.passed.append(f"{name}=not offered by this service")
                return None
            if code_of(error) in _DENIED:
                self.unknown.append(f"these credentials may not read its {name}")
                return None
            raise


def public_findings(place: Place) -> Report:
    """Only whether everybody can read or write it: what publishing asks."""
    s3, notes = client(place), _Notes()
    with explained(place):
        account = _account(place)
        _policy(notes, s3, place, account)
        _acl(notes, s3, place)
    return _report(place, notes)


def inspect(place: Place, *, objects: bool = True) -> Report:
    """Everything. Raises `Usage` STO-BUCKET, `Undecided` STO-* when the service does not answer."""
    s3, notes = client(place), _Notes()
    with explained(place):
        account = _account(place)
        _policy(notes, s3, place, account)
        _acl(notes, s3, place)
        _block(notes, s3, place)
        _encryption(notes, s3, place)
        _versions(notes, s3, place)
        _lock(notes, s3, place)
        _identities(notes, place)
        if objects:
            _objects(notes, s3, place)
    return _report(place, notes)


def _report(place: Place, notes: _Notes) -> Report:
    return Report(place.url, tuple(notes.passed), tuple(notes.found), tuple(notes.unknown))


def _account(place: Place) -> str:
    """The account of these credentials; empty where the service does not say."""
    try:
        return str(client(place, "sts").get_caller_identity()["Account"])
    except (aws.ClientError, aws.BotoCoreError):
        return ""


def _policy(notes: _Notes, s3: Any, place: Place, account: str) -> None:
    answer = notes.ask("policy", lambda: s3.get_bucket_policy(Bucket=place.bucket))
    if answer is None:
        return
    found = bucket_policy(answer["Policy"], account) if answer else ()
    notes.found += found
    if not found:
        notes.passed.append(f"policy={'narrow' if answer else 'none'} ok")


def _acl(notes: _Notes, s3: Any, place: Place) -> None:
    answer = notes.ask("ACL", lambda: s3.get_bucket_acl(Bucket=place.bucket))
    if answer is None:
        return
    open_grants = list(_public_grants(answer))
    notes.found += [
        Found("STO-PUBLIC", "its ACL lets everybody in", "set the ACL to private and turn ACLs off", quote)
        for quote in open_grants
    ]
    if not open_grants:
        notes.passed.append("acl=private ok")


def _public_grants(acl: dict[str, Any]) -> Iterator[str]:
    for grant in acl.get("Grants", ()):
        if str(grant.get("Grantee", {}).get("URI", "")).endswith(_PUBLIC_GROUPS):
            yield _text({"Grantee": grant["Grantee"], "Permission": grant.get("Permission", "")})


def _block(notes: _Notes, s3: Any, place: Place) -> None:
    answer = notes.ask("public access block", lambda: s3.get_public_access_block(Bucket=place.bucket))
    if answer is None:
        return
    settings = answer.get("PublicAccessBlockConfiguration", {})
    off = [name for name in _BLOCKS if settings.get(name) is not True]
    if off:
        notes.found.append(
            Found(
                "STO-BLOCK",
                f"its public access block lacks {', '.join(off)}",
                "turn on all four settings: aws s3api put-public-access-block",
                _text(settings),
            )
        )
    else:
        notes.passed.append("public-access-block=on ok")


def _encryption(notes: _Notes, s3: Any, place: Place) -> None:
    answer = notes.ask("encryption", lambda: s3.get_bucket_encryption(Bucket=place.bucket))
    if answer is None:
        return
    rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", ())
    kinds = [
        str(rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm", "")) for rule in rules
    ]
    wanted = ("aws:kms", "aws:kms:dsse") if place.kms_key else ("AES256", "aws:kms", "aws:kms:dsse")
    if kinds and all(kind in wanted for kind in kinds):
        notes.passed.append(f"sse={kinds[0]} ok")
        return
    notes.found.append(
        Found(
            "STO-SSE",
            f"its default encryption is {kinds[0]}, not {wanted[0]}"
            if kinds
            else "it has no default encryption",
            f"aws s3api put-bucket-encryption --bucket {place.bucket} with {wanted[0]}",
        )
    )


def _versions(notes: _Notes, s3: Any, place: Place) -> None:
    answer = notes.ask("versioning", lambda: s3.get_bucket_versioning(Bucket=place.bucket))
    if answer is None:
        return
    status = str(answer.get("Status", "never enabled"))
    if status == "Enabled":
        notes.passed.append("versioning=Enabled ok")
    else:
        notes.found.append(
            Found(
                "STO-VERSIONING",
                f"its versioning is {status}: what is overwritten is gone",
                f"aws s3api put-bucket-versioning --bucket {place.bucket} --versioning-configuration Status=Enabled",
            )
        )


def _lock(notes: _Notes, s3: Any, place: Place) -> None:
    """Whether objects can be kept from being removed, and for how long they are when nobody asks."""
    answer = notes.ask("Object Lock", lambda: s3.get_object_lock_configuration(Bucket=place.bucket))
    if answer is None:
        return
    lock = answer.get("ObjectLockConfiguration", {})
    if lock.get("ObjectLockEnabled") == "Enabled":
        kept = lock.get("Rule", {}).get("DefaultRetention", {})
        term = next((f"{kept[unit]} {unit.lower()}" for unit in ("Days", "Years") if unit in kept), "")
        by_default = f"{kept.get('Mode', '')} for {term} by default" if term else "no default retention"
        notes.passed.append(f"object-lock=Enabled ok, {by_default}")
    elif place.retain_days:
        notes.found.append(
            Found(
                "STO-LOCK",
                f"it does not offer Object Lock, and s3_retain_days is {place.retain_days}",
                "make a bucket with --object-lock-enabled-for-bucket, or set s3_retain_days to 0",
            )
        )
    else:
        notes.passed.append("object-lock=off: who may delete versions of objects can remove them for good")


def _identities(notes: _Notes, place: Place) -> None:
    """IAM policies that somebody holds. They are looked at where these credentials may list them."""
    iam = client(place, "iam")
    try:
        pages = iam.get_paginator("list_policies").paginate(Scope="All", OnlyAttached=True)
        attached = [policy for page in pages for policy in page["Policies"]][:MAX_IDENTITIES]
        found: list[Found] = []
        for policy in attached:
            version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])
            document = _text(version["PolicyVersion"]["Document"])
            found += identity_policy(document, place.bucket, f"the IAM policy {policy['PolicyName']}")
        for kind in ("user", "role", "group"):
            found += _inline(iam, kind, place)
    except (aws.ClientError, aws.BotoCoreError) as error:
        reason = code_of(error) if isinstance(error, aws.ClientError) else type(error).__name__
        notes.passed.append(f"iam=not looked at ({reason})")
        return
    notes.found += found
    if not found:
        notes.passed.append("iam=narrow ok")


def _inline(iam: Any, kind: str, place: Place) -> Iterator[Found]:
    """Policies that are written into a user, role or group."""
    name_key, policies = f"{kind.capitalize()}Name", f"list_{kind}_policies"
    holders = [
        item
        for page in iam.get_paginator(f"list_{kind}s").paginate()
        for item in page[f"{kind.capitalize()}s"]
    ]
    for holder in holders[:MAX_IDENTITIES]:
        named = {name_key: holder[name_key]}
        for page in iam.get_paginator(policies).paginate(**named):
            for policy in page["PolicyNames"]:
                answer = getattr(iam, f"get_{kind}_policy")(**named, PolicyName=policy)
                document = _text(answer["PolicyDocument"])
                yield from identity_policy(
                    document, place.bucket, f"the {kind} {holder[name_key]}, policy {policy}"
                )


def _objects(notes: _Notes, s3: Any, place: Place) -> None:
    """Each object's own encryption and ACL: a bucket's default says nothing about what was there before."""
    everything = listing(place, s3)
    names = [item.path for item in everything[:MAX_OBJECTS]]

    def look(path: str) -> tuple[str, str, list[str]]:
        target = {"Bucket": place.bucket, "Key": place.key(path)}
        head = s3.head_object(**target)
        try:
            grants = list(_public_grants(s3.get_object_acl(**target)))
        except aws.ClientError:
            grants = []  # ACLs are off, or not offered
        return path, str(head.get("ServerSideEncryption", "")), grants

    with ThreadPoolExecutor(THREADS, thread_name_prefix="s3") as pool:
        seen = list(pool.map(look, names))
    plain = [path for path, kind, _ in seen if not kind]
    if plain:
        shown = ", ".join(plain[:MAX_NAMED])
        notes.found.append(
            Found(
                "STO-SSE",
                f"{len(plain)} objects are kept without encryption, such as {shown}",
                "write them again after turning on default encryption: aws s3 cp s3://… s3://… --recursive",
            )
        )
    for path, _, grants in seen:
        notes.found += [
            Found(
                "STO-PUBLIC",
                f"the ACL of the object {path} lets everybody in",
                "set its ACL to private",
                quote,
            )
            for quote in grants
        ]
    if not plain:
        notes.passed.append(f"objects={len(seen)} encrypted ok")
    if len(everything) > len(seen):
        notes.passed.append(f"objects={len(everything) - len(seen)} more, not looked at one by one")


def _text(value: Any) -> str:
    return canonical_json(value).decode()
