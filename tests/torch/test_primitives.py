"""Primitives and their derivatives against PyTorch: the same names mean the same functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tp_compiler.diagnostics import Source, Span
from tp_compiler.evaluate.kernels import KERNELS
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.primitives import DEFAULTS, PRIMITIVES
from tp_compiler.ir.types import Type
from tp_compiler.ir.walk import reachable
from tp_compiler.transform.entrywise import derivative

pytestmark = pytest.mark.torch

SPAN = Span(Source("test", ""), 0, 0)
POINTS = np.linspace(-4.05, 7.05, 112)  # away from kinks, where conventions may differ

NAMES = {"atan": "arctan", "step": "heaviside", "gelu_tanh": "gelu"}


def _torch(name: str, x: Any) -> Any:
    import torch
    from torch.nn import functional

    if name == "step":
        return torch.heaviside(x, torch.zeros((), dtype=x.dtype))
    if name == "gelu_tanh":
        return functional.gelu(x, approximate="tanh")
    if name == "squareplus":  # not in PyTorch: its formula (Barron 2021), differentiated by autograd
        return (x + torch.sqrt(x * x + 4)) / 2
    for module in (functional, torch.special, torch):
        if hasattr(module, NAMES.get(name, name)):
            return getattr(module, NAMES.get(name, name))(x)
    raise AssertionError(name)


UNARY = [*sorted(n for n, row in PRIMITIVES.items() if row.arity == 1), "leaky_relu"]


def _points(name: str) -> Any:
    return np.abs(POINTS) + 0.1 if name in ("log", "sqrt") else POINTS


def _args(name: str, x: Any) -> list[Any]:
    return [x, *(np.float64(v) for v in DEFAULTS.get(name, {}).values())]


@pytest.mark.parametrize("name", UNARY)
def test_values(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = _points(name)
    wanted = _torch(name, torch.tensor(x)).numpy()
    np.testing.assert_allclose(KERNELS[name](*_args(name, x)), wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", [n for n in UNARY if n != "step"])
def test_derivatives(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor(_points(name), requires_grad=True)
    (wanted,) = torch.autograd.grad(_torch(name, x).sum(), x)
    build = Builder()
    leaf = ir.Array(type=Type(), name="x", values=0.0, span=SPAN)
    rest = [build.constant(v, SPAN) for v in DEFAULTS.get(name, {}).values()]
    slope = derivative(build, build.map(name, [leaf, *rest], SPAN), leaf, SPAN)
    values: dict[ir.Node, Any] = {}
    for node in reachable([slope, leaf]):
        if node is leaf:
            values[node] = _points(name)
        elif isinstance(node, ir.Constant):
            values[node] = np.float64(node.value)
        else:
            assert isinstance(node, ir.Map)
            values[node] = KERNELS[node.fn](*(values[a] for a in node.args))
    found = np.broadcast_to(values[slope], x.shape)
    rtol = 1e-7 if name == "hardsigmoid" else 1e-9  # PyTorch's backward of it holds 1/6 in single precision
    np.testing.assert_allclose(found, wanted.numpy(), rtol=rtol, atol=1e-12)
