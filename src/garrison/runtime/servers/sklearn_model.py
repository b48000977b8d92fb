"""Runs inside a sandbox: a scikit-learn estimator in skops' format behind the Open Inference Protocol. A script.

Never a pickle: skops builds the object from a schema and refuses every type that is not on its own list of
trusted ones, so a file with a type of its own ends this program before anything of it runs.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from skops import io

from garrison.runtime.servers.tensors import Declared, arrays, metadata, tensor
from garrison.runtime.servers.web import BadRequest, hold_signals, serve

SETTINGS: dict[str, Any] = globals().get("SETTINGS", {})  # handed over by confine.py


def estimator(descriptor: int) -> Any:
    """Raises what skops raises for a type that it does not trust."""
    model = io.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0), trusted=[])
    if not hasattr(model, "predict"):
        raise TypeError("the file holds no estimator that predicts")
    return model


def main() -> None:
    hold_signals()
    model = estimator(SETTINGS["files"]["model"])
    inputs = [Declared("input", "FP64", (-1, int(getattr(model, "n_features_in_", -1))))]
    outputs = [Declared("predict", _kind(model), None)]
    if hasattr(model, "predict_proba"):
        outputs.append(Declared("predict_proba", "FP64", (-1, len(model.classes_))))

    def answer(path: str, body: bytes) -> dict[str, Any] | None:
        if path == "/v2/model":
            return metadata(SETTINGS["alias"], "sklearn_skops", inputs, outputs)
        if path != "/v2/infer":
            return None
        given = arrays(body, inputs)["input"]
        try:
            return {
                "outputs": [tensor(one.name, np.asarray(getattr(model, one.name)(given))) for one in outputs]
            }
        except ValueError as error:
            raise BadRequest("the model does not take this input") from error

    serve(SETTINGS["socket"], answer)


def _kind(model: Any) -> str:
    classes = getattr(model, "classes_", None)
    if classes is None:
        return "FP64"
    return "INT64" if np.asarray(classes).dtype.kind in "iu" else "BYTES"


if __name__ == "__main__":
    main()
