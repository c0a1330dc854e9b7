"""What an expression means to the checker: a scalar, a ket, a bra, an operator or a function.

Values carry nodes of the intermediate representation. Operators have no node: they are kept as expressions
(operators.py) and lowered when they meet a ket. `Broken` stands for a part already reported, so that one mistake
gives one message.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tp_compiler.diagnostics import Span
from tp_compiler.frontend import syntax as ast
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Index, Width

if TYPE_CHECKING:
    from tp_compiler.check.names import Scope


class Value:
    """Anything an expression can denote."""

    kind = "value"


@dataclass(frozen=True, eq=False)
class Scalar(Value):
    """`over`: indices that it was written over beside those of its node, which is constant over them."""

    node: ir.Node
    over: tuple[Index, ...] = ()
    kind = "scalar"


@dataclass(frozen=True, eq=False)
class Ket(Value):
    """`node` has slot 0, or no slot at all: a constant ket, of every width class. Inside E[k] it may have copies.
    `over` is that of a scalar."""

    node: ir.Node
    over: tuple[Index, ...] = ()
    kind = "ket"


@dataclass(frozen=True, eq=False)
class Bra(Value):
    """<node| operator: the functional |x> -> <node|operator|x>."""

    node: ir.Node
    operator: Operator | None = None
    kind = "bra"


@dataclass(frozen=True, eq=False)
class Broken(Value):
    """An expression that has been reported."""

    kind = "error"


# operators -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Operator(Value):
    """A linear map of kets, unevaluated."""

    kind = "operator"


@dataclass(frozen=True, eq=False)
class Matrix(Operator):
    """W (or member W[l]), or its transpose."""

    symbol: ir.MatrixSymbol
    member: tuple[Index | int, ...]
    transposed: bool = False


@dataclass(frozen=True, eq=False)
class GatheredMatrix(Operator):
    """A member chosen by integer data: applied to every member, then gathered."""

    matrix: Matrix
    hidden: tuple[Index, ...]
    positions: tuple[ir.Node, ...]


@dataclass(frozen=True, eq=False)
class Outer(Operator):
    """|left><right|"""

    left: ir.Node
    right: ir.Node


@dataclass(frozen=True, eq=False)
class Kernel(Operator):
    """An operator given by its natural entries k(α, β): a node over slot 0 (α) and slot `slot` (β).

    Acts on |z> as the average over slot β of k(α, β) z(β) (Tensor Programs IVb, nonlinear outer product).
    `rows`, `cols` are the width classes.
    """

    node: ir.Node
    slot: int
    rows: Width
    cols: Width


@dataclass(frozen=True, eq=False)
class Identity(Operator):
    pass


@dataclass(frozen=True, eq=False)
class Diagonal(Operator):
    """|z> -> |node> * |z>, entrywise."""

    node: ir.Node


@dataclass(frozen=True, eq=False)
class Scaled(Operator):
    factor: ir.Node
    operator: Operator


@dataclass(frozen=True, eq=False)
class Added(Operator):
    terms: tuple[Operator, ...]


@dataclass(frozen=True, eq=False)
class Composed(Operator):
    """factors[0] factors[1] ...: the last acts first."""

    factors: tuple[Operator, ...]


@dataclass(frozen=True, eq=False)
class Summed(Operator):
    """The sum of a family of operators over a hidden index."""

    operator: Operator
    index: Index


@dataclass(frozen=True, eq=False)
class Function(Operator):
    """pow, inv, msign or matfun of an operator (spectral.py); args: the exponent of pow, fn: the name for matfun."""

    name: str
    operator: Operator
    args: tuple[ir.Node, ...] = ()
    fn: str = ""


@dataclass(frozen=True, eq=False)
class Flipped(Operator):
    """The transpose of an operator that has none of its own kind."""

    operator: Operator


@dataclass(frozen=True, eq=False)
class Columns(Operator):
    """A family of kets |node> over `index` as one operator, from arrays over the index to kets."""

    node: ir.Node
    index: Index


@dataclass(frozen=True, eq=False)
class Table(Operator):
    """A finite matrix: an operator from arrays over an axis to arrays, with entries over (rows, cols)."""

    node: ir.Node
    rows: Index
    cols: Index


@dataclass(frozen=True, eq=False)
class Carried(Operator):
    """An operator that training carries, and that is not spelled out: its entry in a table of spectral.py."""

    name: str
    rows: Width | None
    cols: Width | None
    indices: tuple[Index, ...] = ()


@dataclass(frozen=True, eq=False)
class Fitted(Value):
    """What the loss fits: the outputs of a squared loss, else the losses of the examples (layers.py)."""

    kind = "what the loss fits"


@dataclass(frozen=True, eq=False)
class Opaque(Operator):
    """An operator whose evaluation is refused by name in this version."""

    construct: str
    indices: tuple[Index, ...] = ()
    parts: tuple[ir.Node, ...] = ()


# functions -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Primitive(Value):
    name: str
    kind = "function"


@dataclass(frozen=True, eq=False)
class Builtin(Value):
    """A function with rules of its own: reductions, E, finite matrices, grad ... (functions.py)."""

    name: str
    kind = "function"


@dataclass(frozen=True, eq=False)
class UserFn(Value):
    statement: ast.Fn
    scope: Scope
    kind = "function"


@dataclass(frozen=True, eq=False)
class UserDef(Value):
    statement: ast.Def
    scope: Scope
    kind = "def"


@dataclass(frozen=True, eq=False)
class OptimizerName(Value):
    statement: ast.Optimizer
    scope: Scope
    kind = "optimizer"


@dataclass(frozen=True, eq=False)
class IndexName(Value):
    """An index of a declared axis; as a scalar, its position."""

    index: Index
    kind = "index"


@dataclass(frozen=True, eq=False)
class WidthName(Value):
    width: Width
    kind = "width"


@dataclass(frozen=True, eq=False)
class Binding:
    """A name's value. `indices` are those written at the binding; reading `x[j]` puts j for the first of them.

    `clock` is the index `step` where the name is a quantity of the training loop, readable as `loss[step]`.
    `members` holds what loops have bound member by member: positions of the `fixed` brackets -> value.
    """

    value: Value
    indices: tuple[Index, ...] = ()
    span: Span | None = None
    declared: bool = False
    fixed: tuple[int, ...] = ()
    members: dict[tuple[int, ...], Value] = field(default_factory=dict)
    parameter: bool = False
    clock: Index | None = None
