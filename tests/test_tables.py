"""Tables are complete: a primitive or an instruction without its rule fails here by name."""

from __future__ import annotations

import ast
import contextlib
import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.interpolate import BarycentricInterpolator

import tp_compiler
from tp_compiler.check.functions import CALLABLE, library_bindings
from tp_compiler.check.given import GivenData
from tp_compiler.check.statements import Checker
from tp_compiler.diagnostics import Diagnostics, Source, Span
from tp_compiler.equations import laws
from tp_compiler.evaluate import instructions
from tp_compiler.evaluate.exact.evaluator import ExactEvaluator
from tp_compiler.evaluate.gaussian.univariate import Array
from tp_compiler.evaluate.kernels import KERNELS as LIMIT
from tp_compiler.evaluate.linear.code import Code
from tp_compiler.evaluate.linear.shapes import Shapes
from tp_compiler.evaluate.ranges import ranges
from tp_compiler.evaluate.sampling.replicate import Replication
from tp_compiler.expand import forms
from tp_compiler.finite import instructions as finite_instructions
from tp_compiler.finite import network
from tp_compiler.finite.kernels import KERNELS as FINITE
from tp_compiler.finite.tensors import LabelledArray
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


#: Functions of one variable that are defined everywhere, and where they are looked at.
LINE = {name: row.scalar for name, row in PRIMITIVES.items() if row.arity == 1 and name not in ("log", "sqrt")}
GRID = sorted({*np.linspace(-40, 40, 3201), *(s * 10.0**k for k in range(-12, 10) for s in (-1, 1))})


def _values(fn: Callable[[float], float], points: Iterable[float]) -> Array:
    with contextlib.suppress(OverflowError):
        return np.array([fn(float(x)) for x in points])
    return np.array([_or_infinite(fn, float(x)) for x in points])


def _or_infinite(fn: Callable[[float], float], x: float) -> float:
    try:
        return fn(x)
    except OverflowError:
        return math.copysign(math.inf, fn(math.copysign(50.0, x)))


@pytest.mark.parametrize("name", LINE)
def test_kinks_are_where_a_derivative_jumps(name: str) -> None:
    """What a function is on the left of a place, continued to the right, misses it at kinks and nowhere else."""
    fn, kinks = LINE[name], PRIMITIVES[name].kinks
    for place in np.arange(-7.0, 7.5, 0.5) if name != "tan" else (-0.5, 0.0, 0.5):
        left = place - np.linspace(0.01, 0.4, 9)
        right = place + np.array([0.04, 0.08])
        expected = BarycentricInterpolator(left, _values(fn, left))(right)
        found = _values(fn, right)
        off = np.max(np.abs(expected - found)) / max(1.0, np.max(np.abs(found)))
        assert (off > 1e-4) == (place in kinks), (place, off)


@pytest.mark.parametrize("name", LINE)
def test_ranges_and_turns_are_as_stated(name: str) -> None:
    row, values = PRIMITIVES[name], _values(LINE[name], GRID)
    low, high = row.range
    assert (low <= values).all() and (values <= high).all()
    assert values.min() < low + 0.02 * (1 + abs(low)) if math.isfinite(low) else values.min() < -9
    assert values.max() > high - 0.02 * (1 + abs(high)) if math.isfinite(high) else values.max() > 9
    assert row.positive == bool((_values(LINE[name], np.linspace(-20, 20, 401)) > 0).all())
    steps = np.sign(np.diff(np.round(np.clip(values, -1e200, 1e200), 12)))
    rises = 1 if (steps >= 0).all() else -1 if (steps <= 0).all() else 0
    assert row.rises == rises
    last, first = np.flatnonzero(steps < 0).max(initial=-1), np.flatnonzero(steps > 0).min(initial=len(GRID))
    if last < first and not rises:
        assert row.turn is not None and GRID[last] <= row.turn <= GRID[first + 1]
    else:
        assert row.turn is None


@pytest.mark.parametrize("name", [*LINE, "log", "sqrt"])
def test_degrees_are_as_stated(name: str) -> None:
    row = PRIMITIVES[name]
    tiny = [1e-300, math.pi / 2]
    points = [x for x in [*GRID, *tiny] if x > 0 or name in LINE]
    values = np.abs(_values(row.scalar, points))
    power = 1 if math.isinf(row.degree) else row.degree
    bounded = (values <= 100 * (1 + np.abs(points)) ** power).all()
    assert bounded == math.isfinite(row.degree)
    if 0 < row.degree < math.inf:
        assert values.max() > 100 * (1 + np.abs(points).max()) ** (row.degree - 1)


