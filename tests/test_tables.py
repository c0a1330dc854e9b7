"""Tables are complete: a primitive or an instruction without its rule fails here by name."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

from tp_compiler.check.functions import CALLABLE, library_bindings
from tp_compiler.evaluate.kernels import KERNELS as LIMIT
from tp_compiler.evaluate.sampling.replicate import Replicate
from tp_compiler.finite.kernels import KERNELS as FINITE
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.primitives import PRIMITIVES

POINTS = (-30.0, -2.5, -0.7, -1e-3, 0.0, 1e-3, 0.4, 1.9, 6.5, 30.0)


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
def test_every_primitive_has_its_rows(name: str) -> None:
    row = PRIMITIVES[name]
    assert name in LIMIT and name in FINITE
    if row.arity is not None:
        assert len(row.partials) == row.arity, f"{name} has no derivative in each argument"


def test_no_row_is_left_over() -> None:
    assert set(LIMIT) == set(FINITE) == set(PRIMITIVES)
    assert set(library_bindings()) >= CALLABLE


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
def test_the_limit_kernel_equals_the_scalar_definition(name: str) -> None:
    row = PRIMITIVES[name]
    arity = row.arity or 2
    rng = np.random.default_rng(0)
    for x in POINTS:
        args = [x, *map(float, rng.uniform(0.1, 2, arity - 1))]
        try:
            wanted = row.scalar(*args)
        except (ValueError, OverflowError, ZeroDivisionError):
            continue
        with np.errstate(all="ignore"):
            found = float(LIMIT[name](*(np.float64(a) for a in args)))
        assert math.isclose(found, wanted, rel_tol=1e-12, abs_tol=1e-15), (name, args, found, wanted)


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
def test_parity_is_as_stated(name: str) -> None:
    row = PRIMITIVES[name]
    if row.parity and row.arity == 1:
        for x in (0.3, 1.7):
            assert math.isclose(row.scalar(-x), row.parity * row.scalar(x), rel_tol=1e-14)


def test_every_instruction_has_a_rule_in_the_limit() -> None:
    kinds = [k for _, k in inspect.getmembers(ir, inspect.isclass) if issubclass(k, ir.Node) and k is not ir.Node]
    gone = {ir.WidthPower, ir.Trace}  # of finite width, or gathered by the loop
    for kind in kinds:
        if kind not in gone and kind is not ir.Copy:  # copies are read by their users, never evaluated alone
            assert hasattr(Replicate, f"_{kind.__name__.lower()}"), f"{kind.__name__} has no rule"
