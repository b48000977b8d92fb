"""What is loaded later recognises nothing that its first look lets go by, and one who cannot load it says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.vectors.artifacts import make

from garrison.artifacts.scan import scan_path
from garrison.artifacts.scanners.base import HEAD
from garrison.artifacts.scanners.rare import RARE, Rare
from garrison.artifacts.scanners.sources import BytesSource
from garrison.core.finding import Verdict

FORMATS = [pytest.param(rare, id=rare.format) for rare in RARE]
NAMES = [
    "a",
    "a.json",
    "A.JSONL",
    "a.ndjson",
    "x/MLmodel",
    "mlmodel",
    "dvc.lock",
    "a.YML",
    "a.dvc",
    "a.TOML",
    "a.PBTXT",
    "a.prototxt",
    "a.h5",
    "a.pkl",
]
PIECES = (
    *(
        b" ",
        b"\n",
        b"\t\x0b\x0c",
        b"\xef\xbb\xbf",
        b"\xff\xfe<\0",
        b"\xfe\xff\0<",
        b"<\0?\0",
        b"\0<\0?",
        b"\0",
    ),
    *(
        b"<?xml ",
        b"<PMML>",
        b"<svg ",
        b'{"a"',
        b"[1",
        b'["',
        b"# words\n",
        b"node {",
        b"library<",
        b"graph_def{",
    ),
    *(b"meta_graphs {", b"meta_info_def{", b"versions{", b"saved_model_schema_version: 1", b"xxxxTFL3"),
    *(b"7z\xbc\xaf\x27\x1c", b"\x89HDF\r\n\x1a\n", bytes(512), bytes(1024)),
)


def _misses(rare: Rare, name: str, data: bytes) -> bool:
    source = BytesSource(name, data)
    return rare.loaded().recognises(data[:HEAD], source) and not rare.may(data[:HEAD], source)


@pytest.mark.parametrize("rare", FORMATS)
@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    pieces=st.lists(st.sampled_from(PIECES), max_size=5),
    rest=st.binary(max_size=9),
)
def test_the_first_look_lets_through_all_that_the_scanner_recognises(
    rare: Rare, name: str, pieces: list[bytes], rest: bytes
) -> None:
    assert not _misses(rare, name, b"".join(pieces) + rest)


@pytest.mark.parametrize("rare", FORMATS)
def test_so_it_does_with_every_vector(rare: Rare) -> None:
    assert rare.format == rare.loaded().format
    vectors = {**make.CLEAN, **make.REFUSED, **make.INCOMPLETE}
    assert [name for name, data in vectors.items() if _misses(rare, name, data)] == []


def test_a_worker_that_began_without_them_judges_them_all_the_same(tmp_path: Path) -> None:
    """By names that promise weights, so that it does begin without."""
    (tmp_path / "0.bin").write_bytes(make.CLEAN["config.json"])
    (tmp_path / "1.bin").write_bytes(b"<?xml version='1.0'?><PMML version='4.4'></PMML>")
    (tmp_path / "2.bin").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(20))
    found = {file.path: (file.format, file.verdict) for file in scan_path([tmp_path]).files}
    assert [found[name][0] for name in sorted(found)] == ["json", "xml", "7z"]
    assert found["0.bin"][1] is Verdict.CLEAN


def test_none_of_them_is_loaded_with_the_others() -> None:
    program = (
        "import sys, garrison.artifacts.scanners.worker\n"
        "print([name for name in ('hdf5', 'json_data', 'yaml_data', 'seven_zip', 'tflite', 'toml_data', 'xml_models',"
        " 'tf_text') if f'garrison.artifacts.scanners.{name}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
