"""Rules about archives and compressed files."""

from __future__ import annotations

from garrison.artifacts.scanners.rule import Rule

_AGAIN = "get the file again from its author; a file that is written like this is not loaded"
_UNPACK = "unpack the archive and scan what is in it, or split it into smaller files"

CONTAINER_RULES: dict[str, Rule] = {
    # --- archives and compression ---
    "artifact.bomb": Rule(
        "a decompression bomb",
        "A few bytes unpack to very many. Reading it fills the memory or the disk.",
        _AGAIN,
    ),
    "artifact.compression.damaged": Rule(
        "a damaged compressed stream",
        "The stream ends early or contradicts its checksum, so part of the content was not seen.",
        "get the file again",
    ),
    "artifact.compression.trailing": Rule(
        "bytes behind a compressed stream",
        "Readers that ignore them and readers that go on see two different files.",
        _AGAIN,
    ),
    "artifact.zip.bomb": Rule(
        "a zip bomb",
        "A member unpacks to more than deflate can reach or a model can need.",
        _AGAIN,
    ),
    "artifact.zip.bounds": Rule(
        "a member that ends inside the directory",
        "The directory and the data share bytes, so two readers see two archives.",
        _AGAIN,
    ),
    "artifact.zip.comment": Rule(
        "bytes behind the end of a zip",
        "They belong to nothing in the archive; payloads and second archives are hidden there.",
        _AGAIN,
    ),
    "artifact.zip.count": Rule(
        "a zip with too many members",
        "No model has as many; such archives tire readers out.",
        _UNPACK,
    ),
    "artifact.zip.crc": Rule(
        "a wrong checksum in a zip",
        "The bytes are not those that the archive was made of. Some readers refuse it, others load it.",
        _AGAIN,
    ),
    "artifact.zip.damaged": Rule(
        "a member that cannot be unpacked",
        "Its content was not seen; another reader may be more forgiving.",
        "get the file again",
    ),
    "artifact.zip.directory": Rule(
        "a directory that contradicts itself",
        "The list of members is shorter, longer or other than the end record says.",
        _AGAIN,
    ),
    "artifact.zip.disagree": Rule(
        "two descriptions of one member",
        "The local header and the directory disagree. Scanners read one of them and loaders the other.",
        _AGAIN,
    ),
    "artifact.zip.duplicate": Rule(
        "two members with one name",
        "Which one a loader takes depends on the loader.",
        _AGAIN,
    ),
    "artifact.zip.encrypted": Rule(
        "an encrypted member",
        "What is inside was not seen.",
        "unlock it first, then scan it",
    ),
    "artifact.zip.end": Rule(
        "end records that contradict themselves",
        "Where the directory is depends on which record a reader trusts.",
        _AGAIN,
    ),
    "artifact.zip.hidden": Rule(
        "bytes that no member owns",
        "A payload can lie between members, in front of the first or around the directory.",
        _AGAIN,
    ),
    "artifact.zip.link": Rule(
        "a link or device in a zip",
        "Unpacking it makes a link, and the next member is written through it.",
        _AGAIN,
    ),
    "artifact.zip.local": Rule(
        "no member where one should be",
        "The directory points at something that is not a member.",
        _AGAIN,
    ),
    "artifact.zip.method": Rule(
        "an unknown compression method",
        "The member was not unpacked, so what is inside was not seen.",
        "pack it again with deflate",
    ),
    "artifact.zip.overlap": Rule(
        "members that share bytes",
        "A small file unpacks to a very large one, or one member hides in another.",
        _AGAIN,
    ),
    "artifact.zip.slip": Rule(
        "a member that leaves the directory",
        "Unpacking it writes outside the directory that it is unpacked to (zip slip).",
        _AGAIN,
    ),
    "artifact.zip.truncated": Rule(
        "a zip without its end",
        "The directory is missing; what the archive holds is not known.",
        "get the file again",
    ),
    "artifact.7z.crc": Rule(
        "a wrong checksum in a 7z archive",
        "The bytes are not those that the archive was made of. Some readers refuse it, others load it.",
        _AGAIN,
    ),
    "artifact.7z.duplicate": Rule(
        "two members with one name",
        "Which one is unpacked depends on the reader.",
        _AGAIN,
    ),
    "artifact.7z.hidden": Rule(
        "bytes in a 7z archive that belong to nothing",
        "Payloads and second archives are hidden there.",
        _AGAIN,
    ),
    "artifact.7z.link": Rule(
        "a link, a device or a removal in a 7z archive",
        "Unpacking it makes a link or takes a file away; the next member is written through it.",
        _AGAIN,
    ),
    "artifact.7z.method": Rule(
        "a 7z archive that is not unpacked here",
        "It is encrypted, too large, or packed by a method that the standard library does not have.",
        "unpack it and scan the result, or pack it as zip",
    ),
    "artifact.7z.overlap": Rule(
        "streams of a 7z archive that share bytes",
        "Two readers may see two archives; bombs are made so.",
        _AGAIN,
    ),
    "artifact.7z.slip": Rule(
        "a member that leaves the directory",
        "Unpacking it writes outside the directory that it is unpacked to.",
        _AGAIN,
    ),
    "artifact.7z.structure": Rule(
        "a 7z archive that contradicts itself",
        "Its counts, sizes or streams do not fit one another, so two readers may see two archives.",
        _AGAIN,
    ),
    "artifact.tar.damaged": Rule(
        "a damaged tar",
        "A header does not have its checksum, or the archive ends early.",
        "get the file again",
    ),
    "artifact.tar.duplicate": Rule(
        "two members with one name",
        "The later one replaces the earlier when it is unpacked.",
        _AGAIN,
    ),
    "artifact.tar.link": Rule(
        "a link or device in a tar",
        "Unpacking it makes a link, and the next member is written through it.",
        _AGAIN,
    ),
    "artifact.tar.slip": Rule(
        "a member that leaves the directory",
        "Unpacking it writes outside the directory that it is unpacked to.",
        _AGAIN,
    ),
    "artifact.tar.sparse": Rule(
        "a sparse member",
        "Its size is a claim that is not in the archive.",
        "pack it again without --sparse",
    ),
    "artifact.tar.trailing": Rule(
        "bytes behind the end of a tar",
        "They belong to nothing in the archive.",
        _AGAIN,
    ),
}
