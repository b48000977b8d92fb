"""A small model that is really trained: logistic regression on rows made here, with everything that led to it."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PREPARE = '''"""Scale the columns to mean 0 and deviation 1."""
import numpy as np


def prepare(rows):
    return (rows - rows.mean(axis=0)) / rows.std(axis=0)
'''
CARD = """\
---
license: apache-2.0
language: en
pipeline_tag: tabular-classification
library_name: numpy
---
# fraud

## Intended use

Flagging card payments for a person to look at.

## Limitations

Two columns only; amounts above 10,000 were never seen.
"""


@dataclass(frozen=True, slots=True)
class Trained:
    """Where the parts lie, and the score that the evaluation found."""

    model: Path
    lineage: Path
    data: Path
    script: Path
    log: Path
    report: Path
    accuracy: float


def train(place: Path, seed: int = 7) -> Trained:
    """Make data, train on it, evaluate, and write the lineage file that a publisher would write."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(400, 2)) * (3.0, 1.0) + (1.0, 5.0)
    labels = (rows[:, 0] + 2 * rows[:, 1] + generator.normal(size=400) > 11).astype(float)
    place.mkdir()
    data = place / "payments.csv"
    with data.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("amount", "hour", "label"))
        writer.writerows(
            (f"{a:.6f}", f"{b:.6f}", int(label)) for (a, b), label in zip(rows, labels, strict=True)
        )
    script = place / "prepare.py"
    script.write_text(PREPARE)
    scaled = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    weights, bias, losses = np.zeros(2), 0.0, []
    for _ in range(200):
        guess = 1 / (1 + np.exp(-(scaled[:300] @ weights + bias)))
        losses.append(float(-np.mean(np.log(np.where(labels[:300] == 1, guess, 1 - guess)))))
        weights -= 0.5 * scaled[:300].T @ (guess - labels[:300]) / 300
        bias -= 0.5 * float(np.mean(guess - labels[:300]))
    accuracy = float(np.mean((scaled[300:] @ weights + bias > 0) == (labels[300:] == 1)))
    log = place / "run.log"
    log.write_text("\n".join(f"step {step} loss {loss:.6f}" for step, loss in enumerate(losses)))
    report = place / "evaluation.json"
    report.write_text(json.dumps({"metrics": {"accuracy": accuracy, "rows": 100}}))
    model = place / "model"
    model.mkdir()
    tensors = {"weights": weights.astype(np.float32), "bias": np.array([bias], np.float32)}
    (model / "model.safetensors").write_bytes(_safetensors(tensors))
    (model / "README.md").write_text(CARD)
    lineage = place / "lineage.toml"
    lineage.write_text(LINEAGE.format(loss=losses[-1], accuracy=accuracy))
    return Trained(model, lineage, data, script, log, report, accuracy)


def _safetensors(tensors: dict[str, NDArray[np.float32]]) -> bytes:
    """The file format: length of the header, header, tensors one behind the other."""
    header, body = {}, b""
    for name, tensor in tensors.items():
        data = tensor.tobytes()
        place = [len(body), len(body) + len(data)]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": place}
        body += data
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


LINEAGE = """\
builder = "https://ci.example.org/training"
started = 2026-11-20T09:00:00Z
finished = 2026-11-20T09:01:00Z

[[data]]
path = "payments.csv"
facts = {{ rows = 400 }}

[[preprocessing]]
path = "prepare.py"

[[run]]
name = "run-17"
path = "run.log"
parameters = {{ steps = 200, rate = 0.5, seed = 7 }}
metrics = {{ loss = {loss} }}

[[evaluation]]
path = "evaluation.json"
metrics = {{ accuracy = {accuracy} }}
"""
