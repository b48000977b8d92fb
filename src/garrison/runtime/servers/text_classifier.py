"""Runs inside a sandbox: a text classifier (ONNX and its tokenizer) behind one Unix socket. A script.

A long text is read in overlapping windows, and the worst one counts. `POST /judge` with `id`, `channel` and
`texts`; the answer has for each text the probability that it is an attack, and the characters of that window.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from garrison.runtime.servers.web import BadRequest, hold_signals, serve

SETTINGS: dict[str, Any] = globals().get("SETTINGS", {})  # handed over by confine.py

BATCH = 8  # windows computed at once
MAX_WINDOWS = 512  # of one question
MAX_TEXTS = 16
TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}

Window = tuple[list[int], int, int]  # token ids, first and last character


class Classifier:
    """Raises KeyError or ValueError when the model is not one that takes tokens and gives two or more logits."""

    def __init__(self, settings: dict[str, Any]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = settings["threads"]
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        files = settings["files"]
        self._session = onnxruntime.InferenceSession(
            _bytes(files["model"]), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {node.name: TYPES[node.type] for node in self._session.get_inputs()}
        if "input_ids" not in self._inputs:
            raise ValueError("the model takes no input_ids")
        self._tokenizer = Tokenizer.from_buffer(_bytes(files["tokenizer"]))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(settings["max_tokens"], stride=settings["max_tokens"] // 4)
        self._harmless = settings["harmless"]
        self._labels = settings["labels"]
        first = self._session.get_outputs()[0].name
        self._outputs = {channel: name or first for channel, name in settings["outputs"].items()}

    def judge(self, channel: str, text: str) -> list[float | int]:
        """The worst window: [probability, start, end]. Raises KeyError for a channel that it does not know."""
        output = self._outputs[channel]
        windows = self._windows(text)
        worst = max(
            (self._probability(logits), start, end)
            for at in range(0, len(windows), BATCH)
            for logits, (_, start, end) in zip(
                self._run(output, windows[at : at + BATCH]), windows[at : at + BATCH], strict=True
            )
        )
        return list(worst)

    def _windows(self, text: str) -> list[Window]:
        whole = self._tokenizer.encode(text)
        found = []
        for part in (whole, *whole.overflowing):
            places = [place for place in part.offsets if place[1] > place[0]]
            start, end = (places[0][0], places[-1][1]) if places else (0, len(text))
            found.append((part.ids, start, end))
        if len(found) > MAX_WINDOWS:
            raise BadRequest(f"the text has more than {MAX_WINDOWS} windows")
        return found

    def _run(self, output: str, windows: list[Window]) -> NDArray[np.float64]:
        longest = max(len(ids) for ids, _, _ in windows)
        shape = (len(windows), longest)
        given = {name: np.zeros(shape, kind) for name, kind in self._inputs.items()}
        for row, (ids, _, _) in enumerate(windows):
            given["input_ids"][row, : len(ids)] = ids
            if "attention_mask" in given:
                given["attention_mask"][row, : len(ids)] = 1
        (logits,) = self._session.run([output], given)
        if logits.shape != (len(windows), self._labels):
            raise ValueError("the model gives another number of labels")
        return np.asarray(logits, np.float64)

    def _probability(self, logits: NDArray[np.float64]) -> float:
        shares = np.exp(logits - logits.max())
        return float(1.0 - shares[self._harmless].sum() / shares.sum())


def _bytes(descriptor: int) -> bytes:
    """All of a file; one read gives at most 2 GiB."""
    found, size = bytearray(), os.fstat(descriptor).st_size
    while len(found) < size and (piece := os.pread(descriptor, size - len(found), len(found))):
        found += piece
    return bytes(found)


def answer_with(classifier: Classifier, path: str, body: bytes) -> dict[str, Any] | None:
    if path != "/judge":
        return None
    asked = json.loads(body)
    texts = asked["texts"]
    if not isinstance(texts, list) or not 0 < len(texts) <= MAX_TEXTS:
        raise BadRequest(f"1 to {MAX_TEXTS} texts are judged at once")
    return {"id": asked["id"], "opinions": [classifier.judge(asked["channel"], text) for text in texts]}


def main() -> None:
    hold_signals()
    classifier = Classifier(SETTINGS)
    for channel in SETTINGS["outputs"]:
        classifier.judge(channel, "Hello")  # a model that cannot do it says so before it is trusted
    serve(SETTINGS["socket"], lambda path, body: answer_with(classifier, path, body))


if __name__ == "__main__":
    main()
