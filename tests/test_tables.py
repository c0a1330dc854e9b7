"""Tables are complete: a primitive or an instruction without its rule fails here by name."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import tp_compiler
from tp_compiler.check.functions import CALLABLE, library_bindings
from tp_compiler.check.statements import Checker
from tp_compiler.diagnostics import Diagnostics, Source
from tp_compiler.equations import laws
from tp_compiler.evaluate import instructions
from tp_compiler.evaluate.exact.evaluator import ExactEvaluator
from tp_compiler.evaluate.kernels import KERNELS as LIMIT
from tp_compiler.evaluate.linear.code import Code
from tp_compiler.evaluate.linear.shapes import Shapes
from tp_compiler.evaluate.sampling.replicate import Replicate
from tp_compiler.expand import forms
from tp_compiler.finite import instructions as finite_instructions
from tp_compiler.finite import network
from tp_compiler.finite.kernels import KERNELS as FINITE
from tp_compiler.frontend import syntax
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.primitives import PRIMITIVES
from tp_compiler.scale import tropical
from tp_compiler.transform import gradient

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


#: Instructions without a row in a table, and why.
Gaps = dict[type[ir.Node], str]
_LOWERED: Gaps = dict.fromkeys((ir.InitialScalar, ir.Stop), "its argument, once gradients are taken")
_FINITE_WIDTH: Gaps = {ir.WidthPower: "of programs that have no limit"}
_TRACE: Gaps = {ir.Trace: "gathered by the training loop"}
_LEAVES = (ir.Constant, ir.Array, ir.Position, ir.InitialKet, ir.Clock, ir.Carry, ir.Trace, ir.WidthPower)

#: Every engine: its table, and the instructions that it has no row for.
ENGINES: dict[str, tuple[Mapping[type[ir.Node], object], Gaps]] = {
    "array rules": (
        instructions.RULES,
        {
            **dict.fromkeys(_LEAVES, "no array to make it of"),
            **dict.fromkeys((ir.InitialScalar, ir.Stop), "its argument, broadcast by every evaluator in its way"),
            **dict.fromkeys((ir.MatMul, ir.Apply, ir.Clt, ir.Copy), "kets: no rule for arrays"),
            ir.Contract: "averages over neurons: every evaluator has its own",
            ir.Unavailable: "has no value",
        },
    ),
    "sampling": (Replicate.rules, _FINITE_WIDTH | _TRACE | {ir.Copy: "read by its users, never alone"}),
    "exact": (ExactEvaluator.rules, _FINITE_WIDTH),
    "linear shapes": (
        Shapes.rules, _FINITE_WIDTH | _LOWERED | {ir.Clt: "random: its law is sampled"},
    ),
    "linear code": (
        Code.rules, _FINITE_WIDTH | _LOWERED | {ir.Clt: "has no shape", ir.Unavailable: "has no shape"},
    ),
    "finite": ({**network.ROWS, **finite_instructions.ROWS}, {ir.MatMul: "told which members are needed last"}),
    "gradient": (
        gradient.RULES,
        {
            **dict.fromkeys((ir.Constant, ir.Array, ir.Position, ir.Clock, ir.WidthPower), "depends on no parameter"),
            **dict.fromkeys((ir.Carry, ir.Trace, ir.Unavailable, ir.Spectral), "NX280: cannot be differentiated"),
            **dict.fromkeys((ir.Join, ir.Apply), "made by training, which is not differentiated"),
            ir.Stop: "a constant to differentiation",
        },
    ),
    "equations": (laws.LAWS, {}),
    "expand": (
        forms._RULES,
        {
            **dict.fromkeys(forms.LEAVES, "a name or a number"),
            ir.Contract: "grouped with the products it is made of",
            **dict.fromkeys((ir.Join, ir.Spectral, ir.Apply), "made by training, which is printed as a block"),
            ir.WidthPower: "made by parametrizations, which are printed as a block",
            ir.Unavailable: "NX502: has no words",
        },
    ),
    "sizes": (
        tropical.RULES,
        {
            **dict.fromkeys((ir.Carry, ir.Apply, ir.Trace), "of the loop: sizes are those of the network"),
            **dict.fromkeys((ir.Join, ir.Spectral), "made by training"),
            ir.Unavailable: "has no value",
        },
    ),
}  # fmt: skip


def _kinds() -> list[type[ir.Node]]:
    found = [k for _, k in inspect.getmembers(ir, inspect.isclass) if issubclass(k, ir.Node)]
    return [k for k in found if not k.__subclasses__()]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_has_a_rule_for_every_instruction(engine: str) -> None:
    table, gaps = ENGINES[engine]
    missing = {k.__name__ for k in _kinds() if k not in table and k not in gaps}
    assert not missing, f"{engine}: no rule for {', '.join(sorted(missing))}"
    known = {k.__name__ for k in gaps if k in table}
    assert not known, f"{engine}: a rule, and a reason for having none: {', '.join(sorted(known))}"
    assert all(gaps.values())


def test_no_rule_is_found_by_a_name() -> None:
    """`getattr(self, "_" + name)` can be followed by no reader, and a missing rule is an AttributeError at run time."""
    for path in sorted(Path(tp_compiler.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
                assert not isinstance(node.args[1], ast.JoinedStr | ast.BinOp), f"{path}:{node.lineno}"


CHECKER = Checker(Diagnostics(), {}, Source("", ""))


@pytest.mark.parametrize("tree, table", [(syntax.Expr, CHECKER.core.rules), (syntax.Statement, CHECKER.rules)])
def test_every_kind_of_syntax_has_a_rule(tree: type, table: Mapping[type, object]) -> None:
    kinds = {k for _, k in inspect.getmembers(syntax, inspect.isclass) if issubclass(k, tree) and k is not tree}
    apart = {syntax.Return, syntax.For}  # read by what they stand in
    assert {k.__name__ for k in kinds - apart} == {k.__name__ for k in table}
