"""`garrison store check`: what is open, too wide, unencrypted or unversioned is found and quoted."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.bucket import CREDENTIALS, Cloud
from tests.flows.server import run

from garrison.artifacts.storage_check.bucket import inspect
from garrison.artifacts.storage_check.policy import bucket_policy, identity_policy
from garrison.artifacts.storage_check.web import inspect_url
from garrison.core.errors import Undecided, Usage
from garrison.storage.s3 import parse

POLICIES = json.loads((Path(__file__).parents[1] / "vectors" / "storage" / "policies.json").read_text())
ACCOUNT = "111122223333"


@pytest.mark.row("A15", kind="E")
@pytest.mark.parametrize("case", POLICIES["bucket"], ids=lambda case: case["name"])
def test_a_bucket_policy_is_judged(case: dict[str, Any]) -> None:
    found = bucket_policy(case["policy"], ACCOUNT)
    assert [one.code for one in found] == case["codes"]
    for one in found:
        assert json.loads(one.quote) in json.loads(json.dumps(_statements(case["policy"])))


@pytest.mark.row("A15", kind="E")
@pytest.mark.parametrize("case", POLICIES["identity"], ids=lambda case: case["name"])
def test_an_iam_policy_is_judged_as_far_as_it_is_about_the_bucket(case: dict[str, Any]) -> None:
    assert [one.code for one in identity_policy(case["policy"], "models", "the role x")] == case["codes"]


@pytest.mark.parametrize("case", POLICIES["unclear"], ids=lambda case: case["name"])
def test_a_policy_that_is_not_understood_is_never_called_safe(case: dict[str, Any]) -> None:
    with pytest.raises(Undecided, match="STO-POLICY"):
        bucket_policy(case["policy"], ACCOUNT)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.sampled_from(["*", "s3:*", "Allow"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Effect", "Principal", "Action", "Resource", "Condition", "AWS", "StringEquals"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@given(statement=_JSON)
def test_any_document_is_judged_or_refused_in_a_sentence(statement: Any) -> None:
    with contextlib.suppress(Undecided):
        bucket_policy(json.dumps({"Statement": [statement]}), ACCOUNT)


def _statements(text: str) -> list[Any]:
    listed = json.loads(text)["Statement"]
    return listed if isinstance(listed, list) else [listed]


def check(url: str, *words: str, **more: str) -> Any:
    return run(["store", "check", url, *words, "--json"], **CREDENTIALS, **more)


@pytest.mark.row("A14", kind="E")
def test_a_guarded_bucket_is_ok_line_by_line(s3: Cloud, bucket: str) -> None:
    s3.client().put_object(Bucket=bucket, Key="m/weights", Body=b"x", ServerSideEncryption="AES256")
    answer = run(["store", "check", f"s3://{bucket}", "--endpoint", s3.url], **CREDENTIALS)
    assert answer.status == 0, answer.err
    for line in ("sse=AES256 ok", "versioning=Enabled ok", "public-access-block=on ok", "acl=private ok"):
        assert line in answer.out


@pytest.mark.row("A15", kind="E")
def test_a_bucket_that_everybody_may_read_is_refused_with_the_statement(s3: Cloud, bucket: str) -> None:
    statement = {
        "Sid": "Oops",
        "Effect": "Allow",
        "Principal": "*",
        "Action": ["s3:GetObject"],
        "Resource": f"arn:aws:s3:::{bucket}/*",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    s3.client().put_bucket_policy(Bucket=bucket, Policy=policy)
    answer = check(f"s3://{bucket}", "--endpoint", s3.url)
    assert (answer.status, answer.code) == (1, "STO-PUBLIC")
    assert '"Sid":"Oops"' in answer.json["error"]["message"]
    shown = run(["store", "check", f"s3://{bucket}", "--endpoint", s3.url], **CREDENTIALS)
    assert shown.status == 1
    assert '"Principal":"*"' in shown.out


@pytest.mark.row("A15", kind="E")
def test_public_acls_of_bucket_and_object_are_found(s3: Cloud, bucket: str) -> None:
    client = s3.client()
    client.put_object(
        Bucket=bucket, Key="leak.bin", Body=b"x", ServerSideEncryption="AES256", ACL="public-read"
    )
    report = inspect(parse(f"s3://{bucket}", endpoint=s3.url))
    assert [(one.code, "leak.bin" in one.what) for one in report.found] == [("STO-PUBLIC", True)]
    client.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    report = inspect(parse(f"s3://{bucket}", endpoint=s3.url))
    assert sum("AllUsers" in one.quote for one in report.found) >= 2


@pytest.mark.row("A14", kind="E")
def test_a_bare_bucket_lacks_four_things_and_each_is_named(s3: Cloud) -> None:
    name = s3.bucket(guarded=False)
    s3.client().put_object(Bucket=name, Key="weights", Body=b"x")
    report = inspect(parse(f"s3://{name}", endpoint=s3.url))
    assert sorted(one.code for one in report.found) == ["STO-BLOCK", "STO-SSE", "STO-SSE", "STO-VERSIONING"]
    assert any("weights" in one.what for one in report.found)
    answer = check(f"s3://{name}", "--endpoint", s3.url)
    assert (answer.status, answer.code) == (1, "STO-SSE")


@pytest.mark.row("A15", kind="E")
def test_iam_policies_that_grant_everything_on_the_bucket_are_found(s3: Cloud, bucket: str) -> None:
    iam = s3.client("iam")
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
    }
    held = iam.create_policy(PolicyName="too-wide", PolicyDocument=json.dumps(document))["Policy"]["Arn"]
    loose = iam.create_policy(PolicyName="held-by-nobody", PolicyDocument=json.dumps(document))["Policy"][
        "Arn"
    ]
    iam.create_user(UserName="trainer")
    iam.attach_user_policy(UserName="trainer", PolicyArn=held)
    iam.create_role(RoleName="batch", AssumeRolePolicyDocument="{}")
    iam.put_role_policy(RoleName="batch", PolicyName="inline", PolicyDocument=json.dumps(document))
    try:
        report = inspect(parse(f"s3://{bucket}", endpoint=s3.url))
        assert sorted(one.what.split(":")[0] for one in report.found) == [
            "the IAM policy too-wide",
            "the role batch, policy inline",
        ]
        assert {one.code for one in report.found} == {"STO-WIDE"}
    finally:
        iam.detach_user_policy(UserName="trainer", PolicyArn=held)
        iam.delete_role_policy(RoleName="batch", PolicyName="inline")
        for arn in (held, loose):
            iam.delete_policy(PolicyArn=arn)


def test_no_credentials_no_bucket_and_no_service_are_sentences(s3: Cloud, tmp_path: Path) -> None:
    absent = check("s3://no-such-bucket-here", "--endpoint", s3.url)
    assert (absent.status, absent.code) == (2, "STO-BUCKET")
    nowhere = check("s3://models", "--endpoint", "http://127.0.0.1:9")
    assert (nowhere.status, nowhere.code) == (3, "STO-UNREACHABLE")
    nobody = run(
        ["store", "check", "s3://models", "--endpoint", s3.url, "--json"],
        AWS_EC2_METADATA_DISABLED="true", AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "none"),
        AWS_CONFIG_FILE=str(tmp_path / "none"),
    )  # fmt: skip
    assert (nobody.status, nobody.code) == (3, "STO-CREDENTIALS")


class _Hub(http.server.BaseHTTPRequestHandler):
    """A git host: /open.git answers everybody, /closed asks for credentials, /portal sends to a sign-in page."""

    def do_GET(self) -> None:
        path, status, kind, location = self.path, 404, "text/html", ""
        if path.startswith("/open.git/info/refs"):
            status, kind = 200, "application/x-git-upload-pack-advertisement"
        elif path.startswith(("/closed", "/api/models/private")):
            status = 401
        elif path.startswith("/portal"):
            status, location = 302, "/users/sign_in"
        elif path.startswith(("/users/sign_in", "/hub/model")):
            status = 200
        elif path.startswith("/loop"):
            status, location = 302, "/loop"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.row("A16", kind="E")
@pytest.mark.parametrize(
    ("path", "is_public"),
    [("open", 1), ("open.git", 1), ("hub/model", 1), ("closed", 0), ("portal", 0), ("absent", 0)],
)
def test_a_repository_that_answers_everybody_is_public(hub: str, path: str, is_public: int) -> None:
    report = inspect_url(f"{hub}/{path}")
    assert report.is_public == is_public
    answer = check(f"{hub}/{path}")
    assert answer.status == is_public
    if is_public:
        assert answer.code == "STO-PUBLIC"
        assert f"GET {hub}/" in answer.json["error"]["message"]


def test_what_cannot_be_asked_is_not_called_private(hub: str) -> None:
    for url in (f"{hub}/loop", "http://127.0.0.1:9/x"):
        with pytest.raises(Undecided, match="STO-UNREACHABLE"):
            inspect_url(url)
    with pytest.raises(Usage, match="STO-URL"):
        inspect_url("https://user:secret@host/x")


@pytest.mark.row("A16", kind="E")
def test_a_directory_that_others_may_read_is_public(tmp_path: Path) -> None:
    room = tmp_path / "models"
    room.mkdir(mode=0o700)
    assert check(str(room)).status == 0
    for parent in (tmp_path, *tmp_path.parents):
        if "pytest" in str(parent):
            parent.chmod(0o711)
    room.chmod(0o755)
    answer = check(f"file://{room}")
    assert (answer.status, answer.code) == (1, "STO-PUBLIC")
    room.chmod(0o720)
    assert check(str(room)).code == "STO-WIDE"
