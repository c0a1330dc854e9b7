"""The values of expressions in the checker: scalars, kets, bras, operators and functions.

Values carry nodes of the intermediate representation. Operators have no node: they are kept as expressions
(operators.py) and lowered when they meet a ket. `Broken` stands for a part already reported, so that one mistake
gives one message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.operators import Added as Added
from tp_compiler.ir.operators import Carried as Carried
from tp_compiler.ir.operators import Columns as Columns
from tp_compiler.ir.operators import Composed as Composed
from tp_compiler.ir.operators import Diagonal as Diagonal
from tp_compiler.ir.operators import FiniteMatrix as FiniteMatrix
from tp_compiler.ir.operators import Flipped as Flipped
from tp_compiler.ir.operators import Function as Function
from tp_compiler.ir.operators import GatheredMatrix as GatheredMatrix
from tp_compiler.ir.operators import Identity as Identity
from tp_compiler.ir.operators import Kernel as Kernel
from tp_compiler.ir.operators import Matrix as Matrix
from tp_compiler.ir.operators import Opaque as Opaque
from tp_compiler.ir.operators import Operator as Operator
from tp_compiler.ir.operators import Outer as Outer
from tp_compiler.ir.operators import Scaled as Scaled
from tp_compiler.ir.operators import Summed as Summed
from tp_compiler.ir.types import Index, Width


class Value(Protocol):
    """Anything an expression can denote."""

    @property
    def kind(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Scalar:
    """`over`: indices it was written over in addition to those of its node, which is constant over them."""

    node: ir.Node
    over: tuple[Index, ...] = ()
    kind = "scalar"


@dataclass(frozen=True, eq=False)
class Ket:
    """`node` has slot 0, or no slot: a constant ket, which belongs to every width class. Inside E[k] it may have copies.
    `over` has the same meaning as for a scalar."""

    node: ir.Node
    over: tuple[Index, ...] = ()
    kind = "ket"


@dataclass(frozen=True, eq=False)
class Bra:
    """<node| operator: the functional |x> -> <node|operator|x>."""

    node: ir.Node
    operator: Operator | None = None
    kind = "bra"


@dataclass(frozen=True, eq=False)
class Broken:
    """An expression that has been reported."""

    kind = "error"


@dataclass(frozen=True, eq=False)
class Fitted:
    """The fitted outputs: the outputs of a squared loss, otherwise the losses of the examples (layers.py)."""

    kind = "what the loss fits"


# functions -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class PrimitiveName:
    name: str
    kind = "function"


@dataclass(frozen=True, eq=False)
class Builtin:
    """A function with special rules: reductions, E, finite matrices, grad ... (functions.py)."""

    name: str
    kind = "function"


@dataclass(frozen=True, eq=False)
class IndexName:
    """An index of a declared axis; as a scalar, its position."""

    index: Index
    kind = "index"


@dataclass(frozen=True, eq=False)
class WidthName:
    width: Width
    kind = "width"
