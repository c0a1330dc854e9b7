"""Layers of PyTorch as steps: linear, normalisation, recurrent cells, attention, dropout."""

from __future__ import annotations

import math

from tp_compiler.torch import layout
from tp_compiler.torch.arithmetic import (
    MINUS,
    OVER,
    PLUS,
    across,
    chosen,
    contract,
    plus,
    pointwise,
    product,
    written,
)
from tp_compiler.torch.calls import HIDDEN, Call, Folded
from tp_compiler.torch.dimensions import Group, Leaf, leaves
from tp_compiler.torch.refusals import Untraceable
from tp_compiler.torch.steps import Constants, Figure, View, called, figure

# ------------------------------------------------------------------------------------------------------------- linear


def linear(call: Call) -> View:
    x = call.view("input")
    return _with_bias(_linear(x, call.view("weight")), call, "bias")


def _linear(x: View, weight: View) -> View:
    batch = "abcdefgh"[: len(x.groups) - 1]
    return contract(x, weight, f"{batch}i,oi->{batch}o" if len(weight.groups) == 2 else f"{batch}i,i->{batch}")


def _with_bias(x: View, call: Call, name: str) -> View:
    return plus(x, call.view(name)) if call.has(name) else x


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
    return plus(x, _channels(call.view("bias"), len(x.groups))) if call.has("bias") else x


def group_norm(call: Call) -> View:
    x = call.view("input")
    split = layout.divided(x, 1, call.pair("num_groups"))
    normal = called("normal", across(split, "layernorm", [*range(2, len(split.groups))], call.plain("eps", 1e-5)))
    return _channelwise(layout.joined(normal, 1), call)


def instance_norm(call: Call) -> View:
    if not call.plain("use_input_stats", True):
        return _running(call)
    x = call.view("input")
    normal = across(x, "layernorm", [*range(2, len(x.groups))], call.plain("eps", 1e-5))
    return _channelwise(called("normal", normal), call)


def batch_norm(call: Call) -> View:
    return _over_batch(call) if call.plain("training", False) else _running(call)


def _over_batch(call: Call) -> View:
    x = call.view("input")
    normal = across(x, "layernorm", [k for k in range(len(x.groups)) if k != 1], call.plain("eps"))
    return _channelwise(called("normal", normal), call)


def _running(call: Call) -> View:
    x = call.view("input")
    mean, var = (_channels(call.view(n), len(x.groups)) for n in ("running_mean", "running_var"))
    eps = Figure(call.plain("eps"))
    root = pointwise("power 1/2", written("sqrt({})"), pointwise("same", PLUS, var, eps))
    centred = x if mean.constant == 0 else pointwise("same", MINUS, x, mean)
    return _channelwise(called("normal", pointwise("quotient", OVER, centred, root)), call)


def batch_norm_evaluated(call: Call) -> list[View]:
    return [_running(call)]


def batch_norm_trained(call: Call) -> list[View]:
    return [_over_batch(call)]


# ------------------------------------------------------------------------------------------------------ recurrent cells


def _cell(call: Call) -> tuple[View, list[View], list[View]]:
    """The hidden state's predecessor, and the gates from the input and from the hidden state."""
    hidden = call.views("hx")[0] if isinstance(call.arguments["hx"], list) else call.view("hx")
    sides = []
    for x, weight, bias, role in ((call.view("input"), "w_ih", "b_ih", "input"), (hidden, "w_hh", "b_hh", "hidden")):
        sides.append(called(role, _with_bias(_linear(x, call.view(weight)), call, bias)))
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
    reset, update = (
        called(role, pointwise("none", written("sigmoid({})"), plus(x[k], h[k])))
        for k, role in enumerate(("reset", "update"))
    )
    new = called("new", pointwise("none", written("tanh({})"), plus(x[2], product(reset, h[2]))))
    kept = pointwise("same", MINUS, Figure(1.0), update)
    return plus(product(kept, new), product(update, hidden))


def lstm_cell(call: Call) -> list[View]:
    _, x, h = _cell(call)
    gates = [plus(a, b) for a, b in zip(x, h, strict=True)]
    i, f, o = (
        called(role, pointwise("none", written("sigmoid({})"), gates[k]))
        for k, role in ((0, "in"), (1, "forget"), (3, "out"))
    )
    new = called("new", pointwise("none", written("tanh({})"), gates[2]))
    cell = called("cell", plus(product(f, call.views("hx")[1]), product(i, new)))
    return [product(o, pointwise("none", written("tanh({})"), cell)), cell]


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
    weights = called("attention_weights", across(logits, "softmax", [len(logits.groups) - 1]))
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
        return chosen(mask, logits, Figure(HIDDEN), call)
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


# ------------------------------------------------------------------------------------------------------------- dropout


def dropout(call: Call) -> View:
    if call.plain("train", call.plain("training", False)) and call.plain("p"):
        raise _dropout()
    return call.view("input")


def native_dropout(call: Call) -> list[View]:
    return [dropout(call)]


def _dropout() -> Untraceable:
    return Untraceable("NX707", "dropout with p > 0 in training mode", "trace with training=False, or set p = 0")
