"""XML without its traps: no document type, no entities, no instructions, bounded depth, size and counts.

Source: XML 1.0; expat reads the syntax, and a document type ends the reading before any entity exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat

from garrison.artifacts.scanners.base import FIX_STRUCTURE, Malformed, Source, shown
from garrison.artifacts.scanners.sources import chunks

MAX_XML = 256 << 20  # large PMML forests have some tens of megabytes; more takes minutes to read here
MAX_DEPTH = 600  # PMML trees nest one element a level; scikit-learn's deepest trees stay under 200
MAX_ELEMENTS = 5_000_000
MAX_VALUE = 4 << 20  # characters of one attribute or text that are looked at
FIX = "remove the document type and the entities; no model format needs them"
_PLAIN_DOCTYPE = ("svg", "-//W3C//DTD SVG 1.1//EN")  # matplotlib writes it; nothing reads it


class BadXml(ValueError):
    """Not well-formed XML, or over a limit."""


@dataclass(frozen=True, slots=True)
class Element:
    """The start of an element (`name` with its prefix), or its end (`attributes` None) with the text before it."""

    name: str
    attributes: dict[str, str] | None
    depth: int
    text: str = ""

    @property
    def local(self) -> str:
        return self.name.rsplit(":", 1)[-1]


class _Events:
    """What expat reports of one piece of the file."""

    def __init__(self) -> None:
        self.found: list[Element] = []
        self.text: list[str] = []
        self.length = self.depth = self.count = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        self.count += 1
        if self.depth > MAX_DEPTH or self.count > MAX_ELEMENTS:
            raise BadXml(f"nested deeper than {MAX_DEPTH} or more than {MAX_ELEMENTS} elements")
        self.found.append(Element(name, attributes, self.depth, self._taken()))

    def end(self, name: str) -> None:
        self.found.append(Element(name, None, self.depth, self._taken()))
        self.depth -= 1

    def data(self, text: str) -> None:
        self.length += len(text)
        if self.length > MAX_VALUE:
            raise BadXml(f"a text of more than {MAX_VALUE} characters")
        self.text.append(text)

    def _taken(self) -> str:
        text = "".join(self.text)
        self.text.clear()
        self.length = 0
        return text


def _doctype(name: str, system: str | None, public: str | None, has_subset: int) -> None:
    if (name, public) != _PLAIN_DOCTYPE or has_subset:
        message = f"a document type {shown(name)}"
        message += f" from {shown(system)}" if system else ""
        raise Malformed(
            "artifact.xml.doctype", f"{message}, which can define entities and fetch files", fix=FIX
        )


def _entity(name: str, *_rest: Any) -> None:
    raise Malformed("artifact.xml.entity", f"the entity {shown(name)} is defined", fix=FIX)


def _instruction(target: str, _data: str) -> None:
    message = f"an instruction for {shown(target)}, which a reader may follow"
    raise Malformed("artifact.xml.instruction", message, fix=FIX_STRUCTURE)


def elements(source: Source) -> Iterator[Element]:
    """Starts and ends of elements in order. Raises `BadXml`, and `Malformed` for what no model needs."""
    if source.size > MAX_XML:
        raise BadXml(f"more than {MAX_XML} bytes of XML")
    events = _Events()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = events.start
    parser.EndElementHandler = events.end
    parser.CharacterDataHandler = events.data
    parser.StartDoctypeDeclHandler = _doctype
    parser.EntityDeclHandler = _entity
    parser.UnparsedEntityDeclHandler = _entity
    parser.ExternalEntityRefHandler = _entity  # type: ignore[assignment]  # it never returns
    parser.ProcessingInstructionHandler = _instruction
    try:
        for data in chunks(source):
            parser.Parse(data, False)
            yield from events.found
            events.found.clear()
        parser.Parse(b"", True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        yield from events.found  # what was read before the fault is judged too
        reason = expat.errors.messages.get(getattr(error, "code", 0), str(error))
        raise BadXml(f"{reason} at line {getattr(error, 'lineno', '?')}") from error
    yield from events.found
