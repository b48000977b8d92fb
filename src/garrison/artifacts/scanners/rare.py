"""Scanners that are loaded when a file may be theirs, as all of them together are half of what a start costs.

Each has a test of the first bytes or the name that lets through all that the scanner itself recognises, and a
little more. A confined process can load nothing: one that was started without them says that it wants them
(`Later`), and is started again with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from garrison.artifacts.scanners.base import Later, Scanner, Seen, Source

_HDF5 = b"\x89HDF\r\n\x1a\n"
_USER_BLOCKS = tuple(512 << power for power in range(12))  # where a superblock may begin
_PROTOTEXT = (".pbtxt", ".pbtext", ".prototxt", ".textproto", ".txtpb")
_FIELDS = (b"#", b"node", b"library", b"versions", b"meta_", b"graph_def", b"saved_model")  # or a comment
_JSON = (".json", ".jsonl", ".ndjson")
_YAML = (".yaml", ".yml", ".dvc", "mlmodel", "registered_model_meta", "dvc.lock")
_WIDE = (b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<")  # the first "<" in two bytes


@dataclass(frozen=True, slots=True)
class Rare:
    """A scanner that `load` imports, for files that `may` be its."""

    format: str
    may: Callable[[bytes, Source], bool]
    load: Callable[[], Scanner]

    def recognises(self, head: bytes, source: Source) -> bool:
        return self.may(head, source) and self.loaded().recognises(head, source)

    def scan(self, source: Source) -> Iterator[Seen]:
        yield from self.loaded().scan(source)

    def loaded(self) -> Scanner:
        try:
            return self.load()
        except (ImportError, OSError) as error:
            raise Later from error


def _may_be_hdf5(head: bytes, source: Source) -> bool:
    if head.startswith(_HDF5):
        return True
    return any(source.read_at(at, 8) == _HDF5 for at in _USER_BLOCKS if at + 8 <= source.size)


def _hdf5() -> Scanner:
    from garrison.artifacts.scanners.hdf5 import Hdf5  # see above, as in the others

    return Hdf5()


def _json() -> Scanner:
    from garrison.artifacts.scanners.json_data import Json  # see above

    return Json()


def _may_be_json(head: bytes, source: Source) -> bool:
    return source.name.lower().endswith(_JSON) or _begins(head) in (b"{", b"[")


def _yaml() -> Scanner:
    from garrison.artifacts.scanners.yaml_data import Yaml  # see above

    return Yaml()


def _seven_zip() -> Scanner:
    from garrison.artifacts.scanners.seven_zip import SevenZip  # see above

    return SevenZip()


def _tflite() -> Scanner:
    from garrison.artifacts.scanners.tflite import TfLite  # see above

    return TfLite()


def _toml() -> Scanner:
    from garrison.artifacts.scanners.toml_data import Toml  # see above

    return Toml()


def _xml() -> Scanner:
    from garrison.artifacts.scanners.xml_models import Xml  # see above

    return Xml()


def _tensorflow_text() -> Scanner:
    from garrison.artifacts.scanners.tf_text import TensorflowText  # see above

    return TensorflowText()


def _may_be_tensorflow_text(head: bytes, source: Source) -> bool:
    if b"\0" in head:
        return False
    return source.name.lower().endswith(_PROTOTEXT) or head.lstrip().startswith(_FIELDS)


def _may_be_xml(head: bytes, _source: Source) -> bool:
    return head[:2] in _WIDE or _begins(head) == b"<"


def _begins(head: bytes) -> bytes:
    """The first byte of a text, behind its mark and its white space."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]


HDF5 = Rare("hdf5", _may_be_hdf5, _hdf5)
SEVEN_ZIP = Rare("7z", lambda head, _: head[:2] == b"7z", _seven_zip)
TFLITE = Rare("tflite", lambda head, _: head[4:8] == b"TFL3", _tflite)
JSON = Rare("json", _may_be_json, _json)
YAML = Rare("yaml", lambda _, source: source.name.lower().endswith(_YAML), _yaml)
TOML = Rare("toml", lambda _, source: source.name.lower().endswith(".toml"), _toml)
XML = Rare("xml", _may_be_xml, _xml)
TENSORFLOW_TEXT = Rare("tensorflow-text", _may_be_tensorflow_text, _tensorflow_text)
RARE = (HDF5, SEVEN_ZIP, TFLITE, JSON, YAML, TOML, XML, TENSORFLOW_TEXT)
