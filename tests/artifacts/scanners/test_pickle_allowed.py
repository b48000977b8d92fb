"""The allow-list is data: exact pairs, each from a framework of known versions; nothing near a pair is allowed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.vectors.artifacts.make import short
from tests.vectors.artifacts.pickles import GADGETS

from garrison.artifacts.scanners.pickle_allowed import ALLOWED, TABLES, UFUNCS, Table, pairs_of
from garrison.artifacts.scanners.pickle_machine import Machine
from garrison.artifacts.scanners.pickle_opcodes import run
from garrison.artifacts.scanners.pickle_uses import Use, use_of
from garrison.artifacts.scanners.sources import BytesSource, Reader

SEEN = json.loads((Path(__file__).parents[2] / "vectors/artifacts/allowed/seen.json").read_text())
# Seen in harmless files and refused all the same: they rebuild memory from unchecked bytes, defer work that
# a later call does, or belong to programs rather than to models.
REFUSED_THOUGH_SEEN = re.compile(
    r"__torch__\.|itertools\.chain\Z|scipy\.spatial\.|scipy\.interpolate\._ndgriddata\.|torch\.ScriptObject\Z"
    r"|torch\.ao\.nn\.quantized\.|torch\.distributions\.|torch\.nn\.modules\.\w+\.Lazy"
)
WORDS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")
NEVER = re.compile(
    r"call|compile|delattr|eval|exec|execfile|find_class|import_module|input|loads?|memmap|open|popen|read|read_pickle"
    r"|run|setattr|spawn|system|urlopen|attrgetter|methodcaller|CodeType|FunctionType|__import__"
)


def _is_allowed(module: str, name: str) -> bool:
    """As a pickle asks for it: through the machine, not through the set."""
    machine = Machine(Reader(BytesSource("", b"\x80\x04" + short(module) + short(name) + b"\x93.")))
    assert run(machine) == ""
    (imported,) = machine.imports
    return imported.ok


def _near(module: str, name: str) -> list[tuple[str, str]]:
    head, _, last = module.rpartition(".")
    return [
        *((module + ".x", name), (f"x.{module}", name), (module[:-1], name), (module + "s", name)),
        *(
            (module, f"{name}.x"),
            (module, f"x.{name}"),
            (module, name[:-1]),
            (module, name + "_"),
            (module, ""),
        ),
        *((module, f"{name}.__init__"), (module, f"__builtins__.{name}"), (module, f"{name}.__globals__")),
        *((module.upper(), name), (module, name.swapcase()), (module + " ", name), (module, f" {name}")),
        *((head, f"{last}.{name}"), (f"{module}.{name}", "__call__"), (module, "os.system"), (name, module)),
    ]


@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.framework)
def test_every_entry_is_allowed_and_nothing_near_it(table: Table) -> None:
    pairs = pairs_of(table.names)
    assert table.versions
    assert pairs
    for module, name in pairs:
        assert WORDS.match(f"{module}.{name}"), (module, name)
        assert _is_allowed(module, name)
        for near in _near(module, name):
            assert near in ALLOWED or not near[0] or not _is_allowed(*near), near


@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("version", range(len(SEEN["versions"])), ids=SEEN["versions"])
def test_what_the_files_of_a_version_import_is_allowed(version: int) -> None:
    names = [name for name, versions in SEEN["names"].items() if str(version) in versions]
    dotted = {f"{module}.{name}" for module, name in ALLOWED}
    assert [name for name in names if name not in dotted and not REFUSED_THOUGH_SEEN.match(name)] == []


def test_no_table_says_a_name_twice_or_in_disorder() -> None:
    for table in TABLES:
        modules = [word[:-1] for word in table.names.split() if word.endswith(":")]
        assert modules == sorted(set(modules)), table.framework
        assert len(pairs_of(table.names)) + len(modules) == len(table.names.split()), table.framework


def test_a_callable_that_reaches_out_is_nowhere_on_the_list() -> None:
    reaching = {tuple(gadget.rpartition(".")[::2]) for gadget in GADGETS} - {("builtins", "getattr")}
    assert not reaching & ALLOWED
    assert not {pair for pair in ALLOWED if NEVER.fullmatch(pair[1].rpartition(".")[2])}
    assert not {
        pair for pair in ALLOWED if pair[0].split(".")[0] in ("os", "posix", "subprocess", "sys", "io")
    }


def test_a_name_that_matters_is_limited_in_its_use() -> None:
    expected = {
        ("torch.storage", "_load_from_bytes"): Use.CALLED,
        ("functools", "partial"): Use.CALLED,
        ("builtins", "getattr"): Use.CALLED,
        ("scipy.stats._continuous_distns", "norm_gen"): Use.ALONE,
        ("transformers.training_args", "TrainingArguments"): Use.RESTORED,
        ("xgboost.core", "Booster"): Use.RESTORED,
        ("catboost.core", "CatBoost"): Use.RESTORED,
        ("imblearn.base", "FunctionSampler"): Use.RESTORED,
        ("numpy", "mean"): Use.HELD,
        ("sklearn.metrics._classification", "f1_score"): Use.HELD,
        ("sklearn.neighbors._kd_tree", "newObj"): Use.ANY,
        ("collections", "OrderedDict"): Use.ANY,
    }
    assert {pair: use_of(*pair, UFUNCS) for pair in expected} == expected
    assert set(expected) <= ALLOWED
