"""A program as the checker returns it: nothing is differentiated, no optimizer has run, the regime is not known.

The network is a function of its parameters (`Network`, from which width exponents are derived); `Training` is the loss and the
`update` lines. train/ turns them into programs, once scale/ has determined the powers of n.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

from tp_compiler.diagnostics import Diagnostic, Source, Span
from tp_compiler.ir.build import Builder
from tp_compiler.ir.nodes import Array, Carry, InitialKet, InitialScalar, MatrixSymbol, Node
from tp_compiler.ir.operators import Applied
from tp_compiler.ir.program import Output, Program
from tp_compiler.ir.rules import OnEntries, OnLayers, OnOperators
from tp_compiler.ir.types import Axis, Index, Width
from tp_compiler.pages import Shown

#: A part of a family: its positions, None where an index runs.
Member = tuple[int | None, ...]
#: Brackets of a name: indices, and positions for a member of a family.
Brackets = tuple[Index | int, ...]
#: The names of nodes in the source.
Names: TypeAlias = Mapping[Node, tuple[str, Brackets]]
Leaf = Node | MatrixSymbol


@dataclass(frozen=True, eq=False)
class WidthPowers:
    """The effect of a parametrization on training, in powers of n relative to natural units (TP IVb 2.8, 3.1).

    `starts`: the initial value of a readout is n^this; other parameters start as in muP. `steps`: an update is n^this of
    what the optimizer returns. If features move (`operator` is False) the powers are at most 0, and values with a negative one are 0
    in the limit. In the operator regime gradients are those of <v|x> with v of order one, all outputs are n^`reading` of
    vᵀx/√n (so f_0 survives at 0), and an update counts if it is as large as the readout makes it visible:
    `surviving`. `refused`: why there is no limit, with a `remedy` and, if one place is responsible, `at`.
    """

    natural: bool = False  # like `mup` and `ntk`: natural units, without further powers of n
    refused: str = ""
    operator: bool = False
    starts: Mapping[tuple[str, bool], float] = field(default_factory=dict)
    steps: Mapping[tuple[str, bool, Member], float] = field(default_factory=dict)
    readouts: frozenset[str] = frozenset()
    reading: float = 0.0
    surviving: frozenset[tuple[str, bool]] = frozenset()
    remedy: str = ""
    at: Span | None = None
    warnings: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True)
class Homogeneity:
    """How the update of an optimizer grows with its gradient: powers of |d| and |x| where that is |d><x|, and those by which
    hyperparameters are to scale. `whole`: on operators; `factored`: K-FAC's factors enter."""

    signals: Fraction
    inputs: Fraction
    scales: Mapping[str, tuple[Fraction, Fraction]]
    decays: bool
    whole: bool
    factored: bool


@dataclass(frozen=True, eq=False)
class Trainable:
    """A parameter as `train` updates it, or, where nothing is trained, one that is not frozen; `still`: a ket that is
    drawn, but not trained. If it is a readout, its size at initialisation matters.

    `leaf` represents it in `Network.roots`: the value of a ket or scalar, or the symbol of a matrix. A family
    whose members are updated separately has several entries; `member` holds their positions (None: an index that runs).
    """

    name: str
    ket: bool
    leaf: Node | MatrixSymbol
    span: Span
    member: Member = ()
    optimizer: str | None = None
    standard: bool = True  # the optimizer is the library's
    entrywise: bool = True  # it acts on entries
    degree: Homogeneity | str = ""  # of one of the program's own that does not; or why it has none
    arguments: Mapping[str, Node] = field(default_factory=dict)
    still: bool = False


@dataclass(frozen=True, eq=False)
class Exponents:
    """A row of a `parametrization` block: a, b, c, d of a parameter, or of the members of a family at `member`."""

    name: str
    ket: bool
    member: Member
    values: Mapping[str, float]
    span: Span

    @property
    def places(self) -> int:
        """The number of positions it names: a row that names more takes precedence."""
        return sum(p is not None for p in self.member)

    def holds(self, name: str, ket: bool, member: Member) -> bool:
        """Whether it names this parameter, or this member."""
        return (name, ket) == (self.name, self.ket) and meet(self.member, member)


def meet(one: Member, other: Member) -> bool:
    """Whether two parts of a family have a member in common."""
    return all(p is None or q is None or p == q for p, q in zip(one, other, strict=True))


@dataclass(frozen=True, eq=False)
class Network:
    """A program before gradients are taken, as a function of its parameters; width exponents are derived from it.

    `roots`: the loss; if nothing is trained, what the program differentiates, followed by the outputs. `rows`: those
    of a `parametrization` block.
    """

    source: Source
    roots: tuple[Node, ...]
    outputs: tuple[Node, ...]
    parameters: tuple[Trainable, ...]
    parametrization: str
    rows: tuple[Exponents, ...]
    names: Names
    trains: bool

    @property
    def natural(self) -> bool:
        """Natural units, in which no power of n is left (TP IVb, 2.2)."""
        return self.parametrization in ("mup", "ntk")


