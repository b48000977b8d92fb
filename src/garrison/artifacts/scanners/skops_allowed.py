"""Types that a skops file may name beside those a pickle may: module, then its classes. And plain functions.

Restoring one makes an empty object and sets its attributes; none of them does more than that.
"""

from __future__ import annotations

_TYPES = """
    _loss CyLossFunction
    numpy.random._generator Generator
"""
TYPES = frozenset(
    (module, name)
    for module, *names in (line.split() for line in _TYPES.split("\n") if line)
    for name in names
)
# Element-wise functions and reductions of numpy: numbers in, numbers out.
FUNCTIONS = frozenset(
    """
    absolute add arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin array asarray average
    bitwise_and bitwise_count bitwise_or bitwise_xor cbrt ceil clip conjugate copysign cos cosh cumsum deg2rad
    degrees divide divmod equal exp exp2 expm1 fabs float_power floor floor_divide fmax fmin fmod frexp gcd greater
    greater_equal heaviside hypot identity invert isfinite isinf isnan isnat lcm ldexp left_shift less less_equal
    log log10 log1p log2 logaddexp logaddexp2 logical_and logical_not logical_or logical_xor matmul matvec max
    maximum mean median min minimum modf multiply nan_to_num negative nextafter not_equal percentile positive power
    prod rad2deg radians ravel reciprocal remainder reshape right_shift rint round sign signbit sin sinh spacing
    sqrt square std subtract sum tan tanh trunc var vecdot vecmat
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
