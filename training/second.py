"""Train the head of the second tier, and say what both tiers are worth on sources they did not see.

    python -m training.second --prompts prompts.jsonl.gz --packages DIR-OF-WHEELS --encoder DIR-OF-WHEELS [--write]

The encoder stays as it is: what it was taught about a hundred languages is what carries over to unseen
sources. Only a small head learns, from its features, in the folds of `train.py`. `--kept` remembers
features between runs: they take seven minutes on two cores, and the head two.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from tokenizers import Tokenizer
from torch import Tensor, nn
from training import corpus, train
from training.base import MOST_TOKENS, Base, features, open_base
from training.corpus import Text
from training.train import OUT, SEED, USER_FOLDS, Floats

from garrison.detect.normalise import normalise
from garrison.detect.tier2 import LOW, odds, read_anchors

HIDDEN = 128
TWINS = 3  # heads from other draws, of which the mean counts
EPOCHS, BATCH, RATE = 5, 512, 1e-3
SMOOTH = 0.03  # how far a label stands from certainty
JUDGED = (
    1_000  # harmless documents and as many attacks of a fold that are judged: reading them is what takes long
)
SHARE_UNCERTAIN = 0.7  # of the weight of a composed text against one that somebody wrote
LEFT = -1_000.0  # below every sum: texts that the first tier settles, in their own order
TO = OUT.parent / "tier2"
Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Reader:
    """The encoder with its memory: features of texts, by a digest over them."""

    base: Base
    tokens: Tokenizer
    kept: Path

    def read(self, texts: Sequence[str], said: str) -> Features:
        name = hashlib.sha256(
            "\0".join([self.tokens.to_str(), *texts]).encode("utf-8", "replace")
        ).hexdigest()
        path = self.kept / f"{name[:16]}.npy"
        if not path.exists():
            self.kept.mkdir(parents=True, exist_ok=True)
            np.save(path, features(self.base, self.tokens, texts, said).astype(np.float16))
        return np.load(path).astype(np.float32)


class Head(nn.Module):
    """Features (texts, width) to decision values (texts,): scaled, one hidden layer, the mean of some twins."""

    def __init__(self, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)
        self.twins = nn.ModuleList(
            nn.Sequential(
                nn.Dropout(0.1),
                nn.Linear(len(mean), HIDDEN),
                nn.GELU(),
                nn.Dropout(0.3),
                nn.Linear(HIDDEN, 1),
            )
            for _ in range(TWINS)
        )

    def forward(self, found: Tensor) -> Tensor:
        scaled = (found - self.mean) / self.spread
        return torch.cat([twin(scaled) for twin in self.twins], 1)

    def decide(self, found: Features) -> Floats:
        with torch.no_grad():
            values: Floats = self.eval()(torch.from_numpy(found)).mean(1).double().numpy()
        return values


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--prompts", type=Path, required=True, help="labelled texts, JSON lines, gzip")
    parser.add_argument("--packages", type=Path, required=True, help="wheels to take documents from")
    parser.add_argument("--encoder", type=Path, required=True, help="the wheels of encoder.txt")
    parser.add_argument(
        "--corpora", type=Path, required=True, help="BTC and wikigold, as for make train-names"
    )
    parser.add_argument("--kept", type=Path, default=Path("build/features"), help="where features are kept")
    parser.add_argument("--write", action="store_true", help="replace the shipped weights")
    options = parser.parse_args()
    user, document = corpus.labelled(options.prompts)
    wheels = sorted(options.packages.glob("*.whl"))
    drawn = train.user_drawn(wheels)
    known = train.document_texts(
        user, document, wheels
    )  # prompts quote documents and code: their tokens are kept too
    every = [text.text for text in (*user, *drawn, *known.clean, *known.mails)]
    base, tokens, shown = open_base(options.encoder, every)
    reader = Reader(base, tokens, options.kept)
    head, reckoned = user_head(reader, user, drawn, train.everyday(options.corpora, wheels))
    files = {
        "model.onnx": exported(base, head),
        "tokenizer.json": shown.encode(),
        "config.json": described(reckoned),
    }
    for name, data in files.items():
        print(f"{name}: {len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()}")
        if options.write:
            TO.mkdir(exist_ok=True)
            (TO / name).write_bytes(data)
    return 0


def user_head(
    reader: Reader, user: Sequence[Text], drawn: Sequence[Text], everyday: Sequence[Sequence[Text]]
) -> tuple[Head, dict[str, object]]:
    """Each fold without its families, both tiers; then one head of everything, scored as the folds were."""
    parts = [[*user, *drawn], *everyday]
    texts = [text for part in parts for text in part]
    own = np.concatenate(
        [reader.read([normalise(text.text[:1_200]).text for text in part], "user") for part in parts]
    )
    grams = train.vectors([text.text for text in texts])
    pairs, judged = [], []
    for fold in USER_FOLDS:
        tested = np.concatenate(
            [
                train.tested_in(user, fold),
                np.zeros(len(drawn), bool),
                *(train.tested_in(part, fold) for part in everyday),
            ]
        )
        left = [text for text, out in zip(texts, tested, strict=True) if not out]
        first = train.fitted(sp.csr_matrix(grams[~tested]), left)
        second = learnt(own[~tested], left)
        pairs.append((second.decide(own[tested]), first.decide(sp.csr_matrix(grams[tested]))))
        judged.append([text for text, out in zip(texts, tested, strict=True) if out])
    names = [f"user, without {', '.join(sorted(fold))}" for fold in USER_FOLDS]
    return learnt(own, texts), summed(names, judged, pairs)


def learnt(found: Features, texts: Sequence[Text]) -> Head:
    torch.manual_seed(SEED)
    labels = torch.tensor([float(text.attack) for text in texts])
    weights = torch.tensor([SHARE_UNCERTAIN if text.family.startswith("composed") else 1.0 for text in texts])
    read = torch.from_numpy(found)
    head = Head(read.mean(0), read.std(0) + 1e-5)
    steps = EPOCHS * (len(texts) // BATCH)
    optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps + 1, pct_start=0.1)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(texts))[: len(texts) // BATCH * BATCH].split(BATCH):
            wanted = (labels[part] * (1 - 2 * SMOOTH) + SMOOTH)[:, None].expand(-1, TWINS)
            loss = nn.functional.binary_cross_entropy_with_logits(head(read[part]), wanted, reduction="none")
            optimiser.zero_grad()
            (loss.mean(1) * weights[part]).mean().backward()
            optimiser.step()
            rate.step()
    return head.eval()


def summed(
    names: Sequence[str], judged: Sequence[Sequence[Text]], pairs: Sequence[tuple[Floats, Floats]]
) -> dict[str, object]:
    """How both tiers are added: log odds, each in spreads of its values over ordinary harmless texts."""
    plain = [np.array([not text.attack and not text.hard for text in texts]) for texts in judged]
    known = read_anchors(train.anchors(_over(pairs, plain, 1)))
    pairs = [
        (second, np.array([odds(known.score(float(value))) for value in first])) for second, first in pairs
    ]
    second, first = _over(pairs, plain, 0), _over(pairs, plain, 1)
    by_first, by_second = 1 / float(first.std()), 1 / float(second.std())
    bias = -float(second.mean()) * by_second - float(first.mean()) * by_first
    harmless, asked = [], []
    for name, texts, (ours, theirs) in zip(names, judged, pairs, strict=True):
        train.report(f"{name}, second tier alone", texts, ours)
        is_asked, value = theirs >= odds(LOW), by_second * ours + by_first * theirs + bias
        both = np.where(is_asked, value, LEFT + theirs)
        harmless.append(train.report(name, texts, both))
        asked.append(value[is_asked & np.array([not text.attack for text in texts])])
    # Below the first tier's share nobody is asked: the scale begins where the values of those that are begin.
    _, *points = train.anchors(np.concatenate(harmless))
    lowest = [round(float(np.quantile(np.concatenate(asked), 0.1)), 4), LOW]
    return {"weights": [by_first, by_second, bias], "anchors": [lowest, *points]}


def _over(pairs: Sequence[tuple[Floats, Floats]], chosen: Sequence[NDArray[np.bool_]], part: int) -> Floats:
    return np.concatenate([pair[part][kept] for pair, kept in zip(pairs, chosen, strict=True)])


class Whole(nn.Module):
    """Token ids and mask to logits (texts, 2) of harmless and attack."""

    def __init__(self, base: Base, head: Head) -> None:
        super().__init__()
        self.base, self.head = base, head

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        value = self.head(self.base(input_ids, attention_mask)).mean(1, keepdim=True)
        return torch.cat([torch.zeros_like(value), value], 1)


def exported(base: Base, head: Head) -> bytes:
    """An ONNX model with eight-bit weights."""
    sample = torch.randint(5, 1_000, (2, 16)), torch.ones(2, 16, dtype=torch.long)
    axes = {name: {0: "texts", 1: "tokens"} for name in ("input_ids", "attention_mask")}
    with tempfile.TemporaryDirectory() as folder:
        plain, ready, small = (Path(folder) / f"{name}.onnx" for name in ("plain", "ready", "small"))
        torch.onnx.export(
            Whole(base, head).eval(), sample, plain, input_names=list(axes), output_names=["logits"],
            opset_version=17, dynamic_axes={**axes, "logits": {0: "texts"}}, dynamo=False,
        )  # fmt: skip
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        quantize_dynamic(
            ready, small, weight_type=QuantType.QInt8, per_channel=True,
            op_types_to_quantize=["MatMul", "Gather", "Gemm"], extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip
        model = onnx.load(small)
    model.producer_name, model.doc_string = "garrison", ""
    return bytes(model.SerializeToString(deterministic=True))


def described(reckoned: dict[str, object]) -> bytes:
    """`config.json`, as `detect/tier2.py` reads it."""
    about = {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "harmless", "1": "attack"},
        "garrison.channel": "user",
        "garrison.max_tokens": MOST_TOKENS,
        **{f"garrison.{name}": told for name, told in reckoned.items()},
    }
    return (json.dumps(about, indent=1) + "\n").encode()


if __name__ == "__main__":
    sys.exit(main())
