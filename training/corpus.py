"""Texts to learn from: the labelled prompts, and documents harvested or composed here. Every draw is seeded."""

from __future__ import annotations

import email
import gettext
import gzip
import io
import json
import random
import re
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.conll import CORPORA, read_conll

HERE = Path(__file__).parent
SMALLEST_PART = 120  # characters: shorter pieces of a file say nothing about documents
NOISY = frozenset(
    {"satml-ctf-2024"}
)  # many of its attacks are ordinary chat: measured worse with than without


EVERYDAY = {"BTC": 4_000, "wikigold": 1_500}  # at most so many texts of a corpus; WNUT17 is left to judge by


@dataclass(frozen=True, slots=True)
class Text:
    """`family` is the source that a split keeps together; `host` that of the document an order was put into."""

    text: str
    attack: bool
    family: str
    hard: bool = False
    host: str = ""


def labelled(path: Path) -> tuple[list[Text], list[Text]]:
    """The labelled prompts as (user texts, document texts), without the noisy families."""
    user, document = [], []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["family"] in NOISY:
                continue
            attack = row["label"] in ("injection", "jailbreak")
            text = Text(row["text"], attack, row["family"], hard=row["label"] == "hard-benign")
            (document if row["channel"] == "document" else user).append(text)
    return user, document


def everyday(folder: Path, seed: int) -> list[Text]:
    """What people write when they ask nobody anything: the texts of corpora for the recognition of names."""
    draw, texts = random.Random(seed), []
    for family, most in EVERYDAY.items():
        found = [sentence.text for sentence in read_conll(folder.glob(CORPORA[family]))]
        usual = [text for text in found if 30 < len(text) < 700]
        chosen = draw.sample(usual, min(most, len(usual)))
        texts += [Text(text, False, f"everyday-{family}") for text in chosen]
    return texts


def composed_prompts(seed: int, per_language: int) -> list[Text]:
    """Attacks and harmless sentences in every language of `phrases.toml`."""
    draw = random.Random(seed)
    texts: list[Text] = []
    for language, words in tomllib.loads((HERE / "phrases.toml").read_text()).items():
        wide = language in ("zh", "ja")
        for _ in range(per_language):
            drop, what, goal, opening = (draw.choice(words[key]) for key in ("drop", "what", "goal", "open"))
            order = (
                f"{what}{drop}"
                if language == "ja"
                else f"{what} {drop}"
                if language in ("ko", "tr", "hi")
                else (f"{drop}{what}" if wide else f"{drop} {what}")
            )
            stop = "。" if wide else "."
            shape = draw.randrange(6)
            whole = {
                0: f"{order}{stop} {goal}{stop}",
                1: f"{opening} {order}{stop} {goal}{stop}",
                2: f"{goal}{stop} {order}{stop}",
                3: f"{draw.choice(words['harmless'])} {order}{stop} {goal}{stop}",
                4: f"{order}{stop} {draw.choice(words['goal'])}{stop} {goal}!",
                5: f"{opening} {goal}{stop}",
            }[shape]
            texts.append(Text(_cased(draw, whole), True, f"composed-{language}"))
            pair = draw.sample(words["harmless"], 2)
            plain = draw.choice([pair[0], f"{opening} {pair[0]}", " ".join(pair)])
            texts.append(Text(_cased(draw, plain), False, f"composed-{language}"))
    return texts


def paraphrases(seed: int, count: int) -> list[Text]:
    """Orders to a model that use none of the well-known words, as `paraphrases.toml` has them."""
    draw, parts = random.Random(seed), tomllib.loads((HERE / "paraphrases.toml").read_text())
    languages, texts = list(parts), []
    for _ in range(count):
        language = "en" if draw.random() < ENGLISH else draw.choice(languages)
        words, joined = parts[language], JOINED.get(language, " and ")
        shed, bounds, obey, leak = (draw.choice(words[key]) for key in ("shed", "bounds", "obey", "leak"))
        dropped, claim = f"{_raised(shed)} {bounds}", draw.choice(words.get("claim", [""]))
        order = draw.choice(
            [f"{dropped}{joined}{obey}.", f"{dropped}{joined}{obey}.", f"{dropped}.", leak, leak,
             f"{_raised(obey)}. {dropped}.", f"{claim} {shed} {bounds}{joined}{obey}.", f"{claim} {obey}."]
        ).strip()  # fmt: skip
        if draw.random() < BEHIND:
            opening = _request(draw, parts["en"]) if language == "en" else draw.choice(words["plain"])
            order = " ".join(f"{opening} {draw.choice(words.get('also', ['']))} {order}".split())
        texts.append(Text(_lowered(draw, order), True, "composed-paraphrase"))
    return texts


