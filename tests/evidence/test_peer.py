"""Go's transparency log packages accept our checkpoints and proofs, and reject changed ones."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.evidence.conftest import ORIGIN, an_event

from garrison.evidence import store
from garrison.evidence.checkpoint import read_checkpoint
from garrison.evidence.merkle import consistency_proof, frontier_at, inclusion_proof

GO_PACKAGES = Path("/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog")
SOURCE = Path(__file__).with_name("tlog_check.go")
SIZE = 300


def text(value: bytes) -> str:
    return base64.b64encode(value).decode()


@pytest.mark.row("C16", kind="R")
@pytest.mark.skipif(
    shutil.which("go") is None or not GO_PACKAGES.is_dir(),
    reason="needs Debian's golang-go and golang-golang-x-mod-dev: the independent verifier did not run",
)
def test_an_independent_verifier_agrees_with_every_proof(house, tmp_path) -> None:
    ledger = house.ledger()
    ledger.append_many([an_event(number) for number in range(SIZE)])
    (note,) = house.witness.read()
    assert read_checkpoint(note, house.keys).size == SIZE
    chance = random.Random(7)
    proofs = []
    with ledger.read() as connection:
        reader = store.subtree_reader(connection)
        roots = {size: frontier_at(size, reader).root() for size in range(1, SIZE + 1)}
        leaves = list(store.leaves(connection))
        for _ in range(500):
            new = chance.randint(1, SIZE)
            index, old = chance.randrange(new), chance.randint(1, new)
            found = inclusion_proof(index, new, reader)
            proofs.append(("inclusion", index, new, leaves[index], roots[new], found))
            found = consistency_proof(old, new, reader)
            proofs.append(("consistency", old, new, roots[old], roots[new], found))
    wanted = [case(*proof, valid=True) for proof in proofs]
    for kind, old, new, before, after, hashes in proofs:
        flipped = bytes([before[0] ^ 1, *before[1:]])
        wanted.append(case(kind, old, new, flipped, after, hashes, valid=False))
        if hashes:
            wanted.append(case(kind, old, new, before, after, hashes[:-1], valid=False))
    changed = note.decode().replace(f"\n{SIZE}\n", f"\n{SIZE - 1}\n")
    notes = [{"Text": note.decode(), "Valid": True}, {"Text": changed, "Valid": False}]
    body = {"Name": ORIGIN, "Pem": house.signer.public_pem().decode(), "Notes": notes, "Proofs": wanted}
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": "/usr/share/gocode",
        "GOCACHE": str(tmp_path),
    }
    answer = subprocess.run(
        ["go", "run", str(SOURCE)],
        input=json.dumps(body),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == f"{len(notes) + len(wanted)}\n"


def case(kind, old, new, before, after, hashes, *, valid) -> dict:
    return {
        "Kind": kind,
        "Old": old,
        "New": new,
        "OldHash": text(before),
        "NewHash": text(after),
        "Hashes": [text(value) for value in hashes],
        "Valid": valid,
    }
