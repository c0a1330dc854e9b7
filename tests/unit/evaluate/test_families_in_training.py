"""Families of trained matrices: what each member is updated by, and how much work that is."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.diagnostics import Span
from tp_compiler.evaluate.arrays import REPLICATE, Labels, labels
from tp_compiler.evaluate.sampling import blocks, lowrank
from tp_compiler.evaluate.sampling.merge_equal_nodes import shared
from tp_compiler.evaluate.sampling.outerproducts import by_member, columns, outer_terms
from tp_compiler.evaluate.sampling.plan import SamplingPlan
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Axis, Index, Type, Width

OPTIMIZERS = {"SGD": (lowrank, "SGD(lr = 0.1)"), "Adam": (blocks, "Adam(lr = 0.05, eps = 0.01)")}
STEPS = 2


def family(layers: int, optimizer: str) -> str:
    products = "".join(f"    |h[i]> = W[{k}] tanh(|h[i]>)\n" for k in range(1, layers + 1))
    return f"""axis i : 2
axis l : {layers}
ket |u[i]> ~ N(0, 1)
ket |v> ~ N(0, 1)
matrix W[l] ~ N(0, 1)
train steps = {STEPS} {{
    |h[i]> = |u[i]>
{products}    f[i] = <v|tanh(|h[i]>)>
    minimize mean[i]((f[i] - 1)^2)
    update W with {optimizer}
}}
output f[i]
"""


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_outer_products_read_grow_as_the_layers(name: str) -> None:
    place, optimizer = OPTIMIZERS[name]

    def reads(layers: int) -> int:
        with mock.patch.object(place, "columns", side_effect=columns) as read:
            tpc.limit(family(layers, optimizer), method="qmc", samples=64, replicates=2, rtol=1e9, threads=1)
        return read.call_count

    assert reads(8) == 2 * reads(4) > 0


def test_moments_and_values_read_one_gradient() -> None:
    plan = SamplingPlan(shared(tpc.compile(family(5, OPTIMIZERS["Adam"][1]))))
    (passes,) = plan.passes.values()
    assert passes.sweep is not None
    (gradient,) = passes.sweep.gradients
    assert len(passes.sweep.terms(gradient)) == 5


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_family_is_trained_as_separate_matrices_are(name: str) -> None:
    """W[2] is met twice and W[3] never, beside three matrices of their own names: the same points, the same digits."""
    text = f"""axis i : 2
axis l : 3
ket |u[i]> ~ N(0, 1)
ket |v> ~ N(0, 1)
DECLARED
train steps = 3 {{
    |h[i]> = W[1] tanh(|u[i]>)
    |h[i]> = W[2] tanh(|h[i]>) + 0.5 W[1]^T |h[i]>
    |h[i]> = W[2] tanh(|h[i]>)
    f[i] = <v|tanh(|h[i]>)>
    minimize mean[i]((f[i] - 1)^2)
    update PARAMETERS, |v> with {OPTIMIZERS[name][1]}
}}
output f[i]
output g[i] = <v|W[3] tanh(|u[i]>)>
"""

    def run(declared: str, parameters: str, written: Callable[[str], str]) -> tpc.results.Run:
        program = written(text.replace("DECLARED", declared).replace("PARAMETERS", parameters))
        return tpc.limit(program, method="qmc", samples=1024, replicates=4, rtol=1e9)

    one = run("matrix W[l] ~ N(0, 1)", "W", str)
    apart = "\n".join(f"matrix W{k} ~ N(0, 1)" for k in (1, 2, 3))
    other = run(apart, "W1, W2, W3", lambda t: t.replace("W[1]", "W1").replace("W[2]", "W2").replace("W[3]", "W3"))
    error = np.hypot(one.outputs["f"].stderr, other.outputs["f"].stderr)
    assert np.all(np.abs(one["f"]) > 10 * error)
    assert np.all(np.abs(one["f"] - other["f"]) < 5 * error + 1e-4)
    assert np.allclose(one["g"], 0, atol=5 * float(np.max(one.outputs["g"].stderr)) + 1e-4)


def test_terms_of_members_are_those_whose_columns_are_not_zero() -> None:
    """Factors over a member's index, over summed indices too, over none, and over replicates; against `columns` of every
    term and member."""
    width = Width("n", 1.0)
    layer, k, i = (Index(name, Axis(name, size)) for name, size in (("l", 3), ("k", 2), ("i", 4)))
    samples, replicates = 8, 2
    rng = np.random.default_rng(1)
    values: dict[ir.Node, np.ndarray] = {}
    known: dict[ir.Node, Labels] = {}

    def leaf(indices: tuple[Index, ...], ket: bool, value: np.ndarray, differs: bool = False) -> ir.Node:
        kind = Type(indices, ((0, width),) if ket else ())
        node = ir.Array(type=kind, name="x", values=0.0, span=Span(tpc.Source("t", ""), 0, 0))
        values[node], known[node] = value, ((REPLICATE, *labels(kind)) if differs else labels(kind))
        return node

    left = leaf((i,), True, rng.normal(size=(replicates, samples, 4)), differs=True)
    right = leaf((i,), True, rng.normal(size=(replicates, samples, 4)), differs=True)
    copy = ir.Copy(type=Type((i,), ((1, width),)), args=(right,), slot=1, span=left.span)
    known[copy] = (REPLICATE, *labels(copy.type))
    over = Type((layer, k), ((0, width), (1, width)))
    scalars = [
        leaf((layer,), False, np.array([0.0, 1.0, 0.0])),
        leaf((k,), False, np.array([0.0, 2.0])),
        leaf((layer, i), False, np.array([[0, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, np.nan]])),
        leaf((), False, np.array(0.0)),
        leaf((), False, np.array(2.0)),
        leaf((layer,), False, np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 4.0]]), differs=True),
    ]
    run: Any = SimpleNamespace(values=values, samples=samples, replicates=replicates, labels=known)
    terms = [ir.Contract(type=over, args=(left, copy, s), over=(i,), slots=(), span=left.span) for s in scalars]
    assert outer_terms(ir.Map(type=over, fn="add", args=tuple(terms), span=left.span)) == tuple(terms)
    found = by_member(terms, (layer, k), run)
    assert set(found) == set(np.ndindex(3, 2))
    for place, of in found.items():
        member = dict(zip((layer, k), place, strict=True))
        there = {t: columns(t, member, run)[0].any(axis=(1, 2)) for t in terms}
        assert list(of) == [t for t in terms if there[t].any()], place
        assert all(np.array_equal(of[t], there[t]) for t in of), place
