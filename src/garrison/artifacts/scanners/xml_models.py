"""XML: OpenVINO graphs, PMML models and pictures in SVG; any other XML is not understood.

Sources: OpenVINO IR v10/v11 and its operation sets; PMML 4.4; SVG 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from garrison.artifacts.scanners.base import FIX_CODE, Gap, Reference, Seen, Source, critical, high, shown
from garrison.artifacts.scanners.openvino_allowed import BITS, EXTENSIONS, OPERATIONS
from garrison.artifacts.scanners.paths import unsafe_path
from garrison.artifacts.scanners.strict_xml import BadXml, Element, elements
from garrison.core.finding import Finding

_BEGINS = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml\s|PMML[\s>:]|net[\s>]|svg[\s>]|!DOCTYPE\s+(?!html))", re.IGNORECASE
)
_WIDE = (b"\xff\xfe<\0", b"\xfe\xff\0<", b"<\0?\0", b"\0<\0?")
_PROSE = re.compile(r".*\.(?:md|rst|txt|html?|ipynb|jinja)\Z", re.IGNORECASE)
_LIBRARY = re.compile(r"(?:\.so(?:\.\d+)*|\.dll|\.dylib|\.pyd)\Z", re.IGNORECASE)
_CODE = re.compile(
    r"getRuntime|ProcessBuilder|java\.lang|\b(?:exec|eval|system|popen|compile|spawn)\s*\(|__\w+__|\bimport\s+\w"
    r"|\bsubprocess\b|\bos\.\w|</?script|javascript:|\bfunction\s*\(|\blambda\b|\$\{|#\{|\bpowershell\b|/bin/(?:ba)?sh"
    r"|\bdef\s+\w+\s*\(|cmd(?:\.exe)?\s*/c|\brequire\s*\(|[A-Za-z0-9+/=\n]{400}",
    re.IGNORECASE,
)
_CODE_NAMES = re.compile(
    r"(?:.*[._-])?(?:script|code|exec|eval|command|java|javascript|python|class|pickle|groovy)\Z", re.I
)
_DOTTED = re.compile(r"[A-Za-z_$][\w$]*(?:\.[\w$]+)+\Z")
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//|[a-z]{2,}:|\\\\", re.IGNORECASE)
_REFERS = frozenset({"href", "url", "uri", "src", "location", "file", "schemaLocation"})
FIX = "export the model with standard operations only, or serve it with a runtime that you trust with them"
FIX_REFERENCE = "put what the model needs beside it and refer to it by its plain name"


class Xml:
    format = "xml"

    def recognises(self, head: bytes, source: Source) -> bool:
        if head[:4] in _WIDE:
            return True
        match = _BEGINS.match(head)
        return match is not None and not _PROSE.match(source.name)

    def scan(self, source: Source) -> Iterator[Seen]:
        rules: Callable[[Element], Iterator[Seen]] | None = None
        state = _State(source)
        try:
            for element in elements(source):
                if rules is None:
                    rules = {"net": state.openvino, "PMML": _pmml, "svg": _svg}.get(element.local, _other)
                yield from _external(element)
                yield from rules(element)
        except BadXml as error:
            yield Gap("artifact.xml.syntax", f"XML that is not understood: {error}", fix="repair the file")
        if state.data_end:
            stem = source.name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
            yield Reference(f"{stem}.bin", state.data_end)


def _external(element: Element) -> Iterator[Finding]:
    """What any reader of XML may be made to fetch or run."""
    if element.name.lower().startswith(("xi:", "xinclude:", "xsl:", "xslt:")):
        yield high(
            "artifact.xml.include",
            f"<{shown(element.name)}> includes or transforms other files",
            fix=FIX_REFERENCE,
        )
    for name, value in (element.attributes or {}).items():
        if name.startswith("xmlns") and ("XInclude" in value or "/XSL/Transform" in value):
            yield high("artifact.xml.include", f"the vocabulary {shown(value)}", fix=FIX_REFERENCE)


def _other(element: Element) -> Iterator[Seen]:
    if element.depth == 1 and element.attributes is not None:
        message = f"XML whose root is <{shown(element.name)}> is not understood"
        yield Gap(
            "artifact.unknown", message, fix="convert it to a format in docs/scanning.md, or leave it out"
        )


class _State:
    """What of an OpenVINO graph has been seen so far."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.version = 11
        self.layer = ""
        self.data_end = 0

    def openvino(self, element: Element) -> Iterator[Seen]:
        attributes = element.attributes
        if attributes is None:
            return
        where = f":{shown(self.layer)}" if self.layer else ""
        for name, value in attributes.items():
            if _LIBRARY.search(value) or name in ("library", "lib", "so_path", "extension"):
                yield critical(
                    "artifact.openvino.library", f"the library {shown(value)} would be loaded", where, FIX
                )
            elif name in _REFERS and _ADDRESS.match(value):
                yield high("artifact.openvino.reference", f"refers to {shown(value)}", where, FIX_REFERENCE)
        if element.name == "net" and element.depth == 1:
            version = attributes.get("version", "")
            if version not in ("7", "9", "10", "11"):
                yield Gap("artifact.openvino.version", f"IR version {shown(version)} is not understood")
            self.version = int(version) if version in ("7", "9", "10", "11") else 11
        elif element.name == "layer":
            self.layer = attributes.get("name", attributes.get("id", ""))
            yield from self._operation(attributes)
        elif element.name == "data" and "offset" in attributes:
            yield from self._data(attributes, where)
        elif element.name in ("script", "code", "Extension", "extension"):
            yield high(
                "artifact.openvino.code", f"<{shown(element.name)}> is not part of a graph", where, FIX
            )

    def _operation(self, attributes: dict[str, str]) -> Iterator[Seen]:
        kind, version = attributes.get("type", ""), attributes.get("version", "")
        where = f":{shown(self.layer)}"
        if version == "extension" and kind in EXTENSIONS:
            return
        known = re.match(r"opset(?:[1-9]|1\d)\Z", version) or (not version and self.version < 10)
        if not known:
            message = f"{shown(kind)} of {shown(version)} needs a library of its own"
            yield high("artifact.openvino.operation", message, where, FIX)
        elif version and kind not in OPERATIONS:
            yield Gap("artifact.openvino.operation", f"{shown(kind)} is not a standard operation", where, FIX)

    def _data(self, attributes: dict[str, str], where: str) -> Iterator[Seen]:
        texts = [attributes.get(key, "") for key in ("offset", "size")]
        if not all(text.isascii() and text.isdigit() and len(text) < 19 for text in texts):
            yield high("artifact.openvino.bounds", "a constant whose offset or size is not a number", where)
            return
        offset, size = (int(text) for text in texts)
        self.data_end = max(self.data_end, offset + size)
        shape = [text.strip() for text in attributes.get("shape", "").split(",") if text.strip()]
        bits = BITS.get(attributes.get("element_type", ""), 0)
        if not bits or not all(text.isascii() and text.isdigit() and len(text) < 19 for text in shape):
            return
        elements_of = 1
        for text in shape:
            elements_of *= int(text)
        if (elements_of * bits + 7) // 8 != size:
            message = f"a constant of {size} bytes whose shape needs {(elements_of * bits + 7) // 8}"
            yield high("artifact.openvino.bounds", message, where)


