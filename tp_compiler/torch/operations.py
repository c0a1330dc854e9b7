"""What each operation of ATen means as steps: one row for each."""

from __future__ import annotations

import torch

from tp_compiler.torch import arithmetic, layers, layout
from tp_compiler.torch.arithmetic import (
    OVER,
    Rule,
    binary,
    defaults_only,
    function,
    negated,
    pointwise,
    reduction,
    written,
)
from tp_compiler.torch.calls import Call
from tp_compiler.torch.refusals import Untraceable
from tp_compiler.torch.steps import Figure, View


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
    "adaptive_avg_pool1d": layers.adaptive_average,
    "adaptive_avg_pool2d": layers.adaptive_average,
    "add": arithmetic.add,
    "addmm": arithmetic.addmm,
    "alias": SAME,
    "amax": reduction("max"),
    "assert_tensor_metadata": checked,
    "atan": function("atan({})"),
    "avg_pool1d": layers.pooling("mean"),
    "avg_pool2d": layers.pooling("mean"),
    "batch_norm": layers.batch_norm,
    "bmm": arithmetic.matmul,
    "cat": layout.concatenate,
    "chunk": layout.chunk,
    "clamp": arithmetic.clamp,
    "clamp_min": arithmetic.clamp,
    "clamp_max": arithmetic.clamp,
    "clone": SAME,
    "contiguous": SAME,
    "conv1d": layers.convolution,
    "conv2d": layers.convolution,
    "conv3d": layers.convolution,
    "cos": function("cos({})"),
    "cosh": function("cosh({})"),
    "cumsum": arithmetic.cumulate,
    "detach": stopped,
    "div": arithmetic.divide,
    "dropout": layers.dropout,
    "einsum": arithmetic.einsum,
    "elu": defaults_only("elu({})", alpha=1, scale=1, input_scale=1),
    "embedding": layout.embedding,
    "erf": function("erf({})"),
    "erfc": function("erfc({})"),
    "exp": function("exp({})"),
    "expand": layout.expand,
    "expm1": function("(exp({}) - 1)"),
    "flatten": layout.view,
    "flip": layout.flip,
    "gelu": arithmetic.gelu,
    "group_norm": layers.group_norm,
    "gru_cell": layers.gru_cell,
    "hardsigmoid": function("hardsigmoid({})"),
    "hardswish": function("hardswish({})"),
    "hardtanh": defaults_only("hardtanh({})", min_val=-1, max_val=1),
    "index": layout.index,
    "index_select": layout.index_select,
    "layer_norm": layers.layer_norm,
    "leaky_relu": arithmetic.leaky_relu,
    "linear": layers.linear,
    "log": function("log({})"),
    "log1p": function("log(1 + {})"),
    "log_sigmoid": function("logsigmoid({})"),
    "log_softmax": arithmetic.log_softmax,
    "logsumexp": reduction("logsumexp"),
    "lstm_cell": layers.lstm_cell,
    "mT": layout.reverse_axes,
    "masked_fill": arithmetic.masked_fill,
    "matmul": arithmetic.matmul,
    "matrix_H": layout.reverse_axes,
    "max_pool1d": layers.pooling("max"),
    "max_pool2d": layers.pooling("max"),
    "maximum": binary("max({}, {})"),
    "mean": reduction("mean"),
    "minimum": binary("min({}, {})"),
    "mish": function("mish({})"),
    "mm": arithmetic.matmul,
    "mul": arithmetic.multiply,
    "mv": arithmetic.matmul,
    "native_batch_norm_legit": layers.batch_norm_trained,
    "native_batch_norm_legit_functional": layers.batch_norm_trained,
    "native_batch_norm_legit_no_training": layers.batch_norm_evaluated,
    "native_dropout": layers.native_dropout,
    "neg": lambda call: pointwise("even", negated, call.view("self")),
    "numpy_T": layout.reverse_axes,
    "permute": layout.permute,
    "pow": arithmetic.power,
    "reciprocal": lambda call: pointwise("quotient", OVER, Figure(1.0), call.view("self")),
    "relu": function("relu({})", "even"),
    "relu6": function("relu6({})"),
    "repeat_interleave": layout.repeat_interleave,
    "reshape": layout.view,
    "rms_norm": layers.rms_norm,
    "rsqrt": function("(1 / sqrt({}))", "power -1/2"),
    "rsub": arithmetic.reversed_subtract,
    "scaled_dot_product_attention": layers.attention,
    "select": layout.select,
    "selu": function("selu({})"),
    "sigmoid": function("sigmoid({})"),
    "sign": function("sign({})"),
    "silu": function("silu({})"),
    "sin": function("sin({})"),
    "sinh": function("sinh({})"),
    "slice": layout.slices,
    "softmax": arithmetic.softmax,
    "softplus": defaults_only("softplus({})", beta=1, threshold=20),
    "split": layout.split,
    "split_with_sizes": layout.split,
    "sqrt": function("sqrt({})", "power 1/2"),
    "square": function("square({})", "power 2"),
    "squeeze": layout.squeeze,
    "stack": layout.stack,
    "std": arithmetic.standard_deviation,
    "sub": arithmetic.subtract,
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
    "var": arithmetic.variance,
    "view": layout.view,
    "where": arithmetic.where,
}
