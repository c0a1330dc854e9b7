"""The instruction set of NE⊗ORT with finite axes, on one screen (Tensor Programs IVb, Def 2.6.1).

    Constant            a number                                         scalar
    Array               data over named indices                          scalar
    Position            the 1-based position of an index                 scalar
    InitialKet          a declared ket (family): N(mean, covariance)     ket
    MatMul              W x or Wᵀ x                                      ket
    Map                 an entrywise function                            same slots as its arguments
    Contract            Σ over indices, mean over slots, of a product    Avg, brackets, sums, OuterNonlin's averages
    Reduce              max, min, prod, logsumexp over one index
    Reindex             rename, select, gather, take diagonals           no arithmetic
    Shift  Cumulate     move, and running sums, along an axis
    Stack               assemble a family
    Copy                |x>@k: slot 0 becomes slot k
    Linalg              inv, pow, solve, cholesky, logdet, matfun        of finite matrices of scalars
    Join  Spectral      a basis of kets in one index; functions of an operator in such a basis
    Clt                 vᵀx / √n                                         random scalar
    InitialScalar       a declared trainable scalar                      scalar; its argument once gradients are taken
    Stop                a constant to differentiation                    its argument once gradients are taken
    Clock Carry Apply Trace    training: updates so far, a state, a learned matrix times a ket, values over the steps
    WidthPower          n to a power: at finite width only                scalar
    Unavailable         a construct that is checked but not supported yet

OuterNonlin of order r is `Contract(slots=(1..r))` of a `Map` whose arguments carry slots 0..r; Avg is
`Contract(slots=(0,))`. Operators do not exist here: the checker lowers them to what they do to a ket.
A program does *not* contain names, scopes, loops, function calls, or kets of unbound slots.

Nodes are immutable and compared by identity; `Builder` shares equal nodes. `serial` numbers increase along the
program, so that ascending serial numbers are a topological order.

A class declares its instruction once: its attributes are its fields, `takes` names its arguments, `linear` says what
it does to them. Rebuilding, printing and sharing derive from these; so do dependence, symmetries and sizes where an
instruction is linear. What an engine computes is a row of the engine's table.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from itertools import count
from typing import Any, ClassVar, Literal, TypeAlias

from tp_compiler.diagnostics import Diagnostic, Span
from tp_compiler.ir.types import Index, Type, Width

_serial = count()


@dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """Common to all instructions: the type, the place in the source, the argument nodes."""

    #: The names of the arguments, as in the method of `Builder`; the last is starred if it takes any number.
    takes: ClassVar[tuple[str, ...]] = ()
    #: "entries": every entry is a fixed linear combination of entries of the first argument (of all, where their number
    #: is any) on the same neurons. "kets": as linear, but on other neurons. "": anything else.
    linear: ClassVar[Literal["", "entries", "kets"]] = ""

    type: Type
    span: Span
    args: tuple[Node, ...] = ()
    serial: int = field(default_factory=lambda: next(_serial))

    @classmethod
    @cache
    def attributes(cls) -> tuple[str, ...]:
        """The names of an instruction's fields that are not arguments."""
        return tuple(f.name for f in fields(cls) if f.name not in {common.name for common in fields(Node)})

    @cached_property
    def labels(self) -> tuple[Index | int, ...]:
        """What the dimensions of its values stand for: the indices in order, then the numbers of the slots."""
        return (*self.type.indices, *(slot for slot, _ in self.type.slots))

    @property
    def linear_in(self) -> tuple[Node, ...]:
        """The arguments that the value is a linear function of, all of them together."""
        if not self.linear:
            return ()
        return self.args if self.takes[0].startswith("*") else self.args[:1]


