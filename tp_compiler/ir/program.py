"""A checked program, as the evaluators read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from tp_compiler.diagnostics import Diagnostic, Source, Span
from tp_compiler.ir.nodes import Cotangents, MatrixSymbol, Node, State
from tp_compiler.ir.types import Axis, Index, Width

#: A part of a family: its positions, None where an index runs.
Member = tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class Output:
    """What `output NAME[indices] = ...` asks for. The node may lack some of `indices`: it is constant over them."""

    name: str
    indices: tuple[Index, ...]
    node: Node
    span: Span


@dataclass(frozen=True, eq=False)
class Loop:
    """The training loop: `following[state]` is the value of a state after the update of a step.

    It stays a loop: its instructions exist once, whatever the number of steps. They read the states through
    `Carry` and the number of updates through `Clock`. A quantity over `index` has the positions 0, 1, ..., steps.

    With `times`, gradient flow: step k goes from times[k-1] (0 before the first) to times[k], and
    `following - state` is the rate of change of a state.
    """

    steps: int
    index: Index
    following: Mapping[State, Node]
    span: Span
    times: tuple[float, ...] = ()

    def duration(self, step: int) -> float:
        """The duration of the flow in one step."""
        return self.times[step] - (self.times[step - 1] if step else 0.0)


@dataclass(frozen=True, eq=False)
class Regime:
    """The effect of a parametrization on training, in powers of n relative to natural units (TP IVb 2.8, 3.1).

    `starts`: the initial value of a readout is n^this; other parameters start as in muP. `steps`: an update is n^this of
    what the optimizer returns. If features move (`operator` is False) the powers are at most 0, and values with a negative one are 0
    in the limit. In the operator regime gradients are those of <v|x> with v of order one, all outputs are n^`reading` of
    vᵀx/√n (so f_0 survives at 0), and an update counts if it is as large as the readout makes it visible:
    `surviving`. `refused`: why there is no limit, with a `remedy` and, if one place is responsible, `at`.
    """

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
        """How many positions it names: a row that names more goes before one that names fewer."""
        return sum(p is not None for p in self.member)

    def holds(self, name: str, ket: bool, member: Member) -> bool:
        """Does it speak of this parameter, or of this member?"""
        return (name, ket) == (self.name, self.ket) and meet(self.member, member)


def meet(one: Member, other: Member) -> bool:
    """Have two parts of a family a member in common?"""
    return all(p is None or q is None or p == q for p, q in zip(one, other, strict=True))


@dataclass(frozen=True, eq=False)
class Network:
    """A program before gradients are taken, as a function of its parameters; width exponents are derived from it.

    `roots`: the loss; if nothing is trained, what the program differentiates, followed by the outputs. `rows`: those
    of a `parametrization` block.
    """

    roots: tuple[Node, ...]
    outputs: tuple[Node, ...]
    parameters: tuple[Trainable, ...]
    parametrization: str
    rows: tuple[Exponents, ...]
    names: Mapping[Node, tuple[str, tuple[Index | int, ...]]]
    trains: bool


@dataclass(frozen=True, eq=False)
class Program:
    """Outputs in source order; every node reachable from them is part of the program.

    `names`: the name of a node in the source, for display only. An int among the indices is a fixed position: the member
    bound by `|h[i,1]> = ...` is ("h", (i, 1)). `cotangents`: the results of differentiation, also for display.
    """

    source: Source
    outputs: tuple[Output, ...]
    axes: tuple[Axis, ...] = ()
    widths: tuple[Width, ...] = ()
    warnings: tuple[Diagnostic, ...] = field(default=())
    names: Mapping[Node, tuple[str, tuple[Index | int, ...]]] = field(default_factory=dict)
    cotangents: Cotangents = field(default_factory=dict)
    loop: Loop | None = None
    network: Network | None = None
    finite: Program | None = None  # how networks of finite width read it, where the limit is another program
    settings: Mapping[str, float] = field(default_factory=dict)  # of `--set`
    regime: Regime | None = None  # once a parametrization that is not named mup or ntk has been classified
