"""Train both heads of the first tier, and say what they are worth on sources they did not see.

    python -m training.train --prompts prompts.jsonl.gz --packages DIR-OF-WHEELS [--write]

Every draw is seeded, families are never split, and the anchors of the score come from folds in which the
family that is scored was not trained on. `--write` puts the weights where `detect/classifier.py` reads them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from training import corpus
from training.corpus import Text

from garrison.detect.ngrams import BITS, buckets, windows
from garrison.detect.normalise import normalise

SEED = 1
DRAWN = 0.1  # the weight of a composed attack or a translation: more of it costs recall on real families
DRAWN_HARMLESS = 1.0  # of a composed harmless sentence: less of it blocks people who do not write English
CLEAN_SHARE = 5  # one in so many texts of a family without attacks is kept for judging
# Score anchors: the share of harmless texts that reach the decision value, and the score that it is given.
ANCHORS = ((0.5, 0.05), (0.1, 0.2), (0.03, 0.35), (0.01, 0.6), (0.003, 0.8), (0.001, 0.9))
USER_FOLDS = (
    {"oubliette", "yanismiraoui"},
    {"neuralchemy", "protectai"},
    {"s-labs", "in-the-wild", "pyrit-templates"},
)
DOCUMENT_FOLDS = (
    ({"oubliette", "neuralchemy", "protectai"}, {"package-wagtail", "package-sphinx"}),
    ({"s-labs", "yanismiraoui"}, {"gpteacher", "package-django_allauth"}),
    ({"llmail-inject", "in-the-wild"}, {"pypi-docs", "package-django"}),
)
OUT = Path(__file__).parent.parent / "src" / "garrison" / "detect" / "weights" / "tier1.safetensors"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Linear:
    """A head: `weights` are the model's, times the rarity of each bucket; a text is scaled to length one."""

    weights: Floats
    rarity: Floats
    bias: float

    def decide(self, features: sp.csr_matrix) -> Floats:
        length = np.sqrt(features @ self.rarity**2)
        return (features @ self.weights) / np.maximum(length, 1e-9) + self.bias


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--prompts", type=Path, required=True, help="labelled texts, JSON lines, gzip")
    parser.add_argument(
        "--packages", type=Path, required=True, help="folder of wheels to take documents from"
    )
    parser.add_argument(
        "--corpora", type=Path, required=True, help="BTC and wikigold, as for make train-names"
    )
    parser.add_argument("--write", action="store_true", help="replace the shipped weights")
    options = parser.parse_args()
    user, document = corpus.labelled(options.prompts)
    wheels = sorted(options.packages.glob("*.whl"))
    beside = chain.from_iterable(everyday(options.corpora, wheels))
    heads = {"user": user_head([*user, *beside], wheels), "document": document_head(user, document, wheels)}
    data = encoded(heads)
    print(f"weights: {len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()}")
    if options.write:
        OUT.write_bytes(data)
    return 0


def everyday(corpora: Path, wheels: Sequence[Path]) -> tuple[list[Text], list[Text]]:
    """Harmless texts of other kinds than the labelled ones: what people write to one another, and paste."""
    return corpus.everyday(corpora, SEED), corpus.pasted(wheels, SEED, 700)


def user_drawn(wheels: Sequence[Path]) -> list[Text]:
    """What is put beside the labelled prompts: composed and translated texts."""
    return [
        *corpus.composed_prompts(SEED, 150),
        *corpus.trigger_words(SEED, 1_500),
        *corpus.translations(wheels, SEED, 2),
        *corpus.paraphrases(SEED, 4_000),
        *corpus.short_requests(SEED, 6_000),
    ]


def user_head(user: Sequence[Text], wheels: Sequence[Path]) -> tuple[Linear, list[list[float]]]:
    """What a caller writes: the labelled prompts, and what was composed and translated."""
    drawn = user_drawn(wheels)
    own, extra = vectors([text.text for text in user]), vectors([text.text for text in drawn])
    harmless: list[Floats] = []
    for fold in USER_FOLDS:
        tested = tested_in(user, fold)
        model = fitted(
            sp.vstack([own[~tested], extra]),
            [*(text for text, out in zip(user, tested, strict=True) if not out), *drawn],
        )
        judged = [text for text, out in zip(user, tested, strict=True) if out]
        values = model.decide(own[tested])
        harmless.append(report(f"user, without {', '.join(sorted(fold))}", judged, values))
    model = fitted(sp.vstack([own, extra]), [*user, *drawn])
    return model, anchors(np.concatenate(harmless))


