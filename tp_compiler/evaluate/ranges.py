"""Bounds of the values of an instruction for all draws: interval arithmetic on formulas.

Only the formula itself is used: exp is positive, softplus too, so exp(-softplus(x)) lies between 0 and 1.
If nothing is known, the range is the whole line. Ranges distinguish bounded tails from tails that may be heavy.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.primitives import PRIMITIVES, Primitive

Range = tuple[float, float]
ANY: Range = (-math.inf, math.inf)

SMALLEST = math.ulp(0.0)


def ranges(nodes: Sequence[ir.Node], known: Mapping[ir.Node, Range] | None = None) -> dict[ir.Node, Range]:
    """The range of every node; the nodes in an order in which arguments come first, unless their ranges are known."""
    found: dict[ir.Node, Range] = dict(known or {})
    for node in nodes:
        low, high = _range(node, [found.get(a, ANY) for a in node.args], found)
        found[node] = (low, high) if low <= high else ANY
    return found


def with_signs(nodes: Sequence[ir.Node], known: Mapping[ir.Node, Range] | None = None) -> dict[ir.Node, Range]:
    """The same, but functions that are 0 only at infinity, such as exp, start at the smallest positive number."""
    found = ranges(nodes, known)
    above = {node for node, (low, _) in (known or {}).items() if low > 0}
    for node in nodes:
        low, high = found[node]
        if low > 0 or _positive(node, above):
            above.add(node)
            found[node] = max(low, SMALLEST), high
    return found


def _positive(node: ir.Node, above: set[ir.Node]) -> bool:
    if isinstance(node, ir.Map):
        if node.fn == "pow":
            return node.args[0] in above
        known = node.fn in ("add", "mul", "div", "sqrt", "max", "min") and all(a in above for a in node.args)
        return known or PRIMITIVES[node.fn].positive
    if isinstance(node, ir.Contract | ir.Reduce) and getattr(node, "op", "") != "logsumexp":
        return bool(node.args) and all(a in above for a in node.args)
    linear = isinstance(node, ir.Copy) or node.linear == "entries"
    least = node.terms[0] if isinstance(node, ir.Along) else 1
    return linear and least > 0 and all(a in above for a in node.linear_in)


def bounded(of: Range) -> bool:
    return math.isfinite(of[0]) and math.isfinite(of[1])


def away_from_zero(of: Range) -> bool:
    return of[0] > 0 or of[1] < 0


def _range(node: ir.Node, own: list[Range], found: dict[ir.Node, Range]) -> Range:
    if isinstance(node, ir.Constant):
        return node.value, node.value
    if isinstance(node, ir.Array):
        values = np.asarray(node.values, dtype=np.float64)
        return (float(values.min()), float(values.max())) if values.size and np.isfinite(values).all() else ANY
    if isinstance(node, ir.Position):
        return 1.0, float(node.index.size)
    if isinstance(node, ir.InitialKet):
        return _of_law(node.symbol.law, own[2:])
    if isinstance(node, ir.Map):
        return _of_factors(node.args, found) if node.fn == "mul" else _of_map(node, own, found)
    if isinstance(node, ir.Copy):
        return own[0]
    if isinstance(node, ir.Reindex):
        return _hull([own[0]])
    if isinstance(node, ir.Along):
        return _hull([_times(own[0], count) for count in node.terms])
    if isinstance(node, ir.Stack):
        return _hull(own)
    if isinstance(node, ir.Contract):
        return _times(_of_factors(node.args, found), math.prod(i.size for i in node.over))
    if isinstance(node, ir.Reduce) and node.op in ("max", "min"):
        return own[0]
    return ANY


def _of_law(law: str, parameters: list[Range]) -> Range:
    if law == "bernoulli":
        return 0.0, 1.0
    if law == "rows" or len(parameters) == 2:
        return _hull(parameters)
    size = _abs(parameters[0])[1] if parameters else 1.0
    return (-size, size) if law in ("uniform", "rademacher") else ANY


def _of_map(node: ir.Map, own: list[Range], found: dict[ir.Node, Range]) -> Range:
    fn, x = node.fn, own[0]
    if fn == "add":
        low, high = sum(r[0] for r in own), sum(r[1] for r in own)
        return max(low, 0.0 if _less(node, "min") else low), min(high, 0.0 if _less(node, "max", "logsumexp") else high)
    if fn in ("square", "abs"):
        return _square(x) if fn == "square" else _abs(x)
    if fn == "sqrt":
        return (math.sqrt(x[0]), math.sqrt(x[1])) if x[0] >= 0 else (0.0, math.inf)
    if fn == "log":
        return (math.log(x[0]), math.log(x[1]) if math.isfinite(x[1]) else math.inf) if x[0] > 0 else ANY
    if fn == "div" and _part(node, found):
        return 0.0, 1.0
    if fn == "div":
        return _product([x, _inverse(own[1])])
    if fn == "pow":
        return _power(x, own[1])
    if fn in ("max", "min"):
        pick: Callable[..., float] = max if fn == "max" else min
        return pick(r[0] for r in own), pick(r[1] for r in own)
    if fn == "where":
        return _hull(own[1:])
    return _of_function(fn, x)


def _part(node: ir.Map, found: dict[ir.Node, Range]) -> bool:
    """Whether a quotient is x / (x + ...) of terms that are not negative, as softmax is when it is written out."""
    x, whole = node.args
    if isinstance(whole, ir.Map) and whole.fn == "add":
        return x in whole.args and all(found.get(a, ANY)[0] >= 0 for a in whole.args)
    summed = isinstance(whole, ir.Contract) and whole.args == (x,) and bool(whole.over) and x.type.is_scalar
    return summed and found.get(x, ANY)[0] >= 0


def _less(node: ir.Map, *ops: str) -> bool:
    """Whether a sum is x - max(x), or x - logsumexp(x) as in softmax."""
    if len(node.args) != 2:
        return False
    x, other = node.args
    if not (isinstance(other, ir.Map) and other.fn == "mul" and len(other.args) == 2):
        return False
    sign, top = other.args
    return (
        isinstance(sign, ir.Constant)
        and sign.value == -1
        and isinstance(top, ir.Reduce)
        and top.op in ops
        and top.args[0] is x
    )


def _of_factors(args: Sequence[ir.Node], found: dict[ir.Node, Range]) -> Range:
    """The range of a product: equal factors are squares, which are not negative."""
    count: Counter[ir.Node] = Counter()
    todo = list(args)
    while todo:
        node = todo.pop()
        if isinstance(node, ir.Map) and node.fn == "mul":
            todo.extend(node.args)
        else:
            count[node] += 1
    parts = [_power(found.get(node, ANY), (float(k), float(k))) for node, k in count.items()]
    return _product(parts)


def _of_function(fn: str, x: Range) -> Range:
    row = PRIMITIVES[fn]
    if not row.rises:
        return row.range
    low, high = sorted(_at(row, end) for end in x)
    return low, high


def _at(row: Primitive, x: float) -> float:
    """A monotone function at a number or an end of the line."""
    if math.isinf(x):
        return row.range[1] if x * row.rises > 0 else row.range[0]
    try:
        return row.scalar(x)
    except OverflowError:
        return math.inf if x > 0 else -math.inf


def _hull(parts: Sequence[Range]) -> Range:
    return min(r[0] for r in parts), max(r[1] for r in parts)


def _product(parts: Sequence[Range]) -> Range:
    low, high = 1.0, 1.0
    for a, b in parts:
        ends = [_mul(x, y) for x in (low, high) for y in (a, b)]
        low, high = min(ends), max(ends)
    return low, high


def _mul(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


def _times(x: Range, count: int) -> Range:
    return x[0] * count if x[0] else 0.0, x[1] * count if x[1] else 0.0


def _abs(x: Range) -> Range:
    if x[0] >= 0:
        return x
    return (-x[1], -x[0]) if x[1] <= 0 else (0.0, max(-x[0], x[1]))


def _square(x: Range) -> Range:
    low, high = _abs(x)
    return _mul(low, low), _mul(high, high)


def _inverse(x: Range) -> Range:
    if not away_from_zero(x):
        return ANY
    return (1 / x[1] if math.isfinite(x[1]) else 0.0), (1 / x[0] if math.isfinite(x[0]) else 0.0)


def _power(x: Range, power: Range) -> Range:
    """The range of x^p for a number p: by parity for integers, otherwise where x is not negative."""
    if power[0] != power[1] or math.isinf(power[0]):
        return (0.0, math.inf) if x[0] >= 0 else ANY
    p = power[0]
    if p < 0:
        return _inverse(_power(x, (-p, -p)))
    if p == 0:
        return 1.0, 1.0
    if p == int(p) and int(p) % 2 == 0:
        x = _abs(x)
    elif x[0] < 0 and p != int(p):
        return 0.0, math.inf
    return _raised(x[0], p), _raised(x[1], p)


def _raised(x: float, p: float) -> float:
    if math.isinf(x):
        return x
    try:
        return math.copysign(abs(x) ** p, x)
    except OverflowError:
        return math.copysign(math.inf, x)