#: A value -> the nodes whose cotangent it is, each with the labels in the place of the node's own indices.
Cotangents: TypeAlias = dict[Node, list[tuple[Node, tuple[Index | int, ...]]]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Constant(Node):
    value: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Array(Node):
    """`values` is an array of shape `type.shape` (opaque here; NumPy outside)."""

    name: str
    values: Any
    integer: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Position(Node):
    """The position 1..size of `index`, as a scalar over that index."""

    index: Index


@dataclass(frozen=True, eq=False)
class KetSymbol:
    """A declared initial ket. Entries are independent over neurons.

    `law`: "normal", a jointly Gaussian family; "uniform", "rademacher" or "bernoulli", independent members; "rows", one
    row of an array for each neuron, whose entries are the members. `pair` is None for independent members of a Gaussian family;
    otherwise (left, right) index names of the covariance S[i,j].
    """

    name: str
    indices: tuple[Index, ...]
    width: Width
    span: Span
    frozen: bool = False
    pair: tuple[Index, Index] | None = None
    law: str = "normal"


@dataclass(frozen=True, eq=False)
class MatrixSymbol:
    """A declared matrix (family) rows x cols with independent entries of mean 0 and variance σ²/fan-in.

    `law` is "normal", "rademacher" or "uniform" (the same limit by universality); `variance` σ² is a scalar node.
    """

    name: str
    indices: tuple[Index, ...]
    rows: Width
    cols: Width
    law: str
    variance: Node
    span: Span
    frozen: bool = False
    start: MatrixSymbol | None = None  # of a trained matrix W_t: its initial value W_0


@dataclass(frozen=True, eq=False)
class ScalarSymbol:
    """A declared trainable scalar (family)."""

    name: str
    indices: tuple[Index, ...]
    span: Span
    frozen: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class InitialScalar(Node):
    """args: (value,) over the symbol's indices. Differentiation sees the parameter, evaluation the value."""

    takes = ("value",)
    linear = "entries"

    symbol: ScalarSymbol


@dataclass(frozen=True, eq=False, kw_only=True)
class Stop(Node):
    """args: (x,). Its value is x; its derivative is 0."""

    takes = ("x",)
    linear = "entries"


@dataclass(frozen=True, eq=False, kw_only=True)
class InitialKet(Node):
    """args: (mean, variance, *parameters) over the symbol's indices; with `symbol.pair`, args[1] is the covariance
    S[left,right].

    Laws other than "normal" have the parameters that the program gives: the half-width, or both ends, of uniform; the size of
    rademacher, if it has one; the probability of bernoulli; an array over `row` and the symbol's indices.
    """

    takes = ("mean", "covariance", "*parameters")

    symbol: KetSymbol

    @property
    def parameters(self) -> tuple[Node, ...]:
        """What the law is a function of, besides mean and variance."""
        return self.args[2:]

    @property
    def row(self) -> Index:
        """The index over the rows that the law "rows" draws from."""
        return next(i for i in self.args[2].type.indices if i not in self.symbol.indices)


@dataclass(frozen=True, eq=False, kw_only=True)
class MatMul(Node):
    """args: (x,). `member` has one entry per index of the family: an Index (batched over it; each one once) or a 1-based
    position.

    If x has the same Index, member l is applied to x[l]; otherwise every member is applied to every x.
    """

    takes = ("x",)
    linear = "kets"

    matrix: MatrixSymbol
    member: tuple[Index | int, ...]
    transposed: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class Map(Node):
    """`fn` of `primitives.PRIMITIVES` applied entry by entry; arguments broadcast over indices and slots by name."""

    takes = ("*args",)

    fn: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Contract(Node):
    """The product of args, summed over the indices `over`, averaged over the `slots`."""

    takes = ("*args",)

    over: tuple[Index, ...]
    slots: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Reduce(Node):
    """args: (x,). `op` is one of max, min, prod, logsumexp."""

    takes = ("x",)

    op: str
    index: Index


@dataclass(frozen=True, eq=False, kw_only=True)
class Reindex(Node):
    """args: (x, *gathers). One selector per index of x, in order: an Index (rename; a repeated one is a diagonal),
    a 1-based position, or `Gather(k)`: positions read from the integer scalar args[k]."""

    takes = ("x", "*gathers")
    linear = "entries"

    selectors: tuple[Index | int | Gather, ...]


@dataclass(frozen=True, slots=True)
class Gather:
    arg: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Along(Node):
    """args: (x,). A linear map along `index` with coefficients 0 and 1, the same at all other labels."""

    takes = ("x",)
    linear = "entries"
    #: Its name in the language.
    word: ClassVar[str]

    index: Index

    @property
    def options(self) -> tuple[str, ...]:
        """The text that follows the argument in the language."""
        raise NotImplementedError

    @property
    def terms(self) -> tuple[int, int]:
        """How many entries are added up, at the least and at the most."""
        raise NotImplementedError

    def transposed(self) -> dict[str, Any]:
        """The attributes of the transposed map, an instruction of the same class."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, kw_only=True)
class Shift(Along):
    """args: (x,). result[i] = x[i - by], zero outside the axis."""

    word = "shift"

    by: int

    @property
    def options(self) -> tuple[str, ...]:
        return (str(self.by),)

    @property
    def terms(self) -> tuple[int, int]:
        return int(self.by == 0), int(abs(self.by) < self.index.size)

    def transposed(self) -> dict[str, Any]:
        return {"by": -self.by}


@dataclass(frozen=True, eq=False, kw_only=True)
class Cumulate(Along):
    """args: (x,). result[i] = Σ_{k ≤ i} x[k]; `reverse`: Σ_{k ≥ i} x[k]."""

    word = "cumsum"

    reverse: bool

    @property
    def options(self) -> tuple[str, ...]:
        return ("reverse = 1",) if self.reverse else ()

    @property
    def terms(self) -> tuple[int, int]:
        return 1, self.index.size

    def transposed(self) -> dict[str, Any]:
        return {"reverse": not self.reverse}


@dataclass(frozen=True, eq=False, kw_only=True)
class Stack(Node):
    """args[k] becomes the member at position k + 1 of `index`."""

    takes = ("*args",)
    linear = "entries"

    index: Index


@dataclass(frozen=True, eq=False, kw_only=True)
class Copy(Node):
    """args: (x,), a ket; the result has slot `slot` instead of slot 0."""

    takes = ("x",)
    linear = "kets"

    slot: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Linalg(Node):
    """args: (K, ...), K a scalar over `rows` and `cols` (two indices of one axis).

    inv, cholesky: matrices over (rows, cols). pow: args (K, p). matfun: `fn` of the eigenvalues of symmetric K.
    solve: args (K, y), y over `cols` (the vector); the result carries `rows`. logdet: no index of the pair.
    """

    takes = ("*args",)

    op: str
    rows: Index
    cols: Index
    fn: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class Join(Node):
    """One index `index` instead of several: args[k] flattened over its `groups[k]`, the last varying fastest, one
    argument after the other. Sizes add up to that of `index`; an index that an argument lacks is repeated."""

    takes = ("*args",)
    linear = "entries"

    index: Index
    groups: tuple[tuple[Index, ...], ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Spectral(Node):
    """A function of the operator s I + Σ_ab |e_a> C_ab <e_b|, in the basis of kets e; the result is f(s) I + |e> C' <e|
    and this is C', over (rows, cols). K = <e|e> is over (rows, cols), too (docs/matrix_optimizers.md, push-through).

    power: args (K, C, s, p), C symmetric. inverse: args (K, C, s), any C. matfun: args (K, C, s), `fn` of a symmetric
    one. polar: args (C, K of the rows over (rows, rows2), K of the columns over (cols, cols2)): |e>C<e'| with its nonzero
    singular values set to 1. eigenvectors: args (K, C), both over (rows, rows2), C symmetric; the orthonormal eigenvectors are
    |e> C', the eigenvalues descending along cols, and columns of the null space are 0. On the null space of an operator
    (s = 0) powers are 0: pseudo-inverses. A power or matfun with `hidden` (rows2,) has a last argument B over (rows,
    cols) more, and is D with |e> D = f(s + |e>C<e|) |e> B: where f(s) is large, f(s) B + C' K B would be a small difference.
    """

    takes = ("*args",)

    op: str
    rows: Index
    cols: Index
    hidden: tuple[Index, ...] = ()  # rows2 (and cols2) of polar and eigenvectors
    fn: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class Clt(Node):
    """args: (v, x), kets of one width class: vᵀx / √n."""

    takes = ("v", "x")


@dataclass(frozen=True, eq=False)
class State:
    """A state of the training loop: a parameter or a state of its optimizer.

    `type` has no slot (a number), slot 0 (a ket), or the slots 0 and `slot` (natural entries of a matrix: row, column).
    `init` is the value before step 0: a scalar or a ket, broadcast to the type.
    """

    name: str
    type: Type
    init: Node
    span: Span

    @property
    def slot(self) -> int:
        """The slot of the columns."""
        return self.type.slots[1][0]

    @property
    def is_matrix(self) -> bool:
        return len(self.type.slots) == 2


@dataclass(frozen=True, eq=False, kw_only=True)
class Clock(Node):
    """How many updates were made: 0, 1, ..., steps. After the loop: steps.

    `time`: what `step` is as a number in gradient flow. No program that is evaluated has such a clock (train/flow.py).
    """

    time: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Carry(Node):
    """The value of a state at this step; after the loop, its last value."""

    state: State


@dataclass(frozen=True, eq=False, kw_only=True)
class Apply(Node):
    """args: (x,). A matrix-valued state (its natural entries Δ) times a ket: the mean over β of Δ(α, β) x(β).

    `member` as in MatMul. Transposed: the rows and columns of Δ exchanged, times ρ = lim rows/cols, as for (|y><x|)ᵀ.
    """

    takes = ("x",)
    linear = "kets"

    state: State
    member: tuple[Index | int, ...]
    transposed: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class Trace(Node):
    """args: (x,), a scalar of the loop: its values after 0, 1, ... updates, over `index`; to the last of `steps` updates, or
    without that one where x has no value then."""

    takes = ("x",)

    index: Index

    def runs_to(self, steps: int) -> bool:
        """Whether it has a value after so many updates."""
        return steps < self.index.size


@dataclass(frozen=True, eq=False, kw_only=True)
class WidthPower(Node):
    """n ** exponent: in programs that are read at finite width only."""

    exponent: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Unavailable(Node):
    """Checked, typed, but without a meaning in this version (or, with `why` and its `remedy`, without a limit at all)."""

    takes = ("*args",)

    construct: str
    why: str = ""
    remedy: str = ""

    def diagnostic(self, remedy: str) -> Diagnostic:
        """The diagnostic reported when it is evaluated."""
        if self.why:
            return Diagnostic("NX504", f"{self.construct} has no limit: {self.why}", self.span, self.remedy)
        message = f"{self.construct} is not supported by any evaluator in this version"
        return Diagnostic("NX500", message, self.span, remedy)


def _concrete(kind: type[Node]) -> tuple[type[Node], ...]:
    below = kind.__subclasses__()
    return tuple(k for sub in below for k in _concrete(sub)) if below else (kind,)


#: The instruction set, and those of it that act along one index.
INSTRUCTIONS = _concrete(Node)
ALONG = _concrete(Along)