@pytest.mark.parametrize("name", LINE)
def test_polynomials_and_exact_functions_are_as_stated(name: str) -> None:
    row, points = PRIMITIVES[name], np.arange(0, 9, 0.25)
    values, mirrored = np.abs(_values(row.scalar, points)), np.abs(_values(row.scalar, -points))
    assert row.polynomial == bool((values == mirrored).all() and not np.diff(values, 3).any())
    some = [0.1, 0.7, 1 / 3, 2.9, 7.3]
    known = {*some, *(-x for x in some), 0.0, 1.0, -1.0, 6.0}
    assert row.exact == all(row.scalar(x) in known and row.scalar(-x) in known for x in some)


@pytest.mark.parametrize("name", [*LINE, "log", "sqrt"])
def test_poles_are_as_stated(name: str) -> None:
    points = [x for x in (1e-300, -1e-300, math.pi / 2, 0.5, -2.0, 3.0, -3.0) if x > 0 or name in LINE]
    unbounded = bool((np.abs(_values(PRIMITIVES[name].scalar, points)) > 100).any())
    assert PRIMITIVES[name].pole == (0 if unbounded else None)


def test_what_has_several_arguments_is_as_stated() -> None:
    """The columns of primitives that no line shows: max, min and where pick one of their arguments, sums and products are
    polynomials, a power and leaky_relu fall and rise."""
    several = {name: row for name, row in PRIMITIVES.items() if row.arity != 1}
    assert {name for name, row in several.items() if row.polynomial} == {"add", "mul"}
    assert {name: row.pole for name, row in several.items() if row.pole is not None} == {"div": 1, "pow": 0}
    assert {name for name, row in several.items() if row.exact} == {"max", "min", "where"}
    assert {name for name, row in several.items() if row.kinks} == {"max", "min", "where", "leaky_relu"}
    assert {name for name, row in several.items() if row.turn == 0.0} == {"pow", "leaky_relu"}
    assert {name for name, row in several.items() if not row.smooth} == {n for n, row in several.items() if row.kinks}


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
    "sampling": (Replication.rules, _FINITE_WIDTH | _TRACE | {ir.Copy: "read by its users, never alone"}),
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
SOURCE = ir.Array(type=Type((I,)), span=Span(Source("p", ""), 0, 0), name="x", values=np.arange(5) - 2)
#: Instructions along one index with some of their attributes.
ALONG = [
    *({"kind": ir.Shift, "by": by} for by in (-6, -2, 0, 1, 5)),
    *({"kind": ir.Cumulate, "reverse": reverse} for reverse in (False, True)),
]


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
    values = np.arange(5.0) - 2
    assert (finite_instructions.apply(node, [LabelledArray(values, (I,))]) == matrix @ values).all()
    corners = [matrix @ np.array(x) for x in itertools.product((-2.0, 2.0), repeat=5)]
    assert ranges([SOURCE, node])[node] == (np.min(corners), np.max(corners))


def test_no_instruction_along_an_index_is_left_out() -> None:
    assert {given["kind"] for given in ALONG} == set(ir.ALONG)


def test_no_rule_is_found_by_a_name() -> None:
    """`getattr(self, "_" + name)` can be followed by no reader, and a missing rule is an AttributeError at run time."""
    for path in sorted(Path(tp_compiler.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
                assert not isinstance(node.args[1], ast.JoinedStr | ast.BinOp), f"{path}:{node.lineno}"


CHECKER = Checker(Diagnostics(), {}, GivenData({}), Source("", ""))


@pytest.mark.parametrize("tree, table", [(syntax.Expr, CHECKER.core.rules), (syntax.Statement, CHECKER.rules)])
def test_every_kind_of_syntax_has_a_rule(tree: type, table: Mapping[type, object]) -> None:
    kinds = {k for _, k in inspect.getmembers(syntax, inspect.isclass) if issubclass(k, tree) and k is not tree}
    apart = {syntax.Return, syntax.For}  # read by what they stand in
    assert {k.__name__ for k in kinds - apart} == {k.__name__ for k in table}
