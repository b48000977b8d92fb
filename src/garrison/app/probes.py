"""One probe as the JSON that commands, the API and events share; and back, for a command that shows it."""

from __future__ import annotations

from typing import Any

from garrison.runtime.probe import CONTROL_MINIMUM, Attempt, Matrix


def matrix_json(matrix: Matrix, seen: Matrix | None) -> dict[str, Any]:
    return {
        "schema": "garrison.probe/1",
        **matrix.as_json(),
        "attacks": [
            {"attack": attack, "succeeded": bool(found), "by": list(found)}
            for attack, found in matrix.succeeded().items()
        ],
        "control": None if seen is None else {**seen.as_json(), "needed": CONTROL_MINIMUM},
    }


def read_matrix(told: dict[str, Any]) -> tuple[Matrix, Matrix | None]:
    return _matrix(told), None if told["control"] is None else _matrix(told["control"])


def _matrix(told: dict[str, Any]) -> Matrix:
    attempts = (Attempt(row["check"], row["open"], row["why"]) for row in told["attempts"])
    return Matrix(told["level"], told["uid"], tuple(attempts))
