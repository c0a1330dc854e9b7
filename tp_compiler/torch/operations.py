"""What each operation of ATen means as steps: one row for each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from tp_compiler.torch import layout
from tp_compiler.torch.calls import HIDDEN, Call, Folded
from tp_compiler.torch.dimensions import Dimension, Group, Leaf, Sizes, leaves
from tp_compiler.torch.refusals import Untraceable
from tp_compiler.torch.steps import (
    Across,
    Constants,
    Contraction,
    Figure,
    Pointwise,
    Reduction,
    View,
    Windows,
    figure,
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
    hides = hides or any(isinstance(t.step, Pointwise) and t.step.hides and rule in PASSES for t in tensors)
    return seen(Pointwise(slots, groups, rule, write, list(arguments), hides))


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
    if (
        isinstance(other, View)
        and isinstance(this, View)
        and _broadcast([this.shape, other.shape]) == this.shape
        and other.constant == 0
    ):
        return this
    return pointwise("same", write, this, other, hides=_hides(call))


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
    return pointwise("quotient", OVER, call.term("self"), call.term("other"))


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


def defaults_only(template: str, **known: float) -> Rule:
    """A function whose options must have the values that the language knows."""

    def apply(call: Call) -> View:
        for name, value in known.items():
            if call.plain(name, value) != value:
                raise Untraceable("NX703", f"`{name}` is {call.plain(name)}, not {value}", f"use {name} = {value}")
        return pointwise("none", written(template), call.view("self"))

    return apply


def clamp(call: Call) -> View:
    x = call.view("self")
    for name, how in (("min", "max({}, {})"), ("max", "min({}, {})")):
        if call.has(name):
            x = pointwise("same", written(how), x, call.term(name))
    return x


def binary(template: str) -> Rule:
    return lambda call: pointwise("same", written(template), call.view("self"), call.term("other"))


def where(call: Call) -> View:
    condition, this, that = call.arguments["condition"], call.term("self"), call.term("other")
    return _chosen(condition, this, that, call)


def masked_fill(call: Call) -> View:
    found = call.pair("value")
    fill = Figure(HIDDEN) if float(found[0]) < HIDDEN else call.figure("value")
    return _chosen(call.arguments["mask"], fill, call.view("self"), call)


def _chosen(condition: Any, this: View | Figure, that: View | Figure, call: Call) -> View:
    if not isinstance(condition, Folded):
        raise Untraceable("NX703", "a condition that is computed from parameters", "use relu, maximum or clamp")
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


def linear(call: Call) -> View:
    x = call.view("input")
    return _with_bias(_linear(x, call.view("weight")), call, "bias")


def _linear(x: View, weight: View) -> View:
    batch = "abcdefgh"[: len(x.groups) - 1]
    return contract(x, weight, f"{batch}i,oi->{batch}o" if len(weight.groups) == 2 else f"{batch}i,i->{batch}")


def _with_bias(x: View, call: Call, name: str) -> View:
    return pointwise("same", PLUS, x, call.view(name)) if call.has(name) else x


def addmm(call: Call) -> View:
    if call.plain("beta", 1) != 1 or call.plain("alpha", 1) != 1:
        raise Untraceable("NX703", "addmm with factors", "multiply first")
    return pointwise("same", PLUS, contract(call.view("mat1"), call.view("mat2"), "ij,jk->ik"), call.view("self"))


def matmul(call: Call) -> View:
    names = [n for n in ("self", "other", "mat2") if n in call.arguments]
    one, other = (call.view(n) for n in names)
    a, b = len(one.groups), len(other.groups)
    batch = "abcdefgh"[: max(a, b, 2) - 2]
    left = "j" if a == 1 else batch[len(batch) - a + 2 :] + "ij"
    right = "j" if b == 1 else batch[len(batch) - b + 2 :] + "jk"
    return contract(one, other, f"{left},{right}->{batch}{'i' if a > 1 else ''}{'k' if b > 1 else ''}")


def einsum(call: Call) -> View:
    equation, views = call.plain("equation").replace(" ", ""), call.views("tensors")
    inputs, arrow, _ = equation.partition("->")
    parts = inputs.split(",")
    if len(views) != 2 or not arrow or "." in equation or any(len(set(p)) < len(p) for p in parts):
        raise Untraceable("NX703", f"einsum `{equation}`", "write it with two operands, `->`, and no repeated index")
    return contract(views[0], views[1], equation)


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
    if call.plain("correction", 1) != 0 or call.plain("unbiased", False):
        raise Untraceable("NX703", "a variance with Bessel's correction", "pass correction=0")
    centred = pointwise("same", MINUS, x, reduce(x, "mean", over, True))
    squares = pointwise("power 2", written("square({})"), centred)
    return reduce(squares, "mean", over, bool(call.plain("keepdim", False)))


def standard_deviation(call: Call) -> View:
    return pointwise("power 1/2", written("sqrt({})"), variance(call))


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


# -------------------------------------------------------------------------------------------------------- normalisation


def layer_norm(call: Call) -> View:
    return _normalised(call, "layernorm", 1e-5)


def rms_norm(call: Call) -> View:
    return _normalised(call, "rmsnorm", 2.220446049250313e-16)  # of doubles


def _normalised(call: Call, name: str, eps: float) -> View:
    """Over the last dimensions, then times a weight, plus a bias."""
    x = call.view("input")
    count = len(call.pair("normalized_shape")[0])
    x = across(x, name, [*range(len(x.groups) - count, len(x.groups))], call.plain("eps", eps))
    if call.has("weight"):
        x = product(call.view("weight"), x)
    return _with_bias(x, call, "bias")


def _channels(x: View, count: int) -> View:
    """Weights over channels, the second dimension, against a tensor of `count` dimensions."""
    return x.regrouped([*x.groups, *([] for _ in range(count - 2))])


def _channelwise(x: View, call: Call) -> View:
    if call.has("weight"):
        x = product(_channels(call.view("weight"), len(x.groups)), x)
    return _channel_bias(x, call)


def _channel_bias(x: View, call: Call) -> View:
    return pointwise("same", PLUS, x, _channels(call.view("bias"), len(x.groups))) if call.has("bias") else x


def group_norm(call: Call) -> View:
    x = call.view("input")
    split = layout.divided(x, 1, call.pair("num_groups"))
    normal = across(split, "layernorm", [*range(2, len(split.groups))], call.plain("eps", 1e-5))
    return _channelwise(layout.joined(normal, 1), call)


def batch_norm(call: Call) -> View:
    return _over_batch(call) if call.plain("training", False) else _running(call)


def _over_batch(call: Call) -> View:
    x = call.view("input")
    return _channelwise(across(x, "layernorm", [k for k in range(len(x.groups)) if k != 1], call.plain("eps")), call)


def _running(call: Call) -> View:
    x = call.view("input")
    mean, var = (_channels(call.view(n), len(x.groups)) for n in ("running_mean", "running_var"))
    eps = Figure(call.plain("eps"))
    root = pointwise("power 1/2", written("sqrt({})"), pointwise("same", PLUS, var, eps))
    return _channelwise(pointwise("quotient", OVER, pointwise("same", MINUS, x, mean), root), call)


def batch_norm_evaluated(call: Call) -> list[View]:
    return [_running(call)]


def batch_norm_trained(call: Call) -> list[View]:
    return [_over_batch(call)]


# ------------------------------------------------------------------------------------------------------ recurrent cells


def _cell(call: Call) -> tuple[View, list[View], list[View]]:
    """The hidden state's predecessor, and the gates from the input and from the hidden state."""
    hidden = call.views("hx")[0] if isinstance(call.arguments["hx"], list) else call.view("hx")
    sides = []
    for x, weight, bias in ((call.view("input"), "w_ih", "b_ih"), (hidden, "w_hh", "b_hh")):
        sides.append(_with_bias(_linear(x, call.view(weight)), call, bias))
    count = 4 if call.name == "lstm_cell" else 3
    parts = []
    for side in sides:
        size = side.shape[-1]
        length = (size[0] // count, size[1] // count)
        dim = len(side.groups) - 1
        parts.append([layout.section(side, dim, (k * length[0], k * length[1]), length) for k in range(count)])
    return hidden, parts[0], parts[1]


def gru_cell(call: Call) -> View:
    hidden, x, h = _cell(call)
    reset, update = (pointwise("none", written("sigmoid({})"), _plus(x[k], h[k])) for k in (0, 1))
    new = pointwise("none", written("tanh({})"), _plus(x[2], product(reset, h[2])))
    kept = pointwise("same", MINUS, Figure(1.0), update)
    return _plus(product(kept, new), product(update, hidden))


def lstm_cell(call: Call) -> list[View]:
    _, x, h = _cell(call)
    gates = [_plus(a, b) for a, b in zip(x, h, strict=True)]
    i, f, o = (pointwise("none", written("sigmoid({})"), gates[k]) for k in (0, 1, 3))
    new = pointwise("none", written("tanh({})"), gates[2])
    cell = _plus(product(f, call.views("hx")[1]), product(i, new))
    return [product(o, pointwise("none", written("tanh({})"), cell)), cell]


def _plus(left: View, right: View) -> View:
    if left.constant == 0:
        left, right = right, left
    return left if right.constant == 0 else pointwise("same", PLUS, left, right)


# ------------------------------------------------------------------------------------------------------------ attention


def attention(call: Call) -> View:
    q, k, v = (call.view(n) for n in ("query", "key", "value"))
    if call.plain("dropout_p", 0.0):
        raise _dropout()
    scale = call.figure("scale") if call.has("scale") else _inverse_root(q, call)
    b = "abcdefgh"[: len(q.groups) - 2]
    if call.plain("enable_gqa", False):
        k, v = (_repeated_heads(x, q) for x in (k, v))
    logits = contract(q, k, f"{b}sd,{b}td->{b}st", scale)
    logits = _masked(logits, call)
    weights = across(logits, "softmax", [len(logits.groups) - 1])
    return contract(weights, v, f"{b}st,{b}td->{b}sd")


def _inverse_root(q: View, call: Call) -> Figure:
    one, other = q.shape[-1]
    return figure(1 / math.sqrt(one), 1 / math.sqrt(other), call.widths)


def _repeated_heads(x: View, q: View) -> View:
    """Keys or values of grouped queries, repeated for each query of a group."""
    ours, theirs = q.shape[-3], x.shape[-3]
    return layout.repeat(x, len(x.groups) - 3, (ours[0] // theirs[0], ours[1] // theirs[1]))


def _masked(logits: View, call: Call) -> View:
    if call.plain("is_causal", False):
        return _causal(logits)
    if not call.has("attn_mask"):
        return logits
    mask = call.arguments["attn_mask"]
    if isinstance(mask, Folded) and mask.values[0].dtype.is_floating_point is False:
        return _chosen(mask, logits, Figure(HIDDEN), call)
    hides = isinstance(mask, Folded) and float(mask.values[0].min()) < HIDDEN
    return pointwise("same", PLUS, logits, call.tensor(mask), hides=hides)


def _causal(logits: View) -> View:
    """Position s sees t only if t <= s: axes as arguments, whose names are their positions."""
    ends = logits.groups[-2:]
    if any(len(leaves(end)) > 1 for end in ends) or any(p.dimension.is_width for end in ends for p in leaves(end)):
        raise Untraceable("NX703", "a causal mask over a split or growing axis", "pass the mask as a tensor")
    if not all(map(leaves, ends)):
        return logits  # one position
    positions = []
    for k, end in enumerate(ends):
        groups: list[Group] = [[], []]
        groups[k] = [Leaf(0, end[0].dimension)]
        positions.append(View(Constants([end[0].dimension], groups, None, "position"), groups))
    template = "where({1} - {2} + 1/2, {0}, -1e9)"
    return pointwise("first", written(template), logits, *positions, hides=True)


# ---------------------------------------------------------------------------------------------- convolution and pooling


def windows(x: View, dim: int, length: int, stride: int, padding: int) -> View:
    """Dimension `dim` becomes two: the windows' positions, and the place in the window."""
    (size, _) = x.shape[dim]
    if padding == 0:
        count = (size - length) // stride + 1
        if length == 1:
            x = x if stride == 1 else layout.look_up(x, dim, np.arange(0, size, stride)[:count], "strided")
            return x.inserted(dim + 1)
        if count == 1:
            x = x if length == size else layout.look_up(x, dim, np.arange(length), "window")
            return x.inserted(dim)
    if len(leaves(x.groups[dim])) != 1:
        raise Untraceable("NX703", "windows over an axis of one position, or a split one", "use a plain axis")
    count = (size + 2 * padding - length) // stride + 1
    shared = [joint([g]) for g in x.groups]
    target = shared[dim] if (count, stride) == (size, 1) else [(Dimension((count, count)), True)]
    if count == 1 or length == 1:
        raise Untraceable("NX703", "a window of length 1, or a single window, with padding", "pad less")
    shared[dim : dim + 1] = [target, [(Dimension((length, length)), True)]]
    slots, out = own(shared)
    return seen(Windows(slots, out, x, dim, stride, padding))


def _each(value: Any, count: int) -> list[int]:
    found = [value] * count if isinstance(value, int) else list(value)
    return found * count if len(found) == 1 else found


def convolution(call: Call) -> View:
    x, weight = call.view("input"), call.view("weight")
    space = len(weight.groups) - 2
    stride, dilation = (_each(call.plain(n, 1), space) for n in ("stride", "dilation"))
    padding = _padding(call, weight, space)
    if any(d != 1 for d in dilation):
        raise Untraceable("NX703", "a dilated convolution", "use dilation = 1")
    for k in range(space):
        x = windows(x, len(x.groups) - space + k, weight.shape[2 + k][0], stride[k], padding[k])
    places, inner = "tuv"[:space], "xyz"[:space]
    cut = "".join(a + b for a, b in zip(places, inner, strict=True))
    groups = call.pair("groups") if call.has("groups") else (1, 1)
    plain = f"bi{cut},oi{inner}->bo{places}"
    made = contract(x, weight, plain) if groups == (1, 1) else _grouped(x, weight, groups, cut, inner, places)
    return _channel_bias(made, call)


def _padding(call: Call, weight: View, space: int) -> list[int]:
    given = call.plain("padding", 0)
    if given == "valid":
        return [0] * space
    if given == "same":
        lengths = [weight.shape[2 + k][0] for k in range(space)]
        if any(n % 2 == 0 for n in lengths):
            raise Untraceable("NX703", "padding='same' with a window of even length", "use windows of odd length")
        return [n // 2 for n in lengths]
    return _each(given, space)


def _grouped(x: View, weight: View, count: tuple[int, int], cut: str, inner: str, places: str) -> View:
    x, weight = layout.divided(x, 1, count), layout.divided(weight, 0, count)
    return layout.joined(contract(x, weight, f"bgi{cut},goi{inner}->bgo{places}"), 1)


def pooling(name: str) -> Rule:
    def apply(call: Call) -> View:
        x = call.view("self")
        size = call.plain("kernel_size")
        space = int(call.name[-2])
        lengths = _each(size, space)
        strides = _each(call.plain("stride", lengths) or lengths, space)
        plain = not any(_each(call.plain("padding", 0), space)) and not call.plain("ceil_mode", False)
        if not plain or any(d != 1 for d in _each(call.plain("dilation", 1), space)):
            raise Untraceable("NX703", "pooling with padding, dilation or ceil_mode", "pool without them")
        for k in range(space):
            dim = len(x.groups) - space + k
            x = windows(x, dim, lengths[k], strides[k], 0)
            x = reduce(x, name, [dim + 1])
        return x

    return apply


def adaptive_average(call: Call) -> View:
    x = call.view("self")
    wanted = call.plain("output_size")
    space = 1 if isinstance(wanted, int) else len(wanted)
    if any(n != 1 for n in _each(wanted, space)):
        raise Untraceable("NX703", "adaptive pooling to more than one position", "pool by windows")
    return reduce(x, "mean", [*range(len(x.groups) - space, len(x.groups))], keep=True)


def dropout(call: Call) -> View:
    if call.plain("train", call.plain("training", False)) and call.plain("p"):
        raise _dropout()
    return call.view("input")


def native_dropout(call: Call) -> list[View]:
    return [dropout(call)]


def _dropout() -> Untraceable:
    return Untraceable("NX707", "dropout with p > 0 in training mode", "trace with training=False, or set p = 0")


def stopped(call: Call) -> View:
    return pointwise("even", written("stop({})"), call.view("self"))


def checked(call: Call) -> list[View]:
    """An assertion of the exporter."""
    return []


SAME = layout.unchanged


def cast(call: Call) -> View:
    """To another precision: limits have none."""
    kind = call.plain("dtype")
    if isinstance(kind, torch.dtype) and not kind.is_floating_point:
        raise Untraceable("NX703", f"a conversion to {kind}", "keep activations real")
    return call.view("self")


#: ATen operation -> its rule. `tpc trace` refuses what has no row, by name.
OPERATIONS: dict[str, Rule] = {
    "abs": function("abs({})", "even"),
    "adaptive_avg_pool1d": adaptive_average,
    "adaptive_avg_pool2d": adaptive_average,
    "add": add,
    "addmm": addmm,
    "alias": SAME,
    "amax": reduction("max"),
    "assert_tensor_metadata": checked,
    "atan": function("atan({})"),
    "avg_pool1d": pooling("mean"),
    "avg_pool2d": pooling("mean"),
    "batch_norm": batch_norm,
    "bmm": matmul,
    "cat": layout.concatenate,
    "chunk": layout.chunk,
    "clamp": clamp,
    "clamp_min": clamp,
    "clamp_max": clamp,
    "clone": SAME,
    "contiguous": SAME,
    "conv1d": convolution,
    "conv2d": convolution,
    "conv3d": convolution,
    "cos": function("cos({})"),
    "cosh": function("cosh({})"),
    "cumsum": cumulate,
    "detach": stopped,
    "div": divide,
    "dropout": dropout,
    "einsum": einsum,
    "elu": defaults_only("elu({})", alpha=1, scale=1, input_scale=1),
    "embedding": layout.embedding,
    "erf": function("erf({})"),
    "erfc": function("erfc({})"),
    "exp": function("exp({})"),
    "expand": layout.expand,
    "expm1": function("(exp({}) - 1)"),
    "flatten": layout.view,
    "flip": layout.flip,
    "gelu": gelu,
    "group_norm": group_norm,
    "gru_cell": gru_cell,
    "hardsigmoid": function("hardsigmoid({})"),
    "hardswish": function("hardswish({})"),
    "hardtanh": defaults_only("hardtanh({})", min_val=-1, max_val=1),
    "index": layout.index,
    "index_select": layout.index_select,
    "layer_norm": layer_norm,
    "leaky_relu": leaky_relu,
    "linear": linear,
    "log": function("log({})"),
    "log1p": function("log(1 + {})"),
    "log_sigmoid": function("logsigmoid({})"),
    "log_softmax": log_softmax,
    "logsumexp": reduction("logsumexp"),
    "lstm_cell": lstm_cell,
    "mT": layout.reverse_axes,
    "masked_fill": masked_fill,
    "matmul": matmul,
    "matrix_H": layout.reverse_axes,
    "max_pool1d": pooling("max"),
    "max_pool2d": pooling("max"),
    "maximum": binary("max({}, {})"),
    "mean": reduction("mean"),
    "minimum": binary("min({}, {})"),
    "mish": function("mish({})"),
    "mm": matmul,
    "mul": multiply,
    "mv": matmul,
    "native_batch_norm_legit": batch_norm_trained,
    "native_batch_norm_legit_functional": batch_norm_trained,
    "native_batch_norm_legit_no_training": batch_norm_evaluated,
    "native_dropout": native_dropout,
    "neg": lambda call: pointwise("even", negated, call.view("self")),
    "numpy_T": layout.reverse_axes,
    "permute": layout.permute,
    "pow": power,
    "reciprocal": lambda call: pointwise("quotient", OVER, Figure(1.0), call.view("self")),
    "relu": function("relu({})", "even"),
    "relu6": function("relu6({})"),
    "repeat_interleave": layout.repeat_interleave,
    "reshape": layout.view,
    "rms_norm": rms_norm,
    "rsqrt": function("(1 / sqrt({}))", "power -1/2"),
    "rsub": reversed_subtract,
    "scaled_dot_product_attention": attention,
    "select": layout.select,
    "selu": function("selu({})"),
    "sigmoid": function("sigmoid({})"),
    "sign": function("sign({})"),
    "silu": function("silu({})"),
    "sin": function("sin({})"),
    "sinh": function("sinh({})"),
    "slice": layout.slices,
    "softmax": softmax,
    "softplus": defaults_only("softplus({})", beta=1, threshold=20),
    "split": layout.split,
    "split_with_sizes": layout.split,
    "sqrt": function("sqrt({})", "power 1/2"),
    "square": function("square({})", "power 2"),
    "squeeze": layout.squeeze,
    "stack": layout.stack,
    "std": standard_deviation,
    "sub": subtract,
    "sum": reduction("sum"),
    "t": layout.reverse_axes,
    "tan": function("tan({})"),
    "tanh": function("tanh({})"),
    "to": cast,
    "to_copy": cast,
    "transpose": layout.transpose,
    "unbind": layout.unbind,
    "unflatten": layout.view,
    "unsafe_view": layout.view,
    "unsqueeze": layout.unsqueeze,
    "var": variance,
    "view": layout.view,
    "where": where,
}
