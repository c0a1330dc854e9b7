"""The entrywise functions: one row each, with derivative, parity and the value at a number.

A derivative is written with the same primitives (`d` builds it from an `Algebra`), so a compiler pass, a symbolic
printer and a user who writes `relu'(|h>)` all read this one table. Conventions of the language:
step(0) = relu'(0) = sign(0) = abs'(0) = 0, and jumps have derivative 0 (their Dirac part never enters an average
taken with the Stein form of the dot rule).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


class Algebra(Protocol):
    """The operations in derivative rules: apply a primitive, or make a constant."""

    def __call__(self, fn: str, *args: Any) -> Any: ...

    def number(self, value: float) -> Any: ...


Rule = Callable[..., Any]


@dataclass(frozen=True)
class Primitive:
    """`arity` None means any number of arguments. `partials[k](alg, *args)` is the derivative in argument k.

    `parity` is 1 (even), -1 (odd) or 0. `smooth` is False where the function or its derivative jumps; `jumps` says
    that the function itself does; `kinks` are the places where it, or a derivative of any order, does (of its first
    argument; of max and min, of the difference). `range` holds all values; `rises` is 1 or -1 where it rises or falls
    all along the line, `turn` the place up to which it falls and from which it rises; `positive`: it is never 0 or less.
    `degree`: it is bounded by a multiple of 1 + |x|^degree (inf: it grows faster, or has a pole); `polynomial`: it is a
    polynomial, up to its sign. `exact`: floating-point arithmetic does not round it. `pole`: the number
    of the argument that may not be 0 (of tan: an odd multiple of π/2).
    """

    name: str
    arity: int | None
    scalar: Callable[..., float]
    partials: tuple[Rule, ...] = ()
    parity: int = 0
    smooth: bool = True
    jumps: bool = False
    kinks: tuple[float, ...] = ()
    range: tuple[float, float] = (-math.inf, math.inf)
    rises: int = 0
    turn: float | None = None
    positive: bool = False
    degree: float = 1.0
    polynomial: bool = False
    exact: bool = False
    pole: int | None = None


def _d(body: str) -> Rule:
    """A derivative rule written as an arithmetic expression of x (and y) over the primitives."""
    import ast

    tree = ast.parse(body, mode="eval").body
    operators = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.Pow: "pow"}

    def build(alg: Algebra, node: Any, env: dict[str, Any]) -> Any:
        if isinstance(node, ast.Constant):
            return alg.number(float(str(node.value)))
        if isinstance(node, ast.Name):
            return env[node.id]
        if isinstance(node, ast.UnaryOp):
            return alg("mul", alg.number(-1.0), build(alg, node.operand, env))
        if isinstance(node, ast.BinOp):
            left, right = build(alg, node.left, env), build(alg, node.right, env)
            name = operators[type(node.op)]
            if name == "sub":
                return alg("add", left, alg("mul", alg.number(-1.0), right))
            return alg(name, left, right)
        return alg(node.func.id, *(build(alg, a, env) for a in node.args))

    return lambda alg, *args: build(alg, tree, dict(zip("xyz", args, strict=False)))


def _sign(x: float) -> float:
    return float((x > 0) - (x < 0))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _pow(x: float, p: float) -> float:
    if x == 0 and p < 0:
        raise ZeroDivisionError
    value: float | complex = x**p
    if isinstance(value, complex):
        raise ValueError
    return value


def _log_sigmoid(x: float) -> float:
    return min(x, 0.0) - math.log1p(math.exp(-abs(x)))


_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
_GELU_C = math.sqrt(2 / math.pi)
_SQRT2 = math.sqrt(2.0)
_INF = math.inf
_GAUSS = "exp(-x*x/2) * 0.3989422804014327"

_ROWS = (
    # arithmetic; degrees and ranges of functions of several arguments are computed where they are needed
    Primitive("add", None, lambda *a: math.fsum(a), polynomial=True),
    Primitive("mul", None, lambda *a: math.prod(a), polynomial=True),
    Primitive("div", 2, lambda x, y: x / y, (_d("1 / y"), _d("-x / (y*y)")), pole=1),
    Primitive("pow", 2, _pow, (_d("y * pow(x, y - 1)"), _d("pow(x, y) * log(x)")), turn=0.0, pole=0),
    # elementary
    Primitive("exp", 1, math.exp, (_d("exp(x)"),), range=(0.0, _INF), rises=1, positive=True, degree=_INF),
    Primitive("log", 1, math.log, (_d("1 / x"),), degree=_INF, pole=0),
    Primitive("sqrt", 1, math.sqrt, (_d("0.5 / sqrt(x)"),), range=(0.0, _INF)),
    Primitive(
        "square", 1, lambda x: x * x, (_d("2 * x"),), 1, range=(0.0, _INF), turn=0.0, degree=2.0, polynomial=True
    ),
    Primitive("sin", 1, math.sin, (_d("cos(x)"),), -1, range=(-1.0, 1.0), degree=0.0),
    Primitive("cos", 1, math.cos, (_d("-sin(x)"),), 1, range=(-1.0, 1.0), degree=0.0),
    Primitive("tan", 1, math.tan, (_d("1 + square(tan(x))"),), -1, degree=_INF, pole=0),
    Primitive("sinh", 1, math.sinh, (_d("cosh(x)"),), -1, rises=1, degree=_INF),
    Primitive("cosh", 1, math.cosh, (_d("sinh(x)"),), 1, range=(1.0, _INF), turn=0.0, positive=True, degree=_INF),
    Primitive("tanh", 1, math.tanh, (_d("1 - square(tanh(x))"),), -1, range=(-1.0, 1.0), rises=1, degree=0.0),
    Primitive("atan", 1, math.atan, (_d("1 / (1 + x*x)"),), -1, range=(-math.pi / 2, math.pi / 2), rises=1, degree=0.0),
    Primitive("erf", 1, math.erf, (_d("1.1283791670955126 * exp(-x*x)"),), -1, range=(-1.0, 1.0), rises=1, degree=0.0),
    Primitive(
        "erfc",
        1,
        math.erfc,
        (_d("-1.1283791670955126 * exp(-x*x)"),),
        range=(0.0, 2.0),
        rises=-1,
        positive=True,
        degree=0.0,
    ),
    # kinks and jumps
    Primitive(
        "abs",
        1,
        abs,
        (_d("sign(x)"),),
        1,
        smooth=False,
        kinks=(0.0,),
        range=(0.0, _INF),
        turn=0.0,
        polynomial=True,
        exact=True,
    ),
    Primitive(
        "sign",
        1,
        _sign,
        (_d("0 * x"),),
        -1,
        smooth=False,
        jumps=True,
        kinks=(0.0,),
        range=(-1.0, 1.0),
        rises=1,
        degree=0.0,
        exact=True,
    ),
    Primitive(
        "step",
        1,
        lambda x: float(x > 0),
        (_d("0 * x"),),
        0,
        smooth=False,
        jumps=True,
        kinks=(0.0,),
        range=(0.0, 1.0),
        rises=1,
        degree=0.0,
        exact=True,
    ),
    Primitive("max", 2, max, (_d("step(x - y)"), _d("1 - step(x - y)")), smooth=False, kinks=(0.0,), exact=True),
    Primitive("min", 2, min, (_d("1 - step(x - y)"), _d("step(x - y)")), smooth=False, kinks=(0.0,), exact=True),
    Primitive(
        "where",
        3,
        lambda c, a, b: a if c > 0 else b,
        (_d("0 * x"), _d("step(x)"), _d("1 - step(x)")),
        smooth=False,
        jumps=True,
        kinks=(0.0,),
        exact=True,
    ),
    # activations
    Primitive(
        "relu",
        1,
        lambda x: max(x, 0.0),
        (_d("step(x)"),),
        smooth=False,
        kinks=(0.0,),
        range=(0.0, _INF),
        rises=1,
        exact=True,
    ),
    Primitive(
        "leaky_relu",
        2,
        lambda x, s: x if x > 0 else s * x,
        (_d("where(x, 1, where(-x, y, 0))"), _d("min(x, 0)")),
        smooth=False,
        kinks=(0.0,),
        turn=0.0,
    ),
    Primitive(
        "relu6",
        1,
        lambda x: min(max(x, 0.0), 6.0),
        (_d("step(x) * step(6 - x)"),),
        smooth=False,
        kinks=(0.0, 6.0),
        range=(0.0, 6.0),
        rises=1,
        degree=0.0,
        exact=True,
    ),
    Primitive(
        "hardtanh",
        1,
        lambda x: min(max(x, -1.0), 1.0),
        (_d("step(x + 1) * step(1 - x)"),),
        -1,
        smooth=False,
        kinks=(-1.0, 1.0),
        range=(-1.0, 1.0),
        rises=1,
        degree=0.0,
        exact=True,
    ),
    Primitive(
        "hardsigmoid",
        1,
        lambda x: min(max(x + 3.0, 0.0), 6.0) / 6.0,
        (_d("step(x + 3) * step(3 - x) / 6"),),
        smooth=False,
        kinks=(-3.0, 3.0),
        range=(0.0, 1.0),
        rises=1,
        degree=0.0,
    ),
    Primitive(
        "hardswish",
        1,
        lambda x: x * min(max(x + 3.0, 0.0), 6.0) / 6.0,
        (_d("where(x - 3, 1, step(x + 3) * (2*x + 3) / 6)"),),
        smooth=False,
        kinks=(-3.0, 3.0),
        range=(-0.376, _INF),
        turn=-1.5,
    ),
    Primitive(
        "squareplus",
        1,
        lambda x: (x + math.sqrt(x * x + 4)) / 2,
        (_d("0.5 + 0.5 * x / sqrt(4 + square(x))"),),
        range=(0.0, _INF),
        rises=1,
        positive=True,
    ),
    Primitive(
        "softsign",
        1,
        lambda x: x / (1 + abs(x)),
        (_d("1 / square(1 + abs(x))"),),
        -1,
        kinks=(0.0,),
        range=(-1.0, 1.0),
        rises=1,
        degree=0.0,
    ),
    Primitive(
        "elu",
        1,
        lambda x: x if x > 0 else math.expm1(x),
        (_d("exp(min(x, 0))"),),
        smooth=False,
        kinks=(0.0,),
        range=(-1.0, _INF),
        rises=1,
    ),
    Primitive(
        "selu",
        1,
        lambda x: _SELU_SCALE * (x if x > 0 else _SELU_ALPHA * math.expm1(x)),
        (_d(f"where(x, {_SELU_SCALE}, {_SELU_SCALE * _SELU_ALPHA} * exp(min(x, 0)))"),),
        smooth=False,
        kinks=(0.0,),
        range=(-_SELU_SCALE * _SELU_ALPHA, _INF),
        rises=1,
    ),
    Primitive(
        "sigmoid", 1, _sigmoid, (_d("sigmoid(x) * sigmoid(-x)"),), range=(0.0, 1.0), rises=1, positive=True, degree=0.0
    ),
    Primitive(
        "silu",
        1,
        lambda x: x * _sigmoid(x),
        (_d("sigmoid(x) * (1 + x * sigmoid(-x))"),),
        range=(-0.28, _INF),
        turn=-1.2784645427610737,
    ),
    Primitive("softplus", 1, _softplus, (_d("sigmoid(x)"),), range=(0.0, _INF), rises=1, positive=True),
    Primitive("logsigmoid", 1, _log_sigmoid, (_d("sigmoid(-x)"),), range=(-_INF, 0.0), rises=1),
    Primitive(
        "mish",
        1,
        lambda x: x * math.tanh(_softplus(x)),
        (_d("tanh(softplus(x)) + x * (1 - square(tanh(softplus(x)))) * sigmoid(x)"),),
        range=(-0.31, _INF),
        turn=-1.1924312145154952,
    ),
    Primitive(
        "gelu",
        1,
        lambda x: x * math.erfc(-x / _SQRT2) / 2,
        (_d(f"erfc(-x / {_SQRT2}) / 2 + x * {_GAUSS}"),),
        range=(-0.17, _INF),
        turn=-0.7517915246935645,
    ),
    Primitive(
        "gelu_tanh",
        1,
        lambda x: x * (1 + math.tanh(_GELU_C * (x + 0.044715 * x**3))) / 2,
        (
            _d(
                f"(1 + tanh({_GELU_C} * (x + 0.044715 * x*x*x))) / 2"
                f" + x * (1 - square(tanh({_GELU_C} * (x + 0.044715 * x*x*x))))"
                f" * {_GELU_C} * (1 + 0.134145 * x*x) / 2"
            ),
        ),
        range=(-0.18, _INF),
        turn=-0.7524614220710163,
    ),
)

PRIMITIVES: dict[str, Primitive] = {row.name: row for row in _ROWS}

#: Functions a program may call by name (arithmetic is written with operators).
CALLABLE = frozenset(PRIMITIVES) - {"add", "mul", "div", "pow"}

#: Default values of trailing arguments.
DEFAULTS: dict[str, dict[str, float]] = {"leaky_relu": {"slope": 0.01}}
ARGUMENT_NAMES: dict[str, tuple[str, ...]] = {
    "leaky_relu": ("x", "slope"),
    "max": ("x", "y"),
    "min": ("x", "y"),
    "where": ("c", "a", "b"),
}
