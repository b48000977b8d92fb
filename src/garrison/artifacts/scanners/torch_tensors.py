"""torch's tensors against their storages, and storages against the records of the archive: every size agrees.

Sources: torch `_utils._rebuild_tensor`, `serialization._load` (`persistent_load`, `load_tensor`). A tensor that
reaches behind its storage reads memory that is not the model's in readers that do not check; a record of another
size is read as something else by different versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from garrison.artifacts.scanners.base import Gap, Source, high, shown
from garrison.artifacts.scanners.pickle_arrays import MAX_RANK, Unsized, storage_bytes
from garrison.artifacts.scanners.pickle_machine import Machine
from garrison.artifacts.scanners.pickle_opcodes import run
from garrison.artifacts.scanners.pickle_values import Global, Items, Made
from garrison.artifacts.scanners.sources import Reader
from garrison.core.finding import Finding

MAX_OPCODES = 2_000_000  # of a data.pkl that is held against its records; a million tensors need no more
FIX = "save the weights again with torch.save, or as safetensors"


def tensor_findings(machine: Machine) -> Iterator[Finding]:
    """Tensors of one stream whose sizes and strides leave their storage."""
    for args in machine.tensors:
        if problem := _outside(args):
            yield high("artifact.torch.tensor", problem, fix=FIX)


def record_findings(records: Mapping[str, int], prefix: str, pickled: Source) -> Iterator[Finding | Gap]:
    """Storages that `data.pkl` names and whose record is missing or has another size."""
    machine = Machine(Reader(pickled))
    run(machine, MAX_OPCODES)
    checked: set[tuple[str, str, int]] = set()
    for identity in machine.ids:
        values = identity.values if isinstance(identity, Items) else []
        if len(values) < 5 or values[0] != "storage" or not isinstance(values[2], str):
            continue
        kind, key, count = values[1], values[2], values[4]
        name = kind.name if isinstance(kind, Global) else ""
        if not isinstance(count, int) or (name, key, count) in checked:
            continue
        checked.add((name, key, count))
        try:
            wanted = storage_bytes(kind, count)
        except Unsized as error:
            yield Gap("artifact.torch.storage", str(error), fix=FIX)
            continue
        size = records.get(f"{prefix}/data/{key}")
        if size is None:
            yield high("artifact.torch.record", f"there is no record for the storage {shown(key)}", fix=FIX)
        elif size != wanted:
            message = f"the storage {shown(key)} is said to have {wanted} bytes; its record has {size}"
            yield high("artifact.torch.record", message, fix=FIX)


def _outside(args: Any) -> str:
    """What is wrong with the arguments (storage, offset, size, stride, ...); empty when nothing is, or unknown."""
    values = args.values if isinstance(args, Items) else []
    if len(values) < 4 or not isinstance(values[0], Made) or not isinstance(values[0].args, Items):
        return ""
    identity = values[0].args.values
    kind, count = (identity[1], identity[4]) if len(identity) >= 5 else (None, None)
    offset, size, stride = values[1:4]
    if not isinstance(kind, Global) or kind.name == "UntypedStorage" or type(count) is not int:
        return ""
    if not isinstance(size, Items) or not isinstance(stride, Items) or len(size.values) > MAX_RANK:
        return ""
    numbers = [offset, *size.values, *stride.values]
    if any(type(number) is not int for number in numbers):
        return ""
    if len(size.values) != len(stride.values) or min(numbers) < 0:
        return "a tensor whose sizes and strides do not fit together"
    if 0 in size.values:
        return ""
    last = offset + sum((extent - 1) * step for extent, step in zip(size.values, stride.values, strict=True))
    return f"a tensor that reaches element {last} of a storage of {count}" if last >= count else ""
