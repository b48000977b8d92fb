"""Every rule that a scanner can name: what it saw, why that matters, what to do. `garrison explain RULE`.

A rule id is forever: it is never renamed and never given another meaning. A test compares this list with
what the scanners say; `docs/reference/rules.md` is written from it.
"""

from __future__ import annotations

from garrison.artifacts.scanners.rule import Rule as Rule
from garrison.artifacts.scanners.rules_code import CODE_RULES
from garrison.artifacts.scanners.rules_containers import CONTAINER_RULES
from garrison.artifacts.scanners.rules_formats import FORMAT_RULES
from garrison.artifacts.scanners.rules_frameworks import FRAMEWORK_RULES

_AGAIN = "get the file again from its author; a file that is written like this is not loaded"
_INSIDE = "keep what the model refers to inside its directory, and name it by a relative path"
_UNPACK = "unpack the archive and scan what is in it, or split it into smaller files"
_DATA = "get the model again with all of its data files"

RULES: dict[str, Rule] = {
    **CONTAINER_RULES,
    **CODE_RULES,
    **FORMAT_RULES,
    **FRAMEWORK_RULES,
    # --- what every format shares ---
    "artifact.unknown": Rule(
        "content that no scanner understands",
        "What is not understood cannot be called safe. The file is incomplete, never clean.",
        "convert it to a format in docs/scanning.md, or leave the file out of the artifact",
    ),
    "artifact.empty": Rule(
        "an empty file",
        "A file of no bytes has no format; it is what is left of a broken download or a placeholder.",
        "get the file again, or leave it out",
    ),
    "artifact.truncated": Rule(
        "a file that ends too early",
        "The structure promises more bytes than there are. What the missing part would say is not known.",
        "get the file again",
    ),
    "artifact.unreadable": Rule(
        "a file that could not be read",
        "It could not be opened or read, or there were too many files, so nothing can be said about it.",
        "make it readable, or leave it out of the artifact",
    ),
    "artifact.scanner.failed": Rule(
        "a scanner that stopped",
        "A scanner met something it did not expect. The file is treated as not understood.",
        "report the file to the makers of Garrison; until then it is treated as not understood",
    ),
    "artifact.scanner.start": Rule(
        "the process that reads files did not start",
        "Files are read in a process of their own. It ended before it had seen any, so nothing was judged.",
        "pip install --force-reinstall garrison    then scan again; nothing was looked at",
    ),
    "artifact.scanner.unconfined": Rule(
        "a process that reads files and could reach out",
        "The policy demands that the kernel takes files, network and programs away from it. This one could not.",
        "scan on Linux 5.13 or later with Landlock and seccomp, or leave require-confinement out of the policy",
    ),
    "artifact.limit.size": Rule(
        "a part larger than its limit",
        "Every part has a limit of size, so that no file can exhaust the machine that judges it.",
        _UNPACK,
    ),
    "artifact.limit.count": Rule(
        "more parts than the limit",
        "Every list has a limit of length, so that no file can exhaust the machine that judges it.",
        _UNPACK,
    ),
    "artifact.limit.nesting": Rule(
        "containers nested too deep",
        "Real models need three levels of archives in archives; deeper nesting is how scanners are tired out.",
        _UNPACK,
    ),
    "artifact.limit.time": Rule(
        "a file that takes too long",
        "The worker that parses a file has a wall clock. The file went over it and was given up.",
        "treat the file as hostile; if you made it yourself, split it into smaller files",
    ),
    "artifact.limit.resources": Rule(
        "a file that takes too much memory or processor time",
        "The worker that parses a file has limits. The file went over them, and the worker was replaced.",
        "treat the file as hostile; if you made it yourself, split it into smaller files",
    ),
    "artifact.file.special": Rule(
        "a link, pipe, socket or device",
        "It is not a regular file: a link may lead out of the directory, a pipe or device may be anything.",
        "replace it with a copy of the file",
    ),
    "artifact.file.hard_link": Rule(
        "a file with more than one name",
        "Whoever holds the other name can change the content after it was judged.",
        "copy the file, so that nobody can change it through another name",
    ),
    "artifact.file.changed": Rule(
        "a file that changed while it was read",
        "The verdict would be about bytes that are no longer there.",
        "scan it again when nothing writes to it",
    ),
    "artifact.cache.digest": Rule(
        "a blob that is not what its name says",
        "The cache names large files by their SHA-256, and this one has another content.",
        "delete it from the cache and download it again",
    ),
    "artifact.index.stale": Rule(
        "an entry that has to be read again",
        "The rules of now look at bytes that the feature index did not keep, so the old verdict does not hold.",
        "scan the file again",
    ),
    "artifact.data.missing": Rule(
        "data that is named but not here",
        "The model names a data file beside it that the directory does not have. It will not load.",
        _DATA,
    ),
    "artifact.data.short": Rule(
        "data that is too short",
        "The model reads beyond the end of its data file, so it gets bytes of something else.",
        _DATA,
    ),
    "artifact.code": Rule(
        "a program",
        "Loading this model may run the program; a scanner cannot say what a program does.",
        "leave programs out of the artifact; ship them as a package that is reviewed like one",
    ),
    "artifact.text.encoding": Rule(
        "prose that is not UTF-8",
        "The name promises text, and the bytes are not.",
        "save it as UTF-8",
    ),
    "artifact.text.binary": Rule(
        "prose with control characters",
        "The name promises text; the bytes hold something else, or try to steer a terminal.",
        "leave the file out of the artifact",
    ),
    "artifact.key.private": Rule(
        "a private key among the files",
        "Everybody who can pull the model could sign, log in or decrypt with it, for as long as the version exists.",
        "take the file out, treat that key as leaked, and replace it",
    ),
    "artifact.pem.line": Rule(
        "a PEM file with something else in it",
        "Blocks between BEGIN and END lines and remarks between them are PEM; other bytes are judged by nobody.",
        "leave only the blocks in the file, or leave the file out of the artifact",
    ),
    "artifact.requirements.fetch": Rule(
        "requirements that fetch from elsewhere",
        "Installing what the model asks for would run code from an address or index of the model's choosing.",
        "name released packages with exact versions",
    ),
    # --- structured weights ---
    "artifact.safetensors.header": Rule(
        "a header that is not what safetensors writes",
        "The header is too large, not strict JSON, or has keys twice; two readers may see two models.",
        _AGAIN,
    ),
    "artifact.safetensors.metadata": Rule(
        "metadata that is not text",
        "The specification allows text alone.",
        _AGAIN,
    ),
    "artifact.safetensors.program": Rule(
        "a program in the metadata",
        "Web pages and tools show, parse and sometimes obey these texts. A program is not a note about a model.",
        "ask the author for a file without it, or write the metadata again after review",
    ),
    "artifact.safetensors.entry": Rule(
        "a tensor entry with other keys",
        "An entry has dtype, shape and data_offsets, and nothing else.",
        _AGAIN,
    ),
    "artifact.safetensors.dtype": Rule(
        "an unknown dtype",
        "The size of the tensor cannot be checked.",
        _AGAIN,
    ),
    "artifact.safetensors.span": Rule(
        "a tensor of another size",
        "dtype and shape need another number of bytes than the offsets give.",
        _AGAIN,
    ),
    "artifact.safetensors.layout": Rule(
        "tensors that overlap or leave holes",
        "One tensor reads the bytes of another, or something hides between them.",
        _AGAIN,
    ),
    "artifact.safetensors.bounds": Rule(
        "tensors beyond the end",
        "Loading reads outside the file.",
        _AGAIN,
    ),
    "artifact.safetensors.trailing": Rule(
        "bytes behind the last tensor",
        "They belong to nothing; payloads are carried there.",
        _AGAIN,
    ),
    "artifact.gguf.version": Rule(
        "an unknown version of GGUF",
        "What the header means is not known.",
        "convert it with a current llama.cpp",
    ),
    "artifact.gguf.alignment": Rule(
        "an impossible alignment",
        "Offsets computed with it lead elsewhere than the writer meant.",
        _AGAIN,
    ),
    "artifact.gguf.bounds": Rule(
        "a tensor beyond the end",
        "Loading reads outside the file.",
        _AGAIN,
    ),
    "artifact.gguf.count": Rule(
        "more tensors or keys than the file can hold",
        "Loaders allocate by these numbers; overflows in them have been exploited.",
        _AGAIN,
    ),
    "artifact.gguf.duplicate": Rule(
        "a key or tensor that stands twice",
        "Which one counts depends on the loader.",
        _AGAIN,
    ),
    "artifact.gguf.gap": Rule(
        "bytes between tensors",
        "They belong to nothing; payloads are carried there.",
        _AGAIN,
    ),
    "artifact.gguf.length": Rule(
        "a length beyond the file",
        "Loaders allocate and read by it; overflows in it have been exploited.",
        _AGAIN,
    ),
    "artifact.gguf.offset": Rule(
        "a tensor that is not aligned",
        "Its offset is not one that a writer makes.",
        _AGAIN,
    ),
    "artifact.gguf.overlap": Rule(
        "tensors that overlap",
        "One tensor reads the bytes of another.",
        _AGAIN,
    ),
    "artifact.gguf.shape": Rule(
        "an impossible shape",
        "The product of the dimensions overflows or is not a size.",
        _AGAIN,
    ),
    "artifact.gguf.text": Rule(
        "text that is not UTF-8",
        "Keys and values of type string are UTF-8 by the specification.",
        _AGAIN,
    ),
    "artifact.gguf.trailing": Rule(
        "bytes behind the last tensor",
        "They belong to nothing; payloads are carried there.",
        _AGAIN,
    ),
    "artifact.gguf.type": Rule(
        "an unknown type",
        "How many bytes to read is not known, so everything behind it is a guess.",
        _AGAIN,
    ),
    "artifact.onnx.count": Rule(
        "more nodes than the limit",
        "No model has as many; such graphs tire readers out.",
        _AGAIN,
    ),
    "artifact.onnx.external": Rule(
        "external data outside the directory",
        "The model makes its loader read another file of the machine.",
        _INSIDE,
    ),
    "artifact.onnx.field": Rule(
        "a field that is not understood",
        "The model uses a part of ONNX that is newer than this scanner.",
        "export it with an older opset, or update Garrison",
    ),
    "artifact.onnx.metadata": Rule(
        "metadata that is written like a program",
        "Some tools evaluate it.",
        "remove the metadata and export the model again",
    ),
    "artifact.onnx.operator": Rule(
        "an operator of an unknown domain",
        "Running it needs a shared library, and that library is a program.",
        "export the model with standard operators",
    ),
    "artifact.onnx.size": Rule(
        "a tensor of another size",
        "Its shape needs other bytes than it has.",
        _AGAIN,
    ),
    "artifact.protobuf.length": Rule(
        "a length beyond the message",
        "The message is damaged or lies about its parts.",
        _AGAIN,
    ),
    "artifact.protobuf.number": Rule(
        "an impossible number",
        "A varint is longer than the format allows.",
        _AGAIN,
    ),
    "artifact.protobuf.text": Rule(
        "text that is not UTF-8",
        "A name in the message is not text.",
        _AGAIN,
    ),
    "artifact.protobuf.wire": Rule(
        "an unknown wire type",
        "Nothing behind it can be read.",
        _AGAIN,
    ),
    "artifact.sentencepiece.field": Rule(
        "a field that is not understood",
        "The tokenizer model uses a part that this scanner does not know.",
        "train or export the tokenizer again",
    ),
    "artifact.sentencepiece.length": Rule(
        "a length beyond the message",
        "The tokenizer model is damaged or lies about its parts.",
        _AGAIN,
    ),
}
