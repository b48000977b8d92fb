"""Python names in configurations: which classes a loader may be asked to import, and by which loaders.

Hydra (`_target_`), Lightning (`class_path`), latent diffusion (`target` beside `params`), MONAI bundles
(`$expressions`), MLflow (`loader_module`, `code`) and TorchServe (`handler`) all import what a file names.
A dotted name is followed attribute by attribute, so `torch.nn.os.system` reaches the interpreter too:
only names of one shape below known packages pass, and no step may be a module of something else.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

from garrison.artifacts.scanners.base import Seen, high, shown
from garrison.artifacts.scanners.paths import unsafe_path

FIX = "ask the author for a model that needs no code of its own, or remove the entry after review"
_CLASSES = re.compile(
    r"(?:nemo\.(?:collections|core)|torch\.(?:nn|optim)|torchmetrics|torchvision\.transforms|monai\.\w+"
    r"|(?:pytorch_lightning|lightning\.pytorch)\.(?:callbacks|loggers|strategies|plugins))"
    r"(?P<steps>(?:\.[a-z_][a-z0-9_]*)*)\.[A-Z][A-Za-z0-9]*\Z"
)
_EXACT = frozenset(
    {
        "torch.utils.data.DataLoader",
        "pytorch_lightning.Trainer",
        "lightning.pytorch.Trainer",
        "lightning.Trainer",
        "torch.device",
        "omegaconf.DictConfig",
        "omegaconf.ListConfig",
        "builtins.dict",
        "builtins.list",
        "builtins.tuple",
    }
)
# torch follows such a name from `torch`, `math` or `operator`, attribute by attribute.
_EXPORTED = re.compile(
    r"torch\.ops\.[A-Za-z_]\w*\.[A-Za-z]\w*(?:\.\w+)?\Z|_operator\.(?:getitem|add|sub|mul|floordiv|truediv|mod|pow|neg"
    r"|pos|eq|ne|lt|le|gt|ge|and_|or_|not_)\Z|math\.(?:ceil|floor|sqrt|trunc)\Z"
    r"|torch\.(?:sym_(?:float|int|ite|max|min|not|sqrt|sum)|_check(?:_is_size)?|_sym_\w+)\Z"
)
_SHORT = re.compile(r"[A-Z][A-Za-z0-9]*\Z")  # MONAI looks plain class names up in its own table
_DIFFUSION = re.compile(
    r"(?:ldm|sgm|cldm|imwatermark|vwm)(?P<steps>(?:\.[a-z_][a-z0-9_]*)*)\.[A-Z][A-Za-z0-9]*\Z"
)
_STEPS = sys.stdlib_module_names | {
    *(
        "torch",
        "numpy",
        "np",
        "pandas",
        "pd",
        "hydra",
        "omegaconf",
        "transformers",
        "requests",
        "wandb",
        "fsspec",
    ),
    *("huggingface_hub", "pl", "yaml", "joblib", "dill", "cloudpickle", "scipy", "sklearn", "tqdm", "pip"),
}
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.\w+)+\Z")
_SHELLS = frozenset(
    """
    os posix nt subprocess builtins importlib runpy pty sys shutil socket ctypes code codeop pickle marshal
    multiprocessing threading asyncio webbrowser urllib http ftplib platform commands operator functools
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
_MLFLOW = frozenset(
    """
    catboost diviner fastai gluon h2o johnsnowlabs keras langchain lightgbm llama_index mleap onnx openai paddle
    pmdarima prophet promptflow pyfunc.model pyfunc.model pytorch sentence_transformers shap sklearn spacy spark
    statsmodels tensorflow transformers xgboost autogluon dspy haystack
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
_HANDLERS = frozenset(
    {
        "image_classifier",
        "image_segmenter",
        "object_detector",
        "text_classifier",
        "base_handler",
        "text_handler",
    }
)
_INDEXES = re.compile(
    r"https://(?:pypi\.org|download\.pytorch\.org|pypi\.nvidia\.com|pypi\.ngc\.nvidia\.com|data\.pyg\.org)(?:/|\Z)"
)
_CHANNEL = re.compile(
    r"(?:[A-Za-z][\w.-]*(?:/[\w.-]+)*|https://(?:repo\.anaconda\.com|conda\.anaconda\.org)/[\w./-]*)\Z"
)
_OPTION = re.compile(
    r"(?:-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)(?:\s+|=)?(?P<where>\S+)"
)
_ADDRESS = re.compile(r"(?:^|@|\s)\s*(?:(?:git|hg|svn|bzr)\+|[a-z][a-z0-9+.-]*://|file:)", re.IGNORECASE)


def is_known_class(name: str) -> bool:
    """Whether a dotted name is a class of a package whose classes only build models."""
    match = _CLASSES.match(name)
    return name in _EXACT or (match is not None and _no_detour(match))


def _no_detour(match: re.Match[str]) -> bool:
    steps = match.group("steps").strip(".").split(".")
    # `nemo.collections.common.tokenizers` and `torch.optim.lr_scheduler` are their own modules.
    return not any(step in _STEPS or step.startswith("__") for step in steps)


def hydra_target(value: Any, table: dict[str, Any]) -> str:
    """`_target_` and `class_path`: hydra, Lightning and MONAI call it with the rest of the table."""
    if not isinstance(value, str) or not (is_known_class(value) or _SHORT.match(value)):
        return f"the loader would call {shown(value)}"
    for argument in table.values():
        if isinstance(argument, str) and argument.startswith("$") and not argument.startswith("${"):
            return f"the loader would evaluate {shown(argument)}"
    return ""


def plain_target(value: Any, table: dict[str, Any]) -> str:
    """`target`: latent diffusion imports it when `params` stand beside it; others only when it is a path."""
    if not isinstance(value, str) or not _DOTTED.match(value) or is_known_class(value):
        return ""
    if "inputs" in table and "outputs" in table:  # a node of an exported torch program
        return "" if _EXPORTED.match(value) else f"the loader would call {shown(value)}"
    match = _DIFFUSION.match(value)
    if match is not None and _no_detour(match):
        return ""
    if "params" in table or value.split(".")[0] in _SHELLS:
        return f"the loader would call {shown(value)}"
    return ""


def monai_imports(value: Any, _table: dict[str, Any]) -> str:
    texts = value if isinstance(value, list) else [value]
    code = [text for text in texts if isinstance(text, str) and text.startswith("$")]
    return f"the loader would evaluate {shown(code[0])}" if code else ""


def mlflow_loader(value: Any, _table: dict[str, Any]) -> str:
    if isinstance(value, str) and value.removeprefix("mlflow.") in _MLFLOW and value.startswith("mlflow."):
        return ""
    return f"MLflow would import {shown(value)} to load the model"


def torchserve_handler(value: Any, table: dict[str, Any]) -> str:
    """`handler` of a TorchServe manifest: a name of a built-in one, or a program in the archive."""
    if "modelName" not in table and "serializedFile" not in table:
        return ""
    return "" if value in _HANDLERS else f"the server would run the handler {shown(value)}"


def judge_mlmodel(value: Any) -> Iterator[Seen]:
    """What an `MLmodel` file lets its flavours import and read (the loader itself is a rule of its key)."""
    flavors = value.get("flavors") if isinstance(value, dict) else None
    for name, flavor in flavors.items() if isinstance(flavors, dict) else ():
        if not isinstance(flavor, dict):
            continue
        where = f":flavors.{shown(name)}"
        for key in ("code", "model_code_path", "code_path", "code_paths"):
            if flavor.get(key):
                message = f"MLflow would put {shown(flavor[key])} on the path of modules"
                yield high("artifact.config.mlflow_code", message, f"{where}.{key}", FIX)
        for key in (
            "data",
            "model_path",
            "pickled_model",
            "model_data",
            "env",
            "python_model",
            "saved_model_dir",
        ):
            path = flavor.get(key)
            if isinstance(path, str) and path and unsafe_path(path):
                message = f"{shown(path)} {unsafe_path(path)}"
                yield high("artifact.config.reference", message, f"{where}.{key}", FIX)


def judge_environment(value: Any) -> Iterator[Seen]:
    """`conda.yaml`, `python_env.yaml` and their like: where packages come from."""
    if not isinstance(value, dict):
        return
    lines: list[Any] = []
    for key in ("dependencies", "build_dependencies", "pip", "python_packages", "requirements"):
        entries = value.get(key)
        for entry in entries if isinstance(entries, list) else ():
            more = entry.get("pip") if isinstance(entry, dict) else None
            lines.extend(more if isinstance(more, list) else [entry])
    for line in lines:
        if isinstance(line, str) and fetches(line):
            yield high(
                "artifact.requirements.fetch",
                f"packages come from an address of its own: {shown(line)}",
                fix=FIX,
            )
    channels = value.get("channels")
    for channel in channels if isinstance(channels, list) else ():
        if isinstance(channel, str) and not _CHANNEL.match(channel):
            yield high(
                "artifact.requirements.fetch", f"packages come from the channel {shown(channel)}", fix=FIX
            )


def fetches(line: str) -> bool:
    """Whether a requirement line fetches or builds code from somewhere other than the usual indexes."""
    line = line.split(" #")[0].strip()
    if not line or line.startswith("#"):
        return False
    option = _OPTION.match(line)
    if option is not None:
        return not _INDEXES.match(option.group("where"))
    if line.startswith(("--config-settings", "--global-option", "--install-option")) or _ADDRESS.search(line):
        return True
    if line.startswith(("-r", "-c", "--requirement", "--constraint", "-e", "--editable")):
        return bool(unsafe_path(line.split(maxsplit=1)[-1].split("=")[-1]))
    return line.startswith(("/", "./", "../", "\\\\"))
