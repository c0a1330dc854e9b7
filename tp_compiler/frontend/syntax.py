"""The abstract syntax: one dataclass per construct of `grammar/nexort.lark`, each with its span.

The tree records what was written, not what it means: `c (x)` is a `Call` until the checker knows that `c` is a
scalar, sums and products are flat lists, and a label is an ordinary expression inside `Ket`, `Bra`, `Mean`,
`Braket` or `Sandwich`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tp_compiler.diagnostics import Source, Span

#: Names with a meaning of their own; nothing may be declared under them.
RESERVED = {
    "E": "`E[1](...)` averages over a copy",
    "I": "`I` is the identity operator",
    "T": "`W^T` is a transpose",
    "clt": "`clt <v|x>` is a bracket",
    "step": "`step` counts updates, and `step(x)` is a function",
}


@dataclass(frozen=True, slots=True)
class Tree:
    span: Span


# expressions ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Expr(Tree):
    pass


@dataclass(frozen=True, slots=True)
class Number(Expr):
    text: str


@dataclass(frozen=True, slots=True)
class Name(Expr):
    """`xi[i,d]`, `relu'`; `indices` is None without brackets."""

    ident: str
    indices: tuple[Expr, ...] | None = None
    primes: int = 0


@dataclass(frozen=True, slots=True)
class Arg(Tree):
    """A call's argument; `keyword` for `slope = 0.1`."""

    value: Expr
    keyword: str | None = None


@dataclass(frozen=True, slots=True)
class Call(Expr):
    """`f(x, y; z)`: `extra` are the arguments after the semicolon. `sum[d](...)` and `E[1](...)` have their brackets in `fn`."""

    fn: Name
    args: tuple[Arg, ...]
    extra: tuple[Expr, ...] = ()


@dataclass(frozen=True, slots=True)
class Paren(Expr):
    body: Expr


@dataclass(frozen=True, slots=True)
class Ket(Expr):
    """|label>"""

    label: Expr


@dataclass(frozen=True, slots=True)
class Bra(Expr):
    """<label|"""

    label: Expr


@dataclass(frozen=True, slots=True)
class Mean(Expr):
    """<label>"""

    label: Expr


@dataclass(frozen=True, slots=True)
class Braket(Expr):
    """<left|right>"""

    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Sandwich(Expr):
    """<left|operator|right>"""

    left: Expr
    operator: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Clt(Expr):
    """clt <v|x>"""

    bracket: Braket | Sandwich | Mean


@dataclass(frozen=True, slots=True)
class Transpose(Expr):
    """base^T"""

    base: Expr


@dataclass(frozen=True, slots=True)
class CopyMark(Expr):
    """base@k"""

    base: Expr
    copy: int


@dataclass(frozen=True, slots=True)
class Power(Expr):
    """base ^ exponent ^ ... (right-associative), flat: operands[0] is the base."""

    operands: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Neg(Expr):
    """An odd number of unary minus signs."""

    operand: Expr


