"""Distributions in declarations: the numbers that a program gives them, and the moments of the laws of kets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from tp_compiler.check import data
from tp_compiler.check import values as v
from tp_compiler.check.core import Context, Core, family_indices
from tp_compiler.check.given import AxisSizes
from tp_compiler.check.names import Scope
from tp_compiler.diagnostics import ProgramError, Span, error, suggest
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.habits import LAWS, plain
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Axis, Index

#: A distribution's name -> the ways to write it.
Forms = Mapping[str, tuple[str, ...]]
KETS: Forms = {
    "N": ("N(mean, variance)",), "uniform": ("uniform(half_width)", "uniform(low, high)"),
    "rademacher": ("rademacher", "rademacher(size)"), "bernoulli": ("bernoulli(p)",),
}  # fmt: skip
MATRICES: Forms = {
    "N": ("N(mean, variance)",),
    "rademacher": ("rademacher(variance)",),
    "uniform": ("uniform(variance)",),
}
DATA: Forms = {"N": ("N(mean, variance)",), "uniform": ("uniform(variance)",), "rademacher": ("rademacher(variance)",)}


@dataclass(frozen=True)
class KetLaw:
    """The law of an initial ket: as the fields of `KetSymbol` and the arguments of `InitialKet`."""

    name: str
    mean: ir.Node
    spread: ir.Node
    parameters: tuple[ir.Node, ...] = ()
    pair: tuple[Index, Index] | None = None


class Laws:
    """Reads the distributions of declarations."""

    def __init__(self, core: Core, sizes: AxisSizes):
        self.core, self.build, self.sizes = core, core.build, sizes

    def numbers(self, law: ast.Law, scope: Scope, known: Forms) -> list[v.Scalar]:
        """The parameters of `N(mean, variance)` and other distributions; the sign of a constant variance is checked."""
        _check_form(law, known)
        values = [self.core.value(e, Context(scope)) for e in law.args]
        for value, e in zip(values, law.args, strict=True):
            self.core.expect_scalar(value, e.span, "a number")
        found = [value for value in values if isinstance(value, v.Scalar)]
        if len(found) < len(values):
            raise ProgramError([])
        variance = found[-1].node if law.name == "N" or known is not KETS else None
        if isinstance(variance, ir.Constant) and variance.value < 0:
            raise error(
                "NX114",
                f"the variance {variance.value:g} is negative",
                law.args[-1].span,
                "give a variance of 0 or more",
            )
        return found

    # -- kets ---------------------------------------------------------------------------------------------------
    def of_ket(self, s: ast.KetDecl, indices: tuple[Index, ...], scope: Scope) -> KetLaw:
        """The law of a ket as declared."""
        if isinstance(s.law, ast.Law):
            return self._normal(s, indices, scope) if s.law.name == "N" else self._other(s, s.law, indices, scope)
        if isinstance(s.law, ast.FromFile):
            return self._rows(self._file(s, s.law, indices), indices, s.law.span)
        if isinstance(s.law, ast.FromArray):
            return self._rows(self._array(s.law, indices, scope), indices, s.law.span)
        value = self.core.value(s.law, Context(scope))
        if isinstance(value, v.Ket) and value.node.type.is_scalar:
            value = v.Scalar(value.node)
        node = self.core.expect_scalar(value, s.law.span, "a number")
        if node is None:
            raise ProgramError([])
        _on_the_left(s, node, "mean", indices, s.law.span)
        return KetLaw("normal", node, self.build.constant(0, s.span))

    def _normal(self, s: ast.KetDecl, indices: tuple[Index, ...], scope: Scope) -> KetLaw:
        assert isinstance(s.law, ast.Law)
        center, variance = self.numbers(s.law, scope, KETS)
        pair = _pair(variance, indices, s.law.args[1])
        _on_the_left(s, center.node, "mean", indices, s.law.span)
        spread = self.build.over(variance.node, pair or (), s.law.args[1].span)
        return KetLaw("normal", center.node, spread, pair=pair)

    def _other(self, s: ast.KetDecl, law: ast.Law, indices: tuple[Index, ...], scope: Scope) -> KetLaw:
        """Independent members of mean and variance in closed form."""
        given = self.numbers(law, scope, KETS)
        parameters = tuple(p.node for p in given)
        for p, e in zip(given, law.args, strict=True):
            _independent(law.name, p, indices, e.span)
            _on_the_left(s, p.node, "parameter", indices, e.span)
        _check_range(law, parameters)
        mean, spread = self.moments[law.name](self, parameters, law.span)
        return KetLaw(law.name, mean, spread, parameters)

    def _uniform(self, parameters: tuple[ir.Node, ...], span: Span) -> tuple[ir.Node, ir.Node]:
        if len(parameters) == 1:
            return self.build.constant(0, span), self._over(self._square(parameters[0], span), 3, span)
        low, high = parameters
        length = self.build.add(high, self.build.neg(low, span), span)
        mean = self._over(self.build.add(low, high, span), 2, span)
        return mean, self._over(self._square(length, span), 12, span)

    def _rademacher(self, parameters: tuple[ir.Node, ...], span: Span) -> tuple[ir.Node, ir.Node]:
        one = self.build.constant(1, span)
        return self.build.constant(0, span), self._square(parameters[0], span) if parameters else one

    def _bernoulli(self, parameters: tuple[ir.Node, ...], span: Span) -> tuple[ir.Node, ir.Node]:
        (p,) = parameters
        rest = self.build.add(self.build.constant(1, span), self.build.neg(p, span), span)
        return p, self.build.mul(p, rest, span)

    #: The mean and the variance of each law.
    moments: ClassVar[dict[str, Callable[[Laws, tuple[ir.Node, ...], Span], tuple[ir.Node, ir.Node]]]] = {
        "uniform": _uniform,
        "rademacher": _rademacher,
        "bernoulli": _bernoulli,
    }

    def _square(self, x: ir.Node, span: Span) -> ir.Node:
        return self.build.map("square", (x,), span)

    def _over(self, x: ir.Node, divisor: float, span: Span) -> ir.Node:
        return self.build.map("div", (x, self.build.constant(divisor, span)), span)

    # -- rows ---------------------------------------------------------------------------------------------------
    def _rows(self, rows: ir.Node, indices: tuple[Index, ...], span: Span) -> KetLaw:
        """The law of one row of an array, each as likely as the others."""
        (row,) = (i for i in rows.type.indices if i not in indices)
        mean = self._mean(rows, row, span)
        spread = self._mean(self._square(self.build.add(rows, self.build.neg(mean, span), span), span), row, span)
        return KetLaw("rows", mean, spread, (rows,))

    def _mean(self, x: ir.Node, row: Index, span: Span) -> ir.Node:
        return self._over(self.build.contract((x,), (row,), (), span), row.size, span)

    def _file(self, s: ast.KetDecl, source: ast.FromFile, indices: tuple[Index, ...]) -> ir.Node:
        sizes = tuple(i.size for i in indices)

        def accept(shape: tuple[int, ...]) -> None:
            data.check_rows(f"|{s.target.ident}>", shape, indices, source.span, self.sizes.origin)

        values = self.sizes.reading.rows(s, accept)
        accept(values.shape)
        row = self.build.fresh(Index("row", Axis("row", len(values))))
        return self.build.array("", values.reshape(len(values), *sizes), (row, *indices), False, source.span)

    def _array(self, source: ast.FromArray, indices: tuple[Index, ...], scope: Scope) -> ir.Node:
        value = self.core.value(source.rows, Context(scope))
        node = self.core.expect_scalar(value, source.span, "an array of numbers")
        if node is None:
            raise ProgramError([])
        extra = [i for i in node.type.indices if i not in indices]
        if len(extra) != 1:
            shown = f"the indices {', '.join(f'`{i.name}`' for i in extra)}" if extra else "no index"
            message = f"the array has {shown} besides those of the ket; exactly one has to count the rows"
            raise error("NX139", message, source.span, "write `ket |x[d]> from X[r,d]`")
        return self.build.over(node, (extra[0], *indices), source.span)


def _check_form(law: ast.Law, known: Forms) -> None:
    if law.name not in known:
        remedy = LAWS.get(plain(law.name)) or suggest(law.name, known) or f"use one of: {', '.join(known)}"
        raise error("NX112", f"there is no distribution `{law.name}` here", law.span, remedy)
    forms = known[law.name]
    counts = [form.count(",") + 1 if "(" in form else 0 for form in forms]
    if len(law.args) not in counts:
        takes, s = " or ".join(map(str, counts)), "s" * (counts[-1] != 1)
        remedy = f"write {' or '.join(f'`{form}`' for form in forms)}"
        raise error("NX113", f"`{law.name}` takes {takes} parameter{s}, but got {len(law.args)}", law.span, remedy)


def _on_the_left(s: ast.KetDecl, node: ir.Node, what: str, indices: tuple[Index, ...], span: Span) -> None:
    extra = [i for i in node.type.indices if i not in indices]
    if extra:
        message = f"the index `{extra[0].name}` of the {what} is not on the left"
        raise error("NX202", message, span, f"write `|{s.target.ident}[{extra[0].name}]>`")


def _pair(spread: v.Scalar, indices: tuple[Index, ...], at: ast.Expr) -> tuple[Index, Index] | None:
    """`N(0, S[i,j])` for |g[i]>: the index not on the left pairs with the left one of its axis."""
    extra = [i for i in family_indices(spread) if i not in indices]
    if not extra:
        return None
    partners = [i for i in indices if i.axis == extra[0].axis]
    if len(extra) > 1 or len(partners) != 1:
        shown = ", ".join(i.name for i in extra)
        message = f"the covariance has the index `{shown}`, which pairs with no index on the left"
        raise error("NX202", message, at.span, "write `ket |g[i]> ~ N(0, S[i,j])` with i, j of one axis")
    return partners[0], extra[0]


def _independent(law: str, parameter: v.Scalar, indices: tuple[Index, ...], span: Span) -> None:
    for extra in family_indices(parameter):
        if extra not in indices and any(i.axis == extra.axis for i in indices):
            message = f"`{law}` has no covariance: the members of the family are independent"
            remedy = f"remove the index `{extra.name}`; only `N(0, S[i,j])` is a joint law"
            raise error("NX138", message, span, remedy)


def _check_range(law: ast.Law, parameters: tuple[ir.Node, ...]) -> None:
    """Refuses parameters that are known to lie outside their range."""
    known = [data.bounds(p.values) if isinstance(p, ir.Array) else _bounds(p) for p in parameters]
    for (lowest, highest), e in zip(known, law.args, strict=True):
        if law.name == "bernoulli" and not 0 <= lowest <= highest <= 1:
            wrong = lowest if lowest < 0 else highest
            raise error("NX137", f"{wrong:g} is not a probability", e.span, "give a number from 0 to 1")
        if law.name != "bernoulli" and len(known) == 1 and lowest <= 0:
            what, remedy = _POSITIVE[law.name]
            raise error("NX137", f"the {what} {lowest:g} is not positive", e.span, remedy)
    if len(known) == 2 and all(isinstance(p, ir.Constant) for p in parameters) and known[1][1] <= known[0][0]:
        message = f"the interval from {known[0][0]:g} to {known[1][1]:g} is empty"
        raise error("NX137", message, law.span, "write `uniform(low, high)` with low < high")


_POSITIVE = {
    "uniform": ("half-width", "give a positive number: `uniform(1)` has values from -1 to 1"),
    "rademacher": ("size", "give a positive number: `rademacher(1)` has the values -1 and 1"),
}


def _bounds(node: ir.Node) -> tuple[float, float]:
    """The smallest and the largest value; of a number that is not known yet, values that are in every range."""
    return (node.value, node.value) if isinstance(node, ir.Constant) else (1.0, 1.0)
