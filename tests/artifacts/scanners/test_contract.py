"""Every built-in scanner under the one contract suite."""

from __future__ import annotations

from typing import ClassVar

from tests.contracts.scanner import ScannerContract, named
from tests.vectors.artifacts import make

from garrison.artifacts.scanners.archive_tar import Tar
from garrison.artifacts.scanners.archive_zip import Zip
from garrison.artifacts.scanners.gguf import Gguf
from garrison.artifacts.scanners.jinja import Jinja
from garrison.artifacts.scanners.json_data import Json
from garrison.artifacts.scanners.npy import Npy
from garrison.artifacts.scanners.onnx import Onnx
from garrison.artifacts.scanners.pickle import Pickle
from garrison.artifacts.scanners.safetensors import Safetensors
from garrison.artifacts.scanners.sentencepiece import SentencePiece
from garrison.artifacts.scanners.sources import BytesSource


class TestGguf(ScannerContract):
    scanner = Gguf()
    good: ClassVar = {"model.gguf": make.CLEAN["model.gguf"]}
    bad: ClassVar = {
        name: data for name, data in named(make.REFUSED, ".gguf").items() if "template" not in name
    }


class TestSafetensors(ScannerContract):
    scanner = Safetensors()
    good: ClassVar = named(make.CLEAN, ".safetensors")
    bad: ClassVar = named(make.REFUSED, ".safetensors")


class TestPickle(ScannerContract):
    scanner = Pickle()
    good: ClassVar = {**named(make.CLEAN, ".pkl"), "array.joblib": make.CLEAN["array.joblib"]}
    bad: ClassVar = {
        name: data for name, data in named(make.REFUSED, ".pkl").items() if not name.startswith("in_")
    }

    def test_bytes_inside_are_handed_on(self) -> None:
        for name in ("in_bytes.pkl", "in_base64.pkl"):
            assert self.scanner.recognises(make.REFUSED[name], make_source(name))


class TestNpy(ScannerContract):
    scanner = Npy()
    good: ClassVar = {"array.npy": make.CLEAN["array.npy"], "fields.npy": make.CLEAN["fields.npy"]}
    bad: ClassVar = {
        name: make.REFUSED[name] for name in ("header_code.npy", "size_wrong.npy", "object_array.npy")
    }


class TestOnnx(ScannerContract):
    scanner = Onnx()
    good: ClassVar = named(make.CLEAN, ".onnx")
    bad: ClassVar = named(make.REFUSED, ".onnx")


class TestZip(ScannerContract):
    scanner = Zip()
    good: ClassVar = {"empty.zip": make.zipped([])}
    bad: ClassVar = named(make.REFUSED, ".zip")


class TestTar(ScannerContract):
    scanner = Tar()
    good: ClassVar = {"empty_file.tar": make.tarred([("a", b"")])}
    bad: ClassVar = named(make.REFUSED, ".tar")


class TestJson(ScannerContract):
    scanner = Json()
    good: ClassVar = {
        name: data for name, data in named(make.CLEAN, ".json").items() if "tokenizer" not in name
    }
    bad: ClassVar = named(make.REFUSED, ".json")


class TestJinja(ScannerContract):
    scanner = Jinja()
    good: ClassVar = named(make.CLEAN, ".jinja")
    bad: ClassVar = {"escape.jinja": b"{{ ''.__class__ }}"}


class TestSentencePiece(ScannerContract):
    scanner = SentencePiece()
    good: ClassVar = named(make.CLEAN, ".model")
    bad: ClassVar = {"unknown.model": make.CLEAN["tokenizer.model"] + b"\x7a\x00"}


def make_source(name: str) -> BytesSource:
    return BytesSource(name, make.REFUSED[name])
