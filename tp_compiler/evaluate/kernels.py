"""The primitives as functions of arrays, for the limit: one row each (see `ir.primitives` for their meaning)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from tp_compiler.evaluate import special
from tp_compiler.evaluate.array_types import Array, Numbers

Kernel = Callable[..., Any]  # NumPy and SciPy do not say what their functions return

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
_GELU_C = math.sqrt(2 / math.pi)


def _pow(x: Array, p: Numbers) -> Array:
    if np.ndim(p) == 0:
        if p == 2:
            return np.square(x)
        if p == 0.5:
            return np.sqrt(x)
        if float(p).is_integer() and 0 < p <= 8:
            return reduce(np.multiply, [x] * int(p))
    return np.power(x, p)


KERNELS: dict[str, Kernel] = {
    "add": lambda *a: reduce(np.add, a),
    "mul": lambda *a: reduce(np.multiply, a),
    "div": np.divide,
    "pow": _pow,
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
    "erf": special.erf,
    "erfc": special.erfc,
    "abs": np.abs,
    "sign": np.sign,
    "step": lambda x: np.heaviside(x, 0.0),
    "max": np.maximum,
    "min": np.minimum,
    "where": lambda c, a, b: np.where(c > 0, a, b),
    "relu": lambda x: np.maximum(x, 0.0),
    "leaky_relu": lambda x, slope: np.where(x > 0, x, slope * x),
    "relu6": lambda x: np.clip(x, 0.0, 6.0),
    "hardtanh": lambda x: np.clip(x, -1.0, 1.0),
    "hardsigmoid": lambda x: np.clip(x + 3.0, 0.0, 6.0) / 6.0,
    "hardswish": lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "squareplus": lambda x: (x + np.hypot(x, 2)) / 2,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))),
    "selu": lambda x: _SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * np.expm1(np.minimum(x, 0.0))),
    "sigmoid": special.expit,
    "silu": lambda x: x * special.expit(x),
    "softplus": lambda x: -special.log_expit(-x),
    "logsigmoid": special.log_expit,
    "mish": lambda x: x * np.tanh(-special.log_expit(-x)),
    "gelu": lambda x: x * special.ndtr(x),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(_GELU_C * (x + 0.044715 * x * x * x))),
}
