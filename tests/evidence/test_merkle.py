"""The tree against known values, a direct reading of RFC 6962, and every proof of small trees."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.evidence.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    frontier_at,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

# The eight leaves and roots of the Certificate Transparency reference tests.
LEAVES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"
)]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def direct_root(hashes: list[bytes]) -> bytes:
    """MTH as RFC 6962 section 2.1 words it."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return node_hash(direct_root(hashes[:split]), direct_root(hashes[split:]))


def subtree_of(hashes: list[bytes]):
    return lambda level, index: direct_root(hashes[index << level : (index + 1) << level])


def hashes_of(size: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(size)]


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    assert Frontier().root() == EMPTY_ROOT == hashlib.sha256(b"").digest()


@pytest.mark.parametrize("size", range(1, 9))
def test_known_roots_are_met(size: int) -> None:
    assert root_of(leaf_hash(leaf) for leaf in LEAVES[:size]).hex() == ROOTS[size - 1]


@given(st.integers(0, 300))
def test_a_tree_grown_leaf_by_leaf_equals_the_definition(size: int) -> None:
    hashes = hashes_of(size)
    assert root_of(hashes) == direct_root(hashes)
    grown = Frontier()
    for value in hashes:
        grown, _ = grown.append(value)
    assert grown == frontier_at(size, subtree_of(hashes))
    assert Frontier.from_bytes(size, grown.as_bytes()) == grown


@given(st.data())
def test_every_inclusion_proof_verifies_and_only_for_its_leaf(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 70))
    index = data.draw(st.integers(0, size - 1))
    hashes = hashes_of(size)
    root, proof = direct_root(hashes), inclusion_proof(index, size, subtree_of(hashes))
    assert len(proof) <= size.bit_length()
    assert verify_inclusion(index, size, hashes[index], root, proof)
    assert not verify_inclusion(index, size, leaf_hash(b"other"), root, proof)
    assert not verify_inclusion(index, size, hashes[index], leaf_hash(b"other"), proof)
    assert not verify_inclusion(index, size, hashes[index], root, (*proof, root))
    other = data.draw(st.integers(0, size - 1))
    assert verify_inclusion(other, size, hashes[index], root, proof) == (other == index)
    if proof:
        assert not verify_inclusion(index, size, hashes[index], root, proof[:-1])


@given(st.data())
def test_every_consistency_proof_verifies_and_only_between_its_trees(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 70))
    old = data.draw(st.integers(1, size))
    hashes = hashes_of(size)
    before, after = direct_root(hashes[:old]), direct_root(hashes)
    proof = consistency_proof(old, size, subtree_of(hashes))
    assert verify_consistency(old, size, before, after, proof)
    assert not verify_consistency(old, size, leaf_hash(b"other"), after, proof)
    assert not verify_consistency(old, size, before, leaf_hash(b"other"), proof)
    assert not verify_consistency(old, size, before, after, (*proof, after))
    if proof:
        assert not verify_consistency(old, size, before, after, proof[:-1])


def test_a_proof_outside_the_tree_is_refused() -> None:
    reader = subtree_of(hashes_of(4))
    with pytest.raises(ValueError):
        inclusion_proof(4, 4, reader)
    with pytest.raises(ValueError):
        consistency_proof(0, 4, reader)
    assert not verify_inclusion(4, 4, b"", b"", ())
    assert not verify_consistency(0, 4, b"", b"", ())


def test_a_frontier_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError):
        Frontier.from_bytes(3, b"\0" * 32)
