"""Tables are complete: a primitive or an instruction without its rule fails here by name."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tp_compiler
from tp_compiler.check.functions import CALLABLE, library_bindings
from tp_compiler.check.statements import Checker
from tp_compiler.diagnostics import Diagnostics, Source, Span
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
from tp_compiler.finite.tensors import Tensor
from tp_compiler.frontend import syntax
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.primitives import PRIMITIVES
from tp_compiler.ir.types import Axis, Index, Type
from tp_compiler.ir.walk import reachable
from tp_compiler.scale import tropical
from tp_compiler.transform import gradient

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
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
    "builder": (
        Builder.makers,
        {
            **dict.fromkeys((*_LEAVES[:3], *_LEAVES[4:6], ir.WidthPower), "has no arguments to be made again of"),
            ir.Unavailable: "is made again as it is",
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
            ir.Spectral: "made by training",
            ir.Unavailable: "has no value",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_has_a_rule_for_every_instruction(engine: str) -> None:
    table, gaps = ENGINES[engine]
    missing = {k.__name__ for k in ir.INSTRUCTIONS if k not in table and k not in gaps}
    assert not missing, f"{engine}: no rule for {', '.join(sorted(missing))}"
    known = {k.__name__ for k in gaps if k in table}
    assert not known, f"{engine}: a rule, and a reason for having none: {', '.join(sorted(known))}"
    assert all(gaps.values())


@pytest.mark.parametrize("kind", Builder.makers, ids=lambda kind: kind.__name__)
def test_makers_take_what_the_class_declares(kind: type[ir.Node]) -> None:
    names = list(inspect.signature(Builder.makers[kind]).parameters)
    declared = {name.lstrip("*") for name in kind.takes} | set(kind.attributes())
    assert set(names) == declared | {"self", "span"}


def test_an_instruction_is_made_again() -> None:
    """Every instruction of some programs, rebuilt of rebuilt arguments, has the attributes and the type that it had."""
    met = set()
    for name in ("convolution", "outer_nonlin", "embedding", "transformer", "nngp_posterior", "kfac", "attention_clt"):
        build, done = Builder(), dict[ir.Node, ir.Node]()
        for node in reachable(o.node for o in tp_compiler.compile(EXAMPLES / f"{name}.nexort").outputs):
            done[node] = new = build.again(node, tuple(done[a] for a in node.args), node.span) if node.args else node
            assert type(new) is type(node) and new.type == node.type
            assert [getattr(new, a) for a in node.attributes()] == [getattr(node, a) for a in node.attributes()]
            met.add(type(node))
    assert len(met & Builder.makers.keys()) >= 12


I = Index("i", Axis("i", 5))  # noqa: E741
J = Index("j", I.axis)
SOURCE = ir.Array(type=Type((I,)), span=Span(Source("p", ""), 0, 0), name="x", values=np.arange(5))
#: Instructions along one index with some of their attributes.
ALONG = [*({"kind": ir.Shift, "by": by} for by in (-6, -2, 0, 1, 5))]


@pytest.mark.parametrize("given", ALONG, ids=str)
def test_instructions_along_an_index_are_as_declared(given: dict[str, Any]) -> None:
    """The transposed map, the numbers of terms, and both roads, read off the matrix of the map."""
    kind, named = given["kind"], {k: v for k, v in given.items() if k != "kind"}
    node = kind(type=SOURCE.type, span=SOURCE.span, args=(SOURCE,), index=I, **named)
    matrix = instructions.RULES[kind](node, [(np.eye(5), (J, I))], (I, J))
    back = replace(node, **node.transposed())
    assert (instructions.RULES[kind](back, [(np.eye(5), (J, I))], (I, J)) == matrix.T).all()
    assert set(matrix.ravel()) <= {0, 1}
    assert (matrix.sum(axis=1).min(), matrix.sum(axis=1).max()) == node.terms
    finite = finite_instructions.apply(node, [Tensor(np.arange(5.0), (I,))])
    assert (finite == matrix @ np.arange(5)).all()


def test_no_instruction_along_an_index_is_left_out() -> None:
    assert {given["kind"] for given in ALONG} == set(ir.ALONG)


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
