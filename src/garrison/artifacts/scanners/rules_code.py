"""Rules about pickles, arrays, TorchScript, configurations and templates: what runs code by design."""

from __future__ import annotations

from garrison.artifacts.scanners.rule import Rule

_CODE = "ask the author for the weights as safetensors, which cannot carry code"
_INSIDE = "keep what the model refers to inside its directory, and name it by a relative path"
_REVIEW = "read what it asks for; remove it when the model loads without it, or use a built-in class"
_TEMPLATE = "replace the template with the one of the model's family, or simplify it"
_SCRIPT = "ask the author for the weights alone (safetensors) and build the graph from code you have reviewed"

CODE_RULES: dict[str, Rule] = {
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
    "artifact.torch.tensor": Rule(
        "a tensor that reaches outside its storage",
        "A reader that does not check takes memory that is not the model's.",
        "save the weights again with torch.save, or as safetensors",
    ),
    "artifact.torch.record": Rule(
        "a storage whose record is missing or has another size",
        "Readers of different versions take different bytes for the weights.",
        "save the weights again with torch.save, or as safetensors",
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
    "artifact.config.code": Rule(
        "code where a setting belongs",
        "A loader that imports, opens or evaluates the value runs it: a call, a native library, or a function of the"
        " system by its name.",
        "ask the author for a model that needs no code of its own, or remove the entry after review",
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
    "artifact.toml.syntax": Rule(
        "TOML that is not understood",
        "What cannot be read cannot be judged, and another parser may read it.",
        "write it again with a TOML library",
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