def short_requests(seed: int, count: int) -> list[Text]:
    """What people ask all day in a line: of every subject, and of the things that paraphrased orders speak of."""
    draw, parts = random.Random(seed), tomllib.loads((HERE / "paraphrases.toml").read_text())
    english, texts = parts["en"], []
    for _ in range(count):
        kind = draw.random()
        if kind < 0.55:
            text = _request(draw, english)
        elif kind < 0.8:
            text = draw.choice(english["say"] if kind < 0.65 else english["plain"])
        else:
            text = draw.choice(parts[draw.choice(list(parts))]["plain"])
        if draw.random() < 0.1:
            text += " " + _request(draw, english)
        texts.append(Text(_lowered(draw, text), False, "composed-request"))
    return texts


def _request(draw: random.Random, words: dict[str, Any]) -> str:
    topic, other = draw.sample(words["topic" if draw.random() < 0.65 else "hot"], 2)
    return str(draw.choice(words["frame"])).format(topic=topic, other=other)


def _raised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lowered(draw: random.Random, text: str) -> str:
    kind = draw.random()
    return text.upper() if kind < 0.04 else text.lower() if kind < 0.2 else text


ASKED = [
    "What does this do?", "Explain this code to me.", "Why does this fail?", "Write a test for it.", "Is this safe?",
    "Summarise this page.", "can you make this shorter", "Translate the comments into German.", "Find the bug:",
    "I don't understand this part of the documentation:", "Add type hints.", "Rewrite it without the loop.",
    "what am I doing wrong here?", "How would I call this from my own program?", "Review this change, please.",
]  # fmt: skip
ENGLISH, BEHIND = 0.6, 0.2  # shares: of texts in English, and of orders behind a harmless request
JOINED = {"de": " und ", "fr": " et ", "es": " y ", "pt": " e ", "it": " e "}


def trigger_words(seed: int, count: int) -> list[Text]:
    """Harmless texts made of the words that attacks use: requests, sentences, and what applications tell a model."""
    draw, parts = random.Random(seed), _parts()
    hard, system = parts["hard"], parts["system"]
    texts = [Text(sentence, False, "drawn-hard", hard=True) for sentence in hard["sentence"]]
    while len(texts) < count:
        shape = len(texts) % 4
        if shape == 0:
            line = draw.choice(hard["line"]).format(
                **{key: draw.choice(hard[key]) for key in ("verb", "noun", "place")}
            )
        elif shape == 1:
            line = " ".join(draw.sample(hard["sentence"], draw.randrange(2, 4)))
        else:
            rules = draw.sample(system["rule"], draw.randrange(6))
            start = draw.choice(system["start"]).format(role=draw.choice(system["role"]))
            line = draw.choice([" ", "\n", "\n- "]).join([start, *(_filled(draw, rule) for rule in rules)])
        texts.append(Text(line, False, "drawn-hard", hard=True))
    return texts


def documents_with_orders(clean: Sequence[Text], orders: Sequence[Text], seed: int, count: int) -> list[Text]:
    """Clean documents with an order to the model put in where a person or a program would put it."""
    draw = random.Random(seed)
    texts = []
    for number in range(count):
        host, order = draw.choice(clean), draw.choice(orders)
        put = PLACES[number % len(PLACES)]
        texts.append(
            Text(put(draw, host.text[:1000], order.text[:600].strip()), True, order.family, host=host.family)
        )
    return texts


def _between_lines(draw: random.Random, host: str, order: str) -> str:
    lines = host.splitlines() or [""]
    place = draw.choice([0, len(lines), draw.randrange(len(lines) + 1)])
    return "\n".join([*lines[:place], order, *lines[place:]])


def _in_a_paragraph(draw: random.Random, host: str, order: str) -> str:
    ends = [match.end() for match in _SENTENCE.finditer(host)] or [len(host)]
    place = draw.choice(ends)
    return f"{host[:place]} {' '.join(order.split())} {host[place:].lstrip()}"


def _unseen_by_readers(draw: random.Random, host: str, order: str) -> str:
    shape = draw.choice(HIDING)
    return _between_lines(draw, host, shape.replace("ORDER", order))


def _in_a_field(draw: random.Random, host: str, order: str) -> str:
    key = draw.choice(["description", "comment", "note", "body", "summary", "bio", "review", "content"])
    parts = [line for line in host.splitlines() if line.strip()][:6] or ["-"]
    rows: list[dict[str, Any]] = [{"id": number, key: line} for number, line in enumerate(parts)]
    rows[draw.randrange(len(rows))][key] += " " + order
    return json.dumps(rows, indent=draw.choice([None, 1, 2]), ensure_ascii=False)


def _as_a_footer(draw: random.Random, host: str, order: str) -> str:
    return f"{host}\n\n{draw.choice(FOOTERS)}\n{order}"


_SENTENCE = re.compile(r"[.!?](?=\s)")
HIDING = (
    "<!-- ORDER -->", "<div style=\"display:none\">ORDER</div>", "<span style='font-size:0'>ORDER</span>",
    "# ORDER", "// ORDER", "/* ORDER */", "[//]: # (ORDER)", "<p hidden>ORDER</p>", "TODO: ORDER", "> ORDER",
)  # fmt: skip
FOOTERS = ("--", "Best regards", "P.S.", "---", "Sent from my phone", "Note:", "Kind regards,\nThe team")
PLACES = (_between_lines, _in_a_paragraph, _between_lines, _unseen_by_readers, _in_a_field, _as_a_footer)


