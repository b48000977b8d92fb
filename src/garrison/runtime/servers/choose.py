"""Which program serves a model, judged by the verified bytes and not by what it is called."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from garrison.confine.profiles import DECLARED, LISTENING, Profile
from garrison.core.errors import Refused
from garrison.runtime.declared import Declared, place_of
from garrison.runtime.loader import LoadedModel
from garrison.runtime.sandboxes.base import MIB
from garrison.runtime.sandboxes.places import HERE, SERVERS
from garrison.runtime.sandboxes.start import MODEL_DIRECTORY

GGUF_MAGIC = b"GGUF"
MAX_CONFIG_BYTES = 1 * MIB  # a model's configuration is a few kB
CONTEXT_TOKENS = 2048
# Address space beside the weights: libraries, threads and scratch; the KV cache gets half the weights again.
CHAT_HEADROOM = 1024 * MIB
EMBEDDING_HEADROOM = 768 * MIB
INFERENCE_HEADROOM = 1536 * MIB  # scikit-learn maps scipy and more; onnxruntime takes about half of it
ONNX_START = b"\x08"  # field 1 of a ModelProto, ir_version, comes first in every file that tools write
SKOPS_MAGIC = b"PK\x03\x04"
BESIDE_ONNX = (".onnx_data", ".data", ".bin")  # tensors in files of their own, as exporters name them
WEIGHTS = (".gguf", ".safetensors", ".onnx", ".skops", *BESIDE_ONNX)
CONFIGURATION = frozenset(
    {"config.json", "tokenizer.json", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json"}
)


@dataclass(frozen=True, slots=True)
class Service:
    """How to serve one model: a program of this folder, its settings, the files it gets, its memory."""

    program: Path
    tasks: frozenset[str]
    settings: Mapping[str, object]
    files: Mapping[str, int]
    memory: int
    tree: Mapping[str, int] = field(default_factory=dict)
    modules: Mapping[str, Path] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    declared: Declared | None = None
    profile: Profile | None = None


def _modules(*names: str) -> dict[str, Path]:
    return {f"garrison.runtime.servers.{name}": SERVERS / f"{name}.py" for name in names}


def is_wanted(path: str) -> bool:
    """Could a server here need this file? The others are hashed, verified and dropped."""
    return path.endswith(WEIGHTS) or path in CONFIGURATION


def choose(loaded: LoadedModel, *, threads: int, declared: Declared | None = None) -> Service:
    """Raises `Refused` RUN-UNSERVABLE when no server here understands the model, and none is declared for it."""
    if declared is not None:
        return _declared(loaded, declared, threads)
    kept = loaded.kept
    models = [path for path, descriptor in kept.items() if os.pread(descriptor, 4, 0) == GGUF_MAGIC]
    if len(models) == 1 and not any(path.endswith(".safetensors") for path in kept):
        return _chat(kept[models[0]], loaded.verified.ref.name, threads)
    if not models and {"config.json", "tokenizer.json", "model.safetensors"} <= kept.keys():
        return _embeddings(kept, loaded.verified.ref.name)
    graphs = [path for path in kept if path.endswith(".onnx") and os.pread(kept[path], 1, 0) == ONNX_START]
    if not models and len(graphs) == 1:
        return _onnx(kept, graphs[0], loaded.verified.ref.name, threads)
    estimators = [path for path in kept if path.endswith(".skops")]
    if len(kept) == len(estimators) == 1 and os.pread(kept[estimators[0]], 4, 0) == SKOPS_MAGIC:
        return _inference("sklearn_model.py", {"model": kept[estimators[0]]}, loaded.verified.ref.name, {})
    raise _unservable(
        loaded, f"{len(models)} GGUF files and {len(kept) - len(models)} others that could matter"
    )


def _declared(loaded: LoadedModel, declared: Declared, threads: int) -> Service:
    """The customer's own program; it finds the verified files below a directory that only its sandbox has."""
    size = sum(os.fstat(descriptor).st_size for descriptor in loaded.kept.values())
    return Service(
        HERE / "forward.py",  # run beside the command when that listens on TCP, else not at all
        declared.tasks,
        {} if declared.port is None else {"port": declared.port},
        {},
        declared.memory + 2 * size,
        tree=loaded.kept,
        command=declared.words(loaded.verified.ref.name, threads, place_of(loaded)),
        declared=declared,
        profile=DECLARED if declared.port is None else LISTENING,
    )


