"""Ways around a scanner, and harmless files that look like one: each was found with files that others wrote."""

from __future__ import annotations

import base64
import gzip
import io
import json
import pickle
import struct
import zipfile
import zlib
from typing import Any

import pytest
from tests.vectors.artifacts import frameworks
from tests.vectors.artifacts.make import short

from garrison.artifacts.scanners import SCANNERS
from garrison.artifacts.scanners.judge import Judgement, judge
from garrison.artifacts.scanners.sources import BytesSource
from garrison.core.finding import Verdict

HARM = b"\x80\x04" + short("os") + short("system") + b"\x93" + short("echo garrison-test") + b"\x85R."
PLAIN = pickle.dumps({"a": 1})


def _judge(name: str, data: bytes) -> Judgement:
    return judge(BytesSource(name, data), SCANNERS)


def _archive(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"m/{name.replace('_', '.', 1)}", data)
    return stream.getvalue()


def _deflated(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", data)
    return stream.getvalue()


def _wrong_checksum(data: bytes) -> bytes:
    packed = bytearray(gzip.compress(data))
    packed[-6] ^= 1
    return bytes(packed)


def _safetensors(metadata: dict[str, str]) -> bytes:
    header = json.dumps({"__metadata__": metadata}).encode()
    return struct.pack("<Q", len(header)) + header


def _config(value: Any) -> bytes:
    return json.dumps(value).encode()


def _node(target: str) -> bytes:
    return _config({"nodes": [{"target": target, "inputs": [], "outputs": [], "metadata": {}}]})


def gguf_note(key: bytes, text: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, len(key)) + key + struct.pack("<IQ", 8, len(text)) + text


ARCHIVE = _archive(data_pkl=HARM)
DENSE = {"in_features": 1, "out_features": 2, "bias": True}
HARMFUL = {
    "padding, then a pickle": ("a.pkl", PLAIN + b"\0" * 100 + HARM),
    "noise, then a pickle": ("a.pkl", PLAIN + b"NOISE" + HARM),
    "a zip with bytes behind it": ("a.pt", ARCHIVE + b"x" * 20),
    "a zip without its directory": ("a.pt", ARCHIVE[: ARCHIVE.find(b"PK\x01\x02")]),
    "a deflated zip without its end": ("a.pt", _deflated(HARM)[:-22]),
    "a zip with two ends": ("a.pt", ARCHIVE[:-2] + b"\x16\0" + ARCHIVE[-22:]),
    "gzip with a wrong checksum": ("a.pkl", _wrong_checksum(HARM)),
    "base85 in a pickle": ("a.pkl", pickle.dumps(base64.b85encode(HARM))),
    "base32 in a pickle": ("a.pkl", pickle.dumps(base64.b32encode(HARM).decode())),
    "base64 in JSON": ("a.json", _config({"state": base64.b64encode(HARM).decode()})),
    "base64 in YAML": ("a.yaml", b"state: !!binary " + base64.b64encode(HARM)),
    "a YAML tag by another handle": (
        "a.yaml",
        b"%TAG ! tag:yaml.org,2002:python/\n---\n!object/apply:os.system [x]",
    ),
    "a template in YAML": ("a.yaml", b"prompt: '{{ lipsum.__globals__ }}'"),
    "a template in a list": ("a.json", _config({"x": ["{{ ''.__class__.__mro__[1].__subclasses__() }}"]})),
    "a dunder name given to a macro": (
        "a.jinja",
        b"{% macro f(n) %}{{ x[n] }}{% endmacro %}{{ f('__class__') }}",
    ),
    "a dunder name in a namespace": ("a.jinja", b"{% set n = namespace(a='__class__') %}{{ x[n.a] }}"),
    "a program in metadata": ("a.safetensors", _safetensors({"note": "import os; os.system('id')"})),
    "a script in metadata": ("a.safetensors", _safetensors({"note": "<script>fetch('//x')</script>"})),
    "code of its own in metadata": ("a.safetensors", _safetensors({"c": '{"auto_map": {"A": "m.M"}}'})),
    "an activation by path": (
        "2_Dense/config.json",
        _config(DENSE | {"activation_function": "subprocess.getoutput"}),
    ),
    "a router's part": ("router_config.json", _config({"types": {"a": "evil.models.X"}, "structure": {}})),
    "a component by path": (
        "model_index.json",
        _config({"_class_name": "P", "unet": ["diffusers", "os.system"]}),
    ),
    "an exported call": ("models/model.json", _node("torch.serialization.os.system")),
    "a key in capitals": ("config.json", _config({"Auto_Map": {"AutoModel": "x.Y"}})),
    "str.format": (
        "a.pkl",
        b"\x80\x04"
        + short("builtins")
        + short("getattr")
        + b"\x93"
        + short("builtins")
        + short("str")
        + b"\x93"
        + short("format")
        + b"\x86R.",
    ),
    "TOML that calls": ("a.toml", b"[model]\n_target_ = 'os.system'\n"),
    "a JSON line that imports": ("a.jsonl", b'{"a": 1}\n{"auto_map": {"AutoModel": "x.Y"}}\n'),
    "a call in a setting": ("config.json", _config({"f": "lambda x: __import__('os').system('x')"})),
    "an expression as a setting": ("config.yaml", b"threshold: eval('1+1')\n"),
    "a function of the system in a setting": (
        "config.json",
        _config({"a": {"callback": "subprocess.Popen"}}),
    ),
    "a native library in a setting": ("config.json", _config({"custom_ops": "./evil.so"})),
    "a short template in metadata": ("a.safetensors", _safetensors({"x": "{{ ''.__class__ }}"})),
    "a template in a note of a GGUF": (
        "a.gguf",
        gguf_note(b"general.description", b"{{ cycler.__init__.__globals__ }}"),
    ),
    "a class of Keras by steps": (
        "a.keras",
        frameworks.keras(
            frameworks.dense(extra={"module": "keras.layers", "class_name": "Dense.build", "config": {}})
        ),
    ),
}
WORDS = {"__import__": 1, "class_name": 2, "_target_": 3, "auto_map": 4, "handler": 5, "py/object": 6}
WORDS |= {"chat_template": 7, "trust_remote_code": 8, "loader_module": 9}
HARMLESS = {
    "a vocabulary of code": ("vocab.json", _config(WORDS)),
    "a tokenizer of code": (
        "tokenizer.json",
        _config({"model": {"type": "BPE", "vocab": WORDS, "merges": []}}),
    ),
    "packed bytes in a pickle": ("a.pkl", pickle.dumps(zlib.compress(b"only text, packed" * 9))),
    "a placeholder": (".gitkeep", b""),
    "an empty package": ("x/__init__.py", b""),
    "JSON lines": ("train.jsonl", b'{"text": "a"}\n{"text": "b"}\n'),
    "TOML": ("pyproject.toml", b"[project]\nname = 'x'\ndependencies = ['numpy>=2']\n"),
    "settings": ("config.cfg", b"[paths]\ntrain = null\n"),
    "checksums": ("SHA256SUMS", b"ab12  model.safetensors\n"),
    "an exported program": ("models/model.json", _node("torch.ops.aten.conv2d.default")),
    "an activation": (
        "2_Dense/config.json",
        _config(DENSE | {"activation_function": "torch.nn.modules.activation.Tanh"}),
    ),
    "str.split as a tokenizer": ("a.pkl", pickle.dumps([str.split, str.lower, len, ValueError("x")])),
    "metadata of a training": (
        "a.safetensors",
        _safetensors(
            {"ss_tags": '{"a": {"x": 1}}', "modelspec.thumbnail": "data:image/png;base64,iVBORw0KGgoAAAANS"}
        ),
    ),
    "settings that speak of code": (
        "config.json",
        _config(
            {
                "about": "Use `__import__('x')` or call os.system to see it.",
                "homepage": "https://www.notion.so",
                "site": "notion.so",
                "dtype": "torch.float32",
                "backend": "c10d.socket",
            }
        ),
    ),
    "a prompt with a slot": ("prompts.yaml", b"prompt: 'Answer {{ question }} as {{ persona.name }}.'\n"),
}


@pytest.mark.row("S07", kind="R")
@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("name", HARMFUL)
def test_a_way_around_is_refused(name: str) -> None:
    judged = _judge(*HARMFUL[name])
    assert judged.verdict is Verdict.REFUSED
    assert all(finding.fix for finding in judged.findings)


@pytest.mark.row("A02", kind="R")
@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_looks_like_one_is_clean(name: str) -> None:
    judged = _judge(*HARMLESS[name])
    assert (judged.verdict, judged.findings) == (Verdict.CLEAN, ())


def test_a_stored_member_of_any_size_has_its_checksum_checked() -> None:
    data = bytearray(_archive(w_npy=b"\0" * 100_000))
    data[2_000] = 1
    judged = _judge("a.npz", bytes(data))
    assert "artifact.zip.crc" in {finding.rule_id for finding in judged.findings}