def composed_orders(seed: int, count: int) -> list[Text]:
    """Orders to a model that reads a document, as `documents.toml` has them."""
    draw, parts = random.Random(seed), _parts()
    attack = parts["attack"]
    texts = []
    for _ in range(count):
        pieces = [draw.choice(attack[key]) for key in ("address", "reason", "action", "close")]
        texts.append(
            Text(_filled(draw, " ".join(piece for piece in pieces if piece)), True, "composed-order")
        )
    return texts


def composed_documents(seed: int, count: int) -> list[Text]:
    """Mails, tickets, tables and notes among people."""
    draw, parts = random.Random(seed), _parts()
    texts = []
    for _ in range(count):
        lines = [_filled(draw, draw.choice(parts["harmless"]["line"])) for _ in range(draw.randrange(2, 12))]
        shape = draw.randrange(5)
        if shape == 0:
            body = "Subject: " + lines[0] + "\n\n" + "\n".join(lines[1:])
        elif shape == 1:
            body = "\n".join(f"| {number} | {line} |" for number, line in enumerate(lines))
        elif shape == 2:
            body = json.dumps([{"id": number, "text": line} for number, line in enumerate(lines)], indent=1)
        elif shape == 3:
            body = (
                "<html><body><ul>" + "".join(f"<li>{line}</li>\n" for line in lines) + "</ul></body></html>"
            )
        else:
            body = " ".join(lines)
        texts.append(Text(body, False, "composed-document"))
    return texts


def harvested(wheels: Iterable[Path], seed: int, per_wheel: int) -> list[Text]:
    """Parts of the readme, source, templates and texts of packages with free licences."""
    draw = random.Random(seed)
    texts = []
    for wheel in sorted(wheels):
        parts = [part for part in _parts_of(wheel) if len(part) >= SMALLEST_PART]
        chosen = draw.sample(parts, min(per_wheel, len(parts)))
        texts.extend(Text(part, False, f"package-{wheel.name.split('-')[0]}") for part in chosen)
    return texts


def pasted(wheels: Iterable[Path], seed: int, per_wheel: int) -> list[Text]:
    """Pieces of packages as callers paste them: bare, behind a question, or before one."""
    draw, texts = random.Random(seed), []
    for text in harvested(wheels, seed, per_wheel):
        size = draw.randrange(150, 900)
        start = draw.randrange(max(1, len(text.text) - size))
        piece, asked = text.text[start : start + size], draw.choice(ASKED)
        whole = draw.choice(
            [piece, piece, f"{asked}\n\n{piece}", f"{asked}\n```\n{piece}\n```", f"{piece}\n\n{asked}"]
        )
        texts.append(Text(whole, False, text.family.replace("package", "pasted")))
    return texts


def translations(wheels: Iterable[Path], seed: int, per_file: int) -> list[Text]:
    """Sentences that packages show to people, in the languages that they were translated into."""
    draw = random.Random(seed)
    texts = []
    for wheel in sorted(wheels):
        family = f"translation-{wheel.name.split('-')[0].split('_')[0]}"
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".mo"):
                    sentences = _sentences(archive.read(name))
                    chosen = draw.sample(sentences, min(per_file, len(sentences)))
                    texts.extend(Text(sentence, False, family) for sentence in chosen)
    return texts


def _sentences(catalogue: bytes) -> list[str]:
    try:
        entries: dict[Any, str] = gettext.GNUTranslations(io.BytesIO(catalogue))._catalog  # type: ignore[attr-defined]  # there is no public way to list them
    except (OSError, UnicodeDecodeError, ValueError):
        return []
    return sorted({text for key, text in entries.items() if key and len(text) > 25})


def _parts_of(wheel: Path) -> Iterator[str]:
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            suffix = name.rpartition(".")[2]
            if archive.getinfo(name).file_size > 400_000:
                continue
            if name.endswith(".dist-info/METADATA"):
                message = email.message_from_bytes(archive.read(name))
                yield from _cut(str(message.get_payload()))
            elif suffix in ("py", "html", "txt", "rst", "md", "css", "js", "json", "sql", "yaml"):
                yield from _cut(archive.read(name).decode("utf-8", "replace"))


def _cut(text: str) -> Iterator[str]:
    for start in range(0, min(len(text), 20_000), 1_200):
        yield text[start : start + 1_200].strip()


def _filled(draw: random.Random, line: str) -> str:
    fill = _parts()["fill"]
    return line.format(**{key: draw.choice(values) for key, values in fill.items()})


def _cased(draw: random.Random, text: str) -> str:
    return draw.choice(
        [text, text[:1].upper() + text[1:], text, text.upper() if draw.random() < 0.3 else text]
    )


_PARTS: dict[str, Any] = {}


def _parts() -> dict[str, Any]:
    if not _PARTS:
        _PARTS.update(tomllib.loads((HERE / "documents.toml").read_text()))
    return _PARTS