def document_head(
    user: Sequence[Text], document: Sequence[Text], wheels: Sequence[Path]
) -> tuple[Linear, list[list[float]]]:
    """What a model reads: clean documents, and the same with an order put in, in two sizes of window."""
    known = document_texts(user, document, wheels)
    harmless: list[Floats] = []
    for held_attacks, held_clean in DOCUMENT_FOLDS:
        left, judged = held_out(known, held_attacks, held_clean)
        model = fitted_documents(left)
        values = read_in_windows(model, judged)
        harmless.append(report(f"document, without {', '.join(sorted(held_attacks))}", judged, values))
    return fitted_documents(known), anchors(np.concatenate(harmless))


@dataclass(frozen=True, slots=True)
class Documents:
    """Harmless documents, orders short enough to be put into one, and mails that were written as attacks."""

    clean: list[Text]
    attacks: list[Text]
    mails: list[Text]


def document_texts(user: Sequence[Text], document: Sequence[Text], wheels: Sequence[Path]) -> Documents:
    clean = [text for text in document if not text.attack]
    clean += corpus.harvested(wheels, SEED, 500) + corpus.composed_documents(SEED, 2_500)
    clean += corpus.trigger_words(SEED, 1_500)
    clean += [text for text in user if not text.attack][:: len(user) // 2_000]
    attacks = [text for text in user if text.attack and len(text.text) < 700]
    return Documents(clean, attacks, [text for text in document if text.attack])


def held_out(known: Documents, held_attacks: set[str], held_clean: set[str]) -> tuple[Documents, list[Text]]:
    """What is left to learn from, and what the fold is judged on."""
    left = Documents(
        [text for text in known.clean if text.family not in held_clean],
        [text for text in known.attacks if text.family not in held_attacks],
        [text for text in known.mails if text.family not in held_attacks],
    )
    hosts = [text for text in known.clean if text.family in held_clean]
    orders = [text for text in known.attacks if text.family in held_attacks]
    judged = hosts + corpus.documents_with_orders(hosts, orders, SEED + 2, 1_500)
    return left, judged + [text for text in known.mails if text.family in held_attacks]


def fitted_documents(known: Documents) -> Linear:
    draw = random.Random(SEED)
    orders = corpus.composed_orders(SEED, 3_000)
    large = [
        *known.clean,
        *corpus.documents_with_orders(known.clean, known.attacks, SEED, 5_000),
        *corpus.documents_with_orders(known.clean, orders, SEED + 1, 3_000),
        *known.mails,
    ]
    pieces = [piece for text in known.clean for piece in _pieces(text, 300)]
    small = draw.sample(pieces, min(20_000, len(pieces)))
    small += [draw.choice(_pieces(text, 300)) for text in (*known.attacks, *orders, *known.mails)]
    texts = large + small
    return fitted(vectors([text.text[:1_200] for text in texts]), texts, strength=3.0)


def fitted(features: sp.csr_matrix, texts: Sequence[Text], strength: float = 15.0) -> Linear:
    labels = np.array([text.attack for text in texts])
    weights = np.array([_weight(text) for text in texts])
    if strength < 15.0:  # documents: composed orders are the subject there, and classes are balanced
        weights = np.where(labels, (~labels).sum() / labels.sum(), 1.0)
    counts = np.bincount(features.indices, minlength=features.shape[1])
    rarity = np.log((1 + features.shape[0]) / (1 + counts)) + 1
    scaled = features @ sp.diags(rarity)
    scaled = sp.diags(1 / np.maximum(np.sqrt(features @ rarity**2), 1e-9)) @ scaled
    model = LogisticRegression(C=strength, max_iter=200).fit(scaled, labels, sample_weight=weights)
    return Linear(model.coef_[0] * rarity, rarity, float(model.intercept_[0]))


def _weight(text: Text) -> float:
    if text.family.startswith("translation"):
        return DRAWN
    if text.family.startswith("composed") and text.family not in ("composed-paraphrase", "composed-request"):
        return DRAWN if text.attack else DRAWN_HARMLESS
    return 1.0


def vectors(texts: Sequence[str]) -> sp.csr_matrix:
    """One row a text: 1 for each of the 2**BITS buckets that it falls into."""
    found = [buckets(normalise(text[:1_200]).text) for text in texts]
    ends = np.concatenate([[0], np.cumsum([len(row) for row in found])])
    places = np.concatenate(found).astype(np.int32)
    return sp.csr_matrix((np.ones(len(places), np.float32), places, ends), shape=(len(texts), 1 << BITS))


def read_in_windows(model: Linear, texts: Sequence[Text]) -> Floats:
    """The mean over both sizes of the worst window of each text, as the classifier does at work."""
    total = np.zeros(len(texts))
    for size in (300, 1_200):
        owners, parts = zip(*numbered(texts, size), strict=True)
        worst = np.full(len(texts), -np.inf)
        np.maximum.at(worst, np.array(owners), model.decide(vectors(parts)))
        total += worst / 2
    return total


def numbered(texts: Sequence[Text], size: int) -> Iterator[tuple[int, str]]:
    for number, text in enumerate(texts):
        for start, end in windows(text.text[:3_000], size):
            yield number, text.text[start:end]


def _pieces(text: Text, size: int) -> list[Text]:
    return [
        Text(text.text[start:end], text.attack, text.family)
        for start, end in windows(text.text[:3_000], size)
    ]


def tested_in(texts: Sequence[Text], fold: set[str]) -> NDArray[np.bool_]:
    """The fold's families, and a fixed fifth of the harmless texts that belong to no fold."""
    in_fold = set().union(*USER_FOLDS)
    return np.array(
        [
            text.family in fold
            or (
                text.family not in in_fold
                and hashlib.sha256(text.text.encode("utf-8", "replace")).digest()[0] % CLEAN_SHARE == 0
            )
            for text in texts
        ]
    )


def report(name: str, texts: Sequence[Text], values: Floats) -> Floats:
    """Print the figures of one fold; return the decision values of its ordinary harmless texts."""
    attack = np.array([text.attack for text in texts])
    hard = np.array([text.hard for text in texts])
    harmless = values[~attack & ~hard]
    limit = np.quantile(harmless, 0.99)
    area = roc_auc_score(attack[~hard], values[~hard])
    line = f"{name:58} AUC {area:.3f}  recall at 1 % {np.mean(values[attack] > limit):.2f}"
    if hard.any():
        line += f"  hard harmless {np.mean(values[hard] > limit):.3f}"
    print(line, flush=True)
    for family in sorted({text.family for text in texts if text.attack}):
        chosen = np.array([text.family == family and text.attack for text in texts])
        print(f"    {family:20} {chosen.sum():6}  {np.mean(values[chosen] > limit):.2f}", flush=True)
    return harmless


def anchors(harmless: Floats) -> list[list[float]]:
    """Pairs of decision value and score, by the share of harmless texts that reach the value."""
    return [[round(float(np.quantile(harmless, 1 - share)), 4), score] for share, score in ANCHORS]


def encoded(heads: dict[str, tuple[Linear, list[list[float]]]]) -> bytes:
    """A safetensors file: two tensors of half precision a head, biases and anchors in its metadata."""
    header: dict[str, object] = {}
    metadata: dict[str, str] = {"format": "garrison-tier1/2", "buckets": str(1 << BITS)}
    body = b""
    for name, (model, points) in heads.items():
        for part, values in (("weight", model.weights), ("rarity", model.rarity)):
            data = values.astype(np.float16).tobytes()
            header[f"{name}.{part}"] = {
                "dtype": "F16",
                "shape": [1 << BITS],
                "data_offsets": [len(body), len(body) + len(data)],
            }
            body += data
        metadata |= {f"{name}.bias": repr(model.bias), f"{name}.anchors": json.dumps(points)}
    text = json.dumps({"__metadata__": metadata, **header}, sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


if __name__ == "__main__":
    sys.exit(main())
