"""Verbs about what a customer adds to detection: patterns, and documents whose copies must not leave."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from garrison.app.detection import detection, folder_of
from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise, event_of
from garrison.core.actions import Action
from garrison.core.errors import Refused, Usage
from garrison.detect.base import Direction, Effect
from garrison.detect.copies import KEY_BYTES, MAX_DOCUMENTS, WORDS, check_room, packed, shingles
from garrison.detect.custom import MAX_PATTERNS, NAME, parse_pattern, word_pattern
from garrison.detect.inspect import Inspector
from garrison.detect.own import KEY, open_own
from garrison.gateway.process import give_back
from garrison.storage.local import write_atomically

MAX_DOCUMENT = 16 * 1024 * 1024  # bytes of one text file
MAX_DEPTH = 32  # of directories


def pattern_add(house: House, call: Call) -> dict[str, Any]:
    """Add one pattern, or change the one of that name."""
    name = call.text("name")
    word = call.optional("word")
    facts = {
        "name": name,
        "regex": word_pattern(word) if word else call.text("regex"),
        "effect": call.optional("effect") or Effect.REDACT.value,
        "directions": call.texts("directions") or [way.value for way in Direction],
        "ignore_case": call.flag("ignore_case"),
    }
    rule = parse_pattern(facts)
    for text, wanted in (
        *((text, True) for text in call.texts("hit")),
        *((text, False) for text in call.texts("miss")),
    ):
        if (rule.pattern.search(text) is not None) is not wanted:
            verb = "does not match" if wanted else "matches"
            raise Usage(
                "DLP-PATTERN", f"the pattern {verb} an example", fix="correct the pattern or the example"
            )
    authorise(house, call.subject, Action.DLP_WRITE, name)
    known = house.people().access.patterns
    if len(known) >= MAX_PATTERNS and name not in known:
        raise Refused(
            "DLP-FULL", f"there are {MAX_PATTERNS} patterns", fix="garrison dlp pattern remove NAME"
        )
    compile_with(house, patterns={**known, name: facts})
    return record(house, call, name, {**facts, "rule_id": rule.id}, pattern=facts)


def pattern_remove(house: House, call: Call) -> dict[str, Any]:
    return removed(house, call, "pattern", house.people().access.patterns)


def fingerprint_add(house: House, call: Call) -> dict[str, Any]:
    """Register every text of a file or directory under one name; a name that is known is replaced."""
    name, effect = call.text("name"), Effect(_choice(call, "effect", Effect, Effect.REDACT))
    directions = call.texts("directions") or [Direction.OUTPUT.value]
    if not NAME.fullmatch(name) or not set(directions) <= {way.value for way in Direction}:
        raise Usage(
            "DLP-PATTERN", "the name or a direction is none", fix="garrison dlp fingerprint add --help"
        )
    authorise(house, call.subject, Action.DLP_WRITE, name)
    folder = folder_of(house.settings)
    folder.mkdir(mode=0o700, exist_ok=True)
    key = _key(folder)
    hashes: set[int] = set()
    documents = short = 0
    others = [one for set_name, one in house.people().access.copies.items() if set_name != name]
    for text in _texts(Path(call.text("source"))):
        house.go_on()
        found = shingles(text, key)
        short += not found
        documents += bool(found)
        hashes |= found
        _check_room(others, documents, len(hashes))
    if not documents:
        raise Usage("DLP-EMPTY", f"no text there has {WORDS} words", fix="give a directory of text files")
    data = packed(hashes)
    digest = hashlib.sha256(data).hexdigest()
    write_atomically(folder / digest, data)
    facts = {
        "name": name,
        "digest": f"sha256:{digest}",
        "documents": documents,
        "passages": len(hashes),
        "effect": effect.value,
        "directions": directions,
    }
    return record(house, call, name, {**facts, "too_short": short}, copies=facts)


def fingerprint_remove(house: House, call: Call) -> dict[str, Any]:
    """Forget a set. Its file goes when no worker can need it any more."""
    known = house.people().access.copies
    facts = known.get(call.text("name"))
    result = removed(house, call, "copies", known)
    digest = str(facts["digest"]) if facts else ""
    if digest and not any(one["digest"] == digest for one in house.people().access.copies.values()):
        (folder_of(house.settings) / digest.removeprefix("sha256:")).unlink(missing_ok=True)
    return result


def dlp_list(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.POSTURE_READ, "dlp")
    told = detection(house.people().access, house.settings, house.now())
    return {
        key: told[key] for key in ("patterns", "copies", "canaries", "hosts", "names", "actions", "packs")
    }


def record(house: House, call: Call, name: str, shown: Mapping[str, Any], **facts: Any) -> dict[str, Any]:
    with house.ledger.transaction() as transaction:
        audit_id = transaction.append(event_of(house, call, Action.DLP_WRITE, name, **facts))
    house.publish_snapshot()
    return {**shown, "audit_id": audit_id}


# What is removed here and where those that stay are kept: patterns that workers look for.
COMPILED = {"pattern": "patterns", "canary": "canaries", "host": "hosts", "pack": "packs"}


def removed(house: House, call: Call, kind: str, known: Mapping[str, Any], key: str = "") -> dict[str, Any]:
    """Take out what is kept under a name."""
    name = key or call.text("name")
    authorise(house, call.subject, Action.DLP_WRITE, name)
    if name not in known:
        raise Usage(
            "DLP-UNKNOWN", "there is none of that name", fix="garrison dlp list shows those there are"
        )
    if kind in COMPILED:
        compile_with(house, **{COMPILED[kind]: {each: known[each] for each in known if each != name}})
    return record(house, call, name, {"name": name}, **{kind: {"name": name}}, removed=True)


def compile_with(house: House, **changed: Mapping[str, Any]) -> None:
    """Compile for the workers, which load the result in milliseconds. Raises `Usage` DLP-RULE."""
    access = house.people().access.copy()
    for key, value in changed.items():
        setattr(access, key, value)
    facts = detection(access, house.settings, house.now())
    own = open_own({**facts, "copies": []}, folder_of(house.settings))
    ways = (Direction.INPUT, Direction.OUTPUT)
    Inspector(cache=house.settings.run / "patterns", directions=ways, own=own)
    give_back()


def _key(folder: Path) -> bytes:
    """The key of all hashes, made with the first set."""
    path = folder / KEY
    if not path.exists():
        write_atomically(path, secrets.token_bytes(KEY_BYTES))
    return path.read_bytes()


def _check_room(others: list[Mapping[str, Any]], documents: int, passages: int) -> None:
    check_room(
        documents + sum(int(one["documents"]) for one in others),
        passages + sum(int(one["passages"]) for one in others),
        1 + len(others),
    )


def _texts(path: Path) -> Iterator[str]:
    """The text files below a path, symbolic links and binary files left out."""
    if not path.exists():
        raise Usage(
            "PATH-NOT-DIR", "there is nothing at that path", fix="give a text file or a directory of them"
        )
    files = sorted(_files(path, 0)) if path.is_dir() else [path]
    if len(files) > MAX_DOCUMENTS:
        check_room(len(files), 0, 0)
    for file in files:
        status = os.lstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_DOCUMENT:
            continue
        data = file.read_bytes()
        if b"\0" not in data[:4096]:
            yield data.decode("utf-8", "replace")


def _files(folder: Path, depth: int) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and depth < MAX_DEPTH:
                yield from _files(Path(entry.path), depth + 1)
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def _choice(call: Call, key: str, kind: type[Effect], default: Effect) -> str:
    value = call.optional(key) or default.value
    if value not in [one.value for one in kind]:
        raise Usage("DLP-PATTERN", f"{key} is none of note, redact and block", fix="see --help")
    return value


DLP_VERBS = (
    Verb("dlp.pattern.add", Action.DLP_WRITE, pattern_add),
    Verb("dlp.pattern.remove", Action.DLP_WRITE, pattern_remove),
    Verb("dlp.fingerprint.add", Action.DLP_WRITE, fingerprint_add),
    Verb("dlp.fingerprint.remove", Action.DLP_WRITE, fingerprint_remove),
    Verb("dlp.list", Action.POSTURE_READ, dlp_list),
)