def _chat(descriptor: int, alias: str, threads: int) -> Service:
    return Service(
        SERVERS / "llama.py",
        frozenset({"chat", "completions"}),
        {"alias": alias, "context": CONTEXT_TOKENS, "parallel": 1, "threads": threads},
        {"model": descriptor},
        os.fstat(descriptor).st_size * 3 // 2 + CHAT_HEADROOM,
    )


def _embeddings(kept: Mapping[str, int], alias: str) -> Service:
    config = _json(kept["config.json"])
    if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
        raise Refused(
            "RUN-UNSERVABLE",
            f"no server here runs a {str(config.get('model_type'))[:40]!a} model of this layout",
            fix="serve a BERT sentence encoder (safetensors) or a GGUF model, or run a server of your own "
            "and put it behind the gateway: garrison route add",
        )
    pooling = _json(kept["1_Pooling/config.json"]) if "1_Pooling/config.json" in kept else {}
    if pooling.get("pooling_mode_mean_tokens", True) is not True:
        raise Refused(
            "RUN-UNSERVABLE",
            "the sentence encoder pools in another way than by the mean",
            fix="run a server of your own and put it behind the gateway: garrison route add",
        )
    limits = _json(kept["sentence_bert_config.json"]) if "sentence_bert_config.json" in kept else {}
    files = {name: kept[name] for name in ("model.safetensors", "tokenizer.json")}
    return Service(
        SERVERS / "embeddings.py",
        frozenset({"embeddings"}),
        {"alias": alias, "config": config, "max_tokens": limits.get("max_seq_length", 512)},
        files,
        sum(os.fstat(descriptor).st_size for descriptor in files.values()) + EMBEDDING_HEADROOM,
        modules=_modules("web"),
    )


def _onnx(kept: Mapping[str, int], graph: str, alias: str, threads: int) -> Service:
    """One file by its descriptor; with tensors in files beside it, all of them as a directory."""
    beside = {path: descriptor for path, descriptor in kept.items() if path.endswith(BESIDE_ONNX)}
    if not beside:
        return _inference("onnx_model.py", {"model": kept[graph]}, alias, {"threads": threads})
    service = _inference(
        "onnx_model.py", {}, alias, {"threads": threads, "path": f"{MODEL_DIRECTORY}/{graph}"}
    )
    tree = {graph: kept[graph], **beside}
    size = sum(os.fstat(descriptor).st_size for descriptor in tree.values())
    return replace(service, tree=tree, memory=service.memory + 2 * size)


def _inference(program: str, files: Mapping[str, int], alias: str, settings: Mapping[str, object]) -> Service:
    size = sum(os.fstat(descriptor).st_size for descriptor in files.values())
    return Service(
        SERVERS / program,
        frozenset({"infer"}),
        {"alias": alias, **settings},
        files,
        3 * size + INFERENCE_HEADROOM,
        modules=_modules("web", "tensors"),
    )


def _json(descriptor: int) -> dict[str, Any]:
    if os.fstat(descriptor).st_size > MAX_CONFIG_BYTES:
        raise _not_understood("is larger than a configuration can be")
    try:
        value = json.loads(os.pread(descriptor, MAX_CONFIG_BYTES, 0))
    except (ValueError, RecursionError) as error:
        raise _not_understood("is not JSON") from error
    if not isinstance(value, dict):
        raise _not_understood("is not a JSON object")
    return value


def _not_understood(why: str) -> Refused:
    return Refused(
        "RUN-UNSERVABLE",
        f"a configuration of the model {why}",
        fix="repair the model's files and publish them as a new version",
    )


def _unservable(loaded: LoadedModel, why: str) -> Refused:
    return Refused(
        "RUN-UNSERVABLE",
        f"no server here understands {loaded.verified.ref}: {why}",
        fix="serve one GGUF file, one ONNX file with the tensors beside it, one skops file, or a BERT sentence "
        "encoder (model.safetensors, config.json, tokenizer.json); else run it yourself: garrison route add",
        evidence={"digest": loaded.loaded, "files": sorted(loaded.kept)[:20]},
    )
