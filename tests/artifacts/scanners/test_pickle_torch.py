"""Tensors against storages and storages against records; a file that torch itself writes is clean."""

from __future__ import annotations

import pytest
from tests.vectors.artifacts.make import short, zipped

from garrison.artifacts.scanners import SCANNERS
from garrison.artifacts.scanners.judge import judge
from garrison.artifacts.scanners.sources import BytesSource
from garrison.core.finding import Verdict


def _state(
    count: int = 4, offset: int = 0, size: tuple[int, ...] = (2, 2), stride: tuple[int, ...] = (2, 1)
) -> bytes:
    """A state dict of one float tensor, as `torch.save` writes it."""

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"J" + value.to_bytes(4, "little", signed=True) for value in values) + b"t"

    rebuild = short("torch._utils") + short("_rebuild_tensor_v2") + b"\x93"
    storage = (
        b"(" + short("storage") + short("torch") + short("FloatStorage") + b"\x93" + short("0") + short("cpu")
    )
    storage += b"J" + count.to_bytes(4, "little", signed=True) + b"tQ"
    ordered = short("collections") + short("OrderedDict") + b"\x93)R"
    tensor = (
        rebuild
        + b"("
        + storage
        + numbers((offset,))[1:-1]
        + numbers(size)
        + numbers(stride)
        + b"\x89"
        + ordered
    )
    return b"\x80\x04}" + short("weight") + tensor + b"tRs."


def _archive(pickled: bytes, record: bytes | None = bytes(16)) -> bytes:
    members = [("m/data.pkl", pickled), ("m/byteorder", b"little"), ("m/version", b"3\n")]
    return zipped([*members, ("m/data/0", record)] if record is not None else members)


GOOD = {
    "whole": _archive(_state()),
    "transposed": _archive(_state(stride=(1, 2))),
    "expanded": _archive(_state(size=(9, 4), stride=(0, 1))),
    "part": _archive(_state(offset=2, size=(2,), stride=(1,))),
    "empty": _archive(_state(count=0, size=(0,), stride=(1,)), b""),
    "scalar": _archive(_state(size=(), stride=())),
}
BAD = {
    "behind_the_end": (_archive(_state(size=(2, 3))), "artifact.torch.tensor"),
    "offset_behind": (_archive(_state(offset=4)), "artifact.torch.tensor"),
    "offset_negative": (_archive(_state(offset=-1)), "artifact.torch.tensor"),
    "stride_negative": (_archive(_state(stride=(-2, 1))), "artifact.torch.tensor"),
    "rank_differs": (_archive(_state(stride=(1,))), "artifact.torch.tensor"),
    "enormous": (_archive(_state(size=(2**31 - 1,), stride=(2**31 - 1,))), "artifact.torch.tensor"),
    "record_short": (_archive(_state(), bytes(12)), "artifact.torch.record"),
    "record_long": (_archive(_state(), bytes(20)), "artifact.torch.record"),
    "record_missing": (_archive(_state(), None), "artifact.torch.record"),
    "bare_pickle": (_state(size=(3, 3)), "artifact.torch.tensor"),
    "allocates": (
        b"\x80\x04" + short("torch") + short("FloatStorage") + b"\x93J\xff\xff\xff\x7f\x85R.",
        "artifact.pickle.call",
    ),
}


@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("name", GOOD)
def test_a_tensor_inside_its_storage_is_clean(name: str) -> None:
    judged = judge(BytesSource("model.pt", GOOD[name]), SCANNERS)
    assert (judged.verdict, judged.findings) == (Verdict.CLEAN, ())


@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("name", BAD)
def test_sizes_that_disagree_are_refused(name: str) -> None:
    data, rule = BAD[name]
    judged = judge(BytesSource("model.pt", data), SCANNERS)
    assert judged.verdict is Verdict.REFUSED
    assert rule in {finding.rule_id for finding in judged.findings}
