"""Reversible tokens: what goes to the model, what comes back, to whom, and however the answer is cut."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from garrison.core.errors import Usage
from garrison.detect.base import Direction, Outcome
from garrison.detect.handling import Treatment, how, masked, parse_actions
from garrison.detect.inspect import Inspector
from garrison.detect.stream import StreamRedactor
from garrison.detect.tokens import MAX_TOKENS, Restorer, Vault

PEOPLE = "Ask Ana (ana.lee@corp.test-firm.com), ana.lee@corp.test-firm.com again, or +34 879 15 75 46."
KEY = "AKIA" + "QYLPMN5HHHFPZAM2"
TOKENISE = {"pii": Treatment.TOKENISE}
TREATMENTS = st.sampled_from([one for one in Treatment if one is not Treatment.TOKENISE])


def _tokenised(inspector: Inspector, text: str, vault: Vault) -> str:
    return inspector.inspect(text, Direction.INPUT, how=how(TOKENISE, vault)).text


def _restored(pieces: list[str], vault: Vault, principal: str) -> str:
    restorer = Restorer(vault, principal)
    return "".join([*(restorer.feed(piece) for piece in pieces), restorer.close()])


@pytest.mark.row("C10", kind="R")
def test_a_value_leaves_as_a_typed_token_and_comes_back_to_who_sent_it(inspector: Inspector) -> None:
    vault = Vault("user:ana")
    sent = _tokenised(inspector, PEOPLE, vault)
    assert sent == "Ask Ana (<EMAIL_1>), <EMAIL_1> again, or <PHONE_1>."
    assert vault.restore(sent, "user:ana") == PEOPLE
    assert vault.restore(sent, "user:bob") == sent, "another principal gets the tokens"
    assert "ana.lee" not in repr(vault)
    held = [getattr(vault, name) for name in Vault.__slots__]
    assert "ana.lee" not in repr(held), "no value lies about in the clear"


def test_a_secret_is_never_tokenised(inspector: Inspector) -> None:
    vault = Vault("user:ana")
    assert _tokenised(inspector, f"use {KEY}", vault) == "use [REDACTED:aws-key]"
    assert vault.token_for("secret.aws-key", KEY) is None
    assert len(vault) == 0
    for item in (
        {"tier": "public", "direction": "input", "class": "secret", "action": "tokenise"},
        {"tier": "public", "direction": "output", "class": "pii", "action": "tokenise"},
        {"tier": "public", "direction": "input", "class": "weather", "action": "redact"},
    ):
        with pytest.raises(Usage, match="DLP-ACTION"):
            parse_actions([item])


def test_a_token_that_already_stands_in_the_request_is_not_given_to_a_value(inspector: Inspector) -> None:
    text = "what does <EMAIL_1> mean? write to ana.lee@corp.test-firm.com"
    vault = Vault("user:ana", text)
    sent = _tokenised(inspector, text, vault)
    assert sent == "what does <EMAIL_1> mean? write to <EMAIL_2>"
    assert vault.restore(sent, "user:ana") == text


def test_a_vault_is_bounded_and_what_does_not_fit_is_redacted(inspector: Inspector) -> None:
    vault = Vault("user:ana")
    for number in range(MAX_TOKENS):
        assert vault.token_for("pii.email", f"a{number}@b.com")
    assert vault.token_for("pii.email", "one.more@b.com") is None
    assert vault.token_for("pii.email", "a7@b.com") == "<EMAIL_8>"
    assert _tokenised(inspector, "write to one.more@firm.com", vault) == "write to [REDACTED:pii.email]"


@pytest.mark.row("C13", kind="R")
@pytest.mark.parametrize(
    "answer", ["<EMAIL_1>", "a <EMAIL_1><PHONE_1> b <", "<<EMAIL_1> <EMAIL_99> <EMAI", "x<y <A_1"]
)
def test_every_two_way_cut_and_every_character_alone_restores_the_same(
    inspector: Inspector, answer: str
) -> None:
    vault = Vault("user:ana")
    _tokenised(inspector, PEOPLE, vault)
    whole = vault.restore(answer, "user:ana")
    for cut in range(len(answer) + 1):
        assert _restored([answer[:cut], answer[cut:]], vault, "user:ana") == whole
    assert _restored(list(answer), vault, "user:ana") == whole


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["<EMAIL_1>", "<PHONE_1>", "<", "E", "_1>", "hello ", "ü", "<A"]), max_size=20),
    st.randoms(),
)
def test_any_cutting_restores_the_same(parts: list[str], rng: random.Random) -> None:
    vault = Vault("user:ana")
    vault.token_for("pii.email", "ana@firm.com")
    vault.token_for("pii.phone", "+34 879 15 75 46 <EMAIL_1>")
    text, pieces, at = "".join(parts), [], 0
    while at < len(text):
        step = rng.randint(1, 6)
        pieces.append(text[at : at + step])
        at += step
    assert _restored(pieces, vault, "user:ana") == vault.restore(text, "user:ana")


@settings(max_examples=60, deadline=None)
@given(treatment=TREATMENTS, rng=st.randoms())
def test_whatever_is_done_with_values_a_cut_answer_equals_the_whole_one(
    treatment: Treatment, rng: random.Random
) -> None:
    text = f"{PEOPLE} Key {KEY}, card 4111 1111 1111 1111; DOB June 09, 1963.\nShip to: 12 Elm Street 5, Rehau\nbye"
    treated = how({"pii": treatment})
    redactor, out, at = StreamRedactor(INSPECTOR, treated), [], 0
    while at < len(text):
        step = rng.randint(1, 9)
        out.append(redactor.feed(text[at : at + step]))
        at += step
    out.append(redactor.close())
    if treatment is not Treatment.BLOCK:
        assert "".join(out) == INSPECTOR.inspect(text, Direction.OUTPUT, how=treated).text
    assert KEY not in "".join(out)


def test_each_treatment_does_what_it_says(inspector: Inspector) -> None:
    text = "card 4111 1111 1111 1111"
    seen = {one: inspector.inspect(text, Direction.OUTPUT, how=how({"pii": one})) for one in TREATED}
    assert seen[Treatment.ALLOW].text == text
    assert seen[Treatment.ALLOW].findings, "what is allowed is still told"
    assert seen[Treatment.MASK].text == "card **** **** **** 1111"
    assert seen[Treatment.REDACT].text == "card [REDACTED:pii.card]"
    assert (seen[Treatment.BLOCK].verdict, seen[Treatment.BLOCK].text) == (Outcome.BLOCK, "")
    assert (
        inspector.inspect(text, Direction.INPUT, how=how({"pii": Treatment.BLOCK})).verdict is Outcome.BLOCK
    )


@given(st.text(max_size=60))
def test_a_mask_keeps_the_form_and_at_most_a_quarter(value: str) -> None:
    shown = masked(value)
    assert len(shown) == len(value)
    kept = sum(char.isalnum() for char in shown)
    assert kept <= min(4, sum(char.isalnum() for char in value) // 4)


TREATED = (Treatment.ALLOW, Treatment.MASK, Treatment.REDACT, Treatment.BLOCK)
INSPECTOR = Inspector(directions=(Direction.OUTPUT,))
