"""Train the recogniser of names, and say what it is worth on sources that it did not see.

    python -m training.names --corpora DIR --prompts prompts.jsonl.gz [--write]

`--corpora` holds WNUT17, BTC and wikigold as their publishers give them (CoNLL columns, a word a line).
Every draw is seeded. Each corpus is held out once; the weights that are written learn from all of them and from
sentences that are composed here with names of many countries.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import random
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import names as census
import numpy as np
import scipy.sparse as sp
from faker import Faker
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from training.conll import CORPORA, Sentence, read_conll
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from garrison.detect.names import _PART, _RUN, BITS, WEIGHTS, Names, beside, features, hashed

SEED = 1
COMPOSED = 14_000
SURE, LIKELY = 0.75, 0.35  # a name has a word of the first, and all its words are of the second
FORGOTTEN = (5, 2)  # of five names, two are unknown in training, or the model would lean on its tables alone
ORDINARY = 4  # times that a word stands in small letters among harmless prompts
LOCALES = (
    "en_US", "en_GB", "en_IN", "de_DE", "fr_FR", "es_ES", "es_MX", "it_IT", "nl_NL", "pt_BR", "pt_PT", "pl_PL",
    "cs_CZ", "sv_SE", "da_DK", "no_NO", "fi_FI", "tr_TR", "ro_RO", "hu_HU", "hr_HR", "id_ID", "vi_VN", "en_NG",
    "en_KE", "ru_RU", "uk_UA", "el_GR", "bg_BG", "az_AZ", "fil_PH", "ga_IE", "et_EE", "lt_LT", "lv_LV", "sk_SK",
    "sl_SI",
)  # fmt: skip
HERE = Path(__file__).parent
OUT = HERE.parent / "src" / "garrison" / "detect" / "weights" / WEIGHTS

Tables = tuple[frozenset[int], ...]


class Composer:
    """Sentences with names, and with what only looks like names, from `names.toml`."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        plan = tomllib.loads((HERE / "names.toml").read_text("utf-8"))
        self._with, self._without, self._words = plan["with"], plan["without"], plan["words"]
        self._fakers = [Faker(locale) for locale in LOCALES]
        for one in self._fakers:
            one.seed_instance(draw.randrange(1 << 30))

    def sentences(self, count: int) -> Iterator[Sentence]:
        for _ in range(count):
            kind = self._with if self._draw.random() < 0.5 else self._without
            yield self._filled(self._draw.choice(kind))

    def _filled(self, pattern: str) -> Sentence:
        one = self._draw.choice(self._fakers)
        text, spans = "", list[tuple[int, int]]()
        for piece in re.split(r"(\{\w+\})", pattern):
            if not re.fullmatch(r"\{\w+\}", piece):
                text += piece
                continue
            value, is_name = self._value(piece[1:-1], one)
            if is_name:
                spans.append((len(text), len(text) + len(value)))
            text += value
        return Sentence(text, tuple(spans))

    def _value(self, slot: str, one: Faker) -> tuple[str, bool]:
        if slot == "name":
            return self._name(one), True
        if slot == "given":
            return one.first_name(), True
        if slot == "family":
            return one.last_name(), True
        if slot in self._words:
            return self._draw.choice(self._words[slot]), False
        made = {"city": one.city, "company": one.company, "street": one.street_name, "country": one.country}
        return made[slot](), False

    def _name(self, one: Faker) -> str:
        given, family = one.first_name(), one.last_name()
        form = self._draw.random()
        if form < 0.7:
            return f"{given} {family}"
        if form < 0.78:
            return f"{given} {self._draw.choice('ABCDEFGHJKLMNPRSTW')}. {family}"
        if form < 0.83:
            return f"{given[0]}. {family}"
        if form < 0.88:
            return f"{given} {family}-{one.last_name()}"
        if form < 0.93:
            return f"{given} {one.first_name()} {family}"
        if form < 0.97:
            return f"{given} {family}".upper()
        return f"{family} {given}"


