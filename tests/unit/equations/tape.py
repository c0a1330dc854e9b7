"""Arrays that remember what they were made of: derivatives by reverse mode, for functions of kets entry by entry.

A value is an array over particles (axis 0) and their copies (axes 1, 2, ...). `derivatives(x, leaves)` is the mean over
particles of ∂x(α)/∂leaf(α). Derivatives of functions are differences of their values, so that no table of tp_compiler's
is read; jumps have derivative 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from scipy import special

_STEP = 1e-6


def _elu(x: Any) -> Any:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _gelu_tanh(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "tanh": np.tanh,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asin": np.arcsin,
    "acos": np.arccos,
    "erf": special.erf,
    "erfc": special.erfc,
    "abs": np.abs,
    "Abs": np.abs,
    "sign": np.sign,
    "step": lambda x: (x > 0) * 1.0,
    "max": np.maximum,
    "min": np.minimum,
    "where": lambda c, a, b: np.where(c > 0, a, b),
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x, slope: np.where(x > 0, x, slope * x),
    "relu6": lambda x: np.clip(x, 0, 6),
    "elu": _elu,
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
    "sigmoid": special.expit,
    "silu": lambda x: x * special.expit(x),
    "softplus": lambda x: np.logaddexp(0, x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "gelu": lambda x: x * special.ndtr(x),
    "gelu_tanh": _gelu_tanh,
    "squareplus": lambda x: 0.5 * (x + np.sqrt(x * x + 4)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "hardtanh": lambda x: np.clip(x, -1, 1),
    "hardsigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hardswish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "logsigmoid": lambda x: -np.logaddexp(0, -x),
    "logsumexp": np.logaddexp,
}
JUMPS = frozenset({"sign", "step"})


class Var:
    """An array, and for each array that it was made of a factor: d self = Σ factor · d part."""

    __array_ufunc__ = None

    def __init__(self, value: Any, parts: Iterable[tuple[Var, Any]] = (), shrink: int | None = None):
        self.value = np.asarray(value, dtype=float)
        self.parts = tuple(parts)
        self.shrink = shrink  # the copy's axis that was averaged over

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def __add__(self, other: Any) -> Var:
        return combined(lambda a, b: a + b, (1.0, 1.0), self, other)

    def __mul__(self, other: Any) -> Var:
        return combined(lambda a, b: a * b, (valued(other), self.value), self, other)

    __radd__, __rmul__ = __add__, __mul__

    def mean(self, axis: int) -> Var:
        return Var(self.value.mean(axis, keepdims=True), ((self, 1.0 / self.value.shape[axis]),), axis)


def valued(x: Any) -> Any:
    return x.value if isinstance(x, Var) else x


def combined(fn: Callable[..., Any], factors: Iterable[Any], *args: Any) -> Var:
    parts = [(a, f) for a, f in zip(args, factors, strict=True) if isinstance(a, Var)]
    return Var(fn(*map(valued, args)), parts)


def applied(name: str, *args: Any) -> Any:
    """A function by name, entry by entry."""
    fn = FUNCTIONS[name]
    values = [np.asarray(valued(a), dtype=float) for a in args]
    if not any(isinstance(a, Var) for a in args):
        return fn(*values)
    parts = []
    for k, a in enumerate(args):
        if isinstance(a, Var) and name not in JUMPS and not (name == "where" and k == 0):
            up, down = ([v + s * _STEP if j == k else v for j, v in enumerate(values)] for s in (1, -1))
            parts.append((a, (fn(*up) - fn(*down)) / (2 * _STEP)))
    return Var(fn(*values), parts)


def power(base: Any, exponent: Any) -> Any:
    if not isinstance(base, Var):
        return np.asarray(base, dtype=float) ** exponent
    assert not isinstance(exponent, Var)
    value = base.value
    slope = np.zeros_like(value) if exponent == 0 else exponent * value ** (exponent - 1.0)
    return Var(value**exponent, ((base, slope),))


def detached(x: Any) -> Any:
    """The array alone, without the record of its factors."""
    return valued(x)


def derivatives(x: Any) -> dict[int, float]:
    """The mean of ∂x/∂leaf over the particles, by the leaves' identities."""
    if not isinstance(x, Var):
        return {}
    order: list[Var] = []
    seen: set[int] = set()
    todo: list[tuple[Var, bool]] = [(x, False)]
    while todo:
        node, done = todo.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            todo.append((node, True))
            todo += [(part, False) for part, _ in node.parts if id(part) not in seen]
    flow: dict[int, Any] = {id(x): np.ones(x.shape)}
    found: dict[int, float] = {}
    for node in reversed(order):
        here = flow.pop(id(node), None)
        if here is None:
            continue
        if not node.parts:
            found[id(node)] = float(np.mean(here))
        for part, factor in node.parts:
            flow[id(part)] = flow.get(id(part), 0.0) + _onto(here * factor, part.shape)
    return found


def _onto(array: Any, shape: tuple[int, ...]) -> Any:
    """Sums over what broadcasting has repeated."""
    array = np.asarray(array)
    extra = array.ndim - len(shape)
    array = array.sum(tuple(range(extra))) if extra else array
    axes = tuple(k for k, n in enumerate(shape) if n == 1 and array.shape[k] != 1)
    array = array.sum(axes, keepdims=True) if axes else array
    return np.broadcast_to(array, shape)