def _pmml(element: Element) -> Iterator[Seen]:
    attributes = element.attributes
    if attributes is None or element.text.strip():
        if _CODE.search(element.text):
            yield high(
                "artifact.pmml.code",
                f"a text in <{shown(element.name)}> is written like a program",
                fix=FIX_CODE,
            )
        if attributes is None:
            return
    where = f":{shown(element.name)}"
    local = element.local
    if local == "Extension":
        name, value = attributes.get("name", ""), attributes.get("value", "")
        if (
            _CODE_NAMES.match(name)
            or _CODE_NAMES.match(attributes.get("extender", ""))
            or _CODE.search(value)
        ):
            message = f"an extension carries code: {shown(name)} = {shown(value)}"
            yield high("artifact.pmml.extension", message, where, FIX_CODE)
    elif local.lower() in ("script", "code", "python", "javascript", "java", "groovy", "exec"):
        yield high("artifact.pmml.code", f"<{shown(element.name)}> carries a program", where, FIX_CODE)
    elif local in ("Apply", "DefineFunction") and _DOTTED.match(attributes.get("function", "")):
        message = f"the evaluator would load the class {shown(attributes['function'])}"
        yield high("artifact.pmml.function", message, where, FIX_CODE)
    for key, value in attributes.items():
        if key.rsplit(":", 1)[-1] in _REFERS and not key.endswith("schemaLocation"):
            if _ADDRESS.match(value) or unsafe_path(value):
                yield high(
                    "artifact.pmml.reference", f"{shown(key)} refers to {shown(value)}", where, FIX_REFERENCE
                )
        elif local != "Extension" and re.search(r"getRuntime|ProcessBuilder|java\.lang\.|</?script", value):
            yield high("artifact.pmml.code", f"{shown(key)} is written like a program", where, FIX_CODE)


def _svg(element: Element) -> Iterator[Seen]:
    if element.attributes is None:
        return
    if element.local in ("script", "foreignObject", "iframe", "embed", "object", "handler", "set"):
        yield high("artifact.image.active", f"<{shown(element.name)}> in a picture", fix="use a PNG instead")
    for name, value in element.attributes.items():
        local = name.rsplit(":", 1)[-1].lower()
        if local.startswith("on"):
            yield high(
                "artifact.image.active", f"the event {shown(name)} in a picture", fix="use a PNG instead"
            )
        elif local == "href" and not _harmless_link(element.local, value):
            yield Gap("artifact.image.active", f"a picture refers to {shown(value)}", fix="use a PNG instead")


def _harmless_link(name: str, value: str) -> bool:
    if value.startswith(("#", "data:image/png", "data:image/jpeg")):
        return True
    return name == "a" and value.startswith(("https://", "http://"))
