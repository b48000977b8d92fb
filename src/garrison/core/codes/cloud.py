"""Models that cloud services run: the pages of their codes."""

from __future__ import annotations

from garrison.core.codes.code import Code

CODES: dict[str, Code] = {
    "CLD-TAMPER": Code(
        "a model in the cloud is not the version that it says it is",
        """\
The files that the service would load differ from those of the version that
its tag names. The finding names each file that was changed, is missing, or was
added: an added inference.py is code that nobody approved.

Take it out of service, then upload the approved files again.
""",
    ),
    "CLD-UNKNOWN": Code(
        "a model in the cloud that nobody registered",
        """\
Its files are those of no version in the registry. Publish it, have it approved
and set its tag garrison-model to NAME@VERSION, or take it out of service.
""",
    ),
    "CLD-NOT-APPROVED": Code(
        "a model in the cloud that is not approved",
        """\
The files are those of a version that is pending, withdrawn or retired here.
Approve it, or take it out of service there.
""",
    ),
    "CLD-IMAGE": Code(
        "an image in the cloud that can change, or that nobody verified",
        """\
A container image is named by a tag, which may mean another image tomorrow, or
by a digest that was not verified and pinned here.

Name it by its digest, and pin that digest: garrison image pin.
""",
    ),
    "CLD-CONFIG": Code(
        "an endpoint in the cloud that is set too openly",
        """\
What is asked of SageMaker: no network for the containers, a VPC of yours, a
key of yours for volumes and captured data. Of Azure ML: no public network, no
egress, tokens that end instead of keys.
""",
    ),
    "CLD-UNREADABLE": Code(
        "what the cloud has cannot be told",
        """\
The service did not answer, or the credentials may not read a model's files. A
model that could not be looked at is never counted as good.
""",
    ),
    "CLD-WORKSPACE": Code(
        "not the name of a workspace",
        """\
A workspace of Azure Machine Learning is named SUBSCRIPTION/GROUP/NAME.
""",
    ),
}
