"""One row per primitive: its name and a NumPy function of arrays (float32 in, float32 out).

Nothing here looks at the derivative or the meaning of a primitive; `ir.primitives` fixes those. A value outside a
domain silently becomes NaN or infinite: `blame` decides later whether it matters, and which node caused it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import numpy as np

from tp_compiler.finite.array_types import Values

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
_GELU_C = math.sqrt(2 / math.pi)


def apply(fn: str, *args: Values) -> Values:
    """The primitive `fn` of broadcastable arrays of one dtype; the result has that dtype."""
    return np.asarray(KERNELS[fn](*args), dtype=args[0].dtype)


def _add(*args: Values) -> Values:
    return reduce(np.add, args)


def _mul(*args: Values) -> Values:
    return reduce(np.multiply, args)


def _step(x: Values) -> Values:
    return np.asarray(x > 0, dtype=x.dtype)


def _sign(x: Values) -> Values:
    # np.sign keeps NaN, unlike a difference of comparisons; sign(0) = 0.
    return np.asarray(np.sign(x))


def _nan_aware_step(x: Values) -> Values:
    """step(x), with step(NaN) = NaN, so that an undefined argument is not taken for a negative one."""
    return np.where(np.isnan(x), x, _step(x))


def _pow(x: Values, p: Values) -> Values:
    if p.size == 1 and p.flat[0] == 2:
        return x * x
    if p.size == 1 and p.flat[0] == -1:
        return 1 / x
    return np.asarray(np.power(x, p))


def _where(c: Values, a: Values, b: Values) -> Values:
    return np.where(np.isnan(c), c, np.where(c > 0, a, b))


def _erf(x: Values) -> Values:
    from scipy.special import erf

    return np.asarray(erf(x))


def _erfc(x: Values) -> Values:
    from scipy.special import erfc

    return np.asarray(erfc(x))


def _sigmoid(x: Values) -> Values:
    # exp(-|x|) never overflows, and neither branch cancels.
    tail = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, tail) / (1 + tail))


def _silu(x: Values) -> Values:
    return x * _sigmoid(x)


def _softplus(x: Values) -> Values:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _log_sigmoid(x: Values) -> Values:
    return np.asarray(np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))))


def _hard_sigmoid(x: Values) -> Values:
    return np.asarray(np.minimum(np.maximum(x / 6 + np.asarray(0.5, dtype=x.dtype), 0), 1))


def _mish(x: Values) -> Values:
    return x * np.tanh(_softplus(x))


def _gelu(x: Values) -> Values:
    # erfc keeps the relative accuracy of the left tail, where 1 + erf would cancel.
    return x * _erfc(x * (-1 / math.sqrt(2))) / 2


def _gelu_tanh(x: Values) -> Values:
    return np.asarray(x * (1 + np.tanh(_GELU_C * (x + 0.044715 * x * x * x))) / 2)


def _elu(x: Values) -> Values:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _selu(x: Values) -> Values:
    return _SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * np.expm1(np.minimum(x, 0)))


KERNELS: dict[str, Callable[..., Values]] = {
    # arithmetic
    "add": _add,
    "mul": _mul,
    "div": np.divide,
    "pow": _pow,
    # elementary
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "square": np.square,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "atan": np.arctan,
    "erf": _erf,
    "erfc": _erfc,
    # kinks and jumps
    "abs": np.abs,
    "sign": _sign,
    "step": _nan_aware_step,
    "max": np.maximum,
    "min": np.minimum,
    "where": _where,
    # activations
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x, slope: np.where(x > 0, x, slope * x),
    "relu6": lambda x: np.minimum(np.maximum(x, 0), 6),
    "hardtanh": lambda x: np.minimum(np.maximum(x, -1), 1),
    "hardsigmoid": _hard_sigmoid,
    "hardswish": lambda x: x * _hard_sigmoid(x),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "squareplus": lambda x: (x + np.hypot(x, 2)) / 2,
    "elu": _elu,
    "selu": _selu,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "softplus": _softplus,
    "logsigmoid": _log_sigmoid,
    "mish": _mish,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
}
