"""Runs inside a sandbox: a BERT sentence encoder behind `/v1/embeddings` on one Unix socket. A script.

numpy computes, tokenizers splits text; weights are read where they lie, without a second copy. Follows
"BERT" (Devlin et al., 2018), section 3, mean pooling and L2 normalisation as Sentence-BERT (2019) does,
and the safetensors format. `/health` answers 200 once the weights are there.
"""

from __future__ import annotations

import base64
import json
import mmap
import os
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from garrison.runtime.servers.web import BadRequest, hold_signals, serve

SETTINGS: dict[str, Any] = globals().get("SETTINGS", {})  # handed over by confine.py

MAX_TEXTS = 2048  # OpenAI's own limit
MAX_TEXT_CHARACTERS = 100_000  # everything behind the first few thousand is cut by the tokenizer anyway
MAX_HEADER_BYTES = 16 << 20  # of a safetensors file; real ones are some kB
KINDS = {"F32": np.float32, "F16": np.float16}

Array = NDArray[np.float32]


class Encoder:
    """Texts in, unit vectors out. Raises KeyError or ValueError when the weights are not those of a BERT."""

    def __init__(self, config: dict[str, Any], weights: int, tokenizer: int, max_tokens: int) -> None:
        self._tensors = tensors(weights)
        self._heads = int(config["num_attention_heads"])
        self._layers = int(config["num_hidden_layers"])
        self._epsilon = float(config["layer_norm_eps"])
        length = os.fstat(tokenizer).st_size
        self._tokenizer = Tokenizer.from_buffer(os.pread(tokenizer, length, 0))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(min(int(max_tokens), int(config["max_position_embeddings"])))

    def embed(self, text: str) -> tuple[Array, int]:
        """The unit vector of one text, float32 of the model's hidden size, and how many tokens it had."""
        encoding = self._tokenizer.encode(text)
        ids, kinds = np.array(encoding.ids), np.array(encoding.type_ids)
        at = self._tensors
        hidden = at["embeddings.word_embeddings.weight"][ids].astype(np.float32)
        hidden = hidden + at["embeddings.position_embeddings.weight"][: len(ids)]
        hidden = self._norm(
            hidden + at["embeddings.token_type_embeddings.weight"][kinds], "embeddings.LayerNorm"
        )
        for layer in range(self._layers):
            hidden = self._layer(hidden, f"encoder.layer.{layer}")
        pooled = hidden.mean(axis=0)
        unit = pooled / max(float(np.linalg.norm(pooled)), 1e-12)
        return unit.astype(np.float32), len(ids)

    def _layer(self, hidden: Array, name: str) -> Array:
        attended = self._linear(
            self._attend(hidden, f"{name}.attention.self"), f"{name}.attention.output.dense"
        )
        hidden = self._norm(hidden + attended, f"{name}.attention.output.LayerNorm")
        inner = gelu(self._linear(hidden, f"{name}.intermediate.dense"))
        return self._norm(hidden + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _attend(self, hidden: Array, name: str) -> Array:
        """Scaled dot-product attention of every head; (tokens, hidden) in and out."""
        tokens, width = hidden.shape
        size = width // self._heads

        def heads(part: str) -> Array:
            return (
                self._linear(hidden, f"{name}.{part}").reshape(tokens, self._heads, size).transpose(1, 0, 2)
            )

        scores = heads("query") @ heads("key").transpose(0, 2, 1) / np.float32(size**0.5)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights = scores / scores.sum(axis=-1, keepdims=True)
        mixed: Array = (weights @ heads("value")).transpose(1, 0, 2).reshape(tokens, width)
        return mixed

    def _linear(self, values: Array, name: str) -> Array:
        result: Array = values @ self._tensors[f"{name}.weight"].T + self._tensors[f"{name}.bias"]
        return result

    def _norm(self, values: Array, name: str) -> Array:
        mean = values.mean(axis=-1, keepdims=True)
        variance = values.var(axis=-1, keepdims=True)
        scaled = (values - mean) / np.sqrt(variance + np.float32(self._epsilon))
        result: Array = scaled * self._tensors[f"{name}.weight"] + self._tensors[f"{name}.bias"]
        return result


def gelu(values: Array) -> Array:
    """x * Phi(x), with erf by Abramowitz and Stegun 7.1.26 (error below 1.5e-7; numpy has none)."""
    scaled = np.abs(values) * np.float32(0.7071067811865476)
    step = 1 / (1 + np.float32(0.3275911) * scaled)
    series = np.full_like(step, 1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = series * step + np.float32(factor)
    erf = np.copysign(1 - series * step * np.exp(-scaled * scaled), values)
    return np.asarray(values * np.float32(0.5) * (1 + erf), dtype=np.float32)


def tensors(descriptor: int) -> dict[str, Array]:
    """Views into a safetensors file: a 64-bit length, a JSON header, then the data. Raises ValueError."""
    data = memoryview(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ))
    (length,) = struct.unpack("<Q", data[:8])
    if length > min(MAX_HEADER_BYTES, len(data) - 8):
        raise ValueError("the header is longer than the file")
    header = json.loads(bytes(data[8 : 8 + length]))
    body = data[8 + length :]
    found = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] not in KINDS:
            continue  # position ids and the like; a weight that is missing fails when it is used
        start, end = entry["data_offsets"]
        values = np.frombuffer(body[start:end], dtype=KINDS[entry["dtype"]]).reshape(entry["shape"])
        found[name.removeprefix("bert.")] = values.astype(np.float32, copy=False)
    return found


def texts_of(body: bytes) -> tuple[list[str], bool]:
    """The texts of an OpenAI embeddings request, and whether the vectors are wanted as base64."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest("the body is not JSON") from error
    if not isinstance(request, dict):
        raise BadRequest("the body is not a JSON object")
    given = request.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise BadRequest("input is a text or a list of texts")
    if len(texts) > MAX_TEXTS or max(map(len, texts)) > MAX_TEXT_CHARACTERS:
        raise BadRequest(f"input has at most {MAX_TEXTS} texts of {MAX_TEXT_CHARACTERS} characters")
    if request.get("dimensions") is not None:
        raise BadRequest("this model has one size of vector; leave dimensions out")
    encoding = request.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise BadRequest("encoding_format is float or base64")
    return texts, encoding == "base64"


def answer(encoder: Encoder, alias: str, body: bytes) -> dict[str, Any]:
    """The OpenAI `list` of embeddings. Raises BadRequest."""
    texts, as_base64 = texts_of(body)
    rows, tokens = [], 0
    for index, text in enumerate(texts):
        vector, count = encoder.embed(text)
        tokens += count
        shown = base64.b64encode(vector.astype("<f4").tobytes()).decode() if as_base64 else vector.tolist()
        rows.append({"object": "embedding", "index": index, "embedding": shown})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": rows, "model": alias, "usage": usage}


def main() -> None:
    hold_signals()
    files = SETTINGS["files"]
    encoder = Encoder(
        SETTINGS["config"], files["model.safetensors"], files["tokenizer.json"], SETTINGS["max_tokens"]
    )
    encoder.embed("ready?")  # a weight that is missing fails here and not at the first request

    def reply(path: str, body: bytes) -> dict[str, Any] | None:
        return answer(encoder, SETTINGS["alias"], body) if path == "/v1/embeddings" else None

    serve(SETTINGS["socket"], reply)


if __name__ == "__main__":
    main()
