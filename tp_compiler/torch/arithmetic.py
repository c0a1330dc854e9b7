"""Functions entry by entry, products of tensors, and reductions: what operations and layers are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch

from tp_compiler.torch.calls import HIDDEN, Call, Folded
from tp_compiler.torch.dimensions import Dimension, Group, Sizes
from tp_compiler.torch.refusals import Untraceable
from tp_compiler.torch.steps import (
    Across,
    Constants,
    Contraction,
    Figure,
    Pointwise,
    Reduction,
    View,
    joint,
    own,
    repeated,
    seen,
)

#: How tightly a text binds: a name or a call, a product, a sum.
ATOM, PRODUCT, SUM = 3, 2, 1
ONE = Figure(1.0)
#: Rules of functions that may be applied to hidden logits.
PASSES = ("same", "chosen", "first")
Rule = Callable[[Call], "View | list[View]"]

# ------------------------------------------------------------------------------------------------------ arithmetic


def pointwise(rule: str, write: Callable[..., tuple[str, int]], *arguments: View | Figure, hides: bool = False) -> View:
    """A function of tensors, broadcast from the right as in torch."""
    tensors = [a for a in arguments if isinstance(a, View)]
    if any(t.is_matrix for t in tensors):
        return _scaled_matrix(rule, arguments)
    depth = max(len(t.groups) for t in tensors)
    padded: list[list[Group]] = [[[] for _ in range(depth - len(t.groups))] + t.groups for t in tensors]
    slots, groups = own([joint([p[k] for p in padded]) for k in range(depth)])
    hides = hides or (rule in PASSES and any(map(_hidden, tensors)))
    return seen(Pointwise(slots, groups, rule, write, list(arguments), hides))


def _hidden(x: View) -> bool:
    """Has it entries of minus infinity?"""
    return isinstance(x.step, Pointwise) and x.step.hides


def _scaled_matrix(rule: str, arguments: tuple[View | Figure, ...]) -> View:
    """A matrix times numbers is the matrix with a factor; other functions of its entries are refused."""
    matrix = next(a for a in arguments if isinstance(a, View) and a.is_matrix)
    others = [a for a in arguments if a is not matrix]
    if rule in ("product", "quotient") and all(map(_is_number, others)) and arguments.index(matrix) == 0:
        factors = matrix.factors
        for other in others:
            for f in (other,) if isinstance(other, Figure) else other.factors:
                factors += (f,) if rule == "product" else (Figure(1 / f.value, -f.power),)
        return replace(matrix, factors=factors)
    if rule == "product" and len(arguments) == 2 and _is_number(arguments[0]):
        return _scaled_matrix(rule, arguments[::-1])
    raise Untraceable(
        "NX706",
        "a function of the entries of a weight matrix",
        "apply matrices to vectors only, or scale them by numbers",
    )


def _is_number(term: View | Figure) -> bool:
    return isinstance(term, Figure) or (isinstance(term.step, Constants) and not term.step.slots)


def wrap(text: str, level: int, least: int) -> str:
    return text if level >= least else f"({text})"


def infix(sign: str, level: int) -> Callable[..., tuple[str, int]]:
    def write(left: tuple[str, int], right: tuple[str, int]) -> tuple[str, int]:
        more = level if sign in "+*" else level + 1
        return f"{wrap(*left, level)} {sign} {wrap(*right, more)}", level

    return write


def written(template: str) -> Callable[..., tuple[str, int]]:
    """A call: arguments are put where the template has {}."""

    def write(*arguments: tuple[str, int]) -> tuple[str, int]:
        return template.format(*(text for text, _ in arguments)), ATOM

    return write


PLUS, MINUS, OVER = infix("+", SUM), infix("-", SUM), infix("/", PRODUCT)


def times(left: tuple[str, int], right: tuple[str, int]) -> tuple[str, int]:
    return right if left[0] == "1" else infix("*", PRODUCT)(left, right)


def negated(argument: tuple[str, int]) -> tuple[str, int]:
    return f"-{wrap(*argument, ATOM)}", SUM


def product(left: View | Figure, right: View | Figure) -> View:
    """A number comes first."""
    if isinstance(right, Figure):
        left, right = right, left
    if 0.0 in (_constant(left), _constant(right)):
        shapes = [t.shape for t in (left, right) if isinstance(t, View)]
        return repeated(0.0, _broadcast(shapes))
    if isinstance(left, Figure) and isinstance(right, View) and not _hidden(right):
        return right.times(left)
    return pointwise("product", times, left, right)


def _constant(term: View | Figure) -> float | None:
    return term.value if isinstance(term, Figure) else term.constant


def _broadcast(shapes: list[list[Sizes]]) -> list[Sizes]:
    depth = max(map(len, shapes))
    padded = [[(1, 1)] * (depth - len(s)) + s for s in shapes]
    return [max(column) for column in zip(*padded, strict=True)]


def add(call: Call) -> View:
    return _sum(call, PLUS)


def subtract(call: Call) -> View:
    return _sum(call, MINUS)


def reversed_subtract(call: Call) -> View:
    return pointwise("same", MINUS, call.term("other"), call.view("self"))


def _sum(call: Call, write: Callable[..., tuple[str, int]]) -> View:
    other = call.term("other")
    if call.has("alpha") and call.figure("alpha") != Figure(1.0):
        other = _scaled(other, call.figure("alpha"))
    this = call.term("self")
    if write is PLUS and isinstance(this, View) and isinstance(other, View):
        return plus(this, other, _hides(call))
    return pointwise("same", write, this, other, hides=_hides(call))


def plus(left: View, right: View, hides: bool = False) -> View:
    """A sum, in which zeros are not written."""
    shape = _broadcast([left.shape, right.shape])
    for this, other in ((left, right), (right, left)):
        if other.constant == 0 and this.shape == shape:
            return this
    return pointwise("same", PLUS, left, right, hides=hides)


def _scaled(term: View | Figure, by: Figure) -> View | Figure:
    if isinstance(term, Figure):
        return Figure(by.value * term.value, by.power + term.power)
    return product(by, term)


def _hides(call: Call) -> bool:
    """Is a mask with entries of minus infinity added?"""
    masks = [call.arguments[name] for name in ("self", "other") if isinstance(call.arguments[name], Folded)]
    return any(float(mask.values[0].min()) < HIDDEN for mask in masks if mask.values[0].numel())


def multiply(call: Call) -> View:
    return product(call.term("self"), call.term("other"))


def divide(call: Call) -> View:
    if call.has("rounding_mode"):
        raise Untraceable("NX703", "division with rounding", "use true division")
    this, other = call.term("self"), call.term("other")
    if isinstance(this, View) and isinstance(other, Figure) and other.value and not _hidden(this):
        return this.times(Figure(1 / other.value, -other.power))
    return pointwise("quotient", OVER, this, other)


def power(call: Call) -> View:
    exponent = call.plain("exponent")
    if not isinstance(exponent, (int, float)):
        raise Untraceable("NX703", "a power whose exponent is a tensor", "use a number")

    def write(base: tuple[str, int]) -> tuple[str, int]:
        return f"{wrap(*base, ATOM)}^{_exponent(float(exponent))}", PRODUCT

    return pointwise(f"power {Fraction(exponent)}", write, call.view("self"))


def _exponent(value: float) -> str:
    return f"{value:.17g}" if value >= 0 else f"(-{-value:.17g})"


def function(template: str, rule: str = "none") -> Rule:
    def apply(call: Call) -> View:
        return pointwise(rule, written(template), call.view("self"))

    return apply


def gelu(call: Call) -> View:
    name = "gelu_tanh" if call.plain("approximate", "none") == "tanh" else "gelu"
    return pointwise("none", written(name + "({})"), call.view("self"))


def leaky_relu(call: Call) -> View:
    slope = call.plain("negative_slope", 0.01)
    return pointwise("even", written(f"leaky_relu({{}}, {slope!r})"), call.view("self"))


def elu(call: Call) -> View:
    alpha = call.plain("alpha", 1)
    if call.plain("scale", 1) != 1 or call.plain("input_scale", 1) != 1:
        raise Untraceable("NX703", "elu with scales", "use elu, celu or selu")
    how = "elu({})" if alpha == 1 else f"(relu({{0}}) + {alpha!r} * elu(min({{0}}, 0)))"
    return pointwise("none", written(how), call.view("self"))


def softplus(call: Call) -> View:
    beta = call.plain("beta", 1)
    if call.plain("threshold", 20) != 20:
        raise Untraceable("NX703", "softplus with a threshold", "use threshold = 20")
    how = "softplus({})" if beta == 1 else f"(softplus({beta!r} * ({{}})) / {beta!r})"
    return pointwise("none", written(how), call.view("self"))


def hardtanh(call: Call) -> View:
    low, high = call.plain("min_val", -1), call.plain("max_val", 1)
    how = "hardtanh({})" if (low, high) == (-1, 1) else f"min(max({{}}, {low!r}), {high!r})"
    return pointwise("none", written(how), call.view("self"))


def clamp(call: Call) -> View:
    x = call.view("self")
    for name, how in (("min", "max({}, {})"), ("max", "min({}, {})")):
        if call.has(name):
            bound = call.term(name)
            tiny = name == "min" and isinstance(bound, Figure) and 0 < bound.value <= 1e-6
            x = pointwise("first" if tiny else "same", written(how), x, bound)
    return x


def binary(template: str) -> Rule:
    return lambda call: pointwise("same", written(template), call.view("self"), call.term("other"))


#: Operations whose results may be conditions.
_ORDERS = ("gt", "lt", "ge", "le")


def where(call: Call) -> View:
    condition, this, that = call.arguments["condition"], call.term("self"), call.term("other")
    return chosen(condition, this, that, call)


def masked_fill(call: Call) -> View:
    found = call.pair("value")
    fill = Figure(HIDDEN) if float(found[0]) < HIDDEN else call.figure("value")
    return chosen(call.arguments["mask"], fill, call.view("self"), call)


def chosen(condition: Any, this: View | Figure, that: View | Figure, call: Call) -> View:
    if isinstance(condition, View) and not (isinstance(condition.step, Pointwise) and condition.step.label in _ORDERS):
        raise Untraceable("NX703", "a condition that is computed from parameters", "compare with <, <=, > or >=")
    hides = any(isinstance(t, Figure) and t.value <= HIDDEN for t in (this, that))
    return pointwise("chosen", written("where({2}, {0}, {1})"), this, that, call.tensor(condition), hides=hides)


# -------------------------------------------------------------------------------------------------- products and sums


def contract(left: View, right: View, labels: str, scale: Figure = ONE) -> View:
    """einsum of two tensors: `contract(x, w, "bi,oi->bo")`."""
    inputs, _, result = labels.partition("->")
    one, _, other = inputs.partition(",")
    places = {c: [v.groups[s.index(c)] for v, s in ((left, one), (right, other)) if c in s] for c in one + other}
    shared = {label: joint(groups) for label, groups in places.items()}
    slots, out = own([shared[label] for label in result])
    if left.is_matrix and right.is_matrix:
        raise Untraceable(
            "NX706", "a product of two weight matrices", "apply the matrices to a vector one after the other"
        )
    if 0.0 in (left.constant, right.constant):
        return repeated(0.0, [_extent(shared[label]) for label in result])
    return seen(Contraction(slots, out, left, right, (one, other, result), scale))


def _extent(shared: list[tuple[Dimension, bool]]) -> Sizes:
    return math.prod(d.sizes[0] for d, _ in shared), math.prod(d.sizes[1] for d, _ in shared)


def addmm(call: Call) -> View:
    if call.plain("beta", 1) != 1 or call.plain("alpha", 1) != 1:
        raise Untraceable("NX703", "addmm with factors", "multiply first")
    return plus(contract(call.view("mat1"), call.view("mat2"), "ij,jk->ik"), call.view("self"))


def matmul(call: Call) -> View:
    names = [n for n in ("self", "other", "mat2", "vec") if n in call.arguments]
    one, other = (call.view(n) for n in names)
    a, b = len(one.groups), len(other.groups)
    batch = "abcdefgh"[: max(a, b, 2) - 2]
    left = "j" if a == 1 else batch[len(batch) - a + 2 :] + "ij"
    right = "j" if b == 1 else batch[len(batch) - b + 2 :] + "jk"
    return contract(one, other, f"{left},{right}->{batch}{'i' if a > 1 else ''}{'k' if b > 1 else ''}")


def einsum(call: Call) -> View:
    """Operand after operand, so that matrices are applied to vectors."""
    equation, views = call.plain("equation").replace(" ", ""), call.views("tensors")
    inputs, arrow, result = equation.partition("->")
    parts = inputs.split(",")
    if "." in equation:
        parts, result = _without_ellipsis(parts, result, views)
    if not arrow:
        result = "".join(sorted(c for c in set("".join(parts)) if "".join(parts).count(c) == 1))
    if any(len(set(p)) < len(p) for p in parts):
        raise Untraceable("NX703", f"einsum `{equation}`", "write it without an index that an operand repeats")
    left = list(zip(views, parts, strict=True))
    first = next((k for k, (v, _) in enumerate(left) if not v.is_matrix), 0)
    x, labels = left.pop(first)
    while left:
        near = [k for k, (_, p) in enumerate(left) if set(p) & set(labels)]
        other, theirs = left.pop(near[0] if near else 0)
        needed = set(result).union(*(p for _, p in left))
        kept = "".join(c for c in dict.fromkeys(labels + theirs) if c in needed)
        kept = kept if left else result
        x, labels = contract(x, other, f"{labels},{theirs}->{kept}"), kept
    if labels == result:
        return x
    x = reduce(x, "sum", [k for k, c in enumerate(labels) if c not in result])
    rest = [c for c in labels if c in result]
    return x.regrouped([x.groups[rest.index(c)] for c in result])


def _without_ellipsis(parts: list[str], result: str, views: list[View]) -> tuple[list[str], str]:
    """Letters for the dimensions that `...` stands for."""
    counts = [len(v.groups) - len(p.replace("...", "")) if "..." in p else 0 for p, v in zip(parts, views, strict=True)]
    free = [c for c in "ABCDEFGHIJ" if c not in "".join(parts)][: max(counts)]
    own = ["".join(free[len(free) - n :]) for n in counts]
    return [p.replace("...", letters) for p, letters in zip(parts, own, strict=True)], result.replace(
        "...", "".join(free)
    )


def gather(call: Call) -> View:
    """Entries at positions that differ along the other dimensions: sums with ones at the positions."""
    x, dim = call.view("self"), call.plain("dim")
    index = call.arguments["index"]
    if not isinstance(index, Folded):
        raise Untraceable("NX703", "positions are computed from parameters", "route softly")
    dim %= len(x.groups)
    (size, grown) = x.shape[dim]
    positions = index.values[0]
    if size != grown or any(a != b for a, (b, _) in zip(positions.shape, x.shape, strict=True) if a != b and a > b):
        raise Untraceable(
            "NX704", "gather along a dimension that grows with the width", "gather along finite dimensions"
        )
    ones = torch.nn.functional.one_hot(positions.long() % size, size).double()
    letters = "abcdefgh"[: len(x.groups)]
    table = letters.replace(letters[dim], "z") + letters[dim]
    return contract(x, call.tensor(Folded((ones, ones), index.name)), f"{letters},{table}->{table[:-1]}")


def index_add(call: Call) -> View:
    """Rows added to others at positions that are data."""
    x, source, dim = call.view("self"), call.view("source"), call.plain("dim")
    index = call.arguments["index"]
    if not isinstance(index, Folded):
        raise Untraceable("NX703", "positions are computed from parameters", "route softly")
    dim %= len(x.groups)
    ones = torch.nn.functional.one_hot(index.values[0].long(), x.shape[dim][0]).double()
    letters = "abcdefgh"[: len(x.groups)]
    into = f"{letters},{letters[dim]}z->{letters.replace(letters[dim], 'z')}"
    added = contract(source, call.tensor(Folded((ones, ones), index.name)), into)
    if call.has("alpha") and call.figure("alpha") != ONE:
        added = product(call.figure("alpha"), added)
    return plus(x, added)


def embedding_bag(call: Call) -> list[View]:
    """Sums or means of rows, at positions that are data."""
    weight, mode = call.view("weight"), call.plain("mode", 0)
    indices, offsets = (call.arguments[n] for n in ("indices", "offsets"))
    if (
        mode == 2
        or call.has("per_sample_weights")
        or not isinstance(indices, Folded)
        or not isinstance(offsets, Folded)
    ):
        raise Untraceable("NX703", "bags with weights or maxima", "use sums or means of an embedding")
    unit = torch.eye(weight.shape[0][0], dtype=torch.float64)
    last = bool(call.plain("include_last_offset", False))
    ones = torch.nn.functional.embedding_bag(
        indices.values[0], unit, offsets.values[0], mode=("sum", "mean")[mode], include_last_offset=last
    )
    return [contract(weight, call.tensor(Folded((ones, ones), indices.name)), "vn,bv->bn")]


def bilinear(call: Call) -> View:
    raise Untraceable(
        "NX704", "a weight with two dimensions that are both summed", "apply a linear layer to one input, then multiply"
    )


def _dims(call: Call, name: str, x: View) -> list[int]:
    found = call.plain(name) if call.has(name) else None
    if found is None or found == []:
        return [*range(len(x.groups))]
    return [d % len(x.groups) for d in ([found] if isinstance(found, int) else found)]


def reduce(x: View, name: str, over: list[int], keep: bool = False) -> View:
    shared = [[] if k in over else joint([g]) for k, g in enumerate(x.groups)]
    slots, out = own(shared)
    step = Reduction(slots, out, name, x, over)
    return View(step, [g for k, g in enumerate(out) if keep or k not in over])


def reduction(name: str) -> Rule:
    def apply(call: Call) -> View:
        x = call.view("self")
        return reduce(x, name, _dims(call, "dim", x), bool(call.plain("keepdim", False)))

    return apply


def variance(call: Call) -> View:
    x = call.view("self")
    over = _dims(call, "dim", x)
    correction = float(
        call.plain("correction", 1.0) if "correction" in call.arguments else call.plain("unbiased", True)
    )
    one, other = (math.prod(x.shape[k][side] for k in over) for side in (0, 1))
    if correction and one != other:
        raise Untraceable("NX703", "a variance over neurons with Bessel's correction", "pass correction=0")
    centred = pointwise("same", MINUS, x, reduce(x, "mean", over, True))
    squares = pointwise("power 2", written("square({})"), centred)
    found = reduce(squares, "mean", over, bool(call.plain("keepdim", False)))
    return found if not correction else product(Figure(one / (one - correction)), found)


def standard_deviation(call: Call) -> View:
    return pointwise("power 1/2", written("sqrt({})"), variance(call))


def vector_norm(call: Call) -> View:
    x = call.view("self")
    name = "ord" if "ord" in call.arguments else "p"
    order = call.plain(name, 2.0)
    if order not in (1, 2):
        raise Untraceable("NX703", f"a norm of order {order}", "use norms of order 1 or 2")
    over, keep = _dims(call, "dim", x), bool(call.plain("keepdim", False))
    if order == 1:
        return reduce(pointwise("even", written("abs({})"), x), "sum", over, keep)
    squares = pointwise("power 2", written("square({})"), x)
    return pointwise("power 1/2", written("sqrt({})"), reduce(squares, "sum", over, keep))


def filled(call: Call) -> View:
    """A tensor of one number, in the shape of another."""
    value = {"zeros_like": 0.0, "new_zeros": 0.0, "ones_like": 1.0, "new_ones": 1.0}.get(call.name)
    figure = call.figure("fill_value") if value is None else Figure(value)
    return repeated(1.0, call.shapes).times(figure) if figure.value else repeated(0.0, call.shapes)


def largest(call: Call) -> View | list[View]:
    return _extreme(call, "max")


def smallest(call: Call) -> View | list[View]:
    return _extreme(call, "min")


def _extreme(call: Call, name: str) -> View | list[View]:
    """Over all entries, over a dimension (its positions are not traced), or of two tensors."""
    if "other" in call.arguments:
        return binary(f"{name}({{}}, {{}})")(call)
    x = call.view("self")
    found = reduce(x, name, _dims(call, "dim", x), bool(call.plain("keepdim", False)))
    return [found] if "dim" in call.arguments else found


def comparison(template: str) -> Rule:
    """A number that is positive where the comparison holds: for `where`."""

    def apply(call: Call) -> View:
        return pointwise("same", written(template), call.view("self"), call.term("other"))

    return apply


def across(x: View, name: str, over: list[int], eps: float = 0.0) -> View:
    slots, out = own([joint([g]) for g in x.groups])
    return seen(Across(slots, out, name, x, over, eps))


def softmax(call: Call) -> View:
    x = call.view("self")
    return across(x, "softmax", _dims(call, "dim", x))


def log_softmax(call: Call) -> View:
    x = call.view("self")
    return pointwise("same", MINUS, x, reduce(x, "logsumexp", _dims(call, "dim", x), True))


def cumulate(call: Call) -> View:
    x = call.view("self")
    return across(x, "cumsum", _dims(call, "dim", x))
