"""How an allowed name may be used in a pickle: made, restored, held as a value, or only called. Data and one rule.

The allow-list rests on one property: whatever unpickling calls is harmless with *any* arguments. Objects
can be made to call what they hold (an attribute named `__setstate__`, a factory, a metric), so a callable
that is only harmless with judged arguments must never be held, and one that works when called (a constructor
that allocates or opens what it is told to) must only be restored.
"""

from __future__ import annotations

import re
from enum import Enum


class Use(Enum):
    ANY = "any"
    HELD = "held"  # a function that models keep as a value (a metric, a ufunc); files never call it
    RESTORED = "restored"  # made empty by NEWOBJ and filled by BUILD; its constructor does work
    CALLED = "called"  # its arguments are judged at the call, so it may not be handed to anything else
    ALONE = "alone"  # restored only, and never handed over: what BUILD gives it is judged
    REFUSED = "refused"


_CALLED = frozenset(
    {
        ("_codecs", "encode"),
        ("builtins", "getattr"),
        ("copyreg", "_reconstructor"),
        ("functools", "partial"),
        ("joblib.numpy_pickle", "NumpyArrayWrapper"),
        ("numpy._core", "_ufunc_reconstruct"),
        ("numpy.core", "_ufunc_reconstruct"),
        ("numpy.random._pickle", "__generator_ctor"),
        ("numpy.random._pickle", "__randomstate_ctor"),
        ("torch._tensor", "_rebuild_from_type_v2"),
        ("torch.storage", "_load_from_bytes"),
    }
)
_RESTORED = frozenset(
    {
        ("accelerate.state", "PartialState"),
        ("numpy", "vectorize"),
        ("torch.nn", "Linear"),
        ("torch.nn", "Module"),
        ("torch.nn", "Sequential"),
        ("torch.optim", "Adafactor"),
        ("torch.optim", "Muon"),
        ("transformers.trainer_pt_utils", "AcceleratorConfig"),
        ("transformers.training_args", "TrainingArguments"),
        ("transformers.training_args_seq2seq", "Seq2SeqTrainingArguments"),
    }
)
_RESTORED_MODULES = (
    *(
        "torch.nn.modules.",
        "torch.nn.parallel.",
        "torch.nn.utils.weight_norm",
        "torch.optim.",
        "torch.utils.",
    ),
    *("catboost.", "category_encoders.", "hmmlearn.", "imblearn."),
    *("lightgbm.", "torchvision.transforms.transforms", "xgboost."),
)
_HELD_MODULES = frozenset(
    {
        *("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"),
        *("math", "scipy._lib.array_api_compat.numpy._aliases", "torch._C._nn", "torch.nn.functional"),
    }
)
_HELD_TORCH = frozenset({"cos", "exp", "relu", "sigmoid", "sin", "softmax", "tanh"})
_HELD_BUILTINS = frozenset({"abs", "all", "any", "len", "round", "sum"})
_HELD_NUMPY = frozenset(
    """
    amax amin argmax argmin argsort clip concatenate cumsum diff max mean median min nan_to_num nanmax nanmean
    nanmedian nanmin nanstd nansum ones_like percentile prod quantile ravel sort std sum unique var zeros_like
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
# scikit-learn names its classes in capitals; what is left are functions and Cython's constructors.
_SKLEARN_FUNCTION = re.compile(r"_?[a-z]\w*\Z")
_CLASS = re.compile(r"__pyx_unpickle_\w+\Z|newObj\Z|make_column_selector\Z")


def use_of(module: str, name: str, ufuncs: frozenset[str]) -> Use:
    """The use of a pair that stands on the allow-list. `ufuncs` are numpy's functions on numbers."""
    pair = (module, name)
    if pair in _CALLED:
        return Use.CALLED
    if is_distribution(module, name):
        return Use.ALONE
    if pair in _RESTORED or module.startswith(_RESTORED_MODULES):
        return Use.RESTORED
    if module == "torch" and name.endswith(
        ("Storage", "Tensor")
    ):  # calling one allocates as much as it is told
        return Use.HELD if name != "Tensor" else Use.RESTORED
    if module in _HELD_MODULES or "._call_" in name or (module == "torch" and name in _HELD_TORCH):
        return Use.HELD
    if module == "builtins" and name in _HELD_BUILTINS:
        return Use.HELD
    if module == "numpy" and (name in ufuncs or name in _HELD_NUMPY):
        return Use.HELD
    if module.startswith("sklearn.") and _SKLEARN_FUNCTION.match(name) and not _CLASS.match(name):
        return Use.HELD
    return Use.ANY


def is_distribution(module: str, name: str) -> bool:
    """scipy's distributions, which run a text of their state as Python when they are restored."""
    return module in ("scipy.stats._continuous_distns", "scipy.stats._discrete_distns") and name.endswith(
        "_gen"
    )
