"""What stands on the stack of the symbolic pickle machine, and how it is shown to people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from garrison.artifacts.scanners.base import shown
from garrison.artifacts.scanners.pickle_uses import Use

KEPT = 100_000  # items of one list or dict that are remembered; only joblib and torch headers are looked into


@dataclass(frozen=True, slots=True)
class Global:
    """An imported name. `ok` when the exact pair is on the allow-list, `use` what it may then be used for."""

    module: str
    name: str
    ok: bool
    use: Use = Use.REFUSED


@dataclass(slots=True, eq=False)
class Made:
    """The result of a call; `state` is what BUILD gave it."""

    callee: Any
    args: Any
    state: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Blob:
    """A bytes or text constant too long to be held: a range of the source."""

    start: int
    size: int


@dataclass(slots=True, eq=False)
class Items:
    """A tuple, list, set or dict (`values` alternates keys and values). `weight` counts it written out.

    `cut` when more was added than is kept: then nothing may be concluded from the values.
    """

    kind: str
    values: list[Any] = field(default_factory=list)
    weight: int = 1
    cut: bool = False

    def extend(self, values: list[Any]) -> None:
        if len(self.values) < KEPT:
            self.values.extend(values)
        elif values:
            self.cut = True
        self.weight += sum(weight(value) for value in values)

    @property
    def is_exact(self) -> bool:
        """A dict all of whose keys are plain texts and known: `get` sees what the real reader would see."""
        return self.kind == "dict" and not self.cut and all(isinstance(key, str) for key in self.values[::2])

    def get(self, key: str) -> Any:
        """The last value of a string key in a dict, or None."""
        found = None
        for index in range(0, len(self.values) - 1, 2):
            if isinstance(self.values[index], str) and self.values[index] == key:
                found = self.values[index + 1]
        return found


UNKNOWN = Made(None, None)


def weight(value: Any) -> int:
    return value.weight if isinstance(value, Items) else 1


def line(value: Any, depth: int = 3) -> str:
    """A value as Python would write it, on one bounded line."""
    if isinstance(value, Global):
        return shown(f"{value.module}.{value.name}", 120)
    if isinstance(value, Made):
        return f"{line(value.callee, depth - 1)}(...)" if value.callee is not None else "?"
    if isinstance(value, Blob):
        return f"<{value.size} bytes>"
    if isinstance(value, Items):
        if depth <= 0:
            return "..."
        inner = [line(item, depth - 1) for item in value.values[:6]] + ["..."] * (len(value.values) > 6)
        if value.kind == "dict":
            return "{" + ", ".join(f"{k}: {v}" for k, v in zip(inner[::2], inner[1::2], strict=False)) + "}"
        return {"tuple": "({})", "list": "[{}]"}.get(value.kind, "{{{}}}").format(", ".join(inner))
    if isinstance(value, int) and abs(value) >= 1 << 256:
        return f"<a number of {value.bit_length()} bits>"  # writing it in decimal takes long, or is refused
    return shown(repr(value), 60)


def call_line(callee: Any, args: Any) -> str:
    """`os.system('id')`."""
    inner = ", ".join(line(item) for item in args.values[:6]) if isinstance(args, Items) else line(args)
    return shown(f"{line(callee)}({inner})", 200)