# training ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class PassedArgument:
    """An argument passed to an optimizer in the source: with `keyword` if one is written, otherwise by position.

    `word`: it is one of a few words (ir/shape_factors.py), not a number.
    """

    name: str
    keyword: bool
    text: str
    word: bool


@dataclass(frozen=True, eq=False)
class WrittenTarget:
    """A target of an `update` line, as written."""

    name: str
    ket: bool
    text: str


@dataclass(frozen=True, eq=False)
class UpdateLine:
    """`update TARGETS with OPTIMIZER(...)`. No targets: those that no other line names. `span` is that of the call."""

    optimizer: str
    standard: bool  # it is the library's
    rule: OnEntries | OnLayers | OnOperators
    on: str  # "", layers or operators
    arguments: Mapping[str, Node]
    targets: tuple[WrittenTarget, ...]
    given: tuple[PassedArgument, ...]
    statement: Span
    span: Span


@dataclass(frozen=True, eq=False)
class Target:
    """A trained parameter: its value in the loop, and the lines that update it or parts of its family."""

    name: str
    ket: bool
    indices: tuple[Index, ...]
    leaf: Leaf
    updates: tuple[tuple[UpdateLine, Member], ...]

    @property
    def shown(self) -> str:
        return f"|{self.name}>" if self.ket else self.name

    @property
    def number(self) -> bool:
        return isinstance(self.leaf, Carry) and not self.leaf.type.slots

    @property
    def start(self) -> Leaf:
        """Its initial value."""
        return initial(self.leaf)


def initial(leaf: Leaf) -> Leaf:
    """The initial value of a parameter that is trained."""
    if isinstance(leaf, MatrixSymbol):
        return leaf.start or leaf
    return leaf.state.init if isinstance(leaf, Carry) else leaf


@dataclass(frozen=True, eq=False)
class Copied:
    """Optimizers defined in the program: `texts` copied from the source, with the functions that they use; `values`
    that they read under their own names, with the brackets of these."""

    texts: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, tuple[Node, tuple[Index, ...]]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Training:
    """`train CLOCK = EXTENT { ... }`: `clock` is the index over the steps, `times` are those of a gradient flow."""

    loss: Node
    clip: Node | None
    clock: Index
    times: tuple[float, ...]
    targets: tuple[Target, ...]
    lines: tuple[UpdateLine, ...]
    copied: Copied
    loss_span: Span
    extent: Span
    listed: bool  # the extent is a list
    head: Span


# the whole -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Declared:
    """A name that a declaration brings: a ket, a matrix, a trainable scalar, or data."""

    ident: str
    value: InitialKet | InitialScalar | Array | MatrixSymbol

    @property
    def ket(self) -> bool:
        return isinstance(self.value, InitialKet)

    @property
    def indices(self) -> tuple[Index, ...]:
        return self.value.indices if isinstance(self.value, MatrixSymbol) else self.value.type.indices

    @property
    def numbers(self) -> tuple[Node, ...]:
        """The nodes in the declaration: mean and variance, the parameters of another law, or a value."""
        if isinstance(self.value, MatrixSymbol):
            return (self.value.variance,)
        if isinstance(self.value, InitialKet) and self.value.parameters:
            return tuple(p for p in self.value.parameters if not isinstance(p, Array) or p.name)
        return self.value.args


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The words of a program, for writing it out again: axes with the names of their indices, declarations in the order
    of the source, names of the library, the results of functions of operators, and data that the caller gave."""

    axes: Mapping[Axis, list[str]]
    declared: tuple[Declared, ...]
    library: frozenset[str]
    applied: Mapping[Node, Applied]
    given: frozenset[str]


@dataclass(frozen=True, eq=False)
class Model:
    """A checked program. `build` made its nodes, and makes those of its training."""

    source: Source
    outputs: tuple[Output, ...]
    axes: tuple[Axis, ...]
    widths: tuple[Width, ...]
    names: Names
    network: Network
    training: Training | None
    vocabulary: Vocabulary
    build: Builder
    warnings: tuple[Diagnostic, ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Compiled(Shown, Program):
    """The program of the limit; `finite` is that of networks of finite width, which may differ: in the neural
    tangent limit, and where powers of n are relative to natural units. `settings` and `given`, arrays by name, have replaced
    numbers of its text."""

    network: Network
    finite: Program
    settings: Mapping[str, float] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)

    def _brief(self) -> str:
        outputs = ", ".join(o.name for o in self.outputs) or "no outputs"
        return f"Program {self.source.name}: {outputs}"