def tables(prompts: Path) -> Tables:
    """Given names, family names, and ordinary words."""
    given, family = set[str](), set[str]()
    for file, into in (("first:male", given), ("first:female", given), ("last", family)):
        for line in Path(census.FILES[file]).read_text("utf-8").splitlines():
            into.add(line.split()[0].lower())
    given |= {*FREQUENCY_LISTS["male_names"], *FREQUENCY_LISTS["female_names"]}
    family |= set(FREQUENCY_LISTS["surnames"])
    for locale in LOCALES:
        for provider in Faker(locale).providers:
            for key in dir(provider):
                if key.startswith(("first_name", "last_name")) and not callable(getattr(provider, key)):
                    into = given if key.startswith("first") else family
                    into |= {part.lower() for entry in getattr(provider, key) for part in str(entry).split()}
    counts: Counter[str] = Counter()
    with gzip.open(prompts, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            if row["label"] in ("benign", "hard-benign"):
                counts.update(re.findall(r"\b[a-z]{2,20}\b", row["text"]))
    ordinary = {word for word, count in counts.items() if count >= ORDINARY}
    return tuple(frozenset(map(hashed, sorted(table))) for table in (given, family, ordinary))


def rows(sentences: Iterable[Sentence], known: Tables) -> tuple[sp.csr_matrix, NDArray[np.int8]]:
    """A row for each capitalised word."""
    columns: list[int] = []
    starts, labels = [0], list[int]()
    for sentence in sentences:
        for run in _RUN.finditer(sentence.text):
            places = [match.span() for match in _PART.finditer(sentence.text, *run.span())]
            for place, found in zip(
                places, features(*beside(sentence.text, run, places), known), strict=True
            ):
                columns.extend(sorted(set(found)))
                starts.append(len(columns))
                labels.append(any(low <= place[0] < high for low, high in sentence.spans))
    shape = (len(labels), 1 << BITS)
    matrix = sp.csr_matrix((np.ones(len(columns), np.float32), columns, starts), shape=shape)
    return matrix, np.array(labels, np.int8)


def fitted(sentences: Sequence[Sentence], known: Tables) -> bytes:
    """The weights file."""
    of, forgotten = FORGOTTEN
    thin = tuple(frozenset(value for value in table if value % of >= forgotten) for table in known[:2])
    matrix, labels = rows(sentences, (*thin, known[2]))
    model = LogisticRegression(C=0.3, solver="liblinear", max_iter=300)
    model.fit(matrix, labels)
    arrays: dict[str, NDArray[np.generic]] = {"weights": model.coef_[0].astype("<f2")}
    for name, table in zip(("given", "family", "ordinary"), known, strict=True):
        arrays[name] = np.array(sorted(table), "<u4")
    settings = {"bias": repr(float(model.intercept_[0])), "sure": str(SURE), "likely": str(LIKELY)}
    header: dict[str, object] = {"__metadata__": settings}
    at = 0
    for name, array in arrays.items():
        size = array.nbytes
        header[name] = {
            "dtype": "F16" if name == "weights" else "U32",
            "shape": list(array.shape),
            "data_offsets": [at, at + size],
        }
        at += size
    head = json.dumps(header, sort_keys=True).encode()
    return len(head).to_bytes(8, "little") + head + b"".join(array.tobytes() for array in arrays.values())


def opened(data: bytes) -> Names:
    return Names(data, digest=hashlib.sha256(data).hexdigest())


def measured(names: Names, sentences: Iterable[Sentence]) -> str:
    """Recall of labelled names and precision of found ones; a name is found when 90 % of it is covered."""
    of = found = right = hits = 0
    for sentence in sentences:
        got = names.find(sentence.text)
        of += len(sentence.spans)
        for low, high in sentence.spans:
            covered = sum(max(0, min(high, one.end) - max(low, one.start)) for one in got)
            found += covered >= 0.9 * (high - low)
        hits += len(got)
        right += sum(any(one.start < high and low < one.end for low, high in sentence.spans) for one in got)
    return f"recall {found}/{of} = {found / max(of, 1):.3f}  precision {right}/{hits} = {right / max(hits, 1):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    known = tables(args.prompts)
    print("tables", [len(table) for table in known])
    composed = list(Composer(random.Random(SEED)).sentences(COMPOSED))
    corpora = {name: list(read_conll(args.corpora.glob(where))) for name, where in CORPORA.items()}
    for name, held in corpora.items():
        learnt = [one for other, texts in corpora.items() if other != name for one in texts]
        print(f"held out {name:12}", measured(opened(fitted([*composed, *learnt], known)), held))
    data = fitted([*composed, *(one for texts in corpora.values() for one in texts)], known)
    print(f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")
    if args.write:
        OUT.write_bytes(data)


if __name__ == "__main__":
    main()
