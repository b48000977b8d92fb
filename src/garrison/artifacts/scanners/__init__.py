"""The built-in scanners, most specific first; the first that recognises a file names its format."""

from __future__ import annotations

from garrison.artifacts.scanners.archive_tar import Tar
from garrison.artifacts.scanners.archive_zip import Zip
from garrison.artifacts.scanners.base import Scanner
from garrison.artifacts.scanners.catboost import CatBoost
from garrison.artifacts.scanners.compressed import COMPRESSED
from garrison.artifacts.scanners.coreml import CoreMl, CoreMlWeights
from garrison.artifacts.scanners.executables import Executable
from garrison.artifacts.scanners.gguf import Gguf
from garrison.artifacts.scanners.images import Image
from garrison.artifacts.scanners.jinja import Jinja
from garrison.artifacts.scanners.lightgbm import LightGbm
from garrison.artifacts.scanners.lz4 import Lz4
from garrison.artifacts.scanners.modelfile import Modelfile
from garrison.artifacts.scanners.msgpack_flax import MsgpackFlax
from garrison.artifacts.scanners.npy import Npy
from garrison.artifacts.scanners.onnx import Onnx
from garrison.artifacts.scanners.pem import Pem
from garrison.artifacts.scanners.pickle import Pickle
from garrison.artifacts.scanners.rare import (
    HDF5,
    JSON,
    SEVEN_ZIP,
    TENSORFLOW_TEXT,
    TFLITE,
    TOML,
    XML,
    YAML,
)
from garrison.artifacts.scanners.rdata import RData
from garrison.artifacts.scanners.safetensors import Safetensors
from garrison.artifacts.scanners.sentencepiece import SentencePiece
from garrison.artifacts.scanners.text import Text
from garrison.artifacts.scanners.tf_checkpoint import CheckpointIndex
from garrison.artifacts.scanners.tf_saved import (
    CheckpointState,
    Fingerprint,
    KerasMetadata,
    SavedModel,
    TensorflowGraph,
)
from garrison.artifacts.scanners.torchscript import TorchScript
from garrison.artifacts.scanners.xgboost import XgboostBinary, XgboostUbj
from garrison.artifacts.scanners.zstd import Zstd
from garrison.core.plugins import with_installed

SCANNERS: tuple[Scanner, ...] = (
    *(
        Gguf(),
        Safetensors(),
        Npy(),
        Onnx(),
        HDF5,
        TFLITE,
        Zip(),
        Tar(),
        *COMPRESSED,
        Lz4(),
        Zstd(),
        SEVEN_ZIP,
    ),
    *(Pickle(), SentencePiece(), Pem(), JSON, YAML, TOML, Jinja(), Text()),
    *(XML, RData(), Executable(), Image(), CoreMl(), CoreMlWeights()),
    *(XgboostUbj(), XgboostBinary(), LightGbm(), CatBoost(), Modelfile()),
    *(SavedModel(), TensorflowGraph(), KerasMetadata(), Fingerprint(), CheckpointIndex(), CheckpointState()),
    TENSORFLOW_TEXT,
    MsgpackFlax(),
    *(TorchScript(), Pickle("torchscript-pickle", compiled=True)),  # only where a torch archive says so
)


def all_scanners() -> tuple[Scanner, ...]:
    """The built-ins and every scanner that installed packages offer under `garrison.scanners`."""
    return with_installed(SCANNERS, "scanners")