@dataclass(frozen=True, slots=True)
class Product(Expr):
    """Flat, left to right; `operators[k]` (`*`, `/` or `` for juxtaposition) precedes `factors[k + 1]`."""

    factors: tuple[Expr, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sum(Expr):
    """Flat; `signs[k]` is + or - and belongs to `terms[k]`."""

    terms: tuple[Expr, ...]
    signs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListLiteral(Expr):
    """[a, b, ...] of numbers or lists (inline data)."""

    items: tuple[Expr, ...]


# statements ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Statement(Tree):
    pass


@dataclass(frozen=True, slots=True)
class Version(Statement):
    number: int


@dataclass(frozen=True, slots=True)
class AxisDecl(Statement):
    """axis i, j : 4, or axis i: the size is that of data over it."""

    names: tuple[Name, ...]
    size: Expr | None


@dataclass(frozen=True, slots=True)
class WidthDecl(Statement):
    name: str
    ratio: Expr


@dataclass(frozen=True, slots=True)
class Law(Tree):
    """`N(mean, variance)`, `uniform(a)`, `rademacher`."""

    name: str
    args: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class FromFile(Tree):
    path: str
    key: str | None


@dataclass(frozen=True, slots=True)
class FromArray(Tree):
    """`from X[r,d]`: the rows of an array of the program."""

    rows: Expr


@dataclass(frozen=True, slots=True)
class Drawn(Tree):
    law: Law
    seed: Expr | None


@dataclass(frozen=True, slots=True)
class DataDecl(Statement):
    """data y[i] = [1, 2], data y[i] from "y.npy", data y[i] ~ N(0, 1), or data y[i]: the caller gives them."""

    target: Name
    source: Expr | FromFile | Drawn | None


@dataclass(frozen=True, slots=True)
class ScalarDecl(Statement):
    """scalar c = 0, scalar c[i] = ...: trainable."""

    target: Name
    value: Expr
    frozen: bool


@dataclass(frozen=True, slots=True)
class KetDecl(Statement):
    """ket |u[d]> : m ~ N(0, 1) frozen, ket |x[d]> from "rows.npy" (or from an array), or ket |b> = 0."""

    target: Name
    width: str | None
    law: Law | FromFile | FromArray | Expr
    frozen: bool


@dataclass(frozen=True, slots=True)
class MatrixDecl(Statement):
    """matrix R[l] : m x n ~ N(0, 1) frozen"""

    target: Name
    rows: str | None
    cols: str | None
    law: Law
    frozen: bool


@dataclass(frozen=True, slots=True)
class Bind(Statement):
    """targets = value; a target is a Name (scalar or operator) or a Ket whose label is a Name."""

    targets: tuple[Name | Ket, ...]
    value: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class For(Statement):
    """for l in low..high { body }; without `low`, over all positions of the axis that `high` names, which is `variable`."""

    variable: str
    low: Expr | None
    high: Expr
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Param(Tree):
    """A parameter of a def: `x[d]`, `|x[s]>` (kind "ket"), `op W` (kind "operator"), with an optional default."""

    name: Name
    kind: str
    default: Expr | None = None


@dataclass(frozen=True, slots=True)
class Def(Statement):
    """def name[s,t](params) { body }: `indices` stand for those in the brackets of a call."""

    name: str
    params: tuple[Param, ...]
    body: tuple[Statement, ...]
    indices: tuple[Name, ...] = ()


@dataclass(frozen=True, slots=True)
class Return(Statement):
    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Fn(Statement):
    """fn phi(z, w) = expression"""

    name: str
    params: tuple[str, ...]
    body: Expr


@dataclass(frozen=True, slots=True)
class Output(Statement):
    """output target, output target = value, output expression (target None)"""

    target: Name | None
    value: Expr | None


@dataclass(frozen=True, slots=True)
class Import(Statement):
    """import "file.nexort" (quoted) or import layers"""

    path: str
    quoted: bool


@dataclass(frozen=True, slots=True)
class State(Statement):
    """state m = 0 scalar (in an optimizer body)"""

    name: str
    value: Expr
    scalar: bool


@dataclass(frozen=True, slots=True)
class Assign(Statement):
    """m := expression (in an optimizer body)"""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Init(Statement):
    """init { p := ... } (in an optimizer body)"""

    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Optimizer(Statement):
    name: str
    params: tuple[Param, ...]
    on: str  # "" (entrywise), "operators" or "layers"
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Minimize(Statement):
    loss: Expr
    clip: Expr | None


@dataclass(frozen=True, slots=True)
class Update(Statement):
    """update |u>, W with Adam(lr = 0.1); targets () means `update all`."""

    targets: tuple[Name | Ket, ...]
    optimizer: Call


@dataclass(frozen=True, slots=True)
class Train(Statement):
    """train steps = 10 { ... } or train time = [0.5, 1] { ... }"""

    clock: str
    extent: Expr
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class ParametrizationRow(Tree):
    """|u> : a=0, b=0, c=0, d=1"""

    target: Name | Ket
    exponents: tuple[Arg, ...]


@dataclass(frozen=True, slots=True)
class Parametrization(Statement):
    """parametrization mup, or a block of rows (`name` None)."""

    name: str | None
    rows: tuple[ParametrizationRow, ...]


@dataclass(frozen=True, slots=True)
class File:
    """A parsed program. `comments` are (offset, text) of every comment, for the formatter."""

    source: Source
    statements: tuple[Statement, ...]
    comments: tuple[tuple[int, str], ...] = ()
