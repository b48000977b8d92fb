"""The allow-list of pickles: exact (module, name) pairs, table by table with the versions they were seen in.

One line is one module and the names in it. A pair stands here when constructing, calling or restoring it
with *any* arguments cannot run code, open a file or reach the network; the few whose arguments or state
matter are in `pickle_calls.py`, those that may only be held or restored in `pickle_uses.py`. Prefixes and
patterns are not possible on purpose: `torch.serialization` + `os.system` is one import that no prefix rule
catches. A name with a dot in it is one exact name too.

The versions are those whose own files were made, read and found to import these names (`SEEN` in
`tests/vectors/artifacts/allowed`); older spellings that their readers still accept stand here too.
"""

from __future__ import annotations

from dataclasses import dataclass

from garrison.artifacts.scanners.pickle_allowed_arrays import BOOSTERS, JOBLIB, NUMPY, PANDAS, SCIPY
from garrison.artifacts.scanners.pickle_allowed_contrib import CONTRIB
from garrison.artifacts.scanners.pickle_allowed_sklearn import SKLEARN
from garrison.artifacts.scanners.pickle_allowed_torch import TORCH, TRANSFORMERS

PYTHON = """
_codecs: encode
argparse: Namespace
array: _array_reconstructor array
builtins: ArithmeticError AssertionError AttributeError Ellipsis Exception IndexError KeyError LookupError
    NotImplemented NotImplementedError OSError OverflowError RuntimeError StopIteration TypeError ValueError
    ZeroDivisionError abs all any bool bytearray bytes complex dict float frozenset getattr int len list
    object range round set slice str sum tuple type
collections: ChainMap Counter OrderedDict UserDict UserList UserString defaultdict deque
copyreg: _reconstructor
datetime: date datetime time timedelta timezone
dateutil.relativedelta: relativedelta
dateutil.tz.tz: tzutc
decimal: Decimal
fractions: Fraction
functools: partial
ipaddress: IPv4Address IPv4Interface IPv4Network IPv6Address IPv6Interface IPv6Network
math: ceil cos exp expm1 fabs floor log log10 log1p log2 sin sqrt tan tanh
operator: itemgetter
pathlib: Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath
pytz: _UTC _p
random: Random
re: RegexFlag _compile
statistics: NormalDist
types: SimpleNamespace
uuid: SafeUUID UUID
zoneinfo: ZoneInfo
"""


@dataclass(frozen=True, slots=True)
class Table:
    """The names of one framework, with the versions whose files were read to make it."""

    framework: str
    versions: tuple[str, ...]
    names: str


TABLES = (
    Table("python", ("3.11",), PYTHON),
    Table("numpy", ("1.24.4", "1.26.4", "2.3.5", "2.4.6"), NUMPY),
    Table("pandas", ("1.5.3", "2.1.4", "2.2.3", "3.1.1"), PANDAS),
    Table("scipy", ("1.10.1", "1.11.4", "1.17.1"), SCIPY),
    Table("joblib", ("1.2.0", "1.6.0"), JOBLIB),
    Table("xgboost and lightgbm", ("3.2.0", "4.7.0"), BOOSTERS),
    Table("scikit-learn", ("1.2.2", "1.3.2", "1.5.2", "1.6.1", "1.7.2", "1.9.0", "1.9.1"), SKLEARN),
    Table(
        "imbalanced-learn, category_encoders, CatBoost and hmmlearn",
        ("0.14.2", "2.11.2", "1.2.10", "0.3.3"),
        CONTRIB,
    ),
    Table("torch and torchvision", ("2.13.0", "2.15.0"), TORCH),
    Table("transformers", ("5.23.0",), TRANSFORMERS),
)

UFUNCS = frozenset(
    """
    abs absolute acos acosh add arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan
    atan2 atanh bitwise_and bitwise_count bitwise_invert bitwise_left_shift bitwise_not bitwise_or
    bitwise_right_shift bitwise_xor cbrt ceil conj conjugate copysign cos cosh deg2rad degrees divide
    divmod equal exp exp2 expm1 fabs float_power floor floor_divide fmax fmin fmod frexp gcd greater
    greater_equal heaviside hypot invert isfinite isinf isnan isnat lcm ldexp left_shift less less_equal
    log log10 log1p log2 logaddexp logaddexp2 logical_and logical_not logical_or logical_xor matmul
    maximum minimum mod modf multiply negative nextafter not_equal positive pow power rad2deg radians
    reciprocal remainder right_shift rint sign signbit sin sinh spacing sqrt square subtract tan tanh
    true_divide trunc vecdot
    """.split()  # noqa: SIM905 - a list of this length is read as words
)


def pairs_of(table: str) -> frozenset[tuple[str, str]]:
    """The pairs of one table's text."""
    found: set[tuple[str, str]] = set()
    module = ""
    for word in table.split():
        if word.endswith(":"):
            module = word[:-1]
        else:
            found.add((module, word))
    return frozenset(found)


ALLOWED = frozenset(pair for table in TABLES for pair in pairs_of(table.names))

# Names of Python 2 that protocols 0 to 2 still write (pickle's `_compat_pickle`).
PYTHON2_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg", "exceptions": "builtins"}
PYTHON2_NAMES = {
    ("UserDict", "IterableUserDict"): ("collections", "UserDict"),
    ("UserList", "UserList"): ("collections", "UserList"),
    ("UserString", "UserString"): ("collections", "UserString"),
    ("builtins", "xrange"): ("builtins", "range"),
    ("builtins", "long"): ("builtins", "int"),
    ("builtins", "unicode"): ("builtins", "str"),
}
