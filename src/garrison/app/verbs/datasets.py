"""Verbs about data sets: register, list, show, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise, identity_name
from garrison.artifacts import datasets
from garrison.artifacts.datasets import Registration
from garrison.artifacts.registry import event_of
from garrison.core.actions import Action
from garrison.core.digest import Ref


def register(house: House, call: Call) -> dict[str, Any]:
    ref = Ref.parse(call.text("ref"))
    models = tuple(Ref.parse(text) for text in call.texts("models"))
    authorise(house, call.subject, Action.DATASET_REGISTER, ref.name)
    for model in models:
        authorise(house, call.subject, Action.ARTIFACT_ATTACH, model.name)
    wanted = Registration(
        source=Path(call.text("source")),
        ref=ref,
        owner=identity_name(call.text("owner")),
        tier=call.tier(),
        models=models,
    )
    return datasets.register(house.registry, wanted, call.subject, call.progress)


def dataset_list(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.DATASET_READ, "registry")
    return {"datasets": datasets.listed(house.registry)}


def dataset_show(house: House, call: Call) -> dict[str, Any]:
    ref = Ref.parse(call.text("ref"))
    authorise(house, call.subject, Action.DATASET_READ, ref.name)
    return datasets.show(house.registry, ref)


def dataset_verify(house: House, call: Call) -> dict[str, Any]:
    ref = Ref.parse(call.text("ref"))
    authorise(house, call.subject, Action.DATASET_VERIFY, ref.name)
    path = call.optional("path")
    verified = datasets.verify(house.registry, ref, Path(path) if path else None)
    event = event_of(
        house.registry,
        call.subject,
        Action.DATASET_VERIFY,
        ref,
        verified["digest"],
        {"files": verified["files"]},
    )
    return {**verified, "audit_id": house.record(event)}


DATASET_VERBS = (
    Verb("dataset.register", Action.DATASET_REGISTER, register),
    Verb("dataset.list", Action.DATASET_READ, dataset_list),
    Verb("dataset.show", Action.DATASET_READ, dataset_show),
    Verb("dataset.verify", Action.DATASET_VERIFY, dataset_verify),
)
