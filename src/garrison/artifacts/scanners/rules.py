"""Every rule that a scanner can name: what it saw, why that matters, what to do. `garrison explain RULE`.

A rule id is forever: it is never renamed and never given another meaning. A test compares this list with
what the scanners say; `docs/reference/rules.md` is written from it.
"""

from __future__ import annotations

from garrison.artifacts.scanners.rule import Rule as Rule
from garrison.artifacts.scanners.rules_formats import FORMAT_RULES

_AGAIN = "get the file again from its author; a file that is written like this is not loaded"
_CODE = "ask the author for the weights as safetensors, which cannot carry code"
_INSIDE = "keep what the model refers to inside its directory, and name it by a relative path"
_UNPACK = "unpack the archive and scan what is in it, or split it into smaller files"
_REVIEW = "read what it asks for; remove it when the model loads without it, or use a built-in class"
_TEMPLATE = "replace the template with the one of the model's family, or simplify it"
_SCRIPT = "ask the author for the weights alone (safetensors) and build the graph from code you have reviewed"
_DATA = "get the model again with all of its data files"

RULES: dict[str, Rule] = {
    **FORMAT_RULES,
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
    "artifact.requirements.fetch": Rule(
        "requirements that fetch from elsewhere",
        "Installing what the model asks for would run code from an address or index of the model's choosing.",
        "name released packages with exact versions",
    ),
    # --- archives and compression ---
    "artifact.bomb": Rule(
        "a decompression bomb",
        "A few bytes unpack to very many. Reading it fills the memory or the disk.",
        _AGAIN,
    ),
    "artifact.compression": Rule(
        "a compression that is not unpacked here",
        "What is inside was not seen.",
        "unpack it and scan the result",
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
    # --- pickle, numpy, torch ---
    "artifact.pickle.call": Rule(
        "a pickle that calls something",
        "Unpickling runs a program. This one calls what is not on the exact list of callables that cannot do "
        "harm, and the finding writes the call out.",
        _CODE,
    ),
    "artifact.pickle.import": Rule(
        "a pickle that imports something",
        "Importing runs the module, and what is imported may be called by whoever uses the object. Only exact "
        "names on the allow-list are accepted.",
        _CODE,
    ),
    "artifact.pickle.build": Rule(
        "a pickle that writes into an object",
        "BUILD sets attributes or calls __setstate__; on this object that can replace code.",
        _CODE,
    ),
    "artifact.pickle.extension": Rule(
        "a pickle that uses the extension registry",
        "What the number stands for is decided by the program that loads it, so it cannot be judged.",
        _CODE,
    ),
    "artifact.pickle.bomb": Rule(
        "a pickle that grows without end",
        "A few bytes build a structure that fills the memory.",
        _CODE,
    ),
    "artifact.pickle.broken": Rule(
        "a pickle that breaks off",
        "It cannot be read to its end. What it did before the break has been judged.",
        "save the model again, with one pickle stream, or as safetensors",
    ),
    "artifact.pickle.trailing": Rule(
        "bytes behind a pickle",
        "They are neither a further pickle nor padding; payloads are carried there.",
        "save the model again, with one pickle stream, or as safetensors",
    ),
    "artifact.pickle.array": Rule(
        "an array inside a pickle that two readers size differently",
        "What follows the array is an argument for one reader and an instruction for another.",
        "save the model again with joblib.dump",
    ),
    "artifact.npy.dtype": Rule(
        "a dtype that is not plain numbers",
        "The element type is computed, unknown or written so that two readers differ.",
        "save the array again with numpy.save",
    ),
    "artifact.npy.header": Rule(
        "a header that is not a literal",
        "NumPy evaluates the header; this one is not the plain dictionary that numpy.save writes.",
        "save the array again with numpy.save",
    ),
    "artifact.npy.size": Rule(
        "an array of another size",
        "The header promises more or fewer bytes than there are.",
        "save the array again with numpy.save",
    ),
    "artifact.npy.version": Rule(
        "an unknown version of npy",
        "What its header means is not known.",
        "save the array again with numpy.save",
    ),
    "artifact.torch.storage": Rule(
        "a storage that contradicts its tensor",
        "The legacy torch file promises other lengths than it holds.",
        _CODE,
    ),
    "artifact.torchscript.code": Rule(
        "a TorchScript program without its source",
        "Its classes run when the model is loaded or called; their source was not found.",
        _SCRIPT,
    ),
    "artifact.torchscript.file": Rule(
        "TorchScript source that is not plain source",
        "The archive's program could not be read as text.",
        _SCRIPT,
    ),
    "artifact.torchscript.syntax": Rule(
        "TorchScript source that does not parse",
        "What it does could not be judged.",
        _SCRIPT,
    ),
    "artifact.torchscript.import": Rule(
        "TorchScript that imports",
        "Compiled source names only torch and its own classes.",
        _SCRIPT,
    ),
    "artifact.torchscript.call": Rule(
        "TorchScript that calls an operator that is not listed",
        "Operators that read files, save or call back into Python can do harm; only listed ones are accepted.",
        _SCRIPT,
    ),
    "artifact.torchscript.attribute": Rule(
        "TorchScript that reaches into an object",
        "Attributes with underscores lead out of the language.",
        _SCRIPT,
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
    # --- configuration and templates ---
    "artifact.config.auto_map": Rule(
        "remote code in a configuration",
        "auto_map names classes in Python files of the model's own, which loading it imports.",
        _REVIEW,
    ),
    "artifact.config.trust_remote_code": Rule(
        "a configuration that asks for trust",
        "trust_remote_code makes the loader run the model's own Python without asking.",
        _REVIEW,
    ),
    "artifact.config.auto_mapping": Rule(
        "an adapter whose base class comes from elsewhere",
        "peft imports the library and class that auto_mapping names.",
        _REVIEW,
    ),
    "artifact.config.custom_pipelines": Rule(
        "pipelines with code of their own",
        "transformers and diffusers import what custom_pipelines names.",
        _REVIEW,
    ),
    "artifact.config.target": Rule(
        "a configuration that calls what it names",
        "hydra imports and calls what stands behind _target_, with the arguments beside it.",
        _REVIEW,
    ),
    "artifact.config.kernel": Rule(
        "attention code from elsewhere",
        "An attention implementation with a / in its name is fetched from a hub and run.",
        _REVIEW,
    ),
    "artifact.config.weight_map": Rule(
        "a shard outside the directory",
        "The index of the shards makes the loader read another file of the machine.",
        _INSIDE,
    ),
    "artifact.config.keras": Rule(
        "a Keras layer with code",
        "Lambda layers and custom classes carry or import code that runs when the model is built.",
        _REVIEW,
    ),
    "artifact.config.skops": Rule(
        "a skops object that is not on the allow-list",
        "skops imports and restores what the schema names; only exact names are accepted.",
        _REVIEW,
    ),
    "artifact.config.object": Rule(
        "a configuration that makes Python objects",
        "The loader imports and calls what the value names.",
        _REVIEW,
    ),
    "artifact.config.module": Rule(
        "a module from elsewhere",
        "The loader imports the module by the name that the configuration gives.",
        _REVIEW,
    ),
    "artifact.config.pipeline": Rule(
        "a custom pipeline",
        "The loader runs the pipeline's program, from the directory or from the network.",
        _REVIEW,
    ),
    "artifact.config.chat_template": Rule(
        "a chat template that is not text",
        "Loaders that expect text do something else with it.",
        _TEMPLATE,
    ),
    "artifact.config.reference": Rule(
        "a reference that leaves the directory",
        "The loader reads another file of the machine or fetches from the network.",
        _INSIDE,
    ),
    "artifact.config.absolute_path": Rule(
        "a path of another machine",
        "It does no harm here but may name a file on the machine that loads the model.",
        _INSIDE,
    ),
    "artifact.json.syntax": Rule(
        "JSON that is not strict",
        "Two parsers read it differently, or not at all.",
        "write it again with a JSON library",
    ),
    "artifact.json.duplicate": Rule(
        "a key that stands twice",
        "Which value counts depends on the parser.",
        "write it again with a JSON library",
    ),
    "artifact.yaml.code": Rule(
        "YAML that makes objects",
        "Tags such as !!python/object call what they name when the file is loaded.",
        "write the file without tags, or as JSON",
    ),
    "artifact.yaml.tag": Rule(
        "YAML with an unknown tag",
        "What a loader does with the tag is not known.",
        "write the file without tags, or as JSON",
    ),
    "artifact.template.escape": Rule(
        "a template that reaches for Python",
        "Through attributes such as __class__ a template gets at the interpreter and runs commands.",
        _TEMPLATE,
    ),
    "artifact.template.load": Rule(
        "a template that loads another file",
        "include, import and extends read files of the machine that renders it.",
        _TEMPLATE,
    ),
    "artifact.template.call": Rule(
        "a template that calls something unknown",
        "Only the functions that chat templates are given may be called.",
        _TEMPLATE,
    ),
    "artifact.template.computed": Rule(
        "a computed attribute",
        "Which attribute it reads cannot be told before it runs; this is how filters are evaded.",
        _TEMPLATE,
    ),
    "artifact.template.work": Rule(
        "a template that works without end",
        "Rendering it takes all of a machine's time or memory.",
        _TEMPLATE,
    ),
    "artifact.template.order": Rule(
        "a template that gives the model a hidden order",
        "The text goes to the model with every conversation: it cancels instructions, hides, sends data away.",
        _TEMPLATE,
    ),
    "artifact.template.hidden": Rule(
        "a template with invisible characters",
        "A person who reads the template does not see what the model is told.",
        _TEMPLATE,
    ),
    "artifact.template.trigger": Rule(
        "a template that waits for a word or a date",
        "It behaves while it is tested and says something else in production.",
        _TEMPLATE,
    ),
    "artifact.template.syntax": Rule(
        "a template that does not parse",
        "What it does could not be judged.",
        _TEMPLATE,
    ),
    "artifact.template.text": Rule(
        "a template that is not UTF-8",
        "It is not the text that its place promises.",
        _TEMPLATE,
    ),
    "artifact.template.unknown": Rule(
        "a template with an unknown construction",
        "A filter, test or node that chat templates do not need was not understood.",
        _TEMPLATE,
    ),
}
