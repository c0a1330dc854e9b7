"""The degree of a user-defined optimizer, derived from its body: how its update scales with the gradient.

On operators g is |d><x| summed over a batch, with singular values |d||x|; K-FAC's factors have |d|² and |x|². Every expression gets
powers of |d|, |x| and of the parameter. Terms that are added must have the same degree; a hyperparameter among them scales with
the others. A term linear in the parameter alone is weight decay. If there is no degree, the reason is returned instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from tp_compiler.check.names import Binding, OptimizerName, UserFn
from tp_compiler.frontend import syntax as ast
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.model import Homogeneity

Degree = tuple[Fraction, Fraction, Fraction]
ZERO: Degree = (Fraction(0),) * 3
GRADIENT: Degree = (Fraction(1), Fraction(1), Fraction(0))
FACTORS: dict[str, Degree] = {
    "inputs": (Fraction(0), Fraction(2), Fraction(0)), "signals": (Fraction(2), Fraction(0), Fraction(0)), "examples": ZERO,
}  # fmt: skip
#: The factor by which a function multiplies the degree of its argument.
FACTOR: dict[str, Fraction] = {
    "inv": Fraction(-1), "sqrt": Fraction(1, 2), "square": Fraction(2),
    **dict.fromkeys(("abs", "trace", "rowmean", "colmean", "rownorm", "colnorm", "norm", "lengths", "relu"), Fraction(1)),
    **dict.fromkeys(("msign", "eigenvectors", "sign", "step", "balanced"), Fraction(0)),
}  # fmt: skip


class NoDegree(Exception):
    """The reason why a body has no degree."""


def homogeneity(optimizer: OptimizerName, values: Mapping[str, ir.Node]) -> Homogeneity | str:
    """The degrees of the update and of the hyperparameters, or the reason why there are none."""
    body = _Body({**optimizer.scope.library, **optimizer.scope.others}, values)
    try:
        for _ in range(3):  # the degrees of states are known after one round
            found = body.run(optimizer.statement.body)
        if found is None:
            raise NoDegree("its update does not depend on the gradient")
        if found[2] != 0:
            raise NoDegree("its update scales with the parameter")
    except NoDegree as problem:
        return str(problem)
    scales = {name: (d[0], d[1]) for name, d in body.scales.items() if d[:2] != ZERO[:2]}
    return Homogeneity(found[0], found[1], scales, body.decays, optimizer.statement.on == "operators", body.factored)


class _Body:
    def __init__(self, scope: Mapping[str, Binding], values: Mapping[str, ir.Node]):
        self.scope, self.values, self.hyper = scope, values, frozenset(values)
        self.known: dict[str, Degree | None] = {"g": GRADIENT, "p": (Fraction(0), Fraction(0), Fraction(1))}
        self.scales: dict[str, Degree] = {}
        self.decays = self.factored = False

    def run(self, statements: tuple[ast.Statement, ...]) -> Degree | None:
        """The degree of the returned value; names keep their degrees. None: the value is 0, or not known yet."""
        for s in statements:
            match s:
                case ast.State(name=name):
                    self.known.setdefault(name, None)
                case ast.Assign(name=name, value=value):
                    self.known[name] = self.of(value) or self.known.get(name)
                case ast.Bind(targets=targets, value=given):
                    for target, value in zip(targets, given, strict=False):
                        if isinstance(target, ast.Name):
                            self.known[target.ident] = self.of(value)
                case ast.For(body=inner):
                    self.run(inner)
                case ast.Return(values=(value, *_)):
                    return self._without_decay(value)
        return None

    # -- expressions --------------------------------------------------------------------------------------------
    def of(self, e: ast.Expr) -> Degree | None:
        match e:
            case ast.Number():
                return ZERO
            case ast.Name(ident=name):
                return self.known[name] if name in self.known else self.scales.get(name, ZERO)
            case ast.Paren(body=inner) | ast.Neg(operand=inner) | ast.Transpose(base=inner):
                return self.of(inner)
            case ast.Sum(terms=terms):
                return ZERO if self._free(e) else self._alike(terms)
            case ast.Product(factors=factors, operators=operators):
                return self._product(factors, operators)
            case ast.Power(operands=(base, *exponents)):
                return _times(self.of(base), self._number(exponents[0]))
            case ast.Call():
                return self._call(e)
        raise NoDegree(f"`{e.span.text}` is not homogeneous in the gradient")

    def _free(self, e: ast.Expr) -> bool:
        """Whether an expression contains only numbers and hyperparameters."""
        match e:
            case ast.Number():
                return True
            case ast.Name(ident=name):
                return name not in self.known
            case ast.Paren(body=inner) | ast.Neg(operand=inner):
                return self._free(inner)
            case ast.Sum(terms=parts) | ast.Product(factors=parts) | ast.Power(operands=parts):
                return all(map(self._free, parts))
            case ast.Call(args=args, extra=extra):
                if extra or e.fn.ident in FACTORS or self._optimizer(e.fn.ident):
                    return False
                return all(self._free(a.value) for a in args)
        return False

    def _optimizer(self, name: str) -> bool:
        binding = self.scope.get(name)
        return binding is not None and isinstance(binding.value, OptimizerName)

    def _alike(self, terms: tuple[ast.Expr, ...]) -> Degree | None:
        """The common degree of terms that are added, or of alternatives."""
        found = [self.of(t) for t in terms if not self._free(t)]
        known = {d for d in found if d is not None}
        if len(known) > 1:
            raise NoDegree(
                f"`{terms[0].span.text}` and the terms added to it scale with different powers of the gradient"
            )
        degree = known.pop() if known else None
        if degree is not None and degree != ZERO:
            for t in terms:
                if self._free(t):
                    self._scaled(t, degree)
        return degree

    def _scaled(self, e: ast.Expr, degree: Degree) -> None:
        """Records that a number is added to something of this degree."""
        match e:
            case ast.Paren(body=inner) | ast.Neg(operand=inner):
                self._scaled(inner, degree)
            case ast.Name(ident=name) if name in self.hyper:
                self.scales[name] = degree
            case ast.Power(operands=(ast.Name(ident=name), exponent)) if name in self.hyper:
                self.scales[name] = _times(degree, 1 / self._number(exponent)) or ZERO
            case ast.Number(text=text) if float(text) == 0:
                return
            case _:
                raise NoDegree(
                    f"the number `{e.span.text}` is added to something that scales with the gradient; make it an argument"
                )

    def _product(self, factors: tuple[ast.Expr, ...], operators: tuple[str, ...]) -> Degree | None:
        total: Degree | None = ZERO
        for factor, sign in zip(factors, ("*", *operators), strict=True):
            degree = self.of(factor)
            if degree is None or total is None:
                total = None
                continue
            k = -1 if sign == "/" else 1
            total = (total[0] + k * degree[0], total[1] + k * degree[1], total[2] + k * degree[2])
        return total

    def _call(self, e: ast.Call) -> Degree | None:
        name, args = e.fn.ident, tuple(a.value for a in e.args)
        binding = self.scope.get(name)
        if self._free(e):
            return ZERO
        if name == "aspect":
            return self._aspect(e)
        if name in FACTORS:
            self.factored = True
            return FACTORS[name]
        if self._optimizer(name):
            raise NoDegree(f"it uses the change that `{name}` makes")
        if name in FACTOR and len(args) == 1:
            return _times(self.of(args[0]), FACTOR[name])
        match name, args:
            case "pow", (base, exponent):
                return _times(self.of(base), self._number(exponent))
            case "hadamard", (one, other):
                return self._product((one, other), ("*",))
            case (("max" | "min"), _):
                return self._chosen(args)
            case "where", (_, one, other):
                return self._chosen((one, other))
        if binding is not None and isinstance(binding.value, UserFn):
            return self._own(binding.value, args)
        if all(self.of(a) in (None, ZERO) for a in args):
            return ZERO
        raise NoDegree(f"`{name}` is applied to something that scales with the gradient")

    def _aspect(self, e: ast.Call) -> Degree:
        """A factor of rows and columns is a power of the width, except where it is 1."""
        match e.extra:
            case (ast.Name(ident=name),) if isinstance(node := self.values.get(name), ir.Constant) and node.value == 0:
                return ZERO
        raise NoDegree(f"`{e.span.text}` depends on the width")

    def _chosen(self, args: tuple[ast.Expr, ...]) -> Degree | None:
        """A number is a guard, as in where(size, size, 1)."""
        return self._alike(tuple(a for a in args if not isinstance(a, ast.Number)))

    def _own(self, fn: UserFn, args: tuple[ast.Expr, ...]) -> Degree | None:
        names = [p.ident if isinstance(p, ast.Name) else str(p) for p in fn.statement.params]
        inner = _Body(fn.scope.others, self.values)
        inner.known = dict(zip(names, (self.of(a) for a in args), strict=False))
        passed = {p: a for p, a in zip(names, args, strict=False) if self._free(a)}
        for p in passed:
            inner.known.pop(p)
        inner.hyper = frozenset(passed)
        found = inner.of(fn.statement.body)
        for p, degree in inner.scales.items():
            self._scaled(passed[p], degree)
        return found

    def _without_decay(self, e: ast.Expr) -> Degree | None:
        """The update without multiples of the parameter."""
        while isinstance(e, ast.Paren | ast.Neg):
            e = e.body if isinstance(e, ast.Paren) else e.operand
        if isinstance(e, ast.Product) and "/" not in e.operators:
            (inner, *others) = [f for f in e.factors if not self._free(f)] or [e]
            return self.of(e) if others or inner is e else self._without_decay(inner)
        if not isinstance(e, ast.Sum):
            return self.of(e)
        kept = tuple(t for t in e.terms if self.of(t) != self.known["p"])
        self.decays = self.decays or len(kept) < len(e.terms)
        return self._alike(kept)

    def _number(self, e: ast.Expr) -> Fraction:
        match e:
            case ast.Number(text=text):
                return Fraction(text)
            case ast.Paren(body=inner):
                return self._number(inner)
            case ast.Neg(operand=inner):
                return -self._number(inner)
            case ast.Product(factors=factors, operators=operators):
                total = self._number(factors[0])
                for factor, sign in zip(factors[1:], operators, strict=True):
                    total = total / self._number(factor) if sign == "/" else total * self._number(factor)
                return total
            case ast.Name(ident=name) if isinstance(node := self.values.get(name), ir.Constant):
                return Fraction(node.value).limit_denominator(1000)
        raise NoDegree(f"the exponent `{e.span.text}` is not a constant fraction")


def _times(degree: Degree | None, factor: Fraction) -> Degree | None:
    return None if degree is None else (degree[0] * factor, degree[1] * factor, degree[2] * factor)
